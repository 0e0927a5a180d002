// SPDX-License-Identifier: Apache-2.0
//! Arguments of the command that containerd asks.

use std::path::PathBuf;

use clap::Parser;

use super::pulled::{Pulled, Sources};

/// Let containerd run images, as a proxy snapshotter
///
/// containerd asks at a socket, where nobody but root may, and knows this by a `proxy_plugins` entry of its configuration. An image that
/// was pushed by `puzzlefs push --stand-in` is pulled into the layout, not into containerd's own store, and mounted: lazily, if `puzzlefs
/// daemon` has the layout. Ordinary images are unpacked as by containerd's own overlayfs snapshotter; with --convert their layers become
/// images of the layout then. An image that containerd removes loses its tag in the layout, and `puzzlefs gc` removes what is left of it.
#[derive(Parser, Debug)]
#[command(after_help = "Example:
  puzzlefs snapshotter --layout /var/lib/images
  puzzlefs snapshotter --convert
  puzzlefs snapshotter --from docker://mirror.example/team/app:any --only-from")]
pub struct Snapshotter {
    /// Where containerd asks
    #[arg(
        long,
        value_name = "PATH",
        default_value = "/run/puzzlefs-snapshotter.sock"
    )]
    pub socket: PathBuf,
    /// The directory for what containers change, and for mounts: on ext4, xfs or btrfs
    #[arg(
        long,
        value_name = "DIR",
        default_value = "/var/lib/puzzlefs/snapshotter"
    )]
    pub root: PathBuf,
    /// Convert ordinary layers, once they are unpacked, to images of the layout, and mount these
    ///
    /// Layers of all images share their chunks then, on the disk and in the page cache. A container that is started right after
    /// the pull waits for the conversion of the last layer. Layers that no container uses are converted when the snapshotter
    /// starts.
    #[arg(long)]
    pub convert: bool,
    /// What is pulled.
    #[command(flatten)]
    pub pulled: Pulled,
    /// From where.
    #[command(flatten)]
    pub sources: Sources,
}
