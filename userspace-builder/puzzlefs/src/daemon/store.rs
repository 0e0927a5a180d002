// SPDX-License-Identifier: Apache-2.0
//! What systemd keeps while this process is not there (FileDescriptorStoreMax=, sd_pid_notify_with_fds(3)): the
//! descriptor of the events, so that readers wait, and a journal of those that have no answer yet, so that they get one.
//!
//! The kernel knows an event by the number of its descriptor. So a successor answers by that number, and sees to it that
//! no event of its own has the same: it opens the file under that number again. What the journal does not know, as the
//! process died in the moment between, fails with `EIO`.

use std::fs::File;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileExt, MetadataExt};

use anyhow::{Context, Result};
use puzzlefs_fanotify::{inherited, Event, Group};
use puzzlefs_format::Digest;
use rustix::fs::{memfd_create, MemfdFlags};
use rustix::io::fcntl_dupfd_cloexec;

use super::known::name_of;
use super::notify::{self, Kept};
use crate::layout::Layout;

/// What they are called there.
const GROUP: &str = "events";
const JOURNAL: &str = "journal";
/// Events have smaller numbers, whose place in the journal they are.
const SLOTS: usize = 4096;
const SLOT: usize = 128;
/// Where descriptors are moved to that are in the way. No event has such a number unless 900 wait.
const AWAY: RawFd = 960;

/// The events that have no answer yet, in memory that outlives the process.
pub struct Journal(File);

/// An event of the journal, which has its number for itself.
struct Old {
    number: RawFd,
    /// A descriptor with that number.
    place: OwnedFd,
    range: Range<u64>,
    /// Device and inode of the file, and its name.
    file: (u64, u64),
    digest: Option<Digest>,
}

/// What an earlier process has left.
pub struct Inherited {
    group: OwnedFd,
    journal: Journal,
    events: Vec<Old>,
}

/// What an earlier process has left, if systemd has kept it. To be asked before anything is opened.
///
/// # Errors
///
/// If a number that an event has is in use here.
pub fn inherit() -> crate::Result<Option<Inherited>> {
    let names = notify::passed();
    let fds = inherited(names.len());
    // Out of the way of the numbers of events.
    let moved = fds
        .into_iter()
        .map(|fd| match fcntl_dupfd_cloexec(&fd, AWAY) {
            Ok(moved) => moved,
            Err(_) => fd,
        });
    let (mut group, mut journal) = (None, None);
    for (name, fd) in names.iter().zip(moved.collect::<Vec<_>>()) {
        match &**name {
            GROUP => group = Some(fd),
            JOURNAL => journal = Some(Journal(File::from(fd))),
            _ => {}
        }
    }
    let (Some(group), Some(journal)) = (group, journal) else {
        return Ok(None);
    };
    let events = journal.events()?;
    Ok(Some(Inherited {
        group,
        journal,
        events,
    }))
}

impl Inherited {
    /// The group of before, the journal, and the events that have no answer: those of which the file is not there any
    /// more are answered.
    pub fn take(self, layouts: &[Layout]) -> Result<(Group, Journal, Vec<Event>)> {
        let group = Group::from(self.group);
        for number in 0..SLOTS as RawFd {
            if !self.events.iter().any(|old| old.number == number) {
                group.fail(number)?;
            }
        }
        let mut events = Vec::new();
        for old in self.events {
            let (number, range) = (old.number, old.range.clone());
            match old.open(layouts) {
                Some(file) => events.push(Event::again(file, range)),
                None => {
                    group.fail(number)?;
                    self.journal.clear(number)?;
                }
            }
        }
        Ok((group, self.journal, events))
    }
}

impl Old {
    /// The file, under the number of the event.
    fn open(self, layouts: &[Layout]) -> Option<OwnedFd> {
        let digest = self.digest?;
        let is_it = |file: &File| {
            let facts = file.metadata();
            facts.is_ok_and(|facts| (facts.dev(), facts.ino()) == self.file)
        };
        let files = layouts.iter().flat_map(|it| it.open_blob(&digest));
        let file = files.into_iter().find(is_it)?;
        drop(self.place);
        let placed = fcntl_dupfd_cloexec(&file, self.number).ok()?;
        (placed.as_raw_fd() == self.number).then_some(placed)
    }
}

impl Journal {
    /// A new one, which systemd keeps with the group, if it keeps anything.
    pub fn begin(group: &Group) -> Result<Option<Self>> {
        if !notify::is_there() {
            return Ok(None);
        }
        let memory = memfd_create("puzzlefs-journal", MemfdFlags::CLOEXEC);
        let memory = File::from(memory.context("memory for the journal")?);
        memory.set_len((SLOTS * SLOT) as u64)?;
        let is_kept = |name, fd| notify::keep(name, fd) == Kept::Sent;
        let is_kept = is_kept(GROUP, group.as_fd()) && is_kept(JOURNAL, memory.as_fd());
        Ok(is_kept.then_some(Journal(memory)))
    }

    /// Notes an event that was read.
    pub fn put(&self, event: &Event) -> Result<()> {
        let number = event.as_fd().as_raw_fd();
        let facts = rustix::fs::fstat(event)?;
        let digest = name_of(event);
        let mut slot = [0; SLOT];
        let words = [
            1,
            event.range.start,
            event.range.end,
            facts.st_dev,
            facts.st_ino,
            u64::from(digest.is_some()),
        ];
        for (place, word) in slot.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        if let Some(digest) = digest {
            slot[48..80].copy_from_slice(digest.as_bytes());
        }
        match usize::try_from(number) {
            Ok(place) if place < SLOTS => Ok(self.0.write_all_at(&slot, (place * SLOT) as u64)?),
            // So many wait that this one fails if the process dies.
            _ => Ok(()),
        }
    }

    /// Notes that an event has its answer.
    pub fn clear(&self, number: RawFd) -> Result<()> {
        match usize::try_from(number) {
            Ok(place) if place < SLOTS => {
                Ok(self.0.write_all_at(&[0; 8], (place * SLOT) as u64)?)
            }
            _ => Ok(()),
        }
    }

    /// The events that have no answer. Their numbers are in use from now on.
    fn events(&self) -> Result<Vec<Old>> {
        let mut all = vec![0; SLOTS * SLOT];
        self.0
            .read_exact_at(&mut all, 0)
            .context("the journal of events")?;
        let null = File::open("/dev/null")?;
        // One more, so that it is none of the numbers itself.
        let null = fcntl_dupfd_cloexec(&null, AWAY).unwrap_or(null.into());
        let mut events = Vec::new();
        for (number, slot) in all.chunks_exact(SLOT).enumerate() {
            let mut words = slot.chunks_exact(8).map(|word| {
                let word = word.try_into().unwrap_or_default();
                u64::from_ne_bytes(word)
            });
            let mut word = || words.next().unwrap_or_default();
            let (is_used, start, end, dev, ino, has_digest) =
                (word(), word(), word(), word(), word(), word());
            if is_used != 1 {
                continue;
            }
            let number = RawFd::try_from(number)?;
            let place = fcntl_dupfd_cloexec(&null, number)?;
            anyhow::ensure!(
                place.as_raw_fd() == number,
                "the number {number} of an event is in use"
            );
            let digest = slot[48..80].try_into().map(Digest::from_bytes);
            events.push(Old {
                number,
                place,
                range: start..end,
                file: (dev, ino),
                digest: digest.ok().filter(|_| has_digest == 1),
            });
        }
        Ok(events)
    }
}
