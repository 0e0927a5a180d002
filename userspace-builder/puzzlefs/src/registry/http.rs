// SPDX-License-Identifier: Apache-2.0
//! One request and its answer, as they go over the network: connections, TLS, proxies, limits of time and
//! size. What an answer asks for, more credentials or another address, is for `client`.

use std::collections::HashMap;
use std::io::{ErrorKind, Read};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ureq::http::{HeaderMap, Method, Request, Response, StatusCode};
use ureq::{Agent, Body, SendBody};

use super::options::Options;
use super::url::Url;
use super::{certs, proxy};
use crate::base::error::{Error, Result};
use crate::base::text;

/// Until a connection is there, with TLS.
const CONNECT: Duration = Duration::from_secs(30);

/// Until the next bytes come or go. A registry checks the digest of a whole blob before it answers.
const STALL: Duration = Duration::from_secs(120);
/// Bytes of the head of an answer.
const MAX_HEAD: usize = 64 << 10;
/// Bytes of an answer that says what is wrong.
const MAX_COMPLAINT: u64 = 64 << 10;
/// Connections to a server that are kept for the next request.
const IDLE: usize = 20;

/// What is asked of a server.
pub struct Ask<'a> {
    /// The method.
    pub method: Method,
    /// Headers, but for credentials.
    pub headers: Vec<(&'static str, String)>,
    /// What is sent.
    pub body: Sent<'a>,
}

/// The body of a request, which may have to be sent more than once.
pub enum Sent<'a> {
    /// None.
    Nothing,
    /// Some bytes.
    Bytes(&'a [u8]),
    /// A stream of so many bytes.
    Stream(u64, &'a dyn Fn() -> Result<Box<dyn Read + 'a>>),
}

impl Ask<'_> {
    /// A request without a body.
    pub fn new(method: Method) -> Self {
        Ask {
            method,
            headers: Vec::new(),
            body: Sent::Nothing,
        }
    }

    /// With a header more.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// Why there is no answer.
pub enum Failure {
    /// Another try may go well.
    Passing(Error),
    /// It would not.
    Lasting(Error),
}

/// Connections to servers.
pub struct Http {
    options: Options,
    /// By the origin of the server.
    agents: Mutex<HashMap<String, Agent>>,
    /// Servers that have answered once.
    met: Mutex<std::collections::HashSet<String>>,
}

impl Http {
    /// No connection yet.
    pub fn new(options: &Options) -> Self {
        Http {
            options: options.clone(),
            agents: Mutex::default(),
            met: Mutex::default(),
        }
    }

    fn agent(&self, url: &Url) -> Result<Agent> {
        // Whoever waits would only read the same certificates.
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(agent) = agents.get(&url.origin()) {
            return Ok(agent.clone());
        }
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("puzzlefs/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .proxy(proxy::of(url)?)
            .timeout_resolve(Some(CONNECT))
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(STALL))
            .timeout_per_read(Some(STALL))
            .timeout_per_write(Some(STALL))
            .max_response_header_size(MAX_HEAD)
            .max_idle_connections(IDLE)
            .max_idle_connections_per_host(IDLE);
        if url.is_https() {
            let dir = self.options.cert_dir.as_deref();
            let tls = certs::tls(url.authority(), dir, !self.options.skip_verify)?;
            config = config.tls_config(tls);
        }
        let agent = config.build().new_agent();
        agents.insert(url.origin(), agent.clone());
        Ok(agent)
    }

