// SPDX-License-Identifier: Apache-2.0
//! Blobs that are written: looked for, taken from another repository, or sent.

use std::io::{self, Read, Write};

use puzzlefs_format::Digest;
use ureq::http::{Method, Response, StatusCode};
use ureq::Body;

use super::client::{drain, Client};
use super::http::{complaint, header, number, Ask, Failure, Sent};
use super::name::prefixed;
use super::retry::{self, Retry};
use super::url::{escaped, Url};
use crate::base::digest::Hashing;
use crate::base::error::{Error, Result, Where};

/// Where a blob may be sent to.
pub struct Session(Url);

/// Gives the content of a blob from its beginning, each time it is called.
pub type Content<'a> = &'a dyn Fn() -> Result<Box<dyn Read + 'a>>;

impl Client {
    /// Whether the repository has a blob of that size.
    pub fn has(&self, digest: &Digest, size: u64) -> Result<bool> {
        let url = self.url(&format!("blobs/{}", prefixed(digest)))?;
        let (response, at) = self.send(&Ask::new(Method::HEAD), &url, None)?;
        match response.status() {
            StatusCode::NOT_FOUND => Ok(false),
            status if status.is_success() => {
                let said = number(response.headers(), "content-length");
                Ok(said.is_none_or(|said| said == size))
            }
            _ => Err(complaint(response, &at)).of(digest),
        }
    }

    /// Takes a blob from another repository of the registry, by its name.
    ///
    /// # Returns
    ///
    /// Where to send it, if the registry does not do that: it need not, and does not say why.
    pub fn mount(&self, digest: &Digest, from: &str) -> Result<Option<Session>> {
        let query = format!(
            "mount={}&from={}",
            escaped(&prefixed(digest)),
            escaped(from)
        );
        let url = self.url(&format!("blobs/uploads/?{query}"))?;
        let (response, at) = self.send(&Ask::new(Method::POST), &url, None)?;
        match response.status() {
            StatusCode::CREATED => {
                drain(response);
                Ok(None)
            }
            StatusCode::ACCEPTED => session(response, &at).map(Some),
            _ => Err(complaint(response, &at)).of(digest),
        }
    }

    /// Sends a blob. `tell` gets how many bytes of it have gone, and may get less after a cut.
    ///
    /// # Errors
    ///
    /// If the content does not have the digest: then the end of it is never sent.
    pub fn upload(
        &self,
        digest: &Digest,
        size: u64,
        mut session: Option<Session>,
        content: Content<'_>,
        tell: &dyn Fn(u64),
    ) -> Result<()> {
        let open = || -> Result<Box<dyn Read + '_>> {
            Ok(Box::new(Sending {
                content: content()?,
                hash: Some(Hashing::new(io::sink())),
                digest: *digest,
                left: size,
                size,
                tell,
            }))
        };
        let mut ask = Ask::new(Method::PUT).with("content-type", "application/octet-stream");
        ask.body = Sent::Stream(size, &open);
        let mut retry = Retry::new(self.options.retries);
        loop {
            let Session(to) = match session.take() {
                Some(session) => session,
                None => self.begin_upload()?,
            };
            let to = to.with("digest", &prefixed(digest))?;
            // What went wrong in the middle cannot go on: the server may have some of it.
            let (asked, why) = match self.once(&ask, &to, None) {
                Ok((response, _)) if response.status().is_success() => {
                    drain(response);
                    return Ok(());
                }
                Ok((response, at)) => {
                    let status = response.status();
                    let asked = retry::asked(response.headers());
                    let why = complaint(response, &at);
                    // It has lost what was begun, or what came was not what went.
                    let is_lost = matches!(status.as_u16(), 400 | 404 | 416);
                    if !is_lost && !retry::is_passing(status) {
                        return Err(why).of(digest);
                    }
                    (asked, why)
                }
                Err(Failure::Lasting(error)) => return Err(error),
                Err(Failure::Passing(error)) => (None, error),
            };
            let context = format!("{}: sending the blob sha256:{digest}", self.called());
            retry.wait(asked, why.context(context)).of(digest)?;
            // Only its answer may have been lost.
            if self.has(digest, size)? {
                return Ok(());
            }
        }
    }

    fn begin_upload(&self) -> Result<Session> {
        let url = self.url("blobs/uploads/")?;
        let (response, at) = self.send(&Ask::new(Method::POST), &url, None)?;
        match response.status() {
            StatusCode::ACCEPTED => session(response, &at),
            _ => Err(complaint(response, &at)),
        }
    }
}

fn session(response: Response<Body>, at: &Url) -> Result<Session> {
    let location = header(response.headers(), "location").map(|location| at.join(location));
    let location = location.transpose()?;
    drain(response);
    let missing = || Error::damaged(format!("{} does not say where to send to", at.origin()));
    location.map(Session).ok_or_else(missing)
}

/// Content on its way.
struct Sending<'a> {
    content: Box<dyn Read + 'a>,
    /// Until all was read.
    hash: Option<Hashing<io::Sink>>,
    digest: Digest,
    left: u64,
    size: u64,
    tell: &'a dyn Fn(u64),
}

impl Read for Sending<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let read = self.content.read(&mut buffer[..most])?;
        let Some(hash) = self.hash.as_mut().filter(|_| most > 0) else {
            return Ok(0);
        };
        hash.write_all(&buffer[..read])?;
        self.left -= read as u64;
        if read > 0 && self.left > 0 {
            (self.tell)(self.size - self.left);
            return Ok(read);
        }
        // Before its last bytes go, so that no server can take it for whole.
        let found = self.hash.take().map(|hash| hash.finish().1.digest);
        if self.left > 0 || found != Some(self.digest) {
            let text = format!(
                "the blob sha256:{} is damaged: nothing of it was stored",
                self.digest
            );
            return Err(io::Error::other(Error::damaged(text).of(&self.digest)));
        }
        (self.tell)(self.size);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::digest::sha256;

    #[test]
    fn the_end_of_what_is_damaged_does_not_go() {
        let text = vec![7u8; 100_000];
        let send = |text: &[u8], digest: Digest, size: u64| {
            let mut sending = Sending {
                content: Box::new(io::Cursor::new(text.to_vec())),
                hash: Some(Hashing::new(io::sink())),
                digest,
                left: size,
                size,
                tell: &|_| {},
            };
            let mut sent = Vec::new();
            let read = sending.read_to_end(&mut sent);
            (read.is_ok(), sent.len())
        };
        let digest = sha256(&[&text]);
        assert_eq!(send(&text, digest, 100_000), (true, 100_000));
        let other = send(&text[1..], digest, 100_000);
        assert!(!other.0 && other.1 < 100_000, "{other:?}");
        let mut changed = text.clone();
        changed[5] = 8;
        let other = send(&changed, digest, 100_000);
        assert!(!other.0 && other.1 < 100_000, "{other:?}");
    }
}
