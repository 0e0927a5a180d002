// SPDX-License-Identifier: Apache-2.0
//! The commands that read an image: inspect, ls, verify, extract.

use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

use puzzlefs::base::text;
use puzzlefs::extract::{extract_with, Options};
use puzzlefs::image::Image;
use puzzlefs::pull::peek::Peeked;
use puzzlefs::reports::inspect::{self, inspect_metadata};
use puzzlefs::reports::list::{list, Item};
use puzzlefs::source::Platform;
use puzzlefs::{pull, registry, remote};
use serde::Serialize;

use super::args::{self, Extract, Format, Inspect, Ls, Registry, Verify};
use super::bar::Bar;
use super::failure::{Failure, Result};
use super::{exit, out, show};

/// puzzlefs inspect.
pub fn inspect(args: &Inspect) -> Result<()> {
    let here = match &args.image {
        args::Image::Here(reference) => reference,
        args::Image::Registry(reference) => return inspect_remote(args, reference),
    };
    let report = inspect::inspect(&Image::open(here)?)?;
    show::report(args.format, &report, |out| {
        writeln!(out, "manifest     sha256:{}", report.manifest)?;
        if let Some(pulled) = &report.pulled {
            writeln!(out, "  of         sha256:{pulled}")?;
        }
        writeln!(out, "rootfs       sha256:{}", report.rootfs)?;
        write!(
            out,
            "version      {}, metadata layers {}",
            report.version, report.metadata_layers
        )?;
        match &report.metadata_layer_inodes[..] {
            [] | [_] => writeln!(out)?,
            inodes => {
                let inodes: Vec<String> = inodes.iter().map(u32::to_string).collect();
                writeln!(out, " of {} inodes", inodes.join(", "))?;
            }
        }
        writeln!(
            out,
            "names        {}: {} files, {} directories, {} symlinks, {} special, {} further hard links",
            report.names,
            report.files,
            report.directories,
            report.symlinks,
            report.specials,
            report.names - report.inodes
        )?;
        writeln!(out, "before       {}", show::bytes(report.data_bytes))?;
        writeln!(out, "in holes     {}", show::bytes(report.hole_bytes))?;
        let (chunks, extents) = (report.chunks, report.extents);
        match &report.contents {
            Some(contents) => {
                let by_lz4 = contents.lz4_chunks;
                let by_zstd = report.compressed_chunks - by_lz4;
                writeln!(
                    out,
                    "chunks       {chunks} ({by_zstd} by zstd, {by_lz4} by LZ4), used {extents} times"
                )?;
                writeln!(out, "  content    {}", show::bytes(contents.chunk_bytes))?;
            }
            // Not all are here.
            None => writeln!(out, "chunks       {chunks}, used {extents} times")?,
        }
        writeln!(out, "  stored     {}", show::bytes(report.stored_bytes))?;
        listed(out, report.profile.as_ref())?;
        writeln!(
            out,
            "metadata     {}, in {} blocks",
            show::bytes(report.message_bytes),
            report.metadata_blocks
        )?;
        writeln!(out, "  stored     {}", show::bytes(report.metadata_bytes))?;
        writeln!(out, "after        {}", show::bytes(report.image_bytes))?;
        write!(out, "ratios       ")?;
        if let Some(contents) = &report.contents {
            let (dedup, compression) = (contents.dedup_ratio, contents.compression_ratio);
            write!(
                out,
                "deduplication {dedup:.2}, compression {compression:.2}, "
            )?;
        }
        writeln!(out, "overall {:.2}", report.overall_ratio)
    })
}

/// What an image says is read first.
fn listed(out: &mut dyn Write, listed: Option<&inspect::Listed>) -> io::Result<()> {
    let Some(listed) = listed else {
        return Ok(());
    };
    match &listed.fault {
        None => {
            let (chunks, bytes) = (listed.chunks, show::bytes(listed.bytes));
            writeln!(out, "profile      {chunks} chunks, {bytes}")
        }
        Some(fault) => writeln!(out, "profile      {}", text::line(fault)),
    }
}

/// What is shown of an image whose chunks are not here.
#[derive(Serialize)]
struct Remote<'a> {
    #[serde(flatten)]
    facts: &'a inspect::Report,
    /// Requests that it took to know that.
    requests: u64,
    /// Bytes that came.
    bytes_fetched: u64,
}

fn inspect_remote(args: &Inspect, reference: &registry::Reference) -> Result<()> {
    let peeked = peek(reference, &args.registry)?;
    let report = inspect_metadata(&peeked.image, &peeked.sizes, &peeked.manifest)?;
    let (requests, bytes_fetched) = (peeked.requests, peeked.bytes);
    let remote = Remote {
        facts: &report,
        requests,
        bytes_fetched,
    };
    show::report(args.format, &remote, |out| {
        writeln!(out, "manifest     sha256:{}", report.manifest)?;
        writeln!(out, "rootfs       sha256:{}", report.rootfs)?;
        writeln!(
            out,
            "names        {}: {} files, {} directories",
            report.names, report.files, report.directories
        )?;
        writeln!(out, "before       {}", show::bytes(report.data_bytes))?;
        writeln!(
            out,
            "chunks       {}, used {} times",
            report.chunks, report.extents
        )?;
        writeln!(out, "  stored     {}", show::bytes(report.stored_bytes))?;
        writeln!(
            out,
            "metadata     {}, in {} blocks",
            show::bytes(report.message_bytes),
            report.metadata_blocks
        )?;
        writeln!(out, "after        {}", show::bytes(report.image_bytes))?;
        writeln!(
            out,
            "fetched      {}, {requests} requests",
            show::bytes(bytes_fetched)
        )
    })
}

