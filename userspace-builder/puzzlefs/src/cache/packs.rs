// SPDX-License-Identifier: Apache-2.0
//! Which packs of a layout were found to be what they say. They are not read again to be relied on.
//!
//! A pack is known by its device, inode number, size, mtime and ctime, as a file is ([`super::files`]): no
//! program sets a ctime. A bit that rots on the disk changes none of these. The kernel finds it when the
//! chunk is read, and `puzzlefs verify` when it is asked to; both hash what they read.

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::Result;
use puzzlefs_format::{Digest, MEDIA_TYPE_PACK};
use serde::{Deserialize, Serialize};

use crate::cache::{digest, name, Cache};
use crate::chunks::places::Places;
use crate::host::stat::Stat;
use crate::layout::manifest::{fs_verity, Descriptor};
use crate::layout::Layout;

/// Device, inode number, size, mtime, ctime.
type Facts = (u64, u64, u64, (i64, u32), (i64, u32));

#[derive(Serialize, Deserialize)]
struct Pack {
    #[serde(with = "digest")]
    digest: Digest,
    facts: Facts,
    #[serde(with = "digest")]
    verity: Digest,
}

/// The packs of a layout that were sound when they were looked at.
#[derive(Default)]
pub(crate) struct Sound(HashMap<Digest, Pack>);

impl Sound {
    /// What is remembered of `layout`.
    pub fn load(cache: &Cache, layout: &Layout) -> Result<Self> {
        let list: Option<Vec<Pack>> = cache.load("packs", &name(layout)?);
        let list = list.unwrap_or_default().into_iter();
        Ok(Sound(list.map(|pack| (pack.digest, pack)).collect()))
    }

    /// Those among `places` that have not changed since, by their numbers there, with their fs-verity digests.
    pub fn among(&self, places: &Places<'_>) -> Result<HashMap<u32, [u8; 32]>> {
        let mut sound = HashMap::new();
        for (number, pack) in (0..).zip(places.packs()) {
            if let Some(known) = self.0.get(&pack.digest) {
                if facts(places.file(pack)?)? == known.facts {
                    sound.insert(number, *known.verity.as_bytes());
                }
            }
        }
        Ok(sound)
    }

    /// Remembers `packs`, with their fs-verity digests, and those that were known and have not changed;
    /// none of `not`.
    pub fn save(
        self,
        cache: &Cache,
        layout: &Layout,
        packs: impl IntoIterator<Item = (Digest, [u8; 32])>,
        not: &HashSet<Digest>,
    ) -> Result<()> {
        let now = |digest: &Digest| facts(layout.open_blob(digest).ok()?).ok();
        let old = self.0.into_iter();
        let mut all: BTreeMap<Digest, Pack> = old
            .filter(|(digest, pack)| now(digest) == Some(pack.facts))
            .collect();
        for (digest, verity) in packs {
            // Where times are whole seconds, they do not tell enough.
            let Some(facts) = now(&digest).filter(|(.., ctime)| ctime.1 != 0) else {
                continue;
            };
            let verity = Digest::from_bytes(verity);
            let pack = Pack {
                digest,
                facts,
                verity,
            };
            all.insert(digest, pack);
        }
        all.retain(|digest, _| !not.contains(digest));
        let list: Vec<Pack> = all.into_values().collect();
        cache.save("packs", &name(layout)?, &list)
    }
}

/// The packs among the layers of an image, with their fs-verity digests.
pub(crate) fn packs_of(layers: &[Descriptor]) -> impl Iterator<Item = (Digest, [u8; 32])> + '_ {
    let packs = layers
        .iter()
        .filter(|layer| layer.media_type == MEDIA_TYPE_PACK);
    packs.filter_map(|layer| Some((layer.digest, fs_verity(layer)?)))
}

fn facts(file: impl std::os::fd::AsFd) -> Result<Facts> {
    let facts = Stat::of(file)?.facts;
    Ok((facts.dev, facts.ino, facts.size, facts.mtime, facts.ctime))
}
