// SPDX-License-Identifier: Apache-2.0
//! What this user's files say for whom a registry is to take us: those of podman and skopeo
//! (containers-auth.json(5)) and docker's config.json, with their helpers.
//!
//! A few lines of our own: the crate docker_credential reads docker's file only.

use std::collections::HashMap;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{bail, ensure, Context};
use base64::prelude::{Engine, BASE64_STANDARD};
use serde::Deserialize;

use super::name::Repository;
use crate::base::error::{Error, Result, Where};
use crate::base::text;

/// Bytes of a file, or of what a helper says, at most.
const MAX_BYTES: u64 = 4 << 20;
/// The name under which docker keeps what is Docker Hub's.
const HUB_KEY: &str = "https://index.docker.io/v1/";

/// By what a registry takes us for somebody.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A name and a password.
    Password(String, String),
    /// What a token is to be had for, as `docker login` got it.
    Identity(String),
}

#[derive(Default, Deserialize)]
struct File {
    #[serde(default)]
    auths: HashMap<String, Auth>,
    #[serde(default, rename = "credHelpers")]
    helpers: HashMap<String, String>,
    #[serde(default, rename = "credsStore")]
    store: Option<String>,
}

#[derive(Default, Deserialize)]
struct Auth {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

/// The credentials for a repository, if any file has some. With `file` only that is looked at.
///
/// # Errors
///
/// If a file cannot be read or is malformed, or if a helper fails.
pub fn find(repository: &Repository, file: Option<&Path>) -> Result<Option<Credentials>> {
    let named = file.map(Path::to_owned);
    let named = named.or_else(|| var("REGISTRY_AUTH_FILE"));
    if let Some(path) = named {
        let file = read(&path)?;
        let missing = || Error::not_found(format!("there is no file {}", path.display()));
        return of(&file.ok_or_else(missing)?, &path, repository);
    }
    for path in usual() {
        if let Some(file) = read(&path)? {
            if let Some(found) = of(&file, &path, repository)? {
                return Ok(Some(found));
            }
        }
    }
    Ok(None)
}

fn var(name: &str) -> Option<PathBuf> {
    let value = std::env::var_os(name).filter(|value| !value.is_empty());
    value.map(PathBuf::from)
}

/// The files that are looked at, in this order.
fn usual() -> Vec<PathBuf> {
    let uid = rustix::process::geteuid().as_raw();
    let run = var("XDG_RUNTIME_DIR").unwrap_or_else(|| format!("/run/containers/{uid}").into());
    let home = var("HOME");
    let below = |dir: &str| home.as_ref().map(|home| home.join(dir));
    let config = var("XDG_CONFIG_HOME").or_else(|| below(".config"));
    let docker = var("DOCKER_CONFIG").or_else(|| below(".docker"));
    let files = [
        Some(run.join("containers/auth.json")),
        config.map(|dir| dir.join("containers/auth.json")),
        docker.map(|dir| dir.join("config.json")),
    ];
    files.into_iter().flatten().collect()
}

fn read(path: &Path) -> Result<Option<File>> {
    let context = || format!("reading {}", path.display());
    let file = match fs::File::open(path) {
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None)
        }
        file => file.with_context(context).at(path)?,
    };
    let mut text = Vec::new();
    file.take(MAX_BYTES)
        .read_to_end(&mut text)
        .with_context(context)
        .at(path)?;
    if text.trim_ascii().is_empty() {
        return Ok(None);
    }
    // Where, but not what: serde_json may quote a secret.
    let malformed = |e: serde_json::Error| {
        let text = format!(
            "it is malformed in line {}, column {}",
            e.line(),
            e.column()
        );
        Error::refused(text)
    };
    let parsed = serde_json::from_slice(&text).map_err(malformed);
    Ok(Some(parsed.with_context(context).at(path)?))
}

/// What a file has for a repository.
fn of(file: &File, path: &Path, repository: &Repository) -> Result<Option<Credentials>> {
    let context = || {
        format!(
            "the credentials for {} in {}",
            repository.host,
            path.display()
        )
    };
    let keys = keys(repository);
    let hosts: Vec<&str> = keys.iter().map(|key| host(key)).collect();
    let helper = file
        .helpers
        .iter()
        .find(|(key, _)| hosts.contains(&host(key)));
    let server = if repository.is_hub() {
        HUB_KEY
    } else {
        &repository.host
    };
    if let Some((key, helper)) = helper {
        return Ok(ask(helper, key).with_context(context)?);
    }
    let exact = keys.iter().find_map(|key| file.auths.get(key));
    let auth = exact.or_else(|| {
        let is_host = |key: &str| hosts.contains(&host(key)) && key.contains("://");
        let mut found = file.auths.iter().filter(|(key, _)| is_host(key));
        found.next().map(|(_, auth)| auth)
    });
    let written = auth.map(written).transpose().with_context(context)?;
    match (written.flatten(), &file.store) {
        (None, Some(store)) => Ok(ask(store, server).with_context(context)?),
        (found, _) => Ok(found),
    }
}

