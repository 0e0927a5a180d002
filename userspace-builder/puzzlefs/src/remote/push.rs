// SPDX-License-Identifier: Apache-2.0
//! An image of a layout becomes one of a registry: only the blobs go that are not there, and the manifest
//! last, so that whoever pulls by the tag has the old image or the whole new one.

use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use puzzlefs_format::Digest;
use serde::Serialize;

use super::sent::{self, Blob, Image};
use super::with::{self, With};
use crate::base::error::{Error, Result};
use crate::base::progress::{Progress, Unit};
use crate::layout::reference::Name;
use crate::layout::Layout;
use crate::registry::{Access, Client, Options, Reference, Repository, Sources};

/// Blobs that are sent at the same time, if nobody says how many.
pub const JOBS: usize = 6;

/// What the user chooses.
#[derive(Clone, Debug)]
pub struct Push {
    /// How registries are spoken with.
    pub registry: Options,
    /// Repositories of the same registry that may have blobs, too.
    pub mount_from: Vec<Repository>,
    /// The ordinary image that the same tag is to name, too.
    pub with: Option<With>,
    /// Whether the tag is to name an image for containerd, too, which stands for the image.
    pub stand_in: bool,
    /// Blobs that are sent at the same time.
    pub jobs: usize,
}

/// What was done.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// The image in the registry.
    pub reference: String,
    /// What the tag names now: what is to be signed.
    pub digest: String,
    /// The PuzzleFS image's manifest; another one where the tag names an index.
    pub manifest: String,
    /// Whether the tag named that before.
    pub was_there: bool,
    /// Blobs that went.
    pub sent: Count,
    /// Blobs that the registry took from another repository.
    pub mounted: Count,
    /// Blobs that it had.
    pub there: Count,
}

/// Blobs and their bytes.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Count {
    /// How many.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What became of a blob.
enum Done {
    Sent,
    Mounted,
    There,
}

/// Pushes the image `name` of `layout` to `to`.
///
/// # Errors
///
/// If a blob is missing in the layout, or damaged: then the manifest is not stored.
pub fn push(
    layout: &Layout,
    name: &Name,
    to: &Reference,
    options: &Push,
    progress: &dyn Progress,
) -> Result<Report> {
    // What is sent, nobody may collect meanwhile.
    let _kept = layout.keep_blobs(progress)?;
    let image = sent::of_layout(layout, name)?;
    let ordinary = options.with.as_ref();
    let ordinary = ordinary.map(|with| with::open(with, &image, &options.registry));
    let mut ordinary = ordinary.transpose()?;
    if options.stand_in {
        ordinary = Some(sent::stand_in(&image, &to.repository.to_string())?);
    }
    let from = mountable(&to.repository, options)?;
    let access = Access::Push { from: from.clone() };
    let client = Sources::writer(&to.repository, &access, &options.registry)?;

    // What both have, as the config, is at hand in the layout.
    let images: Vec<&Image> = std::iter::once(&image).chain(&ordinary).collect();
    let mut blobs: Vec<&Blob> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for blob in images.iter().flat_map(|image| &image.blobs) {
        blobs.extend(seen.insert(blob.digest).then_some(blob));
    }
    let mut report = Report {
        reference: to.to_string(),
        manifest: image.digest.to_string(),
        ..Report::default()
    };
    send_all(&client, &blobs, &from, options.jobs, progress, &mut report)?;

    let (digest, media_type, text) = match &ordinary {
        None => (image.digest, image.media_type.clone(), image.text.clone()),
        Some(ordinary) => {
            for image in [ordinary, &image] {
                put(
                    &client,
                    &Name::Digest(image.digest),
                    image.digest,
                    &image.media_type,
                    &image.text,
                )?;
            }
            with::index(ordinary, &image, options.stand_in)?
        }
    };
    if let Name::Digest(wanted) = &to.name {
        if *wanted != digest {
            let text = format!("{to} cannot be: it has the digest sha256:{digest}");
            return Err(Error::refused(text));
        }
    }
    report.was_there = !put(&client, &to.name, digest, &media_type, &text)?;
    report.digest = digest.to_string();
    Ok(report)
}

