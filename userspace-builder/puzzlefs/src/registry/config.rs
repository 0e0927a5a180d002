// SPDX-License-Identifier: Apache-2.0
//! registries.conf, version 2 (containers-registries.conf(5)): other places for the images of a registry, and
//! registries that are without TLS or blocked. What it says of short names is for `short`.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Deserialize;

use super::name::Repository;
use crate::base::error::{Error, Result, Where};

/// Where a repository is to be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// What it is called there.
    pub repository: Repository,
    /// Whether TLS need not be right there, or be there at all.
    pub insecure: bool,
    /// Whether it is asked for what is named by a tag, and by a digest.
    pub by: (bool, bool),
}

/// One file.
#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct File {
    #[serde(default)]
    registry: Vec<Registry>,
    /// Short names, and the repositories that they stand for.
    #[serde(default)]
    pub(super) aliases: BTreeMap<String, String>,
    /// Registries where other short names may be.
    pub(super) unqualified_search_registries: Option<Vec<String>>,
    /// Whether people are asked, and whether aliases count.
    pub(super) short_name_mode: Option<String>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Registry {
    prefix: Option<String>,
    #[serde(default)]
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    blocked: bool,
    #[serde(default)]
    mirror_by_digest_only: bool,
    #[serde(default)]
    mirror: Vec<Mirror>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Mirror {
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    pull_from_mirror: String,
}

/// The places of a repository, the mirrors first and the registry itself last.
///
/// # Errors
///
/// If a file is malformed, or the registry is blocked.
pub fn places(repository: &Repository) -> Result<Vec<Place>> {
    let registries = read(&files()?)?;
    of(repository, &registries)
}

/// A path in the environment.
pub(super) fn var(name: &str) -> Option<PathBuf> {
    let value = std::env::var_os(name).filter(|value| !value.is_empty());
    value.map(PathBuf::from)
}

/// The files that there are; what a later one says counts.
pub(super) fn files() -> Result<Vec<PathBuf>> {
    if let Some(file) = var("CONTAINERS_REGISTRIES_CONF") {
        return Ok(vec![file]);
    }
    let config = var("XDG_CONFIG_HOME").or_else(|| Some(var("HOME")?.join(".config")));
    let own = config.map(|dir| dir.join("containers"));
    let system = PathBuf::from("/etc/containers");
    let main = own
        .iter()
        .chain([&system])
        .map(|dir| dir.join("registries.conf"));
    let mut files: Vec<PathBuf> = main.filter(|path| path.exists()).take(1).collect();
    // A later file says the last word on a prefix.
    for dir in [&system].into_iter().chain(&own) {
        let dir = dir.join("registries.conf.d");
        let entries = match fs::read_dir(&dir) {
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                continue
            }
            entries => entries
                .with_context(|| format!("reading {}", dir.display()))
                .at(&dir)?,
        };
        let mut found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        found.retain(|path| {
            path.extension()
                .is_some_and(|extension| extension == "conf")
        });
        found.sort();
        files.extend(found);
    }
    Ok(files)
}

/// What files say, by prefix.
fn read(files: &[PathBuf]) -> Result<BTreeMap<String, Registry>> {
    let mut all = BTreeMap::new();
    for path in files {
        for registry in parse(path)?.registry {
            let prefix = registry
                .prefix
                .clone()
                .unwrap_or_else(|| registry.location.clone());
            all.insert(prefix, registry);
        }
    }
    Ok(all)
}

/// What a file says.
pub(super) fn parse(path: &Path) -> Result<File> {
    let context = || format!("reading {}", path.display());
    let text = fs::read_to_string(path).with_context(context).at(path)?;
    let parsed: Result<File, _> = toml::from_str(&text);
    parsed
        .map_err(Error::refused)
        .with_context(context)
        .at(path)
}

