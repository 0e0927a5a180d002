// SPDX-License-Identifier: Apache-2.0
//! Who asks the daemon for its numbers: HTTP/1.0, GET and nothing else, over a unix socket or TCP. One is answered after
//! the other, and nobody may take long.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::event::{poll, PollFd, PollFlags, Timespec};

use super::metrics::Doing;
use crate::base::error::{Error, Result, Where};

/// Who asks has so long for it, and to read the answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// Bytes of a request.
const MAX_REQUEST: u64 = 8 << 10;
/// Bytes of an answer that is read.
const MAX_ANSWER: u64 = 4 << 20;
/// What Prometheus reads, and what `puzzlefs status` does.
pub const METRICS: &str = "/metrics";
const STATUS: &str = "/status";

/// Where numbers are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A socket in the filesystem.
    Unix(PathBuf),
    /// An address of this machine.
    Tcp(SocketAddr),
}

impl std::str::FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(address) => Ok(Address::Tcp(address)),
            Err(_) if text.starts_with(['/', '.']) => Ok(Address::Unix(text.into())),
            Err(_) => Err("expected an absolute path, or ADDRESS:PORT".into()),
        }
    }
}

/// Who listens.
pub enum Listener {
    /// At a socket in the filesystem.
    Unix(UnixListener),
    /// At an address of this machine.
    Tcp(TcpListener),
}

impl Listener {
    /// Listens. A socket that somebody has left is replaced; nobody but its owner may ask there.
    ///
    /// # Errors
    ///
    /// If something else is there, or the address is in use.
    pub fn new(address: &Address) -> Result<Self> {
        match address {
            Address::Unix(path) => {
                let context = || format!("listening at {}", path.display());
                let is_old = std::fs::symlink_metadata(path);
                if is_old.is_ok_and(|it| it.file_type().is_socket()) {
                    std::fs::remove_file(path).with_context(context).at(path)?;
                }
                let listener = UnixListener::bind(path).with_context(context).at(path)?;
                let mode = std::fs::Permissions::from_mode(0o600);
                std::fs::set_permissions(path, mode)
                    .with_context(context)
                    .at(path)?;
                listener.set_nonblocking(true)?;
                Ok(Listener::Unix(listener))
            }
            Address::Tcp(address) => {
                let listener = TcpListener::bind(address);
                let listener = listener.with_context(|| format!("listening at {address}"))?;
                listener.set_nonblocking(true)?;
                Ok(Listener::Tcp(listener))
            }
        }
    }

    /// Answers who asks within `wait`, by what `answer` has for the metrics (`false`) or the status.
    pub fn answer(&self, wait: Duration, answer: impl Fn(bool) -> Vec<u8>) {
        let fd = match self {
            Listener::Unix(listener) => listener.as_fd(),
            Listener::Tcp(listener) => listener.as_fd(),
        };
        let wait = Timespec::try_from(wait).ok();
        let polled = poll(&mut [PollFd::new(&fd, PollFlags::IN)], wait.as_ref());
        if !matches!(polled, Ok(1..)) {
            return;
        }
        // Who goes away, or asks for nothing, is no trouble of ours.
        let _ = match self {
            Listener::Unix(listener) => listener.accept().and_then(|(stream, _)| {
                stream.set_nonblocking(false)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                serve(stream, answer)
            }),
            Listener::Tcp(listener) => listener.accept().and_then(|(stream, _)| {
                stream.set_nonblocking(false)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                serve(stream, answer)
            }),
        };
    }
}

