// SPDX-License-Identifier: Apache-2.0
//! Lazy images by FUSE, without a mount: what is read is fetched, checked and kept, by one request for many, and what
//! nobody gives is an error.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::command::{puzzlefs, success};
use crate::common::pulls::{assert_whole, tree};
use crate::common::server::{Fault, Server};
use crate::common::{build_into, noise, open, options, scratch};
use puzzlefs::build::Options as BuildOptions;
use puzzlefs::chunks::sink::Form;
use puzzlefs::fuse::faults::Log;
use puzzlefs::fuse::filesystem::{Answer, Filesystem};
use puzzlefs::fuse::lazily::LazySource;
use puzzlefs::fuse::tree::ImageTree;
use puzzlefs::layout::Layout;
use puzzlefs::lazy::status::status;
use puzzlefs::lazy::{Fetcher, OnFailure, Options, Origins, Patience};
use puzzlefs::profile::{Part, Profile};
use puzzlefs::{registry, remote};
use rustix::io::Errno;

/// A layout with an image of several packs.
fn source(dir: &Path) -> PathBuf {
    tree(&dir.join("root"), 40);
    let form = Form::Packs { target: 1 << 20 };
    build_into(
        &dir.join("root"),
        &dir.join("from"),
        "v",
        &BuildOptions { form, ..options() },
    );
    dir.join("from")
}

fn pull_lazily(server: &Server, to: &Path) {
    let from = format!("docker://{}/a:v", server.address);
    success(&puzzlefs(&[
        "pull",
        "--lazy",
        "--plain-http",
        &from,
        &format!("{}:v", to.display()),
    ]));
}

/// Sources as the command opens them.
fn origins() -> Origins {
    let options = registry::Options {
        plain_http: true,
        retries: 0,
        ..Default::default()
    };
    Origins::new(move |place| Ok(remote::open(place, &options)?.remote))
}

/// An image that is served, and what was logged.
struct Served {
    tree: ImageTree<'static>,
    fetcher: Arc<Fetcher>,
    lines: Arc<Mutex<Vec<String>>>,
}

fn serve(layout: &Path, on_failure: OnFailure) -> Served {
    let image = Box::leak(Box::new(open(layout, "v")));
    let options = Options {
        origins: origins(),
        on_failure,
        fill: false,
        rate: None,
    };
    let lines = Arc::new(Mutex::new(Vec::new()));
    let (noted, logged) = (Arc::clone(&lines), Arc::clone(&lines));
    let notes = Arc::new(move |line: &str| noted.lock().unwrap().push(line.to_owned()));
    let log: Log = Box::new(move |line| logged.lock().unwrap().push(line.to_owned()));
    let lazy = LazySource::new(image, options, notes).unwrap().unwrap();
    let fetcher = Arc::clone(lazy.fetcher());
    let tree = ImageTree::with_source(image, Box::new(lazy), "it", log).unwrap();
    Served {
        tree,
        fetcher,
        lines,
    }
}

const TIMEOUT: OnFailure = OnFailure::Error(Duration::from_secs(60));

impl Served {
    fn read_with(
        &self,
        name: &str,
        at: u64,
        len: usize,
        patience: &Patience<'_>,
    ) -> Answer<Vec<u8>> {
        let mut ino = 1;
        for part in name.split('/') {
            ino = self.tree.lookup(ino, part.as_bytes())?.unwrap().ino;
        }
        self.tree
            .read(ino, at, len, patience)
            .map(|bytes| bytes.to_vec())
    }

    fn read(&self, name: &str) -> Answer<Vec<u8>> {
        self.read_with(name, 0, 1 << 20, &Patience::Until(&|| false))
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.fetcher.end();
    }
}

fn here(layout: &Path) -> (u64, u64) {
    let status = status(&Layout::open(layout).unwrap()).unwrap();
    (status.images[0].bytes_here, status.images[0].bytes)
}

fn content(dir: &Path, name: &str) -> Vec<u8> {
    fs::read(dir.join("root").join(name)).unwrap()
}

/// Requests for ranges of blobs.
fn ranges(server: &Server) -> usize {
    server
        .asked()
        .iter()
        .filter(|(_, from)| from.is_some())
        .count()
}

#[test]
fn what_is_read_is_fetched_and_kept() {
    let dir = scratch();
    let (from, to) = (source(dir.path()), dir.path().join("to"));
    let server = Server::new(&from, Fault::None);
    pull_lazily(&server, &to);
    let (before, _) = here(&to);
    let served = serve(&to, TIMEOUT);
    // Who has no patience hears that it is not here, and nothing is asked for.
    let asked = ranges(&server);
    assert_eq!(
        served.read_with("003", 0, 4096, &Patience::None),
        Err(Errno::AGAIN)
    );
    assert_eq!(ranges(&server), asked);
    assert!(served.read("003").unwrap() == content(dir.path(), "003"));
    assert!(ranges(&server) > asked);
    // It is here now, for whoever has none as well.
    let asked = ranges(&server);
    let part = served
        .read_with("003", 1000, 5000, &Patience::None)
        .unwrap();
    assert!(part == content(dir.path(), "003")[1000..6000]);
    assert_eq!(ranges(&server), asked);
    drop(served);
    let (after, all) = here(&to);
    assert!(before < after && after < all, "{before} {after} of {all}");
    // The next one has it without a request, and the rest comes.
    let asked = ranges(&server);
    let served = serve(&to, TIMEOUT);
    assert!(served.read("003").unwrap() == content(dir.path(), "003"));
    assert_eq!(ranges(&server), asked);
    for number in 0..40 {
        let name = format!("{number:03}");
        assert!(
            served.read(&name).unwrap() == content(dir.path(), &name),
            "{name}"
        );
    }
    for number in 0..200 {
        let name = format!("small/{number}");
        assert!(
            served.read(&name).unwrap() == content(dir.path(), &name),
            "{name}"
        );
    }
    drop(served);
    assert_eq!(fs::read_dir(to.join("puzzlefs-lazy")).unwrap().count(), 0);
    assert_whole(&to);
}

