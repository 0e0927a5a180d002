// SPDX-License-Identifier: GPL-2.0

//! The page cache of a file, and the windows of folios that it asks for
//! (`struct readahead_control`).

use crate::{
    folio::{self, next},
    output::{Output, POISON},
    parallel,
};
use kernel::{page::PAGE_SIZE, prelude::*};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

const PAGE: u64 = PAGE_SIZE as u64;

/// The page cache of a file.
#[derive(Debug, Default)]
pub struct PageCache {
    /// By the position of each: how long a folio is, and its bytes if it is up to date.
    folios: BTreeMap<u64, (usize, Option<Vec<u8>>)>,
}

impl PageCache {
    /// Whether there is a folio at `position`, up to date or not: its range.
    fn folio_at(&self, position: u64) -> Option<Range<u64>> {
        let (start, (size, _)) = self.folios.range(..=position).next_back()?;
        let end = start + *size as u64;
        (position < end).then_some(*start..end)
    }

    /// The bytes from `position` on that are in one folio and up to date.
    pub fn get(&self, position: u64) -> Option<&[u8]> {
        let folio = self.folio_at(position)?;
        let (_, bytes) = self.folios.get(&folio.start)?;
        bytes.as_deref()?.get((position - folio.start) as usize..)
    }

    /// The window for `len` bytes from `position` on, as far as no folio is there, in folios of
    /// sizes that `seed` says (`page_cache_ra_order`); none if the first page is there.
    pub fn readahead(&mut self, position: u64, len: u64, seed: u64) -> Option<ReadWindow<'_>> {
        let start = position / PAGE * PAGE;
        let end = (position + len).div_ceil(PAGE) * PAGE;
        let (mut at, mut seed) = (start, seed);
        let mut folios = VecDeque::new();
        while at < end && self.folio_at(at).is_none() {
            seed = next(seed);
            let fits = |pages: u64| {
                let stop = at + pages * PAGE;
                stop <= end && self.folios.range(at..stop).next().is_none()
            };
            let want = PAGE_SIZE << ((seed >> 40) % (u64::from(folio::MAX_ORDER) + 1));
            let size = folio::pages(at / PAGE, want, fits) as usize * PAGE_SIZE;
            folios.push_back((at, size));
            self.folios.insert(at, (size, None));
            at += size as u64;
        }
        (start < at).then_some(ReadWindow {
            cache: self,
            current: None,
            rest: Some(folios),
            position: start,
            end: at,
            is_begun: false,
        })
    }

    /// The window that is the folio at `position`, of one page if there was none (`read_folio`).
    pub fn folio(&mut self, position: u64) -> ReadWindow<'_> {
        let page = position / PAGE * PAGE;
        let found = self.folio_at(position);
        let Range { start, end } = found.unwrap_or(page..page + PAGE);
        let size = (end - start) as usize;
        self.folios.insert(start, (size, None));
        ReadWindow {
            cache: self,
            current: Some(LockedFolio::new(start, size)),
            rest: None,
            position: start,
            end,
            is_begun: true,
        }
    }

    /// Drops all (`invalidate_mapping_pages`).
    pub fn forget(&mut self) {
        self.folios.clear();
    }
}

/// A folio that is being read into.
#[derive(Debug)]
struct LockedFolio {
    position: u64,
    bytes: Vec<u8>,
}

impl LockedFolio {
    fn new(position: u64, size: usize) -> Self {
        let bytes = vec![POISON; size];
        Self { position, bytes }
    }

    fn end(&self) -> u64 {
        self.position + self.bytes.len() as u64
    }
}

/// A range of a file that the page cache asks for: folios one after another. They are filled from
/// the front; each is published as soon as it is full.
#[derive(Debug)]
pub struct ReadWindow<'a> {
    cache: &'a mut PageCache,
    current: Option<LockedFolio>,
    /// Where folios after `current` begin, and how long they are; none if it is for one.
    rest: Option<VecDeque<(u64, usize)>>,
    position: u64,
    end: u64,
    is_begun: bool,
}

