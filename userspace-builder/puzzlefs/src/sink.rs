// SPDX-License-Identifier: Apache-2.0
//! Where the chunks of a build go: into packs, or into blobs of their own; and nowhere
//! if the layout holds them already.
//!
//! What packs of the layout hold is compared byte by byte with what is to be stored. A pack
//! that is found to be wrong anywhere is used for nothing: readers may take a chunk from
//! any pack of an image that lists it, so an image must not have such a pack at all.

use std::collections::HashSet;

use anyhow::{ensure, Result};
use puzzlefs_format::{limits, Digest, MEDIA_TYPE_PACK};

use crate::manifest::{Descriptor, MAX_CHUNKS};
use crate::pack::PackWriter;
use crate::places::{Place, Places};
use crate::progress::Progress;
use crate::store::{Draft, Staging};

/// What the blobs with the chunks of an image are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One for each chunk, as upstream has it.
    Loose,
    /// Packs of some `target` bytes.
    Packs {
        /// Their size.
        target: u64,
    },
}

/// A blob that holds chunks of the image.
enum Home {
    Loose(Descriptor),
    /// A pack that was in the layout: its index in [`Places::packs`].
    Held(u32),
    /// A pack of this build: its index in [`Sink::packs`].
    New(usize),
}

/// Takes the chunks of an image in order of first use.
pub struct Sink<'a> {
    staging: &'a Staging<'a>,
    progress: &'a dyn Progress,
    form: Form,
    held: Places<'a>,
    /// Packs of the layout that hold chunks of the image.
    used: HashSet<u32>,
    distrusted: HashSet<u32>,
    /// Where in packs of the layout chunks of the image were found.
    found: Vec<Place>,
    /// All chunks that have come.
    chunks: HashSet<Digest>,
    /// In order of first use.
    homes: Vec<Home>,
    loose: usize,
    packing: Option<PackWriter<Draft>>,
    packs: Vec<Descriptor>,
    /// Chunks in those.
    packed: usize,
}

impl<'a> Sink<'a> {
    /// A sink for chunks of an image in `form`; packs of the layout hold some already.
    pub fn new(
        staging: &'a Staging<'a>,
        form: Form,
        held: Places<'a>,
        progress: &'a dyn Progress,
    ) -> Self {
        Sink {
            staging,
            progress,
            form,
            held,
            used: HashSet::new(),
            distrusted: HashSet::new(),
            found: Vec::new(),
            chunks: HashSet::new(),
            homes: Vec::new(),
            loose: 0,
            packing: None,
            packs: Vec::new(),
            packed: 0,
        }
    }

    /// Sees to it that the image has a chunk, of the given digest and media type.
    pub fn put(&mut self, digest: Digest, media_type: &str, chunk: &[u8]) -> Result<()> {
        // Equal bytes may come twice: a raw chunk may be another one's compressed form.
        if !self.chunks.insert(digest) {
            return Ok(());
        }
        let size = u64::try_from(chunk.len())?;
        if let Form::Packs { target } = self.form {
            if self.is_held(&digest, chunk, target)? {
                return Ok(());
            }
            if self.loose == MAX_CHUNKS || !self.staging.layout().has_blob(&digest, size)? {
                return self.pack(digest, chunk, target);
            }
        }
        ensure!(
            self.loose < MAX_CHUNKS,
            "the image needs more than {MAX_CHUNKS} loose chunks, more than its manifest may \
             list: use packs (--layout packs) or a larger --chunk-size"
        );
        self.staging.put(&digest, chunk)?;
        self.loose += 1;
        let descriptor = Descriptor::new(media_type, digest, size);
        self.homes.push(Home::Loose(descriptor));
        Ok(())
    }

    /// Whether packs of the layout hold the chunk. All that claim to are put to the proof.
    fn is_held(&mut self, digest: &Digest, chunk: &[u8], target: u64) -> Result<bool> {
        let mut held = None;
        for place in self.held.of(digest).to_vec() {
            if self.distrusted.contains(&place.pack) {
                continue;
            }
            if self.held.peek(&place)? == chunk {
                held = held.or(Some(place));
            } else {
                self.distrust(place.pack, target)?;
            }
        }
        self.found.extend(held);
        if let Some(Place { pack, .. }) = held {
            if self.used.insert(pack) {
                self.homes.push(Home::Held(pack));
            }
        }
        Ok(held.is_some())
    }

    /// Stores anew what was found in a pack until it turned out to be damaged.
    fn distrust(&mut self, pack: u32, target: u64) -> Result<()> {
        self.progress.note(&format!(
            "the pack sha256:{} is damaged, so the new image uses nothing of it",
            self.held.packs()[pack as usize].digest
        ));
        self.distrusted.insert(pack);
        self.used.remove(&pack);
        let is_it = |home: &Home| matches!(home, Home::Held(held) if *held == pack);
        self.homes.retain(|home| !is_it(home));
        let found = std::mem::take(&mut self.found).into_iter();
        let (homeless, found): (Vec<_>, _) = found.partition(|place| place.pack == pack);
        self.found = found;
        homeless.iter().try_for_each(|place| {
            let chunk = self.held.read_at(place)?;
            self.pack(place.digest, &chunk, target)
        })
    }

    fn pack(&mut self, digest: Digest, chunk: &[u8], target: u64) -> Result<()> {
        let mut packing = match self.packing.take() {
            Some(packing) => packing,
            None => {
                self.homes.push(Home::New(self.packs.len()));
                PackWriter::new(self.staging.begin()?, target)
            }
        };
        packing.push(digest, chunk)?;
        self.packed += 1;
        if packing.is_full() {
            self.close(packing)
        } else {
            self.packing = Some(packing);
            Ok(())
        }
    }

    fn close(&mut self, packing: PackWriter<Draft>) -> Result<()> {
        let pack = self.staging.end(packing.finish()?)?;
        self.packs
            .push(Descriptor::new(MEDIA_TYPE_PACK, pack.digest, pack.size));
        Ok(())
    }

    /// The blobs with the chunks of the image, in order of first use.
    pub fn finish(mut self) -> Result<Vec<Descriptor>> {
        if let Some(packing) = self.packing.take() {
            self.close(packing)?;
        }
        let held = self.held.packs();
        let used = |place: &&Place| self.used.contains(&place.pack);
        let chunks = self.packed + self.held.table().iter().filter(used).count();
        let packs = self.packs.len() + self.used.len();
        ensure!(
            packs <= limits::MAX_PACKS as usize && chunks <= limits::MAX_PACKED_CHUNKS as usize,
            "the image needs {packs} packs with {chunks} chunks, more than a reader takes; use a \
             larger --pack-size or --chunk-size, or `puzzlefs repack` first"
        );
        let descriptor = |home| match home {
            Home::Loose(descriptor) => descriptor,
            Home::New(pack) => self.packs[pack].clone(),
            Home::Held(pack) => {
                let pack = &held[pack as usize];
                Descriptor::new(MEDIA_TYPE_PACK, pack.digest, pack.size)
            }
        };
        Ok(self.homes.into_iter().map(descriptor).collect())
    }
}
