// SPDX-License-Identifier: Apache-2.0
//! Short names: without a transport and without a host, as `podman pull` takes them. registries.conf says
//! what they stand for (containers-registries.conf(5), "Short-name aliasing"). With `docker://` before it a
//! name without a host is Docker Hub's, whatever that says, as for skopeo and podman.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::config::{self, File};
use super::name::{names_host, Reference, Repository, PREFIX};
use crate::base::error::{Error, Result};
use crate::base::text;

/// What all files together say.
#[derive(Debug, Default)]
struct Said {
    aliases: BTreeMap<String, String>,
    search: Vec<String>,
    mode: String,
}

/// The image that `text` names: NAME[:TAG] or NAME@sha256:DIGEST, with a host or short.
///
/// An alias counts first, and then the registry that is searched for unqualified names, if there is one
/// only: of several each could have another image of that name.
///
/// # Errors
///
/// If it is no name, or nothing says what it stands for, or a file cannot be read.
pub fn resolve(text: &str) -> Result<Reference> {
    let full = parse(text)?;
    if text
        .split_once('/')
        .is_some_and(|(host, _)| names_host(host))
    {
        return Ok(full);
    }
    of(text, full, &read(&files()?)?)
}

fn parse(text: &str) -> Result<Reference> {
    format!("{PREFIX}{text}").parse().map_err(Error::refused)
}

/// What was chosen by people when they were asked, as podman does, counts last.
fn files() -> Result<Vec<PathBuf>> {
    let mut files = config::files()?;
    let dir = match rustix::process::geteuid().is_root() {
        true => Some("/var/cache".into()),
        false => {
            config::var("XDG_CACHE_HOME").or_else(|| Some(config::var("HOME")?.join(".cache")))
        }
    };
    let chosen = dir.map(|dir: PathBuf| dir.join("containers/short-name-aliases.conf"));
    files.extend(chosen.filter(|path| path.exists()));
    Ok(files)
}

fn read(files: &[PathBuf]) -> Result<Said> {
    let mut said = Said::default();
    for path in files {
        let File {
            aliases,
            unqualified_search_registries,
            short_name_mode,
            ..
        } = config::parse(path)?;
        said.aliases.extend(aliases);
        said.search = unqualified_search_registries.unwrap_or(said.search);
        said.mode = short_name_mode.unwrap_or(said.mode);
    }
    Ok(said)
}

fn of(text: &str, full: Reference, said: &Said) -> Result<Reference> {
    let named = text.split_once('@').map_or(text, |(name, _)| name);
    let tag = named[named.rfind('/').unwrap_or(0)..].find(':');
    let short = &named[..tag.map_or(named.len(), |at| named.rfind('/').unwrap_or(0) + at)];
    let is_named = |repository| Reference {
        repository,
        name: full.name.clone(),
    };
    // An empty one takes back what another file says.
    let alias = said.aliases.get(short).filter(|alias| !alias.is_empty());
    if let Some(alias) = alias.filter(|_| said.mode != "disabled") {
        return repository(alias).map(is_named);
    }
    match &said.search[..] {
        [host] => repository(&format!("{host}/{short}")).map(is_named),
        several => {
            let quoted = text::quoted(short.as_bytes());
            let why = match several.is_empty() {
                true => "registries.conf has no alias for it, and no registry to search".to_owned(),
                false => format!(
                    "registries.conf has no alias for it, and several registries to search: {}",
                    several.join(", ")
                ),
            };
            Err(Error::refused(format!(
                "{quoted} is a short name. {why}: name the registry, as docker://HOST/{short}"
            )))
        }
    }
}

/// A repository in registries.conf, which must have a host and no more than a name.
fn repository(text: &str) -> Result<Repository> {
    let has_host = text
        .split_once('/')
        .is_some_and(|(host, _)| names_host(host));
    let parsed = format!("{PREFIX}{text}").parse();
    let parsed = parsed.ok().filter(|_| has_host);
    parsed.ok_or_else(|| {
        let text = text::quoted(text.as_bytes());
        Error::refused(format!("registries.conf: {text} is no HOST/REPOSITORY"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAIN: &str = r#"
        unqualified-search-registries = ["one.example", "two.example:5000"]
        [aliases]
        "debian" = "docker.io/library/debian"
        "team/app" = "registry.example:5000/team/app"
        "gone" = "docker.io/library/gone"
        "other" = "docker.io/library/other"
        "bad" = "nohost/name"
        "tagged" = "h.example/a:1"
    "#;

    fn found(name: &str, texts: &[&str]) -> Result<String> {
        let dir = tempfile::tempdir().unwrap();
        let files = texts.iter().enumerate().map(|(number, text)| {
            let path = dir.path().join(format!("{number}.conf"));
            std::fs::write(&path, text).unwrap();
            path
        });
        let said = read(&files.collect::<Vec<_>>())?;
        Ok(of(name, parse(name)?, &said)?.to_string())
    }

    #[test]
    fn aliases_come_first_and_the_last_file_counts() {
        let more = "[aliases]\n\"gone\" = \"\"\n\"other\" = \"h.example/x\"";
        let is = |name: &str, full: &str| {
            let full = format!("docker://{full}");
            assert_eq!(found(name, &[MAIN, more]).unwrap(), full, "{name}");
        };
        is("debian", "docker.io/library/debian:latest");
        is("debian:12", "docker.io/library/debian:12");
        is("team/app:v1", "registry.example:5000/team/app:v1");
        is("other", "h.example/x:latest");
        let digest = format!("@sha256:{}", "0123456789abcdef".repeat(4));
        is(
            &format!("debian{digest}"),
            &format!("docker.io/library/debian{digest}"),
        );
        for wrong in ["gone", "app", "bad", "tagged", "deb", "DEBIAN", "a b", ""] {
            assert!(found(wrong, &[MAIN, more]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn one_registry_is_searched_and_not_several() {
        let one = "unqualified-search-registries = ['h.example:5000']";
        let is = |text: &str| found("a/b:1", &[MAIN, text]).unwrap();
        assert_eq!(is(one), "docker://h.example:5000/a/b:1");
        assert_eq!(
            found("debian", &["unqualified-search-registries = ['docker.io']"]).unwrap(),
            "docker://docker.io/library/debian:latest"
        );
        let several = found("a/b:1", &[MAIN]).unwrap_err();
        assert!(format!("{several:#}").contains("two.example:5000"));
        let none = found("a/b", &[MAIN, "unqualified-search-registries = []"]);
        assert!(format!("{:#}", none.unwrap_err()).contains("docker://HOST/a/b"));
        // Then an alias says nothing.
        let off = format!("short-name-mode = 'disabled'\n{one}");
        let said = found("debian", &[MAIN, &off]).unwrap();
        assert_eq!(said, "docker://h.example:5000/debian:latest");
    }

    /// With a host nothing is looked up.
    #[test]
    fn whole_names_stay() {
        let full = resolve("h.example:5000/a:1").unwrap();
        assert_eq!(full.to_string(), "docker://h.example:5000/a:1");
    }
}
