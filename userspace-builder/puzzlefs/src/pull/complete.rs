// SPDX-License-Identifier: Apache-2.0
//! The blobs of the manifest that was pulled, put together from chunks of the layout.

use std::sync::Arc;

use anyhow::{Context, Result};
use puzzlefs_format::{limits, Descriptor, Digest, Manifest, MEDIA_TYPE_PACK};
use serde::Serialize;

use super::source::Source;
use crate::base::digest::Blob;
use crate::base::error::Error;
use crate::base::progress::{Progress, Unit};
use crate::chunks::compose::Composer;
use crate::layout::index::Entry;
use crate::layout::nested::Replaced;
use crate::layout::pulled::Record;
use crate::layout::reference::Name;
use crate::layout::staging::Staging;
use crate::layout::Layout;
use crate::remote::Remote;

/// What was done.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Digest of the manifest that the tag names now, in hexadecimal.
    pub manifest: String,
    /// Blobs that were put together from chunks.
    pub made: u64,
    /// Blobs that were fetched.
    pub fetched: u64,
    /// Bytes of answers.
    pub bytes_fetched: u64,
    /// Blobs that the layout did not have.
    pub new_blobs: u64,
    /// Bytes of those.
    pub new_bytes: u64,
}

/// Sees to it that the layout has all blobs of the image that was pulled as `name`, and lets its tag name
/// the manifest that the source has. Chunks that are nowhere in the layout are fetched from `from`.
///
/// # Errors
///
/// If there are such chunks, and nobody to ask.
pub fn complete(
    layout: &Layout,
    name: &Name,
    from: Option<&dyn Remote>,
    progress: &dyn Progress,
) -> crate::Result<Report> {
    let _kept = layout.keep_blobs(progress)?;
    let local = layout.resolve(name)?.digest;
    let text = layout.read_blob(&local, limits::MAX_MANIFEST_BYTES as u64)?;
    match layout.pulled(&text)? {
        Some((record, pulled)) => {
            let image = (&local, &record, &pulled[..]);
            let done = complete_image(layout, name, image, from, progress);
            let context = || format!("completing {name}");
            Ok(done.with_context(context)?)
        }
        None if Record::of(&text).is_some() => {
            let text = format!("the layout has not kept the manifest that {name} stands for");
            Err(Error::damaged(text).of(&local))
        }
        None => Ok(Report {
            manifest: local.to_string(),
            ..Report::default()
        }),
    }
}

fn complete_image(
    layout: &Layout,
    name: &Name,
    (local, record, pulled): (&Digest, &Record, &[u8]),
    from: Option<&dyn Remote>,
    progress: &dyn Progress,
) -> Result<Report> {
    let staging = Staging::new(layout)?;
    let composer = Arc::new(Composer::new(layout, record, pulled)?);
    let source = from.map(Source::new);
    let mut report = Report::default();
    let mut lacking = (0, 0);
    let manifest = Manifest::parse(pulled)?;
    let mut total = 0;
    for layer in manifest.layers() {
        total = layer?.size.saturating_add(total);
    }
    progress.phase("completing", total, Unit::Bytes);
    for layer in manifest.layers() {
        let layer = layer?;
        let (digest, size) = (layer.digest, layer.size);
        progress.advance(size);
        if layout.has_blob(&digest, size)? {
            continue;
        }
        let made = match composer.knows(&digest) {
            true => make(&composer, &staging, &layer),
            false => Err(Error::not_found("it is neither pack nor chunk")
                .of(&digest)
                .into()),
        };
        match (made, &source) {
            (Ok(()), _) => report.made += 1,
            (Err(_), Some(source)) => {
                let blob = source.stage(&staging, &digest, size, || ())?;
                check(&layer, &blob)?;
                report.fetched += 1;
            }
            (Err(error), None) => {
                let (chunks, bytes) = composer.missing(&digest);
                if chunks == 0 {
                    return Err(error);
                }
                lacking = (lacking.0 + chunks, lacking.1 + bytes);
            }
        }
    }
    if lacking.0 > 0 {
        let (chunks, bytes) = lacking;
        let text = format!(
            "{chunks} chunks of its packs, {bytes} bytes, which it does not use itself, are not \
             in the layout: fetch them by --from SOURCE"
        );
        return Err(Error::not_found(text).into());
    }
    let is_it = |tag: Option<&str>| match name {
        Name::Tag(name) => tag == Some(name),
        Name::Digest(_) => true,
    };
    let mut new = Replaced::from([(*local, (record.manifest, pulled.len() as u64))]);
    let mut store = |text: &[u8]| {
        let blob = staging.put_with(|out| Ok(out.write_all(text)?))?;
        Ok((blob.digest, blob.size))
    };
    let is_named = |entry: &Entry| is_it(entry.tag.as_deref());
    new.extend(layout.indexes_with(&new, is_named, &mut store)?);
    let added = staging.commit()?;
    layout.replace(|digest, tag| new.get(digest).filter(|_| is_it(tag)).copied())?;
    report.manifest = record.manifest.to_string();
    report.bytes_fetched = source.map_or(0, |source| source.bytes.into_inner());
    (report.new_blobs, report.new_bytes) = (added.blobs, added.bytes);
    Ok(report)
}

/// Puts a blob together.
fn make(composer: &Arc<Composer>, staging: &Staging<'_>, layer: &Descriptor<'_>) -> Result<()> {
    let digest = &layer.digest;
    let mut bytes = composer.read(digest, 0..u64::MAX)?;
    let mut draft = staging.begin()?;
    draft.measure();
    if let Err(error) = std::io::copy(&mut bytes, &mut draft) {
        staging.discard(draft)?;
        return Err(error).with_context(|| format!("putting the blob sha256:{digest} together"));
    }
    let made = staging.end_if(draft, |blob| blob.digest == *digest)?;
    let other = || Error::damaged("what its end says makes another blob").of(digest);
    check(layer, &made.ok_or_else(other)?)
}

/// Refuses a pack with another fs-verity digest than its manifest says: a mount may rely on that.
fn check(layer: &Descriptor<'_>, blob: &Blob) -> Result<()> {
    let said = layer
        .fs_verity
        .filter(|_| layer.media_type == MEDIA_TYPE_PACK);
    let is_other = said.is_some_and(|said| blob.verity != Some(*said.as_bytes()));
    let digest = &layer.digest;
    let text =
        format!("the pack sha256:{digest} has another fs-verity digest than its manifest says");
    match is_other {
        true => Err(Error::damaged(text).of(digest).into()),
        false => Ok(()),
    }
}
