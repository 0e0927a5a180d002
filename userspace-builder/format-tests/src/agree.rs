// SPDX-License-Identifier: Apache-2.0

//! The comparison of the two readers, field by field.

use crate::metadata_capnp as wire;
use capnp::message::ReaderOptions;
use puzzlefs_format as format;
use std::collections::HashMap;
use wire::inode::mode::Which;

type Vectors<'a> = capnp::struct_list::Reader<'a, wire::inode_vector::Owned>;

/// What to make of it when `puzzlefs_format` refuses something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// The message is valid: a failure.
    Valid,
    /// It may be damaged: fine. What it does accept the other reader must read, too.
    Anything,
}

impl Expect {
    /// How many of `len` elements are looked at: damaged messages can announce many.
    fn elements(self, len: u32) -> std::ops::Range<u32> {
        0..if self == Expect::Valid {
            len
        } else {
            len.min(200)
        }
    }

    fn accepted<T>(self, result: Result<T, format::Error>, what: &str) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) if self == Expect::Valid => panic!("{what}: {error} ({error:?})"),
            Err(_) => None,
        }
    }
}

/// A message that is not in memory, as far as the reader knows.
struct Elsewhere<'a>(&'a [u8]);

/// Bytes of a part: so few that much is not in one.
const PART: usize = 24;

impl format::Source for Elsewhere<'_> {
    fn size(&self) -> usize {
        self.0.len()
    }

    fn part(&self, at: usize) -> Result<format::Part<'_>, format::Error> {
        assert!(at < self.0.len(), "{at} is behind the end");
        let start = at - at % PART;
        let end = self.0.len().min(start + PART);
        let bytes = &self.0[start..end];
        Ok(format::Part { start, bytes })
    }

    fn join(&self, at: usize, len: usize) -> Result<&[u8], format::Error> {
        // What the kernel has to copy.
        assert!(len <= format::limits::MAX_XATTR_VALUE_BYTES, "{len} bytes");
        assert!(
            at % PART + len > PART,
            "{len} bytes at {at} are in one part"
        );
        Ok(&self.0[at..at + len])
    }

    // So every step that can has a scope of its own.
    fn is_full(&self) -> bool {
        true
    }

    fn scope(
        &self,
        function: &mut dyn FnMut(&dyn format::Source) -> Result<(), format::Error>,
    ) -> Result<(), format::Error> {
        function(&Elsewhere(self.0))
    }
}

/// Reads `message` with both readers, in memory and by a [`format::Source`], and panics
/// where they differ. Returns how many inodes `puzzlefs_format` accepted.
pub fn agree(message: &[u8], expect: Expect) -> usize {
    let source = Elsewhere(message);
    let in_memory = format::Rootfs::parse(message);
    // That of its blob.
    let version = in_memory.map_or(format::VERSION_BASE, |rootfs| rootfs.version());
    let in_source = format::Rootfs::parse_source(&source, version);
    // Found once, used with the bytes of the other.
    let heads = (in_memory.map(|r| r.head()), in_source.map(|r| r.head()));
    let ours = [
        in_memory,
        in_source,
        heads.1.map(|head| head.in_memory(message)),
        heads.0.map(|head| head.in_source(&source)),
    ];
    let accepted = ours.map(|ours| agree_with(expect.accepted(ours, "Rootfs"), message, expect));
    assert!(accepted.iter().all(|other| *other == accepted[0]));
    accepted[0]
}

fn agree_with(ours: Option<format::Rootfs<'_>>, message: &[u8], expect: Expect) -> usize {
    let Some(ours) = ours else {
        return 0;
    };
    let mut options = ReaderOptions::new();
    options.traversal_limit_in_words(None);
    let reader = capnp::serialize::read_message(message, options).expect("message");
    let theirs: wire::rootfs::Reader<'_> = reader.get_root().expect("root");

    assert_eq!(ours.version(), theirs.get_manifest_version());
    assert_eq!(ours.data_size(), theirs.get_data_size());
    let vectors = theirs.get_metadatas().expect("metadatas");
    assert_eq!(ours.layers(), vectors.len());
    let mut accepted = 0;
    let mut sum: u64 = 0;
    for layer in 0..ours.layers() {
        let ours = ours.vector(layer).expect("checked by parse");
        let theirs = vectors.get(layer).get_inodes().expect("inodes");
        assert_eq!(ours.len(), theirs.len());
        sum += u64::from(theirs.len());
        for index in expect.elements(ours.len()) {
            assert_eq!(ours.ino(index), Ok(theirs.get(index).get_ino()));
            if let Some(inode) = expect.accepted(ours.get(index), "inode") {
                inode_agrees(inode, theirs.get(index), expect);
                accepted += 1;
            }
        }
    }
    if expect == Expect::Valid {
        lookups_agree(&ours, &vectors);
    }
    let recorded = Some(theirs.get_inode_count()).filter(|count| *count != 0);
    assert_eq!(ours.inode_count(), Ok(recorded.unwrap_or(sum)));
    verity_agrees(&ours, theirs, expect);
    accepted
}

