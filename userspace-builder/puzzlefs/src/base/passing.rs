// SPDX-License-Identifier: Apache-2.0
//! A byte that is said to another process, with an open file if need be.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    recvmsg, sendmsg, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};

/// Says `said`, and passes `file`.
///
/// # Errors
///
/// Nobody is there, or hears it in time.
pub(crate) fn pass(to: impl AsFd, said: u8, file: BorrowedFd<'_>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut more = SendAncillaryBuffer::new(&mut space);
    let files = [file];
    more.push(SendAncillaryMessage::ScmRights(&files));
    loop {
        let said = [said];
        match sendmsg(&to, &[IoSlice::new(&said)], &mut more, SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            sent => return Ok(sent.map(drop)?),
        }
    }
}

/// Hears a byte, and takes the file that was passed with it. Others that were passed are closed.
///
/// # Errors
///
/// Nobody is there any more, or says anything in time.
pub(crate) fn taken(from: impl AsFd) -> io::Result<(u8, Option<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut more = RecvAncillaryBuffer::new(&mut space);
    let mut said = [0];
    let received = loop {
        let flags = RecvFlags::CMSG_CLOEXEC;
        match recvmsg(&from, &mut [IoSliceMut::new(&mut said)], &mut more, flags) {
            Err(Errno::INTR) => {}
            received => break received?,
        }
    };
    let mut file = None;
    for message in more.drain() {
        if let RecvAncillaryMessage::ScmRights(files) = message {
            file = files.last().or(file);
        }
    }
    match received.bytes {
        0 => Err(ErrorKind::UnexpectedEof.into()),
        _ => Ok((said[0], file)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn what_is_passed_is_taken() {
        let (a, mut b) = UnixStream::pair().unwrap();
        pass(&a, b'x', File::open("/dev/null").unwrap().as_fd()).unwrap();
        let (said, file) = taken(&b).unwrap();
        assert_eq!(said, b'x');
        let is_file = rustix::fs::fstat(file.unwrap()).is_ok();
        assert!(is_file);
        b.write_all(b"y").unwrap();
        let (said, file) = taken(&a).unwrap();
        assert!(said == b'y' && file.is_none());
        drop(b);
        assert!(taken(&a).is_err() && pass(&a, 1, a.as_fd()).is_err());
    }
}
