// SPDX-License-Identifier: Apache-2.0
//! The records of packs of which not all chunks are there (FORMAT.md, section 2.3), as files: what they say is
//! [`crate::chunks::presence`]'s.
//!
//! A pack that has a record is not looked at as a whole by anybody: it has not the digest that its name says.

use std::fs::File;
use std::io::{ErrorKind, Read};

use anyhow::Context;
use puzzlefs_format::Digest;
use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::base::error::{Error, Result, Where};
use crate::host::dir::Dir;
use crate::layout::lock::Lock;
use crate::layout::{Layout, LAYOUT_FILE};

/// The directory of the records, in the layout.
const LAZY: &str = "puzzlefs-lazy";
/// Bytes of a record: one for 400,000 chunks has half of it.
const MAX_RECORD: u64 = 256 << 10;

/// What [`Layout::serve_alone`] gives: a flock(2) of the file `oci-layout`.
pub(crate) struct ServeLock(#[allow(dead_code, reason = "it is held, not used")] File);

impl Layout {
    /// The directory of the records, if there is one.
    fn lazy_dir(&self) -> Result<Option<Dir>> {
        match self.root.subdir(LAZY) {
            Ok(dir) => Ok(Some(dir)),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => {
                let path = self.path.join(LAZY);
                Err(e)
                    .with_context(|| format!("opening {}", path.display()))
                    .at(&path)
            }
        }
    }

    /// Whether not all chunks of a pack are there: it has a record, whatever that says.
    pub fn is_lazy(&self, pack: &Digest) -> Result<bool> {
        match self.lazy_dir()? {
            None => Ok(false),
            Some(dir) => Ok(dir.has(&pack.to_string())?),
        }
    }

    /// Refuses a pack of which not all chunks are there, for what needs them all.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`], which says what to do.
    pub fn ensure_whole(&self, pack: &Digest) -> Result<()> {
        match self.is_lazy(pack)? {
            false => Ok(()),
            true => {
                let text = format!("the pack sha256:{pack} is not here as a whole yet: {COMPLETE}");
                Err(Error::refused(text).of(pack))
            }
        }
    }

    /// Those of some packs that are there as a whole, as far as records say.
    pub fn only_whole(&self, packs: impl IntoIterator<Item = Digest>) -> Result<Vec<Digest>> {
        let mut whole = Vec::new();
        for pack in packs {
            if !self.is_lazy(&pack)? {
                whole.push(pack);
            }
        }
        Ok(whole)
    }

    /// The packs that have records, there or not, in order of their digests.
    pub fn lazy_packs(&self) -> Result<Vec<Digest>> {
        let mut packs = Vec::new();
        for name in self.lazy_dir()?.map_or(Ok(Vec::new()), |dir| dir.names())? {
            packs.extend(Digest::parse(name.as_encoded_bytes()).ok());
        }
        packs.sort_unstable();
        Ok(packs)
    }

    /// The record of a pack, if it has one.
    pub(crate) fn lazy_record(&self, pack: &Digest) -> Result<Option<Vec<u8>>> {
        let Some(dir) = self.lazy_dir()? else {
            return Ok(None);
        };
        let context = || format!("reading the record of the lazy pack sha256:{pack}");
        let file = match dir.file(&pack.to_string()) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            file => file.with_context(context).of(pack)?,
        };
        let mut text = Vec::new();
        let read = file.take(MAX_RECORD + 1).read_to_end(&mut text);
        read.with_context(context).of(pack)?;
        match text.len() as u64 > MAX_RECORD {
            true => Err(Error::damaged(context()).of(pack)),
            false => Ok(Some(text)),
        }
    }

    /// Lets `change` make another record of a pack's; of `None` there is, or shall be, none. Nobody else changes
    /// records meanwhile. The new one is durable.
    pub(crate) fn change_lazy(
        &self,
        pack: &Digest,
        change: impl FnOnce(Option<Vec<u8>>) -> Result<Option<Vec<u8>>>,
    ) -> Result<()> {
        let made = match self.root.make(LAZY) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(()),
            made => made,
        };
        let path = self.path.join(LAZY);
        let context = || format!("making {}", path.display());
        made.with_context(context).at(&path)?;
        let dir = self.root.subdir(LAZY).with_context(context).at(&path)?;
        let lock = Lock::new(&path, &dir)?;
        let old = self.lazy_record(pack)?;
        let was_there = old.is_some();
        match change(old)? {
            Some(text) => Ok(lock.replace(&pack.to_string(), &text)?),
            None if was_there => Ok(dir.remove(pack.to_string())?),
            None => Ok(()),
        }
    }

    /// Opens a lazy pack, to be read and written.
    pub(crate) fn open_lazy(&self, pack: &Digest) -> Result<File> {
        let opened = self
            .blob_dir()
            .and_then(|dir| dir.file_to_fill(&pack.to_string()));
        let path = self.blob_path(pack);
        opened
            .with_context(|| format!("opening {}", path.display()))
            .at(&path)
            .of(pack)
    }

    /// Keeps other daemons from serving this layout, until it is dropped. Of two that answer for one pack, each would wait for
    /// the other one's leave to write what a reader waits for.
    pub(crate) fn serve_alone(&self) -> Result<ServeLock> {
        let path = self.path.join(LAYOUT_FILE);
        let file = self.root.file(LAYOUT_FILE);
        let file = file
            .with_context(|| format!("opening {}", path.display()))
            .at(&path)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(ServeLock(file)),
            Err(Errno::WOULDBLOCK) => {
                let path = self.path.display();
                let text =
                    format!("another puzzlefs daemon serves {path}: one may have several layouts");
                Err(Error::refused(text).at(&self.path))
            }
            Err(error) => Err(error)
                .with_context(|| format!("locking {}", path.display()))
                .at(&path),
        }
    }

    /// Removes the record of a pack, if it has one: it is there as a whole, or not at all any more.
    pub(crate) fn forget_lazy(&self, pack: &Digest) -> Result<()> {
        self.forget_lazy_if(pack, || Ok(true))
    }

    /// The same, if it is the record of what `is_it`, which is asked while nobody else changes records.
    pub(crate) fn forget_lazy_if(
        &self,
        pack: &Digest,
        is_it: impl FnOnce() -> Result<bool>,
    ) -> Result<()> {
        match self.is_lazy(pack)? {
            true => self.change_lazy(pack, |old| Ok(old.filter(|_| !matches!(is_it(), Ok(true))))),
            false => Ok(()),
        }
    }
}

/// What to do about a pack that is not there as a whole.
pub(crate) const COMPLETE: &str =
    "`puzzlefs complete OCI_DIR:TAG` fetches the rest, and so does a running `puzzlefs daemon`";
