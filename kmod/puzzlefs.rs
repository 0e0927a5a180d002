// SPDX-License-Identifier: GPL-2.0

//! PuzzleFS: mounts container images of content-defined chunks read-only, straight
//! from a local OCI layout.
//!
//! The rooms, from the top down; each imports only what stands below it:
//!
//! - this file: what the VFS calls;
//! - [`mount`]: a mounted image, and what was asked for;
//! - [`inode`]: inodes, directories, extended attributes, open files;
//! - [`filling`]: the folios of a file, from the chunks that its extents name;
//! - [`metadata`]: the metadata of an image, and the extents of files;
//! - [`sharing`]: which files and chunks of several images are the same;
//! - [`content`]: chunks, verified and decompressed;
//! - [`chunks`]: where the bytes of chunks are, in packs or loose;
//! - [`layout`]: the blobs of the OCI layout;
//! - [`report`]: errnos, lines of the log, counters;
//! - [`tables`]: what knows nothing of all that.
//!
//! All `unsafe` code and all of the C API are behind the `vfs` crate, all parsing
//! of untrusted bytes is in the `puzzlefs_format` crate.

#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use inode::{dir, xattr, InodeData};
use kernel::{prelude::*, seq_file::SeqFile, sync::Arc};
use metadata::Reader;
use mount::{attributes, options, request::Request, Image};
use puzzlefs_format as format;
use report::{errno, logged, Failure, Faults, Purpose};
use vfs::{
    Attribute, Attributes, DirEmitter, FileSystem, Iget, Inode, InodeRef, Log, Mounting, New,
    ParameterSpec, ReadWindow, SeekTo, Statfs, SuperBlock, Value, XattrLister,
};

#[forbid(unsafe_code)]
mod chunks;
#[forbid(unsafe_code)]
mod content;
#[forbid(unsafe_code)]
mod filling;
#[forbid(unsafe_code)]
mod inode;
#[forbid(unsafe_code)]
mod layout;
#[forbid(unsafe_code)]
mod metadata;
#[forbid(unsafe_code)]
mod mount;
#[forbid(unsafe_code)]
mod report;
#[forbid(unsafe_code)]
mod sharing;
#[forbid(unsafe_code)]
mod tables;

/// The filesystem's name, in `mount -t` and in the kernel log.
const NAME: &CStr = c"puzzlefs";

