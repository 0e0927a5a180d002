// SPDX-License-Identifier: Apache-2.0
//! What a pull asks its source for: counted, cut off where it goes on for too long, and checked against
//! digests.

use std::io::{self, Read, Write};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{ensure, Context, Result};
use puzzlefs_format::{limits, Digest};

use crate::base::digest::{sha256, Blob};
use crate::base::error::{Error, Where};
use crate::layout::reference::Name;
use crate::layout::staging::{Draft, Staging};
use crate::remote::{Document, Part, Remote};

/// Bytes that are read at once.
const BUFFER: usize = 256 << 10;

/// A source, and what it was asked for.
pub struct Source<'a> {
    remote: &'a dyn Remote,
    /// Requests so far.
    pub requests: AtomicU64,
    /// Bytes of bodies that were read so far.
    pub bytes: AtomicU64,
}

/// A body that counts.
struct Counted<'a> {
    body: Box<dyn Read + Send + 'a>,
    bytes: &'a AtomicU64,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.body.read(buffer)?;
        self.bytes.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// Who looks at bytes as they pass by.
pub trait Watch {
    /// Some more of them.
    fn see(&mut self, bytes: &[u8]) -> Result<()>;
}

impl Watch for () {
    fn see(&mut self, _: &[u8]) -> Result<()> {
        Ok(())
    }
}

impl<'a> Source<'a> {
    /// Nothing was asked yet.
    pub fn new(remote: &'a dyn Remote) -> Self {
        Source {
            remote,
            requests: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }
    }

    /// What it is called.
    pub fn name(&self) -> String {
        self.remote.name()
    }

    fn asks(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    fn counted<'b>(&'b self, body: Box<dyn Read + Send + 'b>) -> Box<dyn Read + Send + 'b> {
        let bytes = &self.bytes;
        Box::new(Counted { body, bytes })
    }

    /// Does what `ask` does; again, if what came was wrong, and somebody else can be asked.
    pub fn ask_any<T>(&self, mut ask: impl FnMut() -> crate::Result<T>) -> crate::Result<T> {
        loop {
            let first = self.remote.first();
            match ask() {
                Err(error) if self.may_ask_another(first, &error) => {}
                done => return done,
            }
        }
    }

    /// Who is asked first: see [`Remote::first`].
    pub fn first(&self) -> usize {
        self.remote.first()
    }

    /// Whether somebody else can be asked, as something else came than was asked for: see [`Remote::distrust`].
    pub fn may_ask_another(&self, first: usize, error: &Error) -> bool {
        matches!(error, Error::Damaged(_)) && self.remote.distrust(first)
    }

    /// A manifest or an index, with the digest of its bytes.
    pub fn manifest(&self, name: &Name) -> crate::Result<Document> {
        self.ask_any(|| self.manifest_of_first(name))
    }

    fn manifest_of_first(&self, name: &Name) -> crate::Result<Document> {
        self.asks();
        let document = self.remote.manifest(name)?;
        let found = sha256(&[&document.text]);
        self.bytes
            .fetch_add(document.text.len() as u64, Ordering::Relaxed);
        let asked = match name {
            Name::Digest(digest) => *digest,
            Name::Tag(_) => document.digest,
        };
        if found != asked || document.text.len() > limits::MAX_MANIFEST_BYTES {
            let text = format!(
                "{} gave a manifest of the digest sha256:{found} in place of sha256:{asked}",
                self.name()
            );
            return Err(Error::damaged(text).of(&asked));
        }
        Ok(Document {
            digest: found,
            ..document
        })
    }

    /// All of a small blob.
    pub fn text(&self, digest: &Digest, size: u64, limit: u64) -> crate::Result<Vec<u8>> {
        self.ask_any(|| self.text_of_first(digest, size, limit))
    }

    fn text_of_first(&self, digest: &Digest, size: u64, limit: u64) -> crate::Result<Vec<u8>> {
        self.asks();
        let body = self.counted(self.remote.blob(digest, size)?);
        let mut text = Vec::new();
        body.take(limit.saturating_add(1))
            .read_to_end(&mut text)
            .with_context(|| format!("fetching the blob sha256:{digest}"))
            .of(digest)?;
        match sha256(&[&text]) == *digest {
            true => Ok(text),
            false => Err(self.other(digest)),
        }
    }

    /// Stages a blob, if it is what it should be. Who watches sees its bytes before that is known; one who
    /// is new sees those that come from somebody else.
    pub fn stage<W: Watch>(
        &self,
        staging: &Staging<'_>,
        digest: &Digest,
        size: u64,
        watch: impl Fn() -> W,
    ) -> crate::Result<Blob> {
        self.ask_any(|| {
            self.asks();
            let body = self.counted(self.remote.blob(digest, size)?);
            self.stage_body(staging, digest, size, body, &mut watch())
        })
    }

    /// The same of a body that is a blob from its beginning on.
    pub fn stage_body(
        &self,
        staging: &Staging<'_>,
        digest: &Digest,
        size: u64,
        body: impl Read,
        watch: &mut dyn Watch,
    ) -> crate::Result<Blob> {
        let mut draft = staging.begin()?;
        draft.measure();
        let copied = copy(body.take(size), &mut draft, watch);
        let copied = copied.with_context(|| format!("fetching the blob sha256:{digest}"));
        if let Err(error) = copied {
            staging.discard(draft)?;
            return Err(Error::from(error).of(digest));
        }
        let is_it = |blob: &Blob| blob.digest == *digest && blob.size == size;
        match staging.end_if(draft, is_it)? {
            Some(blob) => Ok(blob),
            None => Err(self.other(digest)),
        }
    }

    /// Some bytes of a blob: these, or all from its beginning on.
    pub fn range(&self, digest: &Digest, size: u64, range: Range<u64>) -> crate::Result<Part<'_>> {
        self.asks();
        Ok(match self.remote.range(digest, size, range)? {
            Part::Range(body) => Part::Range(self.counted(body)),
            Part::Whole(body) => Part::Whole(self.counted(body)),
        })
    }

    /// That a blob is not what it should be.
    pub fn other(&self, digest: &Digest) -> Error {
        let text = format!(
            "{} gave something else than the blob sha256:{digest}; nothing of it was stored",
            self.name()
        );
        Error::damaged(text).of(digest)
    }
}

fn copy(mut body: impl Read, draft: &mut Draft, watch: &mut dyn Watch) -> Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = match body.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        if count == 0 {
            return Ok(());
        }
        watch.see(&buffer[..count])?;
        draft.write_all(&buffer[..count])?;
    }
}

/// Reads just as many bytes as there should be. Memory is taken as they come.
pub fn exactly(mut body: impl Read, len: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    body.by_ref().take(len).read_to_end(&mut bytes)?;
    ensure!(
        bytes.len() as u64 == len,
        "the answer has {} bytes of {len}",
        bytes.len()
    );
    Ok(bytes)
}
