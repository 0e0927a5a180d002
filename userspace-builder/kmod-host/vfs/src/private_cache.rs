// SPDX-License-Identifier: GPL-2.0

//! A page cache for data that belongs to no file (`struct address_space`). What is in it can be
//! gone at any time ([`crate::folio::Pressure`]), unless somebody has it pinned.

use crate::{
    folio,
    output::{Output, POISON},
};
use kernel::{
    page::{PAGE_SHIFT, PAGE_SIZE},
    prelude::*,
};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The bytes of a folio, which whoever uses them has pinned; none while it is not up to date.
type Bytes = Option<Arc<[u8]>>;

/// A page cache.
#[derive(Debug)]
pub struct PrivateCache {
    /// By the first page of each: how many pages a folio has, and its bytes.
    folios: Mutex<BTreeMap<u64, (u64, Bytes)>>,
    size: Mutex<u64>,
    /// Who fills it. There, it is one lock for each folio.
    filling: Mutex<()>,
}

/// A folio that does not go away.
#[derive(Clone, Debug)]
pub(crate) struct PinnedFolio {
    pub(crate) position: u64,
    pub(crate) bytes: Arc<[u8]>,
}

impl PrivateCache {
    /// An empty one.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Self {
            folios: Mutex::default(),
            size: Mutex::new(0),
            filling: Mutex::default(),
        }
    }

    fn folios(&self) -> MutexGuard<'_, BTreeMap<u64, (u64, Bytes)>> {
        self.folios.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How much content there is, if it was ever filled and had an end ([`Self::set_size`]).
    pub fn size(&self) -> u64 {
        *self.size.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says how much content there is.
    pub fn set_size(&self, size: u64) {
        *self.size.lock().unwrap_or_else(PoisonError::into_inner) = size;
    }

    /// How many bytes are there.
    pub fn bytes(&self) -> usize {
        let folios = self.folios();
        let there = folios.values().flat_map(|(_, bytes)| bytes);
        there.map(|bytes| bytes.len()).sum()
    }

    /// Calls `sink` with up to `len` bytes from `position` on, piece by piece, as far as they
    /// are there. Returns how many they were.
    ///
    /// # Errors
    ///
    /// `EFBIG` for a position that the page cache cannot have, and those of `sink`.
    pub fn read(
        &self,
        position: u64,
        len: usize,
        mut sink: impl FnMut(&[u8]) -> Result,
    ) -> Result<usize> {
        let mut done = 0;
        while done < len {
            let at = position.saturating_add(done as u64);
            let Some(folio) = self.find(page_index(at)?) else {
                break;
            };
            let offset = usize::try_from(at - folio.position).map_err(|_| EFBIG)?;
            let bytes = folio.bytes.get(offset..).unwrap_or_default();
            let piece = bytes.get(..len - done).unwrap_or(bytes);
            sink(piece)?;
            done += piece.len();
        }
        Ok(done)
    }

    /// Fills `len` bytes from `position` on, the begin of a page, by `fill`, which is to write
    /// all of them. What is there already stays.
    ///
    /// # Errors
    ///
    /// `EFBIG` for a position that the page cache cannot have, `EIO` when `fill` has not written
    /// all, and those of `fill`.
    pub fn fill(
        &self,
        position: u64,
        len: usize,
        fill: impl FnOnce(&mut Output<'_>) -> Result,
    ) -> Result {
        let filling = self.filling.lock();
        let _filling = filling.unwrap_or_else(PoisonError::into_inner);
        let end = position.saturating_add(len as u64);
        let (mut pins, mut missing) = (0, Vec::new());
        let mut at = position;
        while at < end {
            let want = usize::try_from(end - at).unwrap_or(usize::MAX);
            let (first, pages, is_there) = self.grab(page_index(at)?, want);
            let start = first << PAGE_SHIFT;
            if !is_there && start != at {
                return Err(EIO);
            }
            at = start + (pages << PAGE_SHIFT);
            pins += 1;
            if !is_there {
                missing.push((first, pages));
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let bytes = if missing.len() == pins {
            let mut memory = vec![0; usize::try_from(at - position).map_err(|_| EFBIG)?];
            let (content, _) = memory.split_at_mut_checked(len).ok_or(EIO)?;
            content.fill(POISON);
            Output::fill(content, fill)?;
            memory
        } else {
            // A copy, of which only what is missing is taken.
            let mut copy = vec![POISON; len];
            Output::fill(&mut copy, fill)?;
            copy.resize(usize::try_from(at - position).map_err(|_| EFBIG)?, 0);
            copy
        };
        let mut folios = self.folios();
        for (first, pages) in missing {
            let offset = usize::try_from((first << PAGE_SHIFT) - position).map_err(|_| EIO)?;
            let len = usize::try_from(pages << PAGE_SHIFT).map_err(|_| EIO)?;
            let bytes = bytes.get(offset..offset + len).ok_or(EIO)?;
            folios.insert(first, (pages, Some(bytes.into())));
        }
        Ok(())
    }

    /// Whether `position` is there, now.
    ///
    /// # Errors
    ///
    /// `EFBIG` for a position that the page cache cannot have.
    pub fn has(&self, position: u64) -> Result<bool> {
        Ok(self.find(page_index(position)?).is_some())
    }

    /// The folio at `position`, if it is there.
    ///
    /// # Errors
    ///
    /// `EFBIG` for a position that the page cache cannot have.
    pub(crate) fn pin(&self, position: u64) -> Result<Option<PinnedFolio>> {
        Ok(self.find(page_index(position)?))
    }

    /// Drops what is there of `len` bytes from `position` on, if it is whole folios that nobody
    /// has pinned (`invalidate_mapping_pages`).
    pub fn forget(&self, position: u64, len: usize) {
        let last = position.saturating_add(len as u64).saturating_sub(1);
        let (first, last) = (position >> PAGE_SHIFT, last >> PAGE_SHIFT);
        self.folios().retain(|start, (pages, bytes)| {
            let is_inside = first <= *start && *start + *pages - 1 <= last;
            !is_inside || is_pinned(bytes)
        });
    }

    /// The folio of page `index`, if it is there and up to date (`filemap_get_folio`).
    fn find(&self, index: u64) -> Option<PinnedFolio> {
        let mut folios = self.folios();
        let (start, pages) = lookup(&folios, index)?;
        let bytes = folios.get(&start).and_then(|(_, bytes)| bytes.clone())?;
        // Ours and that of the cache.
        if Arc::strong_count(&bytes) == 2 && folio::is_reclaimed() {
            folios.remove(&start);
            return None;
        }
        debug_assert_eq!(bytes.len() as u64, pages << PAGE_SHIFT);
        let position = start << PAGE_SHIFT;
        Some(PinnedFolio { position, bytes })
    }

    /// The folio of page `index`, made if it is not there, with `want` bytes if possible: its first
    /// page, how many it has, and whether it is up to date (`__filemap_get_folio`).
    fn grab(&self, index: u64, want: usize) -> (u64, u64, bool) {
        let mut folios = self.folios();
        if let Some((start, pages)) = lookup(&folios, index) {
            let bytes = folios.get(&start).and_then(|(_, bytes)| bytes.as_ref());
            return (start, pages, bytes.is_some());
        }
        let fits = |pages| folios.range(index..index + pages).next().is_none();
        let pages = folio::pages(index, want, fits);
        folios.insert(index, (pages, None));
        (index, pages, false)
    }
}

fn is_pinned(bytes: &Bytes) -> bool {
    bytes
        .as_ref()
        .is_some_and(|bytes| Arc::strong_count(bytes) > 1)
}

/// The first page of the folio that has page `index`, and how many it has.
fn lookup(folios: &BTreeMap<u64, (u64, Bytes)>, index: u64) -> Option<(u64, u64)> {
    let (start, (pages, _)) = folios.range(..=index).next_back()?;
    (index - start < *pages).then_some((*start, *pages))
}

/// The index of the page at `position` (`pgoff_t`).
fn page_index(position: u64) -> Result<u64> {
    Ok(position / PAGE_SIZE as u64)
}
