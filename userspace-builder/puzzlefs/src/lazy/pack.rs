// SPDX-License-Identifier: Apache-2.0
//! A pack of which not all chunks are there, open to be written to.

use std::fs::File;
use std::io::{BufReader, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Mutex;

use anyhow::{ensure, Context};
use puzzlefs_format::{Digest, PackEntry};
use sha2::{Digest as _, Sha256};

use crate::base::digest::sha256;
use crate::base::error::{Error, Result, Where};
use crate::chunks::pack::{end_of, End};
use crate::chunks::presence::Presence;
use crate::layout::Layout;

/// Bytes of a page: reads are told of in pages.
const PAGE: u64 = 4096;

/// Such a pack.
pub struct Pack {
    layout: Layout,
    /// Its name.
    pub digest: Digest,
    /// Its bytes when it is whole.
    pub size: u64,
    /// Its end, which is there.
    pub end: End,
    /// Where it can be had, the likeliest first.
    pub sources: Vec<String>,
    /// What was there when it was opened.
    pub present: Presence,
    file: File,
    /// Whether it is the record of this file that the layout has, if it has one.
    is_recorded: bool,
    /// Held by who writes a record.
    syncing: Mutex<()>,
    /// It was looked at as a whole.
    ended: AtomicBool,
    /// It is what its name says, and has no record any more.
    is_done: AtomicBool,
}

impl Pack {
    /// Opens a pack; `None` if it has no record, so that all of it is there.
    ///
    /// # Errors
    ///
    /// If the record is damaged, or the file has another end than it says.
    pub fn open(layout: &Layout, digest: &Digest) -> Result<Option<Self>> {
        let Some(present) = Presence::load(layout, digest)? else {
            return Ok(None);
        };
        let file = layout.open_lazy(digest)?;
        Self::of(layout, present, file, true).map(Some)
    }

    /// A file that was a lazy pack of the layout, and lost its name while somebody had it open. `file` is open to be
    /// read and written. What comes is written, and nothing recorded: a record that is there is of another file.
    ///
    /// # Errors
    ///
    /// If it has another end than `present` says.
    pub fn nameless(layout: &Layout, present: Presence, file: File) -> Result<Self> {
        Self::of(layout, present, file, false)
    }

    fn of(layout: &Layout, present: Presence, file: File, is_recorded: bool) -> Result<Self> {
        let digest = present.pack;
        let context = || format!("the lazy pack sha256:{digest}");
        let end = End::of_file(&file).with_context(context).of(&digest)?;
        let size = end.start + end.bytes.len() as u64;
        if !present.is_of(&end) || size != present.size || !end.is_dense() {
            let text = format!("{} has another end than its record says", context());
            return Err(Error::damaged(text).of(&digest));
        }
        Ok(Pack {
            layout: layout.clone(),
            digest,
            size,
            end,
            sources: present.sources.clone(),
            present,
            file,
            is_recorded,
            syncing: Mutex::default(),
            ended: AtomicBool::new(false),
            is_done: AtomicBool::new(false),
        })
    }

    /// The layout that it is a pack of.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Whether it is the file that a layout has under the name of this pack.
    pub fn is(&self, layout: &Layout, digest: &Digest) -> bool {
        self.is_recorded && self.digest == *digest && self.layout.path() == layout.path()
    }

    /// The file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The numbers of the chunks that have bytes in `range`.
    pub fn chunks_in(&self, range: &Range<u64>) -> Range<usize> {
        let entries = &self.end.entries;
        let first = entries.partition_point(|entry| end_of(entry) <= range.start);
        let last = entries.partition_point(|entry| u64::from(entry.offset) < range.end);
        first..last.max(first)
    }

    /// The numbers of the chunks that whoever reads `range`, which begins with a page, waits for.
    ///
    /// The page in which the end of the pack begins may have bytes of chunks, too. Who reads from there on, and beyond that
    /// page, reads the end; and who does not goes beyond no chunk. A chunk is read from its beginning: one that begins in an
    /// earlier page is not what is read either.
    pub fn chunks_read(&self, range: &Range<u64>) -> Range<usize> {
        let chunks = self.chunks_in(range);
        let page = self.end.start / PAGE * PAGE;
        // Without an end nothing was said.
        if range.start != page || range.end == u64::MAX {
            return chunks;
        }
        if range.end > page + PAGE {
            return chunks.end..chunks.end;
        }
        let entries = &self.end.entries;
        let first = entries.partition_point(|entry| u64::from(entry.offset) < range.start);
        first.min(chunks.end)..chunks.end
    }

    /// The number of the chunk that begins at `offset`.
    pub fn chunk_at(&self, offset: u32) -> Option<usize> {
        let entries = &self.end.entries;
        entries.binary_search_by_key(&offset, |it| it.offset).ok()
    }

    /// The chunk of this number.
    pub fn chunk(&self, number: usize) -> Option<&PackEntry> {
        self.end.entries.get(number)
    }

    /// Writes a chunk, if `bytes` are it.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] if they are not: then nothing was written.
    pub fn write(&self, number: usize, bytes: &[u8]) -> Result<()> {
        let entry = self
            .chunk(number)
            .context("a chunk that the pack has not")?;
        let digest = &entry.digest;
        if sha256(&[bytes]) != *digest {
            let text = format!(
                "something else came than the chunk sha256:{digest} of the pack sha256:{}",
                self.digest
            );
            return Err(Error::damaged(text).of(digest));
        }
        let written = self.file.write_all_at(bytes, entry.offset.into());
        let context = || format!("writing into the pack sha256:{}", self.digest);
        written.with_context(context).of(&self.digest)
    }

    /// Brings all that was written to the disk.
    ///
    /// # Errors
    ///
    /// Then nobody knows what of it is there: it may be gone once nobody has it in memory.
    pub fn sync(&self) -> Result<()> {
        if !self.is_recorded {
            return Ok(());
        }
        let synced = self.file.sync_data();
        let context = || format!("syncing the pack sha256:{}", self.digest);
        synced.with_context(context).of(&self.digest)
    }

    /// Records that `chunks` are there, which are on the disk.
    pub fn record(&self, chunks: &[usize]) -> Result<()> {
        if !self.is_recorded {
            return Ok(());
        }
        // One at a time: each writes a whole record.
        let _held = self.syncing.lock().unwrap_or_else(|e| e.into_inner());
        Presence::record(&self.layout, &self.digest, &self.end, chunks)
    }

    /// Ends a pack of which all chunks were recorded, once: it has no record any more, if it is what its name says.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] if it is not. Its chunks are what its end says, so the end is not what belongs to the name:
    /// whoever has given it has lied.
    pub fn finish(&self) -> Result<()> {
        if !self.is_recorded || self.ended.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        let _held = self.syncing.lock().unwrap_or_else(|e| e.into_inner());
        let context = || format!("reading the pack sha256:{}", self.digest);
        let found = self
            .digest_of_file()
            .with_context(context)
            .of(&self.digest)?;
        if found != self.digest {
            let text = format!(
                "the pack sha256:{} has the digest sha256:{found}, as its source gave another end than belongs to it: \
                 remove its images, `puzzlefs gc`, and pull them from elsewhere",
                self.digest
            );
            return Err(Error::damaged(text).of(&self.digest));
        }
        self.layout.forget_lazy(&self.digest)?;
        self.is_done.store(true, Ordering::Release);
        Ok(())
    }

    /// Whether it is what its name says, and has no record any more.
    pub fn is_done(&self) -> bool {
        self.is_done.load(Ordering::Acquire)
    }

    fn digest_of_file(&self) -> anyhow::Result<Digest> {
        // By offsets, as others use the same descriptor.
        struct At<'a>(&'a File, u64);
        impl Read for At<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
                let read = self.0.read_at(buffer, self.1)?;
                self.1 += read as u64;
                Ok(read)
            }
        }
        let mut hash = Sha256::new();
        let mut file = BufReader::with_capacity(256 << 10, At(&self.file, 0));
        let read = std::io::copy(&mut file, &mut hash)?;
        ensure!(read == self.size, "it has {read} bytes of {}", self.size);
        Ok(Digest::from_bytes(hash.finalize().into()))
    }
}
