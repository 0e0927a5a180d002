// SPDX-License-Identifier: Apache-2.0
//! Arguments of the command that containerd asks.

use std::path::PathBuf;

use clap::Parser;
use puzzlefs::remote::Place;

use super::registry::Registry;

/// Let containerd run images, as a proxy snapshotter
///
/// containerd asks at a socket, where nobody but root may, and knows this by a `proxy_plugins` entry of its configuration. An image that
/// was pushed by `puzzlefs push --containerd` is pulled into the layout, not into containerd's own store, and mounted: lazily, if `puzzlefs
/// daemon` has the layout. Ordinary images are unpacked as by containerd's own overlayfs snapshotter. An image that containerd
/// removes loses its tag in the layout, and `puzzlefs gc` removes what is left of it.
#[derive(Parser, Debug)]
#[command(after_help = "Example:
  puzzlefs snapshotter --layout /var/lib/images
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
    /// The layout that images are pulled into
    #[arg(
        long,
        value_name = "OCI_DIR",
        default_value = "/var/lib/puzzlefs/images"
    )]
    pub layout: PathBuf,
    /// Where to ask a running `puzzlefs daemon` whether it has the layout: its --metrics
    #[arg(long, value_name = "PATH", default_value = "/run/puzzlefs/daemon.sock")]
    pub daemon: PathBuf,
    /// Where to ask for images before where they were pushed to; it may be given several times
    ///
    /// What `puzzlefs pull` takes. Which image it names does not matter: the place is asked for others by their digests.
    #[arg(long, value_name = "PLACE")]
    pub from: Vec<Place>,
    /// Ask nobody but these places: whoever makes an image says where it can be had
    #[arg(long, requires = "from")]
    pub only_from: bool,
    /// How registries are spoken with.
    #[command(flatten)]
    pub registry: Registry,
}
