// SPDX-License-Identifier: Apache-2.0
//! Mounting by FUSE: for users without root, for kernels without the module, for containers that have
//! /dev/fuse and nothing else.
//!
//! - this file: from the name of an image to a mount;
//! - [`filesystem`]: what a filesystem answers, whoever serves it;
//! - [`tree`]: an image as such a filesystem: names, inodes;
//! - `content`: what is in its files;
//! - [`cache`]: chunks that are decoded;
//! - [`source`]: where chunks come from;
//! - [`faults`]: what is wrong, for the log, and `failure`: for the caller;
//! - `kernel`: the protocol, by the crate fuser; `caller`: who asks;
//! - `connect`: /dev/fuse, and the mount.

pub mod cache;
mod caller;
mod connect;
mod content;
mod failure;
pub mod faults;
pub mod filesystem;
mod kernel;
pub mod source;
pub mod tree;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use rustix::mount::UnmountFlags;

use crate::base::cleanup;
use crate::base::error::Where;
use crate::image::Image;
use crate::layout::reference::Reference;
use crate::mount::{fusermount, table};
use connect::Connection;
use faults::Log;
use tree::ImageTree;

/// Mounts the image that `reference` names at `target`, with `options` as mount(8) has them, and serves it
/// until it is unmounted. Calls `mounted` as soon as it can be read; if that fails, it is unmounted. A
/// signal that ends the process unmounts it, too. What is wrong with the image later on goes to `log`.
///
/// # Errors
///
/// The image is not there or is damaged, a pack of it is missing, or it cannot be mounted there.
pub fn serve(
    reference: &Reference,
    target: &Path,
    options: &[String],
    log: Log,
    mounted: impl FnOnce() -> crate::Result<()>,
) -> crate::Result<()> {
    let source = Reference {
        layout: reference.layout.canonicalize().at(&reference.layout)?,
        name: reference.name.clone(),
    };
    // It is served until the process ends.
    let image: &'static Image = Box::leak(Box::new(Image::open(&source)?));
    let name = source.to_string();
    let tree = ImageTree::new(image, &name, log)?;
    run(tree, &name, target, options, mounted).at(target)
}

fn run(
    tree: ImageTree<'static>,
    source: &str,
    target: &Path,
    options: &[String],
    mounted: impl FnOnce() -> crate::Result<()>,
) -> Result<()> {
    let mut connection = Connection::new(source, target, options)?;
    let target = target
        .canonicalize()
        .with_context(|| target.display().to_string())?;
    let device = connection.device.take().context("no connection")?;
    let serving = kernel::serve(tree, device)?;
    connection.attach(&target)?;
    let id = table::mount_id(&target)?;
    let unmounts = Arc::new(Unmounts { target, id });
    let on_signal = unmounts.clone();
    let guard = cleanup::on_signal(move || on_signal.unmount());
    read_ahead(id);
    if let Err(error) = mounted() {
        drop(guard);
        unmounts.unmount();
        return Err(error.into());
    }
    let served = serving.wait();
    drop(guard);
    served
}

/// Has the kernel read ahead as far as it does of an image that it reads by itself: a request for 1 MiB costs
/// little more than one for 128 KiB. That is up to root; without it all is as right.
fn read_ahead(mount_id: u64) {
    if let Ok(Some(device)) = table::device(mount_id) {
        let _ = fs::write(format!("/sys/class/bdi/{device}/read_ahead_kb"), "1024");
    }
}

/// Unmounts what was mounted here.
struct Unmounts {
    target: PathBuf,
    id: u64,
}

impl Unmounts {
    /// Unmounts it, now or as soon as nobody uses it any more, unless somebody has done that and mounted
    /// something else there.
    fn unmount(&self) {
        if !matches!(table::mount_id(&self.target), Ok(id) if id == self.id) {
            return;
        }
        let flags = UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
        if rustix::mount::unmount(&self.target, flags).is_err() {
            // The process ends: nobody is there to be told.
            let _ = fusermount::unmount(&self.target, true);
        }
    }
}
