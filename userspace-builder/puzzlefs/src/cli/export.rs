// SPDX-License-Identifier: Apache-2.0
//! The commands that give an image, or parts of it, to other tools: export, cat, diff.

use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

use puzzlefs::base::text;
use puzzlefs::export::{self, ordinary, Report};
use puzzlefs::image::Image;
use puzzlefs::layout::reference::Name;
use puzzlefs::layout::Layout;
use puzzlefs::reports::diff::{diff, Change, What};

use super::args::{Cat, Diff, Export, Format, LayerCompression};
use super::bar::Bar;
use super::failure::{Failure, Result};
use super::{exit, out, show};

/// puzzlefs export.
pub fn export(args: &Export) -> Result<ExitCode> {
    let report = match &args.to {
        None => tar(args)?,
        Some(target) => {
            let Name::Tag(tag) = &target.name else {
                return Err(Failure::Usage("name what is made by a tag".into()));
            };
            let image = Image::open(&args.image)?;
            let layout = Layout::open_or_create(&target.layout)?;
            let compression = args.compression.unwrap_or(LayerCompression::Gzip);
            let done = ordinary::export(&image, &layout, tag, compression.into(), &Bar::new())?;
            show::done(args.format, &done, |out| {
                writeln!(out, "manifest  sha256:{}", done.manifest)?;
                let bytes = show::bytes(done.layer_bytes);
                writeln!(out, "layer     sha256:{}, {bytes}", done.layer)?;
                let (names, bytes) = (done.report.names, show::bytes(done.report.data_bytes));
                writeln!(out, "before    {names} names, {bytes}")
            })?;
            done.report
        }
    };
    let Report {
        sockets, xattrs, ..
    } = report;
    if sockets + xattrs == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    out::note(&format!(
        "{sockets} sockets and {xattrs} extended attributes were left out: no tar can hold them"
    ));
    Ok(ExitCode::from(exit::LEFT_OUT))
}

fn tar(args: &Export) -> Result<Report> {
    if out::is_terminal() {
        let text = "a tar is nothing for a terminal: send it to a file or another program";
        return Err(Failure::Usage(text.into()));
    }
    let image = Image::open(&args.image)?;
    let bar = Bar::new();
    watched(|out| export::tar(&image, out, &bar))
}

/// puzzlefs cat.
pub fn cat(args: &Cat) -> Result<()> {
    let image = Image::open(&args.image)?;
    let paths = args.path.iter().map(|path| path.as_bytes());
    watched(|out| export::files(&image, paths, out))
}

/// puzzlefs diff.
pub fn diff_images(args: &Diff) -> Result<ExitCode> {
    let (first, second) = (Image::open(&args.first)?, Image::open(&args.second)?);
    let mut is_same = true;
    watched(|out| {
        let summary = diff(&first, &second, &mut |change| {
            is_same = false;
            line(out, args.format, &change)
        })?;
        match args.format {
            Format::Json => writeln!(out, "{}", serde_json::to_string(&summary)?)?,
            Format::Text => {
                let [a, b] = summary.chunks;
                writeln!(
                    out,
                    "{} added, {} deleted, {} modified: {} of files differ; of {a} and {b} chunks {} \
                     are shared",
                    summary.added,
                    summary.deleted,
                    summary.modified,
                    show::bytes(summary.data_bytes),
                    summary.shared_chunks
                )?;
            }
        }
        Ok(())
    })?;
    Ok(match args.exit_code && !is_same {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    })
}

fn line(out: &mut dyn Write, format: Format, change: &Change) -> io::Result<()> {
    if format == Format::Json {
        return writeln!(out, "{}", text::json(&serde_json::to_string(change)?));
    }
    let letter = match change.what {
        What::Added => 'A',
        What::Deleted => 'D',
        What::Modified => 'M',
    };
    write!(out, "{letter} {}", text::quoted(&change.bytes))?;
    match change.parts[..] {
        [] => writeln!(out),
        _ => writeln!(out, " ({})", change.parts.join(", ")),
    }
}

/// Standard output, and what went wrong there.
struct Watched<'a> {
    out: &'a mut dyn Write,
    error: Option<io::Error>,
}

impl Watched<'_> {
    fn note<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        result.map_err(|error| {
            let kind = error.kind();
            self.error.get_or_insert(error);
            kind.into()
        })
    }
}

impl Write for Watched<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let result = self.out.write(bytes);
        self.note(result)
    }

    fn flush(&mut self) -> io::Result<()> {
        let result = self.out.flush();
        self.note(result)
    }
}

/// Writes to standard output. If that fails it is said so, and not that the image is to blame.
fn watched<T>(work: impl FnOnce(&mut dyn Write) -> puzzlefs::Result<T>) -> Result<T> {
    out::write(|out| {
        let mut out = Watched { out, error: None };
        let done = work(&mut out);
        match out.error {
            Some(error) => Err(Failure::Output(error)),
            None => Ok(done?),
        }
    })
}
