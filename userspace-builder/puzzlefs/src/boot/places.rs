// SPDX-License-Identifier: Apache-2.0
//! Where things are in a container of a boot image, and which variables of it are the program's.

/// The directory that a boot image has.
pub(super) const DIR: &str = "/.puzzlefs";
/// The program, which a boot image has as its entrypoint.
pub(super) const PROGRAM: &str = "/.puzzlefs/boot";
/// What it is to start: see [`super::state`].
pub(super) const STATE: &str = "/.puzzlefs/image";
/// Whom TLS trusts: what the machine trusted that the boot image was made on.
pub(super) const CERTS: &str = "/.puzzlefs/certs";
/// Credentials, if the runtime has put some there.
pub(super) const AUTH: &str = "/.puzzlefs/auth.json";
/// Chunks that came: those of many containers, where a volume is mounted there.
pub(super) const CACHE: &str = "/.puzzlefs/cache";
/// What is changed, where a volume is mounted there.
pub(super) const CHANGES: &str = "/.puzzlefs/changes";
/// A directory on which the root filesystem is put together.
pub(super) const ROOT: &str = "/.puzzlefs/root";
/// Is there as soon as all of the root filesystem is.
pub(super) const DONE: &str = "/.puzzlefs/done";
/// What begins so in the environment is for the program, and for nobody after it.
pub(super) const OURS: &str = "PUZZLEFS_";
