// SPDX-License-Identifier: Apache-2.0
//! A client of the OCI distribution specification, version 1.1: it knows registries, and nothing of PuzzleFS.
//!
//! It stands on ureq 3 with rustls and ring, and not on the crate oci-client (0.18). That one is asynchronous, and
//! brings tokio, reqwest and some 200 packages along, where all else of this command is threads. Of a part of a
//! blob it says that it is a part, but not which: Content-Range, the status of other answers and Retry-After do
//! not come through. Redirects are followed below it, so that no signed address can be kept for the next
//! range. It tries nothing again, and reads no certs.d. ureq shows each answer as it is. ring, unlike
//! aws-lc-rs, needs no cmake, and is linked statically like all else.
//!
//! Nothing that a server says is believed: sizes, numbers of redirects, times have limits, and whoever reads
//! a blob checks its digest.
//!
//! - [`Options`]: what the user chooses; [`name`]: how an image is called;
//! - [`client`]: requests with their redirects, credentials and repetitions; [`blob`]: blobs that are read,
//!   [`upload`]: and written; [`manifest`]: manifests and tags;
//! - `http`: one request; `retry`: when there is another one; `url`: where it goes;
//! - `auth`: tokens; `challenge`: what a server asks for; `credentials`: what files and helpers have;
//! - [`Sources`]: mirrors before the registry, of which `config` reads; [`short`]: names without a host;
//! - [`web`]: a layout on a server that gives files and knows no registry's addresses;
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
mod options;
mod proxy;
pub(crate) mod retry;
pub mod short;
mod sources;
pub mod upload;
mod url;
pub mod web;

pub(crate) use certs::trusted;
pub use client::{Access, Client};
pub(crate) use http::{Failure, Http};
pub use name::{Reference, Repository};
pub use options::{Options, RETRIES};
pub use sources::Sources;
