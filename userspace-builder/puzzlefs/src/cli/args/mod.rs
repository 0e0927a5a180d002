// SPDX-License-Identifier: Apache-2.0
//! The command line. Help texts end with an example each.

mod boot;
mod build;
mod bundle;
mod daemon;
mod export;
mod fetching;
mod layer_store;
mod mount;
mod node;
mod profile;
mod pull;
mod pulled;
mod read;
mod registry;
mod snapshotter;
mod store;
mod values;

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use clap_complete::Shell;

pub use boot::BootImage;
pub use build::{Build, ChunkForm, ConfigFrom, Convert, Storing};
pub use bundle::{Bundle, Run};
pub use daemon::{Daemon, Status};
pub use export::{Cat, Diff, Export, LayerCompression};
pub use layer_store::LayerStore;
pub use mount::{Mount, MountHelper, Stats, Umount, What};
pub use node::Node;
pub use profile::{Profile, ProfileCommand, ProfileFrom, Record};
pub use pull::{Complete, Pull, Serve};
pub use pulled::{Pulled, Sources};
pub use read::{Extract, Inspect, Ls, Verify};
pub use registry::{Home, Image, Push, Registry};
pub use snapshotter::Snapshotter;
pub use store::{Du, Gc, Images, Repack, Rm, Tag, Tags, Unpack};
pub use values::Format;

/// Builds, checks, extracts and mounts PuzzleFS images
///
/// An image lives in an OCI layout, under a tag: OCI_DIR:TAG. OCI_DIR@sha256:DIGEST names it by
/// the digest of its manifest. The kernel's puzzlefs module mounts it straight from there.
#[derive(Parser, Debug)]
#[command(name = "puzzlefs", version, propagate_version = true)]
#[command(after_help = "Example:
  puzzlefs build ./rootfs /var/lib/images:debian
  puzzlefs mount /var/lib/images:debian /mnt")]
pub struct Args {
    /// Say nothing but errors: no progress, no notes, no reports of what was done but as JSON
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Subcommand, Debug)]
pub enum Command {
    Build(Build),
    Convert(Convert),
    Pull(Pull),
    Complete(Complete),
    Daemon(Daemon),
    Status(Status),
    Profile(Profile),
    Push(Push),
    BootImage(BootImage),
    Serve(Serve),
    Inspect(Inspect),
    Ls(Ls),
    Cat(Cat),
    Diff(Diff),
    Verify(Verify),
    Extract(Extract),
    Export(Export),
    Repack(Repack),
    Unpack(Unpack),
    Du(Du),
    Tags(Tags),
    Tag(Tag),
    Rm(Rm),
    Gc(Gc),
    Run(Run),
    Bundle(Bundle),
    Snapshotter(Snapshotter),
    LayerStore(LayerStore),
    Node(Node),
    Mount(Mount),
    Umount(Umount),
    Stats(Stats),
    Completions(Completions),
    Man(Man),
}

/// Print a shell's completion script
#[derive(Parser, Debug)]
#[command(after_help = "Example:
  puzzlefs completions bash >/usr/share/bash-completion/completions/puzzlefs")]
pub struct Completions {
    /// The shell
    pub shell: Shell,
}

/// Write the manual pages into a directory
#[derive(Parser, Debug)]
#[command(after_help = "Example:
  puzzlefs man /usr/local/share/man")]
pub struct Man {
    /// The directory: those of the command go to man1 in it, that of mount.puzzlefs to man8
    pub dir: PathBuf,
}
