// SPDX-License-Identifier: Apache-2.0
//! Making a profile: fanotify's pre-content events say which chunks of packs the kernel reads, before it does. All go on at
//! once. It needs no daemon, and goes beside one.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::thread;

use anyhow::{Context, Result};
use puzzlefs_fanotify::{Answer, Event, Group};
use puzzlefs_format::{Digest, PackEntry, MEDIA_TYPE_PACK};
use rustix::event::{poll, PollFd, PollFlags, Timespec};
use serde::Serialize;

use super::run::{run, Scene};
use super::Profile;
use crate::base::cleanup;
use crate::chunks::list::MAX_CHUNKS;
use crate::chunks::pack::{end_of, End};
use crate::image::Image;
use crate::layout::reference::Reference;
use crate::mount::table::image_at;
use crate::mount::{Request, Value};

/// Of the bytes that an event gives, so many at both ends may be there for whole pages only.
const PAGE: u64 = 4096;
/// How often it is looked whether the program has ended.
const LOOK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 20_000_000,
};

/// Where to record.
#[derive(Clone, Debug)]
pub enum Target {
    /// An image: the program runs in it.
    Image(Reference),
    /// A mount point: the program runs as it is called, and finds the image there.
    Mount(PathBuf),
}

/// What was recorded.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The image: digest of its manifest, in hexadecimal.
    pub image: String,
    /// The chunks that were read.
    pub chunks: u64,
    /// Their bytes, as stored.
    pub bytes: u64,
    /// The parts of files that the profile has.
    pub parts: u64,
    /// With what status the program has ended; nothing if by a signal.
    pub status: Option<i32>,
    /// The profile.
    #[serde(skip)]
    pub profile: Profile,
}

/// Runs `command`, and says what it has read of the image. With `quiet` its standard output goes to standard error.
///
/// # Errors
///
/// If the kernel has no pre-content events, or the caller not the right to have them or to mount. That the program fails
/// is no error.
pub fn record(target: &Target, command: &[OsString], quiet: bool) -> crate::Result<Report> {
    Ok(record_at(target, command, quiet)?)
}

fn record_at(target: &Target, command: &[OsString], quiet: bool) -> Result<Report> {
    let reference = match target {
        Target::Image(reference) => reference.clone(),
        Target::Mount(path) => image_at(path)?,
    };
    let image = Image::open(&reference)?;
    let mut request = Request::of_image(&reference)?;
    // A mount that shares neither pages nor what is open with another one.
    let own = format!("puzzlefs-profile-{}", std::process::id());
    let value = Value::Text(own.clone());
    request.options.push(("domain_id".into(), value));
    let (reads, opened, status) = match target {
        Target::Mount(path) => {
            let path = path.canonicalize()?;
            watch(&image, &request, &Scene::At(&path), command, quiet)?
        }
        Target::Image(_) => {
            let dir = std::env::temp_dir().join(own);
            let remove = dir.clone();
            let made = || fs::DirBuilder::new().mode(0o700).create(&dir);
            let context = || format!("making {}", dir.display());
            // What is mounted there is in another namespace.
            let job = move || drop(fs::remove_dir(remove));
            let ((), guard) = cleanup::make(made, job).with_context(context)?;
            let watched = watch(&image, &request, &Scene::Inside(&dir), command, quiet);
            guard
                .finish(|| fs::remove_dir(&dir))
                .with_context(context)?;
            watched?
        }
    };
    let chunks = chunks_of(&image, reads)?;
    let bytes = chunks.iter().map(|chunk| u64::from(chunk.size)).sum();
    let chunks: Vec<Digest> = chunks.into_iter().map(|chunk| chunk.digest).collect();
    let profile = Profile::of_chunks(&image, &chunks, Some(&opened))?;
    Ok(Report {
        image: image.manifest_digest().to_string(),
        chunks: u64::try_from(chunks.len())?,
        bytes,
        parts: u64::try_from(profile.parts.len())?,
        status: status.code(),
        profile,
    })
}

/// Bytes of files that were read, in order: these are named as packs are.
type Reads = Vec<(Digest, Range<u64>)>;
type Watched = (Reads, HashSet<Vec<u8>>, ExitStatus);

