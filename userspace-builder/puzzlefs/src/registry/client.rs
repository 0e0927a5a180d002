// SPDX-License-Identifier: Apache-2.0
//! Requests to a repository, with what belongs to them: credentials, redirects, and other tries.

use std::collections::HashMap;
use std::io::Read;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use puzzlefs_format::Digest;
use ureq::http::{HeaderMap, Method, Response, StatusCode};
use ureq::Body;

use super::auth::Auth;
use super::http::{complaint, header, Ask, Failure, Http};
use super::name::{prefixed, Repository};
use super::options::Options;
use super::retry::{self, Retry};
use super::url::Url;
use super::{challenge, credentials};
use crate::base::error::{Error, Result};

/// Redirects of one request.
const MAX_HOPS: u32 = 5;
/// Answers that credentials are not enough, to one request: the first one only says what they are to be, and
/// a token may end in between.
const MAX_CHALLENGES: u32 = 3;
/// Addresses that are kept, at most.
const MAX_SIGNED: usize = 10_000;
/// Bytes of an answer's body that are read for nothing, so that its connection can be used again.
const MAX_DRAINED: u64 = 64 << 10;

/// What a client is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading.
    Pull,
    /// Writing, and taking blobs from other repositories of the same registry.
    Push {
        /// Their names.
        from: Vec<String>,
    },
}

/// How the addresses of a server are made.
enum Paths {
    /// `/v2/REPOSITORY/blobs/sha256:DIGEST` (distribution specification, "Endpoints").
    Registry(Repository),
    /// `blobs/sha256/DIGEST` below a directory (image specification, "Image Layout").
    Layout,
}

/// A client of one repository, or of a layout that a web server has.
pub struct Client {
    http: Http,
    paths: Paths,
    /// What it is called, for people.
    called: String,
    /// Of the registry, or of the layout.
    base: Url,
    auth: Auth,
    pub(super) options: Options,
    /// Where blobs are, that the registry has sent us to other servers for.
    signed: Mutex<HashMap<Digest, Url>>,
}

/// The answer to a request, and who gave it in the end.
pub(super) type Answer = (Response<Body>, Url);

impl Client {
    /// A client of `repository`, which asks it nothing yet.
    ///
    /// # Errors
    ///
    /// If files with credentials cannot be read.
    pub fn new(repository: &Repository, access: &Access, options: &Options) -> Result<Arc<Self>> {
        let scheme = if options.plain_http { "http" } else { "https" };
        let base = Url::parse(&format!("{scheme}://{}/v2/", repository.server()))?;
        let scope = |path: &str, actions: &str| format!("repository:{path}:{actions}");
        let scopes = match access {
            Access::Pull => vec![scope(&repository.path, "pull")],
            Access::Push { from } => {
                let own = scope(&repository.path, "pull,push");
                let others = from.iter().map(|path| scope(path, "pull"));
                std::iter::once(own).chain(others).collect()
            }
        };
        let credentials = credentials::find(repository, options.auth_file.as_deref())?;
        Ok(Arc::new(Client {
            http: Http::new(options),
            paths: Paths::Registry(repository.clone()),
            called: repository.to_string(),
            base,
            auth: Auth::new(credentials, scopes),
            options: options.clone(),
            signed: Mutex::default(),
        }))
    }

    /// A client of the layout at `base`, which ends with a slash.
    pub(super) fn of_layout(base: &Url, options: &Options) -> Result<Arc<Self>> {
        // Files with credentials name hosts, and parts of paths.
        let place = Repository {
            host: base.authority().to_owned(),
            path: base.path().trim_matches('/').to_owned(),
        };
        let credentials = credentials::find(&place, options.auth_file.as_deref())?;
        Ok(Arc::new(Client {
            http: Http::new(options),
            paths: Paths::Layout,
            called: base.to_string(),
            base: base.clone(),
            auth: Auth::new(credentials, Vec::new()),
            options: options.clone(),
            signed: Mutex::default(),
        }))
    }

    /// What it is called, for people.
    pub fn called(&self) -> &str {
        &self.called
    }

    /// The address of something in the repository or the layout.
    pub(super) fn url(&self, tail: &str) -> Result<Url> {
        match &self.paths {
            Paths::Registry(repository) => {
                self.base.join(&format!("/v2/{}/{tail}", repository.path))
            }
            Paths::Layout => self.base.join(tail),
        }
    }

    /// Whether it is of a layout, of which index.json says what tags name.
    pub(super) fn is_layout(&self) -> bool {
        matches!(self.paths, Paths::Layout)
    }

    /// The address of a blob.
    pub(super) fn blob_url(&self, digest: &Digest) -> Result<Url> {
        match self.paths {
            Paths::Registry(_) => self.url(&format!("blobs/{}", prefixed(digest))),
            Paths::Layout => self.url(&format!("blobs/sha256/{digest}")),
        }
    }

