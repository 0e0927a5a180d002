// SPDX-License-Identifier: Apache-2.0
//! How contents are stored in a layout.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use puzzlefs_format::Digest;
use serde::{Deserialize, Serialize};

use crate::cache::{digest, name, Cache};
use crate::chunks::codec::Codec;
use crate::chunks::places::Places;
use crate::encode::compress::Compression;
use crate::encode::known::{Form, Known};
use crate::encode::pipeline::Chunks;
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

/// What the stored bytes of a chunk depend on, beside its content.
fn purpose(layout: &Layout, compression: Compression) -> Result<String> {
    let zstd = zstd::zstd_safe::version_number();
    let lz4 = lz4::version();
    let version = env!("CARGO_PKG_VERSION");
    let layout = name(layout)?;
    Ok(format!("{layout} {compression:?} {version} {zstd} {lz4}"))
}
