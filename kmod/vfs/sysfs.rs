// SPDX-License-Identifier: GPL-2.0

//! Directories in sysfs: one of each filesystem type, `/sys/fs/TYPE`, and below it one of each
//! superblock, with files to read (`struct kobject`).
//!
//! C headers: `include/linux/kobject.h`, `include/linux/sysfs.h`.

use crate::{bindings, filesystem::FileSystem, super_block::SuperBlock};
use core::{fmt, marker::PhantomData, ptr::NonNull};
use kernel::{error::to_result, prelude::*, sync::Completion, types::Opaque};

/// A file of a superblock's directory, which shows one value (`struct attribute`).
///
/// # Invariants
///
/// `attribute` has a name.
#[repr(C)]
pub struct Attribute<T> {
    attribute: bindings::attribute,
    value: Value<T>,
}

enum Value<T> {
    Number(fn(&SuperBlock<T>) -> u64),
    Text(fn(&SuperBlock<T>) -> &dyn fmt::Display),
}

impl<T> Attribute<T> {
    /// A file that shows a number.
    pub const fn number(name: &'static CStr, value: fn(&SuperBlock<T>) -> u64) -> Self {
        Self::new(name, Value::Number(value))
    }

    /// A file that shows a text.
    pub const fn text(name: &'static CStr, value: fn(&SuperBlock<T>) -> &dyn fmt::Display) -> Self {
        Self::new(name, Value::Text(value))
    }

    const fn new(name: &'static CStr, value: Value<T>) -> Self {
        let mut attribute: bindings::attribute = pin_init::zeroed();
        attribute.name = kernel::str::as_char_ptr_in_const_context(name);
        attribute.mode = 0o444;
        Self { attribute, value }
    }
}

/// `/sys/fs/TYPE`, where the directories of superblocks are; removed on drop.
///
/// # Invariants
///
/// We own a reference to the kobject, which is in sysfs.
pub(crate) struct TypeDirectory(NonNull<bindings::kobject>);

impl TypeDirectory {
    /// The directory of the filesystem type `name`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, also when there is one of that name.
    pub(crate) fn new(name: &'static CStr) -> Result<Self> {
        // SAFETY: `fs_kobj`, which is `/sys/fs`, is set before any module is there.
        let kobj =
            unsafe { bindings::kobject_create_and_add(name.as_char_ptr(), bindings::fs_kobj) };
        // INVARIANT: As said.
        Ok(Self(NonNull::new(kobj).ok_or(ENOMEM)?))
    }
}

// SAFETY: A reference to a kobject may be used and given up from any thread.
unsafe impl Send for TypeDirectory {}
// SAFETY: As above.
unsafe impl Sync for TypeDirectory {}

impl Drop for TypeDirectory {
    fn drop(&mut self) {
        // SAFETY: By the invariants. No superblock is left, so nothing is in the directory; the
        // kobject's release is the kernel's own, and may come when this module is gone.
        unsafe { bindings::kobject_put(self.0.as_ptr()) };
    }
}

/// A superblock's directory, removed on drop.
pub(crate) struct Directory<T: FileSystem> {
    node: Pin<KBox<Node>>,
    _type: PhantomData<T>,
}

/// What sysfs keeps a pointer to.
#[pin_data]
struct Node {
    #[pin]
    kobj: Opaque<bindings::kobject>,
    sb: *mut bindings::super_block,
    /// Completed when nobody refers to `kobj` any more.
    #[pin]
    released: Completion,
}

impl Node {
    /// Gives up our reference, and waits for those of others.
    fn put(&self) {
        // SAFETY: The kobject was initialised, and this is our last use of it.
        unsafe { bindings::kobject_put(self.kobj.get()) };
        self.released.wait_for_completion();
    }
}

impl<T: FileSystem> Directory<T> {
    const OPS: bindings::sysfs_ops = bindings::sysfs_ops {
        show: Some(Self::show),
        ..pin_init::zeroed()
    };

