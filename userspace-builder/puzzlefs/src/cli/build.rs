// SPDX-License-Identifier: Apache-2.0
//! puzzlefs build and puzzlefs convert.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use puzzlefs::base::text::quoted;
use puzzlefs::build::profile::Profile;
use puzzlefs::build::report::Report;
use puzzlefs::build::{build, cache, convert, ensure_outside, Options};
use puzzlefs::chunks::pack::DEFAULT_TARGET;
use puzzlefs::chunks::sink::Form;
use puzzlefs::encode::chunker::Policy;
use puzzlefs::encode::compress::Compression;
use puzzlefs::layout::reference::{Name, Reference};
use puzzlefs::layout::Layout;
use puzzlefs::source::{self, Platform};

use super::args::{Build, ChunkForm, Convert, Storing};
use super::bar::Bar;
use super::failure::{Failure, Result};
use super::show;

/// Builds, and reports what was stored.
pub fn run(args: &Build) -> Result<()> {
    let mut options = options(&args.storing)?;
    options.one_file_system = args.one_file_system;
    options.base = args.base.clone();
    if let Some(cache) = &mut options.cache {
        cache.force = args.force;
    }
    let tag = tag(&args.image)?;
    // Before the layout is made.
    ensure_outside(&args.rootfs, &args.image.layout, args.one_file_system)?;
    let layout = Layout::open_or_create(&args.image.layout)?;
    let report = build(&args.rootfs, &layout, tag, &options, &Bar::new())?;
    show(&args.storing, &report)
}

/// Converts, and reports the same.
pub fn convert(args: &Convert) -> Result<()> {
    let options = options(&args.storing)?;
    let tag = tag(&args.image)?;
    let platform = args.platform.clone().unwrap_or_else(Platform::here);
    // Before the layout is made.
    let image = source::open(&args.source, &platform, &args.registry.options())?;
    let layout = Layout::open_or_create(&args.image.layout)?;
    let report = convert::convert(&image, &layout, tag, &options, &Bar::new())?;
    show(&args.storing, &report)
}

/// The tag for a new image.
fn tag(image: &Reference) -> Result<&str> {
    match &image.name {
        Name::Tag(tag) => Ok(tag),
        Name::Digest(_) => usage(format!(
            "{image}: what is built has no digest before: name it by a tag"
        )),
    }
}

fn options(args: &Storing) -> Result<Options> {
    let profile = Profile::from(args.profile);
    Ok(Options {
        policy: policy(args, profile)?,
        compression: compression(args, profile)?,
        metadata: profile.metadata(),
        form: form(args)?,
        compat: args.compat,
        source_date_epoch: source_date_epoch()?,
        one_file_system: false,
        base: None,
        fs_verity: args.fs_verity,
        threads: args.threads,
        cache: cache(args),
    })
}

fn show(args: &Storing, report: &Report) -> Result<()> {
    show::done(args.format, report, |out| {
        writeln!(out, "manifest  sha256:{}", report.manifest)?;
        if let Some(verity) = &report.manifest_verity {
            writeln!(out, "  verity  {verity}")?;
        }
        writeln!(out, "rootfs    sha256:{}", report.rootfs)?;
        writeln!(out, "inodes    {}", report.inodes)?;
        writeln!(out, "before    {}", show::bytes(report.data_bytes))?;
        writeln!(
            out,
            "chunks    {}, stored as {}, {} packs",
            report.chunks,
            show::bytes(report.chunk_bytes),
            report.packs
        )?;
        writeln!(
            out,
            "metadata  {}, stored as {}",
            show::bytes(report.message_bytes),
            show::bytes(report.metadata_bytes)
        )?;
        writeln!(
            out,
            "new       {} blobs, {}",
            report.new_blobs,
            show::bytes(report.new_bytes)
        )?;
        let (read, compressed) = (report.files_read, report.chunks_compressed);
        writeln!(
            out,
            "work      {read} files read, {compressed} chunks compressed"
        )?;
        for mount in &report.left_out {
            let path = quoted(&mount.bytes);
            writeln!(out, "left out  {path} ({})", mount.reason)?;
        }
        for (name, count) in &report.left_out_xattrs {
            let name = quoted(name.as_bytes());
            writeln!(
                out,
                "left out  the extended attribute {name} of {count} files"
            )?;
        }
        Ok(())
    })
}

fn usage<T>(text: impl Into<String>) -> Result<T> {
    Err(Failure::Usage(text.into()))
}

fn policy(args: &Storing, profile: Profile) -> Result<Policy> {
    // One that is larger than the memory is too large, too.
    let size = args
        .chunk_size
        .map(|size| size.try_into().unwrap_or(usize::MAX));
    let policy = profile.policy(size);
    policy.or_else(|error| usage(format!("--chunk-size: {error}")))
}

fn compression(args: &Storing, profile: Profile) -> Result<Compression> {
    let mut compression = args.compression.unwrap_or(profile.compression());
    if let Some(size) = args.frame_size {
        let Some(size) = size.try_into().ok().filter(|size: &usize| *size >= 4096) else {
            return usage("--frame-size: a frame of less than 4096 bytes is smaller than a page");
        };
        let Some(zstd) = &mut compression.zstd else {
            return usage("--frame-size: only zstd has frames of a size to choose");
        };
        zstd.frame = Some(size);
    }
    Ok(compression)
}

/// Loose where upstream is to read the image, or blobs are to be measured as it does.
fn form(args: &Storing) -> Result<Form> {
    let upstream = args.compat || args.fs_verity;
    let target = args.pack_size.unwrap_or(DEFAULT_TARGET);
    let form = match args.layout {
        Some(ChunkForm::Packs) if upstream => {
            let text = "--compat and --fs-verity need --layout loose: upstream knows no packs";
            return usage(text);
        }
        Some(ChunkForm::Loose) => Form::Loose,
        None if upstream => Form::Loose,
        Some(ChunkForm::Packs) | None => Form::Packs { target },
    };
    if args.pack_size.is_some() && form == Form::Loose {
        return usage("--pack-size: there are no packs where chunks are loose");
    }
    Ok(form)
}

/// Where builds keep what they remember: $XDG_CACHE_HOME/puzzlefs, or .cache/puzzlefs in the home of
/// whoever builds. Root's is /var/cache/puzzlefs, if HOME is that of a user, as sudo may leave it.
fn cache(args: &Storing) -> Option<cache::Options> {
    if args.no_cache {
        return None;
    }
    let path = |name| std::env::var_os(name).map(PathBuf::from);
    let path = |name| path(name).filter(|path| path.is_absolute());
    let is_ours = |path: &PathBuf| {
        let owner = std::fs::metadata(path).ok().map(|home| home.uid());
        owner == Some(rustix::process::geteuid().as_raw())
    };
    let own = path("XDG_CACHE_HOME").or_else(|| {
        let home = path("HOME").filter(is_ours)?;
        Some(home.join(".cache"))
    });
    let is_root = rustix::process::geteuid().is_root();
    let all = own.or_else(|| is_root.then(|| "/var/cache".into()))?;
    Some(cache::Options {
        dir: all.join("puzzlefs/builds"),
        force: false,
    })
}

/// SOURCE_DATE_EPOCH, as reproducible-builds.org specifies it.
fn source_date_epoch() -> Result<Option<i64>> {
    match std::env::var("SOURCE_DATE_EPOCH") {
        Err(std::env::VarError::NotPresent) => Ok(None),
        value => match value.ok().and_then(|value| value.parse().ok()) {
            Some(seconds) => Ok(Some(seconds)),
            None => usage("SOURCE_DATE_EPOCH must be a number of seconds"),
        },
    }
}
