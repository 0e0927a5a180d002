// SPDX-License-Identifier: Apache-2.0
//! Reads the files of a tree, cuts them into chunks, and stores these ([`crate::encode::pipeline`]):
//! in an order, and in groups, that depend on the tree alone.

use std::collections::{HashMap, HashSet};
use std::num::NonZero;

use anyhow::{Context, Result};

use crate::base::progress::Progress;
use crate::build::cut::Cutter;
use crate::build::past::Past;
use crate::cache::files::{self, Purpose};
use crate::cache::{self, Cache};
use crate::chunks::sink::Sink;
use crate::encode::batch::{self, Small};
use crate::encode::chunker::{Policy, Pool};
use crate::encode::compress::{Compression, Probe};
use crate::encode::holes::{Part, Splitter};
use crate::encode::known::Known;
use crate::encode::pipeline::{self, Chunks, Feeder, NO_CHUNK};
use crate::host::stat::Facts;
use crate::tree::file::Source;
use crate::tree::scan::Scanned;
use crate::tree::{Body, Extent, Span, Tree};

// So the number of no chunk never comes out as one of a chunk.
const _: () = assert!(Extent::HOLE == NO_CHUNK);

/// How files become chunks.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Where chunks begin and end.
    pub policy: Policy,
    /// How they are compressed.
    pub compression: Compression,
    /// Whether holes are kept as holes.
    pub holes: bool,
    /// Worker threads; `None`: as many as there are processors.
    pub threads: Option<NonZero<usize>>,
    /// Whether to compute fs-verity digests.
    pub verity: bool,
}

impl Options {
    /// What becomes of the chunks.
    pub fn pipeline(&self) -> pipeline::Options {
        pipeline::Options {
            compression: self.compression,
            largest: self.policy.window(),
            threads: self.threads,
            verity: self.verity,
        }
    }
}

/// What became of the files.
pub struct Content {
    /// The distinct chunks in order of first use; [`Extent::chunk`] counts in them.
    pub chunks: Chunks,
    /// How often a file was read.
    pub read: u64,
    /// Whether small files get smaller by compression, if that decides where they go.
    pub compressible: HashMap<u32, bool>,
    /// Chunks that end where they do since no small file followed.
    pub last: HashSet<u32>,
}

impl Content {
    /// Keeps which chunks the files became. None of them was looked at `before`.
    pub fn save(
        &self,
        cache: &Cache,
        purpose: &Purpose<'_>,
        scanned: &Scanned,
        before: (i64, u32),
    ) -> Result<()> {
        let mut lens = vec![0; self.chunks.list.len()];
        for extent in &scanned.tree.extents {
            if let Some(len) = lens.get_mut(extent.chunk as usize) {
                *len = extent.len.saturating_add(extent.offset.into()).max(*len);
            }
        }
        let chunks = (0..).zip(self.chunks.contents.iter().zip(lens));
        let chunks = chunks.map(|(number, (content, len))| cache::files::Chunk {
            content: *content,
            len,
            is_last: self.last.contains(&number),
        });
        let chunks: Vec<cache::files::Chunk> = chunks.collect();
        files::Files::save(cache, purpose, scanned, &chunks, &self.compressible, before)
    }
}

/// Where the content of files comes from.
pub trait Files {
    /// Reads a small file into `buffer`.
    fn small(&mut self, tree: &Tree, ino: u32, buffer: &mut Vec<u8>) -> Result<()>;

    /// Sends the chunks of a large file; returns its extents.
    fn large(
        &mut self,
        tree: &mut Tree,
        ino: u32,
        options: &Options,
        feeder: &mut Feeder<'_>,
    ) -> Result<Span>;
}

/// Stores the content of all files and fills in their extents. What there was in the `past` is not read,
/// and what is `known` not compressed.
pub fn store(
    scanned: &mut Scanned,
    options: &Options,
    past: &Past,
    known: &Known<'_>,
    sink: &mut Sink<'_>,
    progress: &dyn Progress,
) -> Result<Content> {
    let (mut read, mut compressible, mut last) = Default::default();
    let chunks = pipeline::store(&options.pipeline(), known, sink, progress, |feeder| {
        let facts = &scanned.facts;
        let mut source = Host {
            source: Source::new(&scanned.root, facts),
            buffer: Vec::with_capacity(options.policy.window()),
        };
        let mut reader = Reader::new(options, past, feeder, facts, &mut source);
        reader.read(&mut scanned.tree)?;
        (compressible, last) = (reader.compressible, reader.last);
        read = source.source.opened();
        Ok(())
    })?;
    for extent in &mut scanned.tree.extents {
        if extent.chunk != Extent::HOLE {
            extent.chunk = chunks.index[extent.chunk as usize];
        }
    }
    let last: Vec<u32> = last;
    let last = last.iter().map(|chunk| chunks.index[*chunk as usize]);
    Ok(Content {
        last: last.collect(),
        chunks,
        read,
        compressible,
    })
}

