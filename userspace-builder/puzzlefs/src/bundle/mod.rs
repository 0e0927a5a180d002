// SPDX-License-Identifier: Apache-2.0
//! An image becomes a bundle (OCI runtime-spec, bundle.md), which crun, runc and other runtimes run.
//!
//! - this file: the directory, made as a whole or not at all, and removed;
//! - `options`: what the caller says of it;
//! - `program`: what runs in it, by the config of the image;
//! - [`run`]: one for a single run;
//! - `users`: as whom;
//! - `spec`: its config.json, and which system calls that allows (`seccomp`);
//! - `volumes`: directories that outlive what the image is changed to.
//!
//! All that an image says is what a stranger says. It decides what runs in the container and nothing outside.

mod options;
mod program;
pub mod run;
mod seccomp;
mod spec;
pub(crate) mod users;
mod volumes;

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{bail, ensure, Context, Result};
use rustix::fs::OFlags;
use rustix::io::Errno;
use serde::Serialize;

use crate::base::cleanup;
use crate::base::error::{Error, Where};
use crate::base::progress::Progress;
use crate::base::text;
use crate::image::Image;
use crate::layout::reference::{Name, Reference};
use crate::mount::{overlay, table, Request};
pub use options::{Bind, Network, Options};
use options::{IMAGE, ROOTFS};
use program::Program;

const CONFIG: &str = "config.json";
const VOLUMES: &str = "volumes";
/// What a bundle of ours has.
const PARTS: [&str; 5] = [ROOTFS, "upper", "work", VOLUMES, CONFIG];
/// Bytes of a config.json, at most, which others may have changed.
const MAX_CONFIG: u64 = 16 << 20;

/// A bundle that was made.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Its directory.
    pub bundle: PathBuf,
    /// The digest of the image's manifest.
    pub manifest: String,
    /// Whether the image is mounted.
    pub mounted: bool,
    /// Number of the user.
    pub uid: u32,
    /// Number of its group.
    pub gid: u32,
    /// Numbers of its further groups.
    pub groups: Vec<u32>,
    /// What runs.
    pub args: Vec<String>,
    /// In which directory.
    pub cwd: String,
    /// Where in the container the image has volumes.
    pub volumes: Vec<String>,
}

/// Makes `dir`, for its owner alone, a bundle of the image that `reference` names; mounts the image at `dir`/rootfs,
/// with an overlayfs above whose changes are in `dir`/upper.
///
/// # Errors
///
/// `dir` is there already; what keeps the bundle from being whole. Then nothing is mounted, and no `dir` is there.
pub fn make(
    reference: &Reference,
    dir: &Path,
    options: &Options,
    progress: &dyn Progress,
) -> crate::Result<Report> {
    make_marked(reference, dir, options, progress, &AtomicBool::new(false))
}

/// The same. `is_ours` says from when on the directory is there.
fn make_marked(
    reference: &Reference,
    dir: &Path,
    options: &Options,
    progress: &dyn Progress,
    is_ours: &AtomicBool,
) -> crate::Result<Report> {
    let image = Image::open(reference)?;
    // Whatever the tag is said to be from now on.
    let exact = Reference {
        layout: reference.layout.canonicalize().at(&reference.layout)?,
        name: Name::Digest(*image.manifest_digest()),
    };
    let program = Program::of(&image, options)?;
    for bind in &options.binds {
        // Runtimes would say it late.
        let found = bind.source.symlink_metadata();
        let found = found.with_context(|| text::path(&bind.source));
        found.at(&bind.source)?;
    }
    let doomed = dir.to_owned();
    let made = cleanup::make(
        || {
            DirBuilder::new().mode(0o700).create(dir)?;
            is_ours.store(true, Ordering::Relaxed);
            Ok(())
        },
        move || cleanup::remove_dir(&doomed),
    );
    let made = match made {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let text = format!("{} is there already", text::path(dir));
            return Err(Error::refused(text).at(dir));
        }
        made => made.with_context(|| text::path(dir)).at(dir),
    };
    let ((), guard) = made?;
    let mut options = options.clone();
    if options.hostname.is_empty() {
        options.hostname = hostname(dir);
    }
    let options = &options;
    let filled = fill(&image, &exact, &program, dir, options, progress);
    // Nothing can come between the mount and what would have to undo it.
    guard.finish(|| {
        let done = filled.and_then(|bundle| {
            if !options.no_mount {
                let request = Request::of_image(&exact)?;
                overlay::mount(&request, dir, &["nodev".to_owned()], &dir.join(ROOTFS))?;
            }
            Ok(bundle)
        });
        if done.is_err() {
            cleanup::remove_dir(dir);
        }
        let bundle = done?;
        Ok(Report {
            bundle,
            manifest: format!("sha256:{}", image.manifest_digest()),
            mounted: !options.no_mount,
            uid: program.user.uid,
            gid: program.user.gid,
            groups: program.user.groups,
            args: program.args,
            cwd: program.cwd,
            volumes: program.volumes,
        })
    })
}

