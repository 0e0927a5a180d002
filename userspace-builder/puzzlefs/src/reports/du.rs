// SPDX-License-Identifier: Apache-2.0
//! What the images of a layout take: each by itself, what they share, and what none uses.

use std::collections::hash_map::{Entry, HashMap};
use std::collections::{BTreeMap, HashSet};

use puzzlefs_format::{Digest, MEDIA_TYPE_MANIFEST};
use serde::Serialize;

use crate::base::error::Result;
use crate::image::chunk::Key;
use crate::image::Image;
use crate::layout::broken::Broken;
use crate::layout::pulled::Record;
use crate::layout::reach::Reach;
use crate::layout::Layout;

/// Chunks, and their bytes as stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Amount {
    /// How many.
    pub chunks: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Amount {
    fn add(&mut self, bytes: u64) {
        self.chunks += 1;
        self.bytes += bytes;
    }
}

/// What an image takes.
#[derive(Clone, Debug, Serialize)]
pub struct Usage {
    /// Digest of its manifest, in hexadecimal.
    pub manifest: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// Chunks that no other image of the layout uses.
    pub own: Amount,
    /// Chunks that others use too.
    pub shared: Amount,
    /// Bytes of its Rootfs, blocks of that among them, manifest and configuration.
    pub metadata_bytes: u64,
    /// All that is needed of the layout to read it.
    pub total_bytes: u64,
}

/// What a layout holds. The parts add up to the total.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Its PuzzleFS images.
    pub images: Vec<Usage>,
    /// Images that could not be used. Their bytes count as other ones.
    #[serde(flatten)]
    pub faults: Broken,
    /// The chunks that their files use, each counted once.
    pub chunks: Amount,
    /// Bytes of their Rootfs blobs, blocks of those, manifests and configurations.
    pub metadata_bytes: u64,
    /// Bytes beside those that `puzzlefs repack` gets rid of: second copies of chunks, and what
    /// packs have that no image uses; and the indexes of packs.
    pub surplus_bytes: u64,
    /// Bytes of what else index.json leads to, such as ordinary images.
    pub other_bytes: u64,
    /// Bytes of blobs that nothing leads to (`puzzlefs gc` removes them).
    pub garbage_bytes: u64,
    /// Bytes of all blobs.
    pub total_bytes: u64,
}

/// A chunk and who uses it.
struct Chunk {
    bytes: u64,
    loose: bool,
    /// It is a block of an image's metadata.
    metadata: bool,
    /// The only image that does, by its index, as long as there is only one.
    only: Option<usize>,
}

