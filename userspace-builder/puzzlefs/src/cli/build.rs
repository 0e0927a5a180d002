// SPDX-License-Identifier: Apache-2.0
//! puzzlefs build and puzzlefs convert.

use std::path::PathBuf;

use puzzlefs::base::text::quoted;
use puzzlefs::build::profile::Profile;
use puzzlefs::build::report::Report;
use puzzlefs::build::{build, convert, ensure_outside, IdMap, Options, Rules};
use puzzlefs::chunks::pack::DEFAULT_TARGET;
use puzzlefs::chunks::sink::Form;
use puzzlefs::encode::chunker::Policy;
use puzzlefs::encode::compress::Compression;
use puzzlefs::image::Image;
use puzzlefs::layout::manifest::Config;
use puzzlefs::layout::reference::{Name, Reference};
use puzzlefs::layout::Layout;
use puzzlefs::registry;
use puzzlefs::source::{self, Choice, Platform};

use super::args::{Build, ChunkForm, ConfigFrom, Convert, Storing};
use super::bar::Bar;
use super::cache::remembered;
use super::failure::{Failure, Result};
use super::{profile, show};

/// Builds, and reports what was stored.
pub fn run(args: &Build) -> Result<()> {
    let mut options = options(&args.storing)?;
    options.one_file_system = args.one_file_system;
    options.base = args.base.clone();
    options.source_date_epoch = args.clamp_mtime.or(options.source_date_epoch);
    options.rules = rules(args)?;
    options.config = config(args)?;
    if args.rootfs.as_os_str() == "-" {
        return from_stdin(args, &options);
    }
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

/// Builds from a tar on standard input.
fn from_stdin(args: &Build, options: &Options) -> Result<()> {
    let rules = &options.rules;
    let has_rules = rules.excludes_any()
        || rules.owner.is_some()
        || !(rules.uids.0.is_empty() && rules.gids.0.is_empty());
    if has_rules || args.base.is_some() || args.one_file_system {
        return usage(
            "--exclude, --owner, --uid-map, --gid-map, --base and --one-file-system are for a \
             directory: a tar on standard input is taken as it is",
        );
    }
    let tag = tag(&args.image)?;
    let mut image = source::open(
        &source::Name::Stdin,
        &Platform::here(),
        &registry::Options::default(),
    )?;
    image.config = options.config.text.clone();
    image.annotations = options.config.annotations.clone();
    let layout = Layout::open_or_create(&args.image.layout)?;
    let report = convert::convert(&image, &layout, tag, options, &Bar::new())?;
    show(&args.storing, &report)
}

/// What is to be different from the tree.
fn rules(args: &Build) -> Result<Rules> {
    let mut rules = Rules::default();
    rules.owner = args.owner;
    rules.uids = IdMap(args.uid_map.clone());
    rules.gids = IdMap(args.gid_map.clone());
    let read = |path: &PathBuf| {
        let text = std::fs::read_to_string(path);
        text.or_else(|error| usage(format!("--exclude-from: {}: {error}", path.display())))
    };
    let files: Vec<String> = args.exclude_from.iter().map(read).collect::<Result<_>>()?;
    let lines = files.iter().flat_map(|text| text.lines());
    let patterns = lines.chain(args.exclude.iter().map(String::as_str));
    match rules.exclude(patterns) {
        Ok(()) => Ok(rules),
        Err(error) => usage(format!("--exclude: {error:#}")),
    }
}

/// The config that the image is to have.
fn config(args: &Build) -> Result<Config> {
    if let Some(path) = &args.config {
        let text = std::fs::read(path);
        let text = text.or_else(|error| usage(format!("--config: {}: {error}", path.display())))?;
        let text = Some(text);
        return Ok(Config {
            text,
            annotations: Vec::new(),
        });
    }
    Ok(match &args.config_from {
        None => Config::default(),
        Some(ConfigFrom::Ours(reference)) => Image::open(reference)?.kept()?,
        Some(ConfigFrom::Ordinary(name)) => {
            let image = source::open(name, &Platform::here(), &args.registry.options())?;
            Config {
                text: image.config,
                annotations: image.annotations,
            }
        }
    })
}

/// Converts, and reports the same.
pub fn convert(args: &Convert) -> Result<()> {
    let mut options = options(&args.storing)?;
    options.keep_layers = args.keep_layers;
    let tag = tag(&args.image)?;
    if args.all {
        return convert_all(args, &options, tag);
    }
    let platform = args.platform.clone().unwrap_or_else(Platform::here);
    // Before the layout is made.
    let image = source::open(&args.source, &platform, &args.registry.options())?;
    let layout = Layout::open_or_create(&args.image.layout)?;
    let report = convert::convert(&image, &layout, tag, &options, &Bar::new())?;
    show(&args.storing, &report)
}

fn convert_all(args: &Convert, options: &Options, tag: &str) -> Result<()> {
    let images = source::open_all(&args.source, &Choice::All, &args.registry.options())?;
    let layout = Layout::open_or_create(&args.image.layout)?;
    let all = convert::convert_all(&images, &layout, tag, options, &Bar::new())?;
    show::done(args.storing.format, &all, |out| {
        writeln!(out, "index     sha256:{}", all.index)?;
        for image in &all.images {
            let text = |name: &str| image.platform.as_ref()?[name].as_str();
            let parts = ["os", "architecture", "variant"]
                .into_iter()
                .filter_map(text);
            let parts: Vec<&str> = parts.collect();
            let platform = match parts.is_empty() {
                true => "any platform".into(),
                false => parts.join("/"),
            };
            let report = &image.report;
            let new = show::bytes(report.new_bytes);
            writeln!(
                out,
                "manifest  sha256:{}, {platform}, new {new}",
                report.manifest
            )?;
        }
        Ok(())
    })
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
    let form = form(args)?;
    if args.profile_from.is_some() && form == Form::Loose {
        return usage("--profile-from: loose chunks lie side by side with no others");
    }
    Ok(Options {
        policy: policy(args, profile)?,
        compression: compression(args, profile)?,
        metadata: profile.metadata(),
        form,
        compat: args.compat,
        source_date_epoch: source_date_epoch()?,
        one_file_system: false,
        rules: Rules::default(),
        config: Config::default(),
        base: None,
        keep_layers: false,
        fs_verity: args.fs_verity,
        threads: args.threads,
        cache: remembered(args.no_cache),
        first: profile::read(args.profile_from.as_ref())?,
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
        if report.excluded > 0 {
            writeln!(out, "left out  {} names by --exclude", report.excluded)?;
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
