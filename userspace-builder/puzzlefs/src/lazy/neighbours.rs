// SPDX-License-Identifier: Apache-2.0
//! Chunks that other packs of this node have: they are copied, and no source is asked for them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use puzzlefs_format::{limits, Digest, PackEntry};

use super::pack::Pack;
use crate::base::error::Result;
use crate::chunks::compose::packs_in;
use crate::chunks::places::{Place, Places};
use crate::layout::Layout;

/// How often it is looked whether packs have come or gone, at most.
const LOOK: Duration = Duration::from_secs(1);
/// Reading all indexes may take this part of the time: so many times as long passes before they are read again.
const SHARE: u32 = 20;

/// The packs of some layouts.
pub struct Neighbours<'a> {
    layouts: &'a [Layout],
    seen: Mutex<Option<Seen<'a>>>,
}

/// What was found when it was looked last.
struct Seen<'a> {
    /// When it may be looked again.
    until: Instant,
    /// What tells that something has changed.
    signs: Vec<Sign>,
    places: Arc<Vec<Places<'a>>>,
}

/// The change time of a directory of blobs, and how many records there are beside it.
type Sign = Option<(i64, i64, usize)>;

/// Whether the chunk at an offset of a pack is there, by who fills that pack; `None` if nobody here does.
pub type IsHere<'a> = dyn Fn(&Layout, &Digest, u32) -> Option<bool> + 'a;

impl<'a> Neighbours<'a> {
    /// Of these layouts. Nothing is read yet.
    pub fn of(layouts: &'a [Layout]) -> Self {
        Neighbours {
            layouts,
            seen: Mutex::default(),
        }
    }

    /// Some chunks that `pack` lacks, as other packs have them, each by its number. Every one of them has been checked.
    ///
    /// The bytes that were checked are given, to be written: copy_file_range(2) would write what the file has by then,
    /// and chunks do not begin at borders of blocks, so that blocks cannot be shared.
    pub fn find<'b>(
        &self,
        pack: &'b Pack,
        chunks: impl Iterator<Item = usize> + 'b,
        is_here: &'b IsHere<'_>,
    ) -> impl Iterator<Item = (usize, Vec<u8>)> + 'b
    where
        'a: 'b,
    {
        let places = self.places();
        chunks.filter_map(move |number| {
            let wanted = pack.chunk(number)?;
            let bytes = places
                .iter()
                .find_map(|places| read(places, pack, wanted, is_here))?;
            Some((number, bytes))
        })
    }

    /// Where chunks lie, as far as it was looked lately.
    fn places(&self) -> Arc<Vec<Places<'a>>> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if let Some(seen) = seen.as_ref().filter(|seen| now < seen.until) {
            return Arc::clone(&seen.places);
        }
        // Before the indexes: what comes meanwhile is seen the next time.
        let signs: Vec<Sign> = self.layouts.iter().map(|it| sign(it).ok()).collect();
        if let Some(seen) = seen.as_mut().filter(|seen| seen.signs == signs) {
            seen.until = now + LOOK;
            return Arc::clone(&seen.places);
        }
        // What is wrong with packs shows when their images are used.
        let open = |layout: &'a Layout| Places::open(layout, packs(layout).unwrap_or_default()).0;
        let places = Arc::new(self.layouts.iter().map(open).collect());
        *seen = Some(Seen {
            until: Instant::now() + LOOK.max(now.elapsed() * SHARE),
            signs,
            places: Arc::clone(&places),
        });
        places
    }
}

/// A chunk, if one of these packs has it.
fn read(
    places: &Places<'_>,
    pack: &Pack,
    wanted: &PackEntry,
    is_here: &IsHere<'_>,
) -> Option<Vec<u8>> {
    let is_candidate = |place: &&Place| {
        let other = &places.packs()[place.pack as usize].digest;
        // An index may give a chunk any size.
        place.size == wanted.size
            && u64::from(place.size) <= limits::MAX_CHUNK_BYTES
            && !pack.is(places.layout(), other)
            && is_here(places.layout(), other, place.offset)
                .unwrap_or_else(|| places.is_here(place))
    };
    let candidates = places.of(&wanted.digest).iter().filter(is_candidate);
    candidates
        .into_iter()
        .find_map(|place| places.read_at(place).ok())
}

/// All packs of a layout, those too of which not all is there.
fn packs(layout: &Layout) -> Result<Vec<Digest>> {
    let mut packs = packs_in(layout)?;
    for lazy in layout.lazy_packs()? {
        if layout.names_blob(&lazy)? {
            packs.push(lazy);
        }
    }
    packs.sort_unstable();
    packs.dedup();
    Ok(packs)
}

fn sign(layout: &Layout) -> Result<(i64, i64, usize)> {
    let status = layout.blob_dir()?.status(".")?;
    let records = layout.lazy_packs()?.len();
    Ok((status.st_ctime, status.st_ctime_nsec as i64, records))
}