/// Of all inodes of a number the last one in the newest layer counts: the one that is
/// met last on the way from the oldest layer's first.
fn lookups_agree(ours: &format::Rootfs<'_>, vectors: &Vectors<'_>) {
    let mut inodes = HashMap::new();
    for layer in (0..vectors.len()).rev() {
        for inode in vectors.get(layer).get_inodes().expect("inodes") {
            let is_whiteout = matches!(inode.get_mode().which(), Ok(Which::Wht(())));
            let facts = (inode.get_uid(), inode.get_mtime());
            inodes.insert(inode.get_ino(), (!is_whiteout).then_some(facts));
        }
    }
    for (ino, facts) in inodes {
        let inode = ours.inode(ino).expect("inode");
        let found = inode.map(|inode| (inode.uid(), inode.mtime().sec));
        assert_eq!(found, facts, "inode {ino}");
        if let Some(Ok(format::Kind::Dir(dir))) = inode.map(|inode| inode.kind()) {
            listing_agrees(ours, &dir);
        }
    }
}

/// The entries of a directory, in any order, are what each is by itself.
fn listing_agrees(ours: &format::Rootfs<'_>, dir: &format::Dir<'_>) {
    let mut live = ours.live_entries(dir);
    for index in (0..dir.len()).chain((0..dir.len()).rev()) {
        let entry = dir.entry(index).expect("entry");
        let inode = ours.inode(entry.ino).expect("inode");
        let facts = |inode: format::Inode<'_>| (inode.ino(), inode.uid(), inode.mtime().sec);
        let is = inode.map(|inode| inode.file_type());
        match live.get(index) {
            Ok(found) => assert_eq!(
                found.map(|(entry, inode)| (entry, facts(inode))),
                inode.map(|inode| (entry, facts(inode)))
            ),
            Err(error) => {
                assert_eq!(error, format::Error::BadEntryType);
                assert!(entry.file_type.is_some() && entry.file_type != is);
            }
        }
        let mut listing = dir.listing(index);
        for index in index..dir.len() {
            let entry = dir.entry(index).expect("entry");
            assert_eq!(listing.next_entry(), Ok(Some(entry)));
        }
        assert_eq!(listing.next_entry(), Ok(None));
    }
    live.get(dir.len()).expect_err("no entry");
}

fn verity_agrees(ours: &format::Rootfs<'_>, theirs: wire::rootfs::Reader<'_>, expect: Expect) {
    let Some(ours) = expect.accepted(ours.verity_data(), "fsVerityData") else {
        return;
    };
    let list = theirs.get_fs_verity_data().expect("fsVerityData");
    assert_eq!(ours.len(), list.len());
    for index in expect.elements(ours.len()) {
        if let Some(datum) = expect.accepted(ours.get(index), "VerityData") {
            let theirs = list.get(index);
            assert_eq!(&datum.chunk.as_bytes()[..], theirs.get_digest().unwrap());
            assert_eq!(datum.verity[..], *theirs.get_verity().unwrap());
        }
    }
}

fn inode_agrees(ours: Option<format::Inode<'_>>, theirs: wire::inode::Reader<'_>, expect: Expect) {
    let mode = theirs.get_mode().which().expect("mode");
    let Some(ours) = ours else {
        assert!(matches!(mode, Which::Wht(())));
        return;
    };
    assert_eq!(ours.ino(), theirs.get_ino());
    assert_eq!(ours.uid(), theirs.get_uid());
    assert_eq!(ours.gid(), theirs.get_gid());
    assert_eq!(ours.permissions(), theirs.get_permissions() & 0o7777);
    assert_eq!(ours.mtime().sec, theirs.get_mtime());
    assert_eq!(ours.mtime().nsec, theirs.get_mtime_nsec());
    assert_eq!(ours.nlink().unwrap_or(0), theirs.get_nlink());
    assert_eq!(ours.parent().unwrap_or(0), theirs.get_parent());
    assert_eq!(ours.recorded_size().unwrap_or(0), theirs.get_size());
    if let Some(may_have) = expect.accepted(ours.may_have_xattrs(), "attributes") {
        let is_symlink = ours.file_type() == format::FileType::Symlink;
        assert_eq!(may_have, is_symlink || theirs.has_additional());
    }
    xattrs_agree(&ours, theirs, expect);

    let Some(kind) = expect.accepted(ours.kind(), "kind") else {
        return;
    };
    match (kind, mode) {
        (format::Kind::Fifo, Which::Fifo(())) | (format::Kind::Sock, Which::Sock(())) => {}
        (format::Kind::Chr(device), Which::Chr(theirs)) => {
            let theirs = theirs.expect("chr");
            assert_eq!(u64::from(device.major), theirs.get_major());
            assert_eq!(u64::from(device.minor), theirs.get_minor());
        }
        (format::Kind::Blk(device), Which::Blk(theirs)) => {
            let theirs = theirs.expect("blk");
            assert_eq!(u64::from(device.major), theirs.get_major());
            assert_eq!(u64::from(device.minor), theirs.get_minor());
        }
        (format::Kind::Symlink(target), Which::Lnk(())) => {
            let additional = theirs.get_additional().expect("additional");
            assert_eq!(target, additional.get_symlink_target().expect("target"));
        }
        (format::Kind::Dir(ours), Which::Dir(theirs)) => {
            let theirs = theirs.expect("dir");
            assert_eq!(ours.says_sorted(), theirs.get_sorted());
            let entries = theirs.get_entries().expect("entries");
            dir_agrees(ours, entries, expect);
        }
        (format::Kind::File(ours), Which::File(chunks)) => {
            file_agrees(ours, chunks.expect("file"), theirs.get_size(), expect);
        }
        (kind, _) => panic!("another kind: {kind:?}"),
    }
}

