// SPDX-License-Identifier: GPL-2.0

//! Shrinkers, by which the kernel takes back memory that is only kept (`struct shrinker`).

use crate::bindings;
use core::{marker::PhantomData, ptr::NonNull};
use kernel::{prelude::*, sync::Arc};

/// Memory that can be given back at any time. It is counted in pages.
///
/// Both functions are called by whoever needs memory, in the middle of anything: they must not
/// allocate, nor wait for what may wait for memory.
pub trait Shrink: Send + Sync + 'static {
    /// How many pages could be given back.
    fn count(&self) -> usize;
    /// Gives back `pages`, or what there is. Returns how many they were.
    fn shrink(&self, pages: usize) -> usize;
}

/// The registration of a [`Shrink`], undone on drop.
///
/// # Invariants
///
/// The shrinker is registered. Its `private_data` points to what `_target` keeps.
pub struct Shrinker<T: Shrink> {
    raw: NonNull<bindings::shrinker>,
    _target: Arc<T>,
    _type: PhantomData<T>,
}

// SAFETY: Nothing is done with the shrinker but to free it, which any thread may.
unsafe impl<T: Shrink> Send for Shrinker<T> {}
// SAFETY: As above.
unsafe impl<T: Shrink> Sync for Shrinker<T> {}

impl<T: Shrink> Shrinker<T> {
    /// Has the kernel shrink `target`. It calls the shrinker `name` in debugfs.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new(name: &'static CStr, target: Arc<T>) -> Result<Self> {
        // SAFETY: The name has no conversions to be made if it is the argument of one.
        let raw = unsafe { bindings::shrinker_alloc(0, c"%s".as_char_ptr(), name.as_char_ptr()) };
        let raw = NonNull::new(raw).ok_or(ENOMEM)?;
        // SAFETY: The shrinker is ours alone until it is registered. The target stays until
        // `drop`, which ends all calls first.
        unsafe {
            let shrinker = raw.as_ptr();
            (*shrinker).count_objects = Some(Self::count_objects);
            (*shrinker).scan_objects = Some(Self::scan_objects);
            (*shrinker).seeks = bindings::DEFAULT_SEEKS as c_int;
            (*shrinker).private_data = core::ptr::from_ref(&*target).cast_mut().cast();
            bindings::shrinker_register(shrinker);
        }
        // INVARIANT: As said.
        Ok(Self {
            raw,
            _target: target,
            _type: PhantomData,
        })
    }

    /// # Safety
    ///
    /// Only to be called by the kernel, as `shrinker.count_objects`.
    unsafe extern "C" fn count_objects(
        shrinker: *mut bindings::shrinker,
        _: *mut bindings::shrink_control,
    ) -> c_ulong {
        // SAFETY: By the invariants.
        let target: &T = unsafe { &*(*shrinker).private_data.cast() };
        target.count()
    }

    /// # Safety
    ///
    /// Only to be called by the kernel, as `shrinker.scan_objects`.
    unsafe extern "C" fn scan_objects(
        shrinker: *mut bindings::shrinker,
        control: *mut bindings::shrink_control,
    ) -> c_ulong {
        // SAFETY: By the invariants; the kernel passes a valid control.
        unsafe {
            let target: &T = &*(*shrinker).private_data.cast();
            target.shrink((*control).nr_to_scan)
        }
    }
}

impl<T: Shrink> Drop for Shrinker<T> {
    fn drop(&mut self) {
        // SAFETY: By the invariants. It waits for calls that are under way.
        unsafe { bindings::shrinker_free(self.raw.as_ptr()) };
    }
}
