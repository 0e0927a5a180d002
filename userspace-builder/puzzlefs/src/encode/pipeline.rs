// SPDX-License-Identifier: Apache-2.0
//! Chunks on their way into a layout. Whoever has them gives them one after another; workers on all
//! processors hash and compress them; one thread writes, in the order of the first.
//! Queues are bounded, so memory is too, and the result depends on the chunks alone.
//!
//! That order is kept by a queue of promises: with each chunk that is handed to the
//! workers goes the way back for what becomes of it, and the writer waits at the other ends of
//! these, one after another.

use std::collections::hash_map::{Entry, HashMap};
use std::num::NonZero;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result};
use crossbeam_channel::{bounded, Receiver, Sender};
use puzzlefs_format::Digest;

use crate::base::digest::sha256;
use crate::base::progress::Progress;
use crate::base::verity::measure;
use crate::chunks::codec::Codec;
use crate::chunks::sink::Sink;
use crate::encode::compress::{Compression, Encoder};
use crate::encode::known::{Form, Known};

/// The number of no chunk.
pub const NO_CHUNK: u32 = u32::MAX;

/// What becomes of chunks.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How they are compressed.
    pub compression: Compression,
    /// Bytes of the largest.
    pub largest: usize,
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
        let each = 8 * self.largest + (4 << 20);
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

/// What was stored.
#[derive(Default)]
pub struct Chunks {
    /// The distinct chunks, in the order in which they were first given.
    pub list: Vec<Stored>,
    /// Digests of their contents.
    pub contents: Vec<Digest>,
    /// For each number that [`Feeder::send`] gave, the index of its chunk in the list.
    pub index: Vec<u32>,
    /// How many were compressed.
    pub compressed: u64,
}

/// Stores in `sink` the chunks that `give` sends; those that are `known` are not compressed again.
pub fn store(
    options: &Options,
    known: &Known<'_>,
    sink: &mut Sink<'_>,
    progress: &dyn Progress,
    give: impl FnOnce(&mut Feeder<'_>) -> Result<()>,
) -> Result<Chunks> {
    let workers = options.workers();
    let encoders = (0..workers).map(|_| Encoder::new(options.compression));
    let encoders: Vec<Encoder> = encoders.collect::<Result<_>>()?;
    let shared = Shared {
        verity: options.verity,
        known,
        progress,
        first: Mutex::default(),
        compressed: AtomicU64::new(0),
    };
    let (jobs, queue) = bounded(workers);
    let (order, promises) = bounded(3 * workers);
    let (given, written) = thread::scope(|scope| {
        for encoder in encoders {
            let (shared, queue) = (&shared, queue.clone());
            scope.spawn(move || shared.work(encoder, queue));
        }
        drop(queue);
        let writer = scope.spawn(|| shared.write(promises, sink));
        let mut feeder = Feeder {
            shared: &shared,
            jobs,
            order,
            next: 0,
        };
        let given = give(&mut feeder);
        drop(feeder);
        let written = writer.join();
        (
            given,
            written.unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
        )
    });
    // When the writer fails, the giver does too: the writer's error is the one to show.
    let chunks = written?;
    given?;
    Ok(chunks)
}

/// Takes chunks to be stored.
pub struct Feeder<'a> {
    shared: &'a Shared<'a>,
    jobs: Sender<Job>,
    order: Sender<Receiver<Result<Done>>>,
    next: u32,
}

const FAILED: &str = "the writing thread failed";

