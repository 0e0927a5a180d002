// SPDX-License-Identifier: Apache-2.0
//! What builds and pulls remember, so that the next one does nothing twice. All of it may be deleted at any
//! time.
//!
//! - [`files`]: which chunks the files of a tree became. A file that has the same device, inode
//!   number, size and times as then is not read again;
//! - [`chunks`]: how contents are stored. What was read is not compressed again;
//! - [`packs`]: which packs of a layout are sound. They are not read again to be relied on.
//!
//! It belongs to a user, not to a layout: a layout may come from somebody else, and what it said of the
//! files of this host would be believed. So others must not be able to write to it, nor does root
//! take what belongs to a user ([`crate::host::private`]).

pub(crate) mod chunks;
pub mod files;
pub(crate) mod packs;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::io::Errno;
use serde::de::DeserializeOwned;
use serde::Serialize;

use crate::base::digest::{hex, sha256};
use crate::base::progress::Progress;
use crate::encode::RULES;
use crate::host::private::Private;
use crate::host::stat::Stat;
use crate::layout::Layout;

/// Bytes of a file that are read at most: those for some 20 million files.
const LIMIT: u64 = 4 << 30;
/// Files that are kept.
const COUNT: usize = 200;

/// Where it is, and what is used of it.
#[derive(Clone, Debug)]
pub struct Options {
    /// The directory; made if need be.
    pub dir: PathBuf,
    /// Read all files and packs, whatever is known of them.
    pub force: bool,
}

/// The directory.
pub(crate) struct Cache {
    dir: Private,
    /// [`RULES`]: all that is kept depends on them.
    rules: u32,
}

impl Cache {
    fn at(dir: &Path) -> Result<Self> {
        let dir = Private::open(dir)?;
        Ok(Cache { dir, rules: RULES })
    }

    /// Opens it, if there is one.
    pub fn open(options: Option<&Options>, progress: &dyn Progress) -> Option<Self> {
        let cache = Cache::at(&options?.dir);
        let note = |e| note(&format!("no cache is used: {e:#}"), &e, progress);
        cache.map_err(note).ok()
    }

    /// Keeps what the next time may use. That it cannot does no harm.
    pub fn keep(&self, progress: &dyn Progress, save: impl FnOnce(&Cache) -> Result<()>) {
        if let Err(e) = save(self).and_then(|()| self.dir.keep(COUNT)) {
            let text = format!("the next time will take as long as this one: {e:#}");
            note(&text, &e, progress);
        }
    }

    /// What was kept under a name and for a purpose, if it is still as it was written.
    fn load<T: DeserializeOwned>(&self, name: &str, purpose: &str) -> Option<T> {
        let purpose = self.by_rules(purpose);
        let content = self.dir.read(&file(name, &purpose), LIMIT).ok()??;
        let (sum, text) = content.split_at_checked(64)?;
        let is_whole = sha256(&[purpose.as_bytes(), text]).to_string().as_bytes() == sum;
        is_whole.then(|| serde_json::from_slice(text).ok())?
    }

    fn save<T: Serialize>(&self, name: &str, purpose: &str, value: &T) -> Result<()> {
        let purpose = self.by_rules(purpose);
        let text = serde_json::to_vec(value)?;
        let sum = sha256(&[purpose.as_bytes(), &text]).to_string();
        let write = self
            .dir
            .write(&file(name, &purpose), &[sum.as_bytes(), &text]);
        write.context("the cache of builds")
    }

    fn by_rules(&self, purpose: &str) -> String {
        format!("rules {} {purpose}", self.rules)
    }
}

/// Says what is wrong with the cache. Whoever has a home that is read-only knows it.
fn note(text: &str, error: &anyhow::Error, progress: &dyn Progress) {
    let cause = error.root_cause();
    let errno = cause.downcast_ref::<Errno>().copied();
    let errno = errno.or_else(|| Errno::from_io_error(cause.downcast_ref()?));
    if !matches!(errno, Some(Errno::ROFS | Errno::ACCESS | Errno::PERM)) {
        progress.note(text);
    }
}

/// A layout, wherever it is mounted.
fn name(layout: &Layout) -> Result<String> {
    let facts = Stat::of(layout.blob_dir()?)?.facts;
    Ok(format!("layout {} {}", facts.dev, facts.ino))
}

/// The file of a name and a purpose.
fn file(name: &str, purpose: &str) -> String {
    let digest = sha256(&[purpose.as_bytes()]);
    format!("{name}-{}", hex(&digest.as_bytes()[..16]))
}

/// The digest in hexadecimal, and back.
mod digest {
    use puzzlefs_format::Digest;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(digest: &Digest, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(digest)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Digest, D::Error> {
        let text = String::deserialize(from)?;
        Digest::parse(text.as_bytes()).map_err(|e| D::Error::custom(format!("{e:?}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of an encoder by other rules nothing is used, whatever it is.
    #[test]
    fn other_rules_have_another_cache() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(&dir.path().join("cache")).unwrap();
        let later = Cache {
            dir: Private::open(&dir.path().join("cache")).unwrap(),
            rules: RULES + 1,
        };
        for name in ["files", "chunks", "packs"] {
            cache.save(name, "purpose", &RULES).unwrap();
            assert_eq!(cache.load(name, "purpose"), Some(RULES));
            assert_eq!(later.load::<u32>(name, "purpose"), None);
            later.save(name, "purpose", &0).unwrap();
            assert_eq!(cache.load(name, "purpose"), Some(RULES));
        }
    }
}
