// SPDX-License-Identifier: Apache-2.0
//! Images for podman and CRI-O: an additional layer store of containers/storage, in which a layer is a mount by the kernel.
//!
//! - this file: the store: layers come, are mounted, and go;
//! - `entry`: a layer on the disk;
//! - [`find()`]: which stand-in a name leads to.
//!
//! containers/storage looks whether a layer is there, and tells nobody: there is no service, and nothing is mounted that was not
//! asked for before.

mod entry;
mod find;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::DirBuilder;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use puzzlefs_format::Digest;

use crate::base::digest::sha256;
use crate::base::error::{Error, Result, Where};
use crate::base::text;
use crate::host::dir::Dir;
use crate::host::private::Private;
use crate::layout::stand_in::StandIn;
use crate::snapshotter::Images;

pub use entry::Layer;
pub use find::find;

/// What a layer's directory begins with, as digests do.
const PREFIX: &str = "sha256:";
/// What the directory at which an image is mounted ends with, beside the link to it.
const MOUNT: &str = ".image";
const LOCK: &str = "lock";
/// Bytes of a path, at most: a link to a mount is within what each filesystem takes.
const MAX_PATH: usize = 1024;

/// The store. Others that want it wait until this one is let go.
pub struct LayerStore {
    dir: Dir,
    path: PathBuf,
    /// Where its images are mounted: gone after a reboot.
    mounts: Dir,
    mounted_at: PathBuf,
    images: Box<dyn Images>,
    _lock: OwnedFd,
}

/// A name for the store in `path`, which is no other's: for the directory of its mounts, and for tags.
///
/// # Errors
///
/// If there is no such directory, and none can be made.
pub fn id(path: &Path) -> Result<String> {
    let path = made(path)?;
    let digest = sha256(&[path.as_os_str().as_encoded_bytes()]).to_string();
    Ok(digest[..16].to_owned())
}

/// The directory, which is made if need be, as podman can be told.
fn made(path: &Path) -> Result<PathBuf> {
    Private::open(path).at(path)?;
    let path = path.canonicalize().at(path)?;
    let shown = path.to_str().unwrap_or(",");
    let is_bad = shown.contains([',', ':', '"', '\\']) || shown.chars().any(char::is_control);
    if is_bad || shown.len() > MAX_PATH {
        let text = "a path that storage.conf or overlayfs cannot be told";
        return Err(Error::refused(format!("{}: {text}", text::path(&path))));
    }
    Ok(path)
}

impl LayerStore {
    /// Opens the one in `path`, whose images are mounted below `mounts`. Both are made if need be, for their owner only. What was
    /// left half made is removed.
    ///
    /// # Errors
    ///
    /// If others can write there.
    pub fn open(path: &Path, mounts: &Path, images: Box<dyn Images>) -> Result<Self> {
        let path = made(path)?;
        let dir = Dir::open(&path).at(&path)?;
        let lock = entry::lock(&dir, LOCK).at(&path)?;
        let mut builder = DirBuilder::new();
        let made = builder.recursive(true).mode(0o700).create(mounts);
        made.at(mounts)?;
        let mounted_at = made_in(mounts, &id(&path)?)?;
        let store = LayerStore {
            mounts: Dir::open(&mounted_at).at(&mounted_at)?,
            dir,
            path,
            mounted_at,
            images,
            _lock: lock,
        };
        store.sweep()?;
        Ok(store)
    }

    /// All layers, by their digests; of one that is damaged how it is. What is no layer of ours is left alone.
    ///
    /// # Errors
    ///
    /// What the filesystem says of the store.
    pub fn layers(&self) -> Result<BTreeMap<Digest, Result<Layer>>> {
        let mut layers = BTreeMap::new();
        for name in self.dir.names().at(&self.path)? {
            let hex = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
            let digest = hex.and_then(|hex| Digest::parse(hex.as_bytes()).ok());
            if let Some(digest) = digest {
                layers.insert(digest, self.read(&digest));
            }
        }
        Ok(layers)
    }

