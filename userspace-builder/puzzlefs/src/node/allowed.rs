// SPDX-License-Identifier: Apache-2.0
//! From where a node pulls images for those who ask: from nowhere, but for what its administrator allows.

use std::str::FromStr;

use crate::registry::name::PREFIX;
use crate::registry::Repository;

/// Repositories of a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    host: String,
    /// A repository, or what the paths of all begin with.
    path: String,
    /// Whether it is what they begin with.
    is_prefix: bool,
}

/// Stands for what may follow a prefix.
const ANY: &str = "a/a";

impl Allowed {
    /// Whether `repository` is among them.
    pub fn has(&self, repository: &Repository) -> bool {
        let is_it = match self.is_prefix {
            true => repository.path.starts_with(&self.path),
            false => repository.path == self.path,
        };
        is_it && repository.server() == self.host
    }
}

impl FromStr for Allowed {
    type Err = String;

    /// `docker://HOST/PATH/` are all below that, also `docker://HOST/`; `docker://HOST/PATH` is that one.
    fn from_str(text: &str) -> Result<Self, String> {
        let named = text.strip_prefix(PREFIX);
        if named.is_none_or(|named| named.is_empty() || named.starts_with('/')) {
            return Err("expected docker://HOST/REPOSITORY, or docker://HOST/PATH/".into());
        }
        let is_prefix = text.ends_with('/');
        let whole = match is_prefix {
            true => format!("{text}{ANY}"),
            false => text.to_owned(),
        };
        let repository: Repository = whole.parse()?;
        let path = match is_prefix {
            true => repository.path.strip_suffix(ANY),
            false => Some(&*repository.path),
        };
        Ok(Allowed {
            host: repository.server().to_owned(),
            path: path.ok_or("it names no repositories")?.to_owned(),
            is_prefix,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_allowed_is_no_more() {
        let has = |allowed: &str, repository: &str| {
            let allowed: Allowed = allowed.parse().unwrap();
            let repository: Repository = format!("docker://{repository}").parse().unwrap();
            allowed.has(&repository)
        };
        for (allowed, repository, is) in [
            ("docker://h.example/team/", "h.example/team/tool", true),
            ("docker://h.example/team/", "h.example/team/a/b", true),
            ("docker://h.example/team/", "h.example/team", false),
            ("docker://h.example/team/", "h.example/teams/tool", false),
            ("docker://h.example/team/", "h.example:443/team/tool", false),
            ("docker://h.example/team/", "other.example/team/tool", false),
            ("docker://h.example/team", "h.example/team", true),
            ("docker://h.example/team", "h.example/team/tool", false),
            ("docker://h.example/", "h.example/any/one", true),
            ("docker://h.example/", "h.example.evil.example/a", false),
            ("docker://h.example:5000/", "h.example:5000/a", true),
            ("docker://h.example:5000/", "h.example/a", false),
            ("docker://docker.io/", "docker.io/library/debian", true),
            ("docker://docker.io/library/", "docker.io/debian", true),
            ("docker://docker.io/team/", "docker.io/debian", false),
        ] {
            assert_eq!(has(allowed, repository), is, "{allowed} {repository}");
        }
        for wrong in [
            "",
            "docker://",
            "h.example/a/",
            "oci:/a/",
            "docker://h.example/A/",
            "docker:///",
        ] {
            assert!(wrong.parse::<Allowed>().is_err(), "{wrong}");
        }
    }
}
