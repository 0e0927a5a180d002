// SPDX-License-Identifier: Apache-2.0
//! What runs in a container, and how: by the config of an image (OCI image-spec, config.md), and by what the
//! caller says instead.

use anyhow::{bail, ensure, Context, Result};
use oci_spec::image::{Config, ImageConfiguration};

use super::options::{absolute, ensure_no_nul, mount_point, Options};
use super::users::{self, User};
use crate::base::error::{damage, Error};
use crate::image::{file, Image};

/// Bytes of /etc/passwd and of /etc/group, at most: thousands of users.
const MAX_USERS: u64 = 4 << 20;
/// Volumes of an image, at most. Images have one or two.
const MAX_VOLUMES: usize = 64;
/// What others mean by a PATH that is not said.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What runs, and how.
#[derive(Clone, Debug)]
pub struct Program {
    pub user: User,
    /// `NAME=VALUE`, no name twice.
    pub env: Vec<String>,
    /// The program and its arguments.
    pub args: Vec<String>,
    /// An absolute path.
    pub cwd: String,
    /// Absolute paths, in ascending order.
    pub volumes: Vec<String>,
    /// The signal that is to end it, as the image calls it.
    pub stop_signal: Option<String>,
}

impl Program {
    /// What the config of `image` says, as far as `options` say nothing else.
    pub fn of(image: &Image, options: &Options) -> Result<Self> {
        let config = match image.kept()?.text {
            None => Config::default(),
            Some(text) => {
                let parsed = serde_json::from_slice(&text).context("the config of the image");
                let parsed: ImageConfiguration = damage(parsed)?;
                parsed.config().clone().unwrap_or_default()
            }
        };
        let said = |text: &Option<String>| text.clone().unwrap_or_default();
        let wanted = options.user.clone().unwrap_or_else(|| said(config.user()));
        let read =
            |path| Ok::<_, anyhow::Error>(file::read(image, path, MAX_USERS)?.unwrap_or_default());
        let user = users::find(&wanted, &read("/etc/passwd")?, &read("/etc/group")?)?;
        let env = env(config.env().as_deref().unwrap_or_default(), options, &user)?;
        let cwd = options
            .cwd
            .clone()
            .unwrap_or_else(|| said(config.working_dir()));
        Ok(Program {
            env,
            user,
            args: args(&config, options)?,
            cwd: absolute(&cwd)?,
            volumes: volumes(config.volumes().as_deref().unwrap_or_default())?,
            stop_signal: config.stop_signal().clone().filter(|name| is_plain(name)),
        })
    }
}

fn args(config: &Config, options: &Options) -> Result<Vec<String>> {
    let list = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
    let (mut args, mut rest) = (list(config.entrypoint()), list(config.cmd()));
    if let Some(entrypoint) = &options.entrypoint {
        // What the image says to give to its own is nothing for another one.
        args = Some(entrypoint.clone())
            .into_iter()
            .filter(|name| !name.is_empty())
            .collect();
        rest.clear();
    }
    if !options.arguments.is_empty() {
        rest.clone_from(&options.arguments);
    }
    args.extend(rest);
    if args.first().is_none_or(String::is_empty) {
        let text = "the image does not say what to run: name a command";
        bail!(Error::refused(text));
    }
    args.iter().try_for_each(|arg| ensure_no_nul(arg))?;
    Ok(args)
}

