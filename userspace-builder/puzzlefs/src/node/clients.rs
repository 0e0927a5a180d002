// SPDX-License-Identifier: Apache-2.0
//! How much those who ask may have at the same time: answers, pulls and mounts.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use puzzlefs_format::Digest;
use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::net::UCred;
use rustix::process::{pidfd_open, PidfdFlags};

use crate::base::error::{Error, Result};

/// Requests that are answered at the same time, each by a thread.
const REQUESTS: usize = 64;
/// Images that are pulled at the same time.
const PULLS: usize = 4;
/// Processes that have a mount.
const MOUNTS: usize = 4096;
/// The part of requests and mounts that one user may have who is not root: root may run containers for all others.
const SHARE: usize = 4;
/// So long somebody waits for others who pull.
const PATIENCE: Duration = Duration::from_secs(10 * 60);

/// All of them.
#[derive(Default)]
pub(super) struct Clients {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Who is answered: the user's number.
    asking: Vec<u32>,
    /// What is pulled.
    pulled: BTreeSet<Digest>,
    /// Who has a mount: the user's number, and the process, as a descriptor.
    given: Vec<(u32, OwnedFd)>,
}

/// Somebody who is answered.
pub(super) struct Asking {
    clients: Arc<Clients>,
    user: u32,
}

/// An image that is pulled by the one who has this.
pub(super) struct Pulling<'a> {
    clients: &'a Clients,
    image: Digest,
}

fn is_too_much(all: usize, own: usize, user: u32, most: usize) -> bool {
    all >= most || (user != 0 && own >= most / SHARE)
}

impl Clients {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more who is answered.
    ///
    /// # Errors
    ///
    /// There are too many.
    pub(super) fn enter(self: &Arc<Self>, peer: &UCred) -> Result<Asking> {
        let user = peer.uid.as_raw();
        let mut state = self.state();
        let own = state.asking.iter().filter(|it| **it == user).count();
        if is_too_much(state.asking.len(), own, user, REQUESTS) {
            return Err(Error::refused("too many requests at the same time"));
        }
        state.asking.push(user);
        Ok(Asking {
            clients: Arc::clone(self),
            user,
        })
    }

    /// Waits until nobody pulls this image, and few others. `None` if somebody did meanwhile.
    ///
    /// # Errors
    ///
    /// It takes too long.
    pub(super) fn pull(&self, image: &Digest) -> Result<Option<Pulling<'_>>> {
        let begun = Instant::now();
        let mut state = self.state();
        let mut has_waited = false;
        loop {
            let is_pulled = state.pulled.contains(image);
            if has_waited && !is_pulled {
                return Ok(None);
            }
            has_waited = is_pulled;
            if !is_pulled && state.pulled.len() < PULLS {
                state.pulled.insert(*image);
                return Ok(Some(Pulling {
                    clients: self,
                    image: *image,
                }));
            }
            let Some(left) = PATIENCE.checked_sub(begun.elapsed()) else {
                return Err(Error::refused("others pull images, and take too long"));
            };
            let waited = self.changed.wait_timeout(state, left);
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Whether the one who asks may have a mount.
    ///
    /// # Errors
    ///
    /// There are too many. A mount counts as long as the process is there that has asked for it.
    pub(super) fn may_have(&self, peer: &UCred) -> Result<()> {
        let user = peer.uid.as_raw();
        let mut state = self.state();
        state.given.retain(|(_, process)| is_there(process));
        let own = state.given.iter().filter(|(it, _)| *it == user).count();
        match is_too_much(state.given.len(), own, user, MOUNTS) {
            true => Err(Error::refused("too many processes have mounts")),
            false => Ok(()),
        }
    }

    /// The process, to be counted once it has a mount.
    ///
    /// # Errors
    ///
    /// It is gone.
    pub(super) fn process(peer: &UCred) -> Result<OwnedFd> {
        Ok(pidfd_open(peer.pid, PidfdFlags::empty())?)
    }

    /// Counts a mount.
    pub(super) fn given(&self, peer: &UCred, process: OwnedFd) {
        self.state().given.push((peer.uid.as_raw(), process));
    }
}

fn is_there(process: &OwnedFd) -> bool {
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // It can be read as soon as the process has ended (pidfd_open(2)).
    !matches!(
        poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&now)),
        Ok(1)
    )
}

impl Drop for Asking {
    fn drop(&mut self) {
        let mut state = self.clients.state();
        if let Some(at) = state.asking.iter().position(|it| *it == self.user) {
            state.asking.swap_remove(at);
        }
    }
}

impl Drop for Pulling<'_> {
    fn drop(&mut self) {
        self.clients.state().pulled.remove(&self.image);
        self.clients.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::{Gid, Pid, Uid};

    use super::*;

    fn peer(user: u32, pid: Pid) -> UCred {
        UCred {
            pid,
            uid: Uid::from_raw(user),
            gid: Gid::ROOT,
        }
    }

    #[test]
    fn nobody_has_all_of_it() {
        let clients = Arc::new(Clients::default());
        let here = rustix::process::getpid();
        let (one, other, root) = (peer(7, here), peer(8, here), peer(0, here));
        let mut all: Vec<_> = (0..REQUESTS / SHARE)
            .map(|_| clients.enter(&one).unwrap())
            .collect();
        assert!(clients.enter(&one).is_err());
        all.push(clients.enter(&other).unwrap());
        while all.len() < REQUESTS {
            all.push(clients.enter(&root).unwrap());
        }
        assert!(clients.enter(&root).is_err());
        drop(all);
        clients.enter(&one).unwrap();

        let mut child = std::process::Command::new("sleep")
            .arg("100")
            .spawn()
            .unwrap();
        let pid = Pid::from_child(&child);
        for _ in 0..MOUNTS / SHARE {
            clients.may_have(&one).unwrap();
            let process = Clients::process(&peer(7, pid)).unwrap();
            clients.given(&one, process);
        }
        assert!(clients.may_have(&one).is_err());
        clients.may_have(&other).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        clients.may_have(&one).unwrap();
        assert!(clients.state().given.is_empty());
    }

    #[test]
    fn an_image_is_pulled_once() {
        let clients = Clients::default();
        let digest = |byte| Digest::from_bytes([byte; 32]);
        let pulling = clients.pull(&digest(1)).unwrap().unwrap();
        let others: Vec<_> = (2..=4)
            .map(|byte| clients.pull(&digest(byte)).unwrap().unwrap())
            .collect();
        std::thread::scope(|scope| {
            let same = scope.spawn(|| clients.pull(&digest(1)).unwrap().is_none());
            let fifth = scope.spawn(|| clients.pull(&digest(5)).unwrap().is_some());
            std::thread::sleep(Duration::from_millis(100));
            assert!(!same.is_finished() && !fifth.is_finished());
            drop(pulling);
            assert!(same.join().unwrap() && fifth.join().unwrap());
        });
        drop(others);
        assert!(clients.state().pulled.is_empty());
    }
}
