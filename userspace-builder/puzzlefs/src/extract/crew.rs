// SPDX-License-Identifier: Apache-2.0
//! Threads that write the content of files, while names are made.
//!
//! Files that begin in the same chunk go to the same thread, one after the other: it has that chunk at hand.

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::mpsc::{sync_channel, Receiver, SyncSender};
use std::sync::Arc;
use std::thread::{self, Scope, ScopedJoinHandle};

use anyhow::{bail, Context, Result};
use puzzlefs_format::{Extents, Kind};

use super::rights::{Report, Rights};
use crate::base::progress::Progress;
use crate::base::text;
use crate::chunks::places::Places;
use crate::image::chunk::ChunkReader;
use crate::image::file::{Content, Piece};
use crate::image::Image;

/// Threads, at most.
const MOST: usize = 8;
/// Files that may wait for a thread: each is open, and so is its directory.
const WAITING: usize = 16;

/// A new file whose content is to be written.
pub(super) struct Job {
    pub(super) file: File,
    /// Its inode.
    pub(super) ino: u64,
    /// A number that files have in common which begin in the same chunk.
    pub(super) place: usize,
    /// Where it is, if it is to get at once what it is besides its content.
    pub(super) rest: Option<(Arc<OwnedFd>, Vec<u8>)>,
    /// For people.
    pub(super) path: PathBuf,
}

/// That number.
pub(super) fn place(extents: &Extents<'_>) -> Result<usize> {
    let first = match extents.len() {
        0 => None,
        _ => extents.get(0)?.chunk,
    };
    Ok(first.map_or(0, |chunk| usize::from(chunk.digest.as_bytes()[0])))
}

/// What all threads have.
#[derive(Clone, Copy)]
pub(super) struct Means<'a> {
    pub(super) image: &'a Image,
    pub(super) places: &'a Places<'a>,
    pub(super) rights: &'a Rights,
    pub(super) progress: &'a dyn Progress,
}

/// The threads.
pub(super) struct Crew<'scope> {
    threads: Vec<(SyncSender<Job>, ScopedJoinHandle<'scope, Result<Report>>)>,
}

impl<'scope> Crew<'scope> {
    /// As many as this machine has processors.
    pub(super) fn begin<'a: 'scope>(
        scope: &'scope Scope<'scope, '_>,
        means: Means<'a>,
    ) -> Result<Self> {
        let count = thread::available_parallelism()
            .map_or(1, NonZero::get)
            .min(MOST);
        let mut threads = Vec::new();
        for _ in 0..count {
            let chunks = ChunkReader::new(means.places, means.image.rootfs()?.version())?;
            let (give, take) = sync_channel(WAITING);
            threads.push((give, scope.spawn(move || work(means, chunks, &take))));
        }
        Ok(Crew { threads })
    }

    /// Has a file written; whether the threads are still at work.
    pub(super) fn give(&self, job: Job) -> bool {
        let (thread, _) = &self.threads[job.place % self.threads.len()];
        // One that takes nothing has failed, and says so at the end.
        thread.send(job).is_ok()
    }

    /// Waits until all is written.
    ///
    /// # Errors
    ///
    /// The first one of any thread.
    pub(super) fn finish(self) -> Result<Report> {
        let (give, threads): (Vec<_>, Vec<_>) = self.threads.into_iter().unzip();
        drop(give);
        let mut all = Ok(Report::default());
        for thread in threads {
            let done = thread.join();
            let done = done.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            all = match (all, done) {
                (Ok(all), Ok(more)) => Ok(all.with(&more)),
                (Err(error), _) | (Ok(_), Err(error)) => Err(error),
            };
        }
        all
    }
}

fn work<'a>(means: Means<'a>, mut chunks: ChunkReader<'a>, jobs: &Receiver<Job>) -> Result<Report> {
    let mut report = Report::default();
    for job in jobs {
        let path = job.path.clone();
        let done = one(means, &mut chunks, job, &mut report);
        done.with_context(|| format!("extracting {}", text::path(&path)))?;
    }
    Ok(report)
}

fn one(
    means: Means<'_>,
    chunks: &mut ChunkReader<'_>,
    job: Job,
    report: &mut Report,
) -> Result<()> {
    let inode = means.image.rootfs()?.inode(job.ino)?;
    let inode = inode.context("an inode that is gone")?;
    let Kind::File(extents) = inode.kind()? else {
        bail!("it is no file any more");
    };
    let size = write(means, chunks, job.file, extents)?;
    report.data_bytes = report.data_bytes.saturating_add(size);
    match &job.rest {
        None => Ok(()),
        Some((dir, name)) => means
            .rights
            .set(dir, name, &inode, means.image.work(), report),
    }
}

/// Writes a file; gives its size.
fn write(
    means: Means<'_>,
    chunks: &mut ChunkReader<'_>,
    file: File,
    extents: Extents<'_>,
) -> Result<u64> {
    // Extents may be short, and holes many.
    let mut file = BufWriter::new(file);
    let mut hole = 0;
    let content = Content::new(means.image, extents)?;
    let size = content.size();
    content.for_each(chunks, |piece| {
        match piece {
            Piece::Data(bytes) => {
                if hole > 0 {
                    file.seek(SeekFrom::Current(hole))?;
                    hole = 0;
                }
                file.write_all(bytes)?;
                means.progress.advance(bytes.len() as u64);
            }
            // The sum of all is within its limit.
            Piece::Hole(len) => hole += i64::try_from(len)?,
        }
        Ok(())
    })?;
    // A hole may be last.
    file.into_inner()
        .map_err(|error| error.into_error())?
        .set_len(size)?;
    Ok(size)
}
