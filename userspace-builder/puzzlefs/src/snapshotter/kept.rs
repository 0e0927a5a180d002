// SPDX-License-Identifier: Apache-2.0
//! Snapshots of images: made, mounted again where that is to be done, and let go. One image at a time: no two
//! bring, mount or let go of the same.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::sync::{Arc, Mutex};
use std::thread;

use puzzlefs_format::Digest;

use super::fault::{Fault, Kind as Why, Result};
use super::record::{Kind, Labels, Record, Time, Usage};
use super::shape::IMAGE;
use super::snapshots::{lock, Snapshots, REF};
use super::store::Snapshot;
use super::trees;
use crate::base::text;
use crate::layout::stand_in::StandIn;

/// The label in which Kubernetes' plugin of containerd says what was pulled.
const PULLED: &str = "containerd.io/snapshot/cri.image-ref";

impl Snapshots {
    /// Makes a committed snapshot of an image, by the name `target`, if there is none.
    pub(super) fn make_of_image(
        &self,
        target: &str,
        image: &StandIn,
        labels: &Labels,
    ) -> Result<()> {
        let working = self.working(&image.manifest);
        let _guard = lock(&working);
        let found = lock(&self.store).get(target).cloned();
        if let Some(mut found) = found {
            // containerd looks for it by this label next.
            if found.record.labels.get(REF).map(String::as_str) != Some(target) {
                found.record.labels.extend(labels.clone());
                found = lock(&self.store).put(found.id, found.record)?;
            }
            return self.ensure_locked(&found, image);
        }
        let (id, dir) = {
            let mut store = lock(&self.store);
            let id = store.reserve();
            (id, store.dir(id))
        };
        let made = (|| {
            let mount = dir.join(IMAGE);
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&mount)?;
            self.images.bring(image, &places(labels))?;
            self.images.mount(image, &mount)?;
            let at = Time::now();
            let record = Record {
                name: target.to_owned(),
                parent: String::new(),
                kind: Kind::Committed,
                created: at,
                updated: at,
                labels: labels.clone(),
                usage: Usage::default(),
                image: Some(image.text.clone()),
            };
            Ok(lock(&self.store).put(id, record)?)
        })();
        match made {
            Ok(_) => {
                self.mounted(image, target);
                Ok(())
            }
            Err(fault) => {
                self.clean(id);
                self.release(&image.manifest);
                Err(fault)
            }
        }
    }

    /// Sees to it that the images among these are mounted.
    pub(super) fn ensure_all(&self, chain: &[Snapshot]) -> Result<()> {
        for snapshot in chain {
            self.ensure(snapshot)?;
        }
        Ok(())
    }

    pub(super) fn ensure(&self, snapshot: &Snapshot) -> Result<()> {
        let Some(image) = self.image_of(snapshot)? else {
            return Ok(());
        };
        let working = self.working(&image.manifest);
        let _guard = lock(&working);
        self.ensure_locked(snapshot, &image)
    }

    pub(super) fn ensure_locked(&self, snapshot: &Snapshot, image: &StandIn) -> Result<()> {
        let target = {
            let store = lock(&self.store);
            if !store.has(snapshot) {
                return Err(Fault::not_found(&snapshot.record.name));
            }
            store.dir(snapshot.id).join(IMAGE)
        };
        if self.images.is_mounted(&target)? {
            return Ok(());
        }
        self.images.bring(image, &places(&snapshot.record.labels))?;
        self.images.mount(image, &target)?;
        self.mounted(image, &snapshot.record.name);
        Ok(())
    }

    pub(super) fn mounted(&self, image: &StandIn, name: &str) {
        let name = text::quoted(name.as_bytes());
        (self.say)(&format!(
            "image sha256:{} is mounted for snapshot {name}",
            image.manifest
        ));
    }

    pub(super) fn ensure_or_say(&self, snapshot: &Snapshot) {
        if let Err(fault) = self.ensure(snapshot) {
            let name = text::quoted(snapshot.record.name.as_bytes());
            // It may have been removed meanwhile.
            if fault.kind != Why::NotFound {
                (self.say)(&format!(
                    "snapshot {name}: {}; it is tried again when a container needs it",
                    fault.text
                ));
            }
        }
    }

    pub(super) fn ensure_later(self: &Arc<Self>, snapshot: Snapshot) {
        let it = Arc::clone(self);
        thread::spawn(move || it.ensure_or_say(&snapshot));
    }

    /// Removes what is left of a snapshot of an image, and lets go of that if no other one has it.
    pub(super) fn let_go(&self, manifest: &Digest, id: u64) {
        let working = self.working(manifest);
        let _guard = lock(&working);
        self.clean(id);
        self.release(manifest);
    }

    /// The lock of an image is held.
    pub(super) fn release(&self, manifest: &Digest) {
        let is_it = |it: &Snapshot| {
            let image = it.record.image.as_deref().map(StandIn::parse);
            matches!(image, Some(Ok(image)) if image.manifest == *manifest)
        };
        if lock(&self.store).all().any(is_it) {
            return;
        }
        if let Err(error) = self.images.release(manifest) {
            (self.say)(&format!("image sha256:{manifest} stays tagged: {error:#}"));
        }
    }

    /// Removes the directory of a snapshot that is none any more.
    pub(super) fn clean(&self, id: u64) {
        let dir = lock(&self.store).dir(id);
        let target = dir.join(IMAGE);
        let unmounted = match target.symlink_metadata() {
            Ok(_) => self.images.unmount(&target),
            Err(_) => Ok(()),
        };
        let removed = unmounted.map_err(Fault::from);
        let removed = removed.and_then(|()| Ok(trees::remove(&dir)?));
        if let Err(fault) = removed {
            let dir = text::path(&dir);
            (self.say)(&format!(
                "{dir} is left over: {}; the next start tries again",
                fault.text
            ));
            return;
        }
        lock(&self.store).done(id);
    }

    pub(super) fn working(&self, manifest: &Digest) -> Arc<Mutex<()>> {
        let mut working = lock(&self.working);
        working.retain(|_, it| Arc::strong_count(it) > 1);
        Arc::clone(working.entry(*manifest).or_default())
    }
}

/// Where containerd says that an image was pulled from, if it does.
fn places(labels: &Labels) -> Vec<String> {
    let name = labels.get(PULLED).map(String::as_str).unwrap_or_default();
    let name = name.split('@').next().unwrap_or_default();
    let last = name.rfind('/').unwrap_or(0);
    let name = match name[last..].find(':') {
        Some(at) => &name[..last + at],
        None => name,
    };
    let place = (!name.is_empty()).then(|| format!("docker://{name}"));
    place.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    pub(super) fn what_was_pulled_is_a_repository() {
        let of = |name: &str| places(&[(PULLED.to_owned(), name.to_owned())].into());
        for (name, wanted) in [
            ("h.example:5000/a/web:1", "docker://h.example:5000/a/web"),
            ("h.example/a/web@sha256:12", "docker://h.example/a/web"),
            ("h.example/web:1@sha256:12", "docker://h.example/web"),
            ("docker.io/library/web", "docker://docker.io/library/web"),
        ] {
            assert_eq!(of(name), [wanted], "{name}");
        }
        assert!(of("").is_empty() && places(&Labels::new()).is_empty());
    }
}
