// SPDX-License-Identifier: Apache-2.0
//! Where the chunks of a build go: into packs, or into blobs of their own; and nowhere
//! if the layout holds them already.
//!
//! What packs of the layout hold is compared byte by byte with what is to be stored. A pack
//! that is found to be wrong anywhere is used for nothing: readers may take a chunk from
//! any pack of an image that lists it, so an image must not have such a pack at all.
//!
//! The manifest also says the fs-verity digest of each pack, and with it that the pack's index is
//! true: readers may rely on that and hash nothing. So of a pack that comes from elsewhere all is
//! looked at, also what the new image does not use: a reader might find that.

mod order;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use anyhow::{ensure, Context, Result};
use puzzlefs_format::{limits, Digest};

use crate::base::error::is_trouble;
use crate::base::progress::{Progress, Unit};
use crate::chunks::pack::PackWriter;
use crate::chunks::places::{Place, Places};
use crate::chunks::waiting::{Waiting, TARGET};
use crate::layout::manifest::{Descriptor, MAX_CHUNKS};
use crate::layout::staging::{Draft, Staging};

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

/// A blob that holds chunks of an image.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Home {
    /// An index of [`Homes::loose`].
    Loose(usize),
    /// A pack that was in the layout: an index of [`Places::packs`].
    Held(u32),
    /// One of this build: an index of [`Homes::packs`].
    New(usize),
    /// None yet.
    Waiting,
}

/// Takes chunks, best in the order in which files use them.
pub(crate) struct Sink<'a> {
    staging: &'a Staging<'a>,
    progress: &'a dyn Progress,
    form: Form,
    take_loose: bool,
    /// Chunks that were found to be loose in the layout, and sound.
    sound: HashSet<Digest>,
    /// The pack that is being written: its index in [`Homes::packs`], which keeps a place for it.
    packing: Option<(usize, PackWriter<Draft>)>,
    /// Chunks that wait until their order is known, if they are to.
    waiting: Option<Waiting>,
    homes: Homes<'a>,
}

/// Where the chunks that a [`Sink`] took are now.
pub(crate) struct Homes<'a> {
    chunks: HashMap<Digest, Home>,
    held: Arc<Places<'a>>,
    loose: Vec<Descriptor>,
    /// With their numbers of chunks; nothing for one that is being written.
    packs: Vec<Option<(Descriptor, usize)>>,
    /// The fs-verity digests of those in `held` that are used.
    vouched: HashMap<u32, [u8; 32]>,
    /// Those in `held` that are not what they say.
    distrusted: HashSet<u32>,
}

