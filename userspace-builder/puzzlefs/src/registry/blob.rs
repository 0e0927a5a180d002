// SPDX-License-Identifier: Apache-2.0
//! Blobs that are read, all of one or a range, and further where a connection was cut.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;

use puzzlefs_format::Digest;
use ureq::http::{Method, Response, StatusCode};
use ureq::{Body, BodyReader};

use super::client::{drain, Answer, Client};
use super::http::{complaint, header, number, Ask};
use super::retry::Retry;
use super::url::Url;
use crate::base::error::{Error, Result};
use crate::base::text;

/// Bytes after which a connection that is cut has brought something: so a server that gives a byte
/// each time has an end.
const PROGRESS: u64 = 64 << 10;

/// A blob that is being read, from some byte to some other.
pub struct Blob {
    client: Arc<Client>,
    /// Who is asked for the rest if that one fails, in this order.
    others: VecDeque<Arc<Client>>,
    digest: Digest,
    /// Bytes of all of it, if they are known.
    size: Option<u64>,
    /// The next byte.
    at: u64,
    /// Behind the last one; to its end, if that is not known.
    end: Option<u64>,
    body: Option<BodyReader<'static>>,
    retry: Retry,
    /// Where the connection began that is open now.
    since: u64,
    /// Whether its end is known without waiting for it.
    is_measured: bool,
}

/// How often who fails in the middle is asked again, where there are others.
const RETRIES_AMONG_OTHERS: u32 = 1;

/// What a request for a range gave.
pub enum Ranged {
    /// The range.
    Range(Blob),
    /// All of the blob.
    Whole(Blob),
}

impl Client {
    /// Begins to read a blob, which must have `size` bytes if that is known.
    pub fn blob(self: &Arc<Self>, digest: &Digest, size: Option<u64>) -> Result<Blob> {
        let mut blob = self.unread(digest, size, 0..size.unwrap_or(u64::MAX));
        blob.end = size;
        blob.begin().map_err(|e| self.failed(digest, e))?;
        Ok(blob)
    }

    /// Begins to read `range` of a blob of `size` bytes.
    pub fn range(
        self: &Arc<Self>,
        digest: &Digest,
        size: u64,
        range: Range<u64>,
    ) -> Result<Ranged> {
        let range = range.start.min(size)..range.end.min(size);
        let mut blob = self.unread(digest, Some(size), range.clone());
        if range.is_empty() {
            return Ok(Ranged::Range(blob));
        }
        let url = blob.url().map_err(|e| self.failed(digest, e))?;
        let (response, at) = blob.ask(&url, true).map_err(|e| self.failed(digest, e))?;
        let done = match response.status().as_u16() {
            206 => blob.take_range(response, &at).map(|()| true),
            200 => blob.take_whole(response, &at).map(|()| false),
            // It knows nothing of ranges, or not of these.
            400 | 416 | 501 => {
                drain(response);
                blob.at = 0;
                blob.end = Some(size);
                blob.begin().map(|()| false)
            }
            _ => Err(complaint(response, &at)),
        };
        match done.map_err(|e| self.failed(digest, e))? {
            true => Ok(Ranged::Range(blob)),
            false => {
                (blob.at, blob.since, blob.end) = (0, 0, Some(size));
                Ok(Ranged::Whole(blob))
            }
        }
    }

    fn unread(self: &Arc<Self>, digest: &Digest, size: Option<u64>, range: Range<u64>) -> Blob {
        Blob {
            client: self.clone(),
            others: VecDeque::new(),
            digest: *digest,
            size,
            at: range.start,
            end: Some(range.end),
            body: None,
            retry: Retry::new(self.options.retries),
            since: range.start,
            is_measured: false,
        }
    }

    fn failed(&self, digest: &Digest, error: Error) -> Error {
        let context = format!("{}: the blob sha256:{digest}", self.called());
        error.context(context).of(digest)
    }
}

impl Blob {
    fn url(&self) -> Result<Url> {
        self.client.blob_url(&self.digest)
    }

    /// Asks for what is still to be read.
    fn ask(&self, url: &Url, is_range: bool) -> Result<Answer> {
        let mut ask = Ask::new(Method::GET);
        if is_range {
            let last = self
                .end
                .map(|end| (end - 1).to_string())
                .unwrap_or_default();
            ask = ask.with("range", format!("bytes={}-{last}", self.at));
        }
        self.client.send(&ask, url, Some(&self.digest))
    }

    /// Opens a connection that gives the next byte.
    fn begin(&mut self) -> Result<()> {
        let answer = self.next()?;
        self.take(answer)
    }

    /// Asks for the next byte and those behind it; for all, where the server knows no ranges.
    fn next(&self) -> Result<Answer> {
        let url = self.url()?;
        let (response, at) = self.ask(&url, self.at > 0)?;
        let knows_none = matches!(response.status().as_u16(), 400 | 416 | 501);
        if self.at > 0 && knows_none {
            drain(response);
            return self.ask(&url, false);
        }
        Ok((response, at))
    }

    fn take(&mut self, (response, at): Answer) -> Result<()> {
        match response.status() {
            StatusCode::PARTIAL_CONTENT if self.at > 0 => self.take_range(response, &at),
            StatusCode::OK => {
                self.take_whole(response, &at)?;
                self.skip(&at)
            }
            _ => Err(complaint(response, &at)),
        }
    }

