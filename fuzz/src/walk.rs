// SPDX-License-Identifier: Apache-2.0

//! Goes through all that a message says, by every accessor of the reader, and notes what each
//! has said.

use crate::parts::Parts;
use puzzlefs_format::{limits, Dir, Error, Extents, Inode, Kind, Rootfs, Xattrs};
use std::hash::{DefaultHasher, Hash, Hasher};

/// Steps after which a walk ends: pointers may all lead to one object, so that what a message
/// says is far longer than it is.
const STEPS: u32 = 3000;

/// Elements of one list that are looked at.
const ELEMENTS: u32 = 100;

/// How often bytes may be asked for in one step: a struct or list behind a double far pointer
/// reads its pointer, the table of segments twice, the landing pad's two words, and a tag.
const ASKED: u64 = 16;

/// A walk through a message.
pub struct Walk<'a> {
    message: &'a [u8],
    parts: Option<&'a Parts<'a>>,
    seen: DefaultHasher,
    steps: u32,
    inodes: u64,
    asked: u64,
}

impl<'a> Walk<'a> {
    /// A walk through `message`, which is in memory, or in `parts`.
    pub fn new(message: &'a [u8], parts: Option<&'a Parts<'a>>) -> Self {
        Self {
            message,
            parts,
            seen: DefaultHasher::new(),
            steps: 0,
            inodes: 0,
            asked: 0,
        }
    }

    /// What all accessors said of `rootfs`, as one number; and how many inodes there were.
    pub fn all(mut self, rootfs: &Rootfs<'a>) -> (u64, u64) {
        self.rootfs(rootfs);
        (self.seen.finish(), self.inodes)
    }

    /// Notes what an accessor said, and that it did not ask for more bytes than `work` steps
    /// may. None if it was an error.
    fn note<T>(&mut self, work: u64, said: Result<T, Error>) -> Option<T> {
        self.steps += 1;
        if let Some(parts) = self.parts {
            let asked = parts.asked() - self.asked;
            self.asked = parts.asked();
            assert!(asked <= work * ASKED, "asked {asked} times in {work} steps");
        }
        match said {
            Ok(value) => Some(value),
            Err(error) => {
                format!("{error:?}").hash(&mut self.seen);
                None
            }
        }
    }

    /// Notes a value that cost nothing.
    fn see(&mut self, value: impl Hash) {
        value.hash(&mut self.seen);
    }

    /// Notes bytes, which must be those of the message.
    fn bytes(&mut self, bytes: &[u8]) {
        let (whole, part) = (self.message.as_ptr_range(), bytes.as_ptr_range());
        let is_inside = whole.start <= part.start && part.end <= whole.end;
        assert!(bytes.is_empty() || is_inside, "bytes of something else");
        bytes.hash(&mut self.seen);
    }

    /// The indices of a list of `len` elements that are looked at. A message has a word for each
    /// element, at least.
    fn indices(&mut self, len: u32) -> std::ops::Range<u32> {
        assert!(len as usize * 8 <= self.message.len(), "{len} elements");
        self.see(len);
        if self.steps > STEPS {
            return 0..0;
        }
        // One more than there are: that is an error, too.
        0..(len + 1).min(ELEMENTS)
    }