fn serve(mut stream: impl Read + Write, answer: impl Fn(bool) -> Vec<u8>) -> io::Result<()> {
    let line = request(&mut stream)?;
    let mut words = line.split(' ');
    let path = match (words.next(), words.next()) {
        (Some("GET"), Some(path)) => path.split('?').next().unwrap_or_default().to_owned(),
        _ => String::new(),
    };
    let (status, kind, body) = match &*path {
        METRICS => ("200 OK", "text/plain; version=0.0.4", answer(false)),
        STATUS => ("200 OK", "application/json", answer(true)),
        "" => (
            "400 Bad Request",
            "text/plain",
            b"GET and no more\n".to_vec(),
        ),
        _ => (
            "404 Not Found",
            "text/plain",
            b"/metrics and /status\n".to_vec(),
        ),
    };
    let head = format!(
        "HTTP/1.0 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(&body)
}

/// The first line of a request, of which the head has come as a whole.
fn request(stream: &mut impl Read) -> io::Result<String> {
    let (mut head, begun) = (Vec::new(), Instant::now());
    let mut byte = [0; 512];
    while !head.windows(4).any(|it| it == b"\r\n\r\n") && !head.windows(2).any(|it| it == b"\n\n") {
        let read = stream.read(&mut byte)?;
        head.extend_from_slice(&byte[..read]);
        if read == 0 || head.len() as u64 > MAX_REQUEST || begun.elapsed() > PATIENCE {
            return Err(ErrorKind::InvalidData.into());
        }
    }
    let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    Ok(String::from_utf8_lossy(line).trim_end().to_owned())
}

/// Asks a daemon what it is doing; `None` if none listens there.
///
/// # Errors
///
/// If who listens there says something else.
pub fn ask(path: &Path) -> Result<Option<Doing>> {
    let mut stream = match UnixStream::connect(path) {
        Err(e)
            if matches!(
                e.kind(),
                ErrorKind::NotFound | ErrorKind::ConnectionRefused | ErrorKind::PermissionDenied
            ) =>
        {
            return Ok(None)
        }
        stream => stream
            .with_context(|| format!("asking at {}", path.display()))
            .at(path)?,
    };
    stream.set_read_timeout(Some(PATIENCE * 5))?;
    stream.write_all(format!("GET {STATUS} HTTP/1.0\r\n\r\n").as_bytes())?;
    let mut text = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut text)?;
    let at = text.windows(4).position(|it| it == b"\r\n\r\n");
    let body = at.map_or(&[][..], |at| &text[at + 4..]);
    let wrong = |_| Error::damaged(format!("no puzzlefs daemon answers at {}", path.display()));
    serde_json::from_slice(body).map(Some).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(path: &Path, request: &[u8]) -> String {
        let mut stream = UnixStream::connect(path).unwrap();
        stream.write_all(request).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut text = String::new();
        // One that is refused may be cut off.
        let _ = stream.read_to_string(&mut text);
        text
    }

    #[test]
    fn who_asks_for_something_is_answered() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        assert!(ask(&path).unwrap().is_none());
        std::fs::write(dir.path().join("file"), "").unwrap();
        assert!(Listener::new(&Address::Unix(dir.path().join("file"))).is_err());
        // One that has ended leaves its socket.
        drop(Listener::new(&Address::Unix(path.clone())).unwrap());
        assert!(ask(&path).unwrap().is_none());
        let listener = Listener::new(&Address::Unix(path.clone())).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..7 {
                    listener.answer(Duration::from_secs(10), |is_status| match is_status {
                        true => serde_json::to_vec(&Doing {
                            waiting: 3,
                            ..Doing::default()
                        })
                        .unwrap(),
                        false => b"numbers 1\n".to_vec(),
                    });
                }
            });
            let text = asked(&path, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
            assert!(
                text.starts_with("HTTP/1.0 200 OK\r\n") && text.ends_with("\r\n\r\nnumbers 1\n"),
                "{text}"
            );
            assert_eq!(ask(&path).unwrap().unwrap().waiting, 3);
            assert!(asked(&path, b"GET /other HTTP/1.0\r\n\r\n").starts_with("HTTP/1.0 404"));
            assert!(asked(&path, b"PUT /metrics HTTP/1.0\r\n\r\n").starts_with("HTTP/1.0 400"));
            assert_eq!(asked(&path, b"GET /metrics"), "");
            assert_eq!(asked(&path, &[b'x'; 20_000]), "");
            assert!(asked(&path, b"GET /metrics?x=1 HTTP/1.0\n\n").contains("numbers"));
        });
    }

    #[test]
    fn addresses_are_paths_or_of_tcp() {
        let parse = |text: &str| text.parse::<Address>();
        assert_eq!(parse("/run/x"), Ok(Address::Unix("/run/x".into())));
        assert_eq!(
            parse("127.0.0.1:9"),
            Ok(Address::Tcp("127.0.0.1:9".parse().unwrap()))
        );
        assert!(matches!(parse("[::1]:9"), Ok(Address::Tcp(_))));
        assert!(parse("9").is_err() && parse("host:9").is_err());
    }
}
