// SPDX-License-Identifier: Apache-2.0
//! Checking an image: every digest, all structure, every byte that a file refers to.

mod packs;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{ensure, Context, Result};
use puzzlefs_format::{
    limits, xattr_is_shown, Digest, Inode, Kind, Rootfs, Xattr, MEDIA_TYPE_PACK, VERSION_BLOCKS,
};
use serde::Serialize;

use crate::base::progress::{Progress, Unit};
use crate::base::{text, verity};
use crate::chunks::places::Places;
use crate::host::xattr;
use crate::image::chunk::{ChunkReader, Key};
use crate::image::walk::{Step, Walk};
use crate::image::Image;

/// What a check found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Digest of the manifest, in hexadecimal.
    pub manifest: String,
    /// Inodes that names lead to.
    pub inodes: u64,
    /// Distinct chunks that files use.
    pub chunks: u64,
    /// Bytes of files.
    pub data_bytes: u64,
    /// Packs.
    pub packs: u64,
    /// Bytes of chunks in them that this image does not use.
    pub unused_bytes: u64,
    /// What is wrong with the image. None: it can be trusted.
    pub errors: Vec<String>,
    /// What is odd but harmless to readers, such as the deviations of upstream's builder.
    pub warnings: Vec<String>,
}

/// Checks an image that could be opened, which has checked manifest and Rootfs
/// against their digests.
pub fn verify(image: &Image, progress: &dyn Progress) -> Result<Report> {
    let mut report = Report {
        manifest: image.manifest_digest().to_string(),
        ..Report::default()
    };
    progress.phase("checking metadata", 0, Unit::Items);
    let rootfs = image.rootfs()?;
    let mut uses = BTreeMap::new();
    let result = vectors(image, &mut report);
    report.errors.extend(result.err().map(|e| format!("{e:#}")));
    let result = tree(image, &mut report, &mut uses);
    report.errors.extend(result.err().map(|e| format!("{e:#}")));
    let (places, faults) = image.places()?;
    let faults = faults.into_iter();
    report
        .errors
        .extend(faults.map(|fault| format!("{fault:#}")));
    // Opening the image has checked the blocks of its metadata.
    let used = uses.keys().chain(image.blocks());
    let used: HashSet<Digest> = used.map(|(digest, _)| *digest).collect();
    packs::check(image, &places, &used, &mut report, progress)?;
    blobs(image, &places, &used, &mut report)?;
    let verity = verity_data(&rootfs)?;
    progress.phase("checking chunks", u64::try_from(uses.len())?, Unit::Items);
    report.chunks = u64::try_from(uses.len())?;
    let mut unmeasured = 0u64;
    for fault in chunks(&places, rootfs.version(), &uses, &verity, progress)? {
        match fault {
            Fault::Damaged(text) => report.errors.push(text),
            Fault::Verity => unmeasured += 1,
        }
    }
    if unmeasured > 0 {
        report.warnings.push(format!(
            "{unmeasured} chunks have another fs-verity digest than the Rootfs says (upstream's \
             builder takes that of the compressed form even where it stores the raw one)"
        ));
    }
    Ok(report)
}

/// Every inode of every vector, reachable or not, in ascending order.
fn vectors(image: &Image, report: &mut Report) -> Result<()> {
    let rootfs = image.rootfs()?;
    let mut hidden = 0u64;
    for layer in 0..rootfs.layers() {
        let vector = rootfs.vector(layer)?;
        image.work().inodes(vector.len())?;
        let mut last = 0;
        for index in 0..vector.len() {
            let ino = vector.ino(index)?;
            ensure!(ino != 0, "layer {layer}: an inode has the number 0");
            // Upstream's deltas repeat a number: FORMAT.md, whiteouts. Where readers may take
            // any of those, the image says two things.
            let is_repeated = ino == last && layer == 0 && rootfs.version() >= VERSION_BLOCKS;
            ensure!(
                ino >= last && !is_repeated,
                "layer {layer}: inode {ino} comes after inode {last}"
            );
            last = ino;
            let Some(inode) = vector.get(index).with_context(|| format!("inode {ino}"))? else {
                continue;
            };
            let context = || format!("layer {layer}, inode {ino}");
            hidden += content(image, &inode).with_context(context)?;
        }
    }
    if hidden > 0 {
        report.warnings.push(format!(
            "{hidden} extended attributes are not shown: they are of a kind that readers leave out"
        ));
    }
    Ok(())
}

/// All that an inode says. Returns how many extended attributes of it readers leave out.
fn content(image: &Image, inode: &Inode<'_>) -> Result<u64> {
    let xattrs = inode.xattrs()?;
    image.work().xattrs(&xattrs)?;
    let mut names = HashSet::new();
    let mut hidden = 0;
    for index in 0..xattrs.len() {
        let Xattr { name, value } = xattrs.get(index)?;
        ensure!(
            names.insert(name),
            "the extended attribute {} comes twice",
            text::quoted(name)
        );
        let is_shown = xattr_is_shown(name, inode.file_type());
        ensure!(
            !is_shown || xattr::has_form(name, value),
            "the extended attribute {} has a value that Linux does not take",
            text::quoted(name)
        );
        hidden += u64::from(!is_shown);
    }
    match inode.kind()? {
        Kind::File(extents) => {
            image.work().extents(&extents)?;
            extents.total()?;
        }
        Kind::Dir(dir) => {
            image.work().entries(&dir)?;
            (0..dir.len()).try_for_each(|index| dir.entry(index).map(drop))?;
        }
        Kind::Symlink(_) | Kind::Chr(_) | Kind::Blk(_) | Kind::Fifo | Kind::Sock => {}
    }
    Ok(hidden)
}

