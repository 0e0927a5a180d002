// SPDX-License-Identifier: Apache-2.0
//! Who holds the descriptor of the events. It does nothing that can fail for long: it opens no file of a layout, and
//! speaks with nobody but the kernel and the worker.
//!
//! Under systemd this process may die as well: [`super::store`].
//!
//! A worker that dies takes nothing with it: what it was told of and has not answered, the next one is told again. The
//! readers wait, and can be killed, until then.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use puzzlefs_fanotify::{Answer, Event, Group};
use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{shutdown, socketpair, AddressFamily, Shutdown, SocketFlags, SocketType};
use rustix::process::{pidfd_open, pidfd_send_signal, Pid, PidfdFlags, Signal};

use super::notify;
use super::store::{Inherited, Journal};
use super::wire::{self, Heard, Verdict};
use crate::base::cleanup::{self, Guard};
use crate::base::progress::Progress;
use crate::layout::Layout;

/// Reads that wait, at most; others wait in the kernel's queue.
const MOST: usize = 512;
/// A worker that lived for less is followed by the next one after this time only; twice that each time, if it has answered
/// nothing.
const SHORT: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Times one after the other that events may not be had, before that is for ever.
const MOST_FAILED: u32 = 100;
/// How often it is tried to start a worker, while there is no memory for one, say.
const AGAIN: Duration = Duration::from_secs(1);
/// For how long a worker may keep what it has fetched when a signal ends this process.
const LAST: Duration = Duration::from_secs(10);

/// Watches the packs of `layouts`, and has a worker see to reads of them, as long as this process lives. `worker` is
/// the command of one after so many others, which gets a socket as its standard input and ends with that.
///
/// `inherited` is what a process of before has left.
///
/// # Errors
///
/// If another daemon serves one of the layouts; if the kernel has no pre-content events, or the caller not the right to have
/// them: then nothing was begun.
pub fn supervise(
    inherited: Option<Inherited>,
    layouts: &[Layout],
    worker: impl Fn(u64) -> Command,
    progress: &dyn Progress,
) -> crate::Result<()> {
    Ok(run(inherited, layouts, worker, progress)?)
}

fn run(
    inherited: Option<Inherited>,
    layouts: &[Layout],
    worker: impl Fn(u64) -> Command,
    progress: &dyn Progress,
) -> Result<()> {
    let served = layouts.iter().map(Layout::serve_alone);
    let _served = served.collect::<crate::Result<Vec<_>>>()?;
    let (mut group, journal, old) = match inherited {
        Some(inherited) => {
            let (group, journal, old) = inherited.take(layouts)?;
            let count = old.len();
            progress.note(&format!(
                "goes on for one that has ended; {count} reads have waited"
            ));
            (group, Some(journal), old)
        }
        None => {
            let group = Group::new().context(
                "fanotify: `puzzlefs daemon` needs CAP_SYS_ADMIN, and a kernel with pre-content events (6.14)",
            )?;
            let journal = Journal::begin(&group)?;
            (group, journal, Vec::new())
        }
    };
    for layout in layouts {
        let watched = group.watch_dir(layout.blob_dir()?);
        watched.with_context(|| format!("watching the packs of {}", layout.path().display()))?;
    }
    let mut at_work = Worker::start(&worker, 0)?;
    let mut events = Events {
        journal,
        ..Events::default()
    };
    old.into_iter().for_each(|event| events.add(event));
    let (mut failed, mut restarts, mut useless) = (0, 0, 0);
    notify::ready();
    loop {
        let room = events.waiting.len() < MOST;
        wait(&group, &at_work.socket, room, !events.untold.is_empty())?;
        if room {
            match events.read(&mut group, at_work.child.id()) {
                Ok(()) => failed = 0,
                // The kernel has refused the read that it had no memory or descriptor to tell of. If this process ended,
                // it would refuse all.
                Err(error) if failed < MOST_FAILED => {
                    failed += 1;
                    progress.note(&format!("{error:#}"));
                    thread::sleep(PAUSE);
                }
                Err(error) => return Err(error),
            }
        }
        let mut is_gone = false;
        loop {
            match wire::heard(&at_work.socket) {
                Heard::Verdict(id, verdict) => {
                    useless = 0;
                    events.answer(&group, id, verdict)?;
                }
                Heard::Nothing => break,
                Heard::End => {
                    is_gone = true;
                    break;
                }
            }
        }
        is_gone |= events.tell(&at_work.socket).is_err();
        if is_gone {
            let waiting = events.waiting.len();
            thread::sleep(at_work.end(&mut useless));
            restarts += 1;
            progress.note(&format!(
                "the worker has ended; {waiting} reads wait for the next one"
            ));
            at_work = Worker::start_again(&worker, restarts, progress);
            events.untold = events.waiting.keys().copied().collect();
        }
    }
}

/// Waits until there is something to do.
fn wait(group: &Group, socket: &OwnedFd, reads: bool, tells: bool) -> Result<()> {
    let mut flags = PollFlags::IN;
    flags.set(PollFlags::OUT, tells);
    let mut fds = vec![PollFd::new(socket, flags)];
    if reads {
        fds.push(PollFd::new(group, PollFlags::IN));
    }
    match poll(&mut fds, None) {
        Err(Errno::INTR) => Ok(()),
        polled => Ok(polled.map(drop)?),
    }
}

