// SPDX-License-Identifier: Apache-2.0
//! puzzlefs daemon and puzzlefs status.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use puzzlefs::base::progress::{Progress, Unit};
use puzzlefs::base::text;
use puzzlefs::daemon::metrics::Doing;
use puzzlefs::daemon::{self, Options};
use puzzlefs::layout::Layout;
use puzzlefs::lazy::status;
use puzzlefs::Error;
use serde::Serialize;

use super::args::{Daemon, Status};
use super::failure::{Failure, Result};
use super::pull::origins;
use super::{out, show};

/// Lines instead of bars.
struct Lines;

impl Progress for Lines {
    fn phase(&self, _: &str, _: u64, _: Unit) {}
    fn advance(&self, _: u64) {}
    fn note(&self, text: &str) {
        out::note(text);
    }
}

/// puzzlefs daemon.
pub fn daemon(args: &Daemon) -> Result<()> {
    // Before anything is opened. A worker is passed nothing, and is the program that its supervisor is.
    let inherited = match args.worker {
        true => None,
        false => {
            daemon::stand_alone()?;
            daemon::inherit()?
        }
    };
    let layouts = args.layouts.iter().map(|dir| Layout::open(dir));
    let layouts = layouts.collect::<puzzlefs::Result<Vec<Layout>>>()?;
    if args.worker {
        return worker(args, &layouts);
    }
    for rate in &args.image_rate {
        let dir = rate.image.layout.canonicalize().ok();
        let is_it = |it: &&PathBuf| dir.is_some() && it.canonicalize().ok() == dir;
        if !args.layouts.iter().any(|it| is_it(&it)) {
            let text = format!(
                "--image-rate {}: that is in none of the layouts",
                rate.image
            );
            return Err(Failure::Usage(text));
        }
    }
    let command = |restarts: u64| {
        let restarts = restarts.to_string();
        let more = ["--worker", "--restarts", &restarts];
        let mut command = Command::new("/proc/self/exe");
        // Before the layouts, in front of which a `--` may stand.
        for argument in std::env::args_os().skip(1) {
            let is_name = argument == "daemon" && command.get_args().all(|it| it != "daemon");
            command.arg(argument).args(more.iter().filter(|_| is_name));
        }
        command
    };
    Ok(daemon::supervise(inherited, &layouts, command, &Lines)?)
}

fn worker(args: &Daemon, layouts: &[Layout]) -> Result<()> {
    // However its supervisor ends, nobody writes into a layout whose daemon has ended.
    let killed = Some(rustix::process::Signal::KILL);
    rustix::process::set_parent_process_death_signal(killed).map_err(Error::from)?;
    // Programs that it starts are not to have the socket.
    let socket = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3).map_err(Error::from)?;
    let null = std::fs::File::open("/dev/null").map_err(Error::from)?;
    rustix::stdio::dup2_stdin(&null).map_err(Error::from)?;
    let options = Options {
        on_failure: args.fetching.on_failure(),
        fill: !args.no_fill,
        rate: args.fetching.rate,
        rates: args.image_rate.clone(),
        metrics: args.metrics.clone(),
        restarts: args.restarts,
    };
    let origins = origins(args.registry.options()).after(&args.fetching.from);
    Ok(daemon::work(&socket, layouts, origins, options, &Lines)?)
}

#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    here: status::Status,
    /// What a daemon that has the layout does.
    #[serde(skip_serializing_if = "Option::is_none")]
    daemon: Option<Doing>,
}

/// puzzlefs status.
pub fn status(args: &Status) -> Result<()> {
    let layout = Layout::open(&args.layout)?;
    let here = status::status(&layout)?;
    let path = layout.path().canonicalize().map_err(Error::from)?;
    let path = path.display().to_string();
    let daemon = daemon::ask(&args.daemon)?;
    let daemon = daemon.filter(|daemon| daemon.layouts.contains(&path));
    let report = Report { here, daemon };
    show::report(args.format, &report, |out| {
        for image in &report.here.images {
            let name = match &image.tags[..] {
                [] => format!("sha256:{}", image.manifest),
                tags => show::tags(tags),
            };
            let (here, all) = (show::bytes(image.bytes_here), show::bytes(image.bytes));
            writeln!(out, "{name}: {here} of {all} here, {} packs", image.packs)?;
            for pack in &image.lazy {
                let (here, all) = (pack.chunks_here, pack.chunks);
                write!(out, "  sha256:{}: {here} of {all} chunks", pack.pack)?;
                let fetching = report.daemon.iter().flat_map(|daemon| &daemon.fetching);
                let fetching = fetching.filter(|it| it.pack == pack.pack);
                let chunks: u64 = fetching.map(|it| it.chunks).sum();
                match chunks {
                    0 => writeln!(out)?,
                    chunks => writeln!(out, ", {chunks} are being fetched")?,
                }
            }
            let sources = image.lazy.iter().flat_map(|pack| &pack.sources);
            for source in sources.collect::<BTreeSet<_>>() {
                writeln!(out, "  from {}", text::quoted(source.as_bytes()))?;
            }
        }
        if let Some(daemon) = &report.daemon {
            let (waiting, requests) = (daemon.waiting, daemon.fetching.len());
            let full = if daemon.disk_full {
                "; no space is left"
            } else {
                ""
            };
            writeln!(
                out,
                "daemon: {waiting} reads wait, {requests} requests under way{full}"
            )?;
        }
        Ok(())
    })
}