/// Runs the program, and notes what is read of packs, and which files of the image are opened.
fn watch(
    image: &Image,
    request: &Request,
    scene: &Scene<'_>,
    command: &[OsString],
    quiet: bool,
) -> Result<Watched> {
    let context =
        "fanotify: `puzzlefs profile record` needs CAP_SYS_ADMIN, and a kernel with pre-content events (6.14)";
    let mut packs = Group::new().context(context)?;
    let mut opens = Group::of_notes().context(context)?;
    let layout = image.layout();
    let watched = packs.watch_dir(layout.blob_dir()?);
    watched.with_context(|| format!("watching the packs of {}", layout.path().display()))?;
    let told = Group::from(opens.as_fd().try_clone_to_owned()?);
    let root = match scene {
        Scene::Inside(dir) => dir.join("root"),
        Scene::At(target) => target.to_path_buf(),
    };
    let mut reads = Reads::new();
    let mut seen = HashSet::new();
    let mut opened = HashSet::new();
    thread::scope(|scope| {
        let program = scope.spawn(move || run(request, scene, command, quiet, &told));
        loop {
            let has_ended = program.is_finished();
            let mut fds = [
                PollFd::new(&packs, PollFlags::IN),
                PollFd::new(&opens, PollFlags::IN),
            ];
            let come = match poll(&mut fds, Some(&LOOK)) {
                Err(rustix::io::Errno::INTR) => 0,
                come => come.context("waiting for events")?,
            };
            for event in read(&mut packs)? {
                let read = (event.process != std::process::id())
                    .then(|| Some((name_of(&event)?, event.range.clone())));
                packs.answer(event, Answer::Allow)?;
                reads.extend(read.flatten().filter(|read| seen.insert(read.clone())));
            }
            for event in read(&mut opens)? {
                let path = path_of(&event)
                    .and_then(|path| path.strip_prefix(&root).ok().map(Path::to_owned));
                opened.extend(
                    path.map(|path| Path::new("/").join(path).as_os_str().as_bytes().to_vec()),
                );
            }
            if has_ended && come == 0 {
                break;
            }
        }
        let panicked = |panic| std::panic::resume_unwind(panic);
        let status = program.join().unwrap_or_else(panicked)?;
        Ok((reads, opened, status))
    })
}

fn read(group: &mut Group) -> Result<Vec<Event>> {
    let events: std::io::Result<Vec<Event>> = group.read().context("reading events")?.collect();
    Ok(events?)
}

/// The path of a file that an event is about.
fn path_of(event: &Event) -> Option<PathBuf> {
    let fd = event.as_fd().as_raw_fd();
    fs::read_link(format!("/proc/self/fd/{fd}")).ok()
}

/// The blob that an event is about.
fn name_of(event: &Event) -> Option<Digest> {
    Digest::parse(path_of(event)?.file_name()?.as_bytes()).ok()
}

/// The chunks of files that were read, each once.
fn chunks_of(image: &Image, reads: Reads) -> Result<Vec<PackEntry>> {
    let mut packs = HashMap::new();
    for layer in image.manifest()?.layers() {
        let layer = layer?;
        if layer.media_type == MEDIA_TYPE_PACK {
            packs.insert(layer.digest, None);
        }
    }
    // They come as a whole, whatever is read of them.
    let metadata = image.blocks().iter().map(|(digest, _)| *digest);
    let mut seen: HashSet<Digest> = metadata.collect();
    let mut chunks = Vec::new();
    for (pack, range) in reads {
        let Some(end) = packs.get_mut(&pack) else {
            continue;
        };
        let end: &End = match end {
            Some(end) => end,
            None => end.insert(End::of_file(&image.layout().open_blob(&pack)?)?),
        };
        for chunk in within(&end.entries, &range) {
            if seen.insert(chunk.digest) && chunks.len() < MAX_CHUNKS {
                chunks.push(*chunk);
            }
        }
    }
    Ok(chunks)
}

/// The chunks of a pack that somebody wanted whose read was rounded to pages.
fn within<'a>(entries: &'a [PackEntry], range: &Range<u64>) -> &'a [PackEntry] {
    let (start, end) = (
        range.start.saturating_add(PAGE - 1),
        range.end.saturating_sub(PAGE - 1),
    );
    // What is surely wanted, if there is such; else whatever may be.
    let (start, end) = match start < end {
        true => (start, end),
        false => (range.start, range.end),
    };
    let first = entries.partition_point(|entry| end_of(entry) <= start);
    let last = entries.partition_point(|entry| u64::from(entry.offset) < end);
    &entries[first..last.max(first)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::digest::sha256;

    #[test]
    fn neighbours_of_what_was_read_are_no_part_of_it() {
        let mut entries = Vec::new();
        let mut offset = 0;
        for (number, size) in (0..).zip([5_000u32, 20_000, 300, 200, 9_000]) {
            let digest = sha256(&[&[number]]);
            entries.push(PackEntry {
                digest,
                offset,
                size,
            });
            offset += size;
        }
        let pages = |from: u64, to: u64| from / PAGE * PAGE..to.div_ceil(PAGE) * PAGE;
        for (read, wanted) in [
            (pages(0, 5_000), 0..1),
            (pages(5_000, 25_000), 1..2),
            (pages(25_500, 34_500), 4..5),
            // It may be any of these.
            (pages(25_000, 25_300), 1..5),
            (pages(0, 34_500), 0..5),
            (40_960..45_056, 5..5),
        ] {
            let found = within(&entries, &read);
            let wanted = &entries[wanted];
            assert_eq!(found, wanted, "{read:?}");
        }
    }
}