/// Reads that have no answer yet.
#[derive(Default)]
struct Events {
    next: u64,
    waiting: BTreeMap<u64, Event>,
    /// Those that the worker was not told of.
    untold: BTreeSet<u64>,
    /// The same, for the next supervisor.
    journal: Option<Journal>,
}

impl Events {
    /// Takes what has come. What the worker itself reads and writes goes on: it knows what is there.
    fn read(&mut self, group: &mut Group, worker: u32) -> Result<()> {
        let come: io::Result<Vec<Event>> = group.read().context("reading events")?.collect();
        for event in come? {
            if event.process == worker {
                group.answer(event, Answer::Allow)?;
                continue;
            }
            if let Some(journal) = &self.journal {
                // One that is not there fails if this process dies.
                let _ = journal.put(&event);
            }
            self.add(event);
        }
        Ok(())
    }

    fn add(&mut self, event: Event) {
        self.waiting.insert(self.next, event);
        self.untold.insert(self.next);
        self.next += 1;
    }

    /// Tells the worker of what it was not told of, as far as it hears.
    fn tell(&mut self, socket: &OwnedFd) -> Result<(), Errno> {
        while let Some(id) = self.untold.first().copied() {
            if let Some(event) = self.waiting.get(&id) {
                match wire::ask(socket, id, &event.range, event.as_fd()) {
                    // Too many descriptors are under way.
                    Err(Errno::AGAIN | Errno::TOOMANYREFS | Errno::INTR) => return Ok(()),
                    // It has ended, or is about to: it is heard of. All that waits is told to the next one.
                    Err(Errno::PIPE) => {
                        self.untold.clear();
                        return Ok(());
                    }
                    told => told?,
                }
            }
            self.untold.remove(&id);
        }
        Ok(())
    }

    fn answer(&mut self, group: &Group, id: u64, verdict: Verdict) -> Result<()> {
        self.untold.remove(&id);
        let Some(event) = self.waiting.remove(&id) else {
            return Ok(());
        };
        if verdict == Verdict::Ignore {
            // Without memory for it, the next read is told of, too.
            let _ = group.ignore(&event);
        }
        let answer = match verdict {
            Verdict::Fail => Answer::Fail,
            Verdict::Allow | Verdict::Ignore => Answer::Allow,
        };
        let number = event.as_fd().as_raw_fd();
        group.answer(event, answer)?;
        if let Some(journal) = &self.journal {
            // One that is answered twice is answered once.
            let _ = journal.clear(number);
        }
        Ok(())
    }
}

/// Ends a worker before this process is ended by a signal.
fn end(socket: &OwnedFd, process: &OwnedFd) {
    let ends_within = |patience: Duration| {
        let mut polled = [PollFd::new(process, PollFlags::IN)];
        let patience = Timespec::try_from(patience).ok();
        matches!(poll(&mut polled, patience.as_ref()), Ok(1..))
    };
    // It ends with that, as soon as the requests that are under way have ended. Until then what it reads itself is answered.
    let _ = shutdown(socket, Shutdown::Write);
    if !ends_within(LAST) {
        // What it has not recorded is fetched again.
        let _ = pidfd_send_signal(process, Signal::KILL);
        ends_within(LAST);
    }
}

struct Worker {
    child: Child,
    socket: OwnedFd,
    since: Instant,
    /// A signal ends the worker before this process: nobody writes into a layout whose daemon has ended.
    last: Guard,
}

impl Worker {
    fn start(command: &impl Fn(u64) -> Command, restarts: u64) -> Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        let pair = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None);
        let (socket, theirs) = pair.context("a pair of sockets")?;
        let mut command = command(restarts);
        let child = command.stdin(Stdio::from(theirs)).stdout(Stdio::null());
        let its = socket.try_clone().context("a pair of sockets")?;
        let process = Arc::new(OnceLock::new());
        let started = Arc::clone(&process);
        // No signal comes between.
        let made = cleanup::make(
            move || {
                let child = child.spawn()?;
                let _ = started.set(pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?);
                Ok(child)
            },
            move || {
                if let Some(process) = process.get() {
                    end(&its, process);
                }
            },
        );
        let (child, last) = made.context("starting a worker")?;
        Ok(Worker {
            child,
            socket,
            since: Instant::now(),
            last,
        })
    }

    /// Starts one, as soon as that can be. Readers wait, and can be killed, meanwhile.
    fn start_again(
        command: &impl Fn(u64) -> Command,
        restarts: u64,
        progress: &dyn Progress,
    ) -> Self {
        loop {
            match Self::start(command, restarts) {
                Ok(worker) => return worker,
                Err(error) => progress.note(&format!("{error:#}")),
            }
            thread::sleep(AGAIN);
        }
    }

    /// Ends it; gives how long to wait before the next one, after so many that ended soon and had answered nothing.
    fn end(mut self, useless: &mut u32) -> Duration {
        // This is where it goes no further if a signal has come.
        drop(self.last);
        // One that only does not speak any more is not to go on beside the next.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if self.since.elapsed() >= SHORT {
            *useless = 0;
            return Duration::ZERO;
        }
        let pause = PAUSE.saturating_mul(1 << (*useless).min(10));
        *useless = useless.saturating_add(1);
        pause.min(LONGEST_PAUSE)
    }
}
