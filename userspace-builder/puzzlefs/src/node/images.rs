// SPDX-License-Identifier: Apache-2.0
//! Images of this node: brought into its layout, and kept there.

use std::collections::BTreeSet;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use puzzlefs_format::Digest;

use crate::base::error::{Error, Result};
use crate::base::text;
use crate::layout::reference::{Name, Reference};
use crate::layout::Layout;
use crate::mount::Request;
use crate::remote::Place;

/// Pulls the image at a place, by the digest of its manifest, and lets a tag name it.
pub type Pull = Box<dyn Fn(&Place, &str) -> Result<Digest> + Send + Sync>;

/// Those of a layout, which is made if need be.
pub struct Node {
    layout: PathBuf,
    /// With what the tags of those that are kept begin.
    kept: String,
    from: Vec<Place>,
    only_from: bool,
    pull: Pull,
}

impl Node {
    /// Those of the directory `layout`; tags of images that are kept begin with `kept`. Places in `from` are asked before
    /// others; with `only_from` no others are.
    pub fn new(layout: &Path, kept: &str, from: &[Place], only_from: bool, pull: Pull) -> Self {
        Node {
            layout: layout.to_owned(),
            kept: kept.to_owned(),
            from: from.to_vec(),
            only_from,
            pull,
        }
    }

    /// The layout.
    ///
    /// # Errors
    ///
    /// If something else is there.
    pub(crate) fn open(&self) -> Result<Layout> {
        // Images may be for the eyes of who has pulled them only. What fails here is said by what comes next.
        let _ = DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.layout);
        Layout::open_or_create(&self.layout)
    }

    fn tag(&self, manifest: &Digest) -> String {
        format!("{}{manifest}", self.kept)
    }

    /// Whether something in the layout leads to the image: then all of it came once.
    ///
    /// # Errors
    ///
    /// What keeps that from being known.
    pub(crate) fn is_listed(&self, manifest: &Digest) -> Result<bool> {
        let layout = self.open()?;
        let is_it = |(digest, _): (Digest, Option<String>)| digest == *manifest;
        if layout.manifests()?.into_iter().any(is_it) {
            return Ok(true);
        }
        // By a manifest that stands for it.
        match layout.resolve(&Name::Digest(*manifest)) {
            Ok(found) => Ok(found.digest != *manifest),
            Err(Error::NotFound(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether the image is here, which then is kept.
    ///
    /// # Errors
    ///
    /// What keeps that from being known; if it cannot be written that it is kept.
    pub(crate) fn is_kept(&self, manifest: &Digest) -> Result<bool> {
        let (layout, tag) = (self.open()?, self.tag(manifest));
        let mut entries = layout.entries()?.into_iter();
        if entries.any(|it| it.tag.as_ref() == Some(&tag)) {
            return Ok(true);
        }
        if !self.is_listed(manifest)? {
            return Ok(false);
        }
        layout.add_tag(&Name::Digest(*manifest), &tag)?;
        Ok(true)
    }

    /// Sees to it that it is, from the places that were said to [`Node::new`], or else from one of `places`, repositories as
    /// `docker://HOST/REPOSITORY`.
    ///
    /// # Errors
    ///
    /// If nobody gives it.
    pub(crate) fn fetch(&self, manifest: &Digest, places: &[String]) -> Result<()> {
        if self.is_kept(manifest)? {
            return Ok(());
        }
        let mut all = Vec::new();
        for place in &self.from {
            all.push(place.at_digest(manifest)?);
        }
        if !self.only_from {
            let said = places.iter();
            all.extend(said.map(|place| format!("{place}@sha256:{manifest}")));
        }
        let mut failures = Vec::new();
        let mut seen = BTreeSet::new();
        for place in all.into_iter().filter(|place| seen.insert(place.clone())) {
            let parsed: std::result::Result<Place, String> = place.parse();
            let pulled = match parsed {
                Ok(place) => (self.pull)(&place, &self.tag(manifest)),
                Err(said) => Err(Error::trouble(format!("{}: {said}", text::line(&place)))),
            };
            match pulled {
                Ok(_) => return Ok(()),
                Err(error) => failures.push(format!("{error:#}")),
            }
        }
        let failures = match &failures[..] {
            [] => "nobody was asked: name a place by --from".to_owned(),
            all => all.join("; "),
        };
        Err(Error::unreached(format!(
            "the image sha256:{manifest} cannot be had: {failures}"
        )))
    }

    /// A mount of the image, on which device nodes lead to no device.
    ///
    /// # Errors
    ///
    /// If it is not here.
    pub(crate) fn request(&self, manifest: &Digest) -> Result<Request> {
        let mut request = Request::of_image(&Reference {
            layout: self.layout.clone(),
            name: Name::Digest(*manifest),
        })?;
        request.add_options("nodev")?;
        Ok(request)
    }

    /// Keeps the image no longer.
    ///
    /// # Errors
    ///
    /// If that cannot be written.
    pub(crate) fn let_go(&self, manifest: &Digest) -> Result<()> {
        let layout = Layout::open(&self.layout)?;
        match layout.remove_tag(&Name::Tag(self.tag(manifest))) {
            Err(Error::NotFound(_)) => Ok(()),
            removed => removed,
        }
    }

    /// The manifests of all that are kept, the oldest first.
    ///
    /// # Errors
    ///
    /// What keeps that from being known.
    pub(crate) fn all_kept(&self) -> Result<Vec<Digest>> {
        let layout = self.open()?;
        let tags = layout.entries()?.into_iter().filter_map(|entry| entry.tag);
        let digests = tags.filter_map(|tag| {
            let hex = tag.strip_prefix(&*self.kept)?;
            Digest::parse(hex.as_bytes()).ok()
        });
        Ok(digests.collect())
    }
}
