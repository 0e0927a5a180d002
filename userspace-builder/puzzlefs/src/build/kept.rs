// SPDX-License-Identifier: Apache-2.0
//! The content of files that come by once, in an order that is not ours. Large ones become chunks at
//! once; small ones wait in a file without a name, since it is known only at the end which of them
//! share a chunk.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;

use anyhow::{ensure, Context, Result};

use crate::build::content::{self, cut, is_small, Options};
use crate::encode::pipeline::Feeder;
use crate::layers::{Content, Keep};
use crate::tree::{Extent, Span, Tree};

/// Keeps content as it comes by.
pub struct Keeper<'a, 'b> {
    options: &'a Options,
    feeder: &'a mut Feeder<'b>,
    buffer: Vec<u8>,
    kept: Kept,
    small: BufWriter<File>,
}

/// Content that was kept.
#[derive(Default)]
struct Kept {
    files: Vec<Place>,
    /// Of all large files.
    extents: Vec<Extent>,
    /// Bytes of all small ones.
    small: u64,
}

/// Where the content of a file is.
#[derive(Clone, Copy)]
enum Place {
    /// At this offset in the file of small ones, so many bytes.
    Small(u64, usize),
    /// These of the extents.
    Large(usize, usize),
}

impl<'a, 'b> Keeper<'a, 'b> {
    /// `small` is an empty file for small ones.
    pub fn new(options: &'a Options, feeder: &'a mut Feeder<'b>, small: File) -> Self {
        Keeper {
            options,
            feeder,
            buffer: Vec::new(),
            kept: Kept::default(),
            small: BufWriter::with_capacity(1 << 20, small),
        }
    }

    /// All that was kept. `numbers` says for each inode under which number.
    pub fn finish(self, numbers: Vec<Option<u32>>) -> Result<Files> {
        let small = self.small.into_inner().map_err(|e| e.into_error());
        Ok(Files {
            kept: self.kept,
            numbers,
            small: small.context(WAITING)?,
        })
    }
}

const WAITING: &str = "writing small files into the layout, to wait for others";

impl Keep for Keeper<'_, '_> {
    fn keep(&mut self, size: u64, content: &mut dyn Content) -> Result<u32> {
        let place = if is_small(self.options.policy, size) {
            let begin = self.kept.small;
            loop {
                let zeros = content.read(&mut self.buffer)?;
                if zeros == 0 && self.buffer.is_empty() {
                    break;
                }
                std::io::copy(
                    &mut std::io::Read::take(std::io::repeat(0), zeros),
                    &mut self.small,
                )
                .and_then(|_| self.small.write_all(&self.buffer))
                .context(WAITING)?;
                self.kept.small += zeros + self.buffer.len() as u64;
            }
            ensure!(
                self.kept.small - begin == size,
                "it is not as long as it says"
            );
            Place::Small(begin, usize::try_from(size)?)
        } else {
            let begin = self.kept.extents.len();
            let next = |buffer: &mut Vec<u8>| content.read(buffer);
            let extents = &mut self.kept.extents;
            cut(self.options, self.feeder, extents, &mut self.buffer, next)?;
            Place::Large(begin, extents.len())
        };
        self.kept.files.push(place);
        Ok(u32::try_from(self.kept.files.len() - 1)?)
    }
}

/// Content that was kept, by inode.
pub struct Files {
    kept: Kept,
    numbers: Vec<Option<u32>>,
    small: File,
}

impl Files {
    fn place(&self, ino: u32) -> Result<Place> {
        let number = self.numbers[ino as usize - 1];
        let place = number.and_then(|number| self.kept.files.get(number as usize));
        place.copied().context("its content was not kept")
    }
}

impl content::Files for Files {
    fn small(&mut self, _: &Tree, ino: u32, buffer: &mut Vec<u8>) -> Result<()> {
        let Place::Small(begin, len) = self.place(ino)? else {
            anyhow::bail!("it was taken for a large file");
        };
        buffer.resize(len, 0);
        let read = self.small.read_exact_at(buffer, begin);
        read.context("reading a small file that waited")
    }

    fn large(
        &mut self,
        tree: &mut Tree,
        ino: u32,
        _: &Options,
        _: &mut Feeder<'_>,
    ) -> Result<Span> {
        let Place::Large(begin, end) = self.place(ino)? else {
            anyhow::bail!("it was taken for a small file");
        };
        let start = tree.extents.len();
        tree.extents.extend(&self.kept.extents[begin..end]);
        Span::since(&tree.extents, start)
    }
}
