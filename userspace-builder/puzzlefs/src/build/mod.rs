// SPDX-License-Identifier: Apache-2.0
//! Building an image from a directory tree.
//!
//! - this file: all steps of a build, in order;
//! - [`convert`]: the same of an ordinary image, which is not unpacked for that;
//! - `content`: files to chunks; `kept`: those of an ordinary image;
//! - `memory`: when it uses what the cache remembers;
//! - `past`: what of that saves to read files;
//! - `config`: what those need to know who run it;
//! - `cut`: a file in chunks of its own;
//! - `first`: those that are read first;
//! - [`profile`]: ready choices of chunk size and compression;
//! - [`report`]: what is said of it.

mod config;
mod content;
pub mod convert;
mod cut;
mod first;
mod kept;
mod memory;
mod past;
pub mod profile;
pub mod report;

use std::fs::File;
use std::num::NonZero;
use std::path::Path;

use anyhow::{ensure, Context};
use puzzlefs_format::{limits, Digest, VERSION_BASE, VERSION_BLOCKS};
use puzzlefs_format::{MEDIA_TYPE_PACK, MEDIA_TYPE_PROFILE, MEDIA_TYPE_ROOTFS};

use crate::base::digest::{hex, Blob};
use crate::base::error::{Error, Result};
use crate::base::progress::{Progress, Unit};
use crate::build::memory::Memory;
use crate::build::report::Report;
use crate::cache;
use crate::cache::files::Purpose;
use crate::chunks::list;
use crate::chunks::pack::DEFAULT_TARGET;
use crate::chunks::places::Places;
use crate::chunks::sink::{Form, Homes, Sink};
use crate::encode::chunker::Policy;
use crate::encode::compress::Compression;
use crate::encode::known::Known;
use crate::encode::pipeline::{self, Chunks, Stored};
use crate::host::stat::Stat;
use crate::host::xattr;
use crate::image::blocks::BYTES;
use crate::image::Image;
use crate::layout::manifest::{self, Config, Descriptor};
use crate::layout::reach::Reach;
use crate::layout::reference::{Name, Reference};
use crate::layout::staging::{Added, Staging};
use crate::layout::Layout;
use crate::metadata::blocks::{self, Cutter};
use crate::metadata::delta::Delta;
use crate::metadata::Metadata;
use crate::profile::Profile;
use crate::tree::scan::{self, scan};
use crate::tree::Tree;

pub use crate::tree::rules::{IdMap, Owner, Range, Rules};

/// What to build.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where chunks begin and end.
    pub policy: Policy,
    /// How chunks are compressed.
    pub compression: Compression,
    /// How blocks of the metadata are.
    pub metadata: Compression,
    /// What the blobs with them are.
    pub form: Form,
    /// Store holes as zeros and the metadata as one blob, so that version 3 readers
    /// understand the image.
    pub compat: bool,
    /// SOURCE_DATE_EPOCH: no recorded time is later than this (seconds since the epoch).
    pub source_date_epoch: Option<i64>,
    /// Leave out what is mounted below the root.
    pub one_file_system: bool,
    /// What else is to be different from the tree.
    pub rules: Rules,
    /// The config of another image, which this one is to have.
    pub config: Config,
    /// Build on top of this image in the same layout.
    pub base: Option<Name>,
    /// Of an ordinary image: keep its layers, as layers of metadata.
    pub keep_layers: bool,
    /// Record fs-verity digests, as upstream's builder does: of all blobs, the Rootfs with all
    /// metadata in it.
    pub fs_verity: bool,
    /// Worker threads; `None`: as many as there are processors.
    pub threads: Option<NonZero<usize>>,
    /// What builds remember; `None`: nothing.
    pub cache: Option<cache::Options>,
    /// What is read first of the image: these chunks lie side by side, and the image lists them.
    pub first: Option<Profile>,
}

impl Options {
    /// What `puzzlefs build` does if it is told nothing but a profile, and remembers nothing.
    ///
    /// # Errors
    ///
    /// If the profile's chunk size is none.
    pub fn of(profile: profile::Profile) -> Result<Self> {
        Ok(Options {
            policy: profile.policy(None)?,
            compression: profile.compression(),
            metadata: profile.metadata(),
            form: Form::Packs {
                target: DEFAULT_TARGET,
            },
            compat: false,
            source_date_epoch: None,
            one_file_system: false,
            rules: Rules::default(),
            config: Config::default(),
            base: None,
            keep_layers: false,
            fs_verity: false,
            threads: None,
            cache: None,
            first: None,
        })
    }