/// For each chunk the last byte that a file uses of it, and how many bytes files use.
type Uses = BTreeMap<Key, u64>;

/// The tree that the names make, and what files use.
fn tree(image: &Image, report: &mut Report, uses: &mut Uses) -> Result<()> {
    let rootfs = &image.rootfs()?;
    // Names of each inode that is no directory, and what it says of them.
    let mut links: HashMap<u64, (u32, Option<u32>)> = HashMap::new();
    // Directories from the root down: their number, and how many are in each.
    let mut stack: Vec<(u64, u32)> = Vec::new();
    let (mut odd, mut misplaced, mut secret_holes, mut unsorted) = (0u64, 0u64, 0u64, 0u64);
    let mut directories = 0u64;
    let mut walk = Walk::new(image)?;
    while let Some(step) = walk.next()? {
        let inode = match step {
            Step::Leave(inode) => {
                let subdirs = stack.pop().map_or(0, |(_, subdirs)| subdirs);
                let nlink = inode.nlink();
                odd += u64::from(nlink.is_some_and(|n| n != subdirs.saturating_add(2)));
                continue;
            }
            Step::Enter(inode) => inode,
        };
        if let Kind::Dir(dir) = inode.kind()? {
            directories += 1;
            let above = stack.last_mut().map(|(parent, subdirs)| {
                *subdirs += 1;
                *parent
            });
            let parent = above.unwrap_or(inode.ino());
            misplaced += u64::from(inode.parent().is_some_and(|p| u64::from(p) != parent));
            stack.push((inode.ino(), 0));
            image.work().entries(&dir).with_context(|| walk.name())?;
            if !dir.is_sorted()? {
                unsorted += u64::from(dir.says_sorted());
                names(rootfs, &dir).with_context(|| walk.name())?;
            }
            continue;
        }
        let link = links.entry(inode.ino()).or_insert((0, inode.nlink()));
        link.0 += 1;
        if let (1, Kind::File(extents)) = (link.0, inode.kind()?) {
            image
                .work()
                .extents(&extents)
                .with_context(|| walk.name())?;
            report.data_bytes = report.data_bytes.saturating_add(extents.total()?);
            secret_holes += u64::from(extents.holes()? > 0 && !inode.may_have_holes());
            for extent in extents.iter() {
                let extent = extent?;
                if let Some(chunk) = extent.chunk {
                    let end = uses.entry((chunk.digest, chunk.compressed)).or_default();
                    *end = (*end).max(chunk.offset + extent.len);
                }
            }
        }
    }
    odd += links
        .values()
        .filter(|(names, nlink)| nlink.is_some_and(|n| n != *names))
        .count() as u64;
    if odd > 0 {
        report.warnings.push(format!(
            "{odd} inodes have another number of links than they say"
        ));
    }
    if misplaced > 0 {
        report.warnings.push(format!(
            "{misplaced} directories are in another directory than they say"
        ));
    }
    if unsorted > 0 {
        report.errors.push(format!(
            "{unsorted} directories say that they are sorted and are not: names are not found"
        ));
    }
    if secret_holes > 0 {
        report
            .warnings
            .push(format!("{secret_holes} files have holes and do not say so"));
    }
    report.inodes = directories + u64::try_from(links.len())?;
    let recorded = (rootfs.inode_count()?, rootfs.data_size());
    // Upstream records neither; inode_count() then counts the vectors.
    if recorded.1 != 0 && recorded != (report.inodes, report.data_bytes) {
        report.warnings.push(format!(
            "the Rootfs says {} inodes with {} bytes, but has {} with {}",
            recorded.0, recorded.1, report.inodes, report.data_bytes
        ));
    }
    Ok(())
}

/// No two live entries of a directory that is not sorted have the same name, and a mount looks at
/// all of them, and of each name at all before the one that counts.
fn names(rootfs: &Rootfs<'_>, dir: &puzzlefs_format::Dir<'_>) -> Result<()> {
    ensure!(
        dir.len() <= limits::MAX_UNSORTED_ENTRIES,
        "{} entries are not sorted, and no names are looked up in so many",
        dir.len()
    );
    let mut seen = HashSet::new();
    let mut removed: HashMap<&[u8], u32> = HashMap::new();
    let mut live = rootfs.live_entries(dir);
    for index in 0..dir.len() {
        if let Some((entry, _)) = live.get(index)? {
            ensure!(
                seen.insert(entry.name),
                "the name {} comes twice",
                text::quoted(entry.name)
            );
            continue;
        }
        let name = dir.entry(index)?.name;
        let count = removed.entry(name).or_default();
        *count += u32::from(!seen.contains(name));
        ensure!(
            *count <= limits::MAX_REMOVED_ENTRIES,
            "the name {} has too many entries whose inodes are removed",
            text::quoted(name)
        );
    }
    Ok(())
}

