// SPDX-License-Identifier: Apache-2.0
//! Images of this node, as snapshots need them.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use puzzlefs_format::Digest;

use super::record::Usage;
use crate::base::error::{Error, Result};
use crate::base::progress::Silent;
use crate::build::profile::Profile;
use crate::build::{build, Options};
use crate::image::Image;
use crate::layout::reference::Name;
use crate::layout::stand_in::StandIn;
use crate::mount::table;
use crate::node::Node;

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
    /// Makes an image of the directory `files`, a layer as overlayfs has it, which is kept.
    ///
    /// # Errors
    ///
    /// What the build says.
    fn convert(&self, files: &Path) -> Result<StandIn>;
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
/// The tag of an image that has no other one yet. There is one at a time.
const CONVERTED: &str = "containerd-converted";

impl Images for Node {
    fn is_here(&self, image: &StandIn) -> Result<bool> {
        self.is_kept(&image.manifest)
    }

    fn bring(&self, image: &StandIn, places: &[String]) -> Result<()> {
        // Only registries: what an image says is what a stranger says.
        let said = places.iter().chain([&image.from]);
        let said = said.filter(|place| place.starts_with("docker://"));
        let said: Vec<String> = said.cloned().collect();
        self.fetch(&image.manifest, &said)
    }

    fn convert(&self, files: &Path) -> Result<StandIn> {
        let layout = self.open()?;
        let options = Options::of(Profile::Balanced)?;
        let built = build(files, &layout, CONVERTED, &options, &Silent)?;
        let manifest = Digest::parse(built.manifest.as_bytes())?;
        // Its tag is known now. Nothing collects what the other one still names.
        let kept = self.is_kept(&manifest);
        layout.remove_tag(&Name::Tag(CONVERTED.to_owned()))?;
        kept?;
        // The layer's files are removed afterwards: so nothing of them may be missing.
        if !built.left_out.is_empty() || !built.left_out_xattrs.is_empty() {
            return Err(Error::refused(
                "an image cannot have all that the layer has",
            ));
        }
        StandIn::new(&manifest, "")
    }

    fn mount(&self, image: &StandIn, target: &Path) -> Result<()> {
        self.request(&image.manifest)?.mount(target)
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
        self.let_go(manifest)
    }

    fn kept(&self) -> Result<BTreeSet<Digest>> {
        Ok(self.all_kept()?.into_iter().collect())
    }

    fn usage(&self, image: &StandIn) -> Result<Usage> {
        let layout = self.open()?;
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
