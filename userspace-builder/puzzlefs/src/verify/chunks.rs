// SPDX-License-Identifier: Apache-2.0
//! Checking the chunks that files use, on all processors.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{ensure, Context, Error, Result};
use puzzlefs_format::{Digest, Rootfs};

use super::metadata::Uses;
use crate::base::progress::Progress;
use crate::base::verity;
use crate::chunks::places::Places;
use crate::image::chunk::{ChunkReader, Key};

pub(super) type Verity = HashMap<Digest, [u8; 32]>;

pub(super) fn verity_data(rootfs: &Rootfs<'_>) -> Result<Verity> {
    let data = rootfs.verity_data()?;
    (0..data.len())
        .map(|index| {
            data.get(index)
                .map(|d| (d.chunk, d.verity))
                .context("fsVerityData")
        })
        .collect()
}

/// What is wrong with a chunk.
pub(super) enum Fault {
    /// It is damaged, or could not be read.
    Of(Error),
    /// Only the recorded fs-verity digest: the content has been proved by its sha256.
    Verity,
}

/// Reads, hashes and decodes all chunks, on all processors. Returns what is wrong, in
/// order of the digests.
pub(super) fn check(
    places: &Places<'_>,
    version: u64,
    uses: &Uses,
    verity: &Verity,
    progress: &dyn Progress,
) -> Result<Vec<Fault>> {
    let list: Vec<(&Key, &u64)> = uses.iter().collect();
    let next = AtomicUsize::new(0);
    let faults = Mutex::new(BTreeMap::new());
    let workers = thread::available_parallelism()
        .map_or(1, NonZero::get)
        .min(8);
    let check = || -> Result<()> {
        let mut reader = ChunkReader::new(places, version)?;
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some((key, end)) = list.get(index) else {
                return Ok(());
            };
            let fault = match chunk(&mut reader, key, **end, verity) {
                Ok(true) => None,
                Ok(false) => Some(Fault::Verity),
                Err(error) => Some(Fault::Of(error)),
            };
            if let Some(fault) = fault {
                faults
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert(index, fault);
            }
            progress.advance(1);
        }
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(check)).collect();
        threads.into_iter().try_for_each(|t| {
            t.join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    })?;
    let faults = faults.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(faults.into_values().collect())
}

/// Checks a chunk; whether its fs-verity digest is as recorded, if one is.
fn chunk(
    reader: &mut ChunkReader<'_>,
    (digest, compressed): &Key,
    end: u64,
    verity: &Verity,
) -> Result<bool> {
    let stored = reader.stored(digest)?;
    let measured = verity
        .get(digest)
        .is_none_or(|expected| verity::measure(&stored) == *expected);
    let content = reader.decode(digest, *compressed, stored)?;
    ensure!(
        u64::try_from(content.len())? >= end,
        "the chunk sha256:{digest} has {} bytes, but files use {end}",
        content.len()
    );
    Ok(measured)
}