/// Fetches the metadata of an image.
fn peek(reference: &registry::Reference, args: &Registry) -> Result<Peeked> {
    let place = remote::Place::Docker(reference.clone());
    let opened = remote::open(&place, &args.options())?;
    let found = pull::find(&*opened.remote, &opened.name, &Platform::here())?;
    Ok(found.peek(&Bar::new())?)
}

/// puzzlefs ls.
pub fn ls(args: &Ls) -> Result<()> {
    let peeked;
    let opened;
    let image = match &args.image {
        args::Image::Here(reference) => {
            opened = Image::open(reference)?;
            &opened
        }
        args::Image::Registry(reference) => {
            peeked = peek(reference, &args.registry)?;
            &peeked.image
        }
    };
    out::write(|out| {
        list(image, args.path.as_bytes(), args.recursive, |item| {
            line(out, args, &item).map_err(Failure::Output)
        })
    })
}

fn line(out: &mut dyn Write, args: &Ls, item: &Item) -> io::Result<()> {
    match args.format {
        Format::Json => writeln!(out, "{}", text::json(&serde_json::to_string(item)?)),
        Format::Text if args.null => {
            out.write_all(&item.bytes)?;
            out.write_all(&[0])
        }
        Format::Text if args.long => long(out, item),
        Format::Text => writeln!(out, "{}", text::quoted(&item.bytes)),
    }
}

/// A line in the style of ls -l.
fn long(out: &mut dyn Write, item: &Item) -> io::Result<()> {
    let size = match item.device {
        Some((major, minor)) => format!("{major},{minor}"),
        None => item.size.to_string(),
    };
    let time = puzzlefs::base::time::rfc3339(item.mtime);
    write!(
        out,
        "{}{} {:>3} {:>5} {:>5} {size:>10} {time} {}",
        if item.kind == 'f' { '-' } else { item.kind },
        mode(item.mode),
        item.nlink,
        item.uid,
        item.gid,
        text::quoted(&item.bytes)
    )?;
    if item.target.is_some() {
        write!(out, " -> {}", text::quoted(&item.target_bytes))?;
    }
    writeln!(out)
}

/// Permissions as `rwsr-xr-t`.
fn mode(bits: u16) -> String {
    let mut text = String::new();
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let class = bits >> shift;
        text.push(if class & 4 != 0 { 'r' } else { '-' });
        text.push(if class & 2 != 0 { 'w' } else { '-' });
        text.push(match (bits & special != 0, class & 1 != 0) {
            (true, true) => letter,
            (true, false) => letter.to_ascii_uppercase(),
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    text
}

/// puzzlefs verify.
pub fn verify(args: &Verify) -> Result<ExitCode> {
    let image = Image::open(&args.image)?;
    let report = puzzlefs::verify::verify(&image, &Bar::new())?;
    let show = match report.is_sound() {
        true => show::done,
        false => show::report,
    };
    show(args.format, &report, |out: &mut dyn Write| {
        for text in &report.warnings {
            writeln!(out, "warning: {text}")?;
        }
        for text in &report.errors {
            writeln!(out, "error: {text}")?;
        }
        for text in &report.unread {
            writeln!(out, "not read: {text}")?;
        }
        if report.missing_chunks > 0 {
            let bytes = show::bytes(report.missing_bytes);
            let (packs, chunks) = (report.lazy_packs, report.missing_chunks);
            writeln!(
                out,
                "of {packs} lazy packs {chunks} chunks are not here yet, {bytes}"
            )?;
        }
        if report.unused_bytes > 0 {
            let bytes = show::bytes(report.unused_bytes);
            writeln!(
                out,
                "{} packs, with {bytes} not of this image",
                report.packs
            )?;
        }
        if let Some(pulled) = &report.pulled {
            let (here, made) = (pulled.packs, pulled.composable);
            let bytes = show::bytes(pulled.missing_bytes);
            writeln!(
                out,
                "stands for sha256:{}: of its packs {here} are here, {made} can be made of chunks; {} \
                 chunks that it does not use are not here, {bytes}",
                pulled.manifest, pulled.missing_chunks
            )?;
        }
        let verdict = match () {
            () if !report.errors.is_empty() => "DAMAGED",
            () if !report.unread.is_empty() => "NOT ALL COULD BE READ",
            () => "ok",
        };
        writeln!(
            out,
            "{verdict}: sha256:{}, {} inodes, {} chunks, {}",
            report.manifest,
            report.inodes,
            report.chunks,
            show::bytes(report.data_bytes)
        )
    })?;
    Ok(match () {
        () if report.is_sound() => ExitCode::SUCCESS,
        // Nothing is known to be damaged.
        () if report.errors.is_empty() => ExitCode::FAILURE,
        () => ExitCode::from(exit::DAMAGED),
    })
}

/// puzzlefs extract.
pub fn extract(args: &Extract) -> Result<ExitCode> {
    let image = Image::open(&args.image)?;
    let options = Options {
        paths: args.path.clone(),
        force: args.force,
        ..Options::default()
    };
    let report = extract_with(&image, &args.dir, &options, &Bar::new())?;
    if report.skipped > 0 {
        out::note(&format!(
            "{} owners, modes, devices and attributes were left out: you have no right to set them",
            report.skipped
        ));
    }
    if report.hidden > 0 {
        out::note(&format!(
            "{} extended attributes were left out: readers show none of their kind, and of several \
             of one name the first",
            report.hidden
        ));
    }
    if args.format == Format::Json {
        show::report(args.format, &report, |_| Ok(()))?;
    }
    Ok(match report.skipped {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::from(exit::LEFT_OUT),
    })
}
