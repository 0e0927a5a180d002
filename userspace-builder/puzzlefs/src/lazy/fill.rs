// SPDX-License-Identifier: Apache-2.0
//! Fetching chunks of lazy packs while somebody waits at a terminal.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::thread;

use puzzlefs_format::{Digest, Manifest, MEDIA_TYPE_PACK};
use serde::Serialize;

use super::counts::NODE;
use super::engine::{Engine, Told, AT_ONCE};
use super::origins::Origins;
use super::pack::Pack;
use crate::base::error::Result;
use crate::base::progress::{Progress, Unit};
use crate::layout::Layout;

/// What was done.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Report {
    /// Packs that were not there as a whole.
    pub packs: u64,
    /// Bytes of their chunks that came.
    pub bytes: u64,
    /// Those of them that other packs of the layout had.
    pub copied: u64,
    /// Requests to sources.
    pub requests: u64,
}

/// The packs that a manifest lists and that are not there as a whole, each once.
pub fn lazy_of(layout: &Layout, manifest: &[u8]) -> Result<Vec<Digest>> {
    let mut lazy = Vec::new();
    let mut seen = HashSet::new();
    for layer in Manifest::parse(manifest)?.layers() {
        let layer = layer?;
        let is_pack = layer.media_type == MEDIA_TYPE_PACK && seen.insert(layer.digest);
        if is_pack && layout.is_lazy(&layer.digest)? {
            lazy.push(layer.digest);
        }
    }
    Ok(lazy)
}

/// Fetches what `packs` lack: all of it, the chunks that are `first` before others, or of `only` these chunks.
///
/// # Errors
///
/// The first thing that fails. What came stays.
pub fn fill(
    layout: &Layout,
    packs: &[Digest],
    only: Option<&HashSet<Digest>>,
    first: Vec<Digest>,
    origins: Origins,
    progress: &dyn Progress,
) -> Result<Report> {
    let came = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&came);
    let tell = move |told: Told| {
        if let Told::Came(bytes) = told {
            counted.fetch_add(bytes, Ordering::Relaxed);
        }
    };
    let layouts = std::slice::from_ref(layout);
    let engine = Engine::new(layouts, origins, true, tell);
    let (mut total, mut count) = (0, 0);
    let mut asked = Vec::new();
    for digest in packs {
        let Some(pack) = Pack::open(layout, digest)? else {
            continue;
        };
        let is_wanted = |number: &usize| {
            let chunk = pack.chunk(*number);
            let is_one = |only: &HashSet<Digest>| chunk.is_some_and(|it| only.contains(&it.digest));
            !pack.present.has(*number) && only.is_none_or(is_one)
        };
        let wanted: Vec<usize> = (0..pack.end.entries.len()).filter(is_wanted).collect();
        let sizes = wanted.iter().filter_map(|number| pack.chunk(*number));
        total += sizes.map(|chunk| u64::from(chunk.size)).sum::<u64>();
        count += 1;
        if wanted.is_empty() && only.is_none() {
            // It was interrupted before its end was looked at.
            pack.finish()?;
            continue;
        }
        let number = engine.add(pack);
        asked.push((number, wanted));
    }
    if let (false, Some(pack)) = (first.is_empty(), packs.first()) {
        engine.list(vec![(*pack, first)]);
        engine.ask_listed();
    }
    for (number, wanted) in asked {
        for run in wanted.chunk_by(|a, b| a + 1 == *b) {
            engine.ask(number, run[0]..run[run.len() - 1] + 1);
        }
    }
    progress.phase("fetching chunks", total, Unit::Bytes);
    let ended = thread::scope(|scope| {
        let threads = (0..AT_ONCE).map(|_| scope.spawn(|| engine.run()));
        let threads: Vec<_> = threads.collect();
        let mut shown = 0;
        let mut show = || {
            let now = came.load(Ordering::Relaxed);
            progress.advance(now - shown);
            shown = now;
        };
        while threads.iter().any(|thread| !thread.is_finished()) {
            thread::sleep(std::time::Duration::from_millis(10));
            show();
        }
        show();
        let panicked = |panic| std::panic::resume_unwind(panic);
        let ended = threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(panicked));
        ended.collect::<Vec<Result<()>>>()
    });
    let kept = engine.keep_all();
    ended.into_iter().collect::<Result<()>>().and(kept)?;
    Ok(Report {
        packs: count,
        bytes: came.load(Ordering::Relaxed),
        requests: engine.counts().requests(),
        copied: engine.counts().get().get(NODE).map_or(0, |it| it.bytes),
    })
}
