// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0

//! The metadata as a whole: from an inode number to the inode, through the layers.

use crate::capnp::{List, ListPlace, Struct};
use crate::source::{Bytes, Source};
use crate::{entry, limits, Digest, Dir, DirEntry, DirPlace, Error, FileType, Inode};
use core::ops::Range;

/// Inode number of the root directory.
pub const ROOT_INO: u64 = 1;

// Rootfs: pointers.
const METADATAS: u16 = 0;
const FS_VERITY_DATA: u16 = 1;
pub(crate) const BLOCKS: u16 = 2;
pub(crate) const ROOT: u16 = 3;
// Rootfs: bytes of data.
const MANIFEST_VERSION: usize = 0;
const INODE_COUNT: usize = 8;
const DATA_SIZE: usize = 16;

// InodeVector: pointers.
const INODES: u16 = 0;

// VerityData: pointers.
const DIGEST: u16 = 0;
const VERITY: u16 = 1;

/// `manifestVersion`: what upstream 0.2.0 reads and writes.
pub const VERSION_BASE: u64 = 3;
/// `manifestVersion`: the same, and files may have holes.
pub const VERSION_HOLES: u64 = 4;
/// `manifestVersion`: the same, and compressed chunks may be LZ4 frames.
pub const VERSION_LZ4: u64 = 5;
/// `manifestVersion`: the same, and the message may be in blocks ([`crate::Blocks`]).
pub const VERSION_BLOCKS: u64 = 6;

/// The `manifestVersion` of a Rootfs, if it is known.
pub(crate) fn version(root: &Struct<'_>) -> Result<u64, Error> {
    match root.u64(MANIFEST_VERSION) {
        version @ VERSION_BASE..=VERSION_BLOCKS => Ok(version),
        version => Err(Error::UnsupportedVersion(version)),
    }
}

/// The metadata of an image.
#[derive(Clone, Copy, Debug)]
pub struct Rootfs<'a> {
    bytes: Bytes<'a>,
    vectors: List<'a>,
    /// Layer 0, if there is one.
    newest: InodeVector<'a>,
    version: u64,
    inode_count: u64,
    data_size: u64,
}

/// What parsing the head of a [`Rootfs`] has found, without the bytes of its message: to be
/// kept and used again.
#[derive(Clone, Copy, Debug)]
pub struct RootfsHead {
    vectors: ListPlace,
    newest: ListPlace,
    version: u64,
    inode_count: u64,
    data_size: u64,
}

impl RootfsHead {
    /// The Rootfs. That other bytes are given than those that it was found in is an error on
    /// use.
    pub fn in_memory<'a>(&self, bytes: &'a [u8]) -> Rootfs<'a> {
        self.of(Bytes::in_memory(bytes))
    }

    /// The same, of a message that is not in memory.
    pub fn in_source<'a>(&self, source: &'a dyn Source) -> Rootfs<'a> {
        self.of(Bytes::in_source(source))
    }

    fn of<'a>(&self, bytes: Bytes<'a>) -> Rootfs<'a> {
        Rootfs {
            bytes,
            vectors: List::at(&self.vectors, bytes),
            newest: InodeVector {
                inodes: List::at(&self.newest, bytes),
                version: self.version,
                unique: self.version >= VERSION_BLOCKS,
            },
            version: self.version,
            inode_count: self.inode_count,
            data_size: self.data_size,
        }
    }
}

