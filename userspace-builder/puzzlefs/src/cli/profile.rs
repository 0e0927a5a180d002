// SPDX-License-Identifier: Apache-2.0
//! puzzlefs profile, and profiles that other commands are given.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use puzzlefs::base::{cleanup, text};
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
    let output = args.output.as_deref().map(Output::new).transpose()?;
    let report = record(&args.target, &args.command, output.is_none())?;
    match report.status {
        Some(0) => {}
        Some(status) => out::note(&format!("the program has ended with status {status}")),
        None => out::note("the program was ended by a signal"),
    }
    let text = report.profile.to_text()?;
    let Some(output) = output else {
        return out::write(|out| out.write_all(&text).map_err(Failure::Output));
    };
    output.finish(&text)?;
    show::done(args.format, &report, |out| {
        let (chunks, bytes) = (report.chunks, show::bytes(report.bytes));
        writeln!(out, "image     sha256:{}", report.image)?;
        writeln!(out, "read      {chunks} chunks, {bytes}")?;
        writeln!(out, "profile   {} parts of files", report.parts)
    })
}

/// A file that is there when it is whole: one that was there before stays until then.
struct Output<'a> {
    path: &'a Path,
    file: File,
    /// What it is called until then, and what removes it if a signal comes; `None` for what is no file, as a pipe, or is
    /// there.
    part: Option<(PathBuf, cleanup::Guard)>,
}

impl<'a> Output<'a> {
    fn new(path: &'a Path) -> Result<Self> {
        if fs::metadata(path).is_ok_and(|it| !it.is_file()) {
            let file = File::options().write(true).open(path);
            let file = file.map_err(|error| said("opening", path, &error))?;
            let part = None;
            return Ok(Output { path, file, part });
        }
        let mut part = path.as_os_str().to_owned();
        part.push(format!(".{}.part", std::process::id()));
        let part = PathBuf::from(part);
        let file = File::create_new(&part).map_err(|error| said("making", &part, &error))?;
        let left = part.clone();
        let guard = cleanup::on_signal(move || drop(fs::remove_file(left)));
        let part = Some((part, guard));
        Ok(Output { path, file, part })
    }

    fn finish(mut self, text: &[u8]) -> Result<()> {
        let wrong = |error: io::Error| said("writing", self.path, &error);
        self.file.write_all(text).map_err(wrong)?;
        let Some((part, guard)) = self.part.take() else {
            return Ok(());
        };
        let moved = guard.finish(|| {
            let moved = self.file.sync_all();
            let moved = moved.and_then(|()| fs::rename(&part, self.path));
            moved.inspect_err(|_| drop(fs::remove_file(&part)))
        });
        moved.map_err(wrong)
    }
}

impl Drop for Output<'_> {
    fn drop(&mut self) {
        if let Some((part, guard)) = self.part.take() {
            guard.finish(|| drop(fs::remove_file(part)));
        }
    }
}

/// An error of a file, with its name.
fn said(what: &str, path: &Path, error: &io::Error) -> Failure {
    let text = format!("{what} {}: {error}", text::path(path));
    puzzlefs::Error::from(io::Error::new(error.kind(), text)).into()
}

/// The profile that the command line names, if it does.
pub fn read(from: Option<&ProfileFrom>) -> Result<Option<Profile>> {
    Ok(match from {
        None => None,
        Some(ProfileFrom::File(path)) => Some(Profile::read(path)?),
        Some(ProfileFrom::Image(image)) => Some(Profile::of_image(&Image::open(image)?)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_when_it_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("profile");
        fs::write(&path, "before").unwrap();
        let names = || fs::read_dir(dir.path()).unwrap().count();
        // Whoever fails leaves what was there, and nothing else.
        let output = Output::new(&path).map_err(|it| it.text()).unwrap();
        assert_eq!(names(), 2);
        drop(output);
        assert_eq!((fs::read(&path).unwrap(), names()), (b"before".to_vec(), 1));
        let output = Output::new(&path).map_err(|it| it.text()).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"before");
        output.finish(b"after").map_err(|it| it.text()).unwrap();
        assert_eq!((fs::read(&path).unwrap(), names()), (b"after".to_vec(), 1));
        let null = Output::new(Path::new("/dev/null")).map_err(|it| it.text());
        null.unwrap()
            .finish(b"gone")
            .map_err(|it| it.text())
            .unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
        assert!(Output::new(&dir.path().join("none/profile")).is_err());
    }
}
