// SPDX-License-Identifier: Apache-2.0
//! puzzlefs pull, puzzlefs complete, and puzzlefs serve, which a pull asks.

use puzzlefs::layout::reference::Name;
use puzzlefs::layout::Layout;
use puzzlefs::pull::{self, complete, Report};
use puzzlefs::remote;
use puzzlefs::source::Platform;
use serde::Serialize;

use super::args::{Complete, Pull, Serve};
use super::bar::Bar;
use super::cache::remembered;
use super::failure::{Failure, Result};
use super::{out, show};

#[derive(Serialize)]
struct Pulled {
    #[serde(flatten)]
    report: Report,
    #[serde(skip_serializing_if = "Option::is_none")]
    completed: Option<complete::Report>,
}

/// puzzlefs pull.
pub fn pull(args: &Pull) -> Result<()> {
    let Name::Tag(tag) = &args.image.name else {
        let text = format!("{}: a pulled image is named by a tag", args.image);
        return Err(Failure::Usage(text));
    };
    let from = remote::open(&args.source, &args.registry.options())?;
    let platform = args.platform.clone().unwrap_or_else(Platform::here);
    let found = pull::find(&*from.remote, &from.name, &platform)?;
    // What is not there, or is something else, makes no layout.
    let layout = Layout::open_or_create(&args.image.layout)?;
    let cache = remembered(args.no_cache);
    let bar = Bar::new();
    let report = found.pull(&layout, tag, cache.as_ref(), &bar)?;
    let completed = match args.whole && !report.complete {
        true => Some(complete::complete(
            &layout,
            &args.image.name,
            Some(&*from.remote),
            &bar,
        )?),
        false => None,
    };
    let pulled = Pulled { report, completed };
    show::done(args.format, &pulled, |out| {
        let Pulled { report, completed } = &pulled;
        writeln!(out, "manifest  sha256:{}", report.manifest)?;
        if !report.complete && completed.is_none() {
            writeln!(out, "  here    sha256:{}", report.local_manifest)?;
        }
        let (requests, bytes) = (report.requests, show::bytes(report.bytes_fetched));
        writeln!(out, "fetched   {bytes}, {requests} requests")?;
        let bytes = show::bytes(report.chunk_bytes_fetched);
        writeln!(out, "  chunks  {}, {bytes}", report.chunks_fetched)?;
        let bytes = show::bytes(report.chunk_bytes_found);
        writeln!(out, "found     {} chunks, {bytes}", report.chunks_found)?;
        let bytes = show::bytes(report.new_bytes);
        writeln!(out, "new       {} blobs, {bytes}", report.new_blobs)?;
        completed
            .as_ref()
            .map_or(Ok(()), |report| made(out, report))
    })
}

/// puzzlefs complete.
pub fn complete(args: &Complete) -> Result<()> {
    let layout = Layout::open(&args.image.layout)?;
    let from = args
        .from
        .as_ref()
        .map(|from| remote::open(from, &args.registry.options()));
    let from = from.transpose()?;
    let from = from.as_ref().map(|from| &*from.remote);
    let report = complete::complete(&layout, &args.image.name, from, &Bar::new())?;
    show::done(args.format, &report, |out| {
        writeln!(out, "manifest  sha256:{}", report.manifest)?;
        made(out, &report)
    })
}

fn made(out: &mut dyn std::io::Write, report: &complete::Report) -> std::io::Result<()> {
    let (made, fetched) = (report.made, report.fetched);
    writeln!(out, "made      {made} blobs from chunks, {fetched} fetched")
}

/// puzzlefs serve.
pub fn serve(args: &Serve) -> Result<()> {
    let mut from = std::io::stdin().lock();
    out::write(|out| Ok(remote::serve(&args.layout, &mut from, out)?))
}
