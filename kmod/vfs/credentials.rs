// SPDX-License-Identifier: GPL-2.0

//! The credentials that files below are opened and read with (`struct cred`).

use crate::bindings;
use core::marker::PhantomData;
use kernel::{cred::Credential, sync::aref::ARef, types::NotThreadSafe};

/// The credentials that files are opened and read with. Two are equal if they give the same
/// rights, whichever task they are of.
#[derive(Clone)]
pub struct Credentials(ARef<Credential>);

impl Credentials {
    /// They.
    pub(crate) fn get(&self) -> &Credential {
        &self.0
    }

    /// Those of the current task.
    pub fn current() -> Self {
        // SAFETY: The current task's credentials are valid while it runs this function.
        Self(unsafe { Credential::from_ptr(bindings::vfs_rs_current_cred()) }.into())
    }

    /// What security modules call whoever has them, now: a profile of AppArmor may be replaced.
    fn label(&self) -> bindings::lsm_prop {
        let _override = Override::new(&self.0);
        let mut label = pin_init::zeroed();
        // SAFETY: The place is writable.
        unsafe { bindings::vfs_rs_current_lsmprop(&mut label) };
        label
    }
}

/// Looks at all that a filesystem below may look at: some ask for more than the ids of the VFS
/// (FUSE for the real and saved ones, network filesystems for keys). It does not sleep.
///
/// Of security modules those count that have a name for a task: SELinux, Smack, AppArmor. A
/// Landlock domain cannot be compared from here.
impl PartialEq for Credentials {
    fn eq(&self, other: &Self) -> bool {
        // SAFETY: Both are referenced, and credentials in use do not change.
        let (a, b) = unsafe { (&*self.0.as_ptr(), &*other.0.as_ptr()) };
        if core::ptr::eq(a, b) {
            return true;
        }
        let ids = |cred: &bindings::cred| {
            let users = [cred.uid, cred.euid, cred.suid].map(|uid| uid.val);
            (users, [cred.gid, cred.egid, cred.sgid].map(|gid| gid.val))
        };
        let powers = |cred: &bindings::cred| {
            let sets = [
                cred.cap_inheritable,
                cred.cap_permitted,
                cred.cap_effective,
                cred.cap_bset,
                cred.cap_ambient,
            ];
            (sets.map(|set| set.val), cred.securebits, cred.user_ns)
        };
        #[cfg(CONFIG_KEYS)]
        let keys = |cred: &bindings::cred| {
            [
                cred.session_keyring,
                cred.process_keyring,
                cred.thread_keyring,
                cred.request_key_auth,
            ]
        };
        #[cfg(not(CONFIG_KEYS))]
        let keys = |_: &bindings::cred| [(); 0];
        ids(a) == ids(b)
            && powers(a) == powers(b)
            && keys(a) == keys(b)
            // SAFETY: Both are valid. It compares fsuid, fsgid and supplementary groups.
            && unsafe { bindings::cred_fscmp(a, b) } == 0
            && {
                // Labels are places in memory that nobody holds for us. They are compared in one
                // RCU section, in which none is freed and another put into its place.
                let _rcu = kernel::sync::rcu::read_lock();
                // SAFETY: Both are whole.
                unsafe { bindings::vfs_rs_lsmprop_equal(&self.label(), &other.label()) }
            }
    }
}

/// Overrides the current task's credentials until dropped.
pub(crate) struct Override<'a>(
    *const bindings::cred,
    PhantomData<&'a Credential>,
    NotThreadSafe,
);

impl<'a> Override<'a> {
    pub(crate) fn new(credentials: &'a Credential) -> Self {
        // SAFETY: The credentials outlive the override, which is undone on this thread.
        let old = unsafe { bindings::vfs_rs_override_creds(credentials.as_ptr()) };
        Self(old, PhantomData, NotThreadSafe)
    }
}

impl Drop for Override<'_> {
    fn drop(&mut self) {
        // SAFETY: What `vfs_rs_override_creds` returned, on the same thread.
        unsafe { bindings::vfs_rs_revert_creds(self.0) };
    }
}
