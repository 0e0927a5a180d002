// SPDX-License-Identifier: Apache-2.0
//! A process of the node that mounts images for containers, which ask at a socket: they get a mount that is nowhere, and
//! move it to where they want it. It ends with the last one who has it; this process keeps nothing of it.
//!
//! Whoever reaches the socket may ask, and means harm until the contrary is known. They get images that the layout has, by
//! their digests, and others from repositories that the administrator has allowed: with the node's credentials, which are
//! for those. Such a mount changes for nobody: what is root's in the image is that of the namespace's root, device nodes
//! lead to no device by the superblock itself, since whoever has a mount can change its flags, and the kernel verifies.

use std::fs::Permissions;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{ensure, Context};
use puzzlefs_format::Digest;
use rustix::net::UCred;

use super::allowed::Allowed;
use super::clients::Clients;
use super::few::Few;
use super::images::Node;
use super::wire::{self, Said, MAX_REQUEST};
use crate::base::error::{Error, Result, Where};
use crate::base::{passing, text};
use crate::daemon::{notify, Address, Listener};
use crate::mount::Value;
use crate::registry::Reference;

/// Tags of images that were pulled for containers begin with this.
pub const KEPT: &str = "node/";
/// Whoever asks has so long for each thing that they say, and to hear.
const PATIENCE: Duration = Duration::from_secs(10);
/// The kernel's number of the filesystem of namespaces (`NSFS_MAGIC`, include/uapi/linux/magic.h).
const NSFS: u64 = 0x6e73_6673;

/// What the administrator chooses.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen.
    pub socket: PathBuf,
    /// The mode of the socket: who may ask.
    pub mode: u32,
    /// From where images are pulled that are not here.
    pub allowed: Vec<Allowed>,
    /// How many of those are kept: the oldest ones are let go.
    pub images: usize,
}

/// The process.
pub struct Service {
    node: Node,
    options: Options,
    clients: Arc<Clients>,
    say: Few,
}

impl Service {
    /// One for the images of `node`. What it does, and does not do, is told by `say`.
    pub fn new(node: Node, options: Options, say: Box<dyn Fn(&str) + Send + Sync>) -> Arc<Self> {
        Arc::new(Service {
            node,
            options,
            clients: Arc::default(),
            say: Few::new(say),
        })
    }

    /// Listens at the socket.
    ///
    /// # Errors
    ///
    /// If something else is there.
    pub fn listen(&self) -> Result<UnixListener> {
        let path = &self.options.socket;
        let Listener::Unix(listener) = Listener::new(&Address::Unix(path.clone()))? else {
            return Err(Error::trouble("no socket of a filesystem"));
        };
        let mode = Permissions::from_mode(self.options.mode);
        let moded = std::fs::set_permissions(path, mode);
        moded.with_context(|| text::path(path)).at(path)?;
        listener.set_nonblocking(false)?;
        Ok(listener)
    }

