// SPDX-License-Identifier: Apache-2.0
//! Serving a filesystem to the kernel, in the protocol of FUSE. Here, and nowhere else, is the crate fuser.
//!
//! The kernel keeps names, attributes, targets and bytes for ever, as they do not change. Inode numbers
//! are the kernel's handles, so nothing has to be remembered of what it knows. Files and directories are not
//! opened: their content is asked for by number.

use std::ffi::OsStr;
use std::io;
use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::{anyhow, Context};
use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem as Requests,
    FopenFlags, Generation, INodeNo, InitFlags, KernelConfig, LockOwner, OpenFlags, ReplyAttr,
    ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEntry, ReplyLseek, ReplyOpen, ReplyStatfs,
    ReplyXattr, Request, Session, SessionACL,
};
use puzzlefs_format::{limits, FileType as Kind, ROOT_INO};

use super::caller::{is_gone, Trusted};
use super::filesystem::{Answer, Attributes, Entry, Filesystem, SeekTo};
use super::pool::Pool;
use crate::lazy::Patience;

/// How long the kernel may keep what it was told: for ever, as far as it counts.
const FOR_EVER: Duration = Duration::from_secs(u32::MAX as u64);
/// Bytes of a request: as many as the kernel admits by default (`fs.fuse.max_pages_limit`).
const REQUEST_BYTES: u32 = 1 << 20;
/// Requests of readahead that may wait at a time.
const BACKGROUND: u16 = 64;
/// Threads at least, as one may wait for a disk; and at most, as each may decode a chunk.
const THREADS: (usize, usize) = (4, 16);

/// `.` and `..`, which come before the entries of a directory.
const DOTS: [&[u8]; 2] = [b".", b".."];

/// A filesystem that is served.
pub(super) struct Serving(BackgroundSession);

/// Begins to serve `filesystem` to the kernel at the other end of `device`.
pub(super) fn serve(
    filesystem: impl Filesystem + 'static,
    device: OwnedFd,
) -> anyhow::Result<Serving> {
    let server = Server {
        filesystem: Arc::new(filesystem),
        trusted: Trusted::new(),
        opens: false,
        waiting: Arc::default(),
    };
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let mut config = Config::default();
    config.n_threads = Some((2 * threads).clamp(THREADS.0, THREADS.1));
    // Whom the kernel lets through is up to it: the option allow_other.
    let session = Session::from_fd(server, device, SessionACL::All, config);
    let session = session.context("the kernel does not answer on /dev/fuse as FUSE does")?;
    Ok(Serving(session.spawn().context("starting threads")?))
}

impl Serving {
    /// Waits until it is unmounted.
    pub(super) fn wait(self) -> anyhow::Result<()> {
        self.0.join().context("serving the kernel's requests")
    }
}

/// What answers the kernel's requests.
struct Server<F> {
    filesystem: Arc<F>,
    trusted: Trusted,
    /// Whether the kernel insists on opening files.
    opens: bool,
    /// Who waits for what is to be fetched.
    waiting: Arc<Pool>,
}

/// The errno of an answer; `EIO` if to find it panicked.
fn answered<T>(ask: impl FnOnce() -> Answer<T>) -> Result<T, Errno> {
    match catch_unwind(AssertUnwindSafe(ask)) {
        Ok(answer) => answer.map_err(|errno| Errno::from_i32(errno.raw_os_error())),
        Err(_) => Err(Errno::EIO),
    }
}

fn kind(kind: Kind) -> FileType {
    match kind {
        Kind::Fifo => FileType::NamedPipe,
        Kind::Chr => FileType::CharDevice,
        Kind::Dir => FileType::Directory,
        Kind::Blk => FileType::BlockDevice,
        Kind::File => FileType::RegularFile,
        Kind::Symlink => FileType::Symlink,
        Kind::Sock => FileType::Socket,
    }
}

