// SPDX-License-Identifier: GPL-2.0

//! Faults of chunks, packs and metadata, as the kernel log names them: by mount, inode and chunk.

use core::fmt;
use kernel::{
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
};
use puzzlefs_format::Digest;
use vfs::KernelLog;

/// What is read.
#[derive(Clone, Copy)]
pub(crate) enum Purpose {
    /// The data of the inode with this number.
    Inode(u64),
    /// Metadata.
    Metadata,
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inode(ino) => write!(f, "inode {ino}"),
            Self::Metadata => f.write_str("metadata"),
        }
    }
}

/// Remembers that there was a fault, and whether the log has heard of it.
pub(crate) struct Reported {
    known: Atomic<u32>,
    logged: Atomic<u32>,
}

impl Default for Reported {
    fn default() -> Self {
        Self {
            known: Atomic::new(0),
            logged: Atomic::new(0),
        }
    }
}

impl Reported {
    /// Notes a fault. Calls `log`, unless that has returned true before.
    pub(crate) fn once(&self, log: impl FnOnce() -> bool) {
        self.known.store(1, Relaxed);
        if self.logged.xchg(1, Relaxed) == 0 && !log() {
            self.logged.store(0, Relaxed);
        }
    }

    /// Whether there was a fault.
    pub(crate) fn is_known(&self) -> bool {
        self.known.load(Relaxed) != 0
    }
}

/// The log of an image's faults.
pub(crate) struct Faults(Pin<KBox<KernelLog>>);

impl Faults {
    /// Faults that go to `log`.
    pub(crate) fn new(log: Pin<KBox<KernelLog>>) -> Self {
        Self(log)
    }

    /// Logs what is wrong with a chunk. False if the log has no room now.
    pub(crate) fn log(&self, purpose: Purpose, digest: &Digest, what: fmt::Arguments<'_>) -> bool {
        self.0
            .warn(format_args!("{purpose}: chunk sha256:{digest}: {what}"))
    }

    /// Logs what is wrong with the metadata of what `purpose` names, if the log has room now.
    pub(crate) fn log_metadata(&self, purpose: Purpose, what: fmt::Arguments<'_>) {
        self.0.warn(format_args!("{purpose}: {what}"));
    }

    /// Logs what is wrong with a pack. False if the log has no room now.
    pub(crate) fn log_pack(&self, digest: &Digest, what: fmt::Arguments<'_>) -> bool {
        self.0.warn(format_args!("pack sha256:{digest} {what}"))
    }
}

/// Whether `error` says nothing of what was read: a later fault of it must still be heard of.
pub(crate) fn is_passing(error: Error) -> bool {
    matches!(error, EINTR | ERESTARTSYS | ENOMEM)
}
