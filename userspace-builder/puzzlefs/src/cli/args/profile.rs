// SPDX-License-Identifier: Apache-2.0
//! Arguments of the commands about access profiles.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};
use puzzlefs::layout::reference::Reference;
use puzzlefs::profile::record::Target;

use super::values::Format;

/// Record what a program reads of an image, so that it comes first
///
/// `puzzlefs build`, `convert` and `repack` take the profile by --profile-from: they put what it names side by side, and
/// the image lists it. Where such an image is pulled by `puzzlefs pull --lazy`, `puzzlefs daemon` fetches that first, in
/// that order, by one request or very few.
#[derive(Parser, Debug)]
#[command(after_help = "Example:
  puzzlefs profile record -o python.profile /var/lib/images:debian -- python3 -c 'import json'
  puzzlefs repack --profile-from python.profile /var/lib/images debian")]
pub struct Profile {
    /// What to do.
    #[command(subcommand)]
    pub command: ProfileCommand,
}

/// What can be done about profiles.
#[derive(Subcommand, Debug)]
pub enum ProfileCommand {
    Record(Record),
}

/// Run a program, and record what it reads of an image
///
/// The image is mounted for this program alone, and nothing of it is in memory before; how much of it the layout has in
/// memory does not matter. Each read of a pack is noted, as the kernel says it (fanotify(7); root, Linux 6.14; ext4, xfs or
/// btrfs). All of the image need not be here if `puzzlefs daemon` runs.
///
/// The profile names files and bytes, in the order of the first read. So it serves the next version of the image as well.
/// It ends with the program: a service is to be ended, as by timeout(1).
#[derive(Parser, Debug)]
#[command(after_help = "Example:
  puzzlefs profile record -o python.profile /var/lib/images:debian -- python3 -c 'import json'
  puzzlefs profile record -o web.profile /var/lib/images:web -- timeout 10 nginx -g 'daemon off;'
  puzzlefs profile record -o tree.profile /mnt -- ls -lR /mnt")]
pub struct Record {
    /// Where the profile goes [default: standard output; what COMMAND writes there goes to standard error]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// How the report is printed, if the profile goes to a file
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// The image, OCI_DIR:TAG, or a directory where one is mounted
    ///
    /// In the image COMMAND runs as root of this machine, with the image as its root directory, this machine's /dev, /proc
    /// and /sys, and its network. What it writes is in memory, and gone afterwards. With a mount point it runs as it is
    /// called, and finds the image there; what processes that run already read there is not recorded.
    #[arg(value_name = "OCI_DIR:TAG|MOUNTPOINT", value_parser = target)]
    pub target: Target,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

fn target(text: &str) -> Result<Target, String> {
    match Path::new(text).is_dir() {
        true => Ok(Target::Mount(text.into())),
        false => Ok(Target::Image(text.parse()?)),
    }
}

/// Where a profile is.
#[derive(Clone, Debug)]
pub enum ProfileFrom {
    /// A file.
    File(PathBuf),
    /// An image that lists one.
    Image(Reference),
}

impl std::str::FromStr for ProfileFrom {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match Path::new(text).is_file() {
            true => Ok(Self::File(text.into())),
            false => match text.parse() {
                Ok(image) => Ok(Self::Image(image)),
                Err(error) => Err(format!("{error}, and no file")),
            },
        }
    }
}
