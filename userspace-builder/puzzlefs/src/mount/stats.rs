// SPDX-License-Identifier: Apache-2.0
//! What the kernel counts of a mounted image, as it shows it in sysfs
//! (in-tree/sysfs-fs-puzzlefs describes each file).

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{bail, Context, Result};
use rustix::fs::{major, minor, stat, statfs};
use serde::Serialize;

use crate::mount::FS_TYPE;

/// `f_type` of the filesystem (`FileSystem::MAGIC` in kmod/puzzlefs.rs).
pub const MAGIC: u64 = 0x5a5a_5550;

/// What a superblock has read since it was mounted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Its device, `MAJOR:MINOR`, as in /proc/self/mountinfo.
    pub device: String,
    /// Digest of the Rootfs, in hexadecimal.
    pub rootfs: String,
    /// The `manifestVersion`.
    pub version: u64,
    /// Blobs that are open now.
    pub blobs_open: u64,
    /// Chunks that were read, and are what their digests say.
    pub chunks_verified: u64,
    /// Chunks that were read from packs that fs-verity vouches for, and not hashed.
    pub chunks_vouched: u64,
    /// Chunks that workers on other processors decompressed for a reader.
    pub chunks_helped: u64,
    /// Times that a chunk was wanted and still at hand.
    pub chunk_hits: u64,
    /// Bytes of chunks read from the layout, as stored.
    pub bytes_read: u64,
    /// Bytes put into the page cache of files.
    pub bytes_filled: u64,
    /// Blocks of metadata put into memory.
    pub metadata_blocks: u64,
    /// Times that a chunk was not what its digest says.
    pub verify_failures: u64,
    /// Times that a chunk could not be had otherwise.
    pub chunk_errors: u64,
}

/// The counters of the image that is mounted at `mountpoint`, or above it.
///
/// # Errors
///
/// When there is none, or the module that is loaded has no counters.
pub fn read(mountpoint: &Path) -> crate::Result<Stats> {
    Ok(of_mount(mountpoint)?)
}

fn of_mount(mountpoint: &Path) -> Result<Stats> {
    let shown = mountpoint.display();
    let device = stat(mountpoint).with_context(|| shown.to_string())?.st_dev;
    let device = format!("{}:{}", major(device), minor(device));
    let is_ours = statfs(mountpoint)
        .with_context(|| shown.to_string())?
        .f_type as u64
        == MAGIC;
    if !is_ours {
        bail!("{shown} is not on a mount of {FS_TYPE} (findmnt -t {FS_TYPE} lists them)");
    }
    let directory = PathBuf::from("/sys/fs").join(FS_TYPE).join(&device);
    if !directory.exists() {
        bail!(
            "{shown} is a mount of {FS_TYPE}, but there is no {}: sysfs is not mounted on /sys, or \
             the module that is loaded is too old to count",
            directory.display()
        );
    }
    of_directory(&directory, device)
}

fn of_directory(directory: &Path, device: String) -> Result<Stats> {
    let number = |name| value::<u64>(directory, name);
    Ok(Stats {
        device,
        rootfs: value(directory, "rootfs")?,
        version: number("version")?,
        blobs_open: number("blobs_open")?,
        chunks_verified: number("chunks_verified")?,
        chunks_vouched: number("chunks_vouched")?,
        chunks_helped: number("chunks_helped")?,
        chunk_hits: number("chunk_hits")?,
        bytes_read: number("bytes_read")?,
        bytes_filled: number("bytes_filled")?,
        metadata_blocks: number("metadata_blocks")?,
        verify_failures: number("verify_failures")?,
        chunk_errors: number("chunk_errors")?,
    })
}

/// The value that the file `name` shows.
fn value<T: FromStr>(directory: &Path, name: &str) -> Result<T> {
    let path = directory.join(name);
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => bail!(
            "there is no {}: it was unmounted, or the module that is loaded is older than this command",
            path.display()
        ),
        text => text.with_context(|| path.display().to_string())?,
    };
    match text.trim_end().parse() {
        Ok(value) => Ok(value),
        Err(_) => bail!("{} holds {text:?}", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NUMBERS: [&str; 11] = [
        "version",
        "blobs_open",
        "chunks_verified",
        "chunks_vouched",
        "chunks_helped",
        "chunk_hits",
        "bytes_read",
        "bytes_filled",
        "metadata_blocks",
        "verify_failures",
        "chunk_errors",
    ];

    #[test]
    fn each_file_is_its_field() -> Result<()> {
        let dir = tempfile::tempdir()?;
        fs::write(dir.path().join("rootfs"), "ab12\n")?;
        for (number, name) in NUMBERS.into_iter().enumerate() {
            fs::write(dir.path().join(name), format!("{number}\n"))?;
        }
        let stats = of_directory(dir.path(), "0:45".into())?;
        let json = serde_json::to_value(&stats)?;
        assert_eq!(
            (&json["device"], &json["rootfs"]),
            (&"0:45".into(), &"ab12".into())
        );
        for (number, name) in NUMBERS.into_iter().enumerate() {
            assert_eq!(json[name], number, "{name}");
        }
        Ok(())
    }

    #[test]
    fn errors_name_the_file() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let error = |dir: &Path| of_directory(dir, String::new()).unwrap_err().to_string();
        assert!(error(dir.path()).contains("/rootfs: it was unmounted"));
        fs::write(dir.path().join("rootfs"), "ab12\n")?;
        fs::write(dir.path().join("version"), "many\n")?;
        assert!(error(dir.path()).ends_with("/version holds \"many\\n\""));
        let error = read(dir.path()).unwrap_err().to_string();
        assert!(error.contains("is not on a mount of puzzlefs"), "{error}");
        Ok(())
    }
}
