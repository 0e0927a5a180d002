// SPDX-License-Identifier: GPL-2.0

//! What a filesystem implements, and its registration.

use crate::{
    address_space::ReadWindow,
    backing_dev::BackingDev,
    bindings,
    context::{self, Log, ParameterSpec, Value},
    file::{DirEmitter, SeekTo},
    filter::Filter,
    inode::{Cache, Inode, InodeRef},
    shared_mapping::SharedMappings,
    super_block::{self, Mounting, New, Statfs, SuperBlock},
    sysfs::{Attribute, TypeDirectory},
    xattr::XattrLister,
};
use kernel::{error::to_result, prelude::*, seq_file::SeqFile, sync::Arc, types::Opaque};

/// A read-only filesystem. A value of the type is one mounted instance: what
/// `sb->s_fs_info` is in C.
///
/// Functions are grouped as the tables of C group them.
pub trait FileSystem: Sized + Send + Sync + 'static {
    /// The name in `mount -t NAME` (`file_system_type.name`).
    const NAME: &'static CStr;
    /// The `f_type` of `statfs(2)`.
    const MAGIC: u32;
    /// The mount options; the last one is [`ParameterSpec::END`].
    const PARAMETERS: &'static [ParameterSpec];

    /// The files in the directory of a superblock, `/sys/fs/NAME/MAJOR:MINOR`; the last one is
    /// `None`, and no other.
    const ATTRIBUTES: &'static [Option<&'static Attribute<Self>>];

    /// How far the page cache reads ahead of a reader in order
    /// (`backing_dev_info.ra_pages`), in bytes.
    const READAHEAD_BYTES: usize;
    /// How much it asks for at once if that much is read at once (`io_pages`), in bytes.
    const REQUEST_BYTES: usize;

    /// The name of the slab cache of inodes, in `/proc/slabinfo`.
    const INODE_CACHE: &'static CStr;
    /// The name of the internal filesystem of shared page caches ([`Inode::share_page_cache`]).
    const SHARED_NAME: &'static CStr;
    /// The name of the slab cache of its inodes.
    const SHARED_INODE_CACHE: &'static CStr;

    /// State that all instances share, from registration to the end of the module.
    type Shared: Send + Sync;
    /// Mount options while they are being collected (`fc->fs_private`).
    type Options: Default + Send;
    /// What is mounted. Mounts of what is equal share a superblock, unless their flags (`sync`,
    /// `lazytime` ...) differ or one has options for a security module. To compare must not sleep.
    type Identity: PartialEq + Send + Sync;
    /// What is read before there is a superblock.
    type Unmounted;
    /// Data of an inode in memory. Dropped in an RCU callback: it must not sleep then.
    type InodeData: Send + Sync;
    /// Data of an open regular file (`file->private_data`), or of a regular file that is kept
    /// ready to be read ([`FileSystem::kept`]).
    type OpenFile: Send + Sync;

    /// Makes the state that all instances share, before registration.
    fn shared() -> Result<Self::Shared>;

    /// `fs_context_operations.parse_param`: the option with the index given in
    /// [`FileSystem::PARAMETERS`].
    fn parse_param(
        options: &mut Self::Options,
        index: u8,
        value: Value<'_>,
        log: &Log<'_>,
    ) -> Result;

    /// What a new mount with `options` would mount.
    fn identify(options: &Self::Options, log: &Log<'_>) -> Result<Self::Identity>;

    /// Reads what a superblock of `identity` needs. This may take long. Nobody waits for it, while
    /// others wait for a superblock that is being filled, and cannot be killed.
    fn load(
        identity: &Self::Identity,
        mounting: &mut Mounting<'_, Self>,
        log: &Log<'_>,
    ) -> Result<Self::Unmounted>;

    /// Makes an instance for a new superblock; the core of `fill_super`.
    fn fill_super(
        sb: &SuperBlock<Self, New>,
        unmounted: Self::Unmounted,
    ) -> Result<Pin<KBox<Self>>>;

    /// `fs_context_operations.reconfigure`: checks the options of a remount, which cannot
    /// change anything. mount(8) repeats all that `show_options` shows.
    fn reconfigure(sb: &SuperBlock<Self>, options: &Self::Options, log: &Log<'_>) -> Result;

    /// The inode of the root directory of a new superblock.
    fn root<'a>(sb: &'a SuperBlock<Self>, log: &Log<'_>) -> Result<InodeRef<'a, Self>>;

    /// `super_operations.statfs`.
    fn statfs(sb: &SuperBlock<Self>) -> Result<Statfs>;

    /// `super_operations.show_options`: each option with a comma before it.
    fn show_options(sb: &SuperBlock<Self>, seq: &SeqFile);

    /// Whether the device nodes of superblocks of `identity` lead to devices, unless the mount
    /// has `nodev` (`SB_I_NODEV`).
    fn has_devices(identity: &Self::Identity) -> bool;

    /// The `s_uuid` of superblocks of `identity`.
    fn uuid(identity: &Self::Identity) -> [u8; 16];

    /// The inode with number `ino`, for file handles.
    ///
    /// # Errors
    ///
    /// `ESTALE` when there is none.
    fn inode(sb: &SuperBlock<Self>, ino: u64) -> Result<InodeRef<'_, Self>>;

    /// `export_operations.get_parent`: the directory that `dir` is in.
    ///
    /// # Errors
    ///
    /// `ESTALE` when it is not known.
    fn parent(dir: &Inode<Self>) -> Result<InodeRef<'_, Self>>;

    /// `inode_operations.lookup`: the inode that `name` in `dir` stands for.
    fn lookup<'a>(dir: &'a Inode<Self>, name: &[u8]) -> Result<Option<InodeRef<'a, Self>>>;

    /// `xattr_handler.get`, by the full name; also asked for POSIX ACLs. Calls `take` with
    /// the value.
    ///
    /// # Errors
    ///
    /// `ENODATA` when the inode has no such attribute, and those of `take`.
    fn get_xattr<R>(
        inode: &Inode<Self>,
        name: &CStr,
        take: impl FnOnce(&[u8]) -> Result<R>,
    ) -> Result<R>;

    /// `inode_operations.listxattr`: every name, by the lister.
    fn list_xattrs(inode: &Inode<Self>, lister: &mut XattrLister<'_>) -> Result;

    /// `file_operations.iterate_shared` of a directory: entries from
    /// [`DirEmitter::position`] on, until the emitter is full.
    fn iterate(dir: &Inode<Self>, emitter: &mut DirEmitter<'_>) -> Result;

    /// What there is to know of a regular file to read it, if that is kept as long as the
    /// inode is: then it is as good as open.
    fn kept(inode: &Inode<Self>) -> Option<&Self::OpenFile>;

    /// `file_operations.open` of a regular file that is not kept. None if it is from now on.
    fn open(inode: &Inode<Self>) -> Result<Option<Arc<Self::OpenFile>>>;

    /// `file_operations.read_iter`, asked first for a file that has no pages of its own: calls
    /// `copy`, without any lock, with up to `len` bytes from `position` on, piece by piece, if
    /// they lie in a [`crate::SharedCache`]. False when not all of them do: the rest is then
    /// read by the page cache of the file.
    fn copy_shared(
        inode: &Inode<Self>,
        file: &Self::OpenFile,
        position: u64,
        len: usize,
        copy: impl FnMut(&[u8]) -> Result,
    ) -> Result<bool>;

    /// `file_operations.release`: undoes one [`FileSystem::open`] that returned a file.
    fn release(inode: &Inode<Self>, file: Arc<Self::OpenFile>);

    /// `file_operations.llseek` for `SEEK_DATA` and `SEEK_HOLE`: the first position from
    /// `position` on, which is inside the file, that holds data or that is in a hole. The
    /// end of the file is a hole.
    ///
    /// # Errors
    ///
    /// `ENXIO` when there is none.
    fn seek(inode: &Inode<Self>, file: &Self::OpenFile, position: u64, what: SeekTo)
        -> Result<u64>;

    /// `address_space_operations.read_folio` and `readahead`: fills the window.
    ///
    /// # Errors
    ///
    /// What is not filled yet when it returns becomes an error (`read_folio`) or
    /// is left for a later read (`readahead`).
    fn read(inode: &Inode<Self>, file: &Self::OpenFile, window: &mut ReadWindow<'_>) -> Result;
}

/// The registration of a filesystem type, undone on drop. [`crate::module_filesystem!`]
/// places it in the module's static memory, where lockdep wants its lock classes.
#[pin_data(PinnedDrop)]
pub struct Registration<T: FileSystem> {
    shared: T::Shared,
    inode_cache: Cache<T>,
    directory: TypeDirectory,
    /// What is mounted, by [`FileSystem::uuid`].
    mounted: Filter,
    backing_dev: BackingDev,
    #[pin]
    shared_mappings: SharedMappings,
    #[pin]
    fs: Opaque<bindings::file_system_type>,
}

// SAFETY: Everything inside may be used and dropped from any thread.
unsafe impl<T: FileSystem> Send for Registration<T> {}
// SAFETY: `&Registration` gives access to `T::Shared`, which is `Sync`, and to nothing else.
unsafe impl<T: FileSystem> Sync for Registration<T> {}

impl<T: FileSystem> Registration<T> {
    /// Registers `T` (`register_filesystem`).
    ///
    /// # Errors
    ///
    /// `EBUSY` when the name is taken, `ENOMEM`.
    ///
    /// # Safety
    ///
    /// The registration is only dropped when `module` ends: superblocks, which hold the
    /// module, refer to it.
    pub unsafe fn new(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            shared: T::shared()?,
            inode_cache: Cache::new()?,
            directory: TypeDirectory::new(T::NAME)?,
            mounted: Filter::new()?,
            backing_dev: BackingDev::new(T::NAME, T::READAHEAD_BYTES, T::REQUEST_BYTES)?,
            shared_mappings <- SharedMappings::new(T::SHARED_NAME, T::SHARED_INODE_CACHE, module),
            fs <- Opaque::try_ffi_init(move |slot: *mut bindings::file_system_type| {
                let mut fs: bindings::file_system_type = pin_init::zeroed();
                fs.owner = module.as_ptr();
                fs.name = T::NAME.as_char_ptr();
                fs.parameters = T::PARAMETERS.as_ptr().cast();
                fs.init_fs_context = Some(context::Operations::<T>::init);
                fs.kill_sb = Some(super_block::Operations::<T>::kill);
                // Ids in the inodes are those of the superblock's user namespace, and
                // the VFS does all permission checks: nothing more is needed for
                // idmapped mounts.
                fs.fs_flags = bindings::FS_ALLOW_IDMAP as c_int;
                // SAFETY: `slot` is writable; it stays pinned until `drop` unregisters it.
                to_result(unsafe {
                    slot.write(fs);
                    bindings::register_filesystem(slot)
                })
            }),
        })
    }

    /// The registration of the type of `sb`.
    ///
    /// # Safety
    ///
    /// `sb` is a valid superblock of `T`.
    pub(crate) unsafe fn of<'a>(sb: *mut bindings::super_block) -> &'a Self {
        // SAFETY: A superblock of `T` was made through the `fs` of a `Registration<T>`,
        // which stays while there are superblocks: they pin the module. `Opaque` is
        // transparent.
        unsafe { Self::of_type((*sb).s_type) }
    }

    /// The registration that `fs_type` was made with.
    ///
    /// # Safety
    ///
    /// It is that of a `Registration<T>`, which stays for `'a`.
    pub(crate) unsafe fn of_type<'a>(fs_type: *mut bindings::file_system_type) -> &'a Self {
        let fs: *mut Opaque<bindings::file_system_type> = fs_type.cast();
        // SAFETY: By the caller; `Opaque` is transparent.
        unsafe { &*kernel::container_of!(fs, Self, fs) }
    }

    pub(crate) fn shared(&self) -> &T::Shared {
        &self.shared
    }

    pub(crate) fn backing_dev(&self) -> &BackingDev {
        &self.backing_dev
    }

    /// Which superblocks there may be, by [`FileSystem::uuid`].
    pub(crate) fn mounted(&self) -> &Filter {
        &self.mounted
    }

    pub(crate) fn inode_cache(&self) -> &Cache<T> {
        &self.inode_cache
    }

    /// `/sys/fs/NAME`.
    pub(crate) fn directory(&self) -> &TypeDirectory {
        &self.directory
    }

    pub(crate) fn shared_mappings(&self) -> &SharedMappings {
        &self.shared_mappings
    }
}

#[pinned_drop]
impl<T: FileSystem> PinnedDrop for Registration<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: `fs` was registered by `new`, whose caller promised that the module ends
        // now: no superblock is left, since each holds a reference to it. The barrier waits for
        // inodes that are being freed, before the fields are dropped.
        unsafe {
            bindings::unregister_filesystem(self.fs.get());
            bindings::rcu_barrier();
        }
    }
}

/// Declares a module that is one filesystem: `type` implements [`FileSystem`], the rest is
/// as in [`kernel::prelude::module!`].
#[macro_export]
macro_rules! module_filesystem {
    (type: $type:ty, $($rest:tt)*) => {
        #[::kernel::prelude::pin_data]
        struct FileSystemModule {
            #[pin]
            registration: $crate::Registration<$type>,
        }

        impl ::kernel::InPlaceModule for FileSystemModule {
            fn init(
                module: &'static ::kernel::ThisModule,
            ) -> impl ::kernel::prelude::PinInit<Self, ::kernel::error::Error> {
                ::kernel::try_pin_init!(Self {
                    // SAFETY: The module's own type is dropped when the module ends.
                    registration <- unsafe { $crate::Registration::new(module) },
                })
            }
        }

        ::kernel::prelude::module! {
            type: FileSystemModule,
            $($rest)*
        }
    };
}
