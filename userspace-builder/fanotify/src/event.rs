// SPDX-License-Identifier: Apache-2.0
//! Events as the kernel writes them (`struct fanotify_event_metadata` of linux/fanotify.h, and what follows it).

use std::io::{Error, ErrorKind, Result};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

/// Bytes of `struct fanotify_event_metadata`: length (4), version (1), reserved (1), length of the fixed part (2), mask
/// (8), descriptor (4), process (4).
const HEAD: usize = 24;
const VERSION: u8 = 3;
/// What says which bytes are to be read: header (type 1, padding 1, length 2), padding (4), offset (8), count (8).
const INFO_RANGE: u8 = 6;
const INFO_HEAD: usize = 4;

/// A read that waits for an answer.
#[derive(Debug)]
pub struct Event {
    /// The file, open as [`crate::Group::new`] says. What is read through it makes no event.
    pub(crate) file: OwnedFd,
    /// The process that reads, by its number in the listener's namespace; 0 if it is in another one.
    pub process: u32,
    /// The bytes that it wants, rounded to pages; those behind the file's end may be among them.
    pub range: Range<u64>,
}

impl Event {
    /// A read that an earlier process was told of, and has not answered. `file` is the same file, or any other if it is
    /// only to be answered: what counts is that its descriptor has the number that the event's had.
    pub fn again(file: OwnedFd, range: Range<u64>) -> Self {
        Event {
            file,
            process: 0,
            range,
        }
    }
}

impl AsFd for Event {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// What the kernel says of an event, before its descriptor is taken over.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    mask: u64,
    fd: RawFd,
    process: u32,
    range: Range<u64>,
}

/// The events in what was read from a group.
pub struct Events<'a> {
    rest: &'a [u8],
    own: fn(RawFd) -> OwnedFd,
}

impl<'a> Events<'a> {
    /// `own` takes a descriptor over that the kernel has just given.
    pub(crate) fn new(read: &'a [u8], own: fn(RawFd) -> OwnedFd) -> Self {
        Events { rest: read, own }
    }
}

impl Iterator for Events<'_> {
    type Item = Result<Event>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.rest.is_empty() {
                return None;
            }
            let said = match parse(&mut self.rest) {
                Ok(said) => said,
                Err(error) => {
                    self.rest = &[];
                    return Some(Err(error));
                }
            };
            // Without a descriptor nobody waits: the queue ran over.
            if said.fd >= 0 {
                return Some(Ok(Event {
                    file: (self.own)(said.fd),
                    process: said.process,
                    range: said.range,
                }));
            }
        }
    }
}

/// Takes an event from the front of `rest`.
fn parse(rest: &mut &[u8]) -> Result<Said> {
    let bad = |what: &str| Error::new(ErrorKind::InvalidData, format!("a fanotify event {what}"));
    let len = u32_at(rest, 0).ok_or_else(|| bad("is cut"))? as usize;
    let event = rest.get(..len).filter(|event| event.len() >= HEAD);
    let event = event.ok_or_else(|| bad("has a wrong length"))?;
    if event[4] != VERSION {
        return Err(bad("is of another version"));
    }
    let fixed = usize::from(u16_at(event, 6).unwrap_or(0));
    let mut said = Said {
        mask: u64_at(event, 8).unwrap_or(0),
        fd: u32_at(event, 16).unwrap_or(0) as RawFd,
        process: u32_at(event, 20).unwrap_or(0),
        // All of the file, if nothing is said.
        range: 0..u64::MAX,
    };
    let mut infos = event
        .get(fixed..)
        .ok_or_else(|| bad("has a wrong length"))?;
    while infos.len() >= INFO_HEAD {
        let len = usize::from(u16_at(infos, 2).unwrap_or(0));
        let info = infos.get(..len).filter(|info| info.len() >= INFO_HEAD);
        let info = info.ok_or_else(|| bad("has a wrong length"))?;
        if let (INFO_RANGE, Some(start), Some(count)) = (info[0], u64_at(info, 8), u64_at(info, 16))
        {
            said.range = start..start.saturating_add(count);
        }
        infos = &infos[len..];
    }
    *rest = &rest[len..];
    Ok(said)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An event of process 7 with descriptor `fd`, and what follows the fixed part.
    fn event(fd: i32, more: &[u8]) -> Vec<u8> {
        let len = (HEAD + more.len()) as u32;
        let mut bytes = len.to_ne_bytes().to_vec();
        bytes.extend([VERSION, 0]);
        bytes.extend((HEAD as u16).to_ne_bytes());
        bytes.extend(0x0010_0000u64.to_ne_bytes());
        bytes.extend(fd.to_ne_bytes());
        bytes.extend(7u32.to_ne_bytes());
        bytes.extend(more);
        bytes
    }

    fn range(start: u64, count: u64) -> Vec<u8> {
        let mut bytes = vec![INFO_RANGE, 0];
        bytes.extend(24u16.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(start.to_ne_bytes());
        bytes.extend(count.to_ne_bytes());
        bytes
    }

    #[test]
    fn events_say_who_reads_what() {
        // Something unknown stands before the range.
        let mut more = vec![9, 0, 8, 0, 1, 2, 3, 4];
        more.extend(range(4096, 8192));
        let both = [event(5, &more), event(-1, &[])].concat();
        let mut rest = &both[..];
        let said = parse(&mut rest).unwrap();
        assert_eq!((said.fd, said.process, said.range), (5, 7, 4096..12288));
        let said = parse(&mut rest).unwrap();
        assert_eq!((said.fd, said.range), (-1, 0..u64::MAX));
        assert!(rest.is_empty());
    }

    #[test]
    fn what_is_no_event_is_refused() {
        let good = event(5, &range(0, 1));
        for len in 1..good.len() {
            assert!(parse(&mut &good[..len]).is_err(), "{len} bytes");
        }
        for (at, byte) in [(0, 23), (4, 2), (7, 1), (HEAD + 2, 3), (HEAD + 2, 200)] {
            let mut bad = good.clone();
            bad[at] = byte;
            assert!(parse(&mut &bad[..]).is_err(), "byte {at} is {byte}");
        }
        assert_eq!(
            parse(&mut &event(5, &range(u64::MAX, 9))[..])
                .unwrap()
                .range
                .end,
            u64::MAX
        );
    }
}
