// SPDX-License-Identifier: Apache-2.0
//! Arguments of the commands about lazy images.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use puzzlefs::daemon::Address;
use puzzlefs::remote::Place;

use super::registry::Registry;
use super::values::{rate, Format};

/// Fetch what is read of lazy images, as it is read
///
/// Images that were pulled by `puzzlefs pull --lazy` hold no more than their metadata. While this runs, whoever reads
/// a file of them waits until its chunks are there, fetched from where the image was pulled; whoever reads what is there
/// waits for nothing. Chunks that another pack of these layouts has are copied from there. Chunks that nobody reads are fetched as well, if there is nothing else to do.
///
/// It must run before the images are mounted: a mount that was there first gives errors (EIO) for what is not here.
/// Each chunk is checked before it is stored, and by the kernel when it is read. What fetches is a process of its own,
/// and may be killed: readers wait until the next one has begun. It needs root, and Linux 6.14.
#[derive(Parser, Debug)]
#[command(after_help = "Example:
  puzzlefs daemon /var/lib/images
  puzzlefs daemon --on-failure wait --no-fill /var/lib/images
  puzzlefs daemon --rate 2M --metrics /run/puzzlefs/daemon.sock /var/lib/images
  puzzlefs daemon --from oci:/net/images:any /var/lib/images")]
pub struct Daemon {
    /// What becomes of a read whose chunks no source gives
    #[arg(long, value_enum, default_value_t = OnFailure::Error)]
    pub on_failure: OnFailure,
    /// After so many seconds such a read is an error
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub timeout: u32,
    /// Fetch only what is read
    #[arg(long)]
    pub no_fill: bool,
    /// Where to ask for chunks before where images were pulled from; it may be given several times
    ///
    /// What `puzzlefs pull` takes. Which image it names does not matter: the place is asked for packs by their digests.
    #[arg(long, value_name = "PLACE")]
    pub from: Vec<Place>,
    /// Fetch what nobody reads by so many bytes a second, or K, M, G, for all images together
    ///
    /// That is the mean: a request has up to 4 MiB, and the next one waits until they are paid for. What somebody waits for
    /// comes as fast as it can, and is not counted.
    #[arg(long, value_name = "BYTES", value_parser = rate)]
    pub rate: Option<u64>,
    /// Where numbers are asked for, by HTTP: a socket in the filesystem, or ADDRESS:PORT [default: nowhere]
    ///
    /// /metrics has them as Prometheus reads them. `puzzlefs status` asks there too. Nobody but root may ask at a socket,
    /// everybody at an address.
    #[arg(long, value_name = "PATH")]
    pub metrics: Option<Address>,
    /// Workers that have ended.
    #[arg(long, hide = true, default_value_t = 0)]
    pub restarts: u64,
    /// It is the process that fetches, and standard input is the other one.
    #[arg(long, hide = true)]
    pub worker: bool,
    /// How registries are spoken with.
    #[command(flatten)]
    pub registry: Registry,
    /// The layouts
    #[arg(value_name = "OCI_DIR", required = true)]
    pub layouts: Vec<PathBuf>,
}

/// What becomes of a read whose chunks no source gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OnFailure {
    /// It is an error (EIO)
    Error,
    /// It waits until a source gives them, or it is killed
    Wait,
}

/// Say how much of the images of a layout is here
///
/// Images that were pulled by `puzzlefs pull --lazy` are not here as a whole until `puzzlefs daemon` or `puzzlefs
/// complete` has fetched the rest.
#[derive(Parser, Debug)]
#[command(after_help = "Example:
  puzzlefs status /var/lib/images
  puzzlefs status --format json /var/lib/images | jq '.images[0].bytes_here'")]
pub struct Status {
    /// How the report is printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// Where to ask a running `puzzlefs daemon` what it fetches: its --metrics
    #[arg(long, value_name = "PATH", default_value = "/run/puzzlefs/daemon.sock")]
    pub daemon: PathBuf,
    /// The layout
    #[arg(value_name = "OCI_DIR")]
    pub layout: PathBuf,
}
