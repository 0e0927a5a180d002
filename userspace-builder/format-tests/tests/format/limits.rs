// SPDX-License-Identifier: Apache-2.0

//! What one field may hold: the last good value, and the first bad one.

use capnp::message::Builder;
use format_tests::metadata_capnp as wire;
use puzzlefs_format::{limits, xattr_is_shown, Error, FileType, Inode, Kind, Rootfs};

/// Reads the one inode that `fill` writes, in metadata of `version`.
fn check<T>(
    version: u64,
    fill: impl FnOnce(wire::inode::Builder<'_>),
    read: impl FnOnce(Inode<'_>) -> Result<T, Error>,
) -> Result<T, Error> {
    let mut message = Builder::new_default();
    let mut rootfs: wire::rootfs::Builder<'_> = message.init_root();
    rootfs.set_manifest_version(version);
    let vector = rootfs.init_metadatas(1).get(0);
    let mut inode = vector.init_inodes(1).get(0);
    inode.set_ino(1);
    inode.reborrow().init_mode().set_fifo(());
    fill(inode);
    let message = capnp::serialize::write_message_to_words(&message);
    let rootfs = Rootfs::parse(&message).unwrap();
    read(rootfs.inode(1)?.expect("an inode"))
}

fn fill_symlink(mut inode: wire::inode::Builder<'_>, target: &[u8]) {
    inode.reborrow().init_mode().set_lnk(());
    inode.init_additional().set_symlink_target(target);
}

#[test]
fn symlink_target() {
    let read = |target: &[u8]| check(3, |i| fill_symlink(i, target), |i| i.kind().map(drop));
    assert_eq!(read(b"/"), Ok(()));
    assert_eq!(read(&[b'x'; 4095]), Ok(()));
    assert_eq!(read(&[b'x'; 4096]), Err(Error::LimitExceeded));
    assert_eq!(read(b""), Err(Error::BadSymlink));
    assert_eq!(read(b"a\0b"), Err(Error::BadSymlink));
    let none = check(3, |i| i.init_mode().set_lnk(()), |i| i.kind().map(drop));
    assert_eq!(none, Err(Error::BadSymlink));
}

#[test]
fn directory_entry() {
    let read = |ino: u64, name: &[u8]| {
        let fill = |inode: wire::inode::Builder<'_>| {
            let mut entry = inode.init_mode().init_dir().init_entries(1).get(0);
            entry.set_ino(ino);
            entry.set_name(name);
        };
        check(3, fill, |inode| match inode.kind()? {
            Kind::Dir(dir) => dir.entry(0).map(drop),
            _ => panic!("a directory"),
        })
    };
    for name in [&b"a"[..], b"...", b".a", b" ", b"\xff\xfe", &[b'x'; 255]] {
        assert_eq!(read(1, name), Ok(()));
        assert_eq!(read(0, name), Err(Error::BadDirEntry));
    }
    for name in [&b""[..], b".", b"..", b"/", b"a/b", b"a\0"] {
        assert_eq!(read(1, name), Err(Error::BadDirEntry));
    }
    assert_eq!(read(1, &[b'x'; 256]), Err(Error::LimitExceeded));
    for len in 1..40 {
        for at in 0..len {
            for (byte, is_bad) in [
                (0, true),
                (1, false),
                (b'.', false),
                (b'/', true),
                (b'0', false),
            ] {
                let mut name = vec![0xff; len];
                name[at] = byte;
                let is_bad = is_bad || name == b".";
                assert_eq!(read(1, &name).is_err(), is_bad, "{name:?}");
            }
        }
    }
}

#[test]
fn type_of_an_entry() {
    for number in 0..=u8::MAX {
        let fill = |inode: wire::inode::Builder<'_>| {
            let mut entry = inode.init_mode().init_dir().init_entries(1).get(0);
            entry.set_ino(1);
            entry.set_name(b"a");
            entry.set_type(number);
        };
        let read = check(3, fill, |inode| match inode.kind()? {
            Kind::Dir(dir) => Ok(dir.entry(0)?.file_type.map_or(0, |it| it.number())),
            _ => panic!("a directory"),
        });
        match number {
            0..=7 => assert_eq!(read, Ok(number.into())),
            _ => assert_eq!(read, Err(Error::BadEntryType)),
        }
    }
}