/// What reads and cuts.
pub struct Reader<'a, 'b> {
    options: &'a Options,
    past: &'a Past,
    feeder: &'a mut Feeder<'b>,
    facts: &'a [Facts],
    source: &'a mut dyn Files,
    compressible: HashMap<u32, bool>,
    last: Vec<u32>,
}

impl<'a, 'b> Reader<'a, 'b> {
    /// Reads files from `source`, of which `facts` are known.
    pub fn new(
        options: &'a Options,
        past: &'a Past,
        feeder: &'a mut Feeder<'b>,
        facts: &'a [Facts],
        source: &'a mut dyn Files,
    ) -> Self {
        Reader {
            options,
            past,
            feeder,
            facts,
            source,
            compressible: HashMap::new(),
            last: Vec::new(),
        }
    }

    /// Reads all files.
    pub fn read(&mut self, tree: &mut Tree) -> Result<()> {
        let policy = self.options.policy;
        let mut groups = match policy.has_batches() {
            true => Some(self.groups(tree)?),
            false => None,
        };
        let mut pool = Pool::new(policy);
        let mut buffer = Vec::with_capacity(policy.window());
        for ino in tree.inos() {
            let Body::File { size, .. } = tree.node(ino).body else {
                continue;
            };
            if size == 0 {
                continue;
            }
            if !is_small(policy, size) {
                let extents = match self.adopt_large(tree, ino)? {
                    Some(extents) => extents,
                    None => {
                        let sent = self.source.large(tree, ino, self.options, self.feeder);
                        sent.with_context(|| name(tree, ino))?
                    }
                };
                tree.node_mut(ino).body = Body::File { size, extents };
            } else if let Some(groups) = &mut groups {
                if let Some(files) = groups.remove(&ino) {
                    self.group(tree, files, &mut buffer)?;
                }
            } else {
                pool.push(ino, usize::try_from(size)?);
                self.drain(tree, &mut pool, false, &mut buffer)?;
            }
        }
        self.drain(tree, &mut pool, true, &mut buffer)
    }

    /// The facts of a file, by its number.
    fn facts(&self, ino: u32) -> Facts {
        self.facts[ino as usize - 1]
    }

    /// Sends the chunks of the pool that are complete.
    fn drain(
        &mut self,
        tree: &mut Tree,
        pool: &mut Pool,
        last: bool,
        buffer: &mut Vec<u8>,
    ) -> Result<()> {
        while pool.is_ready(last) {
            let files = pool.files().map(|(ino, len)| (self.facts(ino), len));
            let known: Vec<(u32, usize)> = match last {
                true => self
                    .past
                    .last(&files.collect::<Vec<_>>())
                    .unwrap_or_default(),
                false => {
                    let pooled = self.past.pooled(files).into_iter();
                    pooled
                        .filter(|(chunk, _)| !self.past.is_last(*chunk))
                        .collect()
                }
            };
            for (chunk, count) in &known {
                let files = pool.take(*count);
                let chunk = self.adopt(*chunk)?;
                self.pooled(tree, chunk, files)?;
                self.last.extend(last.then_some(chunk));
            }
            if known.is_empty() {
                while let Some(ino) = pool.wants() {
                    self.small(tree, ino, buffer)?;
                    pool.give(buffer);
                }
                let (data, files) = pool.cut();
                let chunk = self.feeder.send(data)?;
                self.pooled(tree, chunk, files)?;
                self.last.extend(last.then_some(chunk));
            }
        }
        Ok(())
    }

    /// Reads a small file.
    fn small(&mut self, tree: &Tree, ino: u32, buffer: &mut Vec<u8>) -> Result<()> {
        let read = self.source.small(tree, ino, buffer);
        read.with_context(|| name(tree, ino))
    }

    /// Sends a chunk that the layout has.
    fn adopt(&mut self, chunk: u32) -> Result<u32> {
        let chunk = self
            .past
            .chunk(chunk)
            .context("a chunk that is not there")?;
        self.feeder.adopt(chunk)
    }

    /// The extents of a file that has its chunks to itself, if the layout has these.
    fn adopt_large(&mut self, tree: &mut Tree, ino: u32) -> Result<Option<Span>> {
        let start = tree.extents.len();
        let Some(extents) = self.past.extents(&self.facts(ino)) else {
            return Ok(None);
        };
        for (mut extent, chunk) in extents {
            if let Some(chunk) = chunk {
                extent.chunk = self.feeder.adopt(chunk)?;
            }
            tree.extents.push(extent);
        }
        Span::since(&tree.extents, start).map(Some)
    }

