// SPDX-License-Identifier: Apache-2.0
//! Reads the files of a tree, cuts them into chunks, and stores the chunks on all
//! processors. One thread reads and cuts; workers hash, compress and write. Queues
//! are bounded, so memory is too. The result does not depend on the order in which
//! the workers finish: chunks are numbered by the reader.

use std::collections::hash_map::{Entry, HashMap};
use std::num::NonZero;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{bail, Context, Result};
use crossbeam_channel::{bounded, Receiver, Sender};
use puzzlefs_format::Digest;

use crate::chunker::{Policy, Pool};
use crate::compress::{Compression, Encoder};
use crate::digest::sha256;
use crate::file::{Run, Source};
use crate::progress::Progress;
use crate::scan::Scanned;
use crate::store::Staging;
use crate::tree::{Body, Extent, Span, Tree};
use crate::verity::measure;

/// How files become chunks.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Where chunks begin and end.
    pub policy: Policy,
    /// How they are compressed.
    pub compression: Compression,
    /// Whether holes are kept as holes.
    pub holes: bool,
    /// As in [`crate::scan::scan`].
    pub clamp: Option<i64>,
    /// Worker threads; `None`: as many as there are processors.
    pub threads: Option<NonZero<usize>>,
    /// Whether to compute fs-verity digests.
    pub verity: bool,
    /// More distinct chunks than this are an error.
    pub max_chunks: usize,
}

impl Options {
    /// Workers that fit into the memory budget, for a chunk of the largest size in
    /// the queue, one being read, one being compressed, its compressed form and zstd's own tables.
    fn workers(&self) -> usize {
        const BUDGET: usize = 128 << 20;
        let each = 8 * self.policy.window() + (4 << 20);
        let wanted = self
            .threads
            .or(thread::available_parallelism().ok())
            .map_or(1, NonZero::get);
        wanted.clamp(1, (BUDGET / each).max(1))
    }
}

/// A chunk as it is stored.
#[derive(Clone, Copy, Debug)]
pub struct Stored {
    /// Digest of the stored bytes: the name of the blob.
    pub digest: Digest,
    /// Stored bytes.
    pub size: u64,
    /// Whether they are zstd frames with a seek table.
    pub compressed: bool,
    /// Their fs-verity digest, if it was asked for.
    pub verity: Option<[u8; 32]>,
}

/// Stores the content of all files and fills in their extents. Returns the distinct
/// chunks in order of first use; [`Extent::chunk`] counts in this list.
pub fn store(
    scanned: &mut Scanned,
    options: &Options,
    staging: &Staging<'_>,
    progress: &dyn Progress,
) -> Result<Vec<Stored>> {
    let workers = options.workers();
    let shared = Shared {
        options,
        staging,
        progress,
        first: Mutex::default(),
        distinct: AtomicUsize::new(0),
        failed: AtomicBool::new(false),
    };
    let (jobs, queue) = bounded(workers);
    let (read, outcomes) = thread::scope(|scope| {
        let threads: Vec<_> = (0..workers)
            .map(|_| {
                let queue = queue.clone();
                scope.spawn(|| shared.work(queue))
            })
            .collect();
        drop(queue);
        let read = Reader {
            options,
            jobs,
            next: 0,
            failed: &shared.failed,
        }
        .read(scanned);
        let outcomes: Vec<Result<_>> = threads
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
            .collect();
        (read, outcomes)
    });
    // A failed worker also ends the reader: its own error is the one to show.
    let outcomes = outcomes.into_iter().collect::<Result<Vec<_>>>()?;
    let count = read?;
    Ok(number(&mut scanned.tree, count, outcomes))
}

/// A chunk to store: its number and bytes.
struct Job {
    chunk: u32,
    data: Vec<u8>,
}

/// What became of the chunks that a worker got. A file of 100 GB may have millions of
/// chunks with few distinct ones: each must not take much.
#[derive(Default)]
struct Outcome {
    stored: Vec<(u32, Stored)>,
    /// Chunks with the same content as another one.
    same: Vec<(u32, u32)>,
}

/// Turns the reader's numbers into indices of a list of distinct chunks, which is in
/// order of first use whichever of several equal chunks a worker saw first.
fn number(tree: &mut Tree, count: u32, outcomes: Vec<Outcome>) -> Vec<Stored> {
    let mut original: Vec<u32> = (0..count).collect();
    let mut stored = HashMap::new();
    for outcome in outcomes {
        outcome
            .same
            .into_iter()
            .for_each(|(chunk, other)| original[chunk as usize] = other);
        stored.extend(outcome.stored);
    }
    let mut list = Vec::new();
    let mut index: Vec<Option<u32>> = vec![None; original.len()];
    for chunk in 0..original.len() {
        let original = original[chunk] as usize;
        if index[original].is_none() {
            // Fewer than the reader's numbers, which are u32.
            index[original] = Some(list.len() as u32);
            list.push(stored[&(original as u32)]);
        }
        index[chunk] = index[original];
    }
    for extent in &mut tree.extents {
        if extent.chunk != Extent::HOLE {
            extent.chunk = index[extent.chunk as usize].expect("each chunk has been stored");
        }
    }
    list
}

/// What the workers share.
struct Shared<'a> {
    options: &'a Options,
    staging: &'a Staging<'a>,
    progress: &'a dyn Progress,
    /// Content to the number of the chunk that a worker stored, or is storing, for it.
    first: Mutex<HashMap<Digest, u32>>,
    distinct: AtomicUsize,
    failed: AtomicBool,
}

