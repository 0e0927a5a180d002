// SPDX-License-Identifier: GPL-2.0

//! Tests of the rooms, from the bottom up.

use crate::chunk::{manifest, name, sha256};
use crate::chunks::{Chunks, Indexes, Listed, Packs};
use crate::layout::Blobs;
use crate::report::Faults;
use crate::{Image, Machine, Request};
use kernel::sync::Arc;
use puzzlefs_format::Digest;
use vfs::{
    lower::{Credentials, Layout},
    KernelLog, Lines, Log,
};

mod any;
mod content;
mod directories;
mod extents;
mod files;
mod packs;
mod sharing;
mod tables;

/// A layout of these blobs.
fn layout(blobs: &[Vec<u8>]) -> Layout {
    let layout = Layout::new();
    for blob in blobs {
        layout.insert(&name(blob), blob.clone());
    }
    layout
}

/// What is in `layout`, with these packs.
fn packs(layout: &Layout, indexes: &Arc<Indexes>, packs: &[Vec<u8>]) -> Packs {
    let blobs = Blobs::new(layout.directory(), Credentials::current());
    let mut opened = Packs::new(indexes.clone());
    let lines = Lines::new(10);
    for pack in packs {
        let listed = Listed {
            digest: digest(pack),
            size: pack.len() as u64,
            fs_verity: None,
        };
        let result = opened.open(&blobs, &listed, false, &Log(&lines));
        result.expect("it is there");
    }
    opened
}

/// The chunks of an image with these packs; what else is in the layout is loose.
fn chunks(layout: &Layout, listed: &[Vec<u8>], lines: &Lines) -> Chunks {
    let indexes = Indexes::new().unwrap();
    let blobs = Blobs::new(layout.directory(), Credentials::current());
    let packs = packs(layout, &indexes, listed);
    let faults = Faults::new(KernelLog::new(lines).unwrap());
    Chunks::new(blobs, packs, 6, faults).unwrap()
}

fn digest(bytes: &[u8]) -> Digest {
    Digest::from_bytes(sha256(bytes))
}

/// The image of `rootfs` with these packs and loose chunks, mounted from a layout of its own.
fn image(machine: &Machine, rootfs: &[u8], packs: &[Vec<u8>], loose: &[Vec<u8>]) -> Image {
    let layout = layout(&[packs, loose].concat());
    image_in(machine, &layout, rootfs, packs, Request::default())
}

/// The same in a layout that has the packs already.
fn image_in(
    machine: &Machine,
    layout: &Layout,
    rootfs: &[u8],
    packs: &[Vec<u8>],
    request: Request<'_>,
) -> Image {
    let manifest = manifest(rootfs, packs);
    layout.insert(&name(rootfs), rootfs.to_vec());
    layout.insert(&name(&manifest), manifest.clone());
    let lines = Lines::new(1000);
    let image = Image::mount(machine, layout, &sha256(&manifest), request, &lines);
    image.unwrap_or_else(|error| panic!("{error:?}: {:?}", lines.take()))
}