impl<'a> Sink<'a> {
    /// A sink that stores chunks in `form`, but for those that `held` has.
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
            take_loose: true,
            sound: HashSet::new(),
            packing: None,
            waiting: None,
            homes: Homes {
                chunks: HashMap::new(),
                held: Arc::new(held),
                loose: Vec::new(),
                packs: Vec::new(),
                vouched: HashMap::new(),
                distrusted: HashSet::new(),
            },
        }
    }

    /// A sink that also puts those chunks into packs that are loose in the layout.
    pub fn repacking(self) -> Self {
        Sink {
            take_loose: false,
            ..self
        }
    }

    /// What packs of the layout have.
    pub fn places(&self) -> Arc<Places<'a>> {
        Arc::clone(&self.homes.held)
    }

    /// Before any chunk comes: these packs of [`Self::places`] were looked at before, and have not changed
    /// since; with their fs-verity digests.
    pub fn vouched(&mut self, packs: HashMap<u32, [u8; 32]>) {
        self.homes.vouched.extend(packs);
    }

    /// Before any chunk comes: sees to it that of the packs that claim to have `chunks` all are what
    /// they say, or are not used.
    pub fn trust(&mut self, chunks: impl Iterator<Item = Digest>) -> Result<()> {
        let Form::Packs { target } = self.form else {
            return Ok(());
        };
        let held = self.places();
        let packs = chunks.flat_map(|chunk| held.of(&chunk).iter().map(|place| place.pack));
        let vouched = &self.homes.vouched;
        let packs: BTreeSet<u32> = packs.filter(|pack| !vouched.contains_key(pack)).collect();
        self.vouch_for(&packs, target)
    }

    /// Whether [`Self::adopt`] will take such a chunk.
    pub fn can_adopt(&mut self, digest: &Digest, size: u64) -> Result<bool> {
        if let Form::Packs { .. } = self.form {
            let places = self.homes.held.of(digest).iter();
            let mut trusted = places.filter(|place| !self.homes.distrusted.contains(&place.pack));
            if let Some(place) = trusted.next() {
                let is_vouched = self.homes.vouched.contains_key(&place.pack);
                return Ok(is_vouched && u64::from(place.size) == size);
            }
        }
        let is_sound = self.sound.contains(digest)
            || self.take_loose && self.staging.layout().has_blob(digest, size)?;
        if is_sound {
            self.sound.insert(*digest);
        }
        Ok(is_sound)
    }

    /// Takes a chunk that the layout has, as [`Self::can_adopt`] said.
    pub fn adopt(&mut self, digest: Digest, media_type: &str, size: u64) -> Result<()> {
        if self.has(&digest) {
            return Ok(());
        }
        ensure!(
            self.can_adopt(&digest, size)?,
            "the chunk sha256:{digest} is damaged; build again"
        );
        if self.sound.contains(&digest) {
            return match self.form {
                Form::Packs { target } if self.homes.loose.len() >= MAX_CHUNKS => {
                    let layout = self.staging.layout();
                    let chunk = layout.read_blob(&digest, limits::MAX_CHUNK_BYTES)?;
                    self.pack(digest, &chunk, target)
                }
                _ => self.take_loose(digest, media_type, size),
            };
        }
        let places = self.homes.held.of(&digest).iter();
        let mut trusted = places.filter(|place| !self.homes.distrusted.contains(&place.pack));
        let place = trusted.next().context("a chunk without a place")?;
        self.homes.chunks.insert(digest, Home::Held(place.pack));
        Ok(())
    }

    /// Where blobs go.
    pub fn staging(&self) -> &'a Staging<'a> {
        self.staging
    }

    /// Whether a chunk has come already.
    pub fn has(&self, digest: &Digest) -> bool {
        self.homes.chunks.contains_key(digest)
    }

    /// Sees to it that the layout will have a chunk, of the given digest and media type.
    pub fn put(&mut self, digest: Digest, media_type: &str, chunk: &[u8]) -> Result<()> {
        // Equal bytes may come twice: a raw chunk may be another one's compressed form.
        if self.has(&digest) {
            return Ok(());
        }
        let size = u64::try_from(chunk.len())?;
        if let Form::Packs { target } = self.form {
            if let Some(pack) = self.held(&digest, chunk, target)? {
                self.homes.chunks.insert(digest, Home::Held(pack));
                return Ok(());
            }
            let take_loose = self.take_loose && self.homes.loose.len() < MAX_CHUNKS;
            if !take_loose || !self.staging.layout().has_blob(&digest, size)? {
                return self.pack(digest, chunk, target);
            }
        } else {
            self.staging.put(&digest, chunk)?;
        }
        self.take_loose(digest, media_type, size)
    }

    /// Notes a chunk that is loose in the layout, or will be.
    fn take_loose(&mut self, digest: Digest, media_type: &str, size: u64) -> Result<()> {
        let home = Home::Loose(self.homes.loose.len());
        self.homes.chunks.insert(digest, home);
        let descriptor = Descriptor::new(media_type, digest, size);
        self.homes.loose.push(descriptor);
        check_loose(self.homes.loose.len())
    }

    /// Lets `fill` put chunks, into packs that have no others.
    pub fn apart<T>(&mut self, fill: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let open = self.packing.take();
        let filled = fill(self)?;
        self.close()?;
        self.packing = open;
        Ok(filled)
    }

    /// The same with chunks that are read first: in as few packs as can be.
    pub fn first<T>(&mut self, fill: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let form = self.form;
        if let Form::Packs { target } = form {
            self.form = Form::Packs {
                target: target.max(TARGET),
            };
        }
        let filled = self.apart(fill);
        self.form = form;
        filled
    }

    /// A pack of the layout that holds the chunk. All that claim to are put to the proof.
    fn held(&mut self, digest: &Digest, chunk: &[u8], target: u64) -> Result<Option<u32>> {
        let mut held = None;
        // A copy: the table changes when a pack turns out to be damaged.
        let places = self.homes.held.of(digest).to_vec();
        for place in &places {
            if self.homes.distrusted.contains(&place.pack) {
                continue;
            }
            if self.homes.held.peek(place)? == chunk {
                held = held.or(Some(place.pack));
            } else {
                self.distrust(place.pack, target)?;
            }
        }
        Ok(held)
    }

    /// Stores anew what was found in a pack until it turned out to be damaged.
    fn distrust(&mut self, pack: u32, target: u64) -> Result<()> {
        self.progress.note(&format!(
            "the pack sha256:{} is damaged, so the new image uses nothing of it",
            self.homes.held.packs()[pack as usize].digest
        ));
        self.homes.distrusted.insert(pack);
        self.homes.vouched.remove(&pack);
        let table = self.homes.held.table().iter();
        let is_homeless = |place: &&Place| {
            place.pack == pack && self.homes.chunks.get(&place.digest) == Some(&Home::Held(pack))
        };
        let mut homeless: Vec<Place> = table.filter(is_homeless).copied().collect();
        homeless.sort_unstable_by_key(|place| place.offset);
        homeless.iter().try_for_each(|place| {
            let chunk = self.homes.held.read_at(place)?;
            self.pack(place.digest, &chunk, target)
        })
    }

    fn pack(&mut self, digest: Digest, chunk: &[u8], target: u64) -> Result<()> {
        if let Some(waiting) = &mut self.waiting {
            waiting.push(digest, chunk)?;
            self.homes.chunks.insert(digest, Home::Waiting);
            return Ok(());
        }
        let (index, mut packing) = match self.packing.take() {
            Some(packing) => packing,
            None => {
                let mut draft = self.staging.begin()?;
                draft.measure();
                let packing = PackWriter::new(draft, target);
                self.homes.packs.push(None);
                (self.homes.packs.len() - 1, packing)
            }
        };
        packing.push(digest, chunk)?;
        self.homes.chunks.insert(digest, Home::New(index));
        let is_full = packing.is_full();
        self.packing = Some((index, packing));
        match is_full {
            true => self.close(),
            false => Ok(()),
        }
    }

    /// Ends the pack that is being written, if there is one.
    fn close(&mut self) -> Result<()> {
        if let Some((index, packing)) = self.packing.take() {
            let count = packing.count();
            let pack = self.staging.end(packing.finish()?)?;
            let verity = pack.verity.context("a pack that was not measured")?;
            let descriptor = Descriptor::of_pack(pack.digest, pack.size, &verity);
            self.homes.packs[index] = Some((descriptor, count));
        }
        Ok(())
    }

    /// Ends the last pack, and looks at all of those that were there.
    pub fn finish(mut self) -> Result<Homes<'a>> {
        if let Form::Packs { target } = self.form {
            self.vouch(target)?;
        }
        self.close()?;
        Ok(self.homes)
    }

    /// Measures the packs of the layout that are used, and stores anew what is in one that lies.
    fn vouch(&mut self, target: u64) -> Result<()> {
        let vouched = &self.homes.vouched;
        let used = self.homes.chunks.values().filter_map(|home| match home {
            Home::Held(pack) if !vouched.contains_key(pack) => Some(*pack),
            _ => None,
        });
        let used: BTreeSet<u32> = used.collect();
        self.vouch_for(&used, target)
    }

    fn vouch_for(&mut self, packs: &BTreeSet<u32>, target: u64) -> Result<()> {
        if packs.is_empty() {
            return Ok(());
        }
        let count = u64::try_from(packs.len())?;
        self.progress.phase("checking packs", count, Unit::Items);
        for (pack, verity) in self.homes.held.measure(packs, self.progress)? {
            match verity {
                Ok(verity) => drop(self.homes.vouched.insert(pack, verity)),
                Err(error) if is_trouble(&error) => return Err(error),
                Err(_) => self.distrust(pack, target)?,
            }
        }
        Ok(())
    }
}

