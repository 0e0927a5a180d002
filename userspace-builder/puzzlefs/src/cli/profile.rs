// SPDX-License-Identifier: Apache-2.0
//! puzzlefs profile, and profiles that other commands are given.

use std::fs::File;
use std::io::Write;

use puzzlefs::image::Image;
use puzzlefs::profile::record::record;
use puzzlefs::profile::Profile;

use super::args::{self, ProfileCommand, ProfileFrom, Record};
use super::failure::{Failure, Result};
use super::{out, show};

/// puzzlefs profile.
pub fn profile(args: &args::Profile) -> Result<()> {
    match &args.command {
        ProfileCommand::Record(args) => run(args),
    }
}

fn run(args: &Record) -> Result<()> {
    // Before a program runs for nothing.
    let create = |path| File::create(path).map_err(puzzlefs::Error::from);
    let file = args.output.as_ref().map(create).transpose()?;
    let report = record(&args.target, &args.command, file.is_none())?;
    match report.status {
        Some(0) => {}
        Some(status) => out::note(&format!("the program has ended with status {status}")),
        None => out::note("the program was ended by a signal"),
    }
    let text = report.profile.to_text()?;
    let Some(mut file) = file else {
        return out::write(|out| out.write_all(&text).map_err(Failure::Output));
    };
    let written = file.write_all(&text).and_then(|()| file.sync_all());
    written.map_err(puzzlefs::Error::from)?;
    show::done(args.format, &report, |out| {
        let (chunks, bytes) = (report.chunks, show::bytes(report.bytes));
        writeln!(out, "image     sha256:{}", report.image)?;
        writeln!(out, "read      {chunks} chunks, {bytes}")?;
        writeln!(out, "profile   {} parts of files", report.parts)
    })
}

/// The profile that the command line names, if it does.
pub fn read(from: Option<&ProfileFrom>) -> Result<Option<Profile>> {
    Ok(match from {
        None => None,
        Some(ProfileFrom::File(path)) => Some(Profile::read(path)?),
        Some(ProfileFrom::Image(image)) => Some(Profile::of_image(&Image::open(image)?)?),
    })
}