    fn rootfs(&mut self, rootfs: &Rootfs<'a>) {
        self.see((rootfs.version(), rootfs.layers(), rootfs.data_size()));
        assert!((3..=6).contains(&rootfs.version()));
        assert!(rootfs.layers() <= limits::MAX_LAYERS);
        // Parsing looked at each layer.
        let layers = u64::from(rootfs.layers());
        let count = self.note(layers + 4, rootfs.inode_count());
        self.see(count);
        let root = self.note(self.search_work(rootfs), rootfs.root());
        self.see(root.map(|root| root.ino()));
        for layer in self.indices(rootfs.layers()) {
            if let Some(vector) = self.note(1, rootfs.vector(layer)) {
                for index in self.indices(vector.len()) {
                    let ino = self.note(1, vector.ino(index));
                    self.see(ino);
                    if let Some(Some(inode)) = self.note(1, vector.get(index)) {
                        assert_eq!(Some(inode.ino()), ino);
                        self.inode(rootfs, &inode);
                    }
                    if let Some(ino) = ino {
                        self.find(rootfs, layer, ino);
                    }
                }
            }
        }
        if let Some(data) = self.note(2, rootfs.verity_data()) {
            for index in self.indices(data.len()) {
                let datum = self.note(2, data.get(index));
                self.see(datum.map(|datum| (datum.chunk, datum.verity)));
            }
        }
    }

    /// Steps to find an inode: a bisection in each layer.
    fn search_work(&self, rootfs: &Rootfs<'a>) -> u64 {
        40 * (1 + u64::from(rootfs.layers()))
    }

    fn find(&mut self, rootfs: &Rootfs<'a>, layer: u32, ino: u64) {
        if let Some(vector) = self.note(1, rootfs.vector(layer)) {
            if let Some(Some(found)) = self.note(40, vector.find(ino)) {
                assert_eq!(vector.ino(found), Ok(ino));
                self.note(1, Ok(()));
                self.see(found);
            }
        }
        for ino in [ino, ino.wrapping_add(1)] {
            if let Some(found) = self.note(self.search_work(rootfs), rootfs.inode(ino)) {
                self.see(found.map(|inode| inode.ino()));
                assert!(found.is_none_or(|inode| inode.ino() == ino));
            }
        }
    }

    fn inode(&mut self, rootfs: &Rootfs<'a>, inode: &Inode<'a>) {
        self.inodes += 1;
        let mtime = inode.mtime();
        assert!(mtime.nsec < 1_000_000_000 && inode.permissions() <= 0o7777);
        self.see((inode.ino(), inode.uid(), inode.gid(), inode.permissions()));
        self.see((mtime.sec, mtime.nsec, inode.nlink(), inode.parent()));
        self.see((inode.recorded_size(), inode.may_have_holes()));
        let may_have = self.note(1, inode.may_have_xattrs());
        self.see(may_have);
        if let Some(xattrs) = self.note(2, inode.xattrs()) {
            assert!(xattrs.is_empty() || may_have == Some(true));
            self.xattrs(&xattrs);
        }
        match self.note(2, inode.kind()) {
            Some(Kind::Chr(device) | Kind::Blk(device)) => {
                assert!(device.major <= limits::MAX_MAJOR && device.minor <= limits::MAX_MINOR);
                self.see((device.major, device.minor));
            }
            Some(Kind::Symlink(target)) => {
                assert!((1..=limits::MAX_SYMLINK_BYTES).contains(&target.len()));
                assert!(!target.contains(&0));
                self.bytes(target);
            }
            Some(Kind::Dir(dir)) => self.dir(rootfs, &dir),
            Some(Kind::File(extents)) => self.extents(&extents),
            Some(Kind::Fifo | Kind::Sock) | None => {}
        }
    }

    fn xattrs(&mut self, xattrs: &Xattrs<'a>) {
        assert!(xattrs.len() <= limits::MAX_XATTRS);
        for index in self.indices(xattrs.len()) {
            let name = self.note(2, xattrs.name(index));
            if let Some(xattr) = self.note(4, xattrs.get(index)) {
                assert_eq!(Some(xattr.name), name);
                assert!((1..=limits::MAX_XATTR_NAME_BYTES).contains(&xattr.name.len()));
                assert!(xattr.value.len() <= limits::MAX_XATTR_VALUE_BYTES);
                self.bytes(xattr.name);
                self.bytes(xattr.value);
                let work = u64::from(xattrs.len()) * 2 + 2;
                if let Some(found) = self.note(work, xattrs.find(xattr.name)) {
                    self.bytes(found.expect("it is there"));
                }
            }
        }
    }

