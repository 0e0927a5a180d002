// SPDX-License-Identifier: Apache-2.0
//! An ordinary image becomes one of ours: the same, to the digest of its Rootfs, as that of the directory
//! into which it would be unpacked.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use oci_spec::image::MediaType;
use puzzlefs_format::{Digest, MEDIA_TYPE_MANIFEST};
use serde::Serialize;
use serde_json::{json, Value};

use super::config;
use super::content::Reader;
use super::kept::Keeper;
use super::memory::Memory;
use super::past::Past;
use super::report::{self, Report};
use super::{content, finish, held, place, Options, Whole};
use crate::base::error::{self, damage};
use crate::base::progress::{Progress, Unit};
use crate::cache;
use crate::chunks::sink::Sink;
use crate::encode::known::Known;
use crate::encode::pipeline::{self, Chunks};
use crate::host::stat::Facts;
use crate::layers::Layers;
use crate::layout::manifest::{check_size, Config, ARTIFACT_TYPE};
use crate::layout::staging::Staging;
use crate::layout::Layout;
use crate::source::Image;
use crate::tree::{Body, Extent, Tree};

/// Converts `image` into `layout`, and lets `tag` name it.
///
/// # Errors
///
/// The tag and all blobs stay as they were when anything fails.
pub fn convert(
    image: &Image,
    layout: &Layout,
    tag: &str,
    options: &Options,
    progress: &dyn Progress,
) -> error::Result<Report> {
    convert_one(image, layout, Some(tag), options, progress)
}

/// What became of all images of an index.
#[derive(Debug, Serialize)]
pub struct All {
    /// Digest of the new index, in hexadecimal.
    pub index: String,
    /// What each was for, and what became of it.
    pub images: Vec<Converted>,
}

/// What became of one of them.
#[derive(Debug, Serialize)]
pub struct Converted {
    /// What it is for, as the index said.
    pub platform: Option<Value>,
    /// What was stored.
    #[serde(flatten)]
    pub report: Report,
}

/// Converts `images`, and lets `tag` name an index of all of them.
///
/// # Errors
///
/// The tag stays as it was when anything fails.
pub fn convert_all(
    images: &[Image],
    layout: &Layout,
    tag: &str,
    options: &Options,
    progress: &dyn Progress,
) -> error::Result<All> {
    // Nothing leads to the first ones until the last one is there.
    let _kept = layout.keep_blobs(progress)?;
    let (mut converted, mut entries) = (Vec::new(), Vec::new());
    for image in images {
        let report = convert_one(image, layout, None, options, progress)?;
        let digest = Digest::parse(report.manifest.as_bytes()).context("the new manifest")?;
        let mut entry = json!({
            "mediaType": MEDIA_TYPE_MANIFEST,
            "digest": format!("sha256:{digest}"),
            "size": layout.blob_size(&digest)?,
            "artifactType": ARTIFACT_TYPE,
        });
        let platform = image.platform.clone();
        if let Some(platform) = &platform {
            entry["platform"] = platform.clone();
        }
        entries.push(entry);
        converted.push(Converted { platform, report });
    }
    let index = json!({
        "schemaVersion": 2,
        "mediaType": MediaType::ImageIndex,
        "manifests": entries,
    });
    let text = serde_json::to_vec(&index)?;
    check_size(&text)?;
    let staging = Staging::new(layout)?;
    let index = staging.put_with(|out| Ok(out.write_all(&text)?))?;
    staging.commit()?;
    let media_type = MediaType::ImageIndex.to_string();
    layout.set_tag_as(tag, &media_type, &index.digest, index.size)?;
    Ok(All {
        index: index.digest.to_string(),
        images: converted,
    })
}

