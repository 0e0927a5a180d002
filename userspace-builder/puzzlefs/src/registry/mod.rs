// SPDX-License-Identifier: Apache-2.0
//! A client of the OCI distribution specification, version 1.1: it knows registries, and nothing of PuzzleFS.
//!
//! It stands on ureq 3 with rustls and ring, and not on the crate oci-client: that one is asynchronous, and
//! brings tokio and reqwest along, where all else of this command is threads; its requests for a range show
//! neither the status nor Content-Range, so that a server which gives another range, or all, goes unseen;
//! it follows redirects by itself, so that no signed address can be kept for the next range; and it
//! reads no certs.d. ureq shows each answer as it is. ring, unlike aws-lc-rs, needs no cmake, and is linked
//! statically like all else.
//!
//! Nothing that a server says is believed: sizes, numbers of redirects, times have limits, and whoever reads
//! a blob checks its digest.
//!
//! - this file: what the user chooses; [`name`]: how an image is called;
//! - [`client`]: requests with their redirects, credentials and repetitions; [`blob`]: blobs that are read,
//!   [`upload`]: and written; [`manifest`]: manifests and tags;
//! - `http`: one request; `retry`: when there is another one; `url`: where it goes;
//! - `auth`: tokens; `challenge`: what a server asks for; `credentials`: what files and helpers have;
//! - [`Sources`]: mirrors before the registry, of which `config` reads;
//! - `certs`: whom TLS trusts; `proxy`: who stands between.

mod auth;
pub mod blob;
mod certs;
mod challenge;
pub mod client;
mod config;
mod credentials;
mod http;
pub mod manifest;
pub mod name;
mod proxy;
mod retry;
mod sources;
pub mod upload;
mod url;

use std::path::PathBuf;

pub use client::{Access, Client};
pub use name::{Reference, Repository};
pub use sources::Sources;

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
}

impl Default for Options {
    fn default() -> Self {
        Options {
            plain_http: false,
            skip_verify: false,
            auth_file: None,
            cert_dir: None,
            retries: RETRIES,
        }
    }
}
