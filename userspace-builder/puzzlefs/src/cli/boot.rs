// SPDX-License-Identifier: Apache-2.0
//! puzzlefs boot-image.

use puzzlefs::boot::make::{self, Options};
use puzzlefs::layout::Layout;
use puzzlefs::remote::push::{Count, Push};

use super::args::BootImage;
use super::bar::Bar;
use super::failure::Result;
use super::show;

/// Makes a boot image, pushes it, and reports what went.
pub fn boot_image(args: &BootImage) -> Result<()> {
    let options = Options {
        program: args.program.clone(),
        push: Push {
            registry: args.registry.options(),
            mount_from: args.mount_from.clone(),
            with: None,
            stand_in: false,
            jobs: args.jobs.get(),
        },
    };
    let layout = Layout::open(&args.image.layout)?;
    let bar = Bar::new();
    let report = make::make(&layout, &args.image.name, &args.to, &options, &bar)?;
    drop(bar);
    show::done(args.format, &report, |out| {
        let count = |count: Count| format!("{} blobs, {}", count.blobs, show::bytes(count.bytes));
        writeln!(out, "digest    sha256:{}", report.pushed.digest)?;
        let layer = show::bytes(report.layer_bytes);
        writeln!(out, "boot      sha256:{}, {layer}", report.boot)?;
        writeln!(out, "puzzlefs  sha256:{}", report.pushed.manifest)?;
        writeln!(out, "sent      {}", count(report.pushed.sent))?;
        writeln!(out, "mounted   {}", count(report.pushed.mounted))?;
        writeln!(out, "there     {}", count(report.pushed.there))
    })
}
