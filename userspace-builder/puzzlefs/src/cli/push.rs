// SPDX-License-Identifier: Apache-2.0
//! puzzlefs push.

use puzzlefs::layout::Layout;
use puzzlefs::remote::push::{self, Count};

use super::args::Push;
use super::bar::Bar;
use super::failure::Result;
use super::show;

/// Pushes, and reports what went.
pub fn push(args: &Push) -> Result<()> {
    let options = push::Push {
        registry: args.registry.options(),
        mount_from: args.mount_from.clone(),
        with: args.with.clone(),
        stand_in: args.stand_in,
        jobs: args.jobs.get(),
    };
    let layout = Layout::open(&args.image.layout)?;
    let bar = Bar::new();
    let report = push::push(&layout, &args.image.name, &args.to, &options, &bar)?;
    drop(bar);
    show::done(args.format, &report, |out| {
        let count = |count: Count| format!("{} blobs, {}", count.blobs, show::bytes(count.bytes));
        writeln!(out, "digest    sha256:{}", report.digest)?;
        if report.manifest != report.digest {
            writeln!(out, "puzzlefs  sha256:{}", report.manifest)?;
        }
        writeln!(out, "sent      {}", count(report.sent))?;
        writeln!(out, "mounted   {}", count(report.mounted))?;
        writeln!(out, "there     {}", count(report.there))
    })
}
