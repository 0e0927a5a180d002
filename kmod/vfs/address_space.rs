// SPDX-License-Identifier: GPL-2.0

//! The page cache of a file (`struct address_space`).

use crate::{
    bindings, file,
    filesystem::FileSystem,
    folio::{self, LockedFolio},
    output::Output,
    parallel,
    task::without_fs_reclaim,
};
use core::{marker::PhantomData, mem::MaybeUninit, ops::Range, ptr::NonNull};
use kernel::{error::from_result, page::PAGE_SIZE, prelude::*};

/// A range of a file that the page cache asks for: folios one after another, all locked.
/// They are filled from the front; each is published as soon as it is full.
pub struct ReadWindow<'a> {
    /// The folio being filled.
    current: Option<LockedFolio<'a>>,
    /// Where the folios after `current` come from, if there are any.
    rest: Option<&'a mut bindings::readahead_control>,
    /// The next byte to fill.
    position: u64,
    /// The end of the window.
    end: u64,
    /// Whether a folio was taken out of `rest`.
    is_begun: bool,
}

impl<'a> ReadWindow<'a> {
    fn folio(folio: LockedFolio<'a>) -> Self {
        let position = folio.position();
        Self {
            end: folio.end(),
            current: Some(folio),
            rest: None,
            position,
            is_begun: true,
        }
    }

    fn readahead(control: &'a mut bindings::readahead_control) -> Self {
        let mut window = Self {
            current: None,
            rest: Some(control),
            position: 0,
            end: 0,
            is_begun: false,
        };
        window.update();
        window
    }

    /// Takes position and end from the readahead control, before the first folio.
    fn update(&mut self) {
        if let Some(control) = &self.rest {
            // SAFETY: The control is valid. A position in a file is not negative.
            unsafe {
                self.position = bindings::vfs_rs_readahead_pos(&raw const **control)
                    .try_into()
                    .unwrap_or(0);
                self.end = self
                    .position
                    .saturating_add(bindings::vfs_rs_readahead_length(&raw const **control) as u64);
            }
        }
    }

    /// The position in the file of the next byte to fill.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// How many bytes are left to fill.
    pub fn remaining(&self) -> u64 {
        self.end.saturating_sub(self.position)
    }