/// What the directory is called, as far as it can be the name of a machine.
fn hostname(dir: &Path) -> String {
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let name: String = name.chars().map(plain).take(63).collect();
    match name.trim_matches('-') {
        "" => "puzzlefs".into(),
        name => name.to_owned(),
    }
}

/// All of a bundle but the mount; gives its path.
fn fill(
    image: &Image,
    exact: &Reference,
    program: &Program,
    dir: &Path,
    options: &Options,
    progress: &dyn Progress,
) -> crate::Result<PathBuf> {
    let dir = dir.canonicalize().at(dir)?;
    let binds = volumes::places(&program.volumes, &dir.join(VOLUMES));
    let text = spec::text(program, &binds, &exact.to_string(), options)?;
    let path = dir.join(CONFIG);
    let mut file = OpenOptions::new();
    let file = file.write(true).create_new(true).mode(0o600).open(&path);
    let mut file = file.at(&path)?;
    // First, as a bundle is known by it: what is left by a crash can be removed.
    let written = file.write_all(&text).and_then(|()| file.sync_all());
    written.at(&path)?;
    fs::create_dir(dir.join(ROOTFS)).at(&dir)?;
    volumes::make(image, &binds, &dir.join(VOLUMES), progress)?;
    Ok(dir)
}

/// Removes the bundle `dir`, with all that was changed in it; unmounts what is mounted at its rootfs.
///
/// # Errors
///
/// It is none of [`make`]'s, or has something that is not of it: it stays as it is. What is in use stays, too.
pub fn remove(dir: &Path) -> crate::Result<()> {
    ensure_bundle(dir).at(dir)?;
    let rootfs = dir.join(ROOTFS);
    if table::is_mount_point(&rootfs)? {
        table::umount(&rootfs, false)?;
    }
    take_apart(dir, &rootfs).at(dir)
}

fn take_apart(dir: &Path, rootfs: &Path) -> Result<()> {
    // Never what is in it: it might be somebody's mount.
    gone(fs::remove_dir(rootfs)).with_context(|| text::path(rootfs))?;
    for part in PARTS
        .iter()
        .filter(|part| **part != CONFIG && **part != ROOTFS)
    {
        let path = dir.join(part);
        gone(fs::remove_dir_all(&path)).with_context(|| text::path(&path))?;
    }
    // The last one, as a bundle is known by it.
    gone(fs::remove_file(dir.join(CONFIG))).with_context(|| text::path(dir))?;
    fs::remove_dir(dir).with_context(|| text::path(dir))
}

/// What is not there need not be removed.
fn gone(removed: std::io::Result<()>) -> std::io::Result<()> {
    match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Refuses what is not a bundle of ours, and nothing else.
fn ensure_bundle(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        if !PARTS.iter().any(|part| name == *part) {
            let path = text::path(&dir.join(name));
            bail!(Error::refused(format!(
                "{path} is no part of a bundle: nothing is removed"
            )));
        }
    }
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let path = dir.join(CONFIG);
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits() as i32)
        .open(&path);
    let none = || {
        Error::refused(format!(
            "{} is no bundle that puzzlefs has made",
            text::path(dir)
        ))
    };
    let file = match file {
        Err(error) if error.kind() == ErrorKind::NotFound => bail!(none()),
        Err(error) if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => bail!(none()),
        file => file.with_context(|| text::path(&path))?,
    };
    ensure!(file.metadata()?.is_file(), none());
    let mut content = Vec::new();
    file.take(MAX_CONFIG).read_to_end(&mut content)?;
    let config: Result<serde_json::Value, _> = serde_json::from_slice(&content);
    let image = config
        .ok()
        .and_then(|it| it["annotations"][IMAGE].as_str().map(str::to_owned));
    ensure!(image.is_some(), none());
    Ok(())
}