    const GROUP: bindings::attribute_group = bindings::attribute_group {
        __bindgen_anon_2: bindings::attribute_group__bindgen_ty_2 {
            attrs_const: T::ATTRIBUTES.as_ptr().cast(),
        },
        ..pin_init::zeroed()
    };

    const GROUPS: [*const bindings::attribute_group; 2] = [&Self::GROUP, core::ptr::null()];

    const TYPE: bindings::kobj_type = bindings::kobj_type {
        release: Some(Self::release),
        sysfs_ops: &Self::OPS,
        default_groups: Self::GROUPS.as_ptr().cast_mut(),
        ..pin_init::zeroed()
    };

    /// The directory `s_sysfs_name` of `sb`, with [`FileSystem::ATTRIBUTES`].
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    ///
    /// # Safety
    ///
    /// `sb` is a `Ready` superblock of `T`, and stays so until the directory is dropped.
    pub(crate) unsafe fn new(
        parent: &TypeDirectory,
        sb: *mut bindings::super_block,
    ) -> Result<Self> {
        const { assert!(matches!(T::ATTRIBUTES, [.., None])) };
        let node = KBox::pin_init(
            pin_init!(Node {
                kobj: Opaque::zeroed(),
                sb,
                released <- Completion::new(),
            }),
            GFP_KERNEL,
        )?;
        // SAFETY: The kobject is zeroed, and stays where it is until it is released; its type is
        // constant. The name is a C string.
        let added = to_result(unsafe {
            bindings::kobject_init_and_add(
                node.kobj.get(),
                &Self::TYPE,
                parent.0.as_ptr(),
                c"%s".as_char_ptr(),
                (&raw const (*sb).s_sysfs_name).cast::<c_char>(),
            )
        });
        if let Err(error) = added {
            node.put();
            return Err(error);
        }
        Ok(Self {
            node,
            _type: PhantomData,
        })
    }

    /// # Safety
    ///
    /// Only to be called by sysfs, as `sysfs_ops.show`.
    unsafe extern "C" fn show(
        kobj: *mut bindings::kobject,
        attribute: *mut bindings::attribute,
        buffer: *mut c_char,
    ) -> isize {
        // SAFETY: sysfs passes the kobject of a `Node`, whose removal waits for this call, so that
        // the superblock is `Ready`; and an attribute of `T::ATTRIBUTES`, of which it is the first
        // field.
        let (sb, attribute) = unsafe {
            let node = kernel::container_of!(kobj.cast::<Opaque<_>>(), Node, kobj);
            (
                SuperBlock::<T>::from_raw((*node).sb),
                &*attribute.cast_const().cast::<Attribute<T>>(),
            )
        };
        match attribute.value {
            // SAFETY: sysfs passes a page to write to.
            Value::Number(value) => unsafe { emit(buffer, format_args!("{}", value(sb))) },
            // SAFETY: As above.
            Value::Text(value) => unsafe { emit(buffer, format_args!("{}", value(sb))) },
        }
    }

    /// # Safety
    ///
    /// Only to be called by `kobject_put`, as `kobj_type.release`.
    unsafe extern "C" fn release(kobj: *mut bindings::kobject) {
        // SAFETY: The kobject is one of a `Node`, which is there until this is completed.
        unsafe {
            let node = kernel::container_of!(kobj.cast::<Opaque<_>>(), Node, kobj);
            (*node).released.complete_all();
        }
    }
}

impl<T: FileSystem> Drop for Directory<T> {
    fn drop(&mut self) {
        // SAFETY: The kobject was added, and is removed once. This waits for readers.
        unsafe { bindings::kobject_del(self.node.kobj.get()) };
        self.node.put();
    }
}

/// Writes a line.
///
/// # Safety
///
/// `buffer` is what `sysfs_ops.show` got.
unsafe fn emit(buffer: *mut c_char, arguments: fmt::Arguments<'_>) -> isize {
    // SAFETY: By the caller; `%pA` takes a pointer to `Arguments`.
    let count = unsafe {
        bindings::sysfs_emit(
            buffer,
            c"%pA\n".as_char_ptr(),
            core::ptr::from_ref(&arguments),
        )
    };
    count as isize
}