impl<'a> Rootfs<'a> {
    /// Parses the head of a Rootfs message: work for its segments and its layers, none
    /// for its inodes. What those say is checked when it is asked for.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        Self::new(Bytes::in_memory(bytes))
    }

    /// The same, of a message that is in blocks, of whose blob `version` is that of
    /// [`crate::Blocks::version`]: the message has the same, and no blocks itself.
    pub fn parse_source(source: &'a dyn Source, version: u64) -> Result<Self, Error> {
        let this = Self::new(Bytes::in_source(source))?;
        match this.version == version {
            true => Ok(this),
            false => Err(Error::BadBlocks),
        }
    }

    fn new(bytes: Bytes<'a>) -> Result<Self, Error> {
        if bytes.len() > limits::MAX_ROOTFS_BYTES {
            return Err(Error::LimitExceeded);
        }
        let root = Struct::root(bytes)?;
        let version = version(&root)?;
        if version >= VERSION_BLOCKS && !root.list(BLOCKS)?.is_empty() {
            return Err(Error::BadBlocks);
        }
        let vectors = root.list(METADATAS)?;
        if vectors.len() > limits::MAX_LAYERS {
            return Err(Error::LimitExceeded);
        }
        let mut this = Self {
            bytes,
            vectors,
            newest: InodeVector {
                inodes: List::EMPTY,
                version,
                unique: true,
            },
            version,
            inode_count: root.u64(INODE_COUNT),
            data_size: root.u64(DATA_SIZE),
        };
        for layer in 1..this.layers() {
            this.in_vector(layer, |_| Ok(()))?;
        }
        if !this.vectors.is_empty() {
            this.newest = this.vector(0)?;
        }
        Ok(this)
    }

    /// What is to be kept of it.
    pub fn head(&self) -> RootfsHead {
        RootfsHead {
            vectors: self.vectors.place(),
            newest: self.newest.inodes.place(),
            version: self.version,
            inode_count: self.inode_count,
            data_size: self.data_size,
        }
    }

    /// The `manifestVersion`: [`VERSION_BASE`] to [`VERSION_BLOCKS`].
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Number of metadata vectors: 1, and 1 for each delta build upon it.
    pub fn layers(&self) -> u32 {
        self.vectors.len()
    }

    /// Number of inodes. Without a recorded number, that of all inodes of all
    /// layers, which is too high by those that a later layer replaces or removes.
    pub fn inode_count(&self) -> Result<u64, Error> {
        match self.inode_count {
            0 => (0..self.layers()).try_fold(0u64, |sum, layer| {
                let len = self.in_vector(layer, |vector| Ok(vector.len()))?;
                Ok(sum.saturating_add(len.into()))
            }),
            recorded => Ok(recorded),
        }
    }

    /// The recorded sum of the sizes of all files; 0 if there is no record.
    pub fn data_size(&self) -> u64 {
        self.data_size
    }

    /// Metadata vector `layer`; 0 is the newest.
    #[inline]
    pub fn vector(&self, layer: u32) -> Result<InodeVector<'a>, Error> {
        Ok(InodeVector {
            inodes: self.vectors.get(layer)?.list(INODES)?,
            version: self.version,
            unique: layer == 0 && self.version >= VERSION_BLOCKS,
        })
    }

    /// Calls `function` with metadata vector `layer`, in a scope of its own ([`Source::scope`]).
    fn in_vector<R>(
        &self,
        layer: u32,
        mut function: impl FnMut(InodeVector<'_>) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let head = self.head();
        self.bytes
            .scope(|bytes| function(head.of(bytes).vector(layer)?))
    }

    /// Inode `ino`. The newest layer that has it counts; `None` if that one says
    /// that it is removed (a whiteout), or if there is none.
    pub fn inode(&self, ino: u64) -> Result<Option<Inode<'a>>, Error> {
        let mut newest = self.newest;
        self.inode_from(&mut newest, ino)
    }

    /// The same; `newest` is layer 0.
    #[inline]
    fn inode_from(
        &self,
        newest: &mut InodeVector<'a>,
        ino: u64,
    ) -> Result<Option<Inode<'a>>, Error> {
        if let Some((_, inode)) = newest.search(ino)? {
            return Inode::new(inode, self.version);
        }
        for layer in 1..self.layers() {
            if let Some(index) = self.in_vector(layer, |vector| vector.find(ino))? {
                return self.vector(layer)?.get(index);
            }
        }
        Ok(None)
    }

    /// The root directory's inode.
    pub fn root(&self) -> Result<Inode<'a>, Error> {
        match self.inode(ROOT_INO)? {
            Some(inode) if inode.file_type() == FileType::Dir => Ok(inode),
            _ => Err(Error::NoRootDirectory),
        }
    }

    /// The directory at `place`, which one of this same Rootfs said.
    #[inline]
    pub fn dir(&self, place: &DirPlace) -> Dir<'a> {
        Dir::at(place, self.bytes)
    }

    /// What `name` in `dir` is; `None` if there is no such entry or its inode is
    /// removed. `sorted` is what [`Dir::is_sorted`] said of it.
    pub fn lookup(
        &self,
        dir: &Dir<'a>,
        name: &[u8],
        sorted: bool,
    ) -> Result<Option<Inode<'a>>, Error> {
        if sorted {
            let found = self.lookup_sorted(dir, name, 0)?;
            return Ok(found.map(|(_, inode)| inode));
        }
        self.lookup_in(dir, name, 0..dir.len(), &mut 0)
    }

    /// [`Self::lookup`] among these entries of a directory in any order: looks at each of them,
    /// and for the inode of each that has the name. So whoever asks for some at a time finds what
    /// one finds who asks for all. Adds to `removed` how many that have the name stand for an inode
    /// that is not there: each takes a search in every layer.
    pub fn lookup_in(
        &self,
        dir: &Dir<'a>,
        name: &[u8],
        mut entries: Range<u32>,
        removed: &mut u32,
    ) -> Result<Option<Inode<'a>>, Error> {
        while let Some(found) = dir.search(name, entries.clone())? {
            if let Some(inode) = found.check(self.inode(found.ino)?)? {
                return Ok(Some(inode));
            }
            // Delta builds list removed names too, before those that are there.
            entries.start = found.index.saturating_add(1);
            *removed = removed.saturating_add(1);
        }
        Ok(None)
    }

    /// [`Self::lookup`] in a directory that is sorted, where each name is there once; and the
    /// index of its entry. Looks at the entry `near` first, where the caller expects it.
    #[inline]
    pub fn lookup_sorted(
        &self,
        dir: &Dir<'a>,
        name: &[u8],
        near: u32,
    ) -> Result<Option<(u32, Inode<'a>)>, Error> {
        let Some(found) = dir.bisect(name, near)? else {
            return Ok(None);
        };
        let inode = found.check(self.inode(found.ino)?)?;
        Ok(inode.map(|inode| (found.index, inode)))
    }

    /// The entries of `dir` with their inodes.
    #[inline]
    pub fn live_entries(&self, dir: &Dir<'a>) -> LiveEntries<'a> {
        LiveEntries {
            rootfs: *self,
            newest: self.newest,
            dir: *dir,
        }
    }

    /// The fs-verity digests of the chunks.
    pub fn verity_data(&self) -> Result<VerityData<'a>, Error> {
        Ok(VerityData(Struct::root(self.bytes)?.list(FS_VERITY_DATA)?))
    }
}

