// SPDX-License-Identifier: Apache-2.0
//! What the user chooses about registries.

use std::path::PathBuf;

/// What is tried again, if nobody says how often.
pub const RETRIES: u32 = 5;

/// What the user chooses.
#[derive(Clone, Debug)]
pub struct Options {
    /// Without TLS.
    pub plain_http: bool,
    /// With TLS, but whoever answers is believed to be who was asked for.
    pub skip_verify: bool,
    /// The file with credentials, in place of the usual ones.
    pub auth_file: Option<PathBuf>,
    /// The directory with certificates, in place of the usual ones.
    pub cert_dir: Option<PathBuf>,
    /// How often a request that failed for a reason that may pass is tried again.
    pub retries: u32,
    /// The address of the server of `s3://`, in place of what the environment says.
    pub endpoint: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            plain_http: false,
            skip_verify: false,
            auth_file: None,
            cert_dir: None,
            retries: RETRIES,
            endpoint: None,
        }
    }
}
