// SPDX-License-Identifier: Apache-2.0
//! Which pack a file is that somebody reads.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::sync::{Mutex, PoisonError};

use puzzlefs_format::Digest;

use crate::base::error::Result;
use crate::chunks::pack::End;
use crate::chunks::presence::Presence;
use crate::layout::Layout;
use crate::lazy::{Engine, Pack};

/// What follows the name of a file that has none any more (proc_pid_fd(5)).
const DELETED: &[u8] = b" (deleted)";

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// A pack of the engine, by its number.
    Pack(usize),
    /// A blob that is there as a whole.
    Whole,
    /// Something that is nobody's business.
    Other,
}

/// Files that were met, by device and inode.
#[derive(Default)]
pub struct Files(Mutex<HashMap<(u64, u64), usize>>);

impl Files {
    /// Notes all lazy packs of a layout that are not known yet; says of each that cannot be filled why not.
    pub fn look(&self, layout: &Layout, engine: &Engine<'_>) -> Vec<crate::Error> {
        let mut faults = Vec::new();
        let packs = layout.lazy_packs();
        for digest in packs.unwrap_or_default() {
            // A record without a file is of a pull that is under way.
            if let (Err(error), Ok(true)) = (
                self.named(layout, &digest, engine),
                layout.names_blob(&digest),
            ) {
                faults.push(error);
            }
        }
        faults
    }

    /// Forgets packs that are done, and closes them. Whoever reads one then is told that it is there as a whole.
    pub fn release(&self, engine: &Engine<'_>) {
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // While they are open their inode numbers are not given to other files.
        let done = files
            .values()
            .copied()
            .filter(|number| engine.is_done(*number));
        let done: Vec<usize> = done.collect();
        files.retain(|_, number| !done.contains(number));
        drop(files);
        done.into_iter().for_each(|number| engine.release(number));
    }

    /// The lazy pack of this name.
    fn named(
        &self,
        layout: &Layout,
        digest: &Digest,
        engine: &Engine<'_>,
    ) -> Result<Option<usize>> {
        let place = {
            let status = layout.blob_dir()?.status(digest.to_string())?;
            (status.st_dev, status.st_ino)
        };
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(number) = files.get(&place) {
            return Ok(Some(*number));
        }
        let Some(pack) = Pack::open(layout, digest)? else {
            return Ok(None);
        };
        let opened = pack.file().metadata()?;
        let number = engine.add(pack);
        files.insert((opened.dev(), opened.ino()), number);
        Ok(Some(number))
    }

    /// What `file` is, which was read in a directory of blobs of one of `layouts`.
    pub fn of(&self, file: &File, layouts: &[Layout], engine: &Engine<'_>) -> Result<Known> {
        let facts = file.metadata()?;
        let place = (facts.dev(), facts.ino());
        let known = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&place)
            .copied();
        if let Some(number) = known {
            return Ok(Known::Pack(number));
        }
        let Some(digest) = name_of(file) else {
            return Ok(Known::Other);
        };
        for layout in layouts {
            let named = layout
                .blob_dir()
                .and_then(|dir| dir.status(digest.to_string()));
            let is_it = named.is_ok_and(|named| (named.st_dev, named.st_ino) == place);
            if is_it {
                return Ok(match self.named(layout, &digest, engine)? {
                    Some(number) => Known::Pack(number),
                    None => Known::Whole,
                });
            }
        }
        self.replaced(file, &digest, layouts, engine)
    }

    /// A lazy pack that has lost its name to another file, and that a mount has still open. What is there of it nobody
    /// knows.
    fn replaced(
        &self,
        file: &File,
        digest: &Digest,
        layouts: &[Layout],
        engine: &Engine<'_>,
    ) -> Result<Known> {
        let end = End::of_file(file)?;
        let mut sources = Vec::new();
        for layout in layouts {
            if let Some(record) = Presence::load(layout, digest)? {
                sources.extend(record.sources);
            } else if layout.names_blob(digest)? {
                let path = layout.path().canonicalize()?;
                sources.push(format!("oci:{}@sha256:{digest}", path.display()));
            }
        }
        let Some(layout) = layouts.first().filter(|_| !sources.is_empty()) else {
            return Ok(Known::Other);
        };
        let present = Presence::none(digest, &end, sources);
        let facts = file.metadata()?;
        let pack = Pack::nameless(layout, present, again(file)?)?;
        let number = engine.add(pack);
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        files.insert((facts.dev(), facts.ino()), number);
        Ok(Known::Pack(number))
    }
}

/// The digest that a file has, or had, as its name.
pub fn name_of(file: impl AsFd) -> Option<Digest> {
    let fd = file.as_fd().as_raw_fd();
    let path = std::fs::read_link(format!("/proc/self/fd/{fd}")).ok()?;
    let path = path.as_os_str().as_bytes();
    let path = path.strip_suffix(DELETED).unwrap_or(path);
    let name = path.rsplit(|byte| *byte == b'/').next()?;
    Digest::parse(name).ok()
}

/// The same file once more, to be read and written.
fn again(file: &File) -> Result<File> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(OpenOptions::new().read(true).write(true).open(path)?)
}
