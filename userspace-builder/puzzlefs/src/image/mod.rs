// SPDX-License-Identifier: Apache-2.0
//! An image that is open for reading: its manifest and Rootfs, checked against their
//! digests and parsed by the format core.
//!
//! - this file: the image as a whole;
//! - `message`: its metadata, in one piece or in blocks, and which chunks these are (`blocks`);
//! - [`chunk`]: the content of its chunks, and which of them files use (`used`);
//! - [`file`]: the content of a file;
//! - `path`: from a path to what it names;
//! - `kept`: the config of the ordinary image that it was;
//! - [`walk`]: all names in it, one after another;
//! - [`work`]: how much it may cost to look at it.

pub(crate) mod blocks;
pub(crate) mod chunk;
pub(crate) mod file;
mod kept;
mod message;
mod path;
mod used;
pub(crate) mod walk;
pub(crate) mod work;

use std::collections::HashSet;

use anyhow::{ensure, Context};
use puzzlefs_format::{limits, Digest, Manifest, Rootfs, RootfsBlob};
use puzzlefs_format::{MEDIA_TYPE_PACK, MEDIA_TYPE_ROOTFS};

use crate::base::digest::sha256;
use crate::base::error::{damage, Error, Result, Where};
use crate::chunks::places::Places;
use crate::image::chunk::Key;
use crate::image::message::Message;
use crate::image::work::Work;
use crate::layout::reference::Reference;
use crate::layout::Layout;

/// An open image.
pub struct Image {
    layout: Layout,
    manifest_digest: Digest,
    manifest: Vec<u8>,
    rootfs_digest: Digest,
    rootfs_size: u64,
    message: Message,
    blocks: Vec<Key>,
    work: Work,
}

impl Image {
    /// Opens the image that `reference` names.
    ///
    /// # Errors
    ///
    /// Names the tag or blob that is missing, damaged or malformed.
    pub fn open(reference: &Reference) -> Result<Self> {
        let layout = Layout::open(&reference.layout)?;
        let entry = layout.resolve(&reference.name)?;
        let image = Self::with_manifest(&layout, &entry.digest)?.with_context(|| {
            format!(
                "{reference} is no PuzzleFS image: its manifest sha256:{} has no layer of the type \
                 {MEDIA_TYPE_ROOTFS}",
                entry.digest
            )
        })?;
        if u64::try_from(image.manifest.len())? != entry.size {
            let digest = entry.digest;
            let text = format!("index.json gives a wrong size for the manifest sha256:{digest}");
            return Err(Error::damaged(text).of(&digest));
        }
        Ok(image)
    }

    /// Opens the image with a manifest in `layout`; `None` if this has no Rootfs, as that of
    /// an ordinary OCI image.
    pub fn with_manifest(layout: &Layout, digest: &Digest) -> Result<Option<Self>> {
        damage(Self::read(layout, digest)).of(digest)
    }

    /// The image that a manifest is of, which need not be in the layout itself. The chunks that the metadata
    /// are in must be where it says; other packs need not be there.
    pub(crate) fn of_text(layout: &Layout, manifest: Vec<u8>) -> Result<Self> {
        let digest = sha256(&[&manifest]);
        let parsed = Manifest::parse(&manifest).map(|parsed| parsed.rootfs().digest);
        let rootfs = parsed.with_context(|| format!("the manifest sha256:{digest}"))?;
        damage(Self::of_parts(layout, digest, manifest, rootfs)).of(&digest)
    }

    /// The chunks that the message of a Rootfs is in, each once; none if it is in the blob itself.
    pub(crate) fn blocks_of(layout: &Layout, rootfs: &Digest) -> Result<Vec<Key>> {
        let blob = layout.read_blob(rootfs, limits::MAX_ROOTFS_BYTES as u64)?;
        let keys = || -> anyhow::Result<Vec<Key>> {
            match RootfsBlob::parse(&blob)? {
                RootfsBlob::Blocks(blocks) => blocks::keys(&blocks),
                _ => Ok(Vec::new()),
            }
        };
        let keys = keys().with_context(|| format!("the Rootfs sha256:{rootfs} is malformed"));
        damage(keys).of(rootfs)
    }

    fn read(layout: &Layout, digest: &Digest) -> anyhow::Result<Option<Self>> {
        match read_manifest(layout, digest)? {
            Some((text, rootfs)) => Self::of_parts(layout, *digest, text, rootfs).map(Some),
            None => Ok(None),
        }
    }

    fn of_parts(
        layout: &Layout,
        manifest_digest: Digest,
        manifest: Vec<u8>,
        rootfs_digest: Digest,
    ) -> anyhow::Result<Self> {
        let rootfs_limit = u64::try_from(limits::MAX_ROOTFS_BYTES)?;
        let blob = layout.read_blob(&rootfs_digest, rootfs_limit)?;
        let mut image = Image {
            layout: layout.clone(),
            manifest_digest,
            manifest,
            rootfs_digest,
            rootfs_size: u64::try_from(blob.len())?,
            message: Message::Whole(Vec::new()),
            blocks: Vec::new(),
            work: Work::new(0, 1, 1),
        };
        image.message = match image.read_blocks(&blob)? {
            Some(message) => message,
            None => Message::Whole(blob),
        };
        let layers = image.rootfs()?.layers();
        image.work = Work::new(image.message.stored(), image.message.segments(), layers);
        Ok(image)
    }

