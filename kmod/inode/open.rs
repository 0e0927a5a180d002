// SPDX-License-Identifier: GPL-2.0

//! Opening regular files.

use super::{data::Node, open_file::OpenFile};
use crate::{
    filling,
    metadata::{Access, ChunkExtent, ExtentMap},
    report::{Failure, Purpose},
    sharing::Sharing,
};
use kernel::{prelude::*, sync::Arc};
use vfs::Fingerprint;

/// Opens a file of `size` bytes, or shares it with those who have it open. None if it is kept from
/// now on. Calls `share` with what it has in it, unless it is a small one, or `is_shared` says that
/// this was done before.
///
/// # Errors
///
/// As of [`ExtentMap::read`], and those of `share`.
pub(crate) fn open(
    node: &Node<'_>,
    size: u64,
    sharing: &Sharing,
    is_shared: bool,
    share: impl FnOnce(&Fingerprint) -> Result,
) -> Result<Option<Arc<OpenFile>>, Failure> {
    if let Some(file) = node.data.opens.lock().share() {
        return Ok(Some(file));
    }
    // Without the lock: opening a blob may wait for a fanotify listener that itself opens
    // this file.
    let (extents, content) = read(node.access, node.ino, size, sharing, is_shared)?;
    let ours = OpenFile::new(extents);
    let mut opens = node.data.opens.lock();
    // What others have found counts: by that they have the page cache that the file has now.
    if node.data.kept().is_some() {
        return Ok(None);
    }
    if let Some(file) = opens.share() {
        return Ok(Some(file));
    }
    // Before anyone can read it by what is kept from here on.
    if let Some(content) = &content {
        share(content)?;
    }
    if ours.is_kept() {
        node.data.keep(KBox::new(ours, GFP_KERNEL_ACCOUNT)?);
        return Ok(None);
    }
    let file = Arc::new(ours, GFP_KERNEL_ACCOUNT)?;
    Ok(Some(opens.begin(file)))
}

/// The extents of inode `ino`, and what the file has in it, if that is of interest.
#[inline(never)]
fn read(
    access: Access<'_>,
    ino: u64,
    size: u64,
    sharing: &Sharing,
    is_shared: bool,
) -> Result<(ExtentMap, Option<Fingerprint>), Failure> {
    let mut content = sharing.of_file(access.metadata.version());
    let mut add = |end, extent: Option<&ChunkExtent>| {
        let chunk = extent.map(|extent| extent.chunk(access.content, Purpose::Inode(ino)));
        let chunk = chunk.transpose()?;
        let offset = extent.map_or(0, |extent| extent.offset);
        content.add(end, chunk.as_ref().map(|chunk| (chunk, offset)));
        Ok(())
    };
    let extents = ExtentMap::read(access, ino, size, &mut add)?;
    if let Some(run) = extents.all() {
        if is_shared || filling::small(&extents).is_some() {
            return Ok((extents, None));
        }
        run.extents()
            .try_for_each(|(end, extent)| add(end, extent))?;
    }
    Ok((extents, Some(content.finish())))
}

/// Undoes one [`open`].
pub(crate) fn release(node: &Node<'_>, file: Arc<OpenFile>) {
    let mut opens = node.data.opens.lock();
    let last = opens.end();
    // Blobs are closed without the lock.
    drop(opens);
    drop((file, last));
}
