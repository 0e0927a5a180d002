// SPDX-License-Identifier: Apache-2.0
//! What the caller says of a bundle, and what can be said of a place in it.

use std::path::PathBuf;

use anyhow::{bail, ensure, Result};

use crate::base::error::Error;
use crate::base::text;

/// The directory of a bundle that is the container's root.
pub(super) const ROOTFS: &str = "rootfs";
/// The annotation of config.json that names the image.
pub(super) const IMAGE: &str = "io.puzzlefsoci.puzzlefs.image";
/// What the kernel shows of itself, and what is made for each container: no image brings that.
const KERNELS: [&str; 3] = ["/proc", "/sys", "/dev"];

/// How a container runs, where that is not as its image says.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Arguments in the place of the image's, if there are some.
    pub arguments: Vec<String>,
    /// A program in the place of the image's entrypoint and its arguments; the first of `arguments` if it is empty.
    pub entrypoint: Option<String>,
    /// Further variables, `NAME=VALUE`.
    pub env: Vec<String>,
    /// The user, as the config of an image names one.
    pub user: Option<String>,
    /// The working directory.
    pub cwd: Option<String>,
    /// What of this machine is in the container.
    pub binds: Vec<Bind>,
    /// The name of its machine; that of the directory if it is empty.
    pub hostname: String,
    /// Whether it runs on a terminal.
    pub terminal: bool,
    /// Whether its root cannot be written to.
    pub read_only: bool,
    /// Its network.
    pub network: Network,
    /// Whether the caller mounts the image.
    pub no_mount: bool,
}

/// The network of a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// This machine's.
    #[default]
    Host,
    /// None but a loopback of its own.
    None,
}

/// A file or a directory of this machine that is in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    /// Where it is: an absolute path.
    pub source: PathBuf,
    /// Where it is in the container: an absolute path.
    pub target: String,
    /// Whether it cannot be changed from there.
    pub read_only: bool,
}

impl std::str::FromStr for Bind {
    type Err = String;

    /// `SOURCE:TARGET`, or with `:ro` or `:rw` behind it.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(':');
        let (source, target, mode) = (parts.next(), parts.next(), parts.next());
        let read_only = match mode {
            None | Some("rw") => false,
            Some("ro") => true,
            Some(_) => return Err("expected SOURCE:TARGET, and ro or rw behind it".into()),
        };
        let (Some(source), Some(target), None) = (source, target, parts.next()) else {
            return Err("expected SOURCE:TARGET, or SOURCE:TARGET:ro".into());
        };
        if !target.starts_with('/') {
            return Err(format!("{target} is no absolute path"));
        }
        Ok(Bind {
            source: std::path::absolute(source).map_err(|error| error.to_string())?,
            target: mount_point(target).map_err(|error| format!("{error:#}"))?,
            read_only,
        })
    }
}

/// A path at which something can be mounted.
pub(super) fn mount_point(path: &str) -> Result<String> {
    let path = absolute(path)?;
    let is_kernels = |path: &str| {
        KERNELS.iter().any(|top| {
            path.strip_prefix(top)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    };
    if path == "/" || is_kernels(&path) {
        let text = format!(
            "{}: nothing of an image or of this machine can be mounted there",
            text::quoted(path.as_bytes())
        );
        bail!(Error::refused(text));
    }
    Ok(path)
}

/// The path without what is of no use in it. One that is not absolute begins at the root.
pub(super) fn absolute(path: &str) -> Result<String> {
    ensure_no_nul(path)?;
    let mut names = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    Ok(format!("/{}", names.join("/")))
}

/// Refuses what would end early for a program in C.
pub(super) fn ensure_no_nul(text: &str) -> Result<()> {
    ensure!(
        !text.contains('\0'),
        Error::refused(format!(
            "{}: no program can be given a NUL",
            text::quoted(text.as_bytes())
        ))
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_mounted_over_the_kernels() {
        for (path, is) in [
            ("/data", Some("/data")),
            ("data//x/./y/", Some("/data/x/y")),
            ("/a/../../etc", Some("/etc")),
            ("/process", Some("/process")),
            ("/", None),
            ("", None),
            ("/..", None),
            ("/proc", None),
            ("/x/../proc/sys", None),
            ("/dev/shm", None),
            ("/sys/", None),
            ("/a\0", None),
        ] {
            assert_eq!(mount_point(path).ok().as_deref(), is, "{path:?}");
        }
    }

    #[test]
    fn binds_are_read() {
        let bind = |text: &str| {
            text.parse::<Bind>()
                .ok()
                .map(|bind| (bind.source, bind.target, bind.read_only))
        };
        assert_eq!(bind("/a:/b"), Some(("/a".into(), "/b".into(), false)));
        assert_eq!(
            bind("/a:/b/../c:ro"),
            Some(("/a".into(), "/c".into(), true))
        );
        for bad in [
            "/a",
            "/a:b",
            "/a:/",
            "/a:/proc",
            "/a:/b:rx",
            "/a:/b:ro:",
            ":/b",
        ] {
            assert_eq!(bind(bad), None, "{bad}");
        }
    }
}
