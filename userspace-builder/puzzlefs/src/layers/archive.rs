// SPDX-License-Identifier: Apache-2.0
//! The entries of a tar, one after another, as they come: ustar, GNU and PAX, with sparse files.
//!
//! The crate `tar` reads headers and PAX records; the entries are walked here, since it gives
//! the zeros of a sparse file as bytes, of which there may be 2^63, and knows one of its four formats.

use std::collections::VecDeque;
use std::io::{self, Read};

use anyhow::{bail, ensure, Context, Result};
use tar::{EntryType, GnuExtSparseHeader, Header};

use super::fields::{number, Records};
use super::sparse::Map;
use crate::base::text;
use crate::host::xattr::XattrSet;

const BLOCK: usize = 512;
/// Bytes of a header that stands in front of another one: of PAX records, or of a long name.
/// 64 KiB of extended attributes and two paths need less.
const MAX_RECORDS: u64 = 4 << 20;
/// Bytes of the target of a symbolic link, at most: PATH_MAX of Linux with its NUL is 4096.
const MAX_TARGET: usize = 4095;
/// Bytes of a file that are read at once.
const PIECE: usize = 128 << 10;

/// What an entry is, with what only that type has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file of so many bytes.
    File(u64),
    /// Another name of the file with this path.
    Link(Vec<u8>),
    /// A symbolic link, and where it leads.
    Symlink(Vec<u8>),
    /// A directory.
    Dir,
    /// A character device: major and minor number.
    Chr(u32, u32),
    /// A block device: major and minor number.
    Blk(u32, u32),
    /// A named pipe.
    Fifo,
}

/// An entry.
#[derive(Clone, Debug)]
pub struct Entry {
    /// As it stands there.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permission bits, 0o7777.
    pub permissions: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time: seconds since the epoch, and nanoseconds.
    pub mtime: (i64, u32),
    /// Extended attributes, in no order.
    pub xattrs: XattrSet,
}

/// A tar that is being read.
pub struct Archive<R> {
    input: R,
    /// Skips bytes of it; says how many there were.
    skip: fn(&mut R, u64) -> io::Result<u64>,
    /// Stored bytes of the present entry that were not read, and zeros behind them.
    left: u64,
    padding: u64,
    data: Data,
}

/// The content of the present entry, a file.
#[derive(Default)]
struct Data {
    size: u64,
    at: u64,
    parts: VecDeque<(u64, u64)>,
}

impl<R: Read> Archive<R> {
    /// The tar that `input` gives.
    pub fn new(input: R) -> Self {
        let skip = |input: &mut R, len| io::copy(&mut input.take(len), &mut io::sink());
        Self::with_skip(input, skip)
    }

    /// The same where what is skipped need not be read.
    pub fn with_skip(input: R, skip: fn(&mut R, u64) -> io::Result<u64>) -> Self {
        let data = Data::default();
        Archive {
            input,
            skip,
            left: 0,
            padding: 0,
            data,
        }
    }

    /// The next entry; its content can be read until the one after it is asked for.
    ///
    /// # Errors
    ///
    /// What is no tar, or cannot be in an image.
    pub fn next(&mut self) -> Result<Option<Entry>> {
        let mut records = Records::default();
        let (mut path, mut link) = (None, None);
        loop {
            let Some(header) = self.header()? else {
                return Ok(None);
            };
            match header.entry_type() {
                EntryType::XHeader => records = Records::parse(&self.records()?)?,
                // It is for all entries that follow, and says what has no use here: comments.
                EntryType::XGlobalHeader => drop(self.records()?),
                EntryType::GNULongName => path = Some(name(self.records()?)),
                EntryType::GNULongLink => link = Some(name(self.records()?)),
                _ => {
                    let path = records.path.take().or(path);
                    let path = path.unwrap_or_else(|| header.path_bytes().into_owned());
                    let link = records.link.take().or(link);
                    let context = || format!("the entry {}", text::quoted(&path));
                    let entry = self.entry(&header, records, path.clone(), link);
                    return entry.map(Some).with_context(context);
                }
            }
        }
    }

