// SPDX-License-Identifier: Apache-2.0
//! containerd's interface for snapshotters (containerd.services.snapshots.v1), which speaks gRPC.
//!
//! What is below is made by scripts/containerd-api of the protos in proto/, which are containerd's at a tag that they name.
//! They are under the Apache License 2.0, as this is.

#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod snapshots;
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod types;

pub use prost_types;
pub use tonic;