impl Feeder<'_> {
    /// Sends a chunk on its way; returns its number.
    pub fn send(&mut self, data: Vec<u8>) -> Result<u32> {
        let (chunk, done) = self.promise()?;
        self.jobs.send(Job { chunk, data, done }).context(FAILED)?;
        Ok(chunk)
    }

    /// The same for a chunk that is stored already, and that the sink can [adopt](Sink::adopt):
    /// its content has this digest and so many bytes.
    pub fn adopt(&mut self, (content, form, len): (Digest, Form, u64)) -> Result<u32> {
        let (chunk, done) = self.promise()?;
        let stored = self.shared.claim(content, chunk).then_some(Stored {
            digest: form.digest,
            size: form.size,
            codec: form.codec,
            verity: None,
        });
        let stored = stored.map(|stored| (stored, None));
        done.send(Ok(Done { content, stored })).context(FAILED)?;
        self.shared.progress.advance(len);
        Ok(chunk)
    }

    /// The next number, and who waits for what becomes of the chunk.
    fn promise(&mut self) -> Result<(u32, Sender<Result<Done>>)> {
        let chunk = self.next;
        self.next = chunk
            .checked_add(1)
            .filter(|&n| n != NO_CHUNK)
            .context("too many chunks")?;
        let (done, promise) = bounded(1);
        self.order.send(promise).context(FAILED)?;
        Ok((chunk, done))
    }
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
    /// As it is to be stored; nothing if an earlier chunk has the same content. Without bytes it is
    /// stored already.
    stored: Option<(Stored, Option<Vec<u8>>)>,
}

/// What the workers and the writer share.
struct Shared<'a> {
    verity: bool,
    known: &'a Known<'a>,
    progress: &'a dyn Progress,
    compressed: AtomicU64,
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
        let (form, bytes) = match self.known.find(&content, &data) {
            Some((form, bytes)) => (form, bytes.unwrap_or(data)),
            None => {
                self.compressed.fetch_add(1, Ordering::Relaxed);
                let (digest, bytes, codec) = match encoder.encode(&data)? {
                    Some((codec, packed)) => (sha256(&[&packed]), packed, codec),
                    None => (content, data, Codec::Raw),
                };
                let size = u64::try_from(bytes.len())?;
                (
                    Form {
                        digest,
                        size,
                        codec,
                    },
                    bytes,
                )
            }
        };
        let stored = Stored {
            digest: form.digest,
            size: form.size,
            codec: form.codec,
            verity: self.verity.then(|| measure(&bytes)),
        };
        Ok(Done {
            content,
            stored: Some((stored, Some(bytes))),
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

    /// Puts the distinct chunks into `sink`. A file of 100 GB may have millions of
    /// chunks with few distinct ones: each must not take much.
    fn write(
        &self,
        promises: Receiver<Receiver<Result<Done>>>,
        sink: &mut Sink<'_>,
    ) -> Result<Chunks> {
        let (mut list, mut contents, mut index) = (Vec::new(), Vec::new(), Vec::new());
        for (chunk, promise) in (0..).zip(promises) {
            let done = promise.recv().context("a worker thread failed")??;
            let first = self.first.lock().unwrap_or_else(PoisonError::into_inner)[&done.content];
            index.push(match done.stored {
                Some((stored, bytes)) if first == chunk => {
                    let media_type = stored.codec.media_type();
                    match bytes {
                        Some(bytes) => sink.put(stored.digest, media_type, &bytes)?,
                        None => sink.adopt(stored.digest, media_type, stored.size)?,
                    }
                    list.push(stored);
                    contents.push(done.content);
                    // Fewer than the feeder's numbers, which are u32.
                    list.len() as u32 - 1
                }
                _ => index[first as usize],
            });
        }
        Ok(Chunks {
            list,
            contents,
            index,
            compressed: self.compressed.load(Ordering::Relaxed),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::progress::Silent;
    use crate::chunks::places::Places;
    use crate::chunks::sink::Form;
    use crate::layout::staging::Staging;
    use crate::layout::Layout;

    /// Workers that take equal chunks at the same time may come to the later one first.
    #[test]
    fn the_earlier_of_equal_chunks_counts() {
        let shared = Shared {
            verity: false,
            known: &Known::default(),
            progress: &Silent,
            first: Mutex::default(),
            compressed: AtomicU64::new(0),
        };
        let mut encoder = Encoder::new(Compression::zstd(1)).unwrap();
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
        let Chunks { list, index, .. } = shared.write(promises, &mut sink).unwrap();
        assert_eq!(list.len(), 2);
        assert_eq!(index, [0, 1, 0, 0]);
    }
}