    fn read(&self, digest: &Digest) -> Result<Layer> {
        let path = self.path.join(called(digest));
        let layer = self.subdir(digest).and_then(|dir| {
            let layer = Layer::read(&dir, digest);
            Ok(layer.with_context(|| text::path(&path))?)
        });
        layer.at(&path)
    }

    fn subdir(&self, digest: &Digest) -> Result<Dir> {
        let name = called(digest);
        self.dir.subdir(&name).at(&self.path.join(&name))
    }

    /// Sees to it that the image of a stand-in, which `name` leads to, is a layer, and is mounted; `places` are repositories that
    /// may have it.
    ///
    /// # Errors
    ///
    /// If it cannot be had, or not be mounted.
    pub fn add(&self, image: &StandIn, name: &str, places: &[String]) -> Result<Layer> {
        let digest = image.digest();
        self.images.bring(image, places)?;
        let mut layers = self.layers()?;
        for (other, layer) in &mut layers {
            let Ok(layer) = layer else {
                continue;
            };
            // A tag leads to one image at a time.
            if *other != digest && layer.names.iter().any(|it| it == name) {
                layer.names.retain(|it| it != name);
                layer.write_names(&self.subdir(other)?)?;
            }
        }
        let layer = match layers.remove(&digest) {
            Some(Ok(mut layer)) => {
                if !layer.names.iter().any(|it| it == name) {
                    layer.names.push(name.to_owned());
                    layer.write_names(&self.subdir(&digest)?)?;
                }
                layer
            }
            is_damaged => {
                if is_damaged.is_some() {
                    self.discard(&digest)?;
                }
                self.make(image, name)?
            }
        };
        self.mount(&layer)?;
        Ok(layer)
    }

    fn make(&self, image: &StandIn, name: &str) -> Result<Layer> {
        let layer = Layer {
            stand_in: image.clone(),
            names: vec![name.to_owned()],
        };
        let digest = layer.digest();
        let (new, path) = (format!(".{digest}"), self.path.clone());
        let made = || -> anyhow::Result<()> {
            entry::make(&self.dir, &new)?;
            let dir = self.dir.subdir(&new)?;
            layer.write(&dir, &self.mounted_at.join(digest.to_string()))?;
            self.dir.rename(&new, &self.dir, called(&digest))?;
            entry::sync(&self.dir)
        };
        made().with_context(|| text::path(&path)).at(&path)?;
        Ok(layer)
    }

    /// Whether the image of a layer is mounted.
    ///
    /// # Errors
    ///
    /// What keeps that from being known.
    pub fn is_mounted(&self, layer: &Layer) -> Result<bool> {
        let name = layer.digest().to_string();
        let target = self.mounted_at.join(format!("{name}{MOUNT}"));
        Ok(self.images.is_mounted(&target)? && self.mounts.has(&name).at(&self.mounted_at)?)
    }

    /// Mounts the image of a layer, where it is not.
    ///
    /// # Errors
    ///
    /// If it is not here and cannot be had, or the kernel says no.
    pub fn mount(&self, layer: &Layer) -> Result<()> {
        let name = layer.digest().to_string();
        let below = format!("{name}{MOUNT}");
        let target = self.mounted_at.join(&below);
        if !self.images.is_mounted(&target)? {
            // It leads to nothing while nothing is there.
            self.unlink(&name)?;
            self.images.bring(&layer.stand_in, &[])?;
            entry::make(&self.mounts, &below).at(&target)?;
            self.images.mount(&layer.stand_in, &target)?;
        }
        if !self.mounts.has(&name).at(&self.mounted_at)? {
            entry::link(&self.mounts, &name, &below).at(&self.mounted_at)?;
        }
        Ok(())
    }

    /// Mounts the images of all layers. Gives what went wrong, each about another layer.
    ///
    /// # Errors
    ///
    /// As of [`LayerStore::layers`].
    pub fn restore(&self) -> Result<Vec<Error>> {
        let layers = self.layers()?;
        let failures = layers.into_iter().filter_map(|(digest, layer)| {
            let failed = layer.and_then(|layer| self.mount(&layer)).err()?;
            Some(failed.context(format!("the layer {PREFIX}{digest}")))
        });
        Ok(failures.collect())
    }

