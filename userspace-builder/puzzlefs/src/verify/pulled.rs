// SPDX-License-Identifier: Apache-2.0
//! Checking what a pull has kept of the manifest that an image stands for: that its packs are
//! here, or can be put together.

use std::io;
use std::sync::Arc;

use anyhow::{ensure, Context, Result};
use puzzlefs_format::{Digest, Manifest};

use super::report::{Pulled, Report};
use crate::base::digest::Hashing;
use crate::base::progress::{Progress, Unit};
use crate::chunks::compose::{packs_of, Composer};
use crate::image::Image;
use crate::layout::pulled::Record;

/// Checks an image that may stand for another one.
pub(super) fn check(image: &Image, report: &mut Report, progress: &dyn Progress) -> Result<()> {
    let (layout, text) = (image.layout(), image.manifest_bytes());
    let Some(record) = Record::of(text) else {
        return Ok(());
    };
    let manifest = record.manifest;
    let (record, pulled) = match layout.pulled(text) {
        Ok(Some(pulled)) => pulled,
        Ok(None) => {
            report.warnings.push(format!(
                "it says that it stands for the manifest sha256:{manifest}, which is not here, or is \
                 of other files"
            ));
            return Ok(());
        }
        Err(fault) => {
            report.fault(fault);
            return Ok(());
        }
    };
    let composer = match Composer::new(layout, &record, &pulled) {
        Ok(composer) => Arc::new(composer),
        Err(fault) => {
            report.fault(fault);
            return Ok(());
        }
    };
    let mut found = Pulled {
        manifest: manifest.to_string(),
        ..Pulled::default()
    };
    let packs = packs_of(&Manifest::parse(&pulled)?)?;
    let count = u64::try_from(packs.len())?;
    progress.phase("checking what was pulled", count, Unit::Items);
    for (digest, size) in packs {
        progress.advance(1);
        let (chunks, bytes) = composer.missing(&digest);
        if layout.has_blob(&digest, size)? {
            found.packs += 1;
        } else if chunks > 0 {
            found.missing_chunks += chunks;
            found.missing_bytes += bytes;
        } else if let Err(fault) = compose(&composer, &digest) {
            report.fault(fault);
        } else {
            found.composable += 1;
        }
    }
    report.pulled = Some(found);
    Ok(())
}

/// Puts a pack together, for nothing but its digest.
fn compose(composer: &Arc<Composer>, digest: &Digest) -> Result<()> {
    let mut hashing = Hashing::new(io::sink());
    let mut bytes = composer.read(digest, 0..u64::MAX)?;
    io::copy(&mut bytes, &mut hashing)
        .with_context(|| format!("putting the pack sha256:{digest} together"))?;
    let found = hashing.finish().1.digest;
    ensure!(
        found == *digest,
        "what is kept of the pack sha256:{digest} makes sha256:{found}"
    );
    Ok(())
}
