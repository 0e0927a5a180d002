// SPDX-License-Identifier: Apache-2.0
//! Images of this node: brought into its layout, mounted, and let go.

use std::collections::BTreeSet;
use std::fs::DirBuilder;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use puzzlefs_format::Digest;

use super::record::Usage;
use crate::base::error::{Error, Result};
use crate::base::text;
use crate::image::Image;
use crate::layout::reference::{Name, Reference};
use crate::layout::stand_in::StandIn;
use crate::layout::Layout;
use crate::mount::{table, Request};
use crate::remote::Place;

/// Who brings images and mounts them.
pub trait Images: Send + Sync {
    /// Whether the image is here, and is kept.
    ///
    /// # Errors
    ///
    /// What keeps that from being known.
    fn is_here(&self, image: &StandIn) -> Result<bool>;
    /// Sees to it that it is, from where the node's operator says, or else from `places`, repositories as
    /// `docker://HOST/REPOSITORY`, or from where its stand-in says.
    ///
    /// # Errors
    ///
    /// If nobody gives it.
    fn bring(&self, image: &StandIn, places: &[String]) -> Result<()>;
    /// Mounts it at the directory `target`.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    fn mount(&self, image: &StandIn, target: &Path) -> Result<()>;
    /// Whether something is mounted there.
    ///
    /// # Errors
    ///
    /// What keeps that from being known.
    fn is_mounted(&self, target: &Path) -> Result<bool>;
    /// Unmounts what is mounted there, also if it is in use.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    fn unmount(&self, target: &Path) -> Result<()>;
    /// Keeps the image with this manifest no longer.
    ///
    /// # Errors
    ///
    /// If that cannot be written.
    fn release(&self, manifest: &Digest) -> Result<()>;
    /// The manifests of all that are kept.
    ///
    /// # Errors
    ///
    /// What keeps that from being known.
    fn kept(&self) -> Result<BTreeSet<Digest>>;
    /// What it takes here, shared with others or not.
    ///
    /// # Errors
    ///
    /// If it is not here.
    fn usage(&self, image: &StandIn) -> Result<Usage>;
}

/// Tags of images that are kept for snapshots begin with this.
pub const KEPT: &str = "containerd/";

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
    /// Those of the directory `layout`, of which the ones that are kept have tags that begin with `kept`. Places in `from` are
    /// asked before others; with `only_from` no others are.
    pub fn new(layout: &Path, kept: &str, from: &[Place], only_from: bool, pull: Pull) -> Self {
        Node {
            layout: layout.to_owned(),
            kept: kept.to_owned(),
            from: from.to_vec(),
            only_from,
            pull,
        }
    }

    fn open(&self) -> Result<Layout> {
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

    fn reference(&self, manifest: &Digest) -> Reference {
        Reference {
            layout: self.layout.clone(),
            name: Name::Digest(*manifest),
        }
    }

    /// Whether something in the layout leads to the image: then all of it came once.
    fn is_listed(layout: &Layout, manifest: &Digest) -> Result<bool> {
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
}

impl Images for Node {
    fn is_here(&self, image: &StandIn) -> Result<bool> {
        let layout = self.open()?;
        let tag = self.tag(&image.manifest);
        if layout
            .entries()?
            .iter()
            .any(|it| it.tag.as_ref() == Some(&tag))
        {
            return Ok(true);
        }
        if !Self::is_listed(&layout, &image.manifest)? {
            return Ok(false);
        }
        layout.add_tag(&Name::Digest(image.manifest), &tag)?;
        Ok(true)
    }

    fn bring(&self, image: &StandIn, places: &[String]) -> Result<()> {
        if self.is_here(image)? {
            return Ok(());
        }
        let mut all = Vec::new();
        for place in &self.from {
            all.push(place.at_digest(&image.manifest)?);
        }
        if !self.only_from {
            // Only registries: what an image says is what a stranger says.
            let said = places.iter().chain([&image.from]);
            let said = said.filter(|place| place.starts_with("docker://"));
            all.extend(said.map(|place| format!("{place}@sha256:{}", image.manifest)));
        }
        let mut failures = Vec::new();
        let mut seen = BTreeSet::new();
        for place in all.into_iter().filter(|place| seen.insert(place.clone())) {
            let parsed: std::result::Result<Place, String> = place.parse();
            let pulled = match parsed {
                Ok(place) => (self.pull)(&place, &self.tag(&image.manifest)),
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
        let manifest = image.manifest;
        Err(Error::unreached(format!(
            "the image sha256:{manifest} cannot be had: {failures}"
        )))
    }

    fn mount(&self, image: &StandIn, target: &Path) -> Result<()> {
        let mut request = Request::of_image(&self.reference(&image.manifest))?;
        request.add_options("nodev")?;
        request.mount(target)
    }

    fn is_mounted(&self, target: &Path) -> Result<bool> {
        table::is_mount_point(target)
    }

    fn unmount(&self, target: &Path) -> Result<()> {
        while table::is_mount_point(target)? {
            table::umount(target, true)?;
        }
        Ok(())
    }

    fn release(&self, manifest: &Digest) -> Result<()> {
        let layout = Layout::open(&self.layout)?;
        match layout.remove_tag(&Name::Tag(self.tag(manifest))) {
            Err(Error::NotFound(_)) => Ok(()),
            removed => removed,
        }
    }

    fn kept(&self) -> Result<BTreeSet<Digest>> {
        let layout = self.open()?;
        let tags = layout.entries()?.into_iter().filter_map(|entry| entry.tag);
        let digests = tags.filter_map(|tag| {
            let hex = tag.strip_prefix(&*self.kept)?;
            Digest::parse(hex.as_bytes()).ok()
        });
        Ok(digests.collect())
    }

    fn usage(&self, image: &StandIn) -> Result<Usage> {
        let layout = Layout::open(&self.layout)?;
        let manifest = layout.resolve(&Name::Digest(image.manifest))?.digest;
        let mut usage = Usage::default();
        let blobs = Image::listed(&layout, &manifest)?;
        for blob in blobs.iter().chain([&manifest]) {
            // What is not here takes nothing.
            if let Ok(file) = layout.blob_path(blob).symlink_metadata() {
                usage.inodes += 1;
                usage.size += file.blocks() * 512;
            }
        }
        Ok(usage)
    }
}
