// SPDX-License-Identifier: Apache-2.0
//! Layers that containerd has unpacked become images of the layout: their chunks are stored once, and a container that
//! uses them has one page cache with all others.
//!
//! A layer is an image by itself, with the whiteouts and attributes that overlayfs has put there, and is mounted as a
//! lower directory. So chains share layers as they do with files. This happens after the commit, during which containerd
//! holds a lock of its database. Whoever builds on the layer waits for it: nobody is ever given files that go away.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;
use std::thread;

use puzzlefs_format::Digest;

use super::fault::{Fault, Result};
use super::shape::{FILES, IMAGE};
use super::snapshots::{lock, Snapshots};
use super::store::Snapshot;
use super::trees;
use crate::base::text;
use crate::layout::stand_in::StandIn;

impl Snapshots {
    /// Converts layers, one after the other. Those that somebody needs before their turn stay as they are.
    pub(super) fn convert_later(self: &Arc<Self>, layers: Vec<Snapshot>) {
        let (it, all) = (Arc::clone(self), layers.clone());
        let work = move || layers.iter().for_each(|layer| it.convert_or_say(layer));
        if let Err(error) = thread::Builder::new().spawn(work) {
            // Nobody is to wait for that.
            for layer in all {
                self.end_conversion(&layer, None);
                self.stays(&layer, &error.to_string());
            }
        }
    }

    fn convert_or_say(&self, layer: &Snapshot) {
        let _build = self.conversions.one();
        if !self.conversions.start(layer.id) {
            return;
        }
        let converted = self.convert(layer);
        let image = converted.as_ref().ok().map(|image| image.manifest);
        let is_gone = self.end_conversion(layer, image);
        if let (Err(fault), false) = (converted, is_gone) {
            self.stays(layer, &fault.text);
        }
    }

    fn stays(&self, layer: &Snapshot, why: &str) {
        let name = text::quoted(layer.record.name.as_bytes());
        (self.say)(&format!("snapshot {name} stays as it was unpacked: {why}"));
    }

    /// Those that wait for a conversion go on. If the layer was removed meanwhile, so is what is left of it; whether that is
    /// so.
    pub(super) fn end_conversion(&self, layer: &Snapshot, image: Option<Digest>) -> bool {
        let is_there = || lock(&self.store).has(layer);
        let is_gone = !self.conversions.end(layer.id, is_there);
        match image {
            Some(image) if is_gone => self.let_go(&image, layer.id),
            None if is_gone => self.clean(layer.id),
            _ => {}
        }
        is_gone
    }

    fn convert(&self, layer: &Snapshot) -> Result<StandIn> {
        let dir = lock(&self.store).dir(layer.id);
        let (files, target) = (dir.join(FILES), dir.join(IMAGE));
        let image = self.images.convert(&files)?;
        let working = self.working(&image.manifest);
        let _guard = lock(&working);
        let made = (|| {
            let mut maker = DirBuilder::new();
            maker.recursive(true).mode(0o700).create(&target)?;
            // Whoever cleaned up meanwhile has let go of it, as no snapshot had it. From here on nobody does.
            if !self.images.is_here(&image)? {
                return Err(Fault::not_found("the image of the layer"));
            }
            // Of a conversion that was interrupted there may be a mount, of another image if it was another builder.
            self.images.unmount(&target)?;
            self.images.mount(&image, &target)?;
            let mut store = lock(&self.store);
            let name = &layer.record.name;
            let found = store.get(name).filter(|found| found.id == layer.id);
            let mut record = found.ok_or_else(|| Fault::not_found(name))?.record.clone();
            record.image = Some(image.text.clone());
            Ok(store.put(layer.id, record)?)
        })();
        if let Err(fault) = made {
            if let Err(error) = self.images.unmount(&target) {
                (self.say)(&format!("{}: {error:#}", text::path(&target)));
            }
            self.release(&image.manifest);
            return Err(fault);
        }
        self.mounted(&image, &layer.record.name);
        // If they stay, they go with the snapshot, or when the next snapshotter starts.
        if let Err(error) = trees::remove(&files) {
            (self.say)(&format!("{}: {error:#}", text::path(&files)));
        }
        Ok(image)
    }
}
