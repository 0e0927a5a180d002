// SPDX-License-Identifier: Apache-2.0
//! How an image of another machine is called, and what ssh is told for it.

use std::fmt;
use std::process::Command;
use std::str::FromStr;

use crate::base::text;
use crate::layout::reference::Name;

/// Says which program is run in place of ssh, with its first arguments, separated by spaces.
const PROGRAM: &str = "PUZZLEFS_SSH";
/// Seconds without an answer after which ssh asks whether the other end lives, and how often it asks.
const ALIVE: [&str; 2] = ["ServerAliveInterval=30", "ServerAliveCountMax=4"];

/// An image of a layout of another machine: `ssh://[USER@]HOST[:PORT]/DIR:TAG`, `...@sha256:DIGEST`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    host: Host,
    /// As `puzzlefs serve` there gets it: below the home of the user if it has no slash at its beginning.
    dir: String,
    /// Which image of it.
    pub name: Name,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Host {
    /// The host, after the user, if one is named.
    name: String,
    port: Option<u16>,
}

const EXPECTED: &str =
    "expected ssh://[USER@]HOST[:PORT]/DIR:TAG, or @sha256:DIGEST in place of :TAG; /~/DIR is \
    below the home of the user";

impl FromStr for Reference {
    type Err = String;

    /// Tags may have colons and slashes, so that the first colon of the path is what it is split at.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || EXPECTED.to_owned();
        let rest = text.strip_prefix("ssh://").ok_or_else(wrong)?;
        let (host, path) = rest.split_at(rest.find('/').ok_or_else(wrong)?);
        let at = [path.find("@sha256:"), path.find(':')]
            .into_iter()
            .flatten();
        let (dir, name) = path.split_at(at.min().ok_or_else(wrong)?);
        let name = name.strip_prefix(':').unwrap_or(name).parse()?;
        let dir = match dir.strip_prefix("/~/") {
            Some(below) if !below.starts_with('-') => below,
            Some(_) => return Err(wrong()),
            None => dir,
        };
        let host = Host::parse(host).ok_or_else(wrong)?;
        match dir.is_empty() || text::is_harmful_in(dir) {
            true => Err(wrong()),
            false => Ok(Reference {
                host,
                dir: dir.to_owned(),
                name,
            }),
        }
    }
}

impl Host {
    /// Only what a host and a user may be called: ssh and the files that it reads take much else for orders.
    fn parse(text: &str) -> Option<Self> {
        let (user, host) = match text.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, text),
        };
        let (host, port) = match host.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']')?;
                (
                    host,
                    port.strip_prefix(':').or(port.is_empty().then_some(""))?,
                )
            }
            None => host.split_once(':').unwrap_or((host, "")),
        };
        let port = match port {
            "" => None,
            port => Some(port.parse().ok()?),
        };
        let is_word = |text: &str, more: &str| {
            let is_one = |c: char| c.is_ascii_alphanumeric() || more.contains(c);
            !text.is_empty() && !text.starts_with('-') && text.chars().all(is_one)
        };
        let is_it = is_word(host, "-._:%") && user.is_none_or(|user| is_word(user, "-._+@"));
        let name = match user {
            Some(user) => format!("{user}@{host}"),
            None => host.to_owned(),
        };
        is_it.then_some(Host { name, port })
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (user, host) = match self.name.rsplit_once('@') {
            Some((user, host)) => (format!("{user}@"), host),
            None => (String::new(), &*self.name),
        };
        match host.contains(':') {
            true => write!(f, "ssh://{user}[{host}]")?,
            false => write!(f, "ssh://{user}{host}")?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl Reference {
    /// The host, for people.
    pub fn host(&self) -> &impl fmt::Display {
        &self.host
    }

    /// The layout, without the image.
    pub fn layout(&self) -> String {
        let home = if self.dir.starts_with('/') { "" } else { "/~/" };
        format!("{}{home}{}", self.host, self.dir)
    }

    /// What is run here, to have `puzzlefs serve` run there.
    pub fn command(&self) -> Command {
        let program = std::env::var(PROGRAM).unwrap_or_default();
        let mut words = program.split_whitespace();
        let mut command = Command::new(words.next().unwrap_or("ssh"));
        command.args(words).arg("-T");
        for option in ALIVE {
            command.args(["-o", option]);
        }
        if let Some(port) = self.host.port {
            command.args(["-p", &port.to_string()]);
        }
        command.args(["--", &self.host.name]);
        // A shell there reads it.
        let dir = self.dir.replace('\'', r"'\''");
        command.arg(format!("puzzlefs serve '{dir}'"));
        command
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let layout = self.layout();
        match self.name {
            Name::Tag(_) => write!(f, "{layout}:{}", self.name),
            Name::Digest(_) => write!(f, "{layout}{}", self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Reference;

    fn words(text: &str) -> Vec<String> {
        let command = text.parse::<Reference>().expect(text).command();
        let words = command
            .get_args()
            .map(|word| word.to_string_lossy().into_owned());
        words.skip_while(|word| word != "--").collect()
    }

    #[test]
    fn references_are_what_ssh_is_told() {
        for (text, host, command) in [
            ("ssh://h/a/b:t", "h", "puzzlefs serve '/a/b'"),
            ("ssh://u@h:22/a:debian:12", "u@h", "puzzlefs serve '/a'"),
            ("ssh://u@[::1]:22/a:t", "u@::1", "puzzlefs serve '/a'"),
            ("ssh://h/~/a:t", "h", "puzzlefs serve 'a'"),
            (
                "ssh://h/it's;$(x):t",
                "h",
                r"puzzlefs serve '/it'\''s;$(x)'",
            ),
        ] {
            assert_eq!(words(text), ["--", host, command], "{text}");
            let reference: Reference = text.parse().unwrap();
            assert_eq!(reference.to_string(), text);
        }
        for bad in [
            "ssh://-oProxyCommand=x/a:t",
            "ssh://-l@h/a:t",
            "ssh://u@-h/a:t",
            "ssh://h;x/a:t",
            "ssh://h x/a:t",
            "ssh:///a:t",
            "ssh://h/a",
            "ssh://h:99999/a:t",
            "ssh://h/~/-x:t",
            "ssh://h/a\nb:t",
            "ssh://h/a:",
            "h/a:t",
        ] {
            assert!(bad.parse::<Reference>().is_err(), "{bad}");
        }
    }
}
