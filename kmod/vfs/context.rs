// SPDX-License-Identifier: GPL-2.0

//! Mount options and the mount's message log.
//!
//! C headers: `include/linux/fs_context.h`, `include/linux/fs_parser.h`.

use crate::{
    bindings,
    filesystem::FileSystem,
    lower,
    super_block::{self, SuperBlock},
};
use core::marker::PhantomData;
use kernel::{
    error::{from_result, to_result},
    fmt,
    prelude::*,
};

/// The specification of one mount option (`struct fs_parameter_spec`).
#[repr(transparent)]
pub struct ParameterSpec(bindings::fs_parameter_spec);

impl ParameterSpec {
    /// Ends every list of specifications.
    pub const END: Self = Self(pin_init::zeroed());

    /// An option `name=value`; `index` is what [`FileSystem::parse_param`] gets.
    pub const fn string(name: &'static CStr, index: u8) -> Self {
        Self::new(name, index, Some(bindings::fs_param_is_string))
    }

    /// An option whose value is a path: `name=path`, or what fsconfig(2) takes by
    /// `FSCONFIG_SET_PATH`, `FSCONFIG_SET_PATH_EMPTY` and `FSCONFIG_SET_FD`.
    pub const fn path(name: &'static CStr, index: u8) -> Self {
        Self::new(name, index, Some(is_path))
    }

    const fn new(name: &'static CStr, index: u8, type_: bindings::fs_param_type) -> Self {
        let mut spec: bindings::fs_parameter_spec = pin_init::zeroed();
        spec.name = kernel::str::as_char_ptr_in_const_context(name);
        spec.type_ = type_;
        spec.opt = index;
        Self(spec)
    }

    /// Whether `specs` ends with [`ParameterSpec::END`].
    const fn is_terminated(specs: &[Self]) -> bool {
        match specs {
            [.., last] => last.0.name.is_null(),
            [] => false,
        }
    }
}

/// The `fs_param_type` of [`ParameterSpec::path`].
///
/// # Safety
///
/// Only to be called by `__fs_parse`.
unsafe extern "C" fn is_path(
    log: *mut bindings::p_log,
    spec: *const bindings::fs_parameter_spec,
    parameter: *mut bindings::fs_parameter,
    result: *mut bindings::fs_parse_result,
) -> c_int {
    // SAFETY: `__fs_parse` passes valid pointers.
    unsafe {
        match (*parameter).type_() {
            bindings::fs_value_type_fs_value_is_filename
            | bindings::fs_value_type_fs_value_is_file => 0,
            // It has the message for what is no path at all.
            _ => bindings::fs_param_is_string(log, spec, parameter, result),
        }
    }
}

/// The value of a mount option (`struct fs_parameter`).
///
/// # Invariants
///
/// Context and parameter are valid for `'a`, and the parameter is what its
/// [`ParameterSpec`] admits: the string, the file name or the file of its type is there.
pub struct Value<'a> {
    context: *mut bindings::fs_context,
    parameter: *const bindings::fs_parameter,
    _context: PhantomData<&'a ()>,
}

impl<'a> Value<'a> {
    /// The string of an option made by [`ParameterSpec::string`].
    ///
    /// # Errors
    ///
    /// `EINVAL` when it is not a string, as a path may be.
    pub fn string(&self) -> Result<&'a CStr> {
        // SAFETY: By the invariants.
        unsafe {
            if (*self.parameter).type_() != bindings::fs_value_type_fs_value_is_string {
                return Err(EINVAL);
            }
            Ok(CStr::from_char_ptr(
                (*self.parameter).__bindgen_anon_1.string,
            ))
        }
    }

    /// The directory `below` the one that this leads to, by one path walk of the current task
    /// (`fs_lookup_param`): a symbolic link on the way, an absolute one too, leads where it
    /// leads for the task. None below is `c""`. Failures are explained in the mount's log.
    ///
    /// # Errors
    ///
    /// Those of a path walk: `ENOENT`, `ENOTDIR`, `EACCES`, `ELOOP` ...
    pub fn directory(&self, below: &CStr) -> Result<lower::Path> {
        // SAFETY: By the invariants.
        let (dirfd, start) = unsafe {
            let value = &(*self.parameter).__bindgen_anon_1;
            match (*self.parameter).type_() {
                bindings::fs_value_type_fs_value_is_string => {
                    (bindings::AT_FDCWD, CStr::from_char_ptr(value.string))
                }
                bindings::fs_value_type_fs_value_is_filename => (
                    (*self.parameter).dirfd,
                    CStr::from_char_ptr(bindings::vfs_rs_filename(value.name)),
                ),
                bindings::fs_value_type_fs_value_is_file => ((*self.parameter).dirfd, c""),
                _ => return Err(EINVAL),
            }
        };
        // What an empty path leads to: the directory that `dirfd` is open on.
        let start = if start.is_empty() { c"." } else { start };
        let mut name = KVec::new();
        for part in [start.to_bytes(), b"/", below.to_bytes_with_nul()] {
            name.extend_from_slice(part, GFP_KERNEL)?;
        }
        let name = CStr::from_bytes_with_nul(&name).map_err(|_| EINVAL)?;
        // SAFETY: By the invariants.
        unsafe { lower::Path::of_option(self.context, *self.parameter, dirfd, name) }
    }
}