impl Shared<'_> {
    fn work(&self, queue: Receiver<Job>) -> Result<Outcome> {
        let result = self.run(queue);
        if result.is_err() {
            self.failed.store(true, Ordering::Relaxed);
        }
        result
    }

    fn run(&self, queue: Receiver<Job>) -> Result<Outcome> {
        let mut encoder = Encoder::new(self.options.compression)?;
        let mut outcome = Outcome::default();
        for Job { chunk, data } in queue {
            let content = sha256(&[&data]);
            let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
            let claimed = match first.entry(content) {
                Entry::Occupied(other) => Some(*other.get()),
                Entry::Vacant(free) => {
                    free.insert(chunk);
                    None
                }
            };
            drop(first);
            match claimed {
                Some(other) => outcome.same.push((chunk, other)),
                None => outcome
                    .stored
                    .push((chunk, self.store(&mut encoder, content, &data)?)),
            }
            self.progress.advance(u64::try_from(data.len())?);
        }
        Ok(outcome)
    }

    fn store(&self, encoder: &mut Encoder, content: Digest, data: &[u8]) -> Result<Stored> {
        if self.distinct.fetch_add(1, Ordering::Relaxed) >= self.options.max_chunks {
            bail!(
                "the image needs more than {} chunks, more than its manifest may list; \
                 use a larger --chunk-size",
                self.options.max_chunks
            );
        }
        let packed = encoder.encode(data)?;
        let (digest, bytes) = match &packed {
            Some(packed) => (sha256(&[packed]), packed.as_slice()),
            None => (content, data),
        };
        self.staging.put(&digest, bytes)?;
        Ok(Stored {
            digest,
            size: u64::try_from(bytes.len())?,
            compressed: packed.is_some(),
            verity: self.options.verity.then(|| measure(bytes)),
        })
    }
}

/// The thread that reads and cuts.
struct Reader<'a> {
    options: &'a Options,
    jobs: Sender<Job>,
    next: u32,
    failed: &'a AtomicBool,
}

impl Reader<'_> {
    /// Reads all files; returns the number of chunks.
    fn read(mut self, scanned: &mut Scanned) -> Result<u32> {
        let tree = &mut scanned.tree;
        let mut source = Source::new(&scanned.root, self.options.clamp);
        let mut pool = Pool::new(self.options.policy);
        let mut buffer = Vec::with_capacity(self.options.policy.window());
        for ino in tree.inos() {
            let Body::File { size, .. } = tree.node(ino).body else {
                continue;
            };
            if size == 0 {
                continue;
            }
            let path = || format!("{}", tree.path(ino).display());
            if usize::try_from(size).is_ok_and(|size| size < self.options.policy.min()) {
                source
                    .read_small(tree, ino, &mut buffer)
                    .with_context(path)?;
                pool.push(ino, &buffer);
                self.drain(tree, &mut pool, false)?;
            } else {
                let extents = self.large(&mut source, tree, ino, &mut buffer);
                let extents = extents.with_context(|| format!("{}", tree.path(ino).display()))?;
                tree.node_mut(ino).body = Body::File { size, extents };
            }
        }
        self.drain(tree, &mut pool, true)?;
        Ok(self.next)
    }

    /// Sends the chunks of small files that are complete.
    fn drain(&mut self, tree: &mut Tree, pool: &mut Pool, last: bool) -> Result<()> {
        while let Some((data, files)) = pool.next(last) {
            let chunk = self.send(data)?;
            for (ino, offset, len) in files {
                let start = tree.extents.len();
                let (offset, len) = (u32::try_from(offset)?, u64::try_from(len)?);
                tree.extents.push(Extent { chunk, offset, len });
                let extents = Span::since(&tree.extents, start)?;
                tree.node_mut(ino).body = Body::File { size: len, extents };
            }
        }
        Ok(())
    }

    /// Reads a file that has its chunks to itself.
    fn large(
        &mut self,
        source: &mut Source<'_>,
        tree: &mut Tree,
        ino: u32,
        buffer: &mut Vec<u8>,
    ) -> Result<Span> {
        let start = tree.extents.len();
        let window = self.options.policy.window();
        let mut file = source.open(tree, ino, self.options.holes)?;
        while let Some(run) = file.next_run()? {
            match run {
                Run::Hole(len) => tree.extents.push(Extent {
                    chunk: Extent::HOLE,
                    offset: 0,
                    len,
                }),
                Run::Data(mut left) => {
                    buffer.clear();
                    while left > 0 || !buffer.is_empty() {
                        let more = usize::try_from(left)
                            .unwrap_or(usize::MAX)
                            .min(window - buffer.len());
                        file.append(buffer, more)?;
                        left -= more as u64;
                        let cut = self.options.policy.cut(buffer);
                        let chunk = self.send(buffer[..cut].to_vec())?;
                        buffer.drain(..cut);
                        tree.extents.push(Extent {
                            chunk,
                            offset: 0,
                            len: cut as u64,
                        });
                    }
                }
            }
        }
        file.finish()?;
        Span::since(&tree.extents, start)
    }

    fn send(&mut self, data: Vec<u8>) -> Result<u32> {
        let chunk = self.next;
        self.next = chunk
            .checked_add(1)
            .filter(|&n| n != Extent::HOLE)
            .context("too many chunks")?;
        // Fails when all workers have ended, which only an error does.
        if self.jobs.send(Job { chunk, data }).is_err() || self.failed.load(Ordering::Relaxed) {
            bail!("a worker thread failed");
        }
        Ok(chunk)
    }
}
