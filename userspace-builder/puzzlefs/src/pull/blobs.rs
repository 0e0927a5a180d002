// SPDX-License-Identifier: Apache-2.0
//! What the manifest of the source lists, and what of it is in the layout.

use std::collections::{BTreeSet, HashMap, HashSet};

use anyhow::{ensure, Context, Result};
use puzzlefs_format::{limits, Digest, Manifest, PackTrailer, MEDIA_TYPE_PACK, MEDIA_TYPE_PROFILE};

use super::parallel::parallel;
use super::source::{exactly, Source};
use crate::base::error::{damage, Error, Where};
use crate::base::progress::{Progress, Unit};
use crate::cache::packs::Sound;
use crate::chunks::compose::{ends_of, is_chunk, packs_of};
use crate::chunks::list;
use crate::chunks::pack::End;
use crate::chunks::places::Places;
use crate::layout::pulled::Record;
use crate::layout::staging::Staging;
use crate::layout::Layout;
use crate::remote::Part;

/// Bytes of a pack's end for each chunk: an average one is some 20 KiB as stored.
const SMALLEST_GUESS: u64 = 4 << 10;
const LARGEST_GUESS: u64 = 64 << 10;
/// One byte of an end for so many of the pack, as a guess.
const GUESS: u64 = 512;

/// A blob that the manifest lists.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Its name.
    pub digest: Digest,
    /// The bytes that it is said to have.
    pub size: u64,
    /// What it is said to be.
    pub media_type: String,
}

/// A pack that the manifest lists.
pub struct Pack {
    /// Its name.
    pub digest: Digest,
    /// The bytes that it is said to have.
    pub size: u64,
    /// The fs-verity digest that it is said to have.
    pub said: Option<Digest>,
    /// Its end, once it is known.
    pub end: Option<End>,
    /// Its fs-verity digest, if the layout has it: then it is what its name says, and so are
    /// its chunks.
    pub here: Option<[u8; 32]>,
}

impl Pack {
    /// Refuses what the manifest says of the fs-verity digest if it is not so: a mount may rely on it.
    pub fn check_said(&self) -> Result<()> {
        let (Some(said), Some(here)) = (self.said, self.here) else {
            return Ok(());
        };
        let digest = &self.digest;
        let text =
            format!("the pack sha256:{digest} has another fs-verity digest than its manifest says");
        match *said.as_bytes() == here {
            true => Ok(()),
            false => Err(Error::damaged(text).of(digest).into()),
        }
    }
}

/// What the manifest lists.
pub struct Blobs {
    /// The Rootfs.
    pub rootfs: Digest,
    /// Rootfs, config, and what is neither pack nor chunk.
    pub others: Vec<Listed>,
    /// Packs, each once, in its order.
    pub packs: Vec<Pack>,
    /// Loose chunks.
    pub loose: HashMap<Digest, Listed>,
}

impl Blobs {
    /// Goes through the manifest `text`, which `listed` is, and looks at those packs that are in `layout`.
    pub fn new(
        listed: &Manifest<'_>,
        text: &[u8],
        layout: &Layout,
        sound: &Sound,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let mut blobs = Blobs {
            rootfs: listed.rootfs().digest,
            others: Vec::new(),
            packs: Vec::new(),
            loose: HashMap::new(),
        };
        let mut said = HashMap::new();
        let mut seen = HashSet::new();
        for layer in listed.config().map(Ok).into_iter().chain(listed.layers()) {
            let layer = layer?;
            let blob = Listed {
                digest: layer.digest,
                size: layer.size,
                media_type: layer.media_type.to_string(),
            };
            if layer.media_type == MEDIA_TYPE_PACK {
                said.entry(layer.digest).or_insert(layer.fs_verity);
            } else if is_chunk(&blob.media_type) {
                blobs.loose.insert(layer.digest, blob);
            } else if seen.insert(layer.digest) {
                blobs.others.push(blob);
            }
        }
        blobs.check_sizes(listed)?;
        for (digest, size) in packs_of(listed)? {
            let text = format!("the pack sha256:{digest} is said to have {size} bytes");
            if !(PackTrailer::BYTES as u64..=limits::MAX_PACK_BYTES).contains(&size) {
                return Err(Error::damaged(text).of(&digest).into());
            }
            blobs.packs.push(Pack {
                digest,
                size,
                said: said.get(&digest).copied().flatten(),
                end: None,
                here: None,
            });
        }
        blobs.look(layout, sound, progress)?;
        blobs.recall(layout, text)?;
        Ok(blobs)
    }