/// Collects what all images take.
pub fn du(layout: &Layout) -> Result<Report> {
    let mut report = Report::default();
    let reach = Reach::of(layout)?;
    let sizes: HashMap<Digest, u64> = layout.blobs()?.into_iter().collect();
    let mut tags: BTreeMap<Digest, Vec<String>> = BTreeMap::new();
    for (manifest, tag) in layout.manifests()? {
        tags.entry(manifest).or_default().extend(tag);
    }
    let mut chunks: HashMap<Digest, Chunk> = HashMap::new();
    let (mut metadata, mut packs) = (HashSet::new(), HashSet::new());
    let listed = layout
        .manifests()?
        .into_iter()
        .map(|(manifest, _)| manifest);
    let mut seen = HashSet::new();
    // Those of nested indexes too.
    for manifest in listed.chain(reach.with_type(MEDIA_TYPE_MANIFEST)) {
        if !seen.insert(manifest) {
            continue;
        }
        // A layout need not have all that an index lists.
        if !layout.names_blob(&manifest)? {
            continue;
        }
        let image = match Needs::of(layout, &manifest) {
            Ok(Some(image)) => image,
            Ok(None) => continue,
            Err(fault) => {
                let fault = fault.context(format!("the image sha256:{manifest}"));
                report.faults.push(fault);
                continue;
            }
        };
        let blobs = image.documents.iter();
        let blobs: u64 = blobs.filter_map(|digest| sizes.get(digest)).sum();
        metadata.extend(image.documents);
        packs.extend(image.packs);
        let number = report.images.len();
        let usage = count(&image.files, &mut chunks, number, false);
        let metadata_bytes = blobs + count(&image.blocks, &mut chunks, number, true).bytes;
        report.images.push(Usage {
            manifest: manifest.to_string(),
            tags: tags.remove(&manifest).unwrap_or_default(),
            own: Amount::default(),
            shared: usage,
            metadata_bytes,
            total_bytes: usage.bytes + metadata_bytes,
        });
    }
    for fault in reach.faults {
        if !report.faults.has(&fault) {
            report.faults.push(fault);
        }
    }
    let mut packed = 0;
    for chunk in chunks.values() {
        if chunk.metadata {
            report.metadata_bytes += chunk.bytes;
        } else {
            report.chunks.add(chunk.bytes);
            if let Some(image) = chunk.only {
                report.images[image].own.add(chunk.bytes);
            }
        }
        packed += if chunk.loose { 0 } else { chunk.bytes };
    }
    for image in &mut report.images {
        image.shared.chunks -= image.own.chunks;
        image.shared.bytes -= image.own.bytes;
    }
    for (digest, bytes) in &sizes {
        report.total_bytes += bytes;
        if metadata.contains(digest) {
            report.metadata_bytes += bytes;
        } else if chunks.get(digest).is_some_and(|chunk| chunk.loose) {
            // Counted above.
        } else if !reach.blobs.contains_key(digest) {
            report.garbage_bytes += bytes;
        } else if packs.contains(digest) || chunks.contains_key(digest) {
            report.surplus_bytes += bytes;
        } else {
            report.other_bytes += bytes;
        }
    }
    // An index may say that chunks overlap.
    report.surplus_bytes = report.surplus_bytes.saturating_sub(packed);
    Ok(report)
}

/// A chunk that an image needs, its bytes, and whether it is loose.
type Need = (Digest, u64, bool);

/// What an image needs of its layout.
struct Needs {
    /// Rootfs, manifest and configuration.
    documents: Vec<Digest>,
    packs: Vec<Digest>,
    files: Vec<Need>,
    blocks: Vec<Need>,
}

impl Needs {
    /// All of it, or why the image cannot be read; `None` if it is no PuzzleFS image.
    fn of(layout: &Layout, manifest: &Digest) -> Result<Option<Self>> {
        let Some(image) = Image::with_manifest(layout, manifest)? else {
            return Ok(None);
        };
        let mut documents = vec![*manifest, *image.rootfs_digest()];
        documents.extend(image.manifest()?.config().map(|config| config.digest));
        if let Some(record) = Record::of(image.manifest_bytes()) {
            documents.extend([record.manifest, record.indexes]);
        }
        let places = image.sound_places()?;
        let need = |(digest, _): &Key| {
            let is_loose = places.of(digest).is_empty();
            anyhow::Ok((*digest, places.slice(digest)?.size(), is_loose))
        };
        let needs = |keys: &[Key]| keys.iter().map(need).collect::<anyhow::Result<Vec<Need>>>();
        Ok(Some(Needs {
            documents,
            packs: places.packs().iter().map(|pack| pack.digest).collect(),
            files: needs(&image.chunks()?)?,
            blocks: needs(image.blocks())?,
        }))
    }
}

/// Adds up what the image with this number needs, and notes who uses it.
fn count(
    needs: &[Need],
    chunks: &mut HashMap<Digest, Chunk>,
    image: usize,
    metadata: bool,
) -> Amount {
    let (mut amount, mut seen) = (Amount::default(), HashSet::new());
    for (digest, bytes, loose) in needs {
        // A blob may be one file's raw chunk and another's compressed one.
        if !seen.insert(digest) {
            continue;
        }
        let bytes = match chunks.entry(*digest) {
            Entry::Occupied(mut known) => {
                known.get_mut().only = None;
                known.get().bytes
            }
            Entry::Vacant(free) => {
                let chunk = Chunk {
                    bytes: *bytes,
                    loose: *loose,
                    metadata,
                    only: Some(image),
                };
                free.insert(chunk).bytes
            }
        };
        amount.add(bytes);
    }
    amount
}