    /// Notes which small files a chunk has.
    fn pooled(
        &mut self,
        tree: &mut Tree,
        chunk: u32,
        files: Vec<(u32, usize, usize)>,
    ) -> Result<()> {
        for (ino, offset, len) in files {
            let start = tree.extents.len();
            let (offset, len) = (u32::try_from(offset)?, u64::try_from(len)?);
            tree.extents.push(Extent { chunk, offset, len });
            let extents = Span::since(&tree.extents, start)?;
            tree.node_mut(ino).body = Body::File { size: len, extents };
        }
        Ok(())
    }

    /// Reads small files that are to be one chunk, when the walk comes to the first of them: so
    /// packs have chunks in the order of their first use.
    fn group(&mut self, tree: &mut Tree, group: Vec<u32>, buffer: &mut Vec<u8>) -> Result<()> {
        let facts = group.iter().map(|ino| self.facts(*ino));
        let known = self
            .past
            .pooled(facts.map(|facts| (facts, facts.size as usize)));
        let known = known.filter(|(_, count)| *count == group.len());
        let (mut data, mut files, mut end) = (Vec::new(), Vec::new(), 0);
        for ino in group {
            if known.is_none() {
                self.small(tree, ino, buffer)?;
                data.extend_from_slice(buffer);
            }
            let len = self.facts(ino).size as usize;
            files.push((ino, end, len));
            end += len;
        }
        let chunk = match known {
            Some((chunk, _)) => self.adopt(chunk)?,
            None => self.feeder.send(data)?,
        };
        self.pooled(tree, chunk, files)
    }

    /// Which small files make a chunk. That takes to read them once before.
    fn groups(&mut self, tree: &Tree) -> Result<HashMap<u32, Vec<u32>>> {
        let policy = self.options.policy;
        let mut files = Vec::new();
        let (mut probe, mut buffer) = (Probe::new()?, Vec::new());
        for ino in tree.inos() {
            let len = match tree.node(ino).body {
                Body::File { size, .. } if size > 0 && is_small(policy, size) => size as usize,
                _ => continue,
            };
            let known = self.past.file(&self.facts(ino));
            let compressible = match known.and_then(|file| file.compressible) {
                Some(compressible) => compressible,
                None => {
                    self.small(tree, ino, &mut buffer)?;
                    probe.saves(&buffer)?
                }
            };
            self.compressible.insert(ino, compressible);
            files.push(Small {
                ino,
                len,
                compressible,
            });
        }
        Ok(batch::group(policy, files, |ino| tree.path(ino)))
    }
}

/// The files of the host.
struct Host<'a> {
    source: Source<'a>,
    buffer: Vec<u8>,
}

impl Files for Host<'_> {
    fn small(&mut self, tree: &Tree, ino: u32, buffer: &mut Vec<u8>) -> Result<()> {
        self.source.read_small(tree, ino, buffer)
    }

    fn large(
        &mut self,
        tree: &mut Tree,
        ino: u32,
        options: &Options,
        feeder: &mut Feeder<'_>,
    ) -> Result<Span> {
        let start = tree.extents.len();
        let mut file = self.source.open(tree, ino, options.holes)?;
        let next = |buffer: &mut Vec<u8>| file.next(buffer);
        cut(options, feeder, &mut tree.extents, &mut self.buffer, next)?;
        file.finish()?;
        Span::since(&tree.extents, start)
    }
}

/// Sends the chunks of a file that `next` reads: it fills the buffer, which stays empty at the end, and
/// returns how many zeros are in front of that. Adds the file's `extents`.
pub fn cut(
    options: &Options,
    feeder: &mut Feeder<'_>,
    extents: &mut Vec<Extent>,
    buffer: &mut Vec<u8>,
    mut next: impl FnMut(&mut Vec<u8>) -> Result<u64>,
) -> Result<()> {
    let mut cutter = Cutter {
        policy: options.policy,
        feeder,
        extents,
        data: Vec::new(),
    };
    let mut splitter = Splitter::default();
    let mut take = |part: Part<'_>| cutter.take(part);
    loop {
        let mut zeros = next(buffer)?;
        if zeros == 0 && buffer.is_empty() {
            break;
        }
        if options.holes {
            splitter.skip(zeros);
            splitter.push(buffer, &mut take)?;
            continue;
        }
        while zeros > 0 {
            let now = zeros.min(ZEROS.len() as u64);
            take(Part::Data(&ZEROS[..now as usize]))?;
            zeros -= now;
        }
        take(Part::Data(buffer))?;
    }
    splitter.finish(&mut take)?;
    cutter.finish()
}

/// Zeros in the place of holes.
const ZEROS: &[u8] = &[0; 64 << 10];

/// Whether a file of `size` bytes shares a chunk with others.
pub fn is_small(policy: Policy, size: u64) -> bool {
    usize::try_from(size).is_ok_and(|size| size < policy.own())
}

/// The path of a file, for errors.
fn name(tree: &Tree, ino: u32) -> String {
    crate::base::text::path(&tree.path(ino))
}