    /// How chunks are compressed.
    fn compression(&self) -> Result<Compression> {
        match self.compat {
            true => self.compression.without_lz4(),
            false => Ok(self.compression),
        }
    }

    /// How files become chunks.
    fn content(&self, compression: Compression) -> content::Options {
        content::Options {
            policy: self.policy,
            compression,
            holes: !self.compat,
            threads: self.threads,
            verity: self.fs_verity,
        }
    }
}

/// Builds an image of the directory `root` into `layout` and lets `tag` name it.
///
/// # Errors
///
/// The tag and all blobs stay as they were when anything fails.
pub fn build(
    root: &Path,
    layout: &Layout,
    tag: &str,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Report> {
    if let Some(text) = &options.config.text {
        config::parse(text)?;
    }
    ensure_outside(root, layout.path(), options.one_file_system)?;
    xattr::need_proc()?;
    let compression = options.compression()?;
    let _kept = layout.keep_blobs(progress)?;
    let base = options
        .base
        .as_ref()
        .map(|base| open_base(layout, base, options.compat))
        .transpose()?;
    let staging = Staging::new(layout)?;
    progress.phase("scanning", 0, Unit::Items);
    let memory = Memory::open(options.cache.as_ref(), options.fs_verity, layout, progress);
    let scanning = scan::Options {
        clamp: options.source_date_epoch,
        one_file_system: options.one_file_system,
        rules: options.rules.clone(),
    };
    let mut scanned = scan(root, scanning, progress)?;
    let data_bytes = scanned.tree.data_size()?;

    let settings = options.content(compression);
    let held = held(layout, options.form, progress)?;
    let mut sink = Sink::new(&staging, options.form, held, progress);
    if options.first.is_some() {
        sink = sink.waiting()?;
    }
    let purpose = Purpose {
        root,
        policy: options.policy,
        holes: settings.holes,
    };
    memory.vouch(&mut sink)?;
    let known = memory.known(compression, &sink)?;
    let past = memory.past(&purpose, &known, &mut sink)?;
    progress.phase("storing", data_bytes, Unit::Bytes);
    let content = content::store(&mut scanned, &settings, &past, &known, &mut sink, progress)
        .with_context(|| format!("building from {}", root.display()))?;
    let chunks = &content.chunks.list;
    let what = Whole {
        tree: &scanned.tree,
        chunks,
        first: &place(options, &scanned.tree, chunks, &mut sink, progress)?,
        base: base.as_ref(),
        layers: None,
        config: &|layers| Ok(config::of(&options.config, layers, "puzzlefs build")?),
    };
    let known_blocks = memory.known(options.metadata, &sink)?;
    let mut done = finish(&what, Some(tag), options, &known_blocks, sink, progress)?;
    memory.keep(|cache| {
        cache::chunks::save(cache, layout, compression, &known, &content.chunks)?;
        cache::chunks::save(cache, layout, options.metadata, &known_blocks, &done.blocks)?;
        memory.keep_packs(cache, &done.homes, &done.layers)?;
        content.save(cache, &purpose, &scanned, memory.begun)
    });
    done.report.files_read = content.read;
    done.report.chunks_compressed += content.chunks.compressed;
    done.report.left_out = report::mounts(&scanned.left_out);
    done.report.left_out_xattrs = report::xattrs(&scanned.left_out.xattrs);
    done.report.excluded = scanned.left_out.excluded;
    Ok(done.report)
}

/// An image, but for its metadata and its manifest.
struct Whole<'a> {
    /// All inodes, with their extents.
    tree: &'a Tree,
    /// Its chunks, which are stored.
    chunks: &'a [Stored],
    /// Those of them that are read first.
    first: &'a [Digest],
    base: Option<&'a Image>,
    /// The layer of each inode, if it has layers.
    layers: Option<&'a [u32]>,
    /// The config, once it is known which layers the manifest lists.
    config: &'a dyn Fn(&[Descriptor]) -> Result<Config>,
}

