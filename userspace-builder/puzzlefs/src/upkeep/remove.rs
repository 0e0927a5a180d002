// SPDX-License-Identifier: Apache-2.0
//! Removing the tag of an image, on a full disk too: there a new index.json has no room, and the
//! index must not be lost. So what the image alone has goes first, as far as the caller wants that.

use std::io::ErrorKind;

use anyhow::Context;

use super::gc;
use crate::base::error::{Error, Result};
use crate::base::progress::Progress;
use crate::layout::reach::Reach;
use crate::layout::reference::Name;
use crate::layout::staging::remove_abandoned;
use crate::layout::Layout;

/// Takes `name` out of index.json; with `collect` also removes what nothing leads to any more.
///
/// On a full disk blobs go first: with `collect` all of those, without it the manifest, unless
/// another entry leads to that. An interruption then leaves an entry whose blobs are gone, which
/// can be removed again, and nothing that others need.
pub fn remove(
    layout: &Layout,
    name: &Name,
    collect: bool,
    progress: &dyn Progress,
) -> Result<Option<gc::Report>> {
    match layout.remove_tag(name) {
        Err(error) if is_full(&error) => {
            let report = make_room(layout, name, collect, progress)?;
            let hint = "the disk is full: index.json is as it was; make room for it, by puzzlefs \
                        rm --gc, which removes the image's blobs first, or puzzlefs gc";
            layout.remove_tag(name).context(hint)?;
            return Ok(report);
        }
        removed => removed?,
    }
    collect.then(|| gc::gc(layout, false, progress)).transpose()
}

/// Removes blobs that are garbage once `name` is removed.
fn make_room(
    layout: &Layout,
    name: &Name,
    collect: bool,
    progress: &dyn Progress,
) -> Result<Option<gc::Report>> {
    let _owned = layout.own_blobs(progress)?;
    let (index, manifests) = layout.without(name)?;
    if collect {
        return gc::collect(layout, &index, false).map(Some);
    }
    remove_abandoned(layout, false);
    let reach = Reach::from(layout, &index)?;
    if layout.owns_blobs()? && reach.faults.is_empty() {
        let unused = manifests.iter().filter(|m| !reach.blobs.contains_key(m));
        for manifest in unused {
            if layout.names_blob(manifest)? {
                layout.remove_blob(manifest)?;
            }
        }
    }
    Ok(None)
}

fn is_full(error: &Error) -> bool {
    matches!(
        error.system(),
        Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
    )
}
