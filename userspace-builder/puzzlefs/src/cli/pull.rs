// SPDX-License-Identifier: Apache-2.0
//! puzzlefs pull, puzzlefs complete, and puzzlefs serve, which a pull asks.

use puzzlefs::chunks::list;
use puzzlefs::layout::manifest::MAX_DOCUMENT;
use puzzlefs::layout::reference::Name;
use puzzlefs::layout::Layout;
use puzzlefs::lazy::fill::{self, lazy_of};
use puzzlefs::lazy::Origins;
use puzzlefs::pull::{self, complete, Report};
use puzzlefs::registry;
use puzzlefs::remote::{self, Opened, Place};
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
    let from = opened(&args.source, &args.from, args.registry.options())?;
    let platform = args.platform.clone().unwrap_or_else(Platform::here);
    let found = pull::find(&*from.remote, &from.name, &platform)?;
    // What is not there, or is something else, makes no layout.
    let layout = Layout::open_or_create(&args.image.layout)?;
    let cache = remembered(args.no_cache);
    let bar = Bar::new();
    let report = match args.lazy {
        true => {
            let sources = args.from.iter().chain([&args.source]);
            let sources = sources.map(|place| place.at_digest(found.digest()));
            let sources = sources.collect::<puzzlefs::Result<Vec<String>>>()?;
            let origins = origins(args.registry.options());
            found.pull_lazy(&layout, tag, &sources, origins, cache.as_ref(), &bar)?
        }
        false => found.pull(&layout, tag, cache.as_ref(), &bar)?,
    };
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
        if args.lazy {
            let (requests, bytes) = (report.requests, show::bytes(report.bytes_fetched));
            let state = if report.complete { "all" } else { "lazily" };
            return writeln!(
                out,
                "fetched   {bytes}, {requests} requests; the image is {state} here"
            );
        }
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
    let from = match args.from.split_last() {
        None => None,
        Some((last, before)) => Some(opened(last, before, args.registry.options())?),
    };
    let (bar, name) = (Bar::new(), &args.image.name);
    let lazy = lazily(args, &layout, &bar)?;
    let from = from.as_ref().map(|from| &*from.remote);
    let report = complete::complete(&layout, name, from, &bar)?;
    let completed = Completed { report, lazy };
    show::done(args.format, &completed, |out| {
        let Completed { report, lazy } = &completed;
        writeln!(out, "manifest  sha256:{}", report.manifest)?;
        if let Some(lazy) = lazy {
            let (bytes, requests) = (show::bytes(lazy.bytes), lazy.requests);
            let copied = show::bytes(lazy.copied);
            writeln!(
                out,
                "came      {bytes} for {} packs, {copied} of other packs here, {requests} requests",
                lazy.packs
            )?;
        }
        made(out, report)
    })
}

#[derive(Serialize)]
struct Completed {
    #[serde(flatten)]
    report: complete::Report,
    #[serde(skip_serializing_if = "Option::is_none")]
    lazy: Option<fill::Report>,
}

/// Fetches what lazy packs of an image lack, if it has such.
fn lazily(args: &Complete, layout: &Layout, bar: &Bar) -> Result<Option<fill::Report>> {
    let _kept = layout.keep_blobs(bar)?;
    let manifest = layout.resolve(&args.image.name)?.digest;
    let text = layout.read_blob(&manifest, MAX_DOCUMENT)?;
    let packs = lazy_of(layout, &text).unwrap_or_default();
    if packs.is_empty() {
        return Ok(None);
    }
    let origins = origins(args.registry.options()).after(&args.from);
    // A profile that cannot be read says nothing.
    let first = list::of_manifest(layout, &text).unwrap_or_default();
    let first = first.unwrap_or_default();
    Ok(Some(fill::fill(layout, &packs, None, first, origins, bar)?))
}

/// An image at `place`, whose blobs others are asked for before.
fn opened(place: &Place, before: &[Place], options: registry::Options) -> puzzlefs::Result<Opened> {
    let Opened { remote, name } = remote::open(place, &options)?;
    let open = move |place: &Place| Ok(remote::open(place, &options)?.remote);
    let remote = remote::first_of(before.to_vec(), open, remote);
    Ok(Opened { remote, name })
}

/// The sources that records name, spoken with as the command line says.
pub fn origins(options: registry::Options) -> Origins {
    Origins::new(move |place| Ok(remote::open(place, &options)?.remote))
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