#[test]
fn xattr() {
    let read = |name: &[u8], value: &[u8], count: u32| {
        let fill = |inode: wire::inode::Builder<'_>| {
            let mut list = inode.init_additional().init_xattrs(count);
            let mut xattr = list.reborrow().get(0);
            xattr.set_key(name);
            xattr.set_val(value);
        };
        check(3, fill, |inode| inode.xattrs()?.get(0).map(drop))
    };
    assert_eq!(read(&[b'x'; 255], &[0; 65536], 1), Ok(()));
    assert_eq!(read(b"a", b"", limits::MAX_XATTRS), Ok(()));
    assert_eq!(
        read(b"a", b"", limits::MAX_XATTRS + 1),
        Err(Error::LimitExceeded)
    );
    assert_eq!(read(&[b'x'; 256], b"", 1), Err(Error::LimitExceeded));
    assert_eq!(read(b"a", &[0; 65537], 1), Err(Error::LimitExceeded));
    assert_eq!(read(b"", b"", 1), Err(Error::BadXattr));
    assert_eq!(read(b"a\0", b"", 1), Err(Error::BadXattr));
}

#[test]
fn device() {
    let read = |major, minor| {
        let fill = |inode: wire::inode::Builder<'_>| {
            let mut device = inode.init_mode().init_blk();
            device.set_major(major);
            device.set_minor(minor);
        };
        check(3, fill, |inode| inode.kind().map(drop))
    };
    assert_eq!(read(4095, 1_048_575), Ok(()));
    assert_eq!(read(4096, 0), Err(Error::BadDevice));
    assert_eq!(read(0, 1_048_576), Err(Error::BadDevice));
    assert_eq!(read(1 << 32, 0), Err(Error::BadDevice));
}

#[test]
fn mtime_and_permissions_and_mode() {
    let read = |nsec| check(3, |mut i| i.set_mtime_nsec(nsec), |i| Ok(i.mtime().nsec));
    assert_eq!(read(999_999_999), Ok(999_999_999));
    assert_eq!(read(1_000_000_000), Err(Error::BadTime));
    let mode = check(
        3,
        |mut i| i.set_permissions(0xffff),
        |i| Ok(i.permissions()),
    );
    assert_eq!(mode, Ok(0o7777));
    let unknown = check(3, |i| i.init_mode().set_unknown(()), |_| Ok(()));
    assert_eq!(unknown, Err(Error::BadMode));
}

#[test]
fn owner() {
    let read = |uid, gid| {
        let fill = |mut inode: wire::inode::Builder<'_>| {
            inode.set_uid(uid);
            inode.set_gid(gid);
        };
        check(3, fill, |inode| Ok((inode.uid(), inode.gid())))
    };
    assert_eq!(read(u32::MAX - 1, 0), Ok((u32::MAX - 1, 0)));
    assert_eq!(read(0, u32::MAX - 1), Ok((0, u32::MAX - 1)));
    assert_eq!(read(u32::MAX, 0), Err(Error::BadOwner));
    assert_eq!(read(0, u32::MAX), Err(Error::BadOwner));
}

/// As getxattr(2) has it on a filesystem with a handler for each namespace.
#[test]
fn shown_xattrs() {
    use FileType::{Blk, Chr, Dir, Fifo, File, Sock, Symlink};
    let all = [Fifo, Chr, Dir, Blk, File, Symlink, Sock];
    for (name, types) in [
        ("user.a", &[Dir, File][..]),
        ("trusted.a", &all),
        ("security.capability", &all),
        (
            "system.posix_acl_access",
            &[Fifo, Chr, Dir, Blk, File, Sock],
        ),
        ("system.posix_acl_default", &[Dir]),
        ("system.posix_acl_access.", &[]),
        ("system.nfs4_acl", &[]),
        ("btrfs.compression", &[]),
        ("user.", &[]),
        ("trusted.", &[]),
        ("security", &[]),
        ("User.a", &[]),
        ("a", &[]),
    ] {
        let shown = all.iter().filter(|t| xattr_is_shown(name.as_bytes(), **t));
        assert!(shown.eq(types), "{name}");
    }
}

/// A chunk as written, in full: offset, length, digest.
struct Chunk {
    blob: Option<(u64, usize)>,
    len: u64,
}