fn xattrs_agree(ours: &format::Inode<'_>, theirs: wire::inode::Reader<'_>, expect: Expect) {
    let Some(ours) = expect.accepted(ours.xattrs(), "xattrs") else {
        return;
    };
    let list = theirs
        .get_additional()
        .expect("additional")
        .get_xattrs()
        .expect("xattrs");
    assert_eq!(ours.len(), list.len());
    for index in expect.elements(ours.len()) {
        let Some(xattr) = expect.accepted(ours.get(index), "xattr") else {
            return;
        };
        assert_eq!(xattr.name, list.get(index).get_key().expect("key"));
        assert_eq!(xattr.value, list.get(index).get_val().expect("val"));
        let first = list
            .iter()
            .find(|other| other.get_key().unwrap() == xattr.name);
        let value = first.expect("itself").get_val().unwrap();
        assert_eq!(ours.find(xattr.name), Ok(Some(value)));
    }
    let _ = expect
        .accepted(ours.find(b"no such\0name"), "find")
        .map(|found| assert!(found.is_none()));
}

type Entries<'a> = capnp::struct_list::Reader<'a, wire::dir_entry::Owned>;

/// The first inode number of each name, up to the first name that is damaged.
fn firsts<'a>(entries: &Entries<'a>) -> HashMap<&'a [u8], u64> {
    let mut firsts = HashMap::new();
    for entry in entries.iter() {
        let Ok(name) = entry.get_name() else { break };
        firsts.entry(name).or_insert(entry.get_ino());
    }
    firsts
}

fn is_ascending(entries: &Entries<'_>) -> capnp::Result<bool> {
    let mut last: &[u8] = b"";
    for entry in entries.iter() {
        let name = entry.get_name()?;
        if name <= last {
            return Ok(false);
        }
        last = name;
    }
    Ok(true)
}

fn dir_agrees(ours: format::Dir<'_>, entries: Entries<'_>, expect: Expect) {
    assert_eq!(ours.len(), entries.len());
    let Some(sorted) = expect.accepted(ours.is_sorted(), "is_sorted") else {
        return;
    };
    assert_eq!(sorted, is_ascending(&entries).expect("names"));
    let firsts = firsts(&entries);
    for index in expect.elements(ours.len()) {
        let Some(entry) = expect.accepted(ours.entry(index), "entry") else {
            continue;
        };
        assert_eq!(entry.ino, entries.get(index).get_ino());
        let number = entry.file_type.map_or(0, |file_type| file_type.number());
        assert_eq!(number, entries.get(index).get_type().into());
        assert_eq!(entry.name, entries.get(index).get_name().expect("name"));
        // Looking at every entry for every entry takes its time.
        let ways = if index < 200 {
            &[false, sorted][..]
        } else {
            &[sorted]
        };
        for way in ways {
            if let Some(found) = expect.accepted(ours.find(entry.name, *way), "find") {
                assert_eq!(found, firsts.get(entry.name).copied());
            }
        }
    }
    for way in [false, sorted] {
        if let Some(found) = expect.accepted(ours.find(b"no/such\0name", way), "find") {
            assert_eq!(found, None);
        }
    }
}

fn file_agrees(
    ours: format::Extents<'_>,
    chunks: capnp::struct_list::Reader<'_, wire::file_chunk::Owned>,
    size: u64,
    expect: Expect,
) {
    assert_eq!(ours.len(), chunks.len());
    for index in expect.elements(ours.len()) {
        let Some(extent) = expect.accepted(ours.get(index), "extent") else {
            continue;
        };
        let theirs = chunks.get(index);
        assert_eq!(extent.len, theirs.get_len());
        assert_eq!(extent.chunk.is_some(), theirs.has_blob());
        if let Some(chunk) = extent.chunk {
            let blob = theirs.get_blob().expect("blob");
            assert_eq!(
                &chunk.digest.as_bytes()[..],
                blob.get_digest().expect("digest")
            );
            assert_eq!(chunk.offset, blob.get_offset());
            assert_eq!(chunk.compressed, blob.get_compressed());
        }
    }
    let Some(total) = expect.accepted(ours.total(), "total") else {
        return;
    };
    assert_eq!(
        total,
        chunks.iter().map(|chunk| chunk.get_len()).sum::<u64>()
    );
    assert!(size == 0 || size == total);
    let end = (0..ours.len()).fold(0, |start, index| {
        ours.get_from(index, start).expect("extent").1
    });
    assert_eq!(end, total);
}
