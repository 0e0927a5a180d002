// SPDX-License-Identifier: GPL-2.0

//! PuzzleFS: mounts container images of content-defined chunks read-only, straight
//! from a local OCI layout.
//!
//! The way of a read: [`file`] has found the chunks of a file ([`store`]), in the image's
//! packs ([`pack`]) or each in a blob of its own ([`loose`]);
//! [`data`] finds the chunk of each position; a [`slot`] reads it, verifies it and
//! decompresses it into the page cache, with other processors' help if there are several
//! ([`batch`]).
//!
//! All `unsafe` code and all of the C API are behind the `vfs` crate, all parsing
//! of untrusted bytes is in the `puzzlefs_format` crate.

#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use error::{errno, in_inode, logged};
use faults::Purpose;
use kernel::{prelude::*, seq_file::SeqFile, sync::Arc};
use metadata::Reader;
use vfs::{
    Attribute, DirEmitter, FileSystem, Inode, InodeRef, Log, New, ParameterSpec, ReadWindow,
    SeekTo, Statfs, SuperBlock, Value, XattrLister,
};

#[forbid(unsafe_code)]
mod batch;
#[forbid(unsafe_code)]
mod blobs;
#[forbid(unsafe_code)]
mod data;
#[forbid(unsafe_code)]
mod decoder;
#[forbid(unsafe_code)]
mod dir;
#[forbid(unsafe_code)]
mod error;
#[forbid(unsafe_code)]
mod faults;
#[forbid(unsafe_code)]
mod file;
#[forbid(unsafe_code)]
mod fingerprint;
#[forbid(unsafe_code)]
mod image;
#[forbid(unsafe_code)]
mod index;
#[forbid(unsafe_code)]
mod inode;
#[forbid(unsafe_code)]
mod loose;
#[forbid(unsafe_code)]
mod metadata;
#[forbid(unsafe_code)]
mod options;
#[forbid(unsafe_code)]
mod pack;
#[forbid(unsafe_code)]
mod pool;
#[forbid(unsafe_code)]
mod request;
#[forbid(unsafe_code)]
mod run;
#[forbid(unsafe_code)]
mod shared;
#[forbid(unsafe_code)]
mod slot;
#[forbid(unsafe_code)]
mod stats;
#[forbid(unsafe_code)]
mod store;
#[forbid(unsafe_code)]
mod table;
#[forbid(unsafe_code)]
mod xattr;

use image::Image;

/// The filesystem's name, in `mount -t` and in the kernel log.
const NAME: &CStr = c"puzzlefs";

