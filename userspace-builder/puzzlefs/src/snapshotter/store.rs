// SPDX-License-Identifier: Apache-2.0
//! The snapshots that there are, in memory and on the disk.
//!
//! Each has a directory below `snapshots`, called by a number, with its record in `info.json`. The record is the snapshot: it is
//! written last of all when one is made, replaced as a whole when one changes, and goes first when one is removed. What has no
//! record is left over from a crash.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::record::Record;
use crate::base::text;

const INFO: &str = "info.json";
const NEW: &str = "info.json.new";
/// Bytes of a record, at most: a message of gRPC has no more.
const MAX_RECORD: u64 = 16 << 20;

/// A snapshot, and the number of its directory.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub id: u64,
    pub record: Record,
}

/// All snapshots.
pub(crate) struct Store {
    dir: PathBuf,
    all: BTreeMap<String, Snapshot>,
    /// Numbers of directories that are being made or removed.
    busy: BTreeSet<u64>,
    next: u64,
}

impl Store {
    /// Opens the one in `root`, which is made if need be. What cannot be read is said, and stays.
    pub fn open(root: &Path, say: impl Fn(String)) -> Result<Self> {
        let dir = root.join("snapshots");
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&dir);
        made.with_context(|| text::path(&dir))?;
        let mut store = Store {
            dir,
            all: BTreeMap::new(),
            busy: BTreeSet::new(),
            next: 1,
        };
        for id in store.ids()? {
            store.next = store.next.max(id + 1);
            let record = match store.read(id) {
                Ok(None) => continue,
                Ok(Some(record)) => record,
                Err(error) => {
                    say(format!("snapshot {id} is left alone: {error:#}"));
                    store.busy.insert(id);
                    continue;
                }
            };
            let name = record.name.clone();
            if let Some(other) = store.all.insert(name, Snapshot { id, record }) {
                let (name, other) = (text::quoted(other.record.name.as_bytes()), other.id);
                say(format!("snapshots {other} and {id} are both {name}"));
                store.busy.insert(other);
            }
        }
        Ok(store)
    }

    /// The numbers of all directories.
    fn ids(&self) -> Result<Vec<u64>> {
        let mut ids = Vec::new();
        for entry in fs::read_dir(&self.dir).with_context(|| text::path(&self.dir))? {
            let name = entry?.file_name();
            let id = name.to_str().and_then(|name| name.parse().ok());
            ids.extend(id.filter(|id: &u64| id.to_string().as_str() == name));
        }
        Ok(ids)
    }

    /// The directory with this number.
    pub fn dir(&self, id: u64) -> PathBuf {
        self.dir.join(id.to_string())
    }

    pub fn get(&self, name: &str) -> Option<&Snapshot> {
        self.all.get(name)
    }

    pub fn all(&self) -> impl Iterator<Item = &Snapshot> {
        self.all.values()
    }

    /// Whether this very snapshot is still there.
    pub fn has(&self, snapshot: &Snapshot) -> bool {
        let found = self.all.get(&snapshot.record.name);
        found.is_some_and(|found| found.id == snapshot.id)
    }

    pub fn has_children(&self, name: &str) -> bool {
        self.all().any(|it| it.record.parent == name)
    }

    /// A snapshot and what it is made of, from the top down.
    pub fn chain(&self, name: &str) -> Option<Vec<Snapshot>> {
        let (mut chain, mut name) = (Vec::new(), name);
        // Of a chain that led back, which nobody can make, there would be no end.
        while !name.is_empty() && chain.len() <= self.all.len() {
            let found = self.all.get(name)?;
            chain.push(found.clone());
            name = &found.record.parent;
        }
        Some(chain)
    }

    /// The number of a new directory, which nobody removes until it has a record or [`Store::done`] says so.
    pub fn reserve(&mut self) -> u64 {
        let id = self.next;
        self.next += 1;
        self.busy.insert(id);
        id
    }

    /// Nobody works with this directory any more.
    pub fn done(&mut self, id: u64) {
        self.busy.remove(&id);
    }

    /// Directories without a record that nobody works with. They are busy from now on.
    pub fn strays(&mut self) -> Result<Vec<u64>> {
        let known: BTreeSet<u64> = self.all().map(|it| it.id).collect();
        let mut strays = self.ids()?;
        strays.retain(|id| !known.contains(id) && self.busy.insert(*id));
        Ok(strays)
    }

    fn read(&self, id: u64) -> Result<Option<Record>> {
        let path = self.dir(id).join(INFO);
        let file = match File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            file => file.with_context(|| text::path(&path))?,
        };
        let mut content = Vec::new();
        file.take(MAX_RECORD).read_to_end(&mut content)?;
        let record = serde_json::from_slice(&content);
        record.with_context(|| text::path(&path))
    }

    /// Has `record` be that of the directory `id`, whatever it was called before: on the disk when this returns.
    pub fn put(&mut self, id: u64, record: Record) -> Result<Snapshot> {
        let dir = self.dir(id);
        let content = serde_json::to_vec(&record)?;
        write(&dir, &content).with_context(|| text::path(&dir))?;
        // So that the directory itself is not lost.
        sync(&self.dir)?;
        let snapshot = Snapshot { id, record };
        self.all.retain(|_, it| it.id != id);
        self.busy.remove(&id);
        let name = snapshot.record.name.clone();
        self.all.insert(name, snapshot.clone());
        Ok(snapshot)
    }

    /// Takes a snapshot away, for good when this returns. Its directory is busy from now on.
    pub fn take(&mut self, name: &str) -> Result<Option<Snapshot>> {
        let Some(snapshot) = self.all.get(name) else {
            return Ok(None);
        };
        let dir = self.dir(snapshot.id);
        match fs::remove_file(dir.join(INFO)) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| text::path(&dir));
            }
            _ => {}
        }
        sync(&dir)?;
        self.busy.insert(snapshot.id);
        Ok(self.all.remove(name))
    }
}

fn write(dir: &Path, content: &[u8]) -> std::io::Result<()> {
    let path = dir.join(NEW);
    let create = || {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600).open(&path)
    };
    let mut file = match create() {
        // Of a crash.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            fs::remove_file(&path)?;
            create()?
        }
        file => file?,
    };
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&path, dir.join(INFO))?;
    File::open(dir)?.sync_all()
}

fn sync(dir: &Path) -> Result<()> {
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    synced.with_context(|| text::path(dir))
}
