// SPDX-License-Identifier: Apache-2.0
//! What supervisor and worker say to each other, a datagram each.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    recvmsg, sendmsg, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};

/// A read that waits: its number, and the bytes that it wants.
pub const ASKED: usize = 24;
/// What becomes of it.
const SAID: usize = 9;

/// What is to become of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    Allow,
    /// It goes on, and no other of this file is to be told of: all of it is there.
    Ignore,
    /// It fails.
    Fail,
}

const VERDICTS: [Verdict; 3] = [Verdict::Allow, Verdict::Ignore, Verdict::Fail];

/// Tells the worker of a read, with the file.
///
/// # Errors
///
/// `EAGAIN` if it has been told more than it has heard.
pub fn ask(to: impl AsFd, id: u64, range: &Range<u64>, file: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut bytes = [0; ASKED];
    for (place, number) in bytes.chunks_exact_mut(8).zip([id, range.start, range.end]) {
        place.copy_from_slice(&number.to_ne_bytes());
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut more = SendAncillaryBuffer::new(&mut space);
    let files = [file];
    more.push(SendAncillaryMessage::ScmRights(&files));
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    sendmsg(to, &[IoSlice::new(&bytes)], &mut more, flags).map(drop)
}

/// Waits for the next read; `None` when there is nobody any more who tells.
pub fn asked(from: impl AsFd) -> io::Result<Option<(u64, Range<u64>, OwnedFd)>> {
    let mut bytes = [0; ASKED];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut more = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let flags = RecvFlags::CMSG_CLOEXEC;
        match recvmsg(&from, &mut [IoSliceMut::new(&mut bytes)], &mut more, flags) {
            Err(Errno::INTR) => {}
            received => break received?,
        }
    };
    if received.bytes == 0 {
        return Ok(None);
    }
    let mut file = None;
    for message in more.drain() {
        if let RecvAncillaryMessage::ScmRights(files) = message {
            file = files.last().or(file);
        }
    }
    let mut numbers = bytes.chunks_exact(8).map(|part| {
        let part = part.try_into().unwrap_or_default();
        u64::from_ne_bytes(part)
    });
    let mut number = || numbers.next().unwrap_or_default();
    let (id, start, end) = (number(), number(), number());
    match file.filter(|_| received.bytes == ASKED) {
        Some(file) => Ok(Some((id, start..end, file))),
        None => Err(io::Error::from(io::ErrorKind::InvalidData)),
    }
}

/// Says what is to become of a read.
pub fn say(to: impl AsFd, id: u64, verdict: Verdict) -> io::Result<()> {
    let mut bytes = [0; SAID];
    bytes[..8].copy_from_slice(&id.to_ne_bytes());
    let place = VERDICTS.iter().position(|it| *it == verdict);
    bytes[8] = u8::try_from(place.unwrap_or(0)).unwrap_or(0);
    loop {
        match rustix::net::send(&to, &bytes, SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            sent => return Ok(sent.map(drop)?),
        }
    }
}

/// What was said, if anything was.
pub enum Heard {
    /// What is to become of this read.
    Verdict(u64, Verdict),
    /// Nothing yet.
    Nothing,
    /// The other one is gone.
    End,
}

/// Hears what is to become of a read, and waits for nothing.
pub fn heard(from: impl AsFd) -> Heard {
    let mut bytes = [0; SAID];
    match rustix::net::recv(&from, &mut bytes[..], RecvFlags::DONTWAIT) {
        Ok((SAID, _)) => {
            let id = bytes[..8].try_into().unwrap_or_default();
            let verdict = VERDICTS.get(usize::from(bytes[8]));
            let verdict = verdict.copied().unwrap_or(Verdict::Fail);
            Heard::Verdict(u64::from_ne_bytes(id), verdict)
        }
        Err(Errno::AGAIN | Errno::INTR) => Heard::Nothing,
        _ => Heard::End,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Seek, Write};

    use rustix::net::{socketpair, AddressFamily, SocketFlags, SocketType};

    use super::*;

    #[test]
    fn what_is_said_is_heard() {
        let flags = SocketFlags::CLOEXEC;
        let (a, b) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"of this file").unwrap();
        ask(&a, 7, &(4096..u64::MAX), file.as_fd()).unwrap();
        drop(file);
        let (id, range, copy) = asked(&b).unwrap().unwrap();
        assert_eq!((id, range), (7, 4096..u64::MAX));
        let (mut copy, mut text) = (File::from(copy), String::new());
        copy.rewind().unwrap();
        copy.read_to_string(&mut text).unwrap();
        assert_eq!(text, "of this file");
        assert!(matches!(heard(&a), Heard::Nothing));
        for verdict in VERDICTS {
            say(&b, 8, verdict).unwrap();
            assert!(matches!(heard(&a), Heard::Verdict(8, said) if said == verdict));
        }
        drop(a);
        assert!(asked(&b).unwrap().is_none());
    }
}