    /// Sends a request, and waits for the head of the answer.
    pub fn exchange(
        &self,
        ask: &Ask<'_>,
        url: &Url,
        authorization: Option<&str>,
    ) -> Result<Response<Body>, Failure> {
        let agent = self.agent(url).map_err(Failure::Lasting)?;
        let mut request = Request::builder()
            .method(ask.method.clone())
            .uri(url.to_string());
        for (name, value) in &ask.headers {
            request = request.header(*name, value);
        }
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization);
        }
        let mut stream: Box<dyn Read + '_> = match ask.body {
            Sent::Nothing => {
                // Else it would go in chunks, of which there is none.
                if ask.method == Method::POST || ask.method == Method::PUT {
                    request = request.header("content-length", 0);
                }
                Box::new(std::io::empty())
            }
            Sent::Bytes(bytes) => {
                request = request.header("content-length", bytes.len());
                Box::new(bytes)
            }
            Sent::Stream(len, open) => {
                request = request.header("content-length", len);
                // So that nothing of it is sent to who wants to see credentials first.
                request = request.header("expect", "100-continue");
                open().map_err(Failure::Lasting)?
            }
        };
        let invalid = |e| Failure::Lasting(Error::refused(format!("{}: {e}", url.origin())));
        let answer = match ask.body {
            Sent::Nothing => agent.run(request.body(()).map_err(invalid)?),
            _ => {
                let body = SendBody::from_reader(&mut stream);
                agent.run(request.body(body).map_err(invalid)?)
            }
        };
        self.answered(answer, url)
    }

    /// Sends a request that somebody else has made, as to a server that is no registry.
    pub fn send(&self, request: Request<impl AsRef<[u8]>>) -> Result<Response<Body>, Failure> {
        let url = Url::parse(&request.uri().to_string()).map_err(Failure::Lasting)?;
        let agent = self.agent(&url).map_err(Failure::Lasting)?;
        let answer = match request.body().as_ref() {
            [] => agent.run(request.map(drop)),
            bytes => {
                let bytes = bytes.to_vec();
                agent.run(request.map(|_| bytes))
            }
        };
        self.answered(answer, &url)
    }

    fn answered(
        &self,
        answer: Result<Response<Body>, ureq::Error>,
        url: &Url,
    ) -> Result<Response<Body>, Failure> {
        let origin = url.origin();
        match answer {
            Ok(response) => {
                let mut met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
                met.insert(origin);
                Ok(response)
            }
            Err(error) => Err(self.failure(error, &origin)),
        }
    }

    fn failure(&self, error: ureq::Error, origin: &str) -> Failure {
        let met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        let is_met = met.contains(origin);
        if let ureq::Error::Io(e) = &error {
            if e.get_ref().is_some_and(|e| e.is::<Error>()) {
                // What the local file said, of which the stream was made.
                return Failure::Lasting(error.into_io().into());
            }
        }
        let is_passing = match &error {
            ureq::Error::Io(e) => is_met || is_passing(e.kind()),
            ureq::Error::HostNotFound => is_met,
            ureq::Error::Timeout(_) | ureq::Error::ConnectionFailed | ureq::Error::Protocol(_) => {
                true
            }
            _ => false,
        };
        let error = Error::unreached(format!("{origin}: {}", said(&error)));
        match is_passing {
            true => Failure::Passing(error),
            false => Failure::Lasting(error),
        }
    }
}

/// Whether what happened to the first connection to a server is likely to be another thing the next time. A
/// name that nobody knows, a port that nobody listens at, and one who does not speak TLS or shows a
/// certificate that is not trusted, are mistakes of ours more often.
fn is_passing(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
            | ErrorKind::TimedOut
            | ErrorKind::UnexpectedEof
    )
}

/// What ureq says, in words for people.
fn said(error: &ureq::Error) -> String {
    let hint = match error {
        ureq::Error::Rustls(rustls::Error::InvalidCertificate(_)) => {
            "; put its authority into /etc/containers/certs.d/HOST/*.crt, or name a directory by --cert-dir"
        }
        ureq::Error::Io(e) if e.to_string().contains("InvalidContentType") => {
            "; it does not speak TLS: --plain-http if it is to be so"
        }
        ureq::Error::Io(e) if e.to_string().contains("invalid peer certificate") => {
            "; put its authority into /etc/containers/certs.d/HOST/*.crt, or name a directory by --cert-dir"
        }
        ureq::Error::Rustls(rustls::Error::InvalidMessage(_)) => {
            "; it does not speak TLS: --plain-http if it is to be so"
        }
        _ => "",
    };
    format!("{error}{hint}")
}

/// What an answer is that is nothing but a status and what is said of it.
pub fn complaint(response: Response<Body>, url: &Url) -> Error {
    let status = response.status();
    let mut said = Vec::new();
    let body = response.into_body().into_reader();
    // Without it, the status says enough.
    let _ = body.take(MAX_COMPLAINT).read_to_end(&mut said);
    let text = format!(
        "{} answers {}{}",
        url.origin(),
        named(status),
        reasons(&said)
    );
    match status {
        StatusCode::NOT_FOUND => Error::not_found(text),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Error::refused(text),
        _ => Error::unreached(text),
    }
}

fn named(status: StatusCode) -> String {
    match status.canonical_reason() {
        Some(reason) => format!("{} {reason}", status.as_u16()),
        None => status.as_u16().to_string(),
    }
}

/// What the body of a registry's error says (distribution specification, "Error Codes").
fn reasons(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Errors {
        errors: Vec<Reason>,
    }
    #[derive(serde::Deserialize)]
    struct Reason {
        code: Option<String>,
        message: Option<String>,
    }
    let Ok(errors) = serde_json::from_slice::<Errors>(body) else {
        return String::new();
    };
    let of = |reason: &Reason| {
        let parts = [&reason.code, &reason.message].into_iter().flatten();
        let parts = parts.map(|part| part.chars().take(300).collect::<String>());
        text::quoted(parts.collect::<Vec<_>>().join(" ").as_bytes())
    };
    let all = errors.errors.iter().take(3).map(of);
    let all: Vec<String> = all.filter(|reason| !reason.is_empty()).collect();
    match all.is_empty() {
        true => String::new(),
        false => format!(": {}", all.join("; ")),
    }
}

/// A header as text, if it is there and is text.
pub fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// A header that is a number.
pub fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    header(headers, name)?.trim().parse().ok()
}