/// What was stored last.
struct Done<'a> {
    report: Report,
    blocks: Chunks,
    homes: Homes<'a>,
    layers: Vec<Descriptor>,
}

/// Puts the chunks that are read first side by side, if it is known which they are.
fn place(
    options: &Options,
    tree: &Tree,
    chunks: &[Stored],
    sink: &mut Sink<'_>,
    progress: &dyn Progress,
) -> Result<Vec<Digest>> {
    let Some(profile) = &options.first else {
        return Ok(Vec::new());
    };
    let first = first::order(profile, tree, chunks)?;
    if first.is_empty() {
        progress.note("the profile names nothing that the image has");
    }
    sink.place(&first, chunks.iter().map(|chunk| chunk.digest))?;
    Ok(first)
}

/// Stores the metadata of an image and its manifest, brings all to the disk, and lets `tag` name it, if
/// there is one.
fn finish<'a>(
    what: &Whole<'_>,
    tag: Option<&str>,
    options: &Options,
    known: &Known<'_>,
    mut sink: Sink<'a>,
    progress: &dyn Progress,
) -> Result<Done<'a>> {
    let Whole { tree, chunks, .. } = what;
    let staging = sink.staging();
    let delta = what
        .base
        .map(|base| Delta::new(tree, chunks, base))
        .transpose()?;
    let metadata = Metadata::new(tree, chunks, delta.as_ref(), what.layers)?;
    progress.phase("writing metadata", metadata.bytes(), Unit::Bytes);
    let (rootfs, blocks) = store(&metadata, options, known, &mut sink, progress)?;
    let homes = sink.finish()?;
    let digests = |chunks: &[Stored]| chunks.iter().map(|chunk| chunk.digest).collect::<Vec<_>>();
    let order = [digests(&blocks.list), what.first.to_vec(), digests(chunks)];
    let stored = homes.layers(order.into_iter().flatten())?;
    let packs = stored
        .iter()
        .filter(|home| home.media_type == MEDIA_TYPE_PACK);
    let packs = packs.count();
    let mut layers = vec![Descriptor::new(
        MEDIA_TYPE_ROOTFS,
        rootfs.digest,
        rootfs.size,
    )];
    let verity = |blob: &Blob| blob.verity.filter(|_| options.fs_verity).map(|v| hex(&v));
    if let Some(verity) = verity(&rootfs) {
        // The Rootfs cannot hold its own.
        let annotations = &mut layers[0].annotations;
        annotations.insert(manifest::ROOTFS_VERITY.into(), verity.into());
    }
    if !what.first.is_empty() {
        let list = list::to_bytes(what.first);
        let blob = staging.put_with(|out| Ok(out.write_all(&list)?))?;
        layers.push(Descriptor::new(MEDIA_TYPE_PROFILE, blob.digest, blob.size));
    }
    layers.extend(stored);
    let config = (what.config)(&layers)?;
    let text = manifest::render(&layers, &config, options.source_date_epoch)?;
    manifest::check_size(&text)?;
    let manifest = staging.put_with(|out| Ok(out.write_all(&text)?))?;
    staging.put_with(|out| Ok(out.write_all(config.text())?))?;

    progress.phase("syncing to disk", 0, Unit::Items);
    // A build that changes nothing writes nothing. What it found was on disk before index.json named
    // the manifest; to sync it again would wait for whatever else is written on that filesystem.
    let layout = staging.layout();
    let is_tagged = |tag| layout.has_tag(tag, &manifest.digest, manifest.size);
    let is_done = staging.is_empty() && tag.map(is_tagged).transpose()? != Some(false);
    let mut added = Added::default();
    if !is_done {
        added = staging.commit()?;
        if let Some(tag) = tag {
            layout.set_tag(tag, &manifest.digest, manifest.size)?;
        }
    }
    let report = Report {
        manifest: manifest.digest.to_string(),
        manifest_verity: verity(&manifest),
        rootfs: rootfs.digest.to_string(),
        inodes: u64::try_from(tree.nodes.len())?,
        data_bytes: tree.data_size()?,
        chunks: u64::try_from(chunks.len())?,
        chunk_bytes: chunks.iter().map(|c| c.size).sum(),
        packs: u64::try_from(packs)?,
        message_bytes: metadata.bytes(),
        metadata_bytes: rootfs.size + blocks.list.iter().map(|block| block.size).sum::<u64>(),
        new_blobs: added.blobs,
        new_bytes: added.bytes,
        files_read: 0,
        chunks_compressed: blocks.compressed,
        left_out: Vec::new(),
        left_out_xattrs: Default::default(),
        excluded: 0,
    };
    Ok(Done {
        report,
        blocks,
        homes,
        layers,
    })
}