/// A device number as the kernel encodes it (`new_encode_dev` of linux/kdev_t.h).
fn device((major, minor): (u32, u32)) -> u32 {
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

fn time(sec: i64, nsec: u32) -> SystemTime {
    let epoch = SystemTime::UNIX_EPOCH;
    let seconds = Duration::from_secs(sec.unsigned_abs());
    let whole = match sec < 0 {
        true => epoch.checked_sub(seconds),
        false => epoch.checked_add(seconds),
    };
    let all = whole.and_then(|whole| whole.checked_add(Duration::from_nanos(nsec.into())));
    all.unwrap_or(epoch)
}

fn attributes(of: &Attributes) -> FileAttr {
    let time = time(of.time.sec, of.time.nsec);
    FileAttr {
        ino: INodeNo(of.ino),
        size: of.size,
        blocks: of.blocks,
        atime: time,
        mtime: time,
        ctime: time,
        crtime: time,
        kind: kind(of.file_type),
        perm: of.permissions,
        nlink: of.nlink,
        uid: of.uid,
        gid: of.gid,
        rdev: device(of.device),
        blksize: 4096,
        flags: 0,
    }
}

/// Of what nothing is known but a number and a type.
fn unknown(ino: u64, file_type: FileType) -> FileAttr {
    FileAttr {
        ino: INodeNo(ino),
        size: 0,
        blocks: 0,
        atime: SystemTime::UNIX_EPOCH,
        mtime: SystemTime::UNIX_EPOCH,
        ctime: SystemTime::UNIX_EPOCH,
        crtime: SystemTime::UNIX_EPOCH,
        kind: file_type,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

impl<F: Filesystem> Server<F> {
    fn generation(&self) -> Generation {
        Generation(self.filesystem.generation().into())
    }

    fn entry(&self, dir: u64, name: &[u8]) -> Answer<Option<Attributes>> {
        // By these the kernel finds what a file handle is of.
        match name {
            b"." => self.filesystem.attributes(dir).map(Some),
            b".." => self.filesystem.parent(dir).map(Some),
            _ if name.len() > limits::MAX_NAME_BYTES => Err(rustix::io::Errno::NAMETOOLONG),
            _ => self.filesystem.lookup(dir, name),
        }
    }

    /// Calls `add` with the entries of `dir` from `offset` on, with `.` and `..`, until it returns true: that it
    /// is full.
    fn list(
        &self,
        dir: u64,
        offset: u64,
        attributes: bool,
        mut add: impl FnMut(&Entry<'_>) -> bool,
    ) -> Answer<()> {
        const FIRST: u64 = DOTS.len() as u64;
        for (next, name) in (1..).zip(DOTS) {
            if offset >= next {
                continue;
            }
            let ino = match name {
                b"." => dir,
                // Whatever stands here is for the eye only.
                _ => self
                    .filesystem
                    .parent(dir)
                    .map_or(ROOT_INO, |found| found.ino),
            };
            let entry = Entry {
                ino,
                name,
                file_type: Kind::Dir,
                next,
                attributes: None,
            };
            if add(&entry) {
                return Ok(());
            }
        }
        let from = offset.saturating_sub(FIRST);
        self.filesystem.list(dir, from, attributes, &mut |entry| {
            let next = entry.next.saturating_add(FIRST);
            !add(&Entry { next, ..*entry })
        })
    }

    /// Opens what needs no opening; the kernel does not ask again if it can do without.
    fn open(&self, reply: ReplyOpen, flags: FopenFlags) {
        match self.opens {
            true => reply.opened(FileHandle(0), flags),
            false => reply.error(Errno::ENOSYS),
        }
    }
}

/// Answers `reply` with bytes of an extended attribute, or with how many they are.
fn xattr(found: Result<Vec<u8>, Errno>, size: u32, reply: ReplyXattr) {
    match found {
        Err(errno) => reply.error(errno),
        Ok(bytes) => match u32::try_from(bytes.len()) {
            Ok(len) if size == 0 => reply.size(len),
            Ok(len) if len <= size => reply.data(&bytes),
            _ => reply.error(Errno::ERANGE),
        },
    }
}

impl<F: Filesystem + 'static> Requests for Server<F> {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let wanted = [
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_READDIRPLUS_AUTO,
            InitFlags::FUSE_CACHE_SYMLINKS,
            InitFlags::FUSE_POSIX_ACL,
            InitFlags::FUSE_EXPORT_SUPPORT,
            InitFlags::FUSE_ALLOW_IDMAP,
        ];
        for flag in wanted {
            // Older kernels do without.
            let _ = config.add_capabilities(flag);
        }
        let without_open = InitFlags::FUSE_NO_OPEN_SUPPORT | InitFlags::FUSE_NO_OPENDIR_SUPPORT;
        self.opens = config.add_capabilities(without_open).is_err();
        let fits = |set: Result<u32, u32>| set.map_err(|limit| anyhow!("not more than {limit}"));
        fits(config.set_max_write(REQUEST_BYTES)).map_err(io::Error::other)?;
        let _ = config.set_max_background(BACKGROUND);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = answered(|| self.entry(parent.0, name.as_bytes()));
        match found {
            Ok(Some(found)) => reply.entry(&FOR_EVER, &attributes(&found), self.generation()),
            // Number 0: there is none, and will be none.
            Ok(None) => {
                let none = unknown(0, FileType::RegularFile);
                reply.entry(&FOR_EVER, &none, Generation(0));
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match answered(|| self.filesystem.attributes(ino.0)) {
            Ok(found) => reply.attr(&FOR_EVER, &attributes(&found)),
            Err(errno) => reply.error(errno),
        }
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        match answered(|| self.filesystem.link_target(ino.0)) {
            Ok(target) => reply.data(&target),
            Err(errno) => reply.error(errno),
        }
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        self.open(reply, FopenFlags::FOPEN_KEEP_CACHE);
    }

    fn opendir(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let cached = FopenFlags::FOPEN_CACHE_DIR | FopenFlags::FOPEN_KEEP_CACHE;
        self.open(reply, cached);
    }

    fn read(
        &self,
        request: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let read =
            move |of: &F, patience: &Patience<'_>| of.read(ino.0, offset, size as usize, patience);
        match answered(|| read(&self.filesystem, &Patience::None)) {
            Ok(bytes) => reply.data(&bytes),
            Err(errno) if errno == Errno::EAGAIN => {
                let (filesystem, pid) = (Arc::clone(&self.filesystem), request.pid());
                let read = move || {
                    let is_gone = || is_gone(pid);
                    match answered(|| read(&filesystem, &Patience::Until(&is_gone))) {
                        Ok(bytes) => reply.data(&bytes),
                        Err(errno) => reply.error(errno),
                    }
                };
                if let Err(read) = self.waiting.run(Box::new(read)) {
                    read();
                }
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn readdir(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let listed = answered(|| {
            self.list(ino.0, offset, false, |entry| {
                let name = OsStr::from_bytes(entry.name);
                reply.add(INodeNo(entry.ino), entry.next, kind(entry.file_type), name)
            })
        });
        match listed {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(errno),
        }
    }

    fn readdirplus(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let generation = self.generation();
        let listed = answered(|| {
            self.list(ino.0, offset, true, |entry| {
                let name = OsStr::from_bytes(entry.name);
                let (attributes, valid) = match &entry.attributes {
                    Some(found) => (attributes(found), FOR_EVER),
                    None => (unknown(entry.ino, kind(entry.file_type)), Duration::ZERO),
                };
                let ino = INodeNo(entry.ino);
                reply.add(ino, entry.next, name, &valid, &attributes, generation)
            })
        });
        match listed {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(errno),
        }
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        const BLOCK: u32 = 4096;
        match answered(|| self.filesystem.statistics()) {
            Ok(found) => {
                let blocks = found.bytes.div_ceil(BLOCK.into());
                let name = limits::MAX_NAME_BYTES as u32;
                reply.statfs(blocks, 0, 0, found.inodes, 0, BLOCK, name, BLOCK);
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn getxattr(&self, _: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let found = answered(|| self.filesystem.xattr(ino.0, name.as_bytes()));
        xattr(found, size, reply);
    }

    fn listxattr(&self, request: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        let names = |trusted| self.filesystem.xattr_names(ino.0, trusted);
        let found = answered(|| match names(false)? {
            // Most inodes have none that only some may see.
            few if few == names(true)? || !self.trusted.includes(request.pid()) => Ok(few),
            _ => names(true),
        });
        xattr(found, size, reply);
    }

    fn lseek(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        // SEEK_DATA and SEEK_HOLE of linux/fs.h.
        let to = match whence {
            3 => Ok(SeekTo::Data),
            4 => Ok(SeekTo::Hole),
            _ => Err(Errno::EINVAL),
        };
        let offset = u64::try_from(offset).map_err(|_| Errno::ENXIO);
        let found = to
            .and_then(|to| Ok((to, offset?)))
            .and_then(|(to, offset)| answered(|| self.filesystem.seek(ino.0, offset, to)));
        match found.map(i64::try_from) {
            Ok(Ok(offset)) => reply.offset(offset),
            Ok(Err(_)) => reply.error(Errno::EOVERFLOW),
            Err(errno) => reply.error(errno),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_and_times_are_the_kernels() {
        assert_eq!(device((259, 1_048_575)), 0xfff1_03ff);
        assert_eq!(device((1, 3)), 0x103);
        let since = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH);
        assert_eq!(since(time(5, 7)).unwrap(), Duration::new(5, 7));
        let before = since(time(-5, 7)).unwrap_err().duration();
        assert_eq!(before, Duration::new(4, 999_999_993));
        time(i64::MIN, 0);
        time(i64::MAX, 999_999_999);
    }
}
