// SPDX-License-Identifier: Apache-2.0
//! Fetching what is planned, by several requests at once.

use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context, Result};
use crossbeam_channel::{bounded, Sender};
use puzzlefs_format::Digest;

use super::blobs::Pack;
use super::parallel::{step, AT_ONCE};
use super::plan::Span;
use super::source::{exactly, Source};
use crate::base::digest::sha256;
use crate::base::error::Error;
use crate::remote::Part;

/// Chunks that were fetched by one request, each of which is what its digest says.
pub struct Batch {
    bytes: Vec<u8>,
    /// Where in the bytes they are.
    chunks: Vec<(Digest, usize, usize)>,
}

impl Batch {
    /// Bytes that were fetched.
    pub fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// The chunks.
    pub fn chunks(&self) -> impl Iterator<Item = (Digest, &[u8])> + '_ {
        let chunks = self.chunks.iter();
        chunks.map(|(digest, start, end)| (*digest, &self.bytes[*start..*end]))
    }
}

/// Fetches what is planned, and gives it to `take`, as it comes.
///
/// # Errors
///
/// If a request fails, something comes that is not what was asked for, or `take` fails.
pub fn fetch(
    source: &Source<'_>,
    packs: &[Pack],
    plan: &[Span],
    mut take: impl FnMut(&Batch) -> Result<()>,
) -> Result<()> {
    let (sender, batches) = bounded::<Result<Batch>>(1);
    let work = Work {
        source,
        packs,
        plan,
        next: AtomicUsize::new(0),
        has_failed: AtomicBool::new(false),
        claimed: packs.iter().map(|_| AtomicBool::new(false)).collect(),
        done: plan.iter().map(|_| AtomicBool::new(false)).collect(),
    };
    thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(plan.len()) {
            let (work, sender) = (&work, sender.clone());
            scope.spawn(move || work.run(&sender));
        }
        drop(sender);
        let mut fault = None;
        for batch in batches {
            match batch {
                Ok(batch) => take(&batch)?,
                // What is under way is not for nothing.
                Err(error) => {
                    work.has_failed.store(true, Ordering::Relaxed);
                    fault = fault.or(Some(error));
                }
            }
        }
        fault.map_or(Ok(()), Err)
    })
}

struct Work<'a> {
    source: &'a Source<'a>,
    packs: &'a [Pack],
    plan: &'a [Span],
    next: AtomicUsize,
    /// Nothing more is to begin.
    has_failed: AtomicBool,
    /// Packs of which somebody reads all, as the server gives no less.
    claimed: Vec<AtomicBool>,
    done: Vec<AtomicBool>,
}

impl Work<'_> {
    fn run(&self, to: &Sender<Result<Batch>>) {
        while let (Some((number, span)), false) = (
            step(&self.next, self.plan),
            self.has_failed.load(Ordering::Relaxed),
        ) {
            let is_claimed = self.claimed[span.pack].load(Ordering::Relaxed);
            let fetched = match is_claimed {
                true => Ok(true),
                false => self.span(number, span, to),
            };
            match fetched {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    let digest = &self.packs[span.pack].digest;
                    let context = format!("fetching from the pack sha256:{digest}");
                    let _ = to.send(Err(error.context(context)));
                    return;
                }
            }
        }
    }

    /// Fetches a span; whether anybody still wants more.
    fn span(&self, number: usize, span: &Span, to: &Sender<Result<Batch>>) -> Result<bool> {
        let Pack { digest, size, .. } = &self.packs[span.pack];
        let mut body = loop {
            let (first, range) = (self.source.first(), span.start()..span.end());
            match self.source.range(digest, *size, range)? {
                Part::Range(body) => match self.give(number, span, body, to).map_err(Error::from) {
                    Err(error) if self.source.may_ask_another(first, &error) => {}
                    given => return Ok(given?),
                },
                Part::Whole(body) => break body,
            }
        };
        if self.claimed[span.pack].swap(true, Ordering::Relaxed) {
            return Ok(true);
        }
        let mut at = 0;
        let mine = self.plan.iter().enumerate();
        for (number, span) in mine.filter(|(_, other)| other.pack == span.pack) {
            let gap = span.start() - at;
            let skipped = io::copy(&mut body.by_ref().take(gap), &mut io::sink())?;
            anyhow::ensure!(skipped == gap, "the answer ends too early");
            if !self.give(number, span, &mut body, to)? {
                return Ok(false);
            }
            at = span.end();
        }
        Ok(true)
    }

    fn give(
        &self,
        number: usize,
        span: &Span,
        body: impl Read,
        to: &Sender<Result<Batch>>,
    ) -> Result<bool> {
        let start = span.start();
        let bytes = exactly(body, span.end() - start)?;
        let mut chunks = Vec::new();
        for chunk in &span.chunks {
            let from = usize::try_from(u64::from(chunk.offset) - start)?;
            let end = from + chunk.size as usize;
            let found = bytes.get(from..end).context("a chunk out of its span")?;
            if sha256(&[found]) != chunk.digest {
                return Err(self.source.other(&chunk.digest).into());
            }
            chunks.push((chunk.digest, from, end));
        }
        if self.done[number].swap(true, Ordering::Relaxed) {
            return Ok(true);
        }
        Ok(to.send(Ok(Batch { bytes, chunks })).is_ok())
    }
}