fn convert_one(
    image: &Image,
    layout: &Layout,
    tag: Option<&str>,
    options: &Options,
    progress: &dyn Progress,
) -> error::Result<Report> {
    let compression = options.compression()?;
    let _kept = layout.keep_blobs(progress)?;
    let staging = Staging::new(layout)?;
    let memory = Memory::open(options.cache.as_ref(), options.fs_verity, layout, progress);
    let settings = options.content(compression);
    let held = held(layout, options.form, progress)?;
    let mut sink = Sink::new(&staging, options.form, held, progress);
    if options.first.is_some() {
        sink = sink.waiting()?;
    }
    memory.vouch(&mut sink)?;
    let known = memory.known(compression, &sink)?;
    progress.phase("storing", 0, Unit::Bytes);
    let clamp = options.source_date_epoch;
    let stored = store(image, &settings, clamp, &known, &mut sink, progress)?;
    let kept = Config {
        text: image.config.clone(),
        annotations: image.annotations.clone(),
    };
    let chunks = &stored.chunks.list;
    let what = Whole {
        tree: &stored.tree,
        chunks,
        first: &place(options, &stored.tree, chunks, &mut sink, progress)?,
        base: None,
        layers: options.keep_layers.then_some(&stored.layers),
        config: &|layers| Ok(config::of(&kept, layers, "puzzlefs convert")?),
    };
    let known_blocks = memory.known(options.metadata, &sink)?;
    let mut done = finish(&what, tag, options, &known_blocks, sink, progress)?;
    memory.keep(|cache| {
        cache::chunks::save(cache, layout, compression, &known, &stored.chunks)?;
        cache::chunks::save(cache, layout, options.metadata, &known_blocks, &done.blocks)?;
        memory.keep_packs(cache, &done.homes, &done.layers)
    });
    done.report.files_read = stored.files;
    done.report.chunks_compressed += stored.chunks.compressed;
    done.report.left_out_xattrs = report::xattrs(&stored.left_out);
    Ok(done.report)
}

/// A tree whose content is stored.
struct Stored {
    tree: Tree,
    /// The layer of each inode.
    layers: Vec<u32>,
    chunks: Chunks,
    /// How many files were read.
    files: u64,
    left_out: BTreeMap<Vec<u8>, u64>,
}

fn store(
    image: &Image,
    options: &content::Options,
    clamp: Option<i64>,
    known: &Known<'_>,
    sink: &mut Sink<'_>,
    progress: &dyn Progress,
) -> Result<Stored> {
    let small = sink.staging().scratch()?;
    let mut read = None;
    let mut chunks = pipeline::store(&options.pipeline(), known, sink, progress, |feeder| {
        let mut keeper = Keeper::new(options, feeder, small);
        let mut layers = Layers::new(&mut keeper);
        for layer in image.layers.iter().rev() {
            damage(layer.read(|open| layers.put_below(layer.role, open)))?;
        }
        let mut flat = layers.flatten(clamp)?;
        let files = flat.kept.iter().flatten().count() as u64;
        let mut kept = keeper.finish(std::mem::take(&mut flat.kept))?;
        let facts: Vec<Facts> = facts(&flat.tree);
        let past = Past::default();
        Reader::new(options, &past, feeder, &facts, &mut kept).read(&mut flat.tree)?;
        read = Some((flat, files));
        Ok(())
    })?;
    let (mut flat, files) = read.context("no layers were read")?;
    number(&mut flat.tree, &mut chunks);
    Ok(Stored {
        tree: flat.tree,
        layers: flat.layers,
        chunks,
        files,
        left_out: flat.left_out,
    })
}

/// What is known of files: their sizes.
fn facts(tree: &Tree) -> Vec<Facts> {
    let sizes = tree.nodes.iter().map(|node| match node.body {
        Body::File { size, .. } => size,
        _ => 0,
    });
    sizes
        .map(|size| Facts {
            size,
            ..Facts::default()
        })
        .collect()
}

/// Gives chunks the numbers that they have if the tree is built from a directory: in the order in which
/// its files use them, and not in that of the layers. A chunk that no file uses has none.
fn number(tree: &mut Tree, chunks: &mut Chunks) {
    let mut numbers = vec![None; chunks.list.len()];
    let (mut list, mut contents) = (Vec::new(), Vec::new());
    for extent in &mut tree.extents {
        if extent.chunk == Extent::HOLE {
            continue;
        }
        let old = chunks.index[extent.chunk as usize] as usize;
        extent.chunk = *numbers[old].get_or_insert_with(|| {
            list.push(chunks.list[old]);
            contents.push(chunks.contents[old]);
            // Fewer than there were.
            list.len() as u32 - 1
        });
    }
    (chunks.list, chunks.contents) = (list, contents);
}
