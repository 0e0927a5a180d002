// SPDX-License-Identifier: Apache-2.0
//! index.json: which manifests a layout has, and their tags.
//!
//! What is read of it has the types of [`oci_spec`]. It is edited as JSON, so that what others have
//! written into it stays as it is: the types of 0.10 know no fields but those of the specification, of
//! which they read `os.version` and `os.features` under other names; a single entry that is none would
//! be the end of all; and maps come back in another order.

use anyhow::Context;
use oci_spec::image::{self as oci, MediaType, ANNOTATION_REF_NAME};
use puzzlefs_format::{limits, Digest, Manifest, MEDIA_TYPE_MANIFEST};
use serde::Deserialize;
use serde_json::{json, Map, Value};

use crate::base::error::{damage, Error, Result, Where};
use crate::base::text;
use crate::host::dir::Dir;
use crate::layout::lock::Lock;
use crate::layout::manifest::{self, Descriptor, ARTIFACT_TYPE};
use crate::layout::platform::Platform;
use crate::layout::reference::Name;
use crate::layout::Layout;

const INDEX_FILE: &str = "index.json";
/// Annotation of an index entry that holds its tag (OCI image-spec, annotations.md).
const REF_NAME: &str = ANNOTATION_REF_NAME;

/// How many names people are given to choose from.
const MAX_SHOWN: usize = 20;
const NO_ARRAY: &str = "index.json: manifests is no array";

/// An entry of an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it names.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
    /// The media type that it is said to have.
    pub media_type: String,
    /// Its tag.
    pub tag: Option<String>,
    /// What it is for.
    pub platform: Option<Platform>,
}

impl Entry {
    /// # Errors
    ///
    /// If it is no descriptor of a blob with a sha256.
    pub(super) fn of(value: &Value) -> Result<Self> {
        // An optional field that is not as it should be is no reason to find no image.
        let needed = ["mediaType", "digest", "size"].into_iter();
        let needed = needed.filter_map(|name| Some((name.to_owned(), value.get(name)?.clone())));
        let read = oci::Descriptor::deserialize(Value::Object(needed.collect()));
        let read = read.map_err(|e| Error::damaged(format!("no descriptor: {e}")))?;
        let digest = read.digest().as_ref();
        Ok(Entry {
            digest: Digest::parse(digest.as_bytes())
                .map_err(|e| Error::damaged(format!("digest {digest:?}: {e}")))?,
            size: read.size(),
            media_type: read.media_type().to_string(),
            tag: tag_of(value).map(str::to_owned),
            platform: Platform::of(&value["platform"]),
        })
    }

    /// Whether it is an index of others.
    pub fn is_index(&self) -> bool {
        manifest::is_index(&self.media_type)
    }

    fn is_for_this_machine(&self) -> bool {
        let platform = self.platform.as_ref();
        platform.is_some_and(|it| Platform::here().takes(it))
    }
}

/// What a list of entries names, for people to choose from.
fn choices(entries: &[Entry]) -> String {
    let shown = entries.iter().map(|entry| {
        let platform = entry.platform.as_ref();
        let platform = platform.map(|it| format!(" ({})", text::quoted(it.to_string().as_bytes())));
        format!("@sha256:{}{}", entry.digest, platform.unwrap_or_default())
    });
    shown_of(shown, ", ")
}

/// The first of some names, and how many more there are: an index may have a million.
fn shown_of(mut names: impl Iterator<Item = String>, between: &str) -> String {
    let first: Vec<String> = names.by_ref().take(MAX_SHOWN).collect();
    let shown = first.join(between);
    match names.count() {
        0 => shown,
        more => format!("{shown}{between}and {more} more"),
    }
}

/// The entry that counts of several with one name: that of this machine, if they differ.
fn choose(mut entries: Vec<Entry>) -> Result<Entry, Vec<Entry>> {
    let mut seen = std::collections::HashSet::new();
    entries.retain(|entry| seen.insert(entry.digest));
    if let [single] = &entries[..] {
        return Ok(single.clone());
    }
    let mut ours = entries.iter().filter(|entry| entry.is_for_this_machine());
    match (ours.next(), ours.next()) {
        (Some(entry), None) => Ok(entry.clone()),
        _ => Err(entries),
    }
}