    /// Sends a request until there is an answer that says more than to come back later. What is kept of
    /// `blob`'s address is used.
    pub(super) fn send(&self, ask: &Ask<'_>, url: &Url, blob: Option<&Digest>) -> Result<Answer> {
        let mut retry = Retry::new(self.options.retries);
        loop {
            let (asked, why) = match self.once(ask, url, blob) {
                Ok((response, at)) if retry::is_passing(response.status()) => {
                    (retry::asked(response.headers()), complaint(response, &at))
                }
                Ok(answer) => return Ok(answer),
                Err(Failure::Lasting(error)) => return Err(error),
                Err(Failure::Passing(error)) => (None, error),
            };
            retry.wait(asked, why)?;
        }
    }

    /// Sends a request, wherever it is redirected to, with what credentials it takes.
    pub(super) fn once(
        &self,
        ask: &Ask<'_>,
        url: &Url,
        blob: Option<&Digest>,
    ) -> Result<Answer, Failure> {
        let kept = blob.and_then(|digest| self.signed().get(digest).cloned());
        let mut is_kept = kept.is_some();
        let mut at = kept.unwrap_or_else(|| url.clone());
        let (mut hops, mut challenges) = (0, 0);
        loop {
            let is_registry = at.origin() == self.base.origin();
            let authorization = match is_registry {
                true => self.authorization().map_err(Failure::Lasting)?,
                false => None,
            };
            let answer = self.http.exchange(ask, &at, authorization.as_deref());
            // A signed address is good for some time only.
            let is_over = match &answer {
                Ok(response) => {
                    let status = response.status();
                    status.is_client_error() && !matches!(status.as_u16(), 416 | 429)
                }
                Err(_) => true,
            };
            if is_kept && is_over {
                is_kept = false;
                at = url.clone();
                self.signed().retain(|digest, _| Some(digest) != blob);
                continue;
            }
            let response = answer?;
            let status = response.status();
            if let Some(location) = location(&response) {
                hops += 1;
                at = at.join(location).map_err(Failure::Lasting)?;
                let is_post = ask.method == Method::POST || ask.method == Method::PUT;
                if hops > MAX_HOPS || is_post && !matches!(status.as_u16(), 307 | 308) {
                    let text = format!("{} leads on and on, last to {}", url.origin(), at.origin());
                    return Err(Failure::Lasting(Error::refused(text)));
                }
                if let Some(digest) = blob.filter(|_| at.origin() != self.base.origin()) {
                    self.keep(digest, &at);
                }
                drain(response);
                continue;
            }
            if status == StatusCode::UNAUTHORIZED && is_registry && challenges < MAX_CHALLENGES {
                if let Some(challenge) = challenge::of(response.headers()) {
                    challenges += 1;
                    drain(response);
                    let (http, retries) = (&self.http, self.options.retries);
                    let sent = authorization.as_deref();
                    self.auth
                        .answer(&challenge, sent, http, &self.base, retries)
                        .map_err(Failure::Lasting)?;
                    continue;
                }
            }
            return Ok((response, at));
        }
    }

    /// The same of an answer with a body of at most `limit` bytes.
    pub(super) fn small(
        &self,
        ask: &Ask<'_>,
        url: &Url,
        limit: u64,
    ) -> Result<(StatusCode, HeaderMap, Vec<u8>)> {
        let mut retry = Retry::new(self.options.retries);
        loop {
            let (response, at) = self.send(ask, url, None)?;
            if !response.status().is_success() {
                return Err(complaint(response, &at));
            }
            let (head, body) = response.into_parts();
            let mut text = Vec::new();
            let read = body.into_reader().take(limit + 1).read_to_end(&mut text);
            if text.len() as u64 > limit {
                let text = format!(
                    "{} gives more than the {limit} bytes that it may",
                    at.origin()
                );
                return Err(Error::damaged(text));
            }
            match read {
                Ok(_) => return Ok((head.status, head.headers, text)),
                Err(e) => {
                    let why = Error::unreached(format!("{}: {e}", at.origin()));
                    retry.wait(None, why)?;
                }
            }
        }
    }

    fn authorization(&self) -> Result<Option<String>> {
        self.auth
            .header(&self.http, &self.base, self.options.retries)
    }

    fn keep(&self, digest: &Digest, url: &Url) {
        let mut signed = self.signed();
        if signed.len() >= MAX_SIGNED {
            signed.clear();
        }
        signed.insert(*digest, url.clone());
    }

    fn signed(&self) -> MutexGuard<'_, HashMap<Digest, Url>> {
        // It is whole between any two statements.
        self.signed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a registry, whose name need not be proved, answers over TLS.
pub(super) fn speaks_tls(repository: &Repository, options: &Options) -> Result<bool> {
    let url = Url::parse(&format!("https://{}/v2/", repository.server()))?;
    let answer = Http::new(options).exchange(&Ask::new(Method::GET), &url, None);
    Ok(answer.is_ok())
}

/// Where an answer leads, if it is a redirect.
fn location(response: &Response<Body>) -> Option<&str> {
    match response.status().as_u16() {
        301 | 302 | 303 | 307 | 308 => header(response.headers(), "location"),
        _ => None,
    }
}

/// Reads the little that an answer still has to say.
pub(super) fn drain(response: Response<Body>) {
    let body = response.into_body().into_reader();
    // If it has more to say, or cannot, the connection ends.
    let _ = std::io::copy(&mut body.take(MAX_DRAINED), &mut std::io::sink());
}
