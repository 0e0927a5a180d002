// SPDX-License-Identifier: Apache-2.0
//! Reads the files of a tree, cuts them into chunks, and stores these ([`crate::encode::pipeline`]).

use std::collections::HashMap;
use std::num::NonZero;

use anyhow::{Context, Result};

use crate::base::progress::Progress;
use crate::chunks::sink::Sink;
use crate::encode::batch::{self, Small};
use crate::encode::chunker::{Policy, Pool, Pooled};
use crate::encode::compress::{Compression, Probe};
use crate::encode::holes::{Part, Splitter};
use crate::encode::pipeline::{self, Feeder, Stored, NO_CHUNK};
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

/// Stores the content of all files and fills in their extents. Returns the distinct
/// chunks in order of first use; [`Extent::chunk`] counts in this list.
pub fn store(
    scanned: &mut Scanned,
    options: &Options,
    sink: &mut Sink<'_>,
    progress: &dyn Progress,
) -> Result<Vec<Stored>> {
    let settings = pipeline::Options {
        compression: options.compression,
        largest: options.policy.window(),
        threads: options.threads,
        verity: options.verity,
    };
    let chunks = pipeline::store(&settings, sink, progress, |feeder| {
        Reader { options, feeder }.read(scanned)
    })?;
    for extent in &mut scanned.tree.extents {
        if extent.chunk != Extent::HOLE {
            extent.chunk = chunks.index[extent.chunk as usize];
        }
    }
    Ok(chunks.list)
}

/// What reads and cuts.
struct Reader<'a> {
    options: &'a Options,
    feeder: &'a mut Feeder,
}

impl Reader<'_> {
    /// Reads all files.
    fn read(mut self, scanned: &mut Scanned) -> Result<()> {
        let tree = &mut scanned.tree;
        let policy = self.options.policy;
        let mut source = Source::new(&scanned.root, &scanned.facts);
        let mut groups = match policy.has_batches() {
            true => Some(groups(policy, tree, &mut source)?),
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
                let extents = self.large(&mut source, tree, ino, &mut buffer);
                let extents = extents.with_context(|| name(tree, ino))?;
                tree.node_mut(ino).body = Body::File { size, extents };
            } else if let Some(groups) = &mut groups {
                if let Some(files) = groups.remove(&ino) {
                    self.group(&mut source, tree, files, &mut buffer)?;
                }
            } else {
                source
                    .read_small(tree, ino, &mut buffer)
                    .with_context(|| name(tree, ino))?;
                pool.push(ino, &buffer);
                self.drain(tree, &mut pool, false)?;
            }
        }
        self.drain(tree, &mut pool, true)
    }

    /// Sends the chunks of the pool that are complete.
    fn drain(&mut self, tree: &mut Tree, pool: &mut Pool, last: bool) -> Result<()> {
        while let Some(chunk) = pool.next(last) {
            self.pooled(tree, chunk)?;
        }
        Ok(())
    }

    /// Sends a chunk of small files.
    fn pooled(&mut self, tree: &mut Tree, (data, files): Pooled) -> Result<()> {
        let chunk = self.feeder.send(data)?;
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
    fn group(
        &mut self,
        source: &mut Source<'_>,
        tree: &mut Tree,
        group: Vec<u32>,
        buffer: &mut Vec<u8>,
    ) -> Result<()> {
        let (mut data, mut files) = (Vec::new(), Vec::new());
        for ino in group {
            source
                .read_small(tree, ino, buffer)
                .with_context(|| name(tree, ino))?;
            files.push((ino, data.len(), buffer.len()));
            data.extend_from_slice(buffer);
        }
        self.pooled(tree, (data, files))
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
        let mut file = source.open(tree, ino, self.options.holes)?;
        let mut cutter = Cutter {
            policy: self.options.policy,
            feeder: self.feeder,
            extents: &mut tree.extents,
            data: Vec::new(),
        };
        let mut splitter = Splitter::default();
        let mut take = |part: Part<'_>| cutter.take(part);
        loop {
            let zeros = file.next(buffer)?;
            if zeros == 0 && buffer.is_empty() {
                break;
            }
            splitter.skip(zeros);
            match self.options.holes {
                true => splitter.push(buffer, &mut take)?,
                false => take(Part::Data(buffer))?,
            }
        }
        splitter.finish(&mut take)?;
        cutter.finish()?;
        file.finish()?;
        Span::since(&tree.extents, start)
    }
}

/// Cuts the data of a file into chunks.
struct Cutter<'a> {
    policy: Policy,
    feeder: &'a mut Feeder,
    extents: &'a mut Vec<Extent>,
    /// Data in front of which all is cut.
    data: Vec<u8>,
}

impl Cutter<'_> {
    fn take(&mut self, part: Part<'_>) -> Result<()> {
        match part {
            Part::Data(mut bytes) => {
                let window = self.policy.window();
                while !bytes.is_empty() {
                    let room = window - self.data.len();
                    let (now, later) = bytes.split_at(room.min(bytes.len()));
                    self.data.extend_from_slice(now);
                    bytes = later;
                    if self.data.len() == window {
                        self.cut()?;
                    }
                }
                Ok(())
            }
            Part::Hole(len) => {
                self.finish()?;
                let (chunk, offset) = (Extent::HOLE, 0);
                self.extents.push(Extent { chunk, offset, len });
                Ok(())
            }
        }
    }

    /// Sends what is left: a run of data ends.
    fn finish(&mut self) -> Result<()> {
        while !self.data.is_empty() {
            self.cut()?;
        }
        Ok(())
    }

    fn cut(&mut self) -> Result<()> {
        let cut = self.policy.cut(&self.data);
        let rest = self.data.split_off(cut);
        let chunk = self.feeder.send(std::mem::replace(&mut self.data, rest))?;
        let (offset, len) = (0, cut as u64);
        self.extents.push(Extent { chunk, offset, len });
        Ok(())
    }
}

/// Whether a file of `size` bytes shares a chunk with others.
fn is_small(policy: Policy, size: u64) -> bool {
    usize::try_from(size).is_ok_and(|size| size < policy.own())
}

/// The path of a file, for errors.
fn name(tree: &Tree, ino: u32) -> String {
    crate::base::text::path(&tree.path(ino))
}

/// Which small files make a chunk. That takes to read them once before.
fn groups(policy: Policy, tree: &Tree, source: &mut Source<'_>) -> Result<HashMap<u32, Vec<u32>>> {
    let mut files = Vec::new();
    let (mut probe, mut buffer) = (Probe::new()?, Vec::new());
    for ino in tree.inos() {
        let node = tree.node(ino);
        match node.body {
            Body::File { size, .. } if size > 0 && is_small(policy, size) => (),
            _ => continue,
        }
        source
            .read_small(tree, ino, &mut buffer)
            .with_context(|| name(tree, ino))?;
        files.push(Small {
            ino,
            len: buffer.len(),
            mtime: node.mtime,
            compressible: probe.saves(&buffer)?,
            rank: batch::rank(&tree.path(ino)),
        });
    }
    Ok(batch::group(policy, files))
}