impl FileSystem for Image {
    const NAME: &'static CStr = NAME;
    /// "PUZZ".
    const MAGIC: u32 = 0x5a5a_5550;
    const PARAMETERS: &'static [ParameterSpec] = options::PARAMETERS;
    const ATTRIBUTES: &'static [Option<&'static Attribute<Self>>] = attributes::ATTRIBUTES;
    const READAHEAD_BYTES: usize = filling::READAHEAD_BYTES;
    const REQUEST_BYTES: usize = filling::REQUEST_BYTES;
    const INODE_CACHE: &'static CStr = c"puzzlefs_inode_cache";
    const SHARED_NAME: &'static CStr = c"pseudo_puzzlefs";
    const SHARED_INODE_CACHE: &'static CStr = c"puzzlefs_shared_inode_cache";

    type Shared = mount::Shared;
    type Options = options::Options;
    type Identity = Request;
    type Unmounted = mount::Unmounted;
    type InodeData = InodeData;
    type OpenFile = inode::OpenFile;

    fn shared() -> Result<Self::Shared> {
        mount::Shared::new()
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
        Request::new(options, log)
    }

    fn load(
        request: &Request,
        mounting: &mut Mounting<'_, Self>,
        log: &Log<'_>,
    ) -> Result<Self::Unmounted> {
        mount::Unmounted::new(request, mounting, log)
    }

    fn fill_super(
        sb: &SuperBlock<Self, New>,
        unmounted: Self::Unmounted,
    ) -> Result<Pin<KBox<Self>>> {
        Image::new(unmounted, sb)
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
            return get(sb, root);
        }
        let reader = Reader::new(Image::access(sb));
        let root = reader.rootfs().and_then(|rootfs| rootfs.root());
        get(sb, root.map_err(refuse)?)
    }

    fn statfs(sb: &SuperBlock<Self>) -> Result<Statfs> {
        let reader = Reader::new(Image::access(sb));
        let found = reader.rootfs().and_then(|rootfs| {
            Ok(Statfs {
                bytes: rootfs.data_size(),
                inodes: rootfs.inode_count()?,
            })
        });
        found.map_err(logged(faults(sb), Purpose::Metadata))
    }

    fn show_options(sb: &SuperBlock<Self>, seq: &SeqFile) {
        sb.identity().show_options(seq);
    }

    fn has_devices(identity: &Self::Identity) -> bool {
        identity.has_devices()
    }

    fn uuid(identity: &Self::Identity) -> [u8; 16] {
        identity.uuid()
    }

    fn inode(sb: &SuperBlock<Self>, ino: u64) -> Result<InodeRef<'_, Self>> {
        let found = inode::by_number(Image::access(sb), ino, |inode| get(sb, inode));
        found.map_err(logged(faults(sb), Purpose::Inode(ino)))
    }

    fn parent(dir: &Inode<Self>) -> Result<InodeRef<'_, Self>> {
        let sb = dir.super_block();
        let found = inode::parent(Image::access(sb), dir.ino(), |inode| get(sb, inode));
        found.map_err(in_inode(dir))
    }

    fn lookup<'a>(dir: &'a Inode<Self>, name: &[u8]) -> Result<Option<InodeRef<'a, Self>>> {
        let found = dir::lookup(&Image::node(dir), name, |inode| {
            get(dir.super_block(), inode)
        });
        found.map_err(in_inode(dir))
    }

    fn get_xattr<R>(
        inode: &Inode<Self>,
        name: &CStr,
        take: impl FnOnce(&[u8]) -> Result<R>,
    ) -> Result<R> {
        xattr::get(&Image::node(inode), name, take).map_err(in_inode(inode))
    }

    fn list_xattrs(inode: &Inode<Self>, lister: &mut XattrLister<'_>) -> Result {
        xattr::list(&Image::node(inode), lister).map_err(in_inode(inode))
    }

    fn iterate(dir: &Inode<Self>, emitter: &mut DirEmitter<'_>) -> Result {
        dir::iterate(&Image::node(dir), emitter).map_err(in_inode(dir))
    }

    fn kept(inode: &Inode<Self>) -> Option<&Self::OpenFile> {
        inode.data().kept()
    }

    fn open(inode: &Inode<Self>) -> Result<Option<Arc<Self::OpenFile>>> {
        let sharing = inode.super_block().data().sharing();
        let is_shared = inode.shares_page_cache();
        let share = |content: &_| inode.share_page_cache(content);
        let node = Image::node(inode);
        inode::open(&node, inode.size(), sharing, is_shared, share).map_err(in_inode(inode))
    }

    fn copy_shared(
        inode: &Inode<Self>,
        file: &Self::OpenFile,
        position: u64,
        len: usize,
        copy: impl FnMut(&[u8]) -> Result,
    ) -> Result<bool> {
        Image::file(inode, file).copy_shared(position, len, copy)
    }

    fn release(inode: &Inode<Self>, file: Arc<Self::OpenFile>) {
        inode::release(&Image::node(inode), file);
    }

    fn seek(
        inode: &Inode<Self>,
        file: &Self::OpenFile,
        position: u64,
        what: SeekTo,
    ) -> Result<u64> {
        let access = Image::access(inode.super_block());
        let found = file.extents().seek(access, inode.ino(), position, what);
        found.map_err(in_inode(inode))
    }

    fn read(inode: &Inode<Self>, file: &Self::OpenFile, window: &mut ReadWindow<'_>) -> Result {
        Image::file(inode, file).read(window)
    }
}

/// The VFS inode of `inode`.
///
/// # Errors
///
/// `EUCLEAN` when its metadata is not sound, which is logged; `ENOMEM`.
fn get<'a>(sb: &'a SuperBlock<Image>, inode: format::Inode<'_>) -> Result<InodeRef<'a, Image>> {
    // First: whoever else wants the inode waits for a new one until it is filled, and cannot be
    // killed meanwhile. Metadata may take long to read.
    let generation = sb.identity().generation();
    let attributes = inode::attributes(Image::access(sb), &inode, generation);
    let attributes = attributes.map_err(logged(faults(sb), Purpose::Inode(inode.ino())))?;
    let new = match sb.iget(inode.ino())? {
        Iget::Found(inode) => return Ok(inode),
        Iget::New(new) => new,
    };
    let init = new.init(&attributes, InodeData::new());
    init.inspect_err(|error| {
        if *error == EOVERFLOW {
            log_owner(sb, inode.ino(), &attributes);
        }
    })
}

/// Says of whose owner the user namespace of the mount knows nothing.
#[cold]
fn log_owner(sb: &SuperBlock<Image>, ino: u64, attributes: &Attributes<'_>) {
    let (uid, gid) = (attributes.uid, attributes.gid);
    faults(sb).log_metadata(
        Purpose::Inode(ino),
        format_args!("its owner {uid}:{gid} has no id where it is mounted"),
    );
}

/// The log of the faults of `sb`.
fn faults(sb: &SuperBlock<Image>) -> &Faults {
    sb.data().content().chunks().faults()
}

/// From a failure of what was done with `inode` to its errno, after the log was told what is not
/// sound.
fn in_inode<F: Into<Failure>>(inode: &Inode<Image>) -> impl FnOnce(F) -> Error + use<'_, F> {
    logged(faults(inode.super_block()), Purpose::Inode(inode.ino()))
}

vfs::module_filesystem! {
    type: Image,
    name: "puzzlefs",
    authors: ["The PuzzleFS for Linux authors"],
    description: "Read-only filesystem for container images of content-defined chunks",
    license: "GPL",
    alias: ["fs-puzzlefs"],
}