/// Under which names a file may have them, the nearest first: a part of the repository's name, and the
/// host.
fn keys(repository: &Repository) -> Vec<String> {
    let mut hosts = vec![repository.host.clone()];
    if repository.is_hub() {
        hosts = [
            "docker.io",
            HUB_KEY,
            "index.docker.io",
            "registry-1.docker.io",
        ]
        .map(String::from)
        .into();
    }
    let mut keys = Vec::new();
    let mut path = &*repository.path;
    loop {
        keys.push(format!("{}/{path}", hosts[0]));
        match path.rsplit_once('/') {
            Some((above, _)) => path = above,
            None => break,
        }
    }
    keys.extend(hosts);
    keys
}

/// The host of a name, which may be an address.
fn host(key: &str) -> &str {
    let key = key
        .strip_prefix("https://")
        .or(key.strip_prefix("http://"))
        .unwrap_or(key);
    key.split('/').next().unwrap_or_default()
}

/// What is written in the file itself.
fn written(auth: &Auth) -> anyhow::Result<Option<Credentials>> {
    if let Some(token) = auth
        .identitytoken
        .as_ref()
        .filter(|token| !token.is_empty())
    {
        return Ok(Some(Credentials::Identity(token.clone())));
    }
    if let (Some(user), Some(password)) = (&auth.username, &auth.password) {
        return Ok(Some(Credentials::Password(user.clone(), password.clone())));
    }
    let Some(encoded) = auth.auth.as_ref().filter(|auth| !auth.is_empty()) else {
        return Ok(None);
    };
    let decoded = BASE64_STANDARD.decode(encoded).ok();
    let decoded = decoded.and_then(|decoded| String::from_utf8(decoded).ok());
    let pair = decoded.as_ref().and_then(|decoded| decoded.split_once(':'));
    let (user, password) = pair.context("auth is no base64 of a name, a colon and a password")?;
    // Docker once wrote NULs behind it.
    let password = password.trim_end_matches('\0');
    Ok(Some(Credentials::Password(user.into(), password.into())))
}

/// Asks a helper, as docker-credential-helpers has it.
fn ask(helper: &str, server: &str) -> anyhow::Result<Option<Credentials>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        username: String,
        secret: String,
    }
    let name = format!("docker-credential-{helper}");
    ensure!(
        !helper.contains('/'),
        "{} is no name of a helper",
        text::quoted(helper.as_bytes())
    );
    let started = Command::new(&name)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut child = started.with_context(|| format!("starting {name}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that did not want to know has its say below.
        let _ = stdin.write_all(server.as_bytes());
    }
    let mut said = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout
            .take(MAX_BYTES)
            .read_to_end(&mut said)
            .with_context(|| name.clone())?;
    }
    let status = child.wait().with_context(|| name.clone())?;
    if !status.success() {
        let said = String::from_utf8_lossy(&said);
        if said.contains("credentials not found") {
            return Ok(None);
        }
        let said: String = said.trim().chars().take(500).collect();
        bail!("{name}: {}", text::quoted(said.as_bytes()));
    }
    // Not what serde_json has to say: it may quote the secret.
    let answer: Answer = match serde_json::from_slice(&said) {
        Ok(answer) => answer,
        Err(_) => bail!("{name} gave no JSON of a name and a secret"),
    };
    Ok(Some(match &*answer.username {
        "<token>" => Credentials::Identity(answer.secret),
        _ => Credentials::Password(answer.username, answer.secret),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(file: &str, repository: &str) -> Option<String> {
        let file: File = serde_json::from_str(file).unwrap();
        let repository: Repository = repository.parse().unwrap();
        let found = of(&file, Path::new("x"), &repository).unwrap();
        found.map(|found| match found {
            Credentials::Password(user, password) => format!("{user}:{password}"),
            Credentials::Identity(token) => token,
        })
    }

    #[test]
    fn the_nearest_counts() {
        let file = r#"{"auths": {
            "h.example:5000": {"auth": "dTpo"},
            "h.example:5000/a/b": {"auth": "dTphYjp4"},
            "https://old.example/v1/": {"auth": "dTpv"},
            "https://index.docker.io/v1/": {"identitytoken": "token"},
            "empty.example": {}
        }}"#;
        for (repository, expected) in [
            ("docker://h.example:5000/a", Some("u:h")),
            ("docker://h.example:5000/a/b", Some("u:ab:x")),
            ("docker://h.example:5000/a/b/c", Some("u:ab:x")),
            ("docker://h.example:5000/a/bc", Some("u:h")),
            ("docker://h.example/a/b", None),
            ("docker://old.example/x", Some("u:o")),
            ("docker://debian", Some("token")),
            ("docker://empty.example/x", None),
        ] {
            assert_eq!(found(file, repository).as_deref(), expected, "{repository}");
        }
    }

    #[test]
    fn what_is_malformed_says_nothing_secret() {
        let file: File =
            serde_json::from_str(r#"{"auths":{"h.example":{"auth":"c2VjcmV0"}}}"#).unwrap();
        let repository = "docker://h.example/a".parse().unwrap();
        let error = of(&file, Path::new("x"), &repository).err().unwrap();
        let text = format!("{error:#}");
        assert!(
            !text.contains("c2VjcmV0") && text.contains("h.example"),
            "{text}"
        );
    }
}
