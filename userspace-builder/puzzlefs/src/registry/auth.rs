// SPDX-License-Identifier: Apache-2.0
//! Who we are to a registry: nobody, a name with a password, or the bearer of a token, which is fetched when
//! it is asked for and again before it ends (the token specification of the distribution project).

use std::io::Read;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use base64::prelude::{Engine, BASE64_STANDARD};
use serde::Deserialize;
use ureq::http::{Method, StatusCode};

use super::challenge::Challenge;
use super::credentials::Credentials;
use super::http::{complaint, Ask, Failure, Http, Sent};
use super::retry::{self, Retry};
use super::url::{escaped, Url};
use crate::base::error::{Error, Result};

/// Bytes of an answer with a token, at most.
const MAX_TOKEN: u64 = 1 << 20;
/// Bytes of a token that is sent: heads of requests have limits of this order.
const MAX_HEADER: usize = 32 << 10;
/// How long a token is good that does not say it, and the least that one may say.
const LEAST: Duration = Duration::from_secs(60);
/// How long one is believed to be good.
const MOST: Duration = Duration::from_secs(24 * 3600);

/// What is asked of a registry's own address.
pub struct Auth {
    credentials: Option<Credentials>,
    /// What tokens are to allow.
    scopes: Vec<String>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What is sent with a request.
    header: Option<String>,
    /// Where the token in it came from, and when the next one is due.
    token: Option<(Challenge, Instant)>,
}

impl Auth {
    /// Nobody, until the registry asks.
    pub fn new(credentials: Option<Credentials>, scopes: Vec<String>) -> Self {
        Auth {
            credentials,
            scopes,
            state: Mutex::default(),
        }
    }

    /// What is to be sent with the next request.
    pub fn header(&self, http: &Http, base: &Url, retries: u32) -> Result<Option<String>> {
        let mut state = self.lock();
        if let Some((challenge, due)) = &state.token {
            if Instant::now() >= *due {
                let challenge = challenge.clone();
                self.renew(&mut state, challenge, http, base, retries)?;
            }
        }
        Ok(state.header.clone())
    }

    /// Does what a challenge asks for, of which `sent` was not enough.
    ///
    /// # Errors
    ///
    /// If there are no credentials, or a server for tokens gives none.
    pub fn answer(
        &self,
        challenge: &Challenge,
        sent: Option<&str>,
        http: &Http,
        base: &Url,
        retries: u32,
    ) -> Result<()> {
        let mut state = self.lock();
        if state.header.as_deref() != sent {
            // Another thread has answered it meanwhile.
            return Ok(());
        }
        match challenge {
            Challenge::Basic => {
                let Some(Credentials::Password(user, password)) = &self.credentials else {
                    let text = format!("{} asks for a name and a password", base.origin());
                    return Err(Error::refused(format!(
                        "{text}: log in by skopeo login or docker login"
                    )));
                };
                let header = basic(user, password);
                if sent == Some(&header) {
                    let text = format!(
                        "{} does not take the name {user} with its password",
                        base.origin()
                    );
                    return Err(Error::refused(text));
                }
                state.header = Some(header);
                Ok(())
            }
            bearer => self.renew(&mut state, bearer.clone(), http, base, retries),
        }
    }

    fn renew(
        &self,
        state: &mut State,
        challenge: Challenge,
        http: &Http,
        base: &Url,
        retries: u32,
    ) -> Result<()> {
        let Challenge::Bearer { realm, service } = &challenge else {
            return Ok(());
        };
        let context = || format!("a token for {}", base.origin());
        let realm = base.join(realm).with_context(context)?;
        let token = self.fetch(&realm, service.as_deref(), http, retries);
        let token = token.with_context(context)?;
        let text = token.access_token.or(token.token).unwrap_or_default();
        let is_plain = |text: &str| text.bytes().all(|b| b.is_ascii_graphic());
        if text.is_empty() || text.len() > MAX_HEADER || !is_plain(&text) {
            return Err(Error::refused(format!(
                "{} gives no token that can be sent",
                realm.origin()
            )));
        }
        let lasts = Duration::from_secs(token.expires_in.unwrap_or(0)).clamp(LEAST, MOST);
        state.header = Some(format!("Bearer {text}"));
        // A tenth before its end, so that a request that begins now is through by then.
        state.token = Some((challenge, Instant::now() + lasts * 9 / 10));
        Ok(())
    }

    fn fetch(
        &self,
        realm: &Url,
        service: Option<&str>,
        http: &Http,
        retries: u32,
    ) -> Result<Token> {
        let mut parameters = Vec::new();
        parameters.extend(service.map(|service| ("service", service.to_owned())));
        let mut authorization = None;
        let mut form = String::new();
        match &self.credentials {
            Some(Credentials::Identity(token)) => {
                parameters.push(("grant_type", "refresh_token".into()));
                parameters.push(("client_id", "puzzlefs".into()));
                parameters.push(("refresh_token", token.clone()));
                parameters.push(("scope", self.scopes.join(" ")));
                let pairs = parameters
                    .iter()
                    .map(|(name, value)| format!("{name}={}", escaped(value)));
                form = pairs.collect::<Vec<_>>().join("&");
                parameters.clear();
            }
            known => {
                if let Some(Credentials::Password(user, password)) = known {
                    authorization = Some(basic(user, password));
                    parameters.push(("account", user.clone()));
                }
                parameters.extend(self.scopes.iter().map(|scope| ("scope", scope.clone())));
            }
        }
        let mut url = realm.clone();
        for (name, value) in &parameters {
            url = url.with(name, value)?;
        }
        let ask = match form.is_empty() {
            true => Ask::new(Method::GET),
            false => Ask {
                method: Method::POST,
                headers: vec![("content-type", "application/x-www-form-urlencoded".into())],
                body: Sent::Bytes(form.as_bytes()),
            },
        };
        let mut retry = Retry::new(retries);
        loop {
            let (asked, why) = match http.exchange(&ask, &url, authorization.as_deref()) {
                Ok(response) if response.status() == StatusCode::OK => {
                    let mut text = Vec::new();
                    let body = response.into_body().into_reader();
                    match body.take(MAX_TOKEN).read_to_end(&mut text) {
                        Ok(_) => return parse(&text, realm),
                        Err(e) => (None, Error::unreached(format!("{}: {e}", realm.origin()))),
                    }
                }
                Ok(response) => {
                    let asked = retry::asked(response.headers());
                    let is_passing = retry::is_passing(response.status());
                    let why = complaint(response, realm);
                    if !is_passing {
                        return Err(why);
                    }
                    (asked, why)
                }
                Err(Failure::Lasting(error)) => return Err(error),
                Err(Failure::Passing(error)) => (None, error),
            };
            retry.wait(asked, why)?;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // It is whole between any two statements.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

fn parse(text: &[u8], realm: &Url) -> Result<Token> {
    // What serde_json says of it may quote a token.
    let wrong = |_| {
        Error::refused(format!(
            "{} gives no token but something else",
            realm.origin()
        ))
    };
    serde_json::from_slice(text).map_err(wrong)
}

fn basic(user: &str, password: &str) -> String {
    let pair = BASE64_STANDARD.encode(format!("{user}:{password}"));
    format!("Basic {pair}")
}
