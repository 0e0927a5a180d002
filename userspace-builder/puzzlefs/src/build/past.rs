// SPDX-License-Identifier: Apache-2.0
//! What of an earlier build can be taken over without reading a file.

use anyhow::Result;
use puzzlefs_format::Digest;

use crate::cache::files::{File, Files};
use crate::chunks::sink::Sink;
use crate::encode::known::{Form, Known};
use crate::host::stat::Facts;
use crate::tree::Extent;

/// The files of an earlier build, as far as the layout has their chunks.
#[derive(Default)]
pub struct Past {
    files: Files,
    /// How the chunks of [`Files::chunks`] are stored in the layout, if they are.
    forms: Vec<Option<Form>>,
    /// How many of them are the last.
    last: usize,
}

/// A chunk that can be adopted: its content, how it is stored, and its length.
pub type Adopted = (Digest, Form, u64);

impl Past {
    /// Of `files`, what the sink can adopt. Their packs are used or not from now on.
    pub fn new(files: Files, known: &Known<'_>, sink: &mut Sink<'_>) -> Result<Self> {
        let forms = files.chunks.iter();
        let forms = forms.map(|chunk| known.forms.get(&chunk.content).copied());
        let mut forms: Vec<Option<Form>> = forms.collect();
        sink.trust(forms.iter().flatten().map(|form| form.digest))?;
        for form in &mut forms {
            if let Some(known) = form {
                if !sink.can_adopt(&known.digest, known.size)? {
                    *form = None;
                }
            }
        }
        let last = files.chunks.iter().filter(|chunk| chunk.is_last).count();
        Ok(Past { files, forms, last })
    }

    /// The file with these facts, if it was there.
    pub fn file(&self, facts: &Facts) -> Option<&File> {
        self.files.get(facts)
    }

    /// A chunk of such a file.
    pub fn chunk(&self, number: u32) -> Option<Adopted> {
        let form = (*self.forms.get(number as usize)?)?;
        let chunk = &self.files.chunks[number as usize];
        Some((chunk.content, form, chunk.len))
    }

    /// The extents of a file that has its chunks to itself, if all of them can be adopted.
    pub fn extents(
        &self,
        facts: &Facts,
    ) -> Option<impl Iterator<Item = (Extent, Option<Adopted>)> + '_> {
        let file = self.file(facts)?;
        let is_there = |extent: Extent| match self.chunk(extent.chunk) {
            Some((_, _, len)) => extent.offset == 0 && extent.len == len,
            None => extent.chunk == Extent::HOLE,
        };
        let chunk = |extent: Extent| (extent, self.chunk(extent.chunk));
        file.extents()
            .all(is_there)
            .then(|| file.extents().map(chunk))
    }

    /// The chunk that the first of these small files were put into together, and how many they are;
    /// the lengths of files are given too.
    pub fn pooled(&self, files: impl Iterator<Item = (Facts, usize)>) -> Option<(u32, usize)> {
        let (mut number, mut end) = (None, 0);
        for (count, (facts, len)) in (1..).zip(files) {
            let mut extents = self.file(&facts)?.extents();
            let extent = extents.next().filter(|_| extents.len() == 0)?;
            let chunk = *number.get_or_insert(extent.chunk);
            let is_next = extent.chunk == chunk && u64::from(extent.offset) == end;
            if !is_next || extent.len != len as u64 {
                return None;
            }
            end += extent.len;
            if end == self.chunk(chunk)?.2 {
                return Some((chunk, count));
            }
        }
        None
    }

    /// The chunks that the last small files of the walk were put into, which are all of these.
    pub fn last(&self, files: &[(Facts, usize)]) -> Option<Vec<(u32, usize)>> {
        let (mut chunks, mut at) = (Vec::new(), 0);
        while at < files.len() {
            let (chunk, count) = self.pooled(files[at..].iter().copied())?;
            self.files.chunks[chunk as usize].is_last.then_some(())?;
            chunks.push((chunk, count));
            at += count;
        }
        (chunks.len() == self.last).then_some(chunks)
    }

    /// Whether the chunk ends where it does since the walk did.
    pub fn is_last(&self, chunk: u32) -> bool {
        self.files.chunks[chunk as usize].is_last
    }
}
