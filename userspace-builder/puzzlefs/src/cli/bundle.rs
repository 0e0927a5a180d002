// SPDX-License-Identifier: Apache-2.0
//! puzzlefs bundle and puzzlefs run.

use std::fs::DirBuilder;
use std::io::{self, IsTerminal};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitCode;

use puzzlefs::bundle::{self, Options};
use puzzlefs::layout::reference::Reference;
use puzzlefs::layout::Layout;
use puzzlefs::registry;
use puzzlefs::remote::{self, Place};
use puzzlefs::source::Platform;

use super::args::{self, Bundle, Run};
use super::bar::Bar;
use super::cache::remembered;
use super::failure::Result;
use super::{out, pull, show};

/// puzzlefs bundle.
pub fn bundle(args: &Bundle) -> Result<()> {
    let (image, dir) = match (&args.remove, &args.image, &args.dir) {
        (Some(dir), _, _) => return Ok(bundle::remove(dir)?),
        (None, Some(image), Some(dir)) => (image, dir),
        // The parser asks for both.
        _ => return Ok(()),
    };
    let options = Options {
        terminal: args.terminal,
        no_mount: args.no_mount,
        ..args.container.options(&args.arguments)
    };
    let made = bundle::make(image, dir, &options, &Bar::new())?;
    show::done(args.format, &made, |out| {
        writeln!(out, "bundle    {}", made.bundle.display())?;
        writeln!(out, "manifest  {}", made.manifest)?;
        write!(out, "user      {}:{}", made.uid, made.gid)?;
        for gid in &made.groups {
            write!(out, ",{gid}")?;
        }
        writeln!(out)?;
        writeln!(out, "runs      {} in {}", made.args.join(" "), made.cwd)?;
        if !made.volumes.is_empty() {
            writeln!(out, "volumes   {}", made.volumes.join(" "))?;
        }
        Ok(())
    })
}

/// puzzlefs run. The status is that of the program.
pub fn run(args: &Run) -> Result<ExitCode> {
    let image = match &args.image {
        args::Image::Here(image) => image.clone(),
        args::Image::Registry(image) => pulled(args, image)?,
    };
    let options = Options {
        terminal: io::stdin().is_terminal() && out::is_terminal(),
        ..args.container.options(&args.arguments)
    };
    let name = args.name.clone();
    let name = name.unwrap_or_else(|| format!("puzzlefs-{}", std::process::id()));
    let runtime = args.runtime.as_deref();
    let status = bundle::run::run(&image, &args.bundles, &name, runtime, &options, &Bar::new())?;
    // As a shell says it.
    let code = status.code().or(status.signal().map(|signal| 128 + signal));
    Ok(ExitCode::from(
        code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1),
    ))
}

/// Pulls an image, and gives what it is here: lazily, if a daemon fetches what is read.
fn pulled(args: &Run, image: &registry::Reference) -> Result<Reference> {
    let place = Place::Docker(image.clone());
    let tag = place.to_string();
    let tag = tag.strip_prefix(registry::name::PREFIX).unwrap_or(&tag);
    if let Some(above) = args.layout.parent() {
        // Images may be for the eyes of who has pulled them only.
        let made = DirBuilder::new().recursive(true).mode(0o700).create(above);
        made.map_err(puzzlefs::Error::from)?;
    }
    let opened = remote::open(&place, &args.registry.options())?;
    let found = puzzlefs::pull::find(&*opened.remote, &opened.name, &Platform::here())?;
    let layout = Layout::open_or_create(&args.layout)?;
    let (cache, bar) = (remembered(false), Bar::new());
    if is_watched(&args.daemon, &layout)? {
        let source = place.at_digest(found.digest())?;
        let origins = pull::origins(args.registry.options());
        found.pull_lazy(&layout, tag, &[source], origins, cache.as_ref(), &bar)?;
    } else {
        found.pull(&layout, tag, cache.as_ref(), &bar)?;
    }
    Ok(Reference::of_tag(&args.layout, tag))
}

/// Whether a daemon fetches what is read of this layout.
fn is_watched(daemon: &Path, layout: &Layout) -> Result<bool> {
    let path = layout
        .path()
        .canonicalize()
        .map_err(puzzlefs::Error::from)?;
    let path = path.display().to_string();
    Ok(puzzlefs::daemon::ask(daemon)?.is_some_and(|daemon| daemon.layouts.contains(&path)))
}
