// SPDX-License-Identifier: Apache-2.0
//! puzzlefs mount, umount and stats, and the helper of mount(8).

use std::process::ExitCode;

use puzzlefs::base::text;
use puzzlefs::layout::reference::Reference;
use puzzlefs::mount::{options, overlay, table, Request};

use super::args::{Mount, MountHelper, Stats, Umount, What};
use super::failure::{Failure, Result};
use super::fuse::{self, Asked};
use super::{out, show};

/// puzzlefs mount.
pub fn mount(args: &Mount) -> Result<()> {
    if args.fuse {
        return fuse::mount(&Asked {
            image: &args.image,
            target: &args.mountpoint,
            options: &args.options,
            foreground: args.foreground,
            fetching: Some(args),
        });
    }
    let What::Here(image) = &args.image else {
        let text = "the kernel mounts what is in a layout: puzzlefs pull --lazy, or --fuse";
        return Err(Failure::Usage(text.into()));
    };
    let mut request = Request::of_image(image)?;
    if let Some(upper) = &args.overlay {
        overlay::mount(&request, upper, &args.options, &args.mountpoint)?;
        return Ok(());
    }
    for options in &args.options {
        request.add_options(options)?;
    }
    puzzlefs::mount::refuse_others(&request)?;
    Ok(request.mount(&args.mountpoint)?)
}

/// puzzlefs umount.
pub fn umount(args: &Umount) -> Result<()> {
    Ok(table::umount(&args.mountpoint, args.lazy)?)
}

/// puzzlefs stats.
pub fn stats(args: &Stats) -> Result<()> {
    let stats = puzzlefs::mount::stats::read(&args.mountpoint)?;
    show::report(args.format, &stats, |out| {
        writeln!(out, "device           {}", stats.device)?;
        writeln!(out, "rootfs           sha256:{}", stats.rootfs)?;
        writeln!(out, "version          {}", stats.version)?;
        writeln!(out, "blobs open       {}", stats.blobs_open)?;
        writeln!(out, "chunks verified  {}", stats.chunks_verified)?;
        writeln!(out, "  by fs-verity   {}", stats.chunks_vouched)?;
        writeln!(out, "  with help      {}", stats.chunks_helped)?;
        writeln!(out, "  found at hand  {}", stats.chunk_hits)?;
        writeln!(out, "metadata blocks  {}", stats.metadata_blocks)?;
        writeln!(out, "bytes read       {}", show::bytes(stats.bytes_read))?;
        writeln!(out, "  filled         {}", show::bytes(stats.bytes_filled))?;
        writeln!(out, "verify failures  {}", stats.verify_failures)?;
        writeln!(out, "other errors     {}", stats.chunk_errors)
    })
}

/// mount.puzzlefs, as mount(8) calls it, or mount.fuse.puzzlefs. Its exit status is one of mount(8)'s.
pub fn helper(args: &MountHelper, is_fuse: bool) -> Result<ExitCode> {
    /// "mount failure" in mount(8).
    const MOUNT_FAILURE: u8 = 32;
    match try_helper(args, is_fuse) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        // The process in the background has said why.
        Err(Failure::Ended(_)) => Ok(ExitCode::from(MOUNT_FAILURE)),
        Err(failure) => {
            let dir = args.dir.display();
            out::error(&format!("mount.puzzlefs: {dir}: {}", failure.text()));
            Ok(ExitCode::from(MOUNT_FAILURE))
        }
    }
}

fn try_helper(args: &MountHelper, is_fuse: bool) -> Result<()> {
    if let Some(namespace) = &args.namespace {
        return Err(Failure::Usage(format!(
            "cannot enter the namespace {}: use nsenter(1)",
            namespace.display()
        )));
    }
    let text = args.options.join(",");
    let options = options::parse(&text)?;
    if options.iter().any(|option| option.name == "remount") {
        return Ok(table::remount(&args.dir, &text)?);
    }
    if is_fuse && !args.fake {
        let image = args.spec.parse::<What>();
        let image = image.map_err(|error| Failure::Usage(format!("{}: {error}", args.spec)))?;
        return fuse::mount(&Asked {
            image: &image,
            target: &args.dir,
            options: &args.options,
            foreground: false,
            fetching: None,
        });
    }
    let named = options.iter().any(|o| o.name == "image_manifest");
    let mut request = match args.spec.parse::<Reference>() {
        Ok(reference) if !named => Request::of_image(&reference)?,
        Err(error) if !named => {
            let text = format!("{}: {error}, or the option image_manifest", args.spec);
            return Err(Failure::Usage(text));
        }
        _ => Request::of_options(&args.spec),
    };
    // As fstab has it: `mount -a` looks for that to see what is mounted.
    request.source.clone_from(&args.spec);
    request.add_options(&text)?;
    if named {
        request.resolve_stand_in();
    }
    if args.verbose {
        let dir = args.dir.display();
        let line = format!("mount.puzzlefs: {} on {dir}: {request}", request.source);
        out::write(|out| writeln!(out, "{}", text::line(&line)).map_err(Failure::Output))?;
    }
    if args.fake {
        return Ok(());
    }
    Ok(request.mount(&args.dir)?)
}