/// Stores the metadata. Returns the Rootfs, and the chunks that its message is in if it is in
/// blocks.
///
/// One that is no larger than a block stays whole: FORMAT.md, section 6.
fn store(
    metadata: &Metadata<'_>,
    options: &Options,
    known: &Known<'_>,
    sink: &mut Sink<'_>,
    progress: &dyn Progress,
) -> anyhow::Result<(Blob, Chunks)> {
    let staging = sink.staging();
    let whole = options.compat || options.fs_verity || metadata.bytes() <= limits::BLOCK_BYTES;
    if whole {
        let version = metadata.version()?;
        let blob = staging.put_with(|out| metadata.write(version, out))?;
        return Ok((blob, Chunks::default()));
    }
    let settings = pipeline::Options {
        compression: options.metadata,
        largest: BYTES,
        threads: options.threads,
        verity: false,
    };
    let chunks = sink.apart(|sink| {
        pipeline::store(&settings, known, sink, progress, |feeder| {
            let mut cutter = Cutter::new(feeder);
            metadata.write(VERSION_BLOCKS, &mut cutter)?;
            cutter.finish()
        })
    })?;
    let size = metadata.bytes();
    let blob = staging.put_with(|out| blocks::write_blob(&chunks, size, &metadata.root(), out))?;
    Ok((blob, chunks))
}

/// What packs of the layout hold, if the new image may use it. They are those that
/// index.json leads to: others are rubbish, that may be gone any time.
fn held<'a>(layout: &'a Layout, form: Form, progress: &dyn Progress) -> Result<Places<'a>> {
    let reach = match form {
        Form::Loose => Reach::default(),
        Form::Packs { .. } => Reach::of(layout)?,
    };
    let packs = layout.only_whole(reach.with_type(MEDIA_TYPE_PACK))?;
    let (places, faults) = Places::open(layout, packs);
    let faults = faults.into_iter().map(Error::from);
    for fault in reach.faults.into_iter().chain(faults) {
        progress.note(&format!("not used: {fault:#}"));
    }
    Ok(places)
}

fn open_base(layout: &Layout, name: &Name, compat: bool) -> anyhow::Result<Image> {
    let base = Image::open(&Reference {
        layout: layout.path().to_owned(),
        name: name.clone(),
    })
    .context("the base")?;
    base.ensure_whole().context("the base")?;
    ensure!(
        !compat || base.rootfs()?.version() == VERSION_BASE,
        "the base {name} has holes, LZ4 chunks or its metadata in blocks, which --compat rules out: \
         build the base with --compat too"
    );
    Ok(base)
}

/// Refuses a layout inside the tree, as it would become part of its own image. `layout` need not
/// exist. With `one_file_system` it may be on another mount, which is left out.
pub fn ensure_outside(root: &Path, layout: &Path, one_file_system: bool) -> Result<()> {
    let mount = |path: &Path| -> Result<u64> { Ok(Stat::of(File::open(path)?)?.mount) };
    let root = root
        .canonicalize()
        .with_context(|| format!("cannot find {}", root.display()))?;
    let absolute = std::path::absolute(layout)?;
    let existing = absolute
        .ancestors()
        .find_map(|path| path.canonicalize().ok());
    let Some(existing) = existing.filter(|path| path.starts_with(&root)) else {
        return Ok(());
    };
    if !one_file_system || mount(&existing)? == mount(&root)? {
        let text = format!(
            "the layout {} lies inside the tree {}: name a directory outside of it, or one on \
             another mount with --one-file-system",
            layout.display(),
            root.display()
        );
        return Err(Error::refused(text).at(layout));
    }
    Ok(())
}
