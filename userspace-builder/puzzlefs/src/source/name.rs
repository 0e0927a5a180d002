// SPDX-License-Identifier: Apache-2.0
//! What the command line calls an ordinary image: TRANSPORT:PLACE, as skopeo does
//! (containers-transports(5)).

use std::path::PathBuf;
use std::str::FromStr;

use crate::layout::reference::Reference;
use crate::registry;

/// An ordinary image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// `oci:DIR:TAG`, or `oci:DIR` of a single one.
    Oci(Result<Reference, PathBuf>),
    /// `oci-archive:FILE[:TAG]`: a tar of a layout.
    OciArchive(PathBuf, Option<String>),
    /// `docker-archive:FILE[:NAME]`: what `docker save` writes.
    DockerArchive(PathBuf, Option<String>),
    /// `dir:DIR`: manifest.json, and blobs beside it.
    Dir(PathBuf),
    /// `docker://HOST/REPOSITORY[:TAG]`, or `@sha256:DIGEST`, or a short name: one of a registry.
    Docker(registry::Reference),
    /// `tar:FILE`: a tree.
    Tar(PathBuf),
    /// `-`: a tar of a tree on standard input.
    Stdin,
}

const EXPECTED: &str = "expected oci:DIR:TAG, oci-archive:FILE[:TAG], docker-archive:FILE[:NAME], \
    dir:DIR, docker://HOST/REPOSITORY:TAG, tar:FILE, or - for a tar on standard input; or a name without \
    transport, as for podman pull";

/// What stands before the colon where it is no tag that does.
const TRANSPORTS: [&str; 6] = [
    "oci",
    "oci-archive",
    "docker-archive",
    "dir",
    "docker",
    "tar",
];

impl Name {
    /// Whether it begins by saying where it is: other names may also be those of PuzzleFS images.
    pub fn has_transport(text: &str) -> bool {
        text == "-" || transport(text).is_some()
    }
}

fn transport(text: &str) -> Option<(&str, &str)> {
    let (transport, place) = text.split_once(':')?;
    TRANSPORTS
        .contains(&transport)
        .then_some((transport, place))
}

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "-" {
            return Ok(Name::Stdin);
        }
        let Some((transport, place)) = transport(text) else {
            let short = registry::short::resolve(text);
            let reference = short.map_err(|error| format!("{error:#}; {EXPECTED}"))?;
            return Ok(Name::Docker(reference));
        };
        if place.is_empty() {
            return Err(EXPECTED.into());
        }
        // A file may have colons in its name, and so may a tag.
        let file = || -> (PathBuf, Option<String>) {
            let colons = place.match_indices(':').map(|(at, _)| at);
            let splits = colons.map(|at| (&place[..at], Some(place[at + 1..].to_owned())));
            let splits: Vec<_> = splits.chain([(place, None)]).collect();
            let there = splits
                .iter()
                .rev()
                .find(|(file, _)| PathBuf::from(file).is_file());
            let (file, tag) = there.unwrap_or(&splits[0]);
            (file.into(), tag.clone().filter(|tag| !tag.is_empty()))
        };
        Ok(match transport {
            "oci" => {
                let path = PathBuf::from(place);
                Name::Oci(match path.join("oci-layout").exists() {
                    true => Err(path),
                    false => Ok(place.parse()?),
                })
            }
            "oci-archive" => file_of(Name::OciArchive, file()),
            "docker-archive" => file_of(Name::DockerArchive, file()),
            "dir" => Name::Dir(place.into()),
            "docker" => Name::Docker(text.parse()?),
            _ => Name::Tar(place.into()),
        })
    }
}

fn file_of(
    name: fn(PathBuf, Option<String>) -> Name,
    (file, tag): (PathBuf, Option<String>),
) -> Name {
    name(file, tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_skopeos() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("a:b.tar"), "").unwrap();
        std::fs::create_dir(at("layout")).unwrap();
        std::fs::write(at("layout/oci-layout"), "").unwrap();
        let of = |transport: &str, name: &str| -> Name {
            format!("{transport}:{}", at(name).display())
                .parse()
                .unwrap()
        };
        assert_eq!("-".parse(), Ok(Name::Stdin));
        assert_eq!(of("tar", "a:b.tar"), Name::Tar(at("a:b.tar")));
        assert_eq!(of("oci", "layout"), Name::Oci(Err(at("layout"))));
        let reference = Reference::of_tag(at("layout"), "x:1");
        assert_eq!(of("oci", "layout:x:1"), Name::Oci(Ok(reference)));
        let archive =
            |name: &str, tag: Option<&str>| Name::OciArchive(at(name), tag.map(Into::into));
        assert_eq!(of("oci-archive", "a:b.tar"), archive("a:b.tar", None));
        assert_eq!(
            of("oci-archive", "a:b.tar:1.0"),
            archive("a:b.tar", Some("1.0"))
        );
        assert_eq!(
            of("oci-archive", "none.tar:x:1"),
            archive("none.tar", Some("x:1"))
        );
        let docker = Name::Docker("docker://debian:12".parse().unwrap());
        assert_eq!("docker://debian:12".parse(), Ok(docker));
        assert_eq!(
            "h.example/a:1".parse(),
            Ok(Name::Docker("docker://h.example/a:1".parse().unwrap()))
        );
        for bad in ["", "docker:x", "ftp://x", "tar:", "oci:", "oci:none"] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
    }
}