#[test]
fn many_readers_of_one_chunk_make_one_request() {
    let dir = scratch();
    let (from, to) = (source(dir.path()), dir.path().join("to"));
    let server = Server::new(&from, Fault::None);
    pull_lazily(&server, &to);
    let asked = ranges(&server);
    let served = serve(&to, TIMEOUT);
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| assert!(served.read("007").unwrap() == content(dir.path(), "007")));
        }
    });
    let requests = ranges(&server) - asked;
    // A file may lie in two packs.
    assert!((1..=2).contains(&requests), "{requests} requests");
}

#[test]
fn what_nobody_gives_is_an_error_or_waits() {
    let dir = scratch();
    let (from, to) = (source(dir.path()), dir.path().join("to"));
    // Its ranges are wrong.
    let server = Server::new(&from, Fault::None);
    pull_lazily(&server, &to);
    let packs = to.join("puzzlefs-lazy");
    for record in fs::read_dir(&packs).unwrap() {
        let path = record.unwrap().path();
        let liar = Server::new(&from, Fault::Wrong(true));
        let (honest, liar) = (server.address.to_string(), liar.address.to_string());
        fs::write(
            &path,
            fs::read_to_string(&path).unwrap().replace(&honest, &liar),
        )
        .unwrap();
    }
    let (before, _) = here(&to);
    let served = serve(&to, OnFailure::Error(Duration::from_secs(1)));
    let begun = Instant::now();
    assert_eq!(served.read("005"), Err(Errno::IO));
    assert!(begun.elapsed() < Duration::from_secs(30));
    let lines = served.lines.lock().unwrap().join("\n");
    assert!(lines.contains("no source gave it in time"), "{lines}");
    assert!(
        lines.contains("something else came than the chunk"),
        "{lines}"
    );
    drop(served);
    assert_eq!(here(&to).0, before);
    // Who waits has it once it can be had; who goes away has waited for nothing.
    let served = serve(&to, OnFailure::Wait);
    let begun = Instant::now();
    let is_gone = || begun.elapsed() > Duration::from_secs(1);
    let read = served.read_with("005", 0, 4096, &Patience::Until(&is_gone));
    assert_eq!(read, Err(Errno::INTR));
}

/// What a profile lists comes next, once a part of it was read.
#[test]
fn a_profile_is_fetched_first() {
    const READ: [&str; 8] = ["033", "017", "035", "005", "025", "021", "031", "011"];
    let dir = scratch();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    tree(&dir.path().join("root"), 40);
    let parts = READ.map(|name| Part {
        path: format!("/{name}").into_bytes(),
        range: 0..200_000,
    });
    let first = Some(Profile {
        parts: parts.into(),
    });
    let form = Form::Packs { target: 1 << 20 };
    let options = BuildOptions {
        form,
        first,
        ..options()
    };
    build_into(&dir.path().join("root"), &from, "v", &options);
    let server = Server::new(&from, Fault::None);
    pull_lazily(&server, &to);
    let served = serve(&to, TIMEOUT);
    let asked = ranges(&server);
    served.read(READ[0]).unwrap();
    let begun = Instant::now();
    for name in READ {
        let content = content(dir.path(), name);
        while served.read_with(name, 0, 1 << 20, &Patience::None).as_ref() != Ok(&content) {
            assert!(
                begun.elapsed() < Duration::from_secs(30),
                "{name} has not come"
            );
            thread::sleep(Duration::from_millis(50));
        }
    }
    let requests = ranges(&server) - asked;
    assert!(requests <= 4, "{requests} requests");
    // What it does not list has not.
    let other = served.read_with("000", 0, 4096, &Patience::None);
    assert_eq!(other, Err(Errno::AGAIN));
}

/// Two servers of one layout: what one has recorded the other one does not ask for.
#[test]
fn two_servers_of_one_layout_share_what_comes() {
    let dir = scratch();
    let (from, to) = (source(dir.path()), dir.path().join("to"));
    let server = Server::new(&from, Fault::None);
    pull_lazily(&server, &to);
    let (one, two) = (serve(&to, TIMEOUT), serve(&to, TIMEOUT));
    assert!(one.read("011").unwrap() == content(dir.path(), "011"));
    one.fetcher.engine().keep_all().unwrap();
    let asked = ranges(&server);
    assert!(two.read("011").unwrap() == content(dir.path(), "011"));
    assert_eq!(ranges(&server), asked);
    thread::scope(|scope| {
        for served in [&one, &two] {
            scope.spawn(move || {
                for number in 0..40 {
                    let name = format!("{number:03}");
                    assert!(served.read(&name).unwrap().len() == 200_000, "{name}");
                }
            });
        }
    });
    drop((one, two));
    let last = serve(&to, TIMEOUT);
    for number in 0..40 {
        let name = format!("{number:03}");
        assert!(
            last.read(&name).unwrap() == noise(200_000, number),
            "{name}"
        );
    }
}
