// SPDX-License-Identifier: Apache-2.0
//! puzzlefs build.

use anyhow::{bail, ensure, Context, Result};
use puzzlefs::build::profile::Profile;
use puzzlefs::build::{build, ensure_outside, Options};
use puzzlefs::chunks::pack::DEFAULT_TARGET;
use puzzlefs::chunks::sink::Form;
use puzzlefs::encode::compress::Compression;
use puzzlefs::layout::reference::Name;
use puzzlefs::layout::Layout;

use super::args::{Build, ChunkForm};
use super::bar::Bar;
use super::show;

/// Builds, and reports what was stored.
pub fn run(args: &Build) -> Result<()> {
    let profile = Profile::from(args.profile);
    let options = Options {
        policy: profile.policy(args.chunk_size.map(usize::try_from).transpose()?)?,
        compression: compression(args, profile)?,
        metadata: profile.metadata(),
        form: form(args)?,
        compat: args.compat,
        source_date_epoch: source_date_epoch()?,
        base: args.base.clone(),
        fs_verity: args.fs_verity,
        threads: args.threads,
    };
    let Name::Tag(tag) = &args.image.name else {
        bail!(
            "{}: what is built has no digest before: name it by a tag",
            args.image
        );
    };
    // Before the layout is made.
    ensure_outside(&args.rootfs, &args.image.layout)?;
    let layout = Layout::open_or_create(&args.image.layout)?;
    let report = build(&args.rootfs, &layout, tag, &options, &Bar::new())?;
    show::report(args.format, &report, |out| {
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
        )
    })
}

fn compression(args: &Build, profile: Profile) -> Result<Compression> {
    let mut compression = args.compression.unwrap_or(profile.compression());
    if let Some(size) = args.frame_size {
        ensure!(
            size >= 4096,
            "--frame-size: a frame of less than 4096 bytes is smaller than a page"
        );
        let zstd = compression.zstd.as_mut();
        let zstd = zstd.context("--frame-size: only zstd has frames of a size to choose")?;
        zstd.frame = Some(usize::try_from(size)?);
    }
    Ok(compression)
}

/// Loose where upstream is to read the image, or blobs are to be measured as it does.
fn form(args: &Build) -> Result<Form> {
    let upstream = args.compat || args.fs_verity;
    let target = args.pack_size.unwrap_or(DEFAULT_TARGET);
    let form = match args.layout {
        Some(ChunkForm::Packs) if upstream => {
            bail!("--compat and --fs-verity need --layout loose: upstream knows no packs")
        }
        Some(ChunkForm::Loose) => Form::Loose,
        None if upstream => Form::Loose,
        Some(ChunkForm::Packs) | None => Form::Packs { target },
    };
    ensure!(
        args.pack_size.is_none() || form != Form::Loose,
        "--pack-size: there are no packs where chunks are loose"
    );
    Ok(form)
}

/// SOURCE_DATE_EPOCH, as reproducible-builds.org specifies it.
fn source_date_epoch() -> Result<Option<i64>> {
    match std::env::var("SOURCE_DATE_EPOCH") {
        Err(std::env::VarError::NotPresent) => Ok(None),
        value => {
            let seconds = value?.parse();
            Ok(Some(seconds.context(
                "SOURCE_DATE_EPOCH must be a number of seconds",
            )?))
        }
    }
}
