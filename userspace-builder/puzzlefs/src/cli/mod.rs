// SPDX-License-Identifier: Apache-2.0
//! The command line: dispatch to the library.

mod args;
mod bar;
mod build;
mod mount;
mod read;
mod show;
mod store;
mod tags;

use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{CommandFactory, Parser};
use rustix::process::{Resource, Rlimit};

use args::{Args, Command, Completions, Man, MountHelper};

/// Runs what the program's name and arguments ask for.
pub fn run() -> Result<ExitCode> {
    let name = std::env::args_os().next().unwrap_or_default();
    if Path::new(&name).file_name() == Some(OsStr::new("mount.puzzlefs")) {
        return mount::helper(&MountHelper::parse());
    }
    let command = Args::parse().command;
    raise_descriptors();
    match command {
        Command::Build(args) => build::run(&args),
        Command::Inspect(args) => read::inspect(&args),
        Command::Ls(args) => read::ls(&args),
        Command::Verify(args) => return read::verify(&args),
        Command::Extract(args) => read::extract(&args),
        Command::Repack(args) => return store::repack(&args),
        Command::Unpack(args) => return store::unpack(&args),
        Command::Du(args) => return store::du(&args),
        Command::Tags(args) => tags::tags(&args),
        Command::Tag(args) => tags::tag(&args),
        Command::Rm(args) => return tags::rm(&args),
        Command::Gc(args) => return store::gc(&args),
        Command::Mount(args) => mount::mount(&args),
        Command::Umount(args) => mount::umount(&args),
        Command::Stats(args) => mount::stats(&args),
        Command::Completions(args) => completions(&args),
        Command::Man(args) => man(&args),
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
    Ok(std::io::stdout().write_all(&script)?)
}

fn man(args: &Man) -> Result<()> {
    let context = || format!("writing manual pages to {}", args.dir.display());
    std::fs::create_dir_all(&args.dir).with_context(context)?;
    clap_mangen::generate_to(Args::command(), &args.dir).with_context(context)?;
    clap_mangen::generate_to(MountHelper::command(), &args.dir).with_context(context)
}
