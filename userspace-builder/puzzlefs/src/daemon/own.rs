// SPDX-License-Identifier: Apache-2.0
//! The daemon's own program: if that lay in an image that the daemon serves, the daemon would wait for itself as soon as the
//! kernel wants a page of it that is not in memory any more.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::Context;
use rustix::fs::{fstatfs, memfd_create, MemfdFlags};
use rustix::io::Errno;

use crate::base::error::{Result, Where};
use crate::mount::stats::MAGIC as PUZZLEFS;

/// Types of filesystems (include/uapi/linux/magic.h) that may have their files from an image.
const OVERLAYFS: u64 = 0x794c_7630;
const FUSE: u64 = 0x6573_5546;

/// Goes on from memory, if this program's file may be in an image. To be called before anything is begun: it is run from
/// its start again.
///
/// # Errors
///
/// If it cannot be read as a whole, as when nobody fetches what an image lacks, or there is no memory for it.
pub fn stand_alone() -> Result<()> {
    const PROGRAM: &str = "/proc/self/exe";
    let mut program = File::open(PROGRAM).at(PROGRAM.as_ref())?;
    if !may_be_of_an_image(&program)? {
        return Ok(());
    }
    let memory = match memfd_create("puzzlefs", MemfdFlags::CLOEXEC | MemfdFlags::EXEC) {
        // A kernel before 6.3: all of them may be run.
        Err(Errno::INVAL) => memfd_create("puzzlefs", MemfdFlags::CLOEXEC),
        memory => memory,
    };
    let mut memory = File::from(memory.map_err(io::Error::from)?);
    let copied = io::copy(&mut program, &mut memory);
    let context = "taking this program, which may lie in an image, into memory";
    copied.context(context).at(PROGRAM.as_ref())?;
    let mut arguments = std::env::args_os();
    let mut command = Command::new(format!("/proc/self/fd/{}", memory.as_raw_fd()));
    command.arg0(arguments.next().unwrap_or_default());
    Err(command.args(arguments).exec().into())
}

fn may_be_of_an_image(file: impl AsFd) -> io::Result<bool> {
    // The kernel's type is signed, and may have been extended from 32 bits.
    let kind = fstatfs(file)?.f_type as u64 & 0xffff_ffff;
    Ok([PUZZLEFS, OVERLAYFS, FUSE].contains(&kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_elsewhere_goes_on_as_it_is() {
        let memory = File::from(memfd_create("test", MemfdFlags::CLOEXEC).unwrap());
        assert!(!may_be_of_an_image(memory).unwrap());
        assert!(!may_be_of_an_image(File::open("/proc/self/status").unwrap()).unwrap());
    }
}
