// SPDX-License-Identifier: Apache-2.0
//! What the calls of the interface do, as containerd's overlayfs snapshotter does it, but for images of ours: a committed
//! snapshot of one is a mount of the kernel's, and what is prepared on it an overlayfs above that.

use std::collections::HashMap;
use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use puzzlefs_format::Digest;

use super::conversions::{unused, Conversions, Unpacked};
use super::fault::{Fault, Result};
use super::filter::Filter;
use super::images::Images;
use super::record::{Kind, Labels, Record, Time, Usage};
use super::shape::{
    check, directories, lower, mounts_of, store_parents, unpacked, Mount, FILES, IMAGE,
};
use super::store::{Snapshot, Store};
use super::trees;
use crate::base::text;
use crate::layout::stand_in::{StandIn, LABEL};

/// containerd's label with the name that a snapshot has once a layer is unpacked.
pub(super) const REF: &str = "containerd.io/snapshot.ref";

type Say = Box<dyn Fn(&str) + Send + Sync>;

/// All snapshots, and what can be done with them.
pub(crate) struct Snapshots {
    pub(super) store: Mutex<Store>,
    pub(super) images: Box<dyn Images>,
    /// For each image that somebody brings, mounts or lets go: no two do that at the same time.
    pub(super) working: Mutex<HashMap<Digest, Arc<Mutex<()>>>>,
    /// Of ordinary layers, if there are any.
    pub(super) conversions: Conversions,
    unpacked: Unpacked,
    pub(super) say: Say,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is kept is whole between any two statements; the disk has it in any case.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Snapshots {
    /// Those in `root`. What a crash has left half made is removed, and what is to be mounted is mounted.
    pub fn open(
        root: &Path,
        images: Box<dyn Images>,
        unpacked: Unpacked,
        say: Say,
    ) -> crate::Result<Arc<Self>> {
        let store = Store::open(root, |text| say(&text))?;
        let it = Arc::new(Snapshots {
            store: Mutex::new(store),
            images,
            working: Mutex::default(),
            conversions: Conversions::default(),
            unpacked,
            say,
        });
        it.cleanup()
            .map_err(|fault| crate::Error::trouble(fault.text))?;
        let all: Vec<Snapshot> = lock(&it.store).all().cloned().collect();
        for snapshot in all.iter().filter(|it| it.record.image.is_some()) {
            // Files that were left when it became an image.
            let files = lock(&it.store).dir(snapshot.id).join(FILES);
            if let Err(error) = trees::remove(&files) {
                (it.say)(&format!("{}: {error:#}", text::path(&files)));
            }
            let image = it.image_of(snapshot).ok().flatten();
            match image.map(|image| it.images.is_here(&image)) {
                Some(Ok(true)) => it.ensure_or_say(snapshot),
                _ => it.ensure_later(snapshot.clone()),
            }
        }
        if unpacked == Unpacked::IsConverted {
            let layers = unused(&lock(&it.store));
            layers
                .iter()
                .for_each(|layer| it.conversions.intend(layer.id));
            it.convert_later(layers);
        }
        Ok(it)
    }

    pub fn prepare(
        self: &Arc<Self>,
        kind: Kind,
        key: &str,
        parent: &str,
        labels: Labels,
    ) -> Result<Vec<Mount>> {
        check(key, &labels)?;
        if let (Kind::Active, "", Some(target), Some(image)) =
            (kind, parent, labels.get(REF), labels.get(LABEL))
        {
            // Whoever says of a snapshot what it holds must have made its name of that.
            let image = StandIn::parse(image).ok();
            let image = image.filter(|image| format!("sha256:{}", image.digest()) == *target);
            if let Some(image) = image {
                self.make_of_image(&target.clone(), &image, &labels)?;
                return Err(Fault::exists(target));
            }
        }
        let chain = self.parents(key, parent)?;
        self.ensure_all(&chain)?;

        let mut store = lock(&self.store);
        // It may have gone meanwhile.
        drop(store_parents(&store, key, parent)?);
        let id = store.reserve();
        let dir = store.dir(id);
        let at = Time::now();
        let record = Record {
            name: key.to_owned(),
            parent: parent.to_owned(),
            kind,
            created: at,
            updated: at,
            labels,
            usage: Usage::default(),
            image: None,
        };
        let lower = chain.first().map(|it| lower(&store, it));
        let made = directories(&dir, kind, lower.as_deref());
        let made = made.and_then(|()| Ok(store.put(id, record)?));
        match made {
            Ok(snapshot) => Ok(mounts_of(&store, &snapshot, &chain)),
            Err(fault) => {
                // Nobody else works there.
                let _ = trees::remove(&dir);
                store.done(id);
                Err(fault)
            }
        }
    }

    /// The chain that a new snapshot stands on, once nothing of it changes any more.
    fn parents(&self, key: &str, parent: &str) -> Result<Vec<Snapshot>> {
        loop {
            let chain = store_parents(&lock(&self.store), key, parent)?;
            if !self.conversions.wait(&chain) {
                return Ok(chain);
            }
        }
    }

    pub fn mounts(self: &Arc<Self>, key: &str) -> Result<Vec<Mount>> {
        let snapshot = self.get(key)?;
        if snapshot.record.kind == Kind::Committed {
            let text = format!("snapshot {key:?} is committed: only others are mounted");
            return Err(Fault::precondition(text));
        }
        let chain = lock(&self.store).chain(&snapshot.record.parent);
        let chain = chain.ok_or_else(|| Fault::not_found(&snapshot.record.parent))?;
        self.ensure_all(&chain)?;
        Ok(mounts_of(&lock(&self.store), &snapshot, &chain))
    }

    pub fn commit(self: &Arc<Self>, name: &str, key: &str, labels: Labels) -> Result<()> {
        check(name, &labels)?;
        let snapshot = self.get(key)?;
        let is_free = |store: &Store| match store.get(name) {
            Some(_) => Err(Fault::exists(name)),
            None => Ok(()),
        };
        is_free(&lock(&self.store))?;
        if snapshot.record.kind != Kind::Active {
            return Err(Fault::precondition(format!(
                "snapshot {key:?} is not active"
            )));
        }
        let dir = lock(&self.store).dir(snapshot.id);
        let files = dir.join(FILES);
        let image = unpacked(&snapshot.record, name, &files);
        let usage = trees::measure(&files)?;
        match &image {
            Some(_) => DirBuilder::new().mode(0o700).create(dir.join(IMAGE))?,
            // What is committed is there after a crash.
            None => rustix::fs::syncfs(File::open(&files)?).map_err(std::io::Error::from)?,
        }
        let converts = image.is_none() && self.unpacked == Unpacked::IsConverted;
        if converts {
            self.conversions.begin(snapshot.id);
        }
        let committed = (|| {
            let mut store = lock(&self.store);
            is_free(&store)?;
            if !store.has(&snapshot) {
                return Err(Fault::not_found(key));
            }
            let at = Time::now();
            let record = Record {
                name: name.to_owned(),
                parent: snapshot.record.parent.clone(),
                kind: Kind::Committed,
                created: at,
                updated: at,
                labels,
                usage,
                image: image.as_ref().map(|image| image.text.clone()),
            };
            Ok(store.put(snapshot.id, record)?)
        })();
        // containerd holds a lock of its database now.
        match committed {
            Ok(committed) if converts => self.convert_later(vec![committed]),
            Ok(committed) if image.is_some() => self.ensure_later(committed),
            Ok(_) => {}
            Err(fault) => {
                if converts {
                    self.end_conversion(&snapshot, None);
                }
                return Err(fault);
            }
        }
        Ok(())
    }

    pub fn remove(self: &Arc<Self>, key: &str) -> Result<()> {
        let (taken, is_converted) = self.conversions.taken(|| {
            let mut store = lock(&self.store);
            if store.get(key).is_some() && store.has_children(key) {
                return Err(Fault::precondition(format!(
                    "cannot remove snapshot {key:?} with child"
                )));
            }
            let taken = store.take(key)?;
            let taken = taken.ok_or_else(|| Fault::not_found(key))?;
            Ok((taken.id, taken))
        })?;
        if is_converted {
            return Ok(());
        }
        let image = StandIn::parse(taken.record.image.as_deref().unwrap_or_default()).ok();
        let Some(image) = image else {
            self.clean(taken.id);
            return Ok(());
        };
        let working = self.working(&image.manifest);
        let is_free = working.try_lock().is_ok();
        let it = Arc::clone(self);
        let end = move || it.let_go(&image.manifest, taken.id);
        match is_free {
            true => end(),
            // Whoever brings it may need minutes for that, and sees then that nobody wants it.
            false => drop(thread::spawn(end)),
        }
        Ok(())
    }

    pub fn stat(&self, key: &str) -> Result<Record> {
        Ok(self.get(key)?.record)
    }

    /// Changes labels: those that `paths` name, or all.
    pub fn update(&self, name: &str, labels: &Labels, paths: &[String]) -> Result<Record> {
        let mut store = lock(&self.store);
        let found = store.get(name).ok_or_else(|| Fault::not_found(name))?;
        let Snapshot { id, mut record } = found.clone();
        if paths.is_empty() {
            record.labels.clone_from(labels);
        }
        for path in paths {
            match path.strip_prefix("labels") {
                Some("") => record.labels.clone_from(labels),
                Some(rest) if rest.starts_with('.') => {
                    let label = &rest[1..];
                    let value = labels.get(label).cloned().unwrap_or_default();
                    record.labels.insert(label.to_owned(), value);
                }
                _ => {
                    return Err(Fault::invalid(format!(
                        "cannot update {path:?} of snapshot {name:?}"
                    )))
                }
            }
        }
        record.labels.retain(|_, value| !value.is_empty());
        check(name, &record.labels)?;
        record.updated = Time::now();
        Ok(store.put(id, record)?.record)
    }

    /// All that one of the filters takes; all if there is none.
    pub fn list(&self, filters: &[String]) -> Result<Vec<Record>> {
        let filters = filters.iter().map(|text| Filter::parse(text));
        let filters = filters.collect::<Result<Vec<Filter>>>()?;
        let takes =
            |record: &Record| filters.is_empty() || filters.iter().any(|it| it.takes(record));
        let store = lock(&self.store);
        let all = store.all().map(|it| &it.record);
        Ok(all.filter(|record| takes(record)).cloned().collect())
    }

    pub fn usage(&self, key: &str) -> Result<Usage> {
        let snapshot = self.get(key)?;
        if let Some(image) = self.image_of(&snapshot)? {
            // One that is still to come takes nothing.
            return Ok(self.images.usage(&image).unwrap_or_default());
        }
        Ok(match snapshot.record.kind {
            Kind::Active => trees::measure(&lock(&self.store).dir(snapshot.id).join(FILES))?,
            _ => snapshot.record.usage,
        })
    }

    /// Removes what belongs to no snapshot, and lets go of images that none has.
    pub fn cleanup(&self) -> Result<()> {
        let strays = lock(&self.store).strays()?;
        for id in strays {
            self.clean(id);
        }
        for manifest in self.images.kept()? {
            let working = self.working(&manifest);
            let guard = working.try_lock();
            if guard.is_ok() {
                self.release(&manifest);
            }
        }
        Ok(())
    }

    fn get(&self, name: &str) -> Result<Snapshot> {
        let store = lock(&self.store);
        store
            .get(name)
            .cloned()
            .ok_or_else(|| Fault::not_found(name))
    }

    pub(super) fn image_of(&self, snapshot: &Snapshot) -> crate::Result<Option<StandIn>> {
        let image = snapshot.record.image.as_deref();
        image.map(StandIn::parse).transpose()
    }
}