impl Homes<'_> {
    /// The packs of the layout that were found to be what they say, with their fs-verity digests.
    pub fn vouched(&self) -> impl Iterator<Item = (Digest, [u8; 32])> + '_ {
        let digest = |pack: u32| self.held.packs()[pack as usize].digest;
        self.vouched
            .iter()
            .map(move |(pack, verity)| (digest(*pack), *verity))
    }

    /// The packs of the layout that were found to be something else.
    pub fn distrusted(&self) -> HashSet<Digest> {
        let packs = self.distrusted.iter();
        packs
            .map(|pack| self.held.packs()[*pack as usize].digest)
            .collect()
    }

    /// All chunks in blobs that images get from this.
    pub fn stored(&self) -> HashSet<Digest> {
        let homes = self.chunks.values();
        let used: HashSet<&Home> = homes.filter(|home| matches!(home, Home::Held(_))).collect();
        let table = self.held.table().iter();
        let beside = table.filter(|place| used.contains(&Home::Held(place.pack)));
        let beside = beside.map(|place| place.digest);
        self.chunks.keys().copied().chain(beside).collect()
    }

    /// The blobs with the chunks of an image, each once, in order of first use. `order` has
    /// chunks that the sink took.
    pub fn layers(&self, order: impl IntoIterator<Item = Digest>) -> Result<Vec<Descriptor>> {
        let mut held = vec![0; self.held.packs().len()];
        for place in self.held.table() {
            held[place.pack as usize] += 1;
        }
        let mut seen = HashSet::new();
        let mut layers = Vec::new();
        let (mut packs, mut chunks, mut loose) = (0, 0, 0);
        for digest in order {
            let home = self.chunks[&digest];
            if !seen.insert(home) {
                continue;
            }
            let (layer, count) = match home {
                Home::Loose(chunk) => {
                    loose += 1;
                    layers.push(self.loose[chunk].clone());
                    continue;
                }
                Home::Waiting => anyhow::bail!("a chunk without a pack"),
                Home::New(pack) => {
                    let pack = self.packs[pack].clone();
                    pack.context("a pack that is not complete")?
                }
                Home::Held(pack) => {
                    let count = held[pack as usize];
                    let verity = self.vouched.get(&pack);
                    let verity = verity.context("a pack that was not looked at")?;
                    let pack = &self.held.packs()[pack as usize];
                    (Descriptor::of_pack(pack.digest, pack.size, verity), count)
                }
            };
            packs += 1;
            chunks += count;
            layers.push(layer);
        }
        check_loose(loose)?;
        ensure!(
            packs <= limits::MAX_PACKS as usize && chunks <= limits::MAX_PACKED_CHUNKS as usize,
            "the image needs {packs} packs, which have {chunks} chunks: more than a reader takes; \
             use a larger --pack-size or --chunk-size, or `puzzlefs repack` the layout"
        );
        Ok(layers)
    }
}

fn check_loose(count: usize) -> Result<()> {
    ensure!(
        count <= MAX_CHUNKS,
        "the image needs more than {MAX_CHUNKS} loose chunks, more than its manifest may list: \
         use packs (--layout packs) or a larger --chunk-size"
    );
    Ok(())
}
