// SPDX-License-Identifier: Apache-2.0
//! A bundle for one run: made, run by a runtime, and removed.

use std::ffi::{OsStr, OsString};
use std::fs::DirBuilder;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use anyhow::Context;

use super::options::Options;
use crate::base::error::Error;
use crate::base::progress::Progress;
use crate::base::{child, cleanup, text};
use crate::layout::reference::Reference;

/// What is looked for if no runtime is named: the first one that is there.
const RUNTIMES: [&str; 2] = ["crun", "runc"];

/// Runs a container of the image that `reference` names, by the name `name`, with a bundle in `dir`, which is made if
/// need be. Standard streams are those of this process, and so are signals. When it has ended, nothing of it is left.
///
/// # Errors
///
/// As of [`super::make`]; there is no `runtime`. What the runtime has to say it says itself.
pub fn run(
    reference: &Reference,
    dir: &Path,
    name: &str,
    runtime: Option<&OsStr>,
    options: &Options,
    progress: &dyn Progress,
) -> crate::Result<ExitStatus> {
    let runtime = self::runtime(runtime)?;
    ensure_plain(name)?;
    let make = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    make.with_context(|| text::path(dir))?;
    let bundle = dir.join(name);
    // If a signal ends this process, what is ours by then is removed.
    let is_ours = Arc::new(AtomicBool::new(false));
    let (doomed, made) = (bundle.clone(), Arc::clone(&is_ours));
    let guard = cleanup::on_signal(move || {
        if made.load(Ordering::Relaxed) {
            // What cannot be removed now can be by `puzzlefs bundle --remove`.
            let _ = super::remove(&doomed);
        }
    });
    super::make_marked(reference, &bundle, options, progress, &is_ours)?;
    let ended = start(&runtime, &["run", "--bundle"], &bundle, name);
    // It may be there still if the runtime was killed.
    let mut delete = Command::new(&runtime);
    delete.args(["delete", "--force", name]);
    let nowhere = delete
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let _ = nowhere.status();
    let removed = guard.finish(|| super::remove(&bundle));
    let status = ended?;
    removed?;
    Ok(status)
}

fn start(runtime: &Path, words: &[&str], bundle: &Path, name: &str) -> crate::Result<ExitStatus> {
    let mut command = Command::new(runtime);
    command.args(words).arg(bundle).arg(name);
    let context = || text::path(runtime);
    let process = command.spawn().with_context(context)?;
    Ok(child::wait(process).with_context(context)?)
}

/// The runtime's file.
fn runtime(named: Option<&OsStr>) -> crate::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let find = |name: &OsStr| {
        if name.as_bytes().contains(&b'/') {
            return Some(PathBuf::from(name)).filter(|file| file.exists());
        }
        std::env::split_paths(&path)
            .map(|dir| dir.join(name))
            .find(|file| file.is_file())
    };
    let names: Vec<OsString> = match named {
        Some(name) => vec![name.to_owned()],
        None => RUNTIMES.iter().map(OsString::from).collect(),
    };
    let found = names.iter().find_map(|name| find(name));
    found.ok_or_else(|| {
        let names: Vec<_> = names.iter().map(|name| name.to_string_lossy()).collect();
        Error::not_found(format!(
            "{}: there is no such runtime: install crun or runc",
            names.join(" or ")
        ))
    })
}

/// A name that is no path and no option.
fn ensure_plain(name: &str) -> crate::Result<()> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let begins_well = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    match begins_well && name.len() <= 128 && name.chars().all(is_plain) {
        true => Ok(()),
        false => Err(Error::refused(format!(
            "{}: no name for a container",
            text::quoted(name.as_bytes())
        ))),
    }
}
