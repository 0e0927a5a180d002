// SPDX-License-Identifier: Apache-2.0
//! Images from elsewhere that are mounted or run: they are pulled into a layout; those that are mounted lazily, into the cache.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use puzzlefs::image::Image;
use puzzlefs::layout::reference::{Name, Reference};
use puzzlefs::layout::Layout;
use puzzlefs::node::Node;
use puzzlefs::pull;
use puzzlefs::registry;
use puzzlefs::remote::Place;
use puzzlefs::source::Platform;
use puzzlefs::Error;
use puzzlefs_format::Digest;

use super::args::{Mount, Pulled, Sources};
use super::bar::Bar;
use super::cache::{images, remembered};
use super::failure::{Failure, Result};
use super::out;
use super::pull::{opened, origins};

/// The layout in which they are.
fn cache(how: Option<&Mount>) -> Result<PathBuf> {
    let own = how.and_then(|how| how.cache.clone());
    let none = || Failure::Usage("there is no home for a cache: name one by --cache".into());
    own.or_else(images).ok_or_else(none)
}

/// Sees to it that the metadata of an image are in the cache; gives the digest of its manifest.
pub fn pull(place: &Place, how: Option<&Mount>) -> Result<Digest> {
    let dir = cache(how)?;
    let tag = place.tag();
    let known = known(&dir, &tag);
    // What a digest names does not change.
    if let (Some(known), Name::Digest(_)) = (known, place.name()) {
        return Ok(known);
    }
    let options = || how.map(|how| how.registry.options()).unwrap_or_default();
    let from = how.map_or(&[][..], |how| &how.fetching.from);
    match pull_into((place, from), options, (&dir, &tag), known, |_| Ok(true)) {
        Ok(digest) => Ok(digest),
        Err(error) => match known.filter(|_| !matches!(error, Error::NotFound(_))) {
            None => Err(error.into()),
            Some(known) => {
                out::note(&format!(
                    "{error:#}; {place} is mounted as it was when it was pulled last"
                ));
                Ok(known)
            }
        },
    }
}

/// The manifest that the cache has under a tag.
fn known(dir: &Path, tag: &str) -> Option<Digest> {
    let layout = Layout::open(dir).ok()?;
    let digest = layout.resolve(&Name::Tag(tag.into())).ok()?.digest;
    Image::is_there(&layout, &digest).ok()?.then_some(digest)
}

/// Pulls the image at `place`, whose chunks the places in `from` are asked for before, into the layout `dir`, which is made
/// if need be: lazily, if `lazily` says so. Gives the digest of its manifest; nothing is done if that is `known`.
pub fn pull_into(
    (place, from): (&Place, &[Place]),
    options: impl Fn() -> registry::Options,
    (dir, tag): (&Path, &str),
    known: Option<Digest>,
    lazily: impl FnOnce(&Layout) -> puzzlefs::Result<bool>,
) -> puzzlefs::Result<Digest> {
    let remote = opened(place, from, options())?;
    let found = pull::find(&*remote.remote, &remote.name, &Platform::here())?;
    let digest = *found.digest();
    if known == Some(digest) {
        return Ok(digest);
    }
    // Images may be for the eyes of who has pulled them only.
    // What fails here is said by what comes next.
    let _ = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    let layout = Layout::open_or_create(dir)?;
    let sources = from.iter().chain([place]);
    let sources = sources.map(|place| place.at_digest(&digest));
    let sources = sources.collect::<puzzlefs::Result<Vec<String>>>()?;
    let cache = remembered(false);
    let (cache, bar) = (cache.as_ref(), Bar::new());
    match lazily(&layout)? {
        true => found.pull_lazy(&layout, tag, &sources, origins(options()), cache, &bar)?,
        false => found.pull(&layout, tag, cache, &bar)?,
    };
    Ok(digest)
}

/// The image in the cache whose manifest has this digest.
pub fn pulled(digest: &str, how: Option<&Mount>) -> Result<Reference> {
    let digest = Digest::parse(digest.as_bytes());
    let digest = digest.map_err(|_| Failure::Usage("no manifest was pulled".into()))?;
    let name = Name::Digest(digest);
    let layout = cache(how)?;
    Ok(Reference { layout, name })
}

/// Pulls what is mounted by the kernel or run: lazily, if a daemon fetches what is read of the layout.
pub fn pull_watched(how: &Pulled, from: (&Place, &[Place]), tag: &str) -> puzzlefs::Result<Digest> {
    let lazily = |layout: &Layout| is_watched(&how.daemon, layout);
    let options = || how.registry.options();
    pull_into(from, options, (&how.layout, tag), None, lazily)
}

/// Images of this node, which are kept under tags that begin with `kept`.
pub fn node(how: &Pulled, kept: &str, sources: &Sources) -> Node {
    let (pulled, from) = (how.clone(), sources.from.clone());
    let pull = move |place: &Place, tag: &str| pull_watched(&pulled, (place, &from), tag);
    let (from, pull) = (&sources.from, Box::new(pull));
    Node::new(&how.layout, kept, from, sources.only_from, pull)
}

/// Whether a daemon fetches what is read of this layout.
fn is_watched(daemon: &Path, layout: &Layout) -> puzzlefs::Result<bool> {
    let path = layout.path().canonicalize()?;
    let path = path.display().to_string();
    Ok(puzzlefs::daemon::ask(daemon)?.is_some_and(|daemon| daemon.layouts.contains(&path)))
}
