// SPDX-License-Identifier: Apache-2.0
//! Arguments of the commands that read an image.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Parser;
use puzzlefs::layout::reference::Reference;

use super::registry::{Image, Registry};
use super::values::Format;

/// Show what an image holds and what it takes to store it
///
/// Of an image in a registry only the metadata are fetched: what one has to read chunks for is not shown.
#[derive(Parser, Debug)]
#[command(after_help = "Example:
  puzzlefs inspect /var/lib/images:debian
  puzzlefs inspect docker://registry.example/team/app:1.0
  puzzlefs inspect --format json /var/lib/images:debian | jq .dedup_ratio")]
pub struct Inspect {
    /// How the report is printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// How a registry is spoken with.
    #[command(flatten)]
    pub registry: Registry,
    /// The image: OCI_DIR:TAG or docker://HOST/REPOSITORY:TAG
    pub image: Image,
}

/// List a directory of an image
///
/// What a terminal would not show as it is, is escaped: \n, \t, \r, \xNN for other controls and
/// for bytes that are not UTF-8, \u{NNNN} for characters that turn the direction of text, and \\
/// for a backslash; so no two names look alike, on a terminal and in a pipe. --null prints names as
/// they are. With --format json each name is one JSON object on its own line, in which `path` has
/// replacement characters where it is not UTF-8, and `path_hex` then all its bytes; `target` and
/// `target_hex` likewise.
#[derive(Parser, Debug)]
#[command(after_help = "Example:
  puzzlefs ls -l /var/lib/images:debian /etc
  puzzlefs ls -R docker://registry.example/team/app:1.0 /etc")]
pub struct Ls {
    /// Show type, mode, links, owner, size and modification time
    #[arg(short, long)]
    pub long: bool,
    /// Print the paths as they are, each ended by a NUL: for xargs -0
    #[arg(short = 'z', long, conflicts_with_all = ["long", "format"])]
    pub null: bool,
    /// List all that is below, too
    #[arg(short = 'R', long)]
    pub recursive: bool,
    /// How the names are printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// How a registry is spoken with.
    #[command(flatten)]
    pub registry: Registry,
    /// The image: OCI_DIR:TAG or docker://HOST/REPOSITORY:TAG
    pub image: Image,
    /// Path in the image
    #[arg(default_value = "/")]
    pub path: OsString,
}

/// Check every digest, all structure and every chunk of an image
///
/// Exits with 3 if anything is wrong.
#[derive(Parser, Debug)]
#[command(after_help = "Example:
  puzzlefs verify /var/lib/images:debian")]
pub struct Verify {
    /// How the report is printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// The image
    #[arg(value_name = "OCI_DIR:TAG")]
    pub image: Reference,
}

/// Extract an image into a directory
///
/// Root restores owners, devices and all extended attributes. What the caller has no right to
/// set is left out and counted, all else is there, and the exit status is 2. For others than root
/// the umask applies, and set-id bits are left out. Access control lists of the surrounding
/// directory do not get in. If it fails, DIR is left as it was. Nothing outside DIR is touched,
/// whatever the image says.
///
/// With --force DIR may have something already, as for tar. What is there under other names stays. What
/// the image has is made beside it and then moved to its place: a file, a link or a device that is there
/// is replaced, and not written through or followed; a directory stays, with what else is in it, and gets
/// the owner, mode, times and attributes of the image's. Directories that are only above PATHs, and are
/// there, stay as they are. A directory that is not empty is not replaced by a file: then nothing is moved.
/// If it fails later than that, what was moved stays.
#[derive(Parser, Debug)]
#[command(after_help = "Example:
  puzzlefs extract /var/lib/images:debian ./rootfs
  puzzlefs extract /var/lib/images:debian ./parts /etc /usr/share/doc/bash
  puzzlefs extract --force /var/lib/images:debian ./parts /etc")]
pub struct Extract {
    /// How the report is printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// Extract into a directory that is not empty, over what is there
    #[arg(short, long)]
    pub force: bool,
    /// The image
    #[arg(value_name = "OCI_DIR:TAG")]
    pub image: Reference,
    /// The directory: new, or empty
    pub dir: PathBuf,
    /// Paths in the image: only these, with all below them, and the directories above [default: all]
    pub path: Vec<PathBuf>,
}
