// SPDX-License-Identifier: GPL-2.0

//! The room `sharing`: which files have one page cache.

use super::{image_in, layout};
use crate::chunk::{content, name, pack, Zstd};
use crate::message::{extent, files, hole};
use crate::{Image, Machine, Request};
use format_tests::model::Chunk;
use vfs::{lower::Layout, Fingerprint};

/// A file of two chunks and a hole, of an image of `version`.
struct Sample {
    stored: [Vec<u8>; 2],
    extents: Vec<Chunk>,
}

impl Sample {
    fn new() -> Self {
        let data = [content(40_000, 1), content(50_000, 2)];
        let stored = data.map(|data| Zstd::PLAIN.chunk(&data));
        let extents = vec![
            extent(&stored[0], true, 0, 40_000),
            hole(4096),
            extent(&stored[1], true, 0, 50_000),
        ];
        Self { stored, extents }
    }

    fn pack(&self) -> Vec<u8> {
        pack(&self.stored)
    }

    /// The fingerprint of the file with these extents.
    fn of(
        &self,
        machine: &Machine,
        layout: &Layout,
        version: u64,
        request: Request<'_>,
    ) -> Fingerprint {
        self.of_extents(machine, layout, version, request, self.extents.clone())
    }

    fn of_extents(
        &self,
        machine: &Machine,
        layout: &Layout,
        version: u64,
        request: Request<'_>,
        extents: Vec<Chunk>,
    ) -> Fingerprint {
        let rootfs = files(version, vec![extents]).write(1 << 10);
        let image = image_in(machine, layout, &rootfs, &[self.pack()], request);
        fingerprint(&image)
    }
}

fn fingerprint(image: &Image) -> Fingerprint {
    let inode = image.inode(2).unwrap();
    let file = inode.open().unwrap();
    file.content().expect("it is not a small one")
}

fn domain(name: &str) -> Request<'_> {
    Request {
        domain: Some(name),
        ..Request::default()
    }
}

#[test]
fn what_is_equal() {
    let sample = Sample::new();
    let machine = Machine::new().unwrap();
    let one = layout(&[sample.pack()]);
    let two = layout(&[sample.pack()]);
    let none = Request::default();
    // Whoever holds the number of a filesystem keeps it.
    let rootfs = files(6, vec![Vec::new()]).write(1 << 10);
    let _keeps = image_in(&machine, &one, &rootfs, &[], none);
    let ours = sample.of(&machine, &one, 6, none);
    assert_eq!(sample.of(&machine, &one, 6, none), ours, "the same again");
    assert_eq!(
        sample.of(&machine, &one, 5, none),
        ours,
        "a version that has LZ4, too"
    );
    assert_ne!(
        sample.of(&machine, &one, 4, none),
        ours,
        "one that has no LZ4"
    );
    assert_ne!(
        sample.of(&machine, &two, 6, none),
        ours,
        "another file of another layout"
    );

    let shared = sample.of(&machine, &one, 6, domain("a"));
    assert_eq!(
        sample.of(&machine, &two, 6, domain("a")),
        shared,
        "by its domain"
    );
    assert_ne!(
        shared, ours,
        "nobody shares with what is outside of the domain"
    );
    assert_ne!(
        sample.of(&machine, &one, 6, domain("b")),
        shared,
        "another domain"
    );
    assert_ne!(
        sample.of(&machine, &one, 6, domain("")),
        ours,
        "a domain without a name"
    );
}

#[test]
fn what_is_not_equal() {
    let sample = Sample::new();
    let machine = Machine::new().unwrap();
    let layout = layout(&[sample.pack()]);
    let request = domain("a");
    let ours = sample.of(&machine, &layout, 6, request);
    let with = |change: &dyn Fn(&mut Vec<Chunk>)| {
        let mut extents = sample.extents.clone();
        change(&mut extents);
        sample.of_extents(&machine, &layout, 6, request, extents)
    };
    assert_eq!(with(&|_| {}), ours);
    assert_ne!(with(&|extents| extents.swap(0, 2)), ours, "another order");
    assert_ne!(with(&|extents| extents[1].len += 1), ours, "a longer hole");
    assert_ne!(
        with(&|extents| extents.retain(|extent| extent.blob.is_some())),
        ours,
        "no hole"
    );
    assert_ne!(with(&|extents| extents[2].len -= 1), ours, "a shorter end");
    let offset = |extents: &mut Vec<Chunk>| {
        extents[2].len -= 1;
        extents[2].blob.as_mut().unwrap().1 = 1;
    };
    assert_ne!(
        with(&offset),
        with(&|extents| extents[2].len -= 1),
        "another part"
    );
    let raw = |extents: &mut Vec<Chunk>| extents[2].blob.as_mut().unwrap().2 = false;
    assert_ne!(with(&raw), ours, "as stored, and not decompressed");
    // Two extents that come to one are not told from it by chance: lengths are told, too.
    let split = |extents: &mut Vec<Chunk>| {
        let mut second = extents[1].clone();
        (extents[1].len, second.len) = (4000, 96);
        extents.insert(2, std::mem::replace(&mut second, extents[1].clone()));
        extents[2].len = 96;
    };
    assert_ne!(with(&split), ours);
}

#[test]
fn a_filesystem_that_comes_later_is_another_one() {
    let sample = Sample::new();
    let machine = Machine::new().unwrap();
    let layout = layout(&[sample.pack()]);
    let none = Request::default();
    let first = sample.of(&machine, &layout, 6, none);
    // Nothing of it was mounted meanwhile: it may be another one with the same numbers.
    assert_ne!(sample.of(&machine, &layout, 6, none), first);
    let rootfs = files(6, vec![sample.extents.clone()]).write(1 << 10);
    let mounted = image_in(&machine, &layout, &rootfs, &[sample.pack()], none);
    assert_eq!(sample.of(&machine, &layout, 6, none), fingerprint(&mounted));
}

#[test]
fn chunks_of_small_files_share_by_the_same_rules() {
    let data = content(3000, 1);
    let stored = Zstd::PLAIN.chunk(&data);
    let rootfs = files(6, vec![vec![extent(&stored, true, 0, 3000)]]).write(1 << 10);
    let packs = [pack(&[stored])];
    let machine = Machine::new().unwrap();
    let (one, two) = (layout(&packs), layout(&packs));
    let mut images = Vec::new();
    let mut caches = |layout: &Layout, request: Request<'_>| {
        let image = image_in(&machine, layout, &rootfs, &packs, request);
        let inode = image.inode(2).unwrap();
        let (bytes, all) = inode.open().unwrap().copy_shared(0, 3000);
        assert!(all == Ok(true) && bytes == data);
        drop(inode);
        images.push(image);
        machine.shared_caches()
    };
    assert_eq!(caches(&one, Request::default()), 1);
    assert_eq!(caches(&one, Request::default()), 1, "of the same file");
    assert_eq!(caches(&two, Request::default()), 2, "of another file");
    assert_eq!(caches(&one, domain("a")), 3);
    assert_eq!(caches(&two, domain("a")), 3, "of the same domain");
    assert_eq!(caches(&two, domain("b")), 4);
    assert_eq!(images[1].chunks_verified(), 0, "it was there");
    assert!(one.counts().0 > 0 && name(&packs[0]).len() == 64);
}