/// Where a mount's messages go: to the reader of the `fsopen()` file descriptor,
/// or, from `mount(2)`, to the kernel log.
pub struct Log<'a> {
    context: *mut bindings::fs_context,
    _context: PhantomData<&'a ()>,
}

impl Log<'_> {
    /// Logs an error (`errorfc`).
    pub fn error(&self, arguments: fmt::Arguments<'_>) {
        // SAFETY: `from_raw` is only called with contexts valid for `'_`.
        let log = unsafe { &(*self.context).log };
        // SAFETY: The log and its prefix are those of a valid context; `%pA` takes a
        // pointer to `Arguments`.
        unsafe {
            bindings::logfc(
                log.log,
                log.prefix,
                b'e' as c_char,
                c"%pA".as_char_ptr(),
                core::ptr::from_ref(&arguments),
            )
        };
    }

    /// # Safety
    ///
    /// `context` is valid for `'a`.
    pub(crate) unsafe fn from_raw<'a>(context: *mut bindings::fs_context) -> Log<'a> {
        Log {
            context,
            _context: PhantomData,
        }
    }
}

/// `fs_context_operations` of `T`. `fs_private` of a context is a `KBox<T::Options>`.
pub(crate) struct Operations<T>(PhantomData<T>);

impl<T: FileSystem> Operations<T> {
    const TABLE: bindings::fs_context_operations = bindings::fs_context_operations {
        free: Some(Self::free),
        parse_param: Some(Self::parse_param),
        get_tree: Some(Self::get_tree),
        reconfigure: Some(Self::reconfigure),
        ..pin_init::zeroed()
    };

    /// `init_fs_context` of the filesystem type. The pointer is one to
    /// `struct fs_context`, which is opaque in `kernel::bindings`.
    ///
    /// # Safety
    ///
    /// Only to be called by the VFS, as `file_system_type.init_fs_context`.
    pub(crate) unsafe extern "C" fn init(context: *mut kernel::bindings::fs_context) -> c_int {
        from_result(|| {
            let context: *mut bindings::fs_context = context.cast();
            let options = KBox::new(T::Options::default(), GFP_KERNEL)?;
            // SAFETY: The VFS passes a new context that only this call refers to.
            unsafe {
                (*context).fs_private = KBox::into_raw(options).cast();
                (*context).ops = &Self::TABLE;
                // Whatever was asked for: there is nothing to write to.
                (*context).sb_flags |= bindings::VFS_RS_SB_RDONLY as c_uint;
            }
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Only to be called by the VFS, as `fs_context_operations.free`.
    unsafe extern "C" fn free(context: *mut bindings::fs_context) {
        // SAFETY: `fs_private` was set by `init` and is not used after `free`.
        drop(unsafe { KBox::<T::Options>::from_raw((*context).fs_private.cast()) });
    }

    /// # Safety
    ///
    /// Only to be called by the VFS, as `fs_context_operations.parse_param`.
    unsafe extern "C" fn parse_param(
        context: *mut bindings::fs_context,
        parameter: *mut bindings::fs_parameter,
    ) -> c_int {
        const { assert!(ParameterSpec::is_terminated(T::PARAMETERS)) };
        from_result(|| {
            let mut result = pin_init::zeroed();
            // SAFETY: `context` and `parameter` are valid, the specifications end with the
            // empty one (asserted above), and `ParameterSpec` is transparent.
            let index = unsafe {
                bindings::__fs_parse(
                    &raw mut (*context).log,
                    T::PARAMETERS.as_ptr().cast(),
                    parameter,
                    &mut result,
                )
            };
            to_result(index)?;
            // INVARIANT: `__fs_parse` accepted the parameter; both live for this call.
            let value = Value {
                context,
                parameter,
                _context: PhantomData,
            };
            // SAFETY: `fs_private` was set by `init`; the context's `uapi_mutex` is held.
            let options = unsafe { &mut *(*context).fs_private.cast::<T::Options>() };
            // SAFETY: The context outlives this call.
            let log = unsafe { Log::from_raw(context) };
            T::parse_param(
                options,
                u8::try_from(index).map_err(|_| EINVAL)?,
                value,
                &log,
            )?;
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Only to be called by the VFS, as `fs_context_operations.get_tree`.
    unsafe extern "C" fn get_tree(context: *mut bindings::fs_context) -> c_int {
        from_result(|| {
            // SAFETY: The VFS passes a valid, locked context, whose `fs_private` was set by
            // `init`.
            let identity = unsafe {
                let options = &*(*context).fs_private.cast::<T::Options>();
                T::identify(options, &Log::from_raw(context))?
            };
            // SAFETY: As above.
            unsafe { super_block::Operations::<T>::get_tree(context, identity) }?;
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Only to be called by the VFS, as `fs_context_operations.reconfigure`.
    unsafe extern "C" fn reconfigure(context: *mut bindings::fs_context) -> c_int {
        from_result(|| {
            // SAFETY: The VFS passes a valid, locked context, with the root of the mounted
            // filesystem and the options that were given for it.
            unsafe {
                let sb = SuperBlock::<T>::from_raw((*(*context).root).d_sb);
                let options = &*(*context).fs_private.cast::<T::Options>();
                T::reconfigure(sb, options, &Log::from_raw(context))?;
                // Whatever was asked for.
                (*context).sb_flags |= bindings::VFS_RS_SB_RDONLY as c_uint;
            }
            Ok(0)
        })
    }
}
