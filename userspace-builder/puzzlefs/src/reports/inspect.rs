// SPDX-License-Identifier: Apache-2.0
//! What an image holds and what it takes to store it.

use std::collections::{BTreeSet, HashMap, HashSet};

use anyhow::{ensure, Context};
use puzzlefs_format::{limits, Digest, Encoding, FileType, Kind};
use roaring::RoaringTreemap;
use serde::Serialize;

use crate::base::error::Result;
use crate::chunks::codec::Codec;
use crate::chunks::places::Slice;
use crate::image::chunk::Key;
use crate::image::walk::{Step, Walk};
use crate::image::Image;
use crate::profile::chunks::listed;

/// The facts of an image.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Digest of the manifest, in hexadecimal.
    pub manifest: String,
    /// Digest of the manifest that it stands for, in hexadecimal: it was pulled, and not all of that is here.
    pub pulled: Option<String>,
    /// Digest of the Rootfs, in hexadecimal.
    pub rootfs: String,
    /// manifestVersion of the Rootfs.
    pub version: u64,
    /// Metadata vectors: one, and one more for each delta build, or one for each layer that was kept.
    pub metadata_layers: u32,
    /// Inodes that each of them has, the uppermost one first; those that it hides among them.
    pub metadata_layer_inodes: Vec<u32>,
    /// Names, that of the root included.
    pub names: u64,
    /// Inodes: names without the further ones of hard links.
    pub inodes: u64,
    /// Regular files.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Character devices, block devices, FIFOs and sockets.
    pub specials: u64,
    /// Bytes of all files: what `before` building was there.
    pub data_bytes: u64,
    /// Bytes of those that are in holes.
    pub hole_bytes: u64,
    /// Parts of chunks that files refer to.
    pub extents: u64,
    /// Distinct chunks.
    pub chunks: u64,
    /// Of those, compressed ones.
    pub compressed_chunks: u64,
    /// Bytes of the distinct chunks, as stored.
    pub stored_bytes: u64,
    /// Bytes of the Rootfs message.
    pub message_bytes: u64,
    /// Chunks that it is in; none if it is in the Rootfs blob itself.
    pub metadata_blocks: u64,
    /// Bytes of the Rootfs, as stored, and of the manifest.
    pub metadata_bytes: u64,
    /// All bytes of the image: what `after` building is there.
    pub image_bytes: u64,
    /// Bytes of all files for each byte of the image.
    pub overall_ratio: f64,
    /// The chunks that it lists as read first, if it has a profile.
    pub profile: Option<Listed>,
    /// What only the chunks themselves say, if all are here.
    #[serde(flatten)]
    pub contents: Option<Contents>,
}

/// What an image lists as read first.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Listed {
    /// Those of the chunks that its files use.
    pub chunks: u64,
    /// Their bytes, as stored.
    pub bytes: u64,
    /// Why the list cannot be read, if it cannot.
    pub fault: Option<String>,
}

impl Listed {
    /// Of an image whose files use `chunks`, with their sizes.
    fn of(
        image: &Image,
        chunks: &BTreeSet<Key>,
        size: impl Fn(&Digest) -> Option<u64>,
    ) -> Option<Self> {
        let list = match listed(image) {
            Ok(list) => list?,
            Err(error) => {
                let fault = Some(format!("{error:#}"));
                return Some(Listed {
                    fault,
                    ..Listed::default()
                });
            }
        };
        let used: HashSet<Digest> = chunks.iter().map(|(digest, _)| *digest).collect();
        let sizes = list.iter().filter(|chunk| used.contains(chunk)).map(size);
        let none = Listed::default();
        Some(sizes.flatten().fold(none, |sum, size| Listed {
            chunks: sum.chunks + 1,
            bytes: sum.bytes.saturating_add(size),
            fault: None,
        }))
    }
}

/// What the contents of an image's chunks say.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Contents {
    /// Compressed chunks that are so by LZ4.
    pub lz4_chunks: u64,
    /// Bytes of the distinct chunks, uncompressed.
    pub chunk_bytes: u64,
    /// Bytes in files (holes aside) for each byte of distinct chunks.
    pub dedup_ratio: f64,
    /// Uncompressed for each stored byte of chunks.
    pub compression_ratio: f64,
}

fn pulled(image: &Image) -> Result<Option<String>> {
    let found = image.layout().pulled(image.manifest_bytes())?;
    Ok(found.map(|(record, _)| record.manifest.to_string()))
}

/// Collects the facts; reads of each chunk only what says its size.
pub fn inspect(image: &Image) -> Result<Report> {
    let (mut report, chunks) = facts(image)?;
    let version = image.rootfs()?.version();
    let places = image.sound_places()?;
    if places.has_lazy() {
        // Of a chunk that is still to be fetched only the stored size is known.
        let sizes = places.table().iter();
        let sizes = sizes.map(|place| (place.digest, u64::from(place.size)));
        let manifest = u64::try_from(image.manifest_bytes().len())?;
        return inspect_metadata(
            image,
            &sizes.collect(),
            &(*image.manifest_digest(), manifest),
        );
    }
    let mut contents = Contents::default();
    let mut blobs = HashSet::new();
    for (digest, compressed) in &chunks {
        let (stored, plain, codec) = sizes(&places.slice(digest)?, *compressed, version)
            .with_context(|| format!("the chunk sha256:{digest}"))?;
        report.chunks += 1;
        report.compressed_chunks += u64::from(*compressed);
        contents.lz4_chunks += u64::from(codec == Codec::Lz4);
        contents.chunk_bytes += plain;
        // A blob may be one file's raw chunk and another's compressed one.
        if blobs.insert(*digest) {
            report.stored_bytes += stored;
        }
    }
    let size = |chunk: &Digest| Some(places.slice(chunk).ok()?.size());
    report.profile = Listed::of(image, &chunks, size);
    for (digest, _) in image.blocks() {
        report.metadata_bytes += places.slice(digest)?.size();
    }
    report.image_bytes = report.metadata_bytes + report.stored_bytes;
    let in_chunks = report.data_bytes - report.hole_bytes;
    contents.dedup_ratio = ratio(in_chunks, contents.chunk_bytes);
    contents.compression_ratio = ratio(contents.chunk_bytes, report.stored_bytes);
    report.contents = Some(contents);
    report.overall_ratio = ratio(report.data_bytes, report.image_bytes);
    Ok(report)
}

