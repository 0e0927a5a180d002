// SPDX-License-Identifier: Apache-2.0
//! A source of images that counts what it is asked, and lies as it is told.

use std::io::{Cursor, Read};
use std::ops::Range;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use puzzlefs::layout::reference::Name;
use puzzlefs::layout::Layout;
use puzzlefs::remote::{Document, Local, Part, Remote};
use puzzlefs::{Error, Result};
use puzzlefs_format::Digest;

/// What it does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// Nothing.
    None,
    /// The last byte of each answer of more than 100 is another one.
    WrongByte,
    /// Answers lack their last byte.
    Short,
    /// Answers go on for ever.
    Endless,
    /// It gives whole blobs whatever is asked for.
    Whole,
    /// The same, but not where the end of a blob is asked for.
    WholeLater,
    /// Whole blobs, which it says to be ranges.
    WholeAsRange,
    /// Ranges begin a byte too late.
    Shifted,
    /// It gives another manifest than was asked for.
    OtherManifest,
}

/// A layout that is asked through a liar.
pub struct Liar {
    local: Local,
    lie: Lie,
    /// It lies only once it was asked for the ends of packs.
    pub later: bool,
    /// After how many requests for blobs it fails.
    pub fails_after: usize,
    /// How long it takes for each answer.
    pub takes: Duration,
    /// What was asked for: blobs, with the bytes of each that were wanted.
    pub asked: Mutex<Vec<(Digest, Range<u64>)>>,
}

impl Liar {
    /// A source that has what `dir` has.
    pub fn new(dir: &Path, lie: Lie) -> Self {
        Liar {
            local: Local::new(Layout::open(dir).unwrap()),
            lie,
            later: false,
            fails_after: usize::MAX,
            takes: Duration::ZERO,
            asked: Mutex::default(),
        }
    }

    fn ask(&self, digest: &Digest, range: Range<u64>) -> Result<()> {
        std::thread::sleep(self.takes);
        let mut asked = self.asked.lock().unwrap();
        if asked.len() >= self.fails_after {
            return Err(Error::from(std::io::Error::other("the line is cut")));
        }
        asked.push((*digest, range));
        Ok(())
    }

    fn bytes(&self, digest: &Digest, range: Range<u64>) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        match self.local.range(digest, 0, range)? {
            Part::Range(mut body) | Part::Whole(mut body) => body.read_to_end(&mut bytes)?,
        };
        Ok(bytes)
    }

    fn body(&self, mut bytes: Vec<u8>) -> Box<dyn Read + Send> {
        match self.lie {
            Lie::WrongByte if bytes.len() > 100 => *bytes.last_mut().unwrap() ^= 1,
            Lie::Short => drop(bytes.pop()),
            Lie::Endless => return Box::new(Cursor::new(bytes).chain(std::io::repeat(7))),
            _ => {}
        }
        Box::new(Cursor::new(bytes))
    }
}

impl Remote for Liar {
    fn name(&self) -> String {
        format!("a liar before {}", self.local.name())
    }

    fn manifest(&self, name: &Name) -> Result<Document> {
        let mut document = self.local.manifest(name)?;
        if self.lie == Lie::OtherManifest {
            document.text.push(b'\n');
        }
        Ok(document)
    }

    fn blob(&self, digest: &Digest, size: u64) -> Result<Box<dyn Read + Send + '_>> {
        self.ask(digest, 0..size)?;
        Ok(self.body(self.bytes(digest, 0..size)?))
    }

    fn range(&self, digest: &Digest, size: u64, range: Range<u64>) -> Result<Part<'_>> {
        self.ask(digest, range.clone())?;
        if range.end > size || range.is_empty() {
            let text = format!("{range:?} of {size} bytes");
            return Err(Error::from(std::io::Error::other(text)));
        }
        if self.later && range.end == size {
            return self.local.range(digest, size, range);
        }
        let whole = || Ok::<_, Error>(self.body(self.bytes(digest, 0..size)?));
        Ok(match self.lie {
            Lie::Whole => Part::Whole(whole()?),
            Lie::WholeLater if range.end < size => Part::Whole(whole()?),
            Lie::WholeAsRange => Part::Range(whole()?),
            Lie::Shifted => {
                let range = range.start + 1..range.end + 1;
                Part::Range(self.body(self.bytes(digest, range)?))
            }
            _ => Part::Range(self.body(self.bytes(digest, range)?)),
        })
    }
}
