// SPDX-License-Identifier: Apache-2.0
//! Arguments of puzzlefs boot-image.

use std::num::NonZero;
use std::path::PathBuf;

use clap::Parser;
use puzzlefs::layout::reference::Reference;
use puzzlefs::registry;

use super::registry::{jobs, Registry};
use super::values::{threads, Format};

/// Push an image that any runtime runs, and that gets its root file system as it starts
///
/// The tag names an index: first an ordinary image of one small layer, then the PuzzleFS image. Runtimes pull the first one.
/// Its program is the entrypoint. In the container it fetches the chunks that no cache has, and then becomes what the image
/// is to run, as the image's user.
#[derive(Parser, Debug)]
#[command(after_help = "Example:
  puzzlefs boot-image /var/lib/images:app docker://registry.example/team/app:1.0
  podman run --rm registry.example/team/app:1.0")]
pub struct BootImage {
    /// The program that the image gets [default: puzzlefs-boot beside this command, or ../libexec/puzzlefs/boot from there]
    #[arg(long, value_name = "FILE")]
    pub program: Option<PathBuf>,
    /// A repository of the same registry that may have some of the blobs: docker://HOST/REPOSITORY
    ///
    /// What it has is not sent. It may be given several times.
    #[arg(long, value_name = "REPOSITORY")]
    pub mount_from: Vec<registry::Repository>,
    /// Number of blobs that are sent at the same time
    #[arg(long, value_name = "N", value_parser = threads, default_value_t = jobs())]
    pub jobs: NonZero<usize>,
    /// How the report is printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// How the registry is spoken with.
    #[command(flatten)]
    pub registry: Registry,
    /// The image
    #[arg(value_name = "OCI_DIR:TAG")]
    pub image: Reference,
    /// The repository, and the tag there
    #[arg(value_name = "docker://HOST/REPOSITORY:TAG")]
    pub to: registry::Reference,
}
