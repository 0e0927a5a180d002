// SPDX-License-Identifier: Apache-2.0
//! Looking at an image somewhere else: only its metadata travel, and the indexes of its packs.

use std::collections::HashMap;
use std::fs::DirBuilder;
use std::hash::{BuildHasher, RandomState};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use anyhow::Context;
use puzzlefs_format::Digest;

use super::blobs::Blobs;
use super::find;
use super::gather::Gather;
use super::Found;
use crate::base::cleanup;
use crate::base::error::Where;
use crate::base::progress::Progress;
use crate::cache::packs::Sound;
use crate::image::Image;
use crate::layout::staging::Staging;
use crate::layout::Layout;

/// An image of which only the metadata are here.
pub struct Peeked {
    /// The image: its chunks cannot be read, and its manifest lists what is here.
    pub image: Image,
    /// The manifest as it is there, and its bytes.
    pub manifest: (Digest, u64),
    /// Bytes of its chunks, as stored.
    pub sizes: HashMap<Digest, u64>,
    /// Requests that it took.
    pub requests: u64,
    /// Bytes that came.
    pub bytes: u64,
    _dir: Temporary,
}

/// A directory that is gone in the end.
struct Temporary {
    path: PathBuf,
    _guard: cleanup::Guard,
}

impl Temporary {
    fn new() -> crate::Result<Self> {
        let random = RandomState::new().hash_one(std::process::id());
        let name = format!("puzzlefs-{}-{random:016x}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let removed = path.clone();
        let make = || DirBuilder::new().mode(0o700).create(&path);
        let made = cleanup::make(make, move || cleanup::remove_dir(&removed));
        let context = || format!("making {}", path.display());
        let ((), guard) = made.with_context(context).at(&path)?;
        Ok(Temporary {
            path,
            _guard: guard,
        })
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        cleanup::remove_dir(&self.path);
    }
}

impl Found<'_> {
    /// Opens the image to look at it: the Rootfs, its blocks, the indexes of packs.
    pub fn peek(&self, progress: &dyn Progress) -> crate::Result<Peeked> {
        let dir = Temporary::new()?;
        let layout = Layout::open_or_create(&dir.path)?;
        let context = || format!("looking at {}", self.source.name());
        Ok(self.peek_in(&layout, dir, progress).with_context(context)?)
    }

    fn peek_in(
        &self,
        layout: &Layout,
        dir: Temporary,
        progress: &dyn Progress,
    ) -> anyhow::Result<Peeked> {
        let staging = Staging::new(layout)?;
        let known = Sound::default();
        let listed = find::parse(&self.document)?;
        let mut blobs = Blobs::new(&listed, &self.document.text, layout, &known, progress)?;
        self.small(&mut blobs, &staging, progress)?;
        let mut sizes = HashMap::new();
        for end in blobs.packs.iter().flat_map(|pack| &pack.end) {
            sizes.extend(
                end.entries
                    .iter()
                    .map(|entry| (entry.digest, entry.size.into())),
            );
        }
        sizes.extend(
            blobs
                .loose
                .iter()
                .map(|(digest, loose)| (*digest, loose.size)),
        );
        let mut gather = Gather::new(&staging, &self.source, blobs, &known, progress);
        let (_, image) = self.metadata(&mut gather, &staging)?;
        use std::sync::atomic::Ordering::Relaxed;
        Ok(Peeked {
            image,
            manifest: (self.document.digest, self.document.text.len() as u64),
            sizes,
            requests: self.source.requests.load(Relaxed),
            bytes: self.source.bytes.load(Relaxed),
            _dir: dir,
        })
    }
}
