// SPDX-License-Identifier: Apache-2.0
//! A layer on the disk: a directory, called by the layer's digest, with the files that containers/storage 1.57 asks for.
//!
//! - `diff`: a link to the link below /run that is there while the image is mounted. So a layer whose image is not mounted is
//!   none for a pull, and an error for a container, also after a reboot;
//! - `info`: its record of the layer;
//! - `blob`: a link to the directory itself. It is read where a layer is copied, as by `podman commit`, and nobody has that tar. With the
//!   stand-in's in its place the copy would be made, and have nothing in it; so it fails;
//! - `use`: a link to nowhere. containers/storage makes this file to say that it uses the layer, and warns unless it hears
//!   that there is no such directory;
//! - `stand-in` and `names`: ours, the layer of the stand-in, and what the images were called that led here.

use std::io::{Read, Write};
use std::path::Path;

use anyhow::{ensure, Context, Result};
use puzzlefs_format::Digest;
use rustix::fs::{AtFlags, Mode, OFlags};
use serde_json::json;

use crate::base::digest::sha256;
use crate::host::dir::Dir;
use crate::layout::stand_in::{StandIn, MAX_LAYER};

const STAND_IN: &str = "stand-in";
const INFO: &str = "info";
const NAMES: &str = "names";
const NEW: &str = "names.new";
/// Bytes of names, at most.
const MAX_NAMES: u64 = 1 << 20;

/// A layer of the store.
#[derive(Clone, Debug)]
pub struct Layer {
    /// What it stands for.
    pub stand_in: StandIn,
    /// What images with it are called, as `docker://HOST/REPOSITORY:TAG`.
    pub names: Vec<String>,
}

impl Layer {
    /// The digest of the layer, of which its directory has the name.
    pub fn digest(&self) -> Digest {
        self.stand_in.digest()
    }

    /// Reads the one in `dir`, which is called `digest`.
    pub(super) fn read(dir: &Dir, digest: &Digest) -> Result<Self> {
        let layer = read(dir, STAND_IN, MAX_LAYER)?;
        ensure!(
            sha256(&[&layer]) == *digest,
            "{STAND_IN} has another digest"
        );
        let names = serde_json::from_slice(&read(dir, NAMES, MAX_NAMES)?);
        Ok(Layer {
            stand_in: StandIn::of_layer(&layer)?,
            names: names.context(NAMES)?,
        })
    }

    /// Writes it into `dir`, which is empty; its image is mounted at `mount`.
    pub(super) fn write(&self, dir: &Dir, mount: &Path) -> Result<()> {
        let layer = self.stand_in.layer();
        let digest = format!("sha256:{}", self.digest());
        let info = serde_json::to_vec(&json!({
            "compressed-diff-digest": digest,
            "compressed-size": layer.len(),
            "diff-digest": digest,
            "diff-size": layer.len(),
            "toc-digest": digest,
            // archive.Uncompressed.
            "compression": 0,
        }))?;
        write(dir, STAND_IN, &layer)?;
        write(dir, INFO, &info)?;
        write(dir, NAMES, &serde_json::to_vec(&self.names)?)?;
        rustix::fs::symlinkat(".", dir, "blob")?;
        rustix::fs::symlinkat("nowhere/use", dir, "use")?;
        rustix::fs::symlinkat(mount, dir, "diff")?;
        sync(dir)
    }

    /// Writes its names anew.
    pub(super) fn write_names(&self, dir: &Dir) -> Result<()> {
        // Of somebody who was killed.
        if dir.has(NEW)? {
            dir.remove(NEW)?;
        }
        write(dir, NEW, &serde_json::to_vec(&self.names)?)?;
        dir.rename(NEW, dir, NAMES)?;
        sync(dir)
    }
}

fn read(dir: &Dir, name: &str, limit: u64) -> Result<Vec<u8>> {
    let mut content = Vec::new();
    let file = dir.file(name).with_context(|| name.to_owned())?;
    file.take(limit + 1).read_to_end(&mut content)?;
    ensure!(content.len() as u64 <= limit, "{name} is too large");
    Ok(content)
}

fn write(dir: &Dir, name: &str, content: &[u8]) -> Result<()> {
    let context = || name.to_owned();
    let mut file = dir.create(name).with_context(context)?;
    file.write_all(content).with_context(context)?;
    file.sync_all().with_context(context)
}

/// Has the disk know what names a directory has.
pub(super) fn sync(dir: &Dir) -> Result<()> {
    Ok(rustix::fs::fsync(dir.readable()?)?)
}

/// Makes a link in a directory.
pub(super) fn link(dir: &Dir, name: &str, to: &str) -> Result<()> {
    Ok(rustix::fs::symlinkat(to, dir, name)?)
}

/// Makes a directory in another one, for its owner only, if it is not there.
pub(super) fn make(dir: &Dir, name: &str) -> Result<()> {
    match rustix::fs::mkdirat(dir, name, Mode::RWXU) {
        Err(rustix::io::Errno::EXIST) => Ok(()),
        made => Ok(made?),
    }
}

/// Removes an empty directory of another one.
pub(super) fn unmake(dir: &Dir, name: &str) -> Result<()> {
    Ok(rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR)?)
}

/// Opens a file to be locked.
pub(super) fn lock(dir: &Dir, name: &str) -> Result<rustix::fd::OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR)?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive)?;
    Ok(file)
}
