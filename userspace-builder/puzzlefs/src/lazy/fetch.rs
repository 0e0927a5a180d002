// SPDX-License-Identifier: Apache-2.0
//! Bytes of a source become chunks of a pack, each checked before it is written.

use std::io::Read;
use std::ops::Range;

use anyhow::{ensure, Context};
use puzzlefs_format::limits;

use super::origins::Origins;
use super::pack::Pack;
use crate::base::error::{Error, Result, Where};
use crate::chunks::pack::end_of;
use crate::remote::{Part, Remote};

/// Fetches the chunks of these numbers, one after the other, from the first source that gives them. `here` is told of
/// each when it is written: of others too, where a source gives whole packs only. Says how many bytes came.
///
/// # Errors
///
/// What the last source said, if none gives them all. Those that `here` was told of are there.
pub fn fetch(
    origins: &Origins,
    pack: &Pack,
    chunks: Range<usize>,
    here: &mut dyn FnMut(usize),
) -> Result<u64> {
    let mut left = chunks;
    let mut why = Error::not_found(format!(
        "the record of the pack sha256:{} names no source",
        pack.digest
    ));
    for source in &pack.sources {
        let mut next = left.start;
        let mut told = |chunk: usize| {
            next = next.max(chunk + 1);
            here(chunk);
        };
        match fetch_from(origins, source, pack, &left, &mut told) {
            Ok(bytes) => return Ok(bytes),
            Err(error) => {
                origins.forget(source);
                let context = format!("chunks of the pack sha256:{} of {source}", pack.digest);
                why = error.context(context);
            }
        }
        left.start = next.min(left.end);
    }
    Err(why)
}

fn fetch_from(
    origins: &Origins,
    source: &str,
    pack: &Pack,
    chunks: &Range<usize>,
    here: &mut dyn FnMut(usize),
) -> Result<u64> {
    if chunks.is_empty() {
        return Ok(0);
    }
    let remote = origins.get(source)?;
    range(&*remote, pack, chunks, here).of(&pack.digest)
}

fn range(
    remote: &dyn Remote,
    pack: &Pack,
    chunks: &Range<usize>,
    here: &mut dyn FnMut(usize),
) -> anyhow::Result<u64> {
    let first = pack.chunk(chunks.start).context("no chunk")?;
    let last = pack.chunk(chunks.end - 1).context("no chunk")?;
    let wanted = u64::from(first.offset)..end_of(last);
    let (mut body, numbers) = match remote.range(&pack.digest, pack.size, wanted)? {
        Part::Range(body) => (body, chunks.clone()),
        // Whoever gives all is asked once.
        Part::Whole(body) => (body, 0..pack.end.entries.len()),
    };
    let mut bytes = 0;
    // There is nothing between the chunks of a pack that is filled.
    for number in numbers {
        let entry = pack.chunk(number).context("no chunk")?;
        let mut chunk = Vec::new();
        let part = body.by_ref().take(entry.size.into());
        let read = part.take(limits::MAX_CHUNK_BYTES).read_to_end(&mut chunk);
        read.with_context(|| format!("the chunk sha256:{}", entry.digest))?;
        ensure!(
            chunk.len() == entry.size as usize,
            "the answer ends within the chunk sha256:{}",
            entry.digest
        );
        pack.write(number, &chunk)?;
        bytes += u64::from(entry.size);
        here(number);
    }
    Ok(bytes)
}
