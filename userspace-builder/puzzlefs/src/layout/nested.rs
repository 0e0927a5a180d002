// SPDX-License-Identifier: Apache-2.0
//! Image indexes among the blobs (OCI image-spec, image-index.md): one tag for several images.

use std::collections::{HashMap, HashSet};

use anyhow::Context;
use puzzlefs_format::{limits, Digest};
use serde_json::Value;

use super::index::Entry;
use super::Layout;
use crate::base::error::{Error, Result, Where};

/// How deep indexes are looked for in indexes. Two have a use: one for all architectures,
/// and one of those.
const MAX_DEPTH: u32 = 8;

/// Blobs that take the place of others: digest and size.
pub(crate) type Replaced = HashMap<Digest, (Digest, u64)>;

/// Keeps the text of a new blob; says its digest and size.
type Store<'a> = &'a mut dyn FnMut(&[u8]) -> Result<(Digest, u64)>;

impl Layout {
    /// What an index lists, and indexes in it, which are not listed themselves: each once, in order.
    pub(crate) fn listed_by(&self, index: &Entry) -> Result<Vec<Entry>> {
        let (mut found, mut seen) = (Vec::new(), HashSet::new());
        let mut level = vec![index.clone()];
        for _ in 0..MAX_DEPTH {
            let mut next = Vec::new();
            for entry in level {
                if !seen.insert(entry.digest) {
                    continue;
                }
                if !entry.is_index() {
                    found.push(entry);
                    continue;
                }
                // A layout need not have all that an index lists.
                if entry.digest != index.digest && !self.names_blob(&entry.digest)? {
                    continue;
                }
                let value = self.read_index(&entry.digest)?;
                for entry in listed(&value) {
                    next.push(Entry::of(entry)?);
                }
            }
            level = next;
        }
        Ok(found)
    }

    /// The indexes among the entries of index.json for which `is_it` holds, with other blobs in the place of some;
    /// `store` keeps their texts. Those that list none of these are not among them.
    pub(crate) fn indexes_with(
        &self,
        replaced: &Replaced,
        is_it: impl Fn(&Entry) -> bool,
        store: Store<'_>,
    ) -> Result<Replaced> {
        let (mut indexes, mut seen) = (Replaced::new(), HashSet::new());
        for entry in self.entries()? {
            if entry.is_index() && is_it(&entry) && seen.insert(entry.digest) {
                let new = self.with_replaced(&entry.digest, replaced, store)?;
                indexes.extend(new.map(|index| (entry.digest, index)));
            }
        }
        Ok(indexes)
    }

    /// The index `digest`, and indexes in it, with other blobs in the place of some; `store` keeps the
    /// text of each new index. Nothing if it lists none of those.
    fn with_replaced(
        &self,
        digest: &Digest,
        replaced: &Replaced,
        store: Store<'_>,
    ) -> Result<Option<(Digest, u64)>> {
        let mut known = replaced.clone();
        self.replace_in(digest, MAX_DEPTH, &mut HashSet::new(), &mut known, store)
    }

    fn replace_in(
        &self,
        digest: &Digest,
        depth: u32,
        seen: &mut HashSet<Digest>,
        replaced: &mut Replaced,
        store: Store<'_>,
    ) -> Result<Option<(Digest, u64)>> {
        let mut value = self.read_index(digest)?;
        let mut is_other = false;
        let list = value["manifests"].as_array_mut();
        for descriptor in list.into_iter().flatten() {
            let entry = Entry::of(descriptor)?;
            // Once each: an index may list another a thousand times, and that a third one.
            let is_new = entry.is_index() && depth > 1 && seen.insert(entry.digest);
            if is_new && self.names_blob(&entry.digest)? {
                self.replace_in(&entry.digest, depth - 1, seen, replaced, store)?;
            }
            if let Some((digest, size)) = replaced.get(&entry.digest) {
                is_other |= *digest != entry.digest;
                descriptor["digest"] = format!("sha256:{digest}").into();
                descriptor["size"] = (*size).into();
            }
        }
        if !is_other {
            return Ok(None);
        }
        let new = store(&serde_json::to_vec(&value)?)?;
        replaced.insert(*digest, new);
        Ok(Some(new))
    }

    fn read_index(&self, digest: &Digest) -> Result<Value> {
        let text = self.read_blob(digest, limits::MAX_MANIFEST_BYTES as u64)?;
        serde_json::from_slice(&text)
            .map_err(Error::damaged)
            .with_context(|| format!("parsing sha256:{digest}"))
            .of(digest)
    }
}

fn listed(index: &Value) -> &[Value] {
    index["manifests"].as_array().map_or(&[], |list| list)
}