    fn take_range(&mut self, response: Response<Body>, at: &Url) -> Result<()> {
        let said = header(response.headers(), "content-range").unwrap_or_default();
        let wanted = self.end.unwrap_or(u64::MAX);
        let is_it = content_range(said).is_some_and(|(range, size)| {
            let sizes = size.zip(self.size);
            range.start == self.at
                && range.end <= wanted
                && sizes.is_none_or(|(size, known)| size == known)
        });
        if !is_it {
            let text = format!(
                "{} was asked for its bytes from {} on, and gives {}",
                at.origin(),
                self.at,
                text::quoted(said.as_bytes())
            );
            return Err(Error::damaged(text));
        }
        self.is_measured = number(response.headers(), "content-length").is_some();
        self.body = Some(response.into_body().into_reader());
        self.since = self.at;
        Ok(())
    }

    /// A body with all of it, which is not skipped to where we are yet.
    fn take_whole(&mut self, response: Response<Body>, at: &Url) -> Result<()> {
        let said = number(response.headers(), "content-length");
        if let Some((said, size)) = said.zip(self.size).filter(|(said, size)| said != size) {
            let text = format!("{} has {said} bytes of it, and not {size}", at.origin());
            return Err(Error::damaged(text));
        }
        self.size = self.size.or(said);
        self.end = self.end.or(said);
        self.is_measured = said.is_some();
        self.body = Some(response.into_body().into_reader());
        Ok(())
    }

    fn skip(&mut self, at: &Url) -> Result<()> {
        let Some(body) = &mut self.body else {
            return Ok(());
        };
        let skipped = io::copy(&mut body.take(self.at), &mut io::sink());
        self.since = self.at;
        match skipped {
            Ok(skipped) if skipped == self.at => Ok(()),
            Ok(_) => Err(Error::unreached(format!("{} was cut", at.origin()))),
            Err(e) => Err(Error::unreached(format!("{}: {e}", at.origin()))),
        }
    }

    /// The same, but where this one fails the `others` are asked for the rest.
    pub(super) fn or(mut self, others: &[Arc<Client>]) -> Self {
        self.others = others.iter().cloned().collect();
        self.retry = self.tries();
        self
    }

    /// How often the present one is asked again.
    fn tries(&self) -> Retry {
        let most = self.client.options.retries;
        Retry::new(match self.others.is_empty() {
            true => most,
            false => most.min(RETRIES_AMONG_OTHERS),
        })
    }

    /// What happened to a connection that was cut; another one follows, if there is still hope.
    fn cut(&mut self, why: &str) -> Result<()> {
        self.body = None;
        if self.at - self.since >= PROGRESS {
            self.retry.reset();
        }
        let why = Error::unreached(format!("cut at byte {}: {why}", self.at));
        let mut tried = self.again(why);
        while tried.is_err() {
            let Some(next) = self.others.pop_front() else {
                break;
            };
            self.client = next;
            self.retry = self.tries();
            tried = self.begin();
        }
        tried
    }

    /// Asks the same one again for the next byte, as often as makes sense.
    fn again(&mut self, mut why: Error) -> Result<()> {
        loop {
            self.retry.wait(None, why)?;
            // Who cannot be reached was asked often enough by then.
            let answer = self.next()?;
            match self.take(answer) {
                Ok(()) => return Ok(()),
                Err(error @ Error::Trouble(_)) => {
                    self.body = None;
                    why = error;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

impl Read for Blob {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let left = self.end.map_or(u64::MAX, |end| end - self.at);
            let Some(body) = self.body.as_mut().filter(|_| left > 0) else {
                return Ok(0);
            };
            let most = usize::try_from(left)
                .unwrap_or(usize::MAX)
                .min(buffer.len());
            if most == 0 {
                return Ok(0);
            }
            let why = match body.read(&mut buffer[..most]) {
                Ok(0) if self.end.is_none() => {
                    self.body = None;
                    return Ok(0);
                }
                Ok(0) => "too early an end".into(),
                Ok(read) => {
                    self.at += read as u64;
                    if self.end == Some(self.at) {
                        self.finish();
                    }
                    return Ok(read);
                }
                Err(e) => e.to_string(),
            };
            let cut = self.cut(&why);
            cut.map_err(|e| io::Error::other(self.client.failed(&self.digest, e)))?;
        }
    }
}

impl Blob {
    /// Lets the connection be used again, if the server is through.
    fn finish(&mut self) {
        if let Some(mut body) = self.body.take().filter(|_| self.is_measured) {
            // Nothing is waited for: if there is more, the connection ends.
            let _ = body.read(&mut [0]);
        }
    }
}

/// `bytes 0-9/100`: the range, and the size of all, which may be `*`.
fn content_range(text: &str) -> Option<(Range<u64>, Option<u64>)> {
    let (range, size) = text.trim().strip_prefix("bytes")?.trim().split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let end = last.trim().parse::<u64>().ok()?.checked_add(1)?;
    let range = first.trim().parse().ok()?..end;
    let size = match size.trim() {
        "*" => None,
        size => Some(size.parse().ok()?),
    };
    (!range.is_empty()).then_some((range, size))
}

#[cfg(test)]
mod tests {
    use super::content_range;

    #[test]
    fn ranges_are_read() {
        assert_eq!(content_range("bytes 0-9/100"), Some((0..10, Some(100))));
        assert_eq!(content_range(" bytes 5-5/* "), Some((5..6, None)));
        for bad in [
            "",
            "bytes",
            "bytes 9-8/100",
            "bytes */100",
            "bytes -5/100",
            "bytes 0-18446744073709551615/*",
            "items 0-9/100",
            "bytes 0-9",
        ] {
            assert_eq!(content_range(bad), None, "{bad}");
        }
    }
}
