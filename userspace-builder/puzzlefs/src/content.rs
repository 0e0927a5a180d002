// SPDX-License-Identifier: Apache-2.0
//! Reads the files of a tree, cuts them into chunks, and stores the chunks. One thread reads and
//! cuts; workers on all processors hash and compress; one writes, in the order of the first.
//! Queues are bounded, so memory is too, and the result depends on the tree alone.
//!
//! That order is kept by a queue of promises: with each chunk that the reader hands to the
//! workers goes the way back for what becomes of it, and the writer waits at the other ends of
//! these, one after another.

use std::collections::hash_map::{Entry, HashMap};
use std::num::NonZero;
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result};
use crossbeam_channel::{bounded, Receiver, Sender};
use puzzlefs_format::Digest;

use crate::chunker::{Policy, Pool};
use crate::compress::{Codec, Compression, Encoder};
use crate::digest::sha256;
use crate::file::{Run, Source};
use crate::progress::Progress;
use crate::scan::Scanned;
use crate::sink::Sink;
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
}

impl Options {
    /// Workers that fit into the memory budget, for a chunk of the largest size in
    /// the queue, one being read, one being compressed, its compressed form, those of chunks that
    /// wait for an earlier one, and zstd's own tables.
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
    /// What they are.
    pub codec: Codec,
    /// Their fs-verity digest, if it was asked for.
    pub verity: Option<[u8; 32]>,
}

/// Stores the content of all files and fills in their extents. Returns the distinct
/// chunks in order of first use; [`Extent::chunk`] counts in this list.
pub fn store(
    scanned: &mut Scanned,
    options: &Options,
    sink: &mut Sink<'_>,
    progress: &dyn Progress,
) -> Result<Vec<Stored>> {
    let workers = options.workers();
    let encoders = (0..workers).map(|_| Encoder::new(options.compression, options.policy.window()));
    let encoders: Vec<Encoder> = encoders.collect::<Result<_>>()?;
    let shared = Shared {
        options,
        progress,
        first: Mutex::default(),
    };
    let (jobs, queue) = bounded(workers);
    let (order, promises) = bounded(3 * workers);
    let (read, written) = thread::scope(|scope| {
        for encoder in encoders {
            let (shared, queue) = (&shared, queue.clone());
            scope.spawn(move || shared.work(encoder, queue));
        }
        drop(queue);
        let writer = scope.spawn(|| shared.write(promises, sink));
        let read = Reader {
            options,
            jobs,
            order,
            next: 0,
        }
        .read(scanned);
        let written = writer.join();
        (
            read,
            written.unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
        )
    });
    // When the writer fails, the reader does too: the writer's error is the one to show.
    let (list, index) = written?;
    read?;
    for extent in &mut scanned.tree.extents {
        if extent.chunk != Extent::HOLE {
            extent.chunk = index[extent.chunk as usize];
        }
    }
    Ok(list)
}

/// A chunk to store: its number, its bytes, and who waits for it.
struct Job {
    chunk: u32,
    data: Vec<u8>,
    done: Sender<Result<Done>>,
}

/// What became of a chunk.
struct Done {
    content: Digest,
    /// As it is to be stored; nothing if an earlier chunk has the same content.
    stored: Option<(Stored, Vec<u8>)>,
}

/// What the workers and the writer share.
struct Shared<'a> {
    options: &'a Options,
    progress: &'a dyn Progress,
    /// Content to the number of the first chunk, as far as is known, that has it.
    first: Mutex<HashMap<Digest, u32>>,
}

