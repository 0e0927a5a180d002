// SPDX-License-Identifier: Apache-2.0
//! How contents are stored in a layout, and which of its packs are sound.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use anyhow::Result;
use puzzlefs_format::{Digest, MEDIA_TYPE_PACK};
use serde::{Deserialize, Serialize};

use crate::build::cache::{digest, Cache};
use crate::chunks::codec::Codec;
use crate::chunks::places::Places;
use crate::chunks::sink::Homes;
use crate::encode::compress::Compression;
use crate::encode::known::{Form, Known};
use crate::encode::pipeline::Chunks;
use crate::host::stat::{Facts, Stat};
use crate::layout::manifest::{fs_verity, Descriptor};
use crate::layout::Layout;

/// A chunk: its content, and how it is stored.
#[derive(Serialize, Deserialize)]
struct Chunk {
    #[serde(with = "digest")]
    content: Digest,
    #[serde(with = "digest")]
    stored: Digest,
    size: u64,
    codec: char,
}

/// A pack that was found to be what it says.
#[derive(Serialize, Deserialize)]
struct Pack {
    #[serde(with = "digest")]
    digest: Digest,
    facts: (u64, u64, u64, (i64, u32), (i64, u32)),
    #[serde(with = "digest")]
    verity: Digest,
}

const CODECS: [(Codec, char); 3] = [(Codec::Raw, 'r'), (Codec::Zstd, 'z'), (Codec::Lz4, 'l')];

/// What is known of chunks in `layout` that are compressed so.
pub fn load<'a>(
    cache: &Cache,
    layout: &Layout,
    compression: Compression,
    places: Arc<Places<'a>>,
) -> Result<Known<'a>> {
    let list: Option<Vec<Chunk>> = cache.load("chunks", &purpose(layout, compression)?);
    let form = |chunk: Chunk| {
        let (codec, _) = CODECS.into_iter().find(|(_, name)| *name == chunk.codec)?;
        let (digest, size) = (chunk.stored, chunk.size);
        Some((
            chunk.content,
            Form {
                digest,
                size,
                codec,
            },
        ))
    };
    let forms = list.unwrap_or_default().into_iter().filter_map(form);
    let (forms, places) = (forms.collect(), Some(places));
    Ok(Known { forms, places })
}

/// Keeps what is known and still there, and how `chunks` are stored.
pub fn save(
    cache: &Cache,
    layout: &Layout,
    compression: Compression,
    known: &Known<'_>,
    chunks: &Chunks,
) -> Result<()> {
    let is_there = |form: &Form| {
        let places = known.places.as_ref();
        places.is_some_and(|places| !places.of(&form.digest).is_empty())
            || layout.names_blob(&form.digest).unwrap_or(false)
    };
    let old = known.forms.iter().map(|(content, form)| (*content, *form));
    let mut all: BTreeMap<Digest, Form> = old.filter(|(_, form)| is_there(form)).collect();
    all.extend(
        chunks
            .contents
            .iter()
            .zip(&chunks.list)
            .map(|(content, chunk)| {
                let (digest, size, codec) = (chunk.digest, chunk.size, chunk.codec);
                (
                    *content,
                    Form {
                        digest,
                        size,
                        codec,
                    },
                )
            }),
    );
    let name = |codec| CODECS.iter().find(|(known, _)| *known == codec);
    let list = all.into_iter().map(|(content, form)| Chunk {
        content,
        stored: form.digest,
        size: form.size,
        codec: name(form.codec).map_or('?', |(_, name)| *name),
    });
    let list: Vec<Chunk> = list.collect();
    cache.save("chunks", &purpose(layout, compression)?, &list)
}

/// The packs among `places` that were found sound and have not changed since, by their numbers there.
pub fn load_packs(
    cache: &Cache,
    layout: &Layout,
    places: &Places<'_>,
) -> Result<HashMap<u32, [u8; 32]>> {
    let list: Option<Vec<Pack>> = cache.load("packs", &name(layout)?);
    let list = list.unwrap_or_default().into_iter();
    let list: HashMap<Digest, Pack> = list.map(|pack| (pack.digest, pack)).collect();
    let mut sound = HashMap::new();
    for (number, pack) in (0..).zip(places.packs()) {
        if let Some(known) = list.get(&pack.digest) {
            let file = places.file(pack)?;
            if facts(&Stat::of(file)?.facts) == known.facts {
                sound.insert(number, *known.verity.as_bytes());
            }
        }
    }
    Ok(sound)
}

/// Keeps the packs of `layout` that are sound: those that were there before, and those of the new image
/// with these `layers`.
pub fn save_packs(
    cache: &Cache,
    layout: &Layout,
    homes: &Homes<'_>,
    layers: &[Descriptor],
) -> Result<()> {
    let mut packs: BTreeMap<Digest, [u8; 32]> = homes.vouched().collect();
    let new = layers
        .iter()
        .filter(|layer| layer.media_type == MEDIA_TYPE_PACK);
    packs.extend(new.filter_map(|layer| Some((layer.digest, fs_verity(layer)?))));
    let pack = |(digest, verity): (Digest, [u8; 32])| {
        let file = layout.open_blob(&digest).ok()?;
        let facts = Stat::of(file).ok()?.facts;
        // Where times are whole seconds, they do not tell enough.
        (facts.ctime.1 != 0).then(|| Pack {
            digest,
            facts: self::facts(&facts),
            verity: Digest::from_bytes(verity),
        })
    };
    let list: Vec<Pack> = packs.into_iter().filter_map(pack).collect();
    cache.save("packs", &name(layout)?, &list)
}

fn facts(facts: &Facts) -> (u64, u64, u64, (i64, u32), (i64, u32)) {
    (facts.dev, facts.ino, facts.size, facts.mtime, facts.ctime)
}

/// A layout, wherever it is mounted.
fn name(layout: &Layout) -> Result<String> {
    let facts = Stat::of(layout.blob_dir()?)?.facts;
    Ok(format!("layout {} {}", facts.dev, facts.ino))
}

/// What the stored bytes of a chunk depend on, beside its content.
fn purpose(layout: &Layout, compression: Compression) -> Result<String> {
    let zstd = zstd::zstd_safe::version_number();
    let lz4 = lz4::version();
    let version = env!("CARGO_PKG_VERSION");
    let layout = name(layout)?;
    Ok(format!("{layout} {compression:?} {version} {zstd} {lz4}"))
}