/// Stores a manifest, unless the registry has it under that name.
fn put(
    client: &Client,
    name: &Name,
    digest: Digest,
    media_type: &str,
    text: &[u8],
) -> Result<bool> {
    if client.manifest_digest(name)? == Some(digest) {
        return Ok(false);
    }
    client.put_manifest(name, media_type, text)?;
    Ok(true)
}

/// The names of repositories beside `to` that blobs can be taken from.
fn mountable(to: &Repository, options: &Push) -> Result<Vec<String>> {
    let mut from = Vec::new();
    for repository in &options.mount_from {
        if repository.server() != to.server() {
            let text = format!(
                "{repository} is in another registry than {to}: nothing can be mounted from there"
            );
            return Err(Error::refused(text));
        }
        from.push(repository.path.clone());
    }
    if let Some(With::Registry(reference)) = &options.with {
        let repository = &reference.repository;
        if repository.server() == to.server() {
            from.push(repository.path.clone());
        }
    }
    from.retain(|path| *path != to.path);
    from.dedup();
    Ok(from)
}

/// Sends all that the registry lacks, several at the same time.
fn send_all(
    client: &Arc<Client>,
    blobs: &[&Blob],
    from: &[String],
    jobs: usize,
    progress: &dyn Progress,
    report: &mut Report,
) -> Result<()> {
    let total = blobs
        .iter()
        .fold(0u64, |sum, blob| sum.saturating_add(blob.size));
    progress.phase("pushing", total, Unit::Bytes);
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let result = Mutex::new((report, Ok(())));
    let work = || {
        while let Some(blob) = blobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let done = send(client, blob, from, &stop, progress);
            let mut result = result.lock().unwrap_or_else(PoisonError::into_inner);
            let count = match done {
                Ok(Done::Sent) => &mut result.0.sent,
                Ok(Done::Mounted) => &mut result.0.mounted,
                Ok(Done::There) => &mut result.0.there,
                Err(error) => {
                    // What others say now may follow from this.
                    if !stop.swap(true, Ordering::Relaxed) {
                        result.1 = Err(error);
                    }
                    return;
                }
            };
            count.blobs += 1;
            count.bytes = count.bytes.saturating_add(blob.size);
        }
    };
    thread::scope(|scope| {
        for _ in 1..jobs.min(blobs.len()) {
            scope.spawn(work);
        }
        work();
    });
    result
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
        .1
}

fn send(
    client: &Client,
    blob: &Blob,
    from: &[String],
    stop: &AtomicBool,
    progress: &dyn Progress,
) -> Result<Done> {
    if client.has(&blob.digest, blob.size)? {
        progress.advance(blob.size);
        return Ok(Done::There);
    }
    let mut session = None;
    for from in from {
        // A registry that does not do it, or a repository that is not ours to read, is no reason to fail.
        match client.mount(&blob.digest, from) {
            Ok(None) => {
                progress.advance(blob.size);
                return Ok(Done::Mounted);
            }
            Ok(begun) => session = begun,
            Err(_) => {}
        }
    }
    let content = || -> Result<Box<dyn Read + '_>> {
        let inner = blob.open()?;
        Ok(Box::new(Watched { inner, stop }))
    };
    let shown = std::sync::atomic::AtomicU64::new(0);
    let tell = |sent: u64| {
        let before = shown.fetch_max(sent, Ordering::Relaxed);
        progress.advance(sent.saturating_sub(before));
    };
    client.upload(&blob.digest, blob.size, session, &content, &tell)?;
    progress.advance(blob.size.saturating_sub(shown.into_inner()));
    Ok(Done::Sent)
}

/// Content that ends when another blob has failed.
struct Watched<'a> {
    inner: Box<dyn Read + 'a>,
    stop: &'a AtomicBool,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.stop.load(Ordering::Relaxed) {
            true => Err(io::Error::other(Error::trouble(
                "another blob could not be sent",
            ))),
            false => self.inner.read(buffer),
        }
    }
}