impl Shared<'_> {
    fn work(&self, mut encoder: Encoder, queue: Receiver<Job>) {
        for Job { chunk, data, done } in queue {
            let len = data.len() as u64;
            // The writer has failed if it does not wait for it.
            let _ = done.send(self.encode(&mut encoder, chunk, data));
            self.progress.advance(len);
        }
    }

    fn encode(&self, encoder: &mut Encoder, chunk: u32, data: Vec<u8>) -> Result<Done> {
        let content = sha256(&[&data]);
        if !self.claim(content, chunk) {
            let stored = None;
            return Ok(Done { content, stored });
        }
        let (digest, bytes, codec) = match encoder.encode(&data)? {
            Some((codec, packed)) => (sha256(&[&packed]), packed, codec),
            None => (content, data, Codec::Raw),
        };
        let stored = Stored {
            digest,
            size: u64::try_from(bytes.len())?,
            codec,
            verity: self.options.verity.then(|| measure(&bytes)),
        };
        Ok(Done {
            content,
            stored: Some((stored, bytes)),
        })
    }

    /// Whether `chunk` is the first one with this content, as far as is known. An earlier
    /// one may come later, to another worker; then both are compressed, and the writer
    /// takes the earlier.
    fn claim(&self, content: Digest, chunk: u32) -> bool {
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        match first.entry(content) {
            Entry::Occupied(other) if *other.get() < chunk => false,
            Entry::Occupied(mut later) => {
                later.insert(chunk);
                true
            }
            Entry::Vacant(free) => {
                free.insert(chunk);
                true
            }
        }
    }

    /// Puts the distinct chunks into `sink`. Returns them, and for each of the reader's
    /// numbers its chunk's index among them. A file of 100 GB may have millions of
    /// chunks with few distinct ones: each must not take much.
    fn write(
        &self,
        promises: Receiver<Receiver<Result<Done>>>,
        sink: &mut Sink<'_>,
    ) -> Result<(Vec<Stored>, Vec<u32>)> {
        let (mut list, mut index) = (Vec::new(), Vec::new());
        for (chunk, promise) in (0..).zip(promises) {
            let done = promise.recv().context("a worker thread failed")??;
            let first = self.first.lock().unwrap_or_else(PoisonError::into_inner)[&done.content];
            index.push(match done.stored {
                Some((stored, bytes)) if first == chunk => {
                    let media_type = stored.codec.media_type();
                    sink.put(stored.digest, media_type, &bytes)?;
                    list.push(stored);
                    // Fewer than the reader's numbers, which are u32.
                    list.len() as u32 - 1
                }
                _ => index[first as usize],
            });
        }
        Ok((list, index))
    }
}

/// The thread that reads and cuts.
struct Reader<'a> {
    options: &'a Options,
    jobs: Sender<Job>,
    order: Sender<Receiver<Result<Done>>>,
    next: u32,
}

impl Reader<'_> {
    /// Reads all files.
    fn read(mut self, scanned: &mut Scanned) -> Result<()> {
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
            if usize::try_from(size).is_ok_and(|size| size < self.options.policy.own()) {
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
        self.drain(tree, &mut pool, true)
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
        let (done, promise) = bounded(1);
        let failed = "the writing thread failed";
        self.order.send(promise).context(failed)?;
        self.jobs.send(Job { chunk, data, done }).context(failed)?;
        Ok(chunk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Layout;
    use crate::places::Places;
    use crate::progress::Silent;
    use crate::sink::Form;
    use crate::store::Staging;

    /// Workers that take equal chunks at the same time may come to the later one first.
    #[test]
    fn the_earlier_of_equal_chunks_counts() {
        let options = Options {
            policy: Policy::new(Policy::DEFAULT_AVG).unwrap(),
            compression: Compression::zstd(1),
            holes: true,
            clamp: None,
            threads: None,
            verity: false,
        };
        let shared = Shared {
            options: &options,
            progress: &Silent,
            first: Mutex::default(),
        };
        let mut encoder = Encoder::new(options.compression, 1).unwrap();
        let mut done = Vec::new();
        for (chunk, text) in [(2, "equal"), (0, "equal"), (3, "equal"), (1, "other")] {
            let result = shared.encode(&mut encoder, chunk, text.into()).unwrap();
            assert_eq!(result.stored.is_some(), chunk < 3);
            done.push((chunk, result));
        }
        done.sort_by_key(|(chunk, _)| *chunk);
        let (order, promises) = bounded(4);
        for (_, result) in done {
            let (sender, promise) = bounded(1);
            sender.send(Ok(result)).unwrap();
            order.send(promise).unwrap();
        }
        drop(order);

        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::open_or_create(dir.path()).unwrap();
        let staging = Staging::new(&layout).unwrap();
        let (nothing, _) = Places::open(&layout, []);
        let mut sink = Sink::new(&staging, Form::Loose, nothing, &Silent);
        let (list, index) = shared.write(promises, &mut sink).unwrap();
        assert_eq!(list.len(), 2);
        assert_eq!(index, [0, 1, 0, 0]);
    }
}