    fn check_sizes(&self, listed: &Manifest<'_>) -> Result<()> {
        let rootfs = listed.rootfs();
        let config = listed.config();
        for (what, blob, limit) in [
            ("Rootfs", Some(rootfs), limits::MAX_ROOTFS_BYTES),
            ("config", config, limits::MAX_MANIFEST_BYTES),
        ] {
            let size = blob.map_or(0, |blob| blob.size);
            check_size(what, size, limit as u64)?;
        }
        let profiles = self.others.iter();
        let mut profiles = profiles.filter(|blob| blob.media_type == MEDIA_TYPE_PROFILE);
        profiles.try_for_each(|blob| check_size("profile", blob.size, list::MAX_BYTES))
    }

    /// Looks which packs are in the layout, and sound.
    fn look(&mut self, layout: &Layout, sound: &Sound, progress: &dyn Progress) -> Result<()> {
        let mut there = Vec::new();
        for pack in &self.packs {
            if layout.names_blob(&pack.digest)? && !layout.is_lazy(&pack.digest)? {
                there.push(pack.digest);
            }
        }
        // What cannot be used is fetched.
        let (places, _) = Places::open(layout, there);
        let mut here = sound.among(&places)?;
        let unknown = (0..u32::try_from(places.packs().len())?).filter(|n| !here.contains_key(n));
        let unknown: BTreeSet<u32> = unknown.collect();
        progress.phase("checking packs", unknown.len() as u64, Unit::Items);
        for (number, verity) in places.measure(&unknown, progress)? {
            here.extend(verity.ok().map(|verity| (number, verity)));
        }
        let digest = |number: u32| places.packs()[number as usize].digest;
        let here = here
            .into_iter()
            .map(|(number, verity)| (digest(number), verity));
        let here: HashMap<Digest, [u8; 32]> = here.collect();
        for pack in &mut self.packs {
            pack.here = here.get(&pack.digest).copied();
            if pack.here.is_some() {
                pack.end = end_of_file(layout, pack).ok();
                pack.check_said()?;
            }
            if pack.end.is_none() {
                pack.here = None;
            }
        }
        Ok(())
    }

    /// Takes the ends that an earlier pull of the same image has kept.
    fn recall(&mut self, layout: &Layout, text: &[u8]) -> Result<()> {
        let digest = crate::base::digest::sha256(&[text]);
        if self.packs.iter().all(|pack| pack.end.is_some()) {
            return Ok(());
        }
        for entry in layout.entries()? {
            let local = layout.read_blob(&entry.digest, limits::MAX_MANIFEST_BYTES as u64);
            let record = local.ok().and_then(|local| Record::of(&local));
            let Some(record) = record.filter(|record| record.manifest == digest) else {
                continue;
            };
            let Ok(ends) = ends_of(layout, &record.indexes, text) else {
                continue;
            };
            let mut ends: HashMap<Digest, End> = ends.into_iter().collect();
            for pack in self.packs.iter_mut().filter(|pack| pack.end.is_none()) {
                pack.end = ends.remove(&pack.digest);
            }
            break;
        }
        Ok(())
    }

    /// Takes the ends of lazy packs of the layout: their records say that these are there.
    pub fn ends_here(&mut self, layout: &Layout) {
        for pack in self.packs.iter_mut().filter(|pack| pack.end.is_none()) {
            if layout.is_lazy(&pack.digest).unwrap_or(false) {
                pack.end = end_of_file(layout, pack).ok();
            }
        }
    }

