// SPDX-License-Identifier: Apache-2.0
//! The commands about a layout as a whole: repack, unpack, du, gc.

use std::collections::HashSet;
use std::io::{self, Write};
use std::process::ExitCode;

use puzzlefs::layout::Layout;
use puzzlefs::reports::du::Usage;
use puzzlefs::upkeep::convert::{self, Converted, Origin};
use puzzlefs::upkeep::gc;
use serde::Serialize;

use super::args::{Du, Gc, Images, Repack, Unpack};
use super::bar::Bar;
use super::failure::Result;
use super::{exit, out, profile, show};

/// puzzlefs repack.
pub fn repack(args: &Repack) -> Result<ExitCode> {
    let layout = Layout::open(&args.images.layout)?;
    let tags = &args.images.tags;
    let profile = profile::read(args.profile_from.as_ref())?;
    let (target, max_unused) = (args.pack_size, args.max_unused);
    let bar = Bar::new();
    let report = convert::repack_by(&layout, tags, target, max_unused, profile.as_ref(), &bar)?;
    finish(&args.images, &layout, report)
}

/// puzzlefs unpack.
pub fn unpack(args: &Unpack) -> Result<ExitCode> {
    let layout = Layout::open(&args.images.layout)?;
    let report = convert::unpack(&layout, &args.images.tags, &Bar::new())?;
    finish(&args.images, &layout, report)
}

#[derive(Serialize)]
struct Conversion {
    #[serde(flatten)]
    report: convert::Report,
    #[serde(skip_serializing_if = "Option::is_none")]
    gc: Option<gc::Report>,
}

fn finish(args: &Images, layout: &Layout, report: convert::Report) -> Result<ExitCode> {
    let gc = args.gc.then(|| gc::gc(layout, false, &Bar::new()));
    let gc = gc.transpose()?;
    let conversion = Conversion { report, gc };
    show::done(args.format, &conversion, |out| {
        for image in &conversion.report.images {
            let Converted { tags, manifest, .. } = image;
            let state = if *manifest == image.old_manifest {
                "unchanged"
            } else {
                "converted"
            };
            writeln!(out, "{state}  sha256:{manifest}  {}", show::tags(tags))?;
            if let Some(origin) = &image.origin {
                writeln!(out, "  of       sha256:{}", first(origin))?;
            }
        }
        let report = &conversion.report;
        let bytes = show::bytes(report.new_bytes);
        writeln!(out, "new        {} blobs, {bytes}", report.new_blobs)?;
        conversion
            .gc
            .as_ref()
            .map_or(Ok(()), |report| removed(out, report))
    })?;
    let mut faults = conversion.report.faults.clone();
    let collected = conversion.gc.iter().flat_map(|report| &report.broken);
    faults.broken.extend(collected.cloned());
    Ok(broken(&faults.broken, &faults.unread))
}

/// What is kept of the manifest that an image had at first.
fn first(origin: &Origin) -> String {
    let Origin {
        manifest,
        missing_chunks,
        missing_bytes,
        ..
    } = origin;
    let bytes = show::bytes(*missing_bytes);
    match (origin.kept, missing_chunks) {
        (true, _) => format!("{manifest}, which push and complete make again"),
        (_, 0) => format!("{manifest}, of which this layout has no other record than its blobs"),
        (_, 1) => format!("{manifest}, of which no image has one chunk any more, {bytes}"),
        (_, count) => format!("{manifest}, of which no image has {count} chunks any more, {bytes}"),
    }
}

/// Says which images are damaged, and which could not be read; the exit status if there are such.
pub fn broken(damaged: &[String], unread: &[String]) -> ExitCode {
    for image in damaged.iter().chain(unread) {
        // Like the errors of main.
        out::error(&format!("puzzlefs: error: {image}"));
    }
    match (damaged, unread) {
        ([], []) => ExitCode::SUCCESS,
        // Nothing is known to be damaged.
        ([], _) => ExitCode::FAILURE,
        _ => ExitCode::from(exit::DAMAGED),
    }
}

/// puzzlefs gc.
pub fn gc(args: &Gc) -> Result<ExitCode> {
    let layout = Layout::open(&args.layout)?;
    let report = gc::gc(&layout, args.dry_run, &Bar::new())?;
    let show = match args.dry_run {
        true => show::report,
        false => show::done,
    };
    show(args.format, &report, |out: &mut dyn Write| {
        let shown = args.dry_run.then_some(&report.removed);
        for digest in shown.into_iter().flatten() {
            writeln!(out, "sha256:{digest}")?;
        }
        removed(out, &report)
    })?;
    Ok(broken(&report.broken, &[]))
}

/// What a collection removed.
pub fn removed(out: &mut dyn Write, report: &gc::Report) -> io::Result<()> {
    let verb = if report.dry_run { "garbage" } else { "removed" };
    let bytes = show::bytes(report.removed_bytes);
    writeln!(out, "{verb}    {} blobs, {bytes}", report.removed.len())?;
    if report.abandoned_bytes > 0 {
        let bytes = show::bytes(report.abandoned_bytes);
        writeln!(out, "{verb}    {bytes} that killed builds left")?;
    }
    let bytes = show::bytes(report.kept_bytes);
    writeln!(out, "in use     {} blobs, {bytes}", report.kept_blobs)
}

/// puzzlefs du.
pub fn du(args: &Du) -> Result<ExitCode> {
    let layout = Layout::open(&args.layout)?;
    let tags = args.tags.iter().map(|name| layout.resolve(name));
    let wanted: HashSet<String> = tags
        .map(|manifest| Ok(manifest?.digest.to_string()))
        .collect::<Result<_>>()?;
    let mut report = puzzlefs::reports::du::du(&layout)?;
    let is_wanted = |image: &Usage| wanted.is_empty() || wanted.contains(&image.manifest);
    report.images.retain(is_wanted);
    show::report(args.format, &report, |out| {
        writeln!(
            out,
            "{:>14} {:>14} {:>14} {:>14}  IMAGE",
            "OWN", "SHARED", "METADATA", "TOTAL"
        )?;
        for image in &report.images {
            let name = match &image.tags[..] {
                [] => format!("sha256:{}", image.manifest),
                tags => show::tags(tags),
            };
            writeln!(
                out,
                "{:>14} {:>14} {:>14} {:>14}  {name}",
                image.own.bytes, image.shared.bytes, image.metadata_bytes, image.total_bytes
            )?;
        }
        writeln!(out)?;
        for (what, bytes) in [
            ("chunks, each once", report.chunks.bytes),
            ("metadata", report.metadata_bytes),
            (
                "second copies, unused parts and indexes of packs",
                report.surplus_bytes,
            ),
            ("other than PuzzleFS images", report.other_bytes),
            ("garbage, for puzzlefs gc", report.garbage_bytes),
            ("the layout", report.total_bytes),
        ] {
            writeln!(out, "{bytes:>14}  {what}")?;
        }
        Ok(())
    })?;
    Ok(broken(&report.faults.broken, &report.faults.unread))
}
