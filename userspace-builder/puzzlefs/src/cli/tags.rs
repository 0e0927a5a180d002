// SPDX-License-Identifier: Apache-2.0
//! The commands about tags: tags, tag, rm.

use std::process::ExitCode;

use puzzlefs::base::text;
use puzzlefs::layout::Layout;
use puzzlefs::registry::{Repository, Sources};
use puzzlefs::upkeep::{gc, remove};
use serde::Serialize;

use super::args::{Home, Rm, Tag, Tags};
use super::bar::Bar;
use super::failure::Result;
use super::show;
use super::store::{broken, removed};

/// puzzlefs tags.
pub fn tags(args: &Tags) -> Result<()> {
    let layout = match &args.layout {
        Home::Here(layout) => layout,
        Home::Registry(repository) => return of_registry(args, repository),
    };
    let tags = puzzlefs::reports::tags::tags(&Layout::open(layout)?)?;
    show::report(args.format, &tags, |out| {
        for tag in &tags {
            let name = tag.tag.as_ref().map(|tag| text::quoted(tag.as_bytes()));
            let (kind, digest) = (tag.kind.name(), &tag.digest);
            let name = name.unwrap_or_else(|| "(no tag)".into());
            write!(out, "sha256:{digest}  {kind:<8}  {name}")?;
            match &tag.pulled {
                Some(pulled) => writeln!(out, "  of sha256:{pulled}")?,
                None => writeln!(out)?,
            }
        }
        Ok(())
    })
}

#[derive(Serialize)]
struct RemoteTag {
    tag: String,
}

fn of_registry(args: &Tags, repository: &Repository) -> Result<()> {
    let tags = Sources::open(repository, &args.registry.options())?.tags()?;
    let tags: Vec<RemoteTag> = tags.into_iter().map(|tag| RemoteTag { tag }).collect();
    show::report(args.format, &tags, |out| {
        for RemoteTag { tag } in &tags {
            writeln!(out, "{}", text::quoted(tag.as_bytes()))?;
        }
        Ok(())
    })
}

/// puzzlefs tag.
pub fn tag(args: &Tag) -> Result<()> {
    let layout = Layout::open(&args.image.layout)?;
    // An image that has no tag yet is garbage to a collection.
    let _kept = layout.keep_blobs(&Bar::new())?;
    Ok(layout.add_tag(&args.image.name, &args.tag)?)
}

/// puzzlefs rm.
pub fn rm(args: &Rm) -> Result<ExitCode> {
    let layout = Layout::open(&args.image.layout)?;
    let gc = remove::remove(&layout, &args.image.name, args.gc, &Bar::new())?;
    let removal = Removal {
        tag: args.image.name.to_string(),
        gc,
    };
    let gc = removal.gc.as_ref();
    show::done(args.format, &removal, |out| {
        gc.map_or(Ok(()), |report| removed(out, report))
    })?;
    Ok(gc.map_or(ExitCode::SUCCESS, |report| broken(&report.broken, &[])))
}

#[derive(Serialize)]
struct Removal {
    /// The tag, or @sha256: and the digest.
    tag: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    gc: Option<gc::Report>,
}
