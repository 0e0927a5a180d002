// SPDX-License-Identifier: Apache-2.0
//! The command line: dispatch to the library.

mod args;
mod bar;
mod boot;
mod build;
mod bundle;
mod cache;
mod daemon;
mod elsewhere;
mod exit;
mod export;
mod failure;
mod fuse;
mod man;
mod mount;
mod out;
mod profile;
mod pull;
mod push;
mod read;
mod show;
mod snapshotter;
mod store;
mod tags;

use std::ffi::OsStr;
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use puzzlefs::base::cleanup;
use rustix::process::{Resource, Rlimit};

use args::{Args, Command, Completions, MountHelper};
use failure::{Failure, Result};

/// Does what the program's name and arguments ask for; says what went wrong.
pub fn main() -> ExitCode {
    exit::tidy_on_signals();
    let name = std::env::args_os().next().unwrap_or_default();
    let name = Path::new(&name).file_name().and_then(OsStr::to_str);
    let result = match name {
        Some(name @ ("mount.puzzlefs" | "mount.fuse.puzzlefs")) => {
            let is_fuse = name == "mount.fuse.puzzlefs";
            let helper = |args| mount::helper(&args, is_fuse);
            MountHelper::try_parse().map_or_else(|answer| no_command(&answer, 1), helper)
        }
        _ => Args::try_parse().map_or_else(|answer| no_command(&answer, exit::USAGE), run),
    };
    // If a signal ends the process, what fails by that is nothing to be said.
    cleanup::wait();
    result.unwrap_or_else(|failure| exit::failed(&failure))
}

/// What the parser of arguments has to say: help, the version, or what makes no sense.
fn no_command(answer: &clap::Error, usage: u8) -> Result<ExitCode> {
    if answer.use_stderr() {
        // If it cannot be written, the status tells.
        let _ = answer.print();
        return Ok(ExitCode::from(usage));
    }
    out::help(answer)?;
    Ok(ExitCode::SUCCESS)
}

fn run(args: Args) -> Result<ExitCode> {
    out::set_quiet(args.quiet);
    raise_descriptors();
    match args.command {
        Command::Build(args) => build::run(&args),
        Command::Convert(args) => build::convert(&args),
        Command::Pull(args) => pull::pull(&args),
        Command::Complete(args) => pull::complete(&args),
        Command::Daemon(args) => daemon::daemon(&args),
        Command::Status(args) => daemon::status(&args),
        Command::Profile(args) => profile::profile(&args),
        Command::Push(args) => push::push(&args),
        Command::BootImage(args) => boot::boot_image(&args),
        Command::Serve(args) => pull::serve(&args),
        Command::Inspect(args) => read::inspect(&args),
        Command::Ls(args) => read::ls(&args),
        Command::Cat(args) => export::cat(&args),
        Command::Diff(args) => return export::diff_images(&args),
        Command::Verify(args) => return read::verify(&args),
        Command::Extract(args) => return read::extract(&args),
        Command::Export(args) => return export::export(&args),
        Command::Repack(args) => return store::repack(&args),
        Command::Unpack(args) => return store::unpack(&args),
        Command::Du(args) => return store::du(&args),
        Command::Tags(args) => tags::tags(&args),
        Command::Tag(args) => tags::tag(&args),
        Command::Rm(args) => return tags::rm(&args),
        Command::Gc(args) => return store::gc(&args),
        Command::Run(args) => return bundle::run(&args),
        Command::Bundle(args) => bundle::bundle(&args),
        Command::Snapshotter(args) => snapshotter::snapshotter(&args),
        Command::Mount(args) => mount::mount(&args),
        Command::Umount(args) => mount::umount(&args),
        Command::Stats(args) => mount::stats(&args),
        Command::Completions(args) => completions(&args),
        Command::Man(args) => {
            man::write(&args.dir).map_err(|error| puzzlefs::Error::from(error).into())
        }
    }?;
    Ok(ExitCode::SUCCESS)
}

/// Lets the command have as many files open as it may. Shells begin with 1,024, so that programs
/// that use select(2) do not break.
fn raise_descriptors() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    // The old limit serves too.
    let _ = rustix::process::setrlimit(Resource::Nofile, raised);
}

fn completions(args: &Completions) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Args::command(), "puzzlefs", &mut script);
    out::write(|out| out.write_all(&script).map_err(Failure::Output))
}