    fn dir(&mut self, rootfs: &Rootfs<'a>, dir: &Dir<'a>) {
        assert!(dir.len() <= limits::MAX_DIR_ENTRIES);
        let again = rootfs.dir(&dir.place());
        assert_eq!(again.len(), dir.len());
        self.see(dir.says_sorted());
        let linear = u64::from(dir.len()) * 2 + 2;
        let sorted = self.note(linear, dir.is_sorted());
        self.see(sorted);
        let mut live = rootfs.live_entries(dir);
        for index in self.indices(dir.len()) {
            let entry = self.note(2, again.entry(index));
            if let Some(entry) = entry {
                assert!((1..=limits::MAX_NAME_BYTES).contains(&entry.name.len()));
                assert!(entry.ino != 0 && !entry.name.contains(&0) && !entry.name.contains(&b'/'));
                assert!(!matches!(entry.name, b"." | b".."));
                self.bytes(entry.name);
                self.lookup(rootfs, dir, sorted, entry.name);
            }
            let work = self.search_work(rootfs);
            if let Some(found) = self.note(work + 2, live.get(index)) {
                assert!(found.is_none_or(|(found, inode)| {
                    Some(found) == entry && inode.ino() == found.ino
                }));
                self.see(found.map(|(entry, _)| entry.ino));
            }
        }
        self.lookup(rootfs, dir, sorted, b"no such name");
    }

    fn lookup(&mut self, rootfs: &Rootfs<'a>, dir: &Dir<'a>, sorted: Option<bool>, name: &[u8]) {
        let linear = u64::from(dir.len()) * 2 + 2;
        let plain = self.note(linear, dir.find(name, false));
        self.see(plain);
        let removed = u64::from(limits::MAX_LAYERS + 1).min(u64::from(dir.len()) + 1);
        let work = linear + removed * self.search_work(rootfs);
        let found = self.note(work, rootfs.lookup(dir, name, false));
        let ino = found.flatten().map(|inode| inode.ino());
        self.see(ino);
        if sorted != Some(true) {
            return;
        }
        // What bisection finds is what is there.
        if let (Some(bisected), Some(plain)) = (self.note(64, dir.find(name, true)), plain) {
            assert_eq!(bisected, plain);
        }
        let work = 64 + self.search_work(rootfs);
        let again = self.note(work, rootfs.lookup_sorted(dir, name, 1));
        if let (Some(again), Some(_)) = (again, found) {
            assert_eq!(again.map(|(_, inode)| inode.ino()), ino);
        }
    }

    fn extents(&mut self, extents: &Extents<'a>) {
        assert!(extents.len() <= limits::MAX_EXTENTS);
        self.see(extents.recorded());
        let mut start = 0;
        let mut is_sound = true;
        for index in self.indices(extents.len()) {
            let extent = self.note(4, extents.get(index));
            if let Some(extent) = extent {
                assert!(extent.len > 0);
                self.see(extent.len);
                if let Some(chunk) = extent.chunk {
                    assert!(chunk.offset + extent.len <= limits::MAX_CHUNK_BYTES);
                    self.see((chunk.digest, chunk.offset, chunk.compressed));
                }
            }
            match extents.get_from(index, start) {
                Ok((same, end)) if is_sound => {
                    assert_eq!((Some(same), end), (extent, start + same.len));
                    start = end;
                }
                _ => is_sound = false,
            }
            self.note(4, Ok(()));
        }
        let work = u64::from(extents.len()) * 4 + 4;
        if let Some(total) = self.note(work, extents.total()) {
            assert!(total <= limits::MAX_FILE_BYTES);
            assert!(extents.recorded().is_none_or(|size| size == total));
            let holes = self.note(work, extents.holes());
            assert!(holes.is_some_and(|holes| holes <= total));
            self.see(total);
        }
    }
}
