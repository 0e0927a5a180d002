// SPDX-License-Identifier: Apache-2.0

//! Valid metadata as plain values: how to generate it, and how the `capnp` crate
//! writes it.

use crate::metadata_capnp as wire;
use capnp::message::{AllocationStrategy, Builder, HeapAllocator};
use proptest::collection::{btree_set, hash_set, vec};
use proptest::option;
use proptest::{prelude::*, sample};
use puzzlefs_format::{limits, FileType, VERSION_BLOCKS};

/// A Rootfs.
#[derive(Clone, Debug)]
pub struct Rootfs {
    /// `manifestVersion`.
    pub version: u64,
    /// The layers, newest first.
    pub vectors: Vec<Vec<Inode>>,
    /// `fsVerityData`.
    pub verity: Vec<([u8; 32], [u8; 32])>,
    /// `inodeCount`.
    pub inode_count: u64,
    /// `dataSize`.
    pub data_size: u64,
}

/// An inode.
#[derive(Clone, Debug)]
pub struct Inode {
    /// `ino`.
    pub ino: u64,
    /// `mode`.
    pub mode: Mode,
    /// `uid`.
    pub uid: u32,
    /// `gid`.
    pub gid: u32,
    /// `permissions`.
    pub permissions: u16,
    /// `additional.xattrs`, keys and values; empty: not written.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// `mtime` and `mtimeNsec`.
    pub mtime: (i64, u32),
    /// `nlink`.
    pub nlink: u32,
    /// `parent`.
    pub parent: u32,
}

/// What an inode is.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum Mode {
    Fifo,
    Chr(u32, u32),
    /// Entries: numbers, names, and what the inode is said to be.
    Dir(Vec<(u64, Vec<u8>, Option<FileType>)>),
    Blk(u32, u32),
    /// Chunks, and whether `size` is written.
    File(Vec<Chunk>, bool),
    Lnk(Vec<u8>),
    Sock,
    Wht,
}

/// A part of a file.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// Digest, offset, whether compressed; `None` for a hole.
    pub blob: Option<([u8; 32], u64, bool)>,
    /// `len`.
    pub len: u64,
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![1u8..b'/', b'0'..=255];
    vec(byte, 1..=20).prop_filter("special", |name| !matches!(&name[..], b"." | b".."))
}

fn bytes_without_nul(max: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(1..=255u8, 1..=max)
}

fn chunk(holes: bool) -> impl Strategy<Value = Chunk> {
    let blob = (
        any::<[u8; 32]>(),
        0..limits::MAX_CHUNK_BYTES - 1,
        any::<bool>(),
    );
    let blob = blob.prop_flat_map(|blob| {
        let len = 1..=limits::MAX_CHUNK_BYTES - blob.1;
        len.prop_map(move |len| Chunk {
            blob: Some(blob),
            len,
        })
    });
    let hole = (1..1u64 << 40).prop_map(|len| Chunk { blob: None, len });
    prop_oneof![4 => blob.boxed(), u32::from(holes) => hole.boxed()]
}

/// What an inode can be.
const TYPES: [FileType; 7] = [
    FileType::Fifo,
    FileType::Chr,
    FileType::Dir,
    FileType::Blk,
    FileType::File,
    FileType::Symlink,
    FileType::Sock,
];

fn mode(holes: bool) -> impl Strategy<Value = Mode> {
    let entries = hash_set(name(), 0..12)
        .prop_flat_map(|names| {
            let count = names.len();
            let said = (1..40u64, option::of(sample::select(&TYPES)));
            (Just(Vec::from_iter(names)), vec(said, count))
        })
        .prop_map(|(names, said)| {
            let said = said.into_iter().zip(names);
            said.map(|((ino, file_type), name)| (ino, name, file_type))
                .collect()
        });
    prop_oneof![
        1 => Just(Mode::Fifo),
        1 => Just(Mode::Sock),
        1 => Just(Mode::Wht),
        1 => (0..=limits::MAX_MAJOR, 0..=limits::MAX_MINOR).prop_map(|(a, b)| Mode::Chr(a, b)),
        1 => (0..=limits::MAX_MAJOR, 0..=limits::MAX_MINOR).prop_map(|(a, b)| Mode::Blk(a, b)),
        1 => bytes_without_nul(60).prop_map(Mode::Lnk),
        4 => entries.prop_map(Mode::Dir),
        6 => (vec(chunk(holes), 0..6), any::<bool>()).prop_map(|(c, s)| Mode::File(c, s)),
    ]
}

fn inode(holes: bool) -> impl Strategy<Value = Inode> {
    let xattr = (bytes_without_nul(20), vec(any::<u8>(), 0..40));
    (
        (mode(holes), 0..u32::MAX, 0..u32::MAX, any::<u16>()),
        (vec(xattr, 0..4), any::<i64>(), 0..1_000_000_000u32),
        (any::<u32>(), any::<u32>()),
    )
        .prop_map(
            |((mode, uid, gid, permissions), (xattrs, sec, nsec), (nlink, parent))| Inode {
                ino: 0,
                mode,
                uid,
                gid,
                permissions,
                xattrs,
                mtime: (sec, nsec),
                nlink,
                parent,
            },
        )
}

/// Inodes numbered without gaps from 1, as our builder does, or with gaps.
fn vector(holes: bool) -> impl Strategy<Value = Vec<Inode>> {
    let gaps = btree_set(prop_oneof![1..60u64, any::<u64>()], 0..12);
    (vec(inode(holes), 0..12), option::of(gaps)).prop_map(|(mut inodes, gaps)| {
        let inos = match gaps {
            Some(gaps) => Vec::from_iter(gaps),
            None => (1..=12).collect(),
        };
        inodes.truncate(inos.len());
        for (inode, ino) in inodes.iter_mut().zip(inos) {
            inode.ino = ino;
        }
        inodes
    })
}