/// The proved size of a file of these chunks with this recorded size.
fn total(version: u64, size: u64, chunks: &[Chunk]) -> Result<u64, Error> {
    let fill = |mut inode: wire::inode::Builder<'_>| {
        inode.set_size(size);
        let mut list = inode.init_mode().init_file(chunks.len() as u32);
        for (i, chunk) in (0..).zip(chunks) {
            let mut to = list.reborrow().get(i);
            to.set_len(chunk.len);
            if let Some((offset, digest_len)) = chunk.blob {
                let mut blob = to.init_blob();
                blob.set_offset(offset);
                blob.set_digest(&[7; 64][..digest_len]);
            }
        }
    };
    check(version, fill, |inode| match inode.kind()? {
        Kind::File(extents) => {
            // In steps it is the same.
            let steps = (0..extents.len()).try_fold(0, |at, i| extents.end_of(i..i + 1, at));
            let steps = steps.and_then(|total| extents.proved(total));
            assert_eq!(steps, extents.total());
            steps
        }
        _ => panic!("a file"),
    })
}

fn data(offset: u64, len: u64) -> Chunk {
    Chunk {
        blob: Some((offset, 32)),
        len,
    }
}

fn hole(len: u64) -> Chunk {
    Chunk { blob: None, len }
}

#[test]
fn file_size() {
    assert_eq!(total(3, 0, &[]), Ok(0));
    assert_eq!(total(3, 7, &[data(0, 3), data(9, 4)]), Ok(7));
    assert_eq!(total(3, 0, &[data(0, 3), data(9, 4)]), Ok(7));
    for size in [1, 6, 8] {
        let chunks = [data(0, 3), data(9, 4)];
        assert_eq!(total(3, size, &chunks), Err(Error::SizeMismatch));
    }
    assert_eq!(total(3, 1, &[]), Err(Error::SizeMismatch));
    // From version 6 on nobody has to add up extents to know the size.
    assert_eq!(total(5, 0, &[data(0, 3)]), Ok(3));
    assert_eq!(total(6, 0, &[data(0, 3)]), Err(Error::NoSize));
    assert_eq!(total(6, 3, &[data(0, 3)]), Ok(3));
    assert_eq!(total(6, 0, &[]), Ok(0));

    let max = limits::MAX_FILE_BYTES;
    assert_eq!(total(4, 0, &[hole(max)]), Ok(max));
    assert_eq!(
        total(4, 0, &[hole(max), hole(1)]),
        Err(Error::LimitExceeded)
    );
    assert_eq!(
        total(4, 0, &[hole(u64::MAX), hole(2)]),
        Err(Error::LimitExceeded)
    );
    assert_eq!(total(4, max + 1, &[]), Err(Error::LimitExceeded));
}

#[test]
fn extent() {
    let max = limits::MAX_CHUNK_BYTES;
    assert_eq!(total(3, 0, &[data(0, max)]), Ok(max));
    assert_eq!(total(3, 0, &[data(max - 1, 1)]), Ok(1));
    assert_eq!(total(3, 0, &[data(max, 1)]), Err(Error::LimitExceeded));
    assert_eq!(total(3, 0, &[data(1, max)]), Err(Error::LimitExceeded));
    assert_eq!(total(3, 0, &[data(u64::MAX, 2)]), Err(Error::LimitExceeded));
    assert_eq!(total(3, 0, &[data(0, 0)]), Err(Error::BadExtent));
    for digest_len in [0, 31, 33] {
        let chunk = Chunk {
            blob: Some((0, digest_len)),
            len: 1,
        };
        assert_eq!(total(3, 0, &[chunk]), Err(Error::BadDigest));
    }
    assert_eq!(total(4, 0, &[hole(0)]), Err(Error::BadExtent));
    // A version 3 reader takes a hole for a broken reference.
    assert_eq!(total(3, 0, &[hole(1)]), Err(Error::BadExtent));
}

#[test]
fn layers() {
    let read = |layers| {
        let mut message = Builder::new_default();
        let mut rootfs: wire::rootfs::Builder<'_> = message.init_root();
        rootfs.set_manifest_version(3);
        rootfs.init_metadatas(layers);
        let message = capnp::serialize::write_message_to_words(&message);
        Rootfs::parse(&message).map(|rootfs| rootfs.layers())
    };
    assert_eq!(read(limits::MAX_LAYERS), Ok(limits::MAX_LAYERS));
    assert_eq!(read(limits::MAX_LAYERS + 1), Err(Error::LimitExceeded));
}