fn of(repository: &Repository, registries: &BTreeMap<String, Registry>) -> Result<Vec<Place>> {
    let name = format!("{}/{}", repository.host, repository.path);
    let found = registries.iter().filter_map(|(prefix, registry)| {
        let rest = rest(&name, prefix)?;
        Some((prefix.len(), rest, registry))
    });
    let itself = |insecure| Place {
        repository: repository.clone(),
        insecure,
        by: (true, true),
    };
    let Some((_, rest, registry)) = found.max_by_key(|(len, ..)| *len) else {
        return Ok(vec![itself(false)]);
    };
    if registry.blocked {
        return Err(Error::refused(format!(
            "registries.conf blocks {repository}"
        )));
    }
    let mut places = Vec::new();
    for mirror in &registry.mirror {
        let only_digest =
            registry.mirror_by_digest_only || mirror.pull_from_mirror == "digest-only";
        places.push(Place {
            repository: at(&mirror.location, rest)?,
            insecure: mirror.insecure,
            by: (!only_digest, mirror.pull_from_mirror != "tag-only"),
        });
    }
    let is_elsewhere = !registry.location.is_empty()
        && !registry.prefix.as_deref().unwrap_or("").starts_with("*.");
    places.push(match is_elsewhere {
        true => Place {
            repository: at(&registry.location, rest)?,
            ..itself(registry.insecure)
        },
        false => itself(registry.insecure),
    });
    Ok(places)
}

/// What stands behind a prefix in a name, if it has that.
fn rest<'a>(name: &'a str, prefix: &str) -> Option<&'a str> {
    if prefix.is_empty() {
        return None;
    }
    if let Some(domain) = prefix.strip_prefix('*') {
        let (host, path) = name.split_at(name.find('/')?);
        let bare = host.split(':').next()?;
        return (domain.starts_with('.') && bare.ends_with(domain)).then_some(path);
    }
    let rest = name.strip_prefix(prefix)?;
    (rest.is_empty() || rest.starts_with('/')).then_some(rest)
}

fn at(location: &str, rest: &str) -> Result<Repository> {
    let text = format!("docker://{location}{rest}");
    let wrong = |e| Error::refused(format!("registries.conf has a location that is none: {e}"));
    text.parse().map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Name, whether it is insecure, and for what it is asked.
    type Shown = (String, bool, (bool, bool));

    fn found(repository: &str, text: &str) -> Result<Vec<Shown>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("registries.conf");
        fs::write(&path, text).unwrap();
        let places = of(&repository.parse().unwrap(), &read(&[path])?)?;
        let shown = places
            .into_iter()
            .map(|place| (place.repository.to_string(), place.insecure, place.by));
        Ok(shown.collect())
    }

    #[test]
    fn mirrors_come_first() {
        let text = r#"
            unqualified-search-registries = ["docker.io"]
            short-name-mode = "enforcing"
            [[registry]]
            prefix = "docker.io"
            location = "docker.io"
            [[registry.mirror]]
            location = "mirror.example:5000/hub"
            insecure = true
            [[registry.mirror]]
            location = "second.example"
            pull-from-mirror = "digest-only"
            [[registry]]
            prefix = "docker.io/bad"
            location = "docker.io/bad"
            blocked = true
            [[registry]]
            prefix = "*.corp.example"
            insecure = true
            [[registry]]
            prefix = "old.example/a"
            location = "new.example/b"
            [[registry]]
            location = "plain.example"
            insecure = true
        "#;
        let all = (true, true);
        let is = |text: &str, insecure, by| (format!("docker://{text}"), insecure, by);
        assert_eq!(
            found("docker://debian", text).unwrap(),
            [
                is("mirror.example:5000/hub/library/debian", true, all),
                is("second.example/library/debian", false, (false, true)),
                is("docker.io/library/debian", false, all),
            ]
        );
        for (repository, place) in [
            (
                "docker://x.corp.example:5000/a",
                is("x.corp.example:5000/a", true, all),
            ),
            ("docker://corp.example/a", is("corp.example/a", false, all)),
            (
                "docker://old.example/a/x",
                is("new.example/b/x", false, all),
            ),
            ("docker://old.example/ab", is("old.example/ab", false, all)),
            (
                "docker://plain.example/ab",
                is("plain.example/ab", true, all),
            ),
            (
                "docker://plain.example.org/ab",
                is("plain.example.org/ab", false, all),
            ),
        ] {
            assert_eq!(found(repository, text).unwrap(), [place], "{repository}");
        }
        assert!(matches!(
            found("docker://bad/x", text),
            Err(Error::Refused(_))
        ));
        for bad in [
            "x",
            "[[registry]]\nlocation = 5",
            "[[registry]]\nprefix='a.b'\nlocation='../x'",
        ] {
            assert!(found("docker://a.b/x", bad).is_err(), "{bad}");
        }
    }
}