impl Layout {
    /// Makes the index.json of a new layout, unless there is one.
    pub(super) fn create_index(lock: &Lock<'_>, root: &Dir) -> Result<()> {
        match root.has(INDEX_FILE)? {
            true => Ok(()),
            false => Ok(lock.replace(INDEX_FILE, &serde_json::to_vec(&no_images())?)?),
        }
    }

    /// The descriptor of the manifest that `name` leads to, if need be through an image index. Where
    /// the layout has a manifest by a pull, but not all that it lists, it is the local one that
    /// stands for it.
    ///
    /// # Errors
    ///
    /// Says what there is in place of that. Whether it is a PuzzleFS image is not looked at.
    pub fn resolve(&self, name: &Name) -> Result<Descriptor> {
        let index = self.index()?.unwrap_or_default();
        let named = named(&index, name)?;
        let dir = self.path.display();
        let entry = match (named.is_empty(), name) {
            (false, _) => choose(named).map_err(|several| {
                let choices = choices(&several);
                Error::refused(format!(
                    "{dir} has several images {name}; name one of {choices}"
                ))
            })?,
            (true, Name::Tag(tag)) => {
                let tags = entries(&index).iter().filter_map(tag_of);
                let tags = shown_of(tags.map(|tag| text::quoted(tag.as_bytes())), " ");
                let text = format!("{dir} has no tag {tag}; it has: {tags}");
                return Err(Error::not_found(text).at(&self.path));
            }
            (true, Name::Digest(digest)) => {
                let size = self.blob_size(digest)?;
                let missing =
                    || Error::not_found(format!("{dir} has no manifest {name}")).of(digest);
                let size = size.ok_or_else(missing)?;
                if let Some(local) = self.stand_in(digest)? {
                    return Ok(local);
                }
                return Ok(Descriptor::new(MEDIA_TYPE_MANIFEST, *digest, size));
            }
        };
        let context = || format!("{name} of {dir} is an image index");
        let entry = match entry.is_index() {
            true => damage(self.resolve_index(&entry).with_context(context)).of(&entry.digest)?,
            false => entry,
        };
        if entry.media_type != MEDIA_TYPE_MANIFEST {
            let text = format!(
                "{name} of {dir} is no OCI image manifest but {:?}",
                entry.media_type
            );
            return Err(Error::trouble(text).of(&entry.digest));
        }
        Ok(Descriptor::new(
            MEDIA_TYPE_MANIFEST,
            entry.digest,
            entry.size,
        ))
    }

    /// The one PuzzleFS image in an image index, or that for this machine.
    fn resolve_index(&self, index: &Entry) -> anyhow::Result<Entry> {
        let mut found = Vec::new();
        for entry in self.listed_by(index)? {
            if self.is_image(&entry)? {
                found.push(entry);
            }
        }
        if found.is_empty() {
            return Err(Error::not_found("no PuzzleFS image is in it").into());
        }
        let ambiguous = |several: Vec<Entry>| {
            let choices = choices(&several);
            Error::refused(format!("it has several images; name one of {choices}")).into()
        };
        choose(found).map_err(ambiguous)
    }

    /// Whether the layout has this manifest, and it is that of a PuzzleFS image.
    fn is_image(&self, entry: &Entry) -> Result<bool> {
        if entry.media_type != MEDIA_TYPE_MANIFEST || !self.names_blob(&entry.digest)? {
            return Ok(false);
        }
        let text = self.read_blob(&entry.digest, limits::MAX_MANIFEST_BYTES as u64)?;
        Ok(Manifest::parse(&text).is_ok())
    }

    /// Lets `tag` name `manifest` from now on, and leaves all other entries as they
    /// are. The change is atomic and durable; concurrent builds wait for each other.
    pub fn set_tag(&self, tag: &str, manifest: &Digest, size: u64) -> Result<()> {
        self.edit(|list| {
            list.retain(|entry| tag_of(entry) != Some(tag));
            list.push(new_entry(manifest, size, tag));
            Ok(())
        })
    }

    /// The same for a blob of another type: the manifest of an ordinary image, or an index.
    pub fn set_tag_as(&self, tag: &str, media_type: &str, blob: &Digest, size: u64) -> Result<()> {
        self.edit(|list| {
            list.retain(|entry| tag_of(entry) != Some(tag));
            list.push(entry_of(media_type, blob, size, tag));
            Ok(())
        })
    }

