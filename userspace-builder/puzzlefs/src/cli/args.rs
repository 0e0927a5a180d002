// SPDX-License-Identifier: Apache-2.0
//! The command line. Help texts end with an example each.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use puzzlefs::chunker::Policy;
use puzzlefs::compress::{Compression, DEFAULT_LEVEL};
use puzzlefs::reference::Reference;

/// Builds, checks, extracts and mounts PuzzleFS images
///
/// An image lives in an OCI layout, under a tag: OCI_DIR:TAG.
#[derive(Parser, Debug)]
#[command(name = "puzzlefs", version, propagate_version = true)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Build an image from a directory tree
    Build(Build),
}

/// How a report is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Text,
    /// One JSON object, for scripts
    Json,
}

/// Build an image from a directory tree
///
/// Names OCI_DIR:TAG the new image, once all of it is on disk; other tags stay. An
/// interrupted build leaves the layout as it was. The same tree gives the same
/// bytes; SOURCE_DATE_EPOCH in the environment is the latest time that is recorded.
/// The build does not descend into other filesystems: a mount point in ROOTFS
/// becomes an empty directory.
#[derive(Parser, Debug)]
#[command(after_help = "Example:\n  puzzlefs build ./rootfs /var/lib/images:debian")]
pub struct Build {
    /// Compression of chunks: none, zstd, or zstd:LEVEL with a level from 1 to 22
    #[arg(long, value_name = "METHOD", default_value = "zstd", value_parser = parse_compression)]
    pub compression: Compression,
    /// Average size of a chunk in bytes: a power of two. Larger ones let an image of
    /// many gigabytes keep to the size of manifest that registries take
    #[arg(long, value_name = "BYTES", default_value_t = Policy::DEFAULT_AVG)]
    pub chunk_size: usize,
    /// Store holes as zeros, which puzzlefs 0.2.0 (upstream) can read too
    #[arg(long)]
    pub compat: bool,
    /// Number of compressing threads [default: one for each processor]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// How the report is printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// The directory to put into the image
    pub rootfs: PathBuf,
    /// The layout, made if need be, and the tag
    #[arg(value_name = "OCI_DIR:TAG")]
    pub image: Reference,
}

fn parse_compression(text: &str) -> Result<Compression, String> {
    let level = match text.split_once(':') {
        None if text == "none" => return Ok(Compression::None),
        None if text == "zstd" => DEFAULT_LEVEL,
        Some(("zstd", level)) => level
            .parse()
            .ok()
            .filter(|l| (1..=22).contains(l))
            .ok_or("zstd has the levels 1 to 22")?,
        _ => return Err("expected none, zstd or zstd:LEVEL".into()),
    };
    Ok(Compression::Zstd { level, frame: None })
}
