// SPDX-License-Identifier: Apache-2.0
//! Which chunks of an image a profile means, and which parts of files chunks are.

use std::collections::{HashMap, HashSet};
use std::os::unix::ffi::OsStrExt;

use anyhow::Context;
use puzzlefs_format::{Digest, FileType, Kind};

use super::{Part, Profile, Run, MAX_PARTS};
use crate::base::error::{Error, Result};
use crate::chunks::list;
use crate::image::walk::{Step, Walk};
use crate::image::Image;

/// Files that are named for a chunk, at most.
const MAX_FILES: usize = 256;

/// The chunks that an image lists as those that are read first, if it does. They may be anything.
///
/// # Errors
///
/// If the list cannot be read.
pub fn listed(image: &Image) -> Result<Option<Vec<Digest>>> {
    list::of_manifest(image.layout(), image.manifest_bytes())
}

impl Profile {
    /// What an image says of itself.
    ///
    /// # Errors
    ///
    /// If it has no profile, or one that cannot be read.
    pub fn of_image(image: &Image) -> Result<Self> {
        let digest = image.manifest_digest();
        let none = || Error::not_found(format!("the image sha256:{digest} has no profile"));
        Self::of_chunks(image, &listed(image)?.ok_or_else(none)?, None)
    }

    /// The chunks of an image that it means, in its order.
    pub fn in_image(&self, image: &Image) -> Result<Vec<Digest>> {
        self.order(|path| runs(image, path))
    }

    /// The parts of files that `chunks` of an image are, in their order. If it is known which files were `opened`, of a
    /// chunk that has parts of several only those are named; of one that has none of these, all are.
    pub fn of_chunks(
        image: &Image,
        chunks: &[Digest],
        opened: Option<&HashSet<Vec<u8>>>,
    ) -> Result<Self> {
        let mut parts: HashMap<Digest, Vec<Part>> = HashMap::new();
        parts.extend(chunks.iter().map(|chunk| (*chunk, Vec::new())));
        let mut walk = Walk::new(image)?;
        while let Some(step) = walk.next()? {
            let Step::Enter(inode) = step else {
                continue;
            };
            let Kind::File(extents) = inode.kind()? else {
                continue;
            };
            image
                .work()
                .extents(&extents)
                .with_context(|| walk.name())?;
            let mut at = 0u64;
            for extent in extents.iter() {
                let extent = extent.with_context(|| walk.name())?;
                let end = at.saturating_add(extent.len);
                let found = extent.chunk.and_then(|chunk| parts.get_mut(&chunk.digest));
                if let Some(found) = found {
                    let path = walk.full_path().as_os_str().as_bytes().to_vec();
                    let is_opened = opened.is_some_and(|opened| opened.contains(&path));
                    // Those that were opened are never too many.
                    if found.len() < MAX_FILES || is_opened {
                        found.push(Part {
                            path,
                            range: at..end,
                        });
                    }
                }
                at = end;
            }
        }
        let mut profile = Profile::default();
        for chunk in chunks {
            let mut found = parts.remove(chunk).unwrap_or_default();
            let is_opened = |part: &Part| opened.is_some_and(|opened| opened.contains(&part.path));
            if found.iter().any(is_opened) {
                found.retain(is_opened);
            }
            profile.parts.extend(found);
        }
        profile.parts.truncate(MAX_PARTS);
        Ok(profile)
    }
}

/// All of a file of an image, if there is such a file.
fn runs(image: &Image, path: &[u8]) -> Result<Option<Vec<Run>>> {
    let inode = match image.lookup(path) {
        Err(Error::NotFound(_)) => return Ok(None),
        inode => inode?,
    };
    if inode.file_type() != FileType::File {
        return Ok(None);
    }
    let Kind::File(extents) = inode.kind()? else {
        return Ok(None);
    };
    image.work().extents(&extents)?;
    let runs = extents.iter().map(|extent| {
        let extent = extent?;
        Ok((extent.len, extent.chunk.map(|chunk| chunk.digest)))
    });
    Ok(Some(runs.collect::<Result<_>>()?))
}
