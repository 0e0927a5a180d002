// SPDX-License-Identifier: Apache-2.0
//! Mounting by FUSE: for users without root, for kernels without the module, for containers that have
//! /dev/fuse and nothing else.
//!
//! - this file: from the name of an image to a mount;
//! - [`filesystem`]: what a filesystem answers, whoever serves it;
//! - [`tree`]: an image as such a filesystem: names, inodes;
//! - `content`: what is in its files;
//! - [`cache`]: chunks that are decoded;
//! - [`source`]: where chunks come from, and [`lazily`]: those that are fetched when they are read;
//! - [`faults`]: what is wrong, for the log, and `failure`: for the caller;
//! - `kernel`: the protocol, by the crate fuser; `caller`: who asks; `pool`: who waits for an answer;
//! - `connect`: /dev/fuse, and the mount.

pub mod cache;
mod caller;
mod connect;
mod content;
mod failure;
pub mod faults;
pub mod filesystem;
mod kernel;
pub mod lazily;
mod pool;
pub mod source;
pub mod tree;

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::mount::UnmountFlags;

use crate::base::cleanup;
use crate::base::error::Where;
use crate::image::Image;
use crate::layout::reference::Reference;
use crate::lazy::{self, Fetcher};
use crate::mount::{fusermount, table};
use connect::Connection;
use faults::Log;
use lazily::LazySource;
use tree::ImageTree;

/// How often what came is recorded by who may be killed.
const SOON: Duration = Duration::from_millis(250);

/// An image that is to be mounted.
pub struct Request<'a> {
    /// The image.
    pub image: &'a Reference,
    /// What the mount table and the log call it, if that is not its name.
    pub name: Option<&'a str>,
    /// Where to mount it.
    pub target: &'a Path,
    /// Options, as mount(8) has them.
    pub options: &'a [String],
    /// How what is not here is fetched.
    pub fetching: lazy::Options,
    /// Where it goes what is wrong with the image later on.
    pub log: Log,
}

/// Mounts an image, and serves it until it is unmounted. Calls `mounted` as soon as it can be read; if that fails, it is
/// unmounted. A signal that ends the process unmounts it, too.
///
/// # Errors
///
/// The image is not there or is damaged, a pack of it is missing, not all of it is here and the layout may not be written
/// to, or it cannot be mounted there.
pub fn serve(
    request: Request<'_>,
    mounted: impl FnOnce() -> crate::Result<()>,
) -> crate::Result<()> {
    let Request {
        image,
        name,
        target,
        options,
        fetching,
        log,
    } = request;
    let Prepared {
        tree,
        name,
        fetcher,
    } = prepare(image, name, fetching, log)?;
    let end = move || fetcher.iter().for_each(|fetcher| fetcher.end());
    // The one below, by which it is unmounted, is done before.
    let guard = cleanup::on_signal(end.clone());
    let served = run(tree, &name, target, options, mounted);
    drop(guard);
    end();
    served.at(target)
}

/// An image that can be served.
pub(crate) struct Prepared {
    tree: ImageTree<'static>,
    name: String,
    fetcher: Option<Arc<Fetcher>>,
}

/// Opens an image, and begins to fetch of it what nobody has to ask for.
///
/// # Errors
///
/// As of [`serve`].
pub(crate) fn prepare(
    image: &Reference,
    name: Option<&str>,
    fetching: lazy::Options,
    log: Log,
) -> crate::Result<Prepared> {
    let layout = &image.layout;
    let source = Reference {
        layout: layout.canonicalize().at(layout)?,
        name: image.name.clone(),
    };
    // It is served until the process ends.
    let image: &'static Image = Box::leak(Box::new(Image::open(&source)?));
    let name = name.map_or_else(|| source.to_string(), str::to_owned);
    let log: Arc<dyn Fn(&str) + Send + Sync> = log.into();
    let (notes, called) = (Arc::clone(&log), name.clone());
    let notes = Arc::new(move |line: &str| notes(&format!("{called}: {line}")));
    let log: Log = Box::new(move |line| log(line));
    let lazy = LazySource::new(image, fetching, notes)?;
    let fetcher = lazy.as_ref().map(|lazy| Arc::clone(lazy.fetcher()));
    let tree = match lazy {
        Some(lazy) => ImageTree::with_source(image, Box::new(lazy), &name, log)?,
        None => ImageTree::new(image, &name, log)?,
    };
    Ok(Prepared {
        tree,
        name,
        fetcher,
    })
}

impl Prepared {
    /// Serves it to the kernel at the other end of `device`, until it is unmounted. It is mounted by somebody else. This
    /// process may be killed at any time without a word: what comes is recorded soon.
    pub(crate) fn serve(self, device: OwnedFd) -> crate::Result<()> {
        if let Some(fetcher) = self.fetcher.clone() {
            let keep = move || {
                while !fetcher.engine().is_stopped() {
                    thread::sleep(SOON);
                    fetcher.engine().keep_or_tell();
                }
            };
            thread::Builder::new().spawn(keep)?;
        }
        let served = kernel::serve(self.tree, device).and_then(kernel::Serving::wait);
        self.fetcher.iter().for_each(|fetcher| fetcher.end());
        Ok(served?)
    }
}

/// A connection to the kernel, and the mount at its other end, for all users, that is nowhere yet.
pub(crate) fn connected(source: &str) -> crate::Result<(OwnedFd, OwnedFd)> {
    Ok(connect::bare(source)?)
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
