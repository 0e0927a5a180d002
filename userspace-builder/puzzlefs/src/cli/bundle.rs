// SPDX-License-Identifier: Apache-2.0
//! puzzlefs bundle.

use puzzlefs::bundle::{self, Options};

use super::args::Bundle;
use super::bar::Bar;
use super::failure::Result;
use super::show;

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
        let groups: String = made.groups.iter().map(|gid| format!(",{gid}")).collect();
        writeln!(out, "user      {}:{}{groups}", made.uid, made.gid)?;
        writeln!(out, "runs      {} in {}", made.args.join(" "), made.cwd)?;
        if !made.volumes.is_empty() {
            writeln!(out, "volumes   {}", made.volumes.join(" "))?;
        }
        Ok(())
    })
}