/// Valid metadata of any shape.
pub fn rootfs() -> impl Strategy<Value = Rootfs> {
    (3..=6u64).prop_flat_map(|version| {
        (
            vec(vector(version >= 4), 0..4),
            vec((any::<[u8; 32]>(), any::<[u8; 32]>()), 0..3),
            any::<u64>(),
            any::<u64>(),
        )
            .prop_map(move |(mut vectors, verity, inode_count, data_size)| {
                if version >= VERSION_BLOCKS {
                    vectors.iter_mut().flatten().for_each(Inode::record_size);
                }
                Rootfs {
                    version,
                    vectors,
                    verity,
                    inode_count,
                    data_size,
                }
            })
    })
}

fn count<T>(list: &[T]) -> u32 {
    u32::try_from(list.len()).expect("short lists")
}

impl Rootfs {
    /// As a message with segments of `segment_words` words, or bigger where a
    /// single object is.
    pub fn write(&self, segment_words: u32) -> Vec<u8> {
        let allocator = HeapAllocator::new()
            .first_segment_words(segment_words)
            .allocation_strategy(AllocationStrategy::FixedSize);
        let mut message = Builder::new(allocator);
        self.fill(message.init_root());
        capnp::serialize::write_message_to_words(&message)
    }

    fn fill(&self, mut to: wire::rootfs::Builder<'_>) {
        to.set_manifest_version(self.version);
        to.set_inode_count(self.inode_count);
        to.set_data_size(self.data_size);
        let mut vectors = to.reborrow().init_metadatas(count(&self.vectors));
        for (i, vector) in (0..).zip(&self.vectors) {
            let mut inodes = vectors.reborrow().get(i).init_inodes(count(vector));
            for (i, inode) in (0..).zip(vector) {
                inode.fill(inodes.reborrow().get(i));
            }
        }
        let mut verity = to.init_fs_verity_data(count(&self.verity));
        for (i, (digest, value)) in (0..).zip(&self.verity) {
            let mut to = verity.reborrow().get(i);
            to.set_digest(digest);
            to.set_verity(value);
        }
    }
}

impl Inode {
    /// Has the `size` of a file written.
    fn record_size(&mut self) {
        if let Mode::File(_, is_written) = &mut self.mode {
            *is_written = true;
        }
    }

    fn fill(&self, mut to: wire::inode::Builder<'_>) {
        to.set_ino(self.ino);
        to.set_uid(self.uid);
        to.set_gid(self.gid);
        to.set_permissions(self.permissions);
        to.set_mtime(self.mtime.0);
        to.set_mtime_nsec(self.mtime.1);
        to.set_nlink(self.nlink);
        to.set_parent(self.parent);
        if !self.xattrs.is_empty() {
            let to = to.reborrow().init_additional();
            let mut list = to.init_xattrs(count(&self.xattrs));
            for (i, (key, val)) in (0..).zip(&self.xattrs) {
                let mut xattr = list.reborrow().get(i);
                xattr.set_key(key);
                xattr.set_val(val);
            }
        }
        if let Mode::Lnk(target) = &self.mode {
            let mut additional = match to.has_additional() {
                true => to.reborrow().get_additional().expect("just written"),
                false => to.reborrow().init_additional(),
            };
            additional.set_symlink_target(target);
        }
        if let Mode::File(chunks, true) = &self.mode {
            to.set_size(chunks.iter().map(|chunk| chunk.len).sum());
        }
        self.mode.fill(to.init_mode());
    }
}

impl Mode {
    fn fill(&self, mut to: wire::inode::mode::Builder<'_>) {
        match self {
            Mode::Fifo => to.set_fifo(()),
            Mode::Lnk(_) => to.set_lnk(()),
            Mode::Sock => to.set_sock(()),
            Mode::Wht => to.set_wht(()),
            Mode::Chr(major, minor) => {
                let mut to = to.init_chr();
                to.set_major((*major).into());
                to.set_minor((*minor).into());
            }
            Mode::Blk(major, minor) => {
                let mut to = to.init_blk();
                to.set_major((*major).into());
                to.set_minor((*minor).into());
            }
            Mode::Dir(entries) => {
                let mut dir = to.init_dir();
                // As if a writer had looked; a reader is to say what it finds.
                dir.set_sorted(entries.is_sorted_by(|a, b| a.1 < b.1));
                dir.set_look_below(entries.len() % 2 == 1);
                let mut list = dir.init_entries(count(entries));
                for (i, (ino, name, file_type)) in (0..).zip(entries) {
                    let mut entry = list.reborrow().get(i);
                    entry.set_ino(*ino);
                    entry.set_name(name);
                    entry.set_type(file_type.map_or(0, |it| it.number() as u8));
                }
            }
            Mode::File(chunks, _) => {
                let mut list = to.init_file(count(chunks));
                for (i, chunk) in (0..).zip(chunks) {
                    let mut to = list.reborrow().get(i);
                    to.set_len(chunk.len);
                    if let Some((digest, offset, compressed)) = &chunk.blob {
                        let mut blob = to.init_blob();
                        blob.set_digest(digest);
                        blob.set_offset(*offset);
                        blob.set_compressed(*compressed);
                    }
                }
            }
        }
    }
}