    /// Answers for ever.
    ///
    /// # Errors
    ///
    /// What keeps it from listening.
    pub fn serve(self: &Arc<Self>, listener: &UnixListener) -> Result<()> {
        notify::ready();
        loop {
            let stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Whoever has gone away meanwhile is nobody's trouble; without descriptors others must end before.
                    self.say.say(&format!("accepting: {error}"));
                    std::thread::sleep(Duration::from_millis(100));
                    continue;
                }
            };
            self.begin(stream);
        }
    }

    /// Has a thread answer. Of too many nobody has one.
    fn begin(self: &Arc<Self>, stream: UnixStream) {
        let Ok(peer) = rustix::net::sockopt::socket_peercred(&stream) else {
            return;
        };
        // They may take no notice of what is said to them.
        let _ = stream.set_write_timeout(Some(PATIENCE));
        let asking = match self.clients.enter(&peer) {
            Ok(asking) => asking,
            // It is the first that is said there, for which there is room.
            Err(error) => return self.refuse(&stream, &peer, &error),
        };
        let service = Arc::clone(self);
        let work = move || {
            let _asking = asking;
            let timed = stream.set_read_timeout(Some(PATIENCE));
            let answered = timed.map_err(Error::from);
            let answered = answered.and_then(|()| service.answer(&stream, &peer));
            if let Err(error) = answered {
                service.refuse(&stream, &peer, &error);
            }
        };
        // Without memory for a thread nobody is answered; the stream is closed.
        let _ = std::thread::Builder::new().spawn(work);
    }

    /// Says why not, in the log and to them, who may be gone.
    fn refuse(&self, mut stream: &UnixStream, peer: &UCred, error: &Error) {
        let why = text::line(&format!("{error:#}"));
        self.say.say(&format!(
            "process {} of user {}: {why}",
            peer.pid.as_raw_nonzero(),
            peer.uid.as_raw()
        ));
        let text = [&[Said::Refused as u8], why.as_bytes()].concat();
        let _ = stream.write_all(&text);
    }

    /// Gives them what they want.
    fn answer(&self, stream: &UnixStream, peer: &UCred) -> Result<()> {
        let (image, manifest) = wire::asked(&line(stream)?).map_err(Error::refused)?;
        self.clients.may_have(peer)?;
        let process = Clients::process(peer)?;
        self.have(&image, &manifest)?;
        let mut writer = stream;
        writer.write_all(&[Said::Ready as u8])?;
        let (said, namespace) = passing::taken(stream)?;
        let namespace = namespace.filter(|_| said == Said::Namespace as u8);
        let namespace = namespace.context("no user namespace came")?;
        check(&namespace)?;
        let mount = self.mounted(&manifest, &namespace)?;
        passing::pass(stream, Said::Mount as u8, mount.as_fd())?;
        self.clients.given(peer, process);
        Ok(())
    }

    /// Sees to it that the image is here.
    fn have(&self, image: &Reference, manifest: &Digest) -> Result<()> {
        loop {
            if self.node.is_listed(manifest)? {
                return Ok(());
            }
            let repository = &image.repository;
            if !self.options.allowed.iter().any(|it| it.has(repository)) {
                let text = format!(
                    "the layout has no image sha256:{manifest}, and nothing may be pulled from {}/{}",
                    repository.host, repository.path
                );
                return Err(Error::refused(text));
            }
            let Some(_pulling) = self.clients.pull(manifest)? else {
                // Somebody has tried it.
                continue;
            };
            let kept = self.node.all_kept()?;
            let most = self.options.images.saturating_sub(1);
            for old in &kept[..kept.len().saturating_sub(most)] {
                self.node.let_go(old)?;
            }
            let place = format!("docker://{}/{}", repository.host, repository.path);
            return self.node.fetch(manifest, &[place]);
        }
    }

    /// A mount of the image for that user namespace.
    fn mounted(&self, manifest: &Digest, namespace: &OwnedFd) -> Result<OwnedFd> {
        let mut request = self.node.request(manifest)?;
        request.add_options("nosuid")?;
        let no = Value::Text("no".into());
        request.options.push(("devices".into(), no));
        let mount = request.detached()?;
        puzzlefs_unnoticed::idmap(mount.as_fd(), namespace.as_fd()).context(
            "a mount with the numbers of that user namespace, in which users and groups must be known",
        )?;
        Ok(mount)
    }
}

/// The first line that they say.
fn line(mut stream: &UnixStream) -> Result<Vec<u8>> {
    let (mut line, begun) = (Vec::new(), Instant::now());
    let mut part = [0; MAX_REQUEST];
    loop {
        let read = stream.read(&mut part)?;
        line.extend_from_slice(&part[..read]);
        if let Some(end) = line.iter().position(|byte| *byte == b'\n') {
            line.truncate(end);
            return Ok(line);
        }
        if read == 0 || line.len() > MAX_REQUEST || begun.elapsed() > PATIENCE {
            return Err(Error::refused("no request came"));
        }
    }
}

/// Whether it is a user namespace, and another one than this process has.
fn check(namespace: &OwnedFd) -> Result<()> {
    let wrong = || Error::refused("what came is no user namespace");
    // The kernel's type is signed, and may have been extended from 32 bits.
    let kind = rustix::fs::fstatfs(namespace)?.f_type as u64 & 0xffff_ffff;
    let link = format!("/proc/self/fd/{}", namespace.as_raw_fd());
    let link = std::fs::read_link(link)?;
    let is_user = link.to_str().is_some_and(|it| it.starts_with("user:["));
    if kind != NSFS || !is_user {
        return Err(wrong());
    }
    let own = rustix::fs::stat(Path::new("/proc/self/ns/user"))?;
    let theirs = rustix::fs::fstat(namespace)?;
    let is_own = (own.st_dev, own.st_ino) == (theirs.st_dev, theirs.st_ino);
    let told = || -> anyhow::Result<()> {
        ensure!(
            !is_own,
            Error::refused("a user namespace of its own is needed, and what came is the node's")
        );
        Ok(())
    };
    Ok(told()?)
}