impl ReadWindow<'_> {
    /// The position in the file of the next byte to fill.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// How many bytes are left to fill.
    pub fn remaining(&self) -> u64 {
        self.end.saturating_sub(self.position)
    }

    /// Asks for the window to cover `start..end` too, by folios of one page, up to one that is
    /// there (`readahead_expand`). Only before the first byte is filled.
    pub fn expand(&mut self, start: u64, end: u64) {
        let (false, Some(folios)) = (self.is_begun, &mut self.rest) else {
            return;
        };
        while self.end < end && self.cache.folio_at(self.end).is_none() {
            folios.push_back((self.end, PAGE_SIZE));
            self.cache.folios.insert(self.end, (PAGE_SIZE, None));
            self.end += PAGE;
        }
        while self.position > start {
            let before = self.position - PAGE;
            if self.cache.folio_at(before).is_some() {
                break;
            }
            folios.push_front((before, PAGE_SIZE));
            self.cache.folios.insert(before, (PAGE_SIZE, None));
            self.position = before;
        }
    }

    /// Fills the window with `bytes`, at most [`ReadWindow::remaining`].
    ///
    /// # Errors
    ///
    /// `EINVAL` when there are more.
    pub fn write(&mut self, mut bytes: &[u8]) -> Result {
        while !bytes.is_empty() {
            let (offset, len) = self.next(bytes.len() as u64)?;
            let (head, tail) = bytes.split_at_checked(len).ok_or(EINVAL)?;
            self.fill(offset, len, |memory| memory.copy_from_slice(head))?;
            bytes = tail;
        }
        Ok(())
    }

    /// Fills the window with `len` zeroes, at most [`ReadWindow::remaining`].
    ///
    /// # Errors
    ///
    /// `EINVAL` when that is too many.
    pub fn zero(&mut self, mut len: u64) -> Result {
        while len > 0 {
            let (offset, part) = self.next(len)?;
            self.fill(offset, part, |memory| memory.fill(0))?;
            len -= part as u64;
        }
        Ok(())
    }

    /// Fills the next `len` bytes, at most [`ReadWindow::remaining`], by `fill`, which is to
    /// write all of them.
    ///
    /// # Errors
    ///
    /// `EINVAL` when they are too many, `EIO` when `fill` has not written all, and those of `fill`.
    pub fn fill_with(
        &mut self,
        len: usize,
        fill: impl FnOnce(&mut Output<'_>) -> Result,
    ) -> Result {
        self.fill_folios(len, |_, memory| {
            Output::fill(memory, fill)?;
            Ok(Vec::new())
        })
    }

    /// Fills the next bytes, at most [`ReadWindow::remaining`], part by part, by `fill`, which
    /// is to write each, possibly in several tasks at once. Returns how many other tasks filled.
    ///
    /// # Errors
    ///
    /// `EINVAL` when they are too many, and of the parts the first one.
    pub fn fill_parts<T: Send>(
        &mut self,
        parts: &mut [(usize, T)],
        fill: impl Fn(&mut T, &mut Output<'_>) -> Result + Sync,
    ) -> Result<usize> {
        let len = parts.iter().map(|(len, _)| *len).sum();
        let (mut result, mut helped) = (Ok(()), 0);
        self.fill_folios(len, |mut position, mut rest| {
            let mut jobs = Vec::new();
            for (len, part) in parts {
                let (memory, behind) = rest.split_at_mut_checked(*len).ok_or(EINVAL)?;
                jobs.push((part, memory, Ok(())));
                rest = behind;
            }
            helped = parallel::for_each(&mut jobs, |(part, memory, result)| {
                *result = Output::fill(memory, |output| fill(part, output));
            });
            let mut failed = Vec::new();
            for (_, memory, done) in jobs {
                let end = position + memory.len() as u64;
                if done.is_err() {
                    failed.push(position..end);
                    result = result.and(done);
                }
                position = end;
            }
            Ok(failed)
        })?;
        result.map(|()| helped)
    }

    /// Fills the next `len` bytes by `fill`, which gets their position and their memory, and
    /// returns the ranges of the file that it has not filled: all the others it has.
    fn fill_folios(
        &mut self,
        len: usize,
        fill: impl FnOnce(u64, &mut [u8]) -> Result<Vec<Range<u64>>>,
    ) -> Result {
        let (position, end) = (self.position, self.position + len as u64);
        if len == 0 || end > self.end {
            return Err(EINVAL);
        }
        let mut folios = Vec::new();
        while folios
            .last()
            .is_none_or(|last: &LockedFolio| last.end() < end)
        {
            folios.push(match self.current.take() {
                Some(folio) => folio,
                None => self.take_folio()?,
            });
        }
        let parts: Vec<&[u8]> = folios.iter().map(|folio| &folio.bytes[..]).collect();
        let mut memory = parts.concat();
        let start = folios.first().ok_or(EINVAL)?.position;
        let offset = usize::try_from(position - start).map_err(|_| EINVAL)?;
        let failed = fill(
            position,
            memory.get_mut(offset..offset + len).ok_or(EINVAL)?,
        )?;
        self.position = end;
        for mut folio in folios {
            let from = (folio.position - start) as usize;
            let size = folio.bytes.len();
            folio.bytes.copy_from_slice(&memory[from..from + size]);
            let is_in =
                |range: &Range<u64>| range.start < folio.end() && folio.position < range.end;
            if failed.iter().any(is_in) {
                continue;
            }
            if folio.end() <= end {
                self.publish(folio);
            } else {
                self.current = Some(folio);
            }
        }
        Ok(())
    }

    /// Takes the next folio (`readahead_folio`).
    fn take_folio(&mut self) -> Result<LockedFolio> {
        self.is_begun = true;
        let rest = self.rest.as_mut().ok_or(EINVAL)?;
        let (position, size) = rest.pop_front().ok_or(EINVAL)?;
        Ok(LockedFolio::new(position, size))
    }

    /// The offset in the current folio of the next byte, and how many of `len` bytes fit into it.
    fn next(&mut self, len: u64) -> Result<(usize, usize)> {
        let folio = match self.current.take() {
            Some(folio) => folio,
            None => self.take_folio()?,
        };
        let folio = self.current.insert(folio);
        let offset = self.position.checked_sub(folio.position).ok_or(EINVAL)?;
        let offset = usize::try_from(offset).map_err(|_| EINVAL)?;
        let room = folio.bytes.len().checked_sub(offset).ok_or(EINVAL)?;
        let len = usize::try_from(len).unwrap_or(usize::MAX).min(room);
        Ok((offset, len))
    }

    /// Fills `len` bytes of the current folio, and publishes it when it is full.
    fn fill(&mut self, offset: usize, len: usize, fill: impl FnOnce(&mut [u8])) -> Result {
        let folio = self.current.as_mut().ok_or(EINVAL)?;
        fill(folio.bytes.get_mut(offset..offset + len).ok_or(EINVAL)?);
        self.position += len as u64;
        if self.position == folio.end() {
            if let Some(folio) = self.current.take() {
                self.publish(folio);
            }
        }
        Ok(())
    }

    /// From here on whoever looks for it finds it (`folio_end_read`).
    fn publish(&mut self, folio: LockedFolio) {
        let size = folio.bytes.len();
        let folios = &mut self.cache.folios;
        folios.insert(folio.position, (size, Some(folio.bytes)));
    }
}

impl Drop for ReadWindow<'_> {
    fn drop(&mut self) {
        // Folios that nobody has taken are taken out of the page cache again (`read_pages`).
        for (position, _) in self.rest.iter_mut().flat_map(|rest| rest.drain(..)) {
            self.cache.folios.remove(&position);
        }
    }
}