    /// Asks for the window to cover `start..end` too, as far as the page cache lets it
    /// (`readahead_expand`). Only before the first byte is filled.
    pub fn expand(&mut self, start: u64, end: u64) {
        let (false, Some(control)) = (self.is_begun, &mut self.rest) else {
            return;
        };
        let end = end.max(self.end);
        // The end first: at a folio that is there already, `readahead_expand` gives up, and
        // it begins with the begin, where that is likely.
        for start in [self.position, start.min(self.position)] {
            let len = end.saturating_sub(start);
            if let (Ok(start), Ok(len)) = (start.try_into(), len.try_into()) {
                // SAFETY: The control is valid and no folio was taken out of it.
                unsafe { bindings::readahead_expand(*control, start, len) };
            }
        }
        self.update();
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
            self.fill(len, |folio| folio.write(offset, head))?;
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
            self.fill(part, |folio| folio.zero(offset, part))?;
            len = len.saturating_sub(part as u64);
        }
        Ok(())
    }

    /// Fills the next `len` bytes, at most [`ReadWindow::remaining`], by `fill`, which is to
    /// write all of them.
    ///
    /// # Errors
    ///
    /// `EINVAL` when they are too many, `EIO` when `fill` has not written all, `ENOMEM`, and
    /// those of `fill`.
    pub fn fill_with(
        &mut self,
        len: usize,
        fill: impl FnOnce(&mut Output<'_>) -> Result,
    ) -> Result {
        self.fill_folios(len, |_, memory| {
            Output::fill(memory, fill)?;
            Ok(KVec::new())
        })
    }

    /// Fills the next bytes, at most [`ReadWindow::remaining`], part by part, by `fill`, which
    /// is to write each, possibly in several tasks at once ([`parallel::for_each`]). Returns how
    /// many other tasks filled. Of parts that fail, nothing is published, nor is the rest of the
    /// folios that they begin and end in.
    ///
    /// # Errors
    ///
    /// `EINVAL` when they are too many, `ENOMEM`, and of the parts the first one, as of
    /// [`ReadWindow::fill_with`]: what follows in the window cannot be filled any more then.
    pub fn fill_parts<T: Send>(
        &mut self,
        parts: &mut [(usize, T)],
        fill: impl Fn(&mut T, &mut Output<'_>) -> Result + Sync,
    ) -> Result<usize> {
        let len = parts.iter().map(|(len, _)| *len).sum();
        let mut result = Ok(());
        let mut helped = 0;
        self.fill_folios(len, |mut position, mut rest| {
            let mut jobs = KVec::with_capacity(parts.len(), GFP_KERNEL)?;
            for (len, part) in parts {
                let (memory, behind) = rest.split_at_mut_checked(*len).ok_or(EINVAL)?;
                jobs.push((part, memory, Ok(())), GFP_KERNEL)?;
                rest = behind;
            }
            helped = parallel::for_each(&mut jobs, |(part, memory, result)| {
                *result = Output::fill(memory, |output| fill(part, output)).map(|_| ())
            });
            let mut failed = KVec::new();
            for (_, memory, done) in jobs {
                let end = position + memory.len() as u64;
                if done.is_err() {
                    failed.push(position..end, GFP_KERNEL)?;
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
        fill: impl FnOnce(u64, &mut [MaybeUninit<u8>]) -> Result<KVec<Range<u64>>>,
    ) -> Result {
        let position = self.position;
        let end = position.saturating_add(len as u64);
        if len == 0 || end > self.end {
            return Err(EINVAL);
        }
        let mut folios = KVec::with_capacity(len / PAGE_SIZE + 2, GFP_KERNEL)?;
        let offset = loop {
            let folio = match self.current.take() {
                Some(folio) => folio,
                None => self.take_folio()?,
            };
            let is_last = folio.end() >= end;
            folios.push(folio, GFP_KERNEL)?;
            if is_last {
                let start = folios.first().ok_or(EINVAL)?.position();
                break position.checked_sub(start).ok_or(EINVAL)?;
            }
        };
        let offset = usize::try_from(offset).map_err(|_| EINVAL)?;
        let failed = folio::with_contiguous(&mut folios, |memory| {
            let memory = memory
                .get_mut(offset..)
                .and_then(|rest| rest.get_mut(..len));
            fill(position, memory.ok_or(EINVAL)?)
        })?;
        self.position = end;
        for folio in folios {
            let is_in =
                |range: &Range<u64>| range.start < folio.end() && folio.position() < range.end;
            if failed.iter().any(is_in) {
                continue;
            }
            if folio.end() <= end {
                folio.complete();
            } else {
                self.current = Some(folio);
            }
        }
        Ok(())
    }

    /// Takes the next folio out of the readahead control.
    fn take_folio(&mut self) -> Result<LockedFolio<'a>> {
        self.is_begun = true;
        let control = self.rest.as_mut().ok_or(EINVAL)?;
        // SAFETY: The control is valid. The folios in it are locked for us and stay in the
        // page cache until they are unlocked.
        let folio = unsafe { bindings::vfs_rs_readahead_folio(*control) };
        let folio = NonNull::new(folio).ok_or(EINVAL)?;
        // SAFETY: As above.
        Ok(unsafe { LockedFolio::from_raw(folio) })
    }

    /// The offset in the current folio of the next byte, and how many of `len` bytes fit
    /// into it. Takes the next folio when there is no current one.
    fn next(&mut self, len: u64) -> Result<(usize, usize)> {
        let folio = match &self.current {
            Some(folio) => folio,
            None => {
                let folio = self.take_folio()?;
                self.current.insert(folio)
            }
        };
        let offset = self.position.checked_sub(folio.position()).ok_or(EINVAL)?;
        let offset = usize::try_from(offset).map_err(|_| EINVAL)?;
        let room = folio.size().checked_sub(offset).ok_or(EINVAL)?;
        let len = usize::try_from(len).unwrap_or(usize::MAX).min(room);
        Ok((offset, len))
    }

    /// Fills `len` bytes of the current folio by `fill`, and publishes it when it is full.
    fn fill(&mut self, len: usize, fill: impl FnOnce(&mut LockedFolio<'a>) -> Result) -> Result {
        let folio = self.current.as_mut().ok_or(EINVAL)?;
        fill(folio)?;
        self.position = self.position.saturating_add(len as u64);
        if self.position == folio.end() {
            if let Some(folio) = self.current.take() {
                folio.complete();
            }
        }
        Ok(())
    }
}

/// `address_space_operations` of the regular files of `T`.
pub(crate) struct Operations<T>(PhantomData<T>);

impl<T: FileSystem> Operations<T> {
    pub(crate) const TABLE: bindings::address_space_operations =
        bindings::address_space_operations {
            read_folio: Some(Self::read_folio),
            readahead: Some(Self::readahead),
            ..pin_init::zeroed()
        };

    /// # Safety
    ///
    /// Only to be called by the VFS, as `address_space_operations.read_folio`.
    unsafe extern "C" fn read_folio(
        file: *mut bindings::file,
        folio: *mut bindings::folio,
    ) -> c_int {
        from_result(|| {
            let folio = NonNull::new(folio).ok_or(EINVAL)?;
            // SAFETY: The VFS passes a locked folio of a regular file of `T`, and hands over
            // the lock; `file` is null or an open file.
            let (mut window, open) = unsafe {
                let mapping = bindings::vfs_rs_folio_mapping(folio.as_ptr());
                (
                    ReadWindow::folio(LockedFolio::from_raw(folio)),
                    file::Operations::<T>::open_file(file, mapping),
                )
            };
            let (inode, open) = open.ok_or(EIO)?;
            without_fs_reclaim(|| T::read(inode, open, &mut window))?;
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Only to be called by the VFS, as `address_space_operations.readahead`.
    unsafe extern "C" fn readahead(control: *mut bindings::readahead_control) {
        // SAFETY: The VFS passes a valid control of a regular file of `T` for this call.
        let (mut window, open) = unsafe {
            let (file, mapping) = ((*control).file, (*control).mapping);
            (
                ReadWindow::readahead(&mut *control),
                file::Operations::<T>::open_file(file, mapping),
            )
        };
        if let Some((inode, open)) = open {
            // Nobody waits for the error: folios that are not up to date are read again,
            // by `read_folio`, which reports it.
            let _ = T::read(inode, open, &mut window);
        }
    }
}
