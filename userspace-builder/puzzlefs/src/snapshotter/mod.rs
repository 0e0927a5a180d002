// SPDX-License-Identifier: Apache-2.0
//! A proxy snapshotter for containerd: what it pulls and runs are images of ours, which are mounted, and ordinary ones.
//!
//! - this file: a process of its own, which listens at a socket;
//! - `grpc`: the interface, containerd.services.snapshots.v1; `fault`: what its failures are called;
//! - `snapshots`: what its calls do; `shape`: what a snapshot is made of; `filter`: which snapshots are meant;
//! - `store`: what is kept of them, and `record`: of each; `trees`: of what containers have written;
//! - `images`: images of this node, as it needs them; `kept`: snapshots of them; `convert`: how ordinary layers become some, and
//!   `conversions`: who waits for that.
//!
//! It is no part of the daemon: a fault of what speaks gRPC is no fault of who answers the kernel's questions.

mod conversions;
mod convert;
mod fault;
mod filter;
mod grpc;
mod images;
mod kept;
mod record;
mod shape;
mod snapshots;
mod store;
mod trees;

use std::fs::{DirBuilder, File};
use std::future::Future;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use puzzlefs_containerd::snapshots::snapshots_server::SnapshotsServer;
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use tokio_stream::wrappers::UnixListenerStream;

use crate::base::error::{Error, Result, Where};
use crate::base::text;
use crate::daemon::{notify, Address, Listener};
pub use conversions::Unpacked;
pub use images::{Images, KEPT};
pub use record::Usage;
use snapshots::Snapshots;

/// Calls that wait for disks and registries at the same time; others wait for them.
const THREADS: usize = 64;

/// Snapshots below a directory, and a socket.
pub struct Snapshotter {
    snapshots: Arc<Snapshots>,
    listener: std::os::unix::net::UnixListener,
    _lock: File,
}

impl Snapshotter {
    /// Opens the snapshots below `root`, which is made if need be, and listens at `socket`, which is for root alone. What
    /// goes wrong later is told by `say`.
    ///
    /// # Errors
    ///
    /// If another process has `root`; if its name cannot be said to overlayfs.
    pub fn open(
        root: &Path,
        socket: &Path,
        images: Box<dyn Images>,
        unpacked: Unpacked,
        say: Box<dyn Fn(&str) + Send + Sync>,
    ) -> Result<Self> {
        let root = made(root).at(root)?;
        let lock = File::create(root.join("lock")).at(&root)?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => {
                let text = format!("another snapshotter has {}", text::path(&root));
                return Err(Error::refused(text).at(&root));
            }
            locked => locked.context("flock")?,
        }
        // Nobody is answered before all is as it was.
        let snapshots = Snapshots::open(&root, images, unpacked, say)?;
        let Listener::Unix(listener) = Listener::new(&Address::Unix(socket.to_owned()))? else {
            return Err(Error::trouble("no socket of a filesystem"));
        };
        Ok(Snapshotter {
            snapshots,
            listener,
            _lock: lock,
        })
    }

    /// Answers until `until` is done.
    ///
    /// # Errors
    ///
    /// What keeps it from listening.
    pub fn serve(self, until: impl Future<Output = ()>) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(THREADS)
            .enable_all()
            .build()?;
        let service = SnapshotsServer::new(grpc::Service(self.snapshots));
        let listener = self.listener;
        runtime.block_on(async move {
            let listener = tokio::net::UnixListener::from_std(listener)?;
            notify::ready();
            let incoming = UnixListenerStream::new(listener);
            let served = tonic::transport::Server::builder()
                .serve_with_incoming_shutdown(service, incoming, until)
                .await;
            Ok(served.context("gRPC")?)
        })
    }
}

/// The directory, as overlayfs and all others can be told.
fn made(root: &Path) -> Result<PathBuf> {
    DirBuilder::new().recursive(true).mode(0o700).create(root)?;
    let root = root.canonicalize()?;
    let shown = root.to_str().unwrap_or(",");
    if shown.contains([',', ':', '\\', '"']) || shown.chars().any(char::is_control) {
        let text = "overlayfs takes no directories with these characters in their names";
        return Err(Error::refused(format!("{}: {text}", text::path(&root))));
    }
    Ok(root)
}