/// The entries of a directory with their inodes, to be asked for one after another.
#[derive(Clone, Copy, Debug)]
pub struct LiveEntries<'a> {
    rootfs: Rootfs<'a>,
    // Those that know which part of the message they were looked at last in.
    newest: InodeVector<'a>,
    dir: Dir<'a>,
}

impl<'a> LiveEntries<'a> {
    /// Entry `index` with its inode; `None` if that is removed, and so the entry is not to be
    /// shown. An entry that says what its inode is, and is wrong, is an error.
    pub fn get(&mut self, index: u32) -> Result<Option<(DirEntry<'a>, Inode<'a>)>, Error> {
        let entry = self.dir.walk(index)?;
        let inode = self.rootfs.inode_from(&mut self.newest, entry.ino)?;
        Ok(entry::check(entry.file_type, inode)?.map(|inode| (entry, inode)))
    }
}

/// The inodes of one layer, in ascending order of their numbers.
#[derive(Clone, Copy, Debug)]
pub struct InodeVector<'a> {
    inodes: List<'a>,
    version: u64,
    /// Each number is there once, or nobody cares which of its inodes counts.
    unique: bool,
}

impl<'a> InodeVector<'a> {
    /// Number of inodes, whiteouts among them.
    #[inline]
    pub fn len(&self) -> u32 {
        self.inodes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of the inode at `index`.
    #[inline]
    pub fn ino(&self, index: u32) -> Result<u64, Error> {
        Ok(Inode::ino_of(&self.inodes.get(index)?))
    }

    /// The inode at `index`; `None` if it is a whiteout.
    #[inline]
    pub fn get(&self, index: u32) -> Result<Option<Inode<'a>>, Error> {
        Inode::new(self.inodes.get(index)?, self.version)
    }

