// SPDX-License-Identifier: Apache-2.0
//! A registry of one repository, which has what a layout has, by plain http.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use puzzlefs::layout::reference::Name;
use puzzlefs::layout::Layout;

/// What it does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// Of blobs of more than 100,000 bytes it gives so many quarters, and then ends the connection.
    Quarters(usize),
    /// It gives blobs whole, whatever is asked for, and of those the half.
    WholeHalves,
    /// Of ranges of more than 1,000 bytes the first one is wrong; of `Wrong(true)` also that of whole blobs.
    Wrong(bool),
}

/// The last part of a path that it was asked for, and where a range was to begin.
pub type Asked = (String, Option<u64>);

/// It runs as long as the process does.
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    /// Serves `layout`.
    pub fn new(layout: &Path, fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (layout, log) = (layout.to_owned(), asked.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (layout, log) = (layout.clone(), log.clone());
                std::thread::spawn(move || answer(&stream.unwrap(), &layout, fault, &log));
            }
        });
        Server { address, asked }
    }

    /// What it was asked for.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

/// Answers one request; then the connection ends.
fn answer(
    mut stream: &TcpStream,
    layout: &Path,
    fault: Fault,
    log: &Mutex<Vec<Asked>>,
) -> Option<()> {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let first = lines.next()?;
    let mut range = None;
    for line in lines.take_while(|line| !line.is_empty()) {
        let line = line.to_ascii_lowercase();
        if let Some(bytes) = line.strip_prefix("range: bytes=") {
            let (from, to) = bytes.split_once('-')?;
            range = Some((from.parse::<usize>().ok()?, to.parse::<usize>().ok()));
        }
    }
    let path = first.split(' ').nth(1)?;
    let last = path.rsplit('/').next()?.to_owned();
    let from = range.map(|(from, _)| from as u64);
    log.lock().unwrap().push((last.clone(), from));
    let Some(mut content) = content(layout, path, &last) else {
        return write!(
            stream,
            "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"
        )
        .ok();
    };
    let all = content.len();
    let whole = fault == Fault::WholeHalves || range.is_none();
    let (from, to) = match range.filter(|_| !whole) {
        Some((from, to)) => (from, to.map_or(all, |to| all.min(to + 1))),
        None => (0, all),
    };
    let is_wrong = match fault {
        Fault::Wrong(all) => (all || !whole) && to - from > 1000,
        _ => false,
    };
    if is_wrong {
        content[from] ^= 1;
    }
    let part = &content[from..to];
    let kind = match path.contains("/manifests/") {
        true => "application/vnd.oci.image.manifest.v1+json",
        false => "application/octet-stream",
    };
    let status = match whole {
        true => "200 OK".to_owned(),
        false => format!(
            "206 Partial Content\r\ncontent-range: bytes {from}-{}/{all}",
            to - 1
        ),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        part.len()
    );
    let most = match fault {
        _ if all <= 100_000 => all,
        Fault::None | Fault::Wrong(_) => all,
        Fault::Quarters(count) => all / 4 * count,
        Fault::WholeHalves => all / 2,
    };
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(&part[..most.clamp(from, to) - from]).ok()
}

fn content(layout: &Path, path: &str, last: &str) -> Option<Vec<u8>> {
    let blob = |digest: &str| -> PathBuf { layout.join("blobs/sha256").join(digest) };
    let digest = match last.strip_prefix("sha256:") {
        Some(digest) => digest.to_owned(),
        None if path.contains("/manifests/") => {
            let found = Layout::open(layout).ok()?.resolve(&Name::Tag(last.into()));
            found.ok()?.digest.to_string()
        }
        None => return None,
    };
    std::fs::read(blob(&digest)).ok()
}