/// What the metadata say, and the chunks that files use.
fn facts(image: &Image) -> Result<(Report, BTreeSet<Key>)> {
    let rootfs = image.rootfs()?;
    let mut report = Report {
        manifest: image.manifest_digest().to_string(),
        pulled: pulled(image)?,
        rootfs: image.rootfs_digest().to_string(),
        version: rootfs.version(),
        metadata_layers: rootfs.layers(),
        ..Report::default()
    };
    for layer in 0..rootfs.layers() {
        let inodes = rootfs.vector(layer)?.len();
        report.metadata_layer_inodes.push(inodes);
    }
    let mut seen = RoaringTreemap::new();
    let mut chunks: BTreeSet<Key> = BTreeSet::new();
    let mut walk = Walk::new(image)?;
    while let Some(step) = walk.next()? {
        let Step::Enter(inode) = step else {
            continue;
        };
        report.names += 1;
        if !seen.insert(inode.ino()) {
            continue;
        }
        report.inodes += 1;
        match inode.file_type() {
            FileType::File => report.files += 1,
            FileType::Dir => report.directories += 1,
            FileType::Symlink => report.symlinks += 1,
            _ => report.specials += 1,
        }
        if let Kind::File(extents) = inode.kind()? {
            image
                .work()
                .extents(&extents)
                .with_context(|| walk.name())?;
            for extent in extents.iter() {
                let extent = extent.with_context(|| walk.name())?;
                report.extents += 1;
                report.data_bytes = report.data_bytes.saturating_add(extent.len);
                match extent.chunk {
                    Some(chunk) => drop(chunks.insert((chunk.digest, chunk.compressed))),
                    None => report.hole_bytes = report.hole_bytes.saturating_add(extent.len),
                }
            }
        }
    }
    let manifest = u64::try_from(image.manifest_bytes().len())?;
    report.message_bytes = u64::try_from(image.message_size())?;
    report.metadata_blocks = u64::try_from(image.blocks().len())?;
    report.metadata_bytes = manifest + image.rootfs_size();
    Ok((report, chunks))
}

/// The facts of an image of which only the metadata are here, with the `sizes` of its chunks as they are
/// stored, and the digest and the bytes of the manifest that it has elsewhere. What the contents of chunks say
/// is not there.
pub fn inspect_metadata(
    image: &Image,
    sizes: &HashMap<Digest, u64>,
    manifest: &(Digest, u64),
) -> Result<Report> {
    let (mut report, chunks) = facts(image)?;
    report.manifest = manifest.0.to_string();
    report.metadata_bytes = manifest.1 + image.rootfs_size();
    let size = |digest: &Digest| {
        let size = sizes.get(digest);
        size.with_context(|| format!("no pack has the chunk sha256:{digest}"))
    };
    let mut blobs = HashSet::new();
    for (digest, compressed) in &chunks {
        report.chunks += 1;
        report.compressed_chunks += u64::from(*compressed);
        if blobs.insert(*digest) {
            report.stored_bytes = report.stored_bytes.saturating_add(*size(digest)?);
        }
    }
    report.profile = Listed::of(image, &chunks, |chunk| sizes.get(chunk).copied());
    for (digest, _) in image.blocks() {
        report.metadata_bytes = report.metadata_bytes.saturating_add(*size(digest)?);
    }
    report.image_bytes = report.metadata_bytes.saturating_add(report.stored_bytes);
    report.overall_ratio = ratio(report.data_bytes, report.image_bytes);
    Ok(report)
}

/// Stored and uncompressed size of a chunk of an image of `version`, and what it is stored as.
fn sizes(chunk: &Slice, compressed: bool, version: u64) -> anyhow::Result<(u64, u64, Codec)> {
    let size = chunk.size();
    if !compressed {
        return Ok((size, size, Codec::Raw));
    }
    ensure!(
        size <= limits::MAX_CHUNK_BYTES,
        "{size} bytes are too many for a chunk"
    );
    let mut stored = vec![0; usize::try_from(size)?];
    chunk.read_at(0, &mut stored)?;
    let encoding = Encoding::parse(&stored, version)?;
    let codec = Codec::of(&stored, compressed);
    Ok((size, encoding.decompressed_size(), codec))
}

/// To two decimals; 1 when there is nothing to compare.
fn ratio(before: u64, after: u64) -> f64 {
    if after == 0 {
        return 1.0;
    }
    (before as f64 / after as f64 * 100.0).round() / 100.0
}
