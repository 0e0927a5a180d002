// SPDX-License-Identifier: Apache-2.0
//! puzzlefs bundle and puzzlefs run.

use std::io::{self, IsTerminal};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitCode;

use puzzlefs::base::text;
use puzzlefs::bundle::{self, Options};
use puzzlefs::layout::reference::Reference;
use puzzlefs::registry;
use puzzlefs::remote::Place;

use super::args::{self, Bundle, Run};
use super::bar::Bar;
use super::failure::Result;
use super::{elsewhere, out, show};

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
        let quoted = |words: &[String]| {
            let words = words.iter().map(|word| text::quoted(word.as_bytes()));
            words.collect::<Vec<_>>().join(" ")
        };
        let cwd = text::quoted(made.cwd.as_bytes());
        writeln!(out, "runs      {} in {cwd}", quoted(&made.args))?;
        if !made.volumes.is_empty() {
            writeln!(out, "volumes   {}", quoted(&made.volumes))?;
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
    elsewhere::pull_watched(&args.pulled, (&place, &[]), tag)?;
    Ok(Reference::of_tag(&args.pulled.layout, tag))
}
