// SPDX-License-Identifier: Apache-2.0
//! The content of a file, from its beginning to its end.

use anyhow::{Context, Result};
use puzzlefs_format::{Extents, Kind};

use crate::base::error::Error;
use crate::image::chunk::ChunkReader;
use crate::image::Image;

/// What comes next in a file.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Bytes of a chunk, which was verified.
    Data(&'a [u8]),
    /// So many zeros that are not stored.
    Hole(u64),
}

/// All of the file at `path`, symbolic links followed; none if there is nothing.
///
/// # Errors
///
/// It is no regular file, has more than `limit` bytes, or cannot be read.
pub(crate) fn read(image: &Image, path: &str, limit: u64) -> Result<Option<Vec<u8>>> {
    let inode = match image.follow(path.as_bytes()) {
        Err(Error::NotFound(_)) => return Ok(None),
        inode => inode?,
    };
    let Kind::File(extents) = inode.kind()? else {
        return Err(Error::refused(format!("{path} of the image is no regular file")).into());
    };
    let content = Content::new(image, extents)?;
    if content.size() > limit {
        let text = format!("{path} of the image has more than {limit} bytes");
        return Err(Error::refused(text).into());
    }
    let places = image.sound_places()?;
    let mut chunks = ChunkReader::new(&places, image.rootfs()?.version())?;
    let mut whole = Vec::new();
    let read = content.for_each(&mut chunks, |piece| {
        match piece {
            Piece::Data(bytes) => whole.extend(bytes),
            // All of them are within the limit.
            Piece::Hole(len) => whole.resize(whole.len() + usize::try_from(len)?, 0),
        }
        Ok(())
    });
    read.with_context(|| format!("{path} of the image"))?;
    Ok(Some(whole))
}

/// A file that is being read. What it costs is charged to [`Image::work`].
pub struct Content<'a> {
    image: &'a Image,
    extents: Extents<'a>,
    size: u64,
    next: u32,
}

impl<'a> Content<'a> {
    /// The file whose content `extents` are.
    pub fn new(image: &'a Image, extents: Extents<'a>) -> Result<Self> {
        image.work().extents(&extents)?;
        Ok(Content {
            image,
            extents,
            size: extents.total()?,
            next: 0,
        })
    }

    /// Bytes of the file.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether both have the same chunks at the same places, and so the same bytes.
    pub fn is_same(&self, other: &Content<'_>) -> Result<bool> {
        if (self.size, self.extents.len()) != (other.size, other.extents.len()) {
            return Ok(false);
        }
        for (a, b) in self.extents.iter().zip(other.extents.iter()) {
            if a? != b? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Where bytes are stored, as ranges of the file that do not touch; the rest are holes.
    pub fn data(&self) -> Result<Vec<(u64, u64)>> {
        let (mut data, mut at) = (Vec::<(u64, u64)>::new(), 0u64);
        for extent in self.extents.iter() {
            let extent = extent?;
            // The sum of all is within its limit, as `new` has found.
            let end = at.saturating_add(extent.len);
            match data.last_mut() {
                _ if extent.chunk.is_none() || extent.len == 0 => {}
                Some((_, last)) if *last == at => *last = end,
                _ => data.push((at, end)),
            }
            at = end;
        }
        Ok(data)
    }

    /// What comes next; `None` at the end.
    pub fn next<'c>(&mut self, chunks: &'c mut ChunkReader<'_>) -> Result<Option<Piece<'c>>> {
        if self.next == self.extents.len() {
            return Ok(None);
        }
        let extent = self.extents.get(self.next)?;
        self.next += 1;
        let Some(at) = extent.chunk else {
            return Ok(Some(Piece::Hole(extent.len)));
        };
        let decoded = chunks.decoded();
        chunks.whole(&at)?;
        let decoded = chunks.decoded() - decoded;
        self.image.work().waste(decoded, extent.len)?;
        let bytes = chunks.read(&at, extent.len)?;
        Ok(Some(Piece::Data(bytes)))
    }

    /// Hands all of it to `each`.
    pub fn for_each(
        mut self,
        chunks: &mut ChunkReader<'_>,
        mut each: impl FnMut(Piece<'_>) -> Result<()>,
    ) -> Result<()> {
        while let Some(piece) = self.next(chunks).context("reading the file")? {
            each(piece)?;
        }
        Ok(())
    }
}
