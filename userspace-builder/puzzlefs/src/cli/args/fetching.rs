// SPDX-License-Identifier: Apache-2.0
//! Arguments of the commands that fetch what is read of lazy images.

use std::time::Duration;

use clap::{Args, ValueEnum};
use puzzlefs::lazy;
use puzzlefs::remote::Place;

use super::values::rate;

/// How what is read is fetched.
#[derive(Args, Debug)]
#[command(next_help_heading = "Fetching options")]
pub struct Fetching {
    /// What becomes of a read whose chunks no source gives
    #[arg(long, value_enum, default_value_t = OnFailure::Error)]
    pub on_failure: OnFailure,
    /// After so many seconds such a read is an error
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub timeout: u32,
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
}

/// What becomes of a read whose chunks no source gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OnFailure {
    /// It is an error (EIO)
    Error,
    /// It waits until a source gives them, or it is killed
    Wait,
}

impl Fetching {
    /// The same for the library.
    pub fn on_failure(&self) -> lazy::OnFailure {
        match self.on_failure {
            OnFailure::Error => lazy::OnFailure::Error(Duration::from_secs(self.timeout.into())),
            OnFailure::Wait => lazy::OnFailure::Wait,
        }
    }
}