    /// Fills `buffer` with the bytes at the present position; it stays empty at the end of the file.
    /// Returns how many zeros are in front of them, which the tar does not hold.
    pub fn read(&mut self, buffer: &mut Vec<u8>) -> Result<u64> {
        buffer.clear();
        let begin = self.data.at;
        while let Some((_, 0)) = self.data.parts.front() {
            self.data.parts.pop_front();
        }
        let Some((offset, len)) = self.data.parts.front_mut() else {
            self.data.at = self.data.size;
            return Ok(self.data.size - begin);
        };
        let zeros = *offset - begin;
        let now = (*len).min(PIECE as u64);
        *offset += now;
        *len -= now;
        self.data.at = *offset;
        self.left -= now;
        buffer.resize(now as usize, 0);
        let read = self.input.read_exact(buffer);
        read.context("reading the content of an entry")?;
        Ok(zeros)
    }

    /// Where the input is now.
    pub fn input(&self) -> &R {
        &self.input
    }

    /// Bytes that the tar holds of the present entry and that were not read.
    pub fn stored(&self) -> u64 {
        self.left
    }

    /// Reads what stands behind the last entry, so that a digest of all bytes can be had.
    pub fn finish(mut self) -> Result<()> {
        io::copy(&mut self.input, &mut io::sink())?;
        Ok(())
    }

    /// The next header, which must not be behind the end.
    fn header(&mut self) -> Result<Option<Header>> {
        let data = self.left;
        let rest = data + self.padding;
        let skipped = (self.skip)(&mut self.input, rest)?;
        // What fills up the last block may be left out at the end, as umoci's `insert` does.
        ensure!(skipped >= data, "the archive is cut off");
        (self.left, self.padding, self.data) = Default::default();
        let Some(block) = self.block()? else {
            return Ok(None);
        };
        // Two blocks of zeros end a tar; what has one only is taken for whole, as others do.
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let mut header = Header::new_old();
        header.as_mut_bytes().copy_from_slice(&block);
        let sum = number(&header.as_old().cksum).unwrap_or(-1);
        let at = 148..156; // The sum is made with blanks in its own place.
        let bytes = (0..).zip(&block);
        let found: i64 = bytes
            .map(|(i, byte)| i64::from(if at.contains(&i) { b' ' } else { *byte }))
            .sum();
        ensure!(
            sum == found,
            "it is no tar, or damaged: a header has a wrong sum"
        );
        let size = u64::try_from(number(&header.as_old().size)?).context("a size below 0")?;
        self.holds(size)?;
        Ok(Some(header))
    }

    /// Notes how many bytes the present entry has in the tar.
    fn holds(&mut self, size: u64) -> Result<()> {
        let most = i64::MAX as u64 - BLOCK as u64;
        ensure!(size <= most, "a size of {size} bytes");
        (self.left, self.padding) = (size, size.next_multiple_of(BLOCK as u64) - size);
        Ok(())
    }

