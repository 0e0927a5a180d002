// SPDX-License-Identifier: Apache-2.0
//! Checking metadata: all structure, and the tree that the names make.

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::{ensure, Context, Result};
use puzzlefs_format::{limits, xattr_is_shown, Inode, Kind, Rootfs, Xattr, VERSION_BLOCKS};

use super::report::Report;
use crate::base::text;
use crate::host::xattr;
use crate::image::chunk::Key;
use crate::image::walk::{Step, Walk};
use crate::image::Image;

/// Every inode of every vector, reachable or not, in ascending order.
pub(super) fn vectors(image: &Image, report: &mut Report) -> Result<()> {
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
pub(super) type Uses = BTreeMap<Key, u64>;

/// The tree that the names make, and what files use.
pub(super) fn tree(image: &Image, report: &mut Report, uses: &mut Uses) -> Result<()> {
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