/// The image's variables, and the caller's; of each name the last one.
fn env(of_image: &[String], options: &Options, user: &User) -> Result<Vec<String>> {
    let name = |entry: &str| {
        entry
            .split_once('=')
            .map_or(entry, |(name, _)| name)
            .to_owned()
    };
    let mut first = vec![PATH.to_owned()];
    // systemd and others look there for where they are.
    first.push("container=oci".into());
    first.push(format!("HOME={}", user.home.as_deref().unwrap_or("/")));
    if options.terminal {
        first.push("TERM=xterm".into());
    }
    let mut env: Vec<(String, String)> = Vec::new();
    let mut places = std::collections::HashMap::new();
    for entry in first.iter().chain(of_image).chain(&options.env) {
        ensure_no_nul(entry)?;
        let name = name(entry);
        // Nobody can ask for a variable without a name; one without a value is left out, as by podman.
        if name.is_empty() || !entry.contains('=') {
            continue;
        }
        match places.get(&name) {
            Some(at) => env[*at] = (name, entry.clone()),
            None => {
                places.insert(name.clone(), env.len());
                env.push((name, entry.clone()));
            }
        }
    }
    Ok(env.into_iter().map(|(_, entry)| entry).collect())
}

fn volumes(of_image: &[String]) -> Result<Vec<String>> {
    ensure!(
        of_image.len() <= MAX_VOLUMES,
        Error::refused(format!(
            "the image has {} volumes: more than {MAX_VOLUMES}",
            of_image.len()
        ))
    );
    let mut volumes = of_image
        .iter()
        .map(|path| mount_point(path))
        .collect::<Result<Vec<_>>>()?;
    volumes.sort_unstable();
    volumes.dedup();
    Ok(volumes)
}

/// A signal's name or number.
fn is_plain(name: &str) -> bool {
    name.len() <= 16
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(list: &[&str]) -> Vec<String> {
        list.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn arguments_stand_for_cmd() {
        let of = |entrypoint: Option<&[&str]>, cmd: Option<&[&str]>, options: &Options| {
            let mut config = Config::default();
            config.set_entrypoint(entrypoint.map(strings));
            config.set_cmd(cmd.map(strings));
            args(&config, options).ok().map(|args| args.join(" "))
        };
        let none = Options::default();
        let given = Options {
            arguments: strings(&["x", "y"]),
            ..Options::default()
        };
        let other = Options {
            entrypoint: Some("e".into()),
            ..Options::default()
        };
        let no_entrypoint = Options {
            entrypoint: Some(String::new()),
            ..given.clone()
        };
        let (entry, cmd): (Option<&[&str]>, Option<&[&str]>) =
            (Some(&["a", "b"]), Some(&["c", ""]));
        for (options, with_both, with_cmd, with_none) in [
            (&none, Some("a b c "), Some("c "), None),
            (&given, Some("a b x y"), Some("x y"), Some("x y")),
            (&other, Some("e"), Some("e"), Some("e")),
            (&no_entrypoint, Some("x y"), Some("x y"), Some("x y")),
        ] {
            assert_eq!(of(entry, cmd, options).as_deref(), with_both);
            assert_eq!(of(None, cmd, options).as_deref(), with_cmd);
            assert_eq!(of(None, None, options).as_deref(), with_none);
        }
        assert_eq!(of(None, Some(&[""]), &none), None);
        assert_eq!(of(None, Some(&["a\0b"]), &none), None);
    }

    #[test]
    fn the_last_word_on_a_variable_counts() {
        let user = User {
            home: Some("/home/u".into()),
            ..User::default()
        };
        let options = Options {
            env: strings(&["B=4", "E=", "F"]),
            terminal: true,
            ..Options::default()
        };
        let image = strings(&["PATH=/p", "A=1", "B=2", "A=3=3", "=x", "C", ""]);
        let env = env(&image, &options, &user).unwrap();
        let is = [
            "PATH=/p",
            "container=oci",
            "HOME=/home/u",
            "TERM=xterm",
            "A=3=3",
            "B=4",
            "E=",
        ];
        assert_eq!(env, is);
        assert!(super::env(&strings(&["A=\0"]), &options, &user).is_err());
    }

    #[test]
    fn volumes_are_few() {
        let many: Vec<String> = (0..65).map(|n| format!("/{n}")).collect();
        assert!(volumes(&many).is_err());
        assert_eq!(
            volumes(&strings(&["/b", "/a/", "/a"])).unwrap(),
            ["/a", "/b"]
        );
    }
}
