// SPDX-License-Identifier: Apache-2.0
//! Which chunks of an image that is converted are read first.

use std::collections::HashSet;

use anyhow::Result;
use puzzlefs_format::{Digest, MEDIA_TYPE_PROFILE};

use crate::base::error::is_trouble;
use crate::base::progress::Progress;
use crate::chunks::list;
use crate::image::Image;
use crate::layout::manifest::Descriptor;
use crate::layout::staging::Staging;
use crate::profile::chunks::listed;
use crate::profile::Profile;

/// Those that `profile` names, or without one those that the image lists, as far as its files use them.
pub fn first(
    image: &Image,
    profile: Option<&Profile>,
    progress: &dyn Progress,
) -> Result<Vec<Digest>> {
    let named = match profile {
        Some(profile) => {
            let chunks = profile.in_image(image)?;
            if chunks.is_empty() {
                let digest = image.manifest_digest();
                let text = format!("the profile names nothing that the image sha256:{digest} has");
                progress.note(&text);
            }
            return Ok(chunks);
        }
        None => listed(image).map_err(anyhow::Error::from),
    };
    let mut chunks = match named {
        Ok(chunks) => chunks.unwrap_or_default(),
        Err(fault) if is_trouble(&fault) => return Err(fault),
        // It is a hint, and stays what it is.
        Err(fault) => {
            progress.note(&format!("not used: {fault:#}"));
            Vec::new()
        }
    };
    if !chunks.is_empty() {
        let used = image.chunks()?.into_iter().map(|(digest, _)| digest);
        let used: HashSet<Digest> = used.collect();
        chunks.retain(|chunk| used.contains(chunk));
    }
    Ok(chunks)
}

/// Stores the list of an image, if there is anything to list, as the first of its `layers`.
pub fn list(first: &[Digest], staging: &Staging<'_>, layers: &mut Vec<Descriptor>) -> Result<()> {
    if !first.is_empty() {
        let list = list::to_bytes(first);
        let blob = staging.put_with(|out| Ok(out.write_all(&list)?))?;
        layers.insert(
            0,
            Descriptor::new(MEDIA_TYPE_PROFILE, blob.digest, blob.size),
        );
    }
    Ok(())
}