    /// Where inode `ino` is. If it is there more than once, its last place counts:
    /// upstream's delta builds put a whiteout for each name of a hard link that is
    /// gone before the inode itself, if that is still there under another name. (In the
    /// newest layer of version 6 and later, any of its places.)
    #[inline]
    pub fn find(&self, ino: u64) -> Result<Option<u32>, Error> {
        let mut this = *self;
        Ok(this.search(ino)?.map(|(index, _)| index))
    }

    /// [`Self::find`], with what is there.
    #[inline]
    fn search(&mut self, ino: u64) -> Result<Option<(u32, Struct<'a>)>, Error> {
        if self.is_empty() {
            return Ok(None);
        }
        // Numbers mostly have no gaps, and are from 1 on.
        let direct = ino.checked_sub(ROOT_INO).map(u32::try_from);
        let direct = direct.and_then(Result::ok);
        if let Some(index) = direct.filter(|index| *index < self.len()) {
            let inode = self.inodes.walk(index)?;
            if Inode::ino_of(&inode) == ino && (self.unique || self.is_last(index, ino)?) {
                return Ok(Some((index, inode)));
            }
        }
        self.bisect(ino)
    }

    /// Whether the inode at `index`, which is `ino`, is the last one of its number.
    fn is_last(&self, index: u32, ino: u64) -> Result<bool, Error> {
        let next = index.saturating_add(1);
        Ok(next >= self.len() || self.ino(next)? > ino)
    }

    /// [`Self::search`] for numbers with gaps.
    #[inline(never)]
    fn bisect(&self, ino: u64) -> Result<Option<(u32, Struct<'a>)>, Error> {
        // All before the range are at most `ino`, all behind it are above.
        let mut range = 0..self.len();
        while !range.is_empty() {
            self.inodes.scope(|inodes| {
                let first = range.clone();
                while !range.is_empty() && (range == first || !inodes.is_full()) {
                    let middle = u32::midpoint(range.start, range.end);
                    if Inode::ino_of(&inodes.get(middle)?) <= ino {
                        range.start = middle.saturating_add(1);
                    } else {
                        range.end = middle;
                    }
                }
                Ok(())
            })?;
        }
        let Some(index) = range.start.checked_sub(1) else {
            return Ok(None);
        };
        let inode = self.inodes.get(index)?;
        Ok((Inode::ino_of(&inode) == ino).then_some((index, inode)))
    }
}

/// The fs-verity digests of the chunks; empty if they were not asked for.
#[derive(Clone, Copy, Debug)]
pub struct VerityData<'a>(List<'a>);

/// The fs-verity digest of one chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerityDatum {
    /// The chunk.
    pub chunk: Digest,
    /// Its fs-verity digest: sha256, blocks of 4 KiB, no salt.
    pub verity: [u8; 32],
}

impl VerityData<'_> {
    /// Number of chunks.
    pub fn len(&self) -> u32 {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The digest at `index`.
    pub fn get(&self, index: u32) -> Result<VerityDatum, Error> {
        let datum = self.0.get(index)?;
        let bytes =
            |pointer| -> Result<[u8; 32], Error> { datum.array(pointer)?.ok_or(Error::BadDigest) };
        Ok(VerityDatum {
            chunk: Digest::from_bytes(bytes(DIGEST)?),
            verity: bytes(VERITY)?,
        })
    }
}