/// The manifest's descriptors against the blobs, and against what files use.
fn blobs(
    image: &Image,
    places: &Places<'_>,
    used: &HashSet<Digest>,
    report: &mut Report,
) -> Result<()> {
    let manifest = image.manifest()?;
    if let Some(config) = manifest.config() {
        let limit = u64::try_from(limits::MAX_MANIFEST_BYTES)?;
        report.errors.extend(
            image
                .layout()
                .read_blob(&config.digest, limit)
                .err()
                .map(|e| format!("config: {e:#}")),
        );
    }
    let mut listed = HashSet::new();
    let mut wrong_sizes = 0u64;
    for layer in manifest.layers() {
        let layer = layer?;
        if !listed.insert(layer.digest) {
            continue;
        }
        let stored = std::fs::metadata(image.layout().blob_path(&layer.digest)).map(|m| m.len());
        let is_size_wrong = stored.as_ref().is_ok_and(|&size| size != layer.size);
        wrong_sizes += u64::from(is_size_wrong);
        if is_size_wrong && layer.media_type == MEDIA_TYPE_PACK {
            report.errors.push(format!(
                "pack sha256:{}: the manifest gives it another size than it has, so it may not be \
                 mounted",
                layer.digest
            ));
        }
        // Chunks in use are read below, packs have been; the rest must be there too, or a copy
        // fails.
        if !used.contains(&layer.digest)
            && layer.digest != *image.rootfs_digest()
            && layer.media_type != MEDIA_TYPE_PACK
        {
            // It may be of any size.
            let path = image.layout().blob_path(&layer.digest);
            let sound = match &stored {
                Ok(size) => image.layout().has_blob(&layer.digest, *size),
                Err(_) => Ok(false),
            };
            if !sound.unwrap_or(false) {
                report.errors.push(format!(
                    "unused layer: the blob sha256:{} is missing or damaged; delete {} and copy \
                     or build the image again",
                    layer.digest,
                    path.display()
                ));
            }
        }
    }
    if wrong_sizes > 0 {
        report.warnings.push(format!(
            "{wrong_sizes} layers have another size than the manifest says (as upstream's builder writes); registries will refuse them"
        ));
    }
    let missing = used
        .difference(&listed)
        .filter(|chunk| places.of(chunk).is_empty())
        .count();
    if missing > 0 {
        report.warnings.push(format!(
            "{missing} chunks are not listed in the manifest (as in upstream's deltas); tools that copy images will leave them behind"
        ));
    }
    Ok(())
}

type Verity = HashMap<Digest, [u8; 32]>;

fn verity_data(rootfs: &Rootfs<'_>) -> Result<Verity> {
    let data = rootfs.verity_data()?;
    (0..data.len())
        .map(|index| {
            data.get(index)
                .map(|d| (d.chunk, d.verity))
                .context("fsVerityData")
        })
        .collect()
}

/// What is wrong with a chunk.
enum Fault {
    Damaged(String),
    /// Only the recorded fs-verity digest: the content has been proved by its sha256.
    Verity,
}

/// Reads, hashes and decodes all chunks, on all processors. Returns what is wrong, in
/// order of the digests.
fn chunks(
    places: &Places<'_>,
    version: u64,
    uses: &Uses,
    verity: &Verity,
    progress: &dyn Progress,
) -> Result<Vec<Fault>> {
    let list: Vec<(&Key, &u64)> = uses.iter().collect();
    let next = AtomicUsize::new(0);
    let faults = Mutex::new(BTreeMap::new());
    let workers = thread::available_parallelism()
        .map_or(1, NonZero::get)
        .min(8);
    let check = || -> Result<()> {
        let mut reader = ChunkReader::new(places, version)?;
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some((key, end)) = list.get(index) else {
                return Ok(());
            };
            let fault = match chunk(&mut reader, key, **end, verity) {
                Ok(true) => None,
                Ok(false) => Some(Fault::Verity),
                Err(error) => Some(Fault::Damaged(format!("{error:#}"))),
            };
            if let Some(fault) = fault {
                faults
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert(index, fault);
            }
            progress.advance(1);
        }
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(check)).collect();
        threads.into_iter().try_for_each(|t| {
            t.join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    })?;
    let faults = faults.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(faults.into_values().collect())
}

/// Checks a chunk; whether its fs-verity digest is as recorded, if one is.
fn chunk(
    reader: &mut ChunkReader<'_>,
    (digest, compressed): &Key,
    end: u64,
    verity: &Verity,
) -> Result<bool> {
    let stored = reader.stored(digest)?;
    let measured = verity
        .get(digest)
        .is_none_or(|expected| verity::measure(&stored) == *expected);
    let content = reader.decode(digest, *compressed, stored)?;
    ensure!(
        u64::try_from(content.len())? >= end,
        "the chunk sha256:{digest} has {} bytes, but files use {end}",
        content.len()
    );
    Ok(measured)
}