impl FileSystem for Image {
    const NAME: &'static CStr = NAME;
    /// "PUZZ".
    const MAGIC: u32 = 0x5a5a_5550;
    const PARAMETERS: &'static [ParameterSpec] = options::PARAMETERS;
    const ATTRIBUTES: &'static [Option<&'static Attribute<Self>>] = stats::ATTRIBUTES;
    const READAHEAD_BYTES: usize = data::READAHEAD_BYTES;
    const REQUEST_BYTES: usize = data::REQUEST_BYTES;
    const INODE_CACHE: &'static CStr = c"puzzlefs_inode_cache";
    const SHARED_NAME: &'static CStr = c"pseudo_puzzlefs";
    const SHARED_INODE_CACHE: &'static CStr = c"puzzlefs_shared_inode_cache";

    type Shared = image::Shared;
    type Options = options::Options;
    type Identity = request::Request;
    type InodeData = inode::InodeData;
    type OpenFile = file::OpenFile;

    fn shared() -> Result<Self::Shared> {
        image::Shared::new()
    }

    fn parse_param(
        options: &mut Self::Options,
        index: u8,
        value: Value<'_>,
        log: &Log<'_>,
    ) -> Result {
        options.parse(index, value, log)
    }

    fn identify(options: &Self::Options, log: &Log<'_>) -> Result<Self::Identity> {
        request::Request::new(options, log)
    }

    fn fill_super(sb: &SuperBlock<Self, New>, log: &Log<'_>) -> Result<Pin<KBox<Self>>> {
        Image::open(sb.identity(), sb, log)
    }

    fn reconfigure(sb: &SuperBlock<Self>, options: &Self::Options, log: &Log<'_>) -> Result {
        sb.identity().check_remount(options, log)
    }

    fn root<'a>(sb: &'a SuperBlock<Self>, log: &Log<'_>) -> Result<InodeRef<'a, Self>> {
        let metadata = sb.data().metadata();
        let refuse = |error| {
            log.error(format_args!("blob sha256:{}: {error}", metadata.digest()));
            errno(error)
        };
        if let Some(root) = metadata.root().map_err(refuse)? {
            return inode::get(sb, root);
        }
        let reader = Reader::new(sb);
        let root = reader.rootfs().and_then(|rootfs| rootfs.root());
        inode::get(sb, root.map_err(refuse)?)
    }

    fn statfs(sb: &SuperBlock<Self>) -> Result<Statfs> {
        let reader = Reader::new(sb);
        let found = reader.rootfs().and_then(|rootfs| {
            Ok(Statfs {
                bytes: rootfs.data_size(),
                inodes: rootfs.inode_count()?,
            })
        });
        found.map_err(logged(sb.data(), Purpose::Metadata))
    }

    fn show_options(sb: &SuperBlock<Self>, seq: &SeqFile) {
        sb.identity().show_options(seq);
    }

    fn uuid(identity: &Self::Identity) -> [u8; 16] {
        identity.uuid()
    }

    fn inode(sb: &SuperBlock<Self>, ino: u64) -> Result<InodeRef<'_, Self>> {
        inode::by_number(sb, ino).map_err(logged(sb.data(), Purpose::Inode(ino)))
    }

    fn parent(dir: &Inode<Self>) -> Result<InodeRef<'_, Self>> {
        inode::parent(dir).map_err(in_inode(dir))
    }

    fn lookup<'a>(dir: &'a Inode<Self>, name: &[u8]) -> Result<Option<InodeRef<'a, Self>>> {
        dir::lookup(dir, name).map_err(in_inode(dir))
    }

    fn get_xattr<R>(
        inode: &Inode<Self>,
        name: &CStr,
        take: impl FnOnce(&[u8]) -> Result<R>,
    ) -> Result<R> {
        xattr::get(inode, name, take).map_err(in_inode(inode))
    }

    fn list_xattrs(inode: &Inode<Self>, lister: &mut XattrLister<'_>) -> Result {
        xattr::list(inode, lister).map_err(in_inode(inode))
    }

    fn iterate(dir: &Inode<Self>, emitter: &mut DirEmitter<'_>) -> Result {
        dir::iterate(dir, emitter).map_err(in_inode(dir))
    }

    fn kept(inode: &Inode<Self>) -> Option<&Self::OpenFile> {
        inode.data().kept()
    }

    fn open(inode: &Inode<Self>) -> Result<Option<Arc<Self::OpenFile>>> {
        file::open(inode).map_err(in_inode(inode))
    }

    fn copy_shared(
        inode: &Inode<Self>,
        file: &Self::OpenFile,
        position: u64,
        len: usize,
        copy: impl FnMut(&[u8]) -> Result,
    ) -> Result<bool> {
        data::copy_shared(inode, file, position, len, copy)
    }

    fn release(inode: &Inode<Self>, file: Arc<Self::OpenFile>) {
        file::release(inode, file);
    }

    fn seek(
        inode: &Inode<Self>,
        file: &Self::OpenFile,
        position: u64,
        what: SeekTo,
    ) -> Result<u64> {
        file.seek(inode, position, what).map_err(in_inode(inode))
    }

    fn read(inode: &Inode<Self>, file: &Self::OpenFile, window: &mut ReadWindow<'_>) -> Result {
        data::read(inode, file, window)
    }
}

vfs::module_filesystem! {
    type: Image,
    name: "puzzlefs",
    authors: ["The PuzzleFS for Linux authors"],
    description: "Read-only filesystem for container images of content-defined chunks",
    license: "GPL",
    alias: ["fs-puzzlefs"],
}
