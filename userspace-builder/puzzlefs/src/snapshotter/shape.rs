// SPDX-License-Identifier: Apache-2.0
//! What a snapshot is made of: its directories, and what containerd is to mount of them.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::fault::{Fault, Result};
use super::record::{Kind, Labels, Record};
use super::store::{Snapshot, Store};
use crate::layout::stand_in::{StandIn, FILE, MAX_TEXT};
use crate::mount::{directory, overlay};

/// Bytes of a name, at most: containerd's database has the same limit.
const MAX_NAME: usize = 32 << 10;
/// Bytes of a label and its name, at most (containerd's package labels).
const MAX_LABEL: usize = 4096;

/// Directories of a snapshot.
pub(super) const FILES: &str = "fs";
const WORK: &str = "work";
pub(super) const IMAGE: &str = "image";

/// What containerd is to mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    pub kind: &'static str,
    pub source: String,
    pub options: Vec<String>,
}

/// Where a snapshot's files are, for those above.
pub(super) fn lower(store: &Store, snapshot: &Snapshot) -> PathBuf {
    let part = match snapshot.record.image {
        Some(_) => IMAGE,
        None => FILES,
    };
    store.dir(snapshot.id).join(part)
}

pub(super) fn mounts_of(store: &Store, snapshot: &Snapshot, chain: &[Snapshot]) -> Vec<Mount> {
    let shown = |path: &Path| path.display().to_string();
    let dir = store.dir(snapshot.id);
    let is_view = snapshot.record.kind == Kind::View;
    let bind = |path: &Path| Mount {
        kind: "bind",
        source: shown(path),
        options: vec![if is_view { "ro" } else { "rw" }.into(), "rbind".into()],
    };
    let all: Vec<String> = chain.iter().map(|it| shown(&lower(store, it))).collect();
    match (chain, is_view) {
        ([], _) => return vec![bind(&dir.join(FILES))],
        ([one], true) => return vec![bind(&lower(store, one))],
        _ => {}
    }
    let mut options = Vec::new();
    if Path::new("/sys/module/overlay/parameters/index").exists() {
        // As containerd's own: the same upper directory is mounted again and again.
        options.push("index=off".into());
    }
    if !is_view {
        options.push(format!("workdir={}", shown(&dir.join(WORK))));
        options.push(format!("upperdir={}", shown(&dir.join(FILES))));
    }
    options.push(format!("lowerdir={}", all.join(":")));
    let source = "overlay".to_owned();
    vec![Mount {
        kind: "overlay",
        source,
        options,
    }]
}

pub(super) fn check(name: &str, labels: &Labels) -> Result<()> {
    if name.is_empty() || name.len() > MAX_NAME {
        let text = format!(
            "a name of {} bytes: 1 to {MAX_NAME} are possible",
            name.len()
        );
        return Err(Fault::invalid(text));
    }
    let too_long = labels
        .iter()
        .find(|(label, value)| label.len() + value.len() > MAX_LABEL);
    match too_long {
        None => Ok(()),
        Some((label, _)) => {
            let label: String = label.chars().take(64).collect();
            Err(Fault::invalid(format!(
                "label {label:?} has more than {MAX_LABEL} bytes"
            )))
        }
    }
}

pub(super) fn store_parents(store: &Store, key: &str, parent: &str) -> Result<Vec<Snapshot>> {
    if store.get(key).is_some() {
        return Err(Fault::exists(key));
    }
    let chain = store
        .chain(parent)
        .ok_or_else(|| Fault::not_found(parent))?;
    match chain.first() {
        Some(it) if it.record.kind != Kind::Committed => Err(Fault::invalid(format!(
            "parent {parent:?} is not a committed snapshot"
        ))),
        _ => Ok(chain),
    }
}

/// The directories of a snapshot, whose root is as that of its parent.
pub(super) fn directories(dir: &Path, kind: Kind, lower: Option<&Path>) -> Result<()> {
    DirBuilder::new().mode(0o700).create(dir)?;
    let files = dir.join(FILES);
    DirBuilder::new().mode(0o755).create(&files)?;
    if kind == Kind::Active {
        DirBuilder::new().mode(0o711).create(dir.join(WORK))?;
    }
    if let Some(lower) = lower {
        let lower: OwnedFd = directory(lower)?;
        overlay::resemble(&files, &lower)?;
    }
    Ok(())
}

/// The image that an unpacked layer stands for: its only file says which, and the name that it is to have is that of
/// a layer with this file and no other.
pub(super) fn unpacked(record: &Record, name: &str, files: &Path) -> Option<StandIn> {
    if !record.parent.is_empty() {
        return None;
    }
    let mut entries = fs::read_dir(files).ok()?;
    let is_it = entries.next()?.ok()?.file_name() == FILE;
    if !is_it || entries.next().is_some() {
        return None;
    }
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(files.join(FILE));
    let file = file.ok()?;
    let found = file.metadata().ok()?;
    if !found.is_file() || found.nlink() != 1 || found.len() > MAX_TEXT as u64 {
        return None;
    }
    let mut text = String::new();
    file.take(MAX_TEXT as u64).read_to_string(&mut text).ok()?;
    let image = StandIn::parse(&text).ok()?;
    let wanted = format!("sha256:{}", image.digest());
    let is_it = name.rsplit('/').next() == Some(wanted.as_str());
    is_it.then_some(image)
}