    fn unlink(&self, name: &str) -> Result<()> {
        match self.mounts.has(name).at(&self.mounted_at)? {
            true => self.mounts.remove(name).at(&self.mounted_at),
            false => Ok(()),
        }
    }

    /// Unmounts the image of a layer. Containers that run from it go on.
    fn unmount(&self, name: &str) -> Result<()> {
        self.unlink(name)?;
        let below = format!("{name}{MOUNT}");
        let target = self.mounted_at.join(&below);
        if !self.mounts.has(&below).at(&target)? {
            return Ok(());
        }
        self.images.unmount(&target)?;
        entry::unmake(&self.mounts, &below).at(&target)
    }

    /// Lets go of what `name` leads to, an image or `sha256:` and the digest of a layer: the layer goes, unless another name leads to
    /// it. Gives those names.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn remove(&self, name: &str) -> Result<Vec<String>> {
        for (digest, layer) in self.layers()? {
            let is_digest = called(&digest) == name;
            // Of one that is damaged nobody knows what leads there.
            let names = layer.as_ref().map_or(&[][..], |layer| &layer.names);
            if !is_digest && !names.iter().any(|it| it == name) {
                continue;
            }
            match layer {
                Ok(mut layer) if !is_digest && layer.names.len() > 1 => {
                    layer.names.retain(|it| it != name);
                    layer.write_names(&self.subdir(&digest)?)?;
                    return Ok(layer.names);
                }
                _ => {
                    self.discard(&digest)?;
                    return Ok(Vec::new());
                }
            }
        }
        let (name, path) = (text::line(name), text::path(&self.path));
        Err(Error::not_found(format!("{path} has no layer for {name}")))
    }

    /// Removes a layer, whatever it is.
    fn discard(&self, digest: &Digest) -> Result<()> {
        // Nobody finds it from now on; the rest can be done again.
        let old = format!(".{digest}");
        self.dir
            .rename(called(digest), &self.dir, &old)
            .at(&self.path)?;
        self.sweep()
    }

    /// Removes what no layer has: what was left half made or half removed, mounts, and tags of images.
    fn sweep(&self) -> Result<()> {
        for name in self.dir.names().at(&self.path)? {
            let hex = name.to_str().and_then(|name| name.strip_prefix('.'));
            if hex.is_some_and(|hex| Digest::parse(hex.as_bytes()).is_ok()) {
                self.dir.remove_flat(&name).at(&self.path.join(&name))?;
            }
        }
        entry::sync(&self.dir).at(&self.path)?;
        let layers = self.layers()?;
        for name in self.mounts.names().at(&self.mounted_at)? {
            let name = name.to_string_lossy().into_owned();
            let hex = name.strip_suffix(MOUNT).unwrap_or(&name);
            if let Ok(digest) = Digest::parse(hex.as_bytes()) {
                if !layers.contains_key(&digest) {
                    self.unmount(hex)?;
                }
            }
        }
        let manifests = layers
            .values()
            .map(|it| it.as_ref().ok().map(|it| it.stand_in.manifest));
        // The image of one that is damaged may be any of them.
        let Some(used) = manifests.collect::<Option<BTreeSet<Digest>>>() else {
            return Ok(());
        };
        for manifest in self.images.kept()?.difference(&used) {
            self.images.release(manifest)?;
        }
        Ok(())
    }
}

/// What the directory of a layer is called.
fn called(digest: &Digest) -> String {
    format!("{PREFIX}{digest}")
}

/// A directory in `path`, for its owner only.
fn made_in(path: &Path, name: &str) -> Result<PathBuf> {
    Private::open(path).at(path)?;
    let path = path.canonicalize().at(path)?.join(name);
    Private::open(&path).at(&path)?;
    Ok(path)
}
