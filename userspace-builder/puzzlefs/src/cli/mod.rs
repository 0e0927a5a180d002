// SPDX-License-Identifier: Apache-2.0
//! Arguments of the command, and what is printed.

mod args;
mod bar;

use std::io::Write;
use std::num::NonZero;

use anyhow::{Context, Result};
use clap::Parser;
use puzzlefs::build::{build, Options};
use puzzlefs::chunker::Policy;
use puzzlefs::layout::Layout;
use serde::Serialize;

use args::{Args, Build, Command, Format};
use bar::Bar;

/// Runs the command that the arguments name.
pub fn run() -> Result<()> {
    match Args::parse().command {
        Command::Build(args) => run_build(&args),
    }
}

fn run_build(args: &Build) -> Result<()> {
    let options = Options {
        policy: Policy::new(args.chunk_size)?,
        compression: args.compression,
        compat: args.compat,
        source_date_epoch: source_date_epoch()?,
        threads: args.threads.and_then(NonZero::new),
    };
    let layout = Layout::open_or_create(&args.image.layout)?;
    let report = build(
        &args.rootfs,
        &layout,
        &args.image.tag,
        &options,
        &Bar::new(),
    )?;
    print(args.format, &report, |out| {
        writeln!(out, "manifest  sha256:{}", report.manifest)?;
        writeln!(
            out,
            "rootfs    sha256:{}  {} bytes",
            report.rootfs, report.rootfs_bytes
        )?;
        writeln!(out, "inodes    {}", report.inodes)?;
        writeln!(out, "files     {} bytes", report.data_bytes)?;
        writeln!(
            out,
            "chunks    {}  {} bytes stored",
            report.chunks, report.chunk_bytes
        )?;
        writeln!(
            out,
            "new blobs {}  {} bytes",
            report.new_blobs, report.new_bytes
        )
    })
}

/// SOURCE_DATE_EPOCH, as reproducible-builds.org specifies it.
fn source_date_epoch() -> Result<Option<i64>> {
    match std::env::var("SOURCE_DATE_EPOCH") {
        Err(std::env::VarError::NotPresent) => Ok(None),
        value => {
            Ok(Some(value?.parse().context(
                "SOURCE_DATE_EPOCH must be a number of seconds",
            )?))
        }
    }
}

/// Prints a report as one JSON object, or as text.
fn print<T: Serialize>(
    format: Format,
    report: &T,
    text: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match format {
        Format::Json => {
            serde_json::to_writer_pretty(&mut out, report)?;
            writeln!(out)?;
        }
        Format::Text => text(&mut out)?,
    }
    out.flush()?;
    Ok(())
}