    /// Whether `layout` has this manifest, and it is that of an image. A layout need not have all
    /// that its index lists.
    pub fn is_there(layout: &Layout, manifest: &Digest) -> Result<bool> {
        Ok(layout.names_blob(manifest)? && read_manifest(layout, manifest)?.is_some())
    }

    /// The layers that a manifest of an image lists, without a look at the image.
    pub fn listed(layout: &Layout, manifest: &Digest) -> Result<Vec<Digest>> {
        let Some((text, _)) = read_manifest(layout, manifest)? else {
            return Ok(Vec::new());
        };
        let manifest = Manifest::parse(&text)?;
        let layers = manifest.layers().map(|layer| Ok(layer?.digest));
        layers.collect()
    }

    /// The message that the Rootfs blob says to be in blocks, if it does, and notes which.
    fn read_blocks(&mut self, blob: &[u8]) -> anyhow::Result<Option<Message>> {
        let parsed = RootfsBlob::parse(blob);
        let RootfsBlob::Blocks(blocks) = parsed.with_context(|| self.malformed())? else {
            return Ok(None);
        };
        self.blocks = blocks::keys(&blocks).with_context(|| self.malformed())?;
        // Only what is wrong with the packs of the blocks matters here.
        let (places, faults) = self.places()?;
        let message = Message::read(&blocks, &self.blocks, &places, self.rootfs_size);
        let message = match faults.into_iter().next() {
            Some(fault) => message.with_context(|| format!("{fault:#}")),
            None => message,
        };
        let message = message.with_context(|| format!("the Rootfs sha256:{}", self.rootfs_digest));
        let message = message?;
        let rootfs = message.rootfs().with_context(|| self.malformed())?;
        let is_copy = match blocks.root().with_context(|| self.malformed())? {
            Some(copy) => blocks::is_copy(&copy, &rootfs.root()?)?,
            None => true,
        };
        ensure!(
            is_copy,
            "{}: its blocks have another root directory",
            self.malformed()
        );
        Ok(Some(message))
    }

    /// The layout that holds it.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Digest of the manifest: what signatures and `image_manifest=` name.
    pub fn manifest_digest(&self) -> &Digest {
        &self.manifest_digest
    }

    /// Digest of the Rootfs.
    pub fn rootfs_digest(&self) -> &Digest {
        &self.rootfs_digest
    }

    /// The manifest as stored.
    pub fn manifest_bytes(&self) -> &[u8] {
        &self.manifest
    }

    /// Bytes of the Rootfs blob.
    pub fn rootfs_size(&self) -> u64 {
        self.rootfs_size
    }

    /// Bytes of the Rootfs message: the blob, or what its blocks are.
    pub fn message_size(&self) -> usize {
        self.message.size()
    }

    /// The Rootfs message in one piece, which may be 2 GiB.
    pub fn message(&self) -> Vec<u8> {
        self.message.to_vec()
    }

    /// What work it may still ask for.
    pub(crate) fn work(&self) -> &Work {
        &self.work
    }

    /// The chunks that the message is in, each once, if it is not in the blob itself.
    pub fn blocks(&self) -> &[Key] {
        &self.blocks
    }

    /// The manifest.
    pub fn manifest(&self) -> Result<Manifest<'_>> {
        Ok(Manifest::parse(&self.manifest)?)
    }

    /// The metadata.
    pub fn rootfs(&self) -> Result<Rootfs<'_>> {
        Ok(self.message.rootfs().with_context(|| self.malformed())?)
    }

    fn malformed(&self) -> String {
        format!("the Rootfs sha256:{} is malformed", self.rootfs_digest)
    }

    /// Where its chunks lie, and what is wrong with packs of it.
    pub(crate) fn places(&self) -> anyhow::Result<(Places<'_>, Vec<anyhow::Error>)> {
        let (mut packs, mut listed) = (Vec::new(), HashSet::new());
        for layer in self.manifest()?.layers() {
            let layer = layer?;
            if layer.media_type == MEDIA_TYPE_PACK && listed.insert(layer.digest) {
                packs.push(layer.digest);
            }
            ensure!(
                packs.len() <= limits::MAX_PACKS as usize,
                "the image has more than {} packs",
                limits::MAX_PACKS
            );
        }
        Ok(Places::open(&self.layout, packs))
    }

    /// Refuses an image of which not all chunks are there on purpose, for what needs them all.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`], which names a pack.
    pub fn ensure_whole(&self) -> Result<()> {
        for layer in self.manifest()?.layers() {
            self.layout.ensure_whole(&layer?.digest)?;
        }
        Ok(())
    }

    /// The same, if nothing is wrong.
    pub(crate) fn sound_places(&self) -> anyhow::Result<Places<'_>> {
        let (places, faults) = self.places()?;
        faults.into_iter().next().map_or(Ok(places), Err)
    }
}

/// A manifest and the digest of its Rootfs; `None` if it has none.
fn read_manifest(layout: &Layout, digest: &Digest) -> anyhow::Result<Option<(Vec<u8>, Digest)>> {
    let text = layout.read_blob(digest, u64::try_from(limits::MAX_MANIFEST_BYTES)?)?;
    let rootfs = match Manifest::parse(&text) {
        Err(puzzlefs_format::Error::NoRootfs) => return Ok(None),
        parsed => {
            let context = || format!("the manifest sha256:{digest} is no PuzzleFS image");
            parsed.with_context(context)?.rootfs().digest
        }
    };
    Ok(Some((text, rootfs)))
}