    /// Whether `tag` names `manifest` already, as [`Self::set_tag`] would have it, and nothing else.
    pub fn has_tag(&self, tag: &str, manifest: &Digest, size: u64) -> Result<bool> {
        let index = self.index()?.unwrap_or_default();
        let mut tagged = entries(&index)
            .iter()
            .filter(|entry| tag_of(entry) == Some(tag));
        let wanted = new_entry(manifest, size, tag);
        Ok(tagged.next() == Some(&wanted) && tagged.next().is_none())
    }

    /// Lets `tag` name what `name` names too. In the one entry of that all else is the same.
    pub fn add_tag(&self, name: &Name, tag: &str) -> Result<()> {
        let unlisted = match name {
            Name::Digest(_) => Some(self.resolve(name)?),
            Name::Tag(_) => None,
        };
        self.edit(|list| {
            let index = json!({ "manifests": list });
            let entry = match choose(named(&index, name)?) {
                Ok(entry) => {
                    let is_it = |value: &&Value| Entry::of(value).is_ok_and(|e| e == entry);
                    let mut value = list.iter().find(is_it).cloned().unwrap_or_default();
                    if !value["annotations"].is_object() {
                        value["annotations"] = Map::new().into();
                    }
                    value["annotations"][REF_NAME] = tag.into();
                    value
                }
                Err(several) => match unlisted {
                    Some(manifest) => new_entry(&manifest.digest, manifest.size, tag),
                    None if several.is_empty() => {
                        return Err(Error::not_found(format!("there is no tag {name}")))
                    }
                    None => {
                        let choices = choices(&several);
                        let text = format!("{name} is several: name one of {choices}");
                        return Err(Error::refused(text));
                    }
                },
            };
            list.retain(|entry| tag_of(entry) != Some(tag));
            list.push(entry);
            Ok(())
        })
    }

    /// index.json without the entries that `name` names, of which it must have one; and their
    /// digests.
    pub(crate) fn without(&self, name: &Name) -> Result<(Value, Vec<Digest>)> {
        let mut index = self.index()?.unwrap_or_else(no_images);
        let list = index["manifests"].as_array_mut();
        let removed = self.take(list.context(NO_ARRAY)?, name)?;
        let digests = removed.iter().flat_map(Entry::of);
        let digests = digests.map(|entry| entry.digest).collect();
        Ok((index, digests))
    }

    /// Takes all entries that `name` names out of index.json, which must have one.
    pub fn remove_tag(&self, name: &Name) -> Result<()> {
        self.edit(|list| self.take(list, name).map(drop))
    }

    /// Takes what `name` names out of `list`, which must have it. What is malformed goes too.
    fn take(&self, list: &mut Vec<Value>, name: &Name) -> Result<Vec<Value>> {
        let is_it = |entry: &Value| is_named(entry, name);
        let is_there = list.iter().any(is_it);
        let stands = |entry: &Value| !is_there && self.stands_for(entry, name);
        let all = std::mem::take(list).into_iter();
        let (taken, rest): (Vec<_>, Vec<_>) = all.partition(|e| is_it(e) || stands(e));
        *list = rest;
        if taken.is_empty() {
            let kind = match name {
                Name::Tag(_) => "tag",
                Name::Digest(_) => "entry",
            };
            let text = format!("{} has no {kind} {name}", self.path.display());
            return Err(Error::not_found(text).at(&self.path));
        }
        Ok(taken)
    }

    /// Lets tags, of which index.json has entries, name other manifests, all at once:
    /// `change` gets an entry's digest and tag, and gives the new digest and size.
    pub fn replace(
        &self,
        change: impl Fn(&Digest, Option<&str>) -> Option<(Digest, u64)>,
    ) -> Result<()> {
        self.edit(|list| {
            for entry in list {
                let digest = entry["digest"].as_str().unwrap_or_default();
                let Ok(digest) = Digest::parse(digest.as_bytes()) else {
                    continue;
                };
                if let Some((digest, size)) = change(&digest, tag_of(entry)) {
                    entry["digest"] = format!("sha256:{digest}").into();
                    entry["size"] = size.into();
                }
            }
            Ok(())
        })
    }