    /// A block; nothing where the input ends.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>> {
        let mut block = Vec::with_capacity(BLOCK);
        let input = self.input.by_ref();
        input.take(BLOCK as u64).read_to_end(&mut block)?;
        if block.is_empty() {
            return Ok(None);
        }
        let block: [u8; BLOCK] = block
            .try_into()
            .map_err(|_| anyhow::anyhow!("the archive is cut off"))?;
        Ok(Some(block))
    }

    /// The content of a header that stands in front of another one.
    fn records(&mut self) -> Result<Vec<u8>> {
        ensure!(self.left <= MAX_RECORDS, "a header of {} bytes", self.left);
        let mut content = vec![0; self.left as usize];
        let read = self.input.read_exact(&mut content);
        read.context("the archive is cut off")?;
        self.left = 0;
        Ok(content)
    }

    fn entry(
        &mut self,
        header: &Header,
        records: Records,
        mut path: Vec<u8>,
        link: Option<Vec<u8>>,
    ) -> Result<Entry> {
        let old = header.as_old();
        let link = || link.unwrap_or_else(|| header.link_name_bytes().unwrap_or_default().into());
        let device = || -> Result<(u32, u32)> {
            let fields = header.as_ustar().map(|h| (h.dev_major, h.dev_minor));
            let fields = fields.or(header.as_gnu().map(|h| (h.dev_major, h.dev_minor)));
            let (major, minor) = fields.context("a device without a number")?;
            Ok((number(&major)?.try_into()?, number(&minor)?.try_into()?))
        };
        let kind = match header.entry_type() {
            // What ends in a slash was a directory before there was a type for it.
            EntryType::Regular if path.ends_with(b"/") && !records.is_sparse() => Kind::Dir,
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                if let Some(size) = records.size {
                    self.holds(size)?;
                }
                if let Some(name) = records.sparse_name() {
                    path = name.to_vec();
                }
                Kind::File(self.file(header, &records)?)
            }
            EntryType::Link => Kind::Link(link()),
            EntryType::Symlink => {
                let target = link();
                let len = target.len();
                ensure!(
                    (1..=MAX_TARGET).contains(&len) && !target.contains(&0),
                    "a symbolic link to a path of {len} bytes"
                );
                Kind::Symlink(target)
            }
            EntryType::Directory => Kind::Dir,
            EntryType::Char => device().map(|(major, minor)| Kind::Chr(major, minor))?,
            EntryType::Block => device().map(|(major, minor)| Kind::Blk(major, minor))?,
            EntryType::Fifo => Kind::Fifo,
            other => bail!(
                "entries of type {:?} are not known",
                other.as_byte() as char
            ),
        };
        let id = |what, record: Option<u64>, field| -> Result<u32> {
            let id = match record {
                Some(id) => id,
                None => u64::try_from(number(field)?)?,
            };
            let id = u32::try_from(id).ok().filter(|id| *id != u32::MAX);
            id.with_context(|| format!("its {what} is none that chown(2) could set"))
        };
        let mtime = match records.mtime {
            Some(mtime) => mtime,
            None => (number(&old.mtime)?, 0),
        };
        Ok(Entry {
            path,
            kind,
            permissions: (number(&old.mode)? & 0o7777) as u16,
            uid: id("owner", records.uid, &old.uid)?,
            gid: id("group", records.gid, &old.gid)?,
            mtime,
            xattrs: records.xattrs,
        })
    }

    /// Prepares to read a file; returns its size.
    fn file(&mut self, header: &Header, records: &Records) -> Result<u64> {
        let (map, size) = if header.entry_type() == EntryType::GNUSparse {
            self.old_map(header)?
        } else if records.is_sparse_1_0() {
            let size = records.sparse_size()?;
            let mut data = self.input.by_ref().take(self.left);
            let (map, read) = Map::read(&mut data).context("its map")?;
            self.left -= read;
            (map, size)
        } else if records.is_sparse() {
            Map::of_records(&records.sparse).context("its map")?
        } else {
            (Map(vec![(0, self.left)]), self.left)
        };
        map.check(size, self.left).context("its map")?;
        ensure!(i64::try_from(size).is_ok(), "a size of {size} bytes");
        self.data = Data {
            size,
            at: 0,
            parts: map.0.into(),
        };
        Ok(size)
    }

    /// The map in the header of an old sparse file, and in the blocks behind it.
    fn old_map(&mut self, header: &Header) -> Result<(Map, u64)> {
        let header = header.as_gnu().context("a sparse file that is not GNU's")?;
        let mut map = Map::default();
        map.push_old(&header.sparse)?;
        let mut goes_on = header.is_extended();
        while goes_on {
            let block = self.block()?.context("the archive is cut off")?;
            let mut more = GnuExtSparseHeader::new();
            more.as_mut_bytes().copy_from_slice(&block);
            map.push_old(&more.sparse)?;
            goes_on = more.is_extended();
        }
        Ok((map, u64::try_from(number(&header.realsize)?)?))
    }
}

/// A long name without what ends it.
fn name(mut text: Vec<u8>) -> Vec<u8> {
    let end = text.iter().position(|b| *b == 0);
    text.truncate(end.unwrap_or(text.len()));
    text
}
