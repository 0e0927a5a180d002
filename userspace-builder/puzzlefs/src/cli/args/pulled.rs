// SPDX-License-Identifier: Apache-2.0
//! Arguments of the commands that pull what they run or mount.

use std::path::PathBuf;

use clap::Args;
use puzzlefs::remote::Place;

use super::registry::Registry;

/// Into which layout, and how.
#[derive(Args, Clone, Debug)]
pub struct Pulled {
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
    /// How registries are spoken with.
    #[command(flatten)]
    pub registry: Registry,
}

/// From where.
#[derive(Args, Debug, Default)]
pub struct Sources {
    /// Where to ask for images before the registry that they were pushed to; it may be given several times
    ///
    /// What `puzzlefs pull` takes. Which image it names does not matter: the place is asked for others by their digests.
    #[arg(long, value_name = "PLACE")]
    pub from: Vec<Place>,
    /// Ask nobody but these places: whoever makes an image says where it can be had
    #[arg(long, requires = "from")]
    pub only_from: bool,
}