    /// Changes the list of index.json, while nobody else does.
    fn edit(&self, change: impl FnOnce(&mut Vec<Value>) -> Result<()>) -> Result<()> {
        let lock = Lock::new(&self.path, &self.root)?;
        let mut index = self.index()?.unwrap_or_else(no_images);
        let list = index["manifests"].as_array_mut();
        change(list.context(NO_ARRAY)?)?;
        Ok(lock.replace(INDEX_FILE, &serde_json::to_vec(&index)?)?)
    }

    /// Removes what a killed build left of a new index.json; says how many bytes.
    pub fn remove_temporary(&self, dry_run: bool) -> Result<u64> {
        Ok(Lock::new(&self.path, &self.root)?.remove_temporary(dry_run)?)
    }

    /// The manifests that index.json lists, in its order, with their tags if they have any.
    pub fn manifests(&self) -> Result<Vec<(Digest, Option<String>)>> {
        let entries = self.entries()?.into_iter();
        let manifests = entries.filter(|entry| entry.media_type == MEDIA_TYPE_MANIFEST);
        Ok(manifests.map(|entry| (entry.digest, entry.tag)).collect())
    }

    /// The entries of index.json, in its order, without those that are no descriptors of blobs.
    pub fn entries(&self) -> Result<Vec<Entry>> {
        let index = self.index()?.unwrap_or_default();
        Ok(entries(&index).iter().flat_map(Entry::of).collect())
    }

    /// What tells one index.json from the next without reading it: its inode, and its time of modification in seconds
    /// and nanoseconds.
    pub fn index_stamp(&self) -> Option<(u64, i64, i64)> {
        let status = self.root.status(INDEX_FILE).ok()?;
        Some((status.st_ino, status.st_mtime, status.st_mtime_nsec as i64))
    }

    /// index.json, if there is one. Some tools write null where there are no manifests.
    pub fn index(&self) -> Result<Option<Value>> {
        let Some(text) = self.own_file(INDEX_FILE)? else {
            return Ok(None);
        };
        let index = serde_json::from_slice(&text).map_err(Error::damaged);
        let path = self.path.join(INDEX_FILE);
        let mut index: Value = index
            .with_context(|| format!("parsing {}", path.display()))
            .at(&path)?;
        if let Some(list) = index.get_mut("manifests").filter(|list| list.is_null()) {
            *list = json!([]);
        }
        if !index["manifests"].is_array() {
            let text = format!("{}: manifests is no array", path.display());
            return Err(Error::damaged(text).at(&path));
        }
        Ok(Some(index))
    }
}

/// What index.json of a new layout says.
pub(crate) fn no_images() -> Value {
    json!({ "schemaVersion": 2, "mediaType": MediaType::ImageIndex, "manifests": [] })
}

fn new_entry(manifest: &Digest, size: u64, tag: &str) -> Value {
    let mut entry = entry_of(MEDIA_TYPE_MANIFEST, manifest, size, tag);
    entry["artifactType"] = ARTIFACT_TYPE.into();
    entry
}

fn entry_of(media_type: &str, blob: &Digest, size: u64, tag: &str) -> Value {
    json!({
        "mediaType": media_type,
        "digest": format!("sha256:{blob}"),
        "size": size,
        "annotations": { REF_NAME: tag },
    })
}

fn entries(index: &Value) -> &[Value] {
    index["manifests"].as_array().map_or(&[], |list| list)
}

/// The entries that `name` names.
fn named(index: &Value, name: &Name) -> Result<Vec<Entry>> {
    let named = entries(index).iter().filter(|entry| is_named(entry, name));
    let context = || format!("index.json: {name}");
    named
        .map(|entry| Ok(Entry::of(entry).with_context(context)?))
        .collect()
}

pub(super) fn is_named(entry: &Value, name: &Name) -> bool {
    match name {
        Name::Tag(tag) => tag_of(entry) == Some(tag),
        Name::Digest(digest) => Entry::of(entry).is_ok_and(|entry| entry.digest == *digest),
    }
}

fn tag_of(entry: &Value) -> Option<&str> {
    entry["annotations"][REF_NAME].as_str()
}