    /// Fetches the ends that are not known. A pack of which the source gives only the whole is stored.
    pub fn ends(
        &mut self,
        source: &Source<'_>,
        staging: &Staging<'_>,
        progress: &dyn Progress,
    ) -> Result<()> {
        let unknown: Vec<&mut Pack> = self
            .packs
            .iter_mut()
            .filter(|pack| pack.end.is_none())
            .collect();
        progress.phase("fetching indexes", unknown.len() as u64, Unit::Items);
        let wanted: Vec<(Digest, u64)> = unknown.iter().map(|p| (p.digest, p.size)).collect();
        let fetched = parallel(&wanted, |(digest, size)| {
            let end = source.ask_any(|| end(source, staging, digest, *size).of(digest))?;
            progress.advance(1);
            Ok(end)
        })?;
        if !staging.is_empty() {
            staging.commit()?;
        }
        for (pack, end) in unknown.into_iter().zip(fetched) {
            pack.end = Some(match end {
                Fetched::End(end) => end,
                Fetched::Whole(verity) => {
                    pack.here = Some(verity);
                    whole(staging.layout(), pack)?
                }
            });
        }
        let count = self.packs.iter().flat_map(|pack| &pack.end);
        let count: usize = count.map(|end| end.entries.len()).sum();
        ensure!(
            count <= limits::MAX_PACKED_CHUNKS as usize,
            "its packs have {count} chunks, more than a reader takes"
        );
        Ok(())
    }
}

fn check_size(what: &str, size: u64, limit: u64) -> Result<()> {
    let text = || format!("the {what} is said to have {size} bytes, and may have {limit}");
    match size > limit {
        true => Err(Error::damaged(text()).into()),
        false => Ok(()),
    }
}

fn end_of_file(layout: &Layout, pack: &Pack) -> Result<End> {
    let file = layout.open_blob(&pack.digest)?;
    ensure!(file.metadata()?.len() == pack.size, "another size");
    End::of_file(&file)
}

/// What was fetched of a pack.
enum Fetched {
    End(End),
    /// All of it, with this fs-verity digest: it is staged.
    Whole([u8; 32]),
}

/// Fetches the end of a pack: its last bytes as a guess, and the rest if it is longer.
fn end(source: &Source<'_>, staging: &Staging<'_>, digest: &Digest, size: u64) -> Result<Fetched> {
    let context = || format!("the pack sha256:{digest} of {}", source.name());
    let guess = (size / GUESS)
        .clamp(SMALLEST_GUESS, LARGEST_GUESS)
        .min(size);
    let fetch = |start: u64, end: u64| -> Result<Result<Vec<u8>, [u8; 32]>> {
        match source.range(digest, size, start..end)? {
            Part::Range(body) => Ok(Ok(exactly(body, end - start).with_context(context)?)),
            Part::Whole(body) => {
                let blob = source.stage_body(staging, digest, size, body, &mut ())?;
                Ok(Err(blob.verity.context("a pack that was not measured")?))
            }
        }
    };
    let last = match fetch(size - guess, size)? {
        Ok(last) => last,
        Err(verity) => return Ok(Fetched::Whole(verity)),
    };
    let len = damage(End::len(&last, size).with_context(context))?;
    let bytes = match len.checked_sub(guess) {
        None | Some(0) => last[usize::try_from(guess - len)?..].to_vec(),
        Some(_) => match fetch(size - len, size - guess)? {
            Ok(first) => [first, last].concat(),
            Err(verity) => return Ok(Fetched::Whole(verity)),
        },
    };
    let end = End::parse(bytes, size).with_context(context);
    Ok(Fetched::End(damage(end)?))
}

/// The end of a pack that was stored as a whole; all its chunks are checked.
fn whole(layout: &Layout, pack: &Pack) -> Result<End> {
    let end = damage(end_of_file(layout, pack))?;
    let (places, _) = Places::open(layout, [pack.digest]);
    for place in places.table() {
        places.read_at(place)?;
    }
    pack.check_said()?;
    Ok(end)
}
