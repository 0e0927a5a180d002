// SPDX-License-Identifier: Apache-2.0
//! The manual pages: what clap knows of a command, and what it does not know.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context, Result};
use clap::CommandFactory;
use clap_mangen::roff::{bold, roman, Roff};
use clap_mangen::Man;

use super::args::{Args, MountHelper};
use super::{bar, exit};

/// The commands that speak with registries.
const REGISTRY: &[&str] = &[
    "boot-image",
    "build",
    "complete",
    "convert",
    "daemon",
    "inspect",
    "ls",
    "mount",
    "pull",
    "push",
    "run",
    "snapshotter",
    "tags",
];

/// The commands that know buckets.
const S3: &[&str] = &["complete", "daemon", "mount", "pull", "snapshotter"];

/// Environment variables: name, what it is for, and the commands that look at it, all if none.
const ENVIRONMENT: &[(&str, &str, &[&str])] = &[
    (
        "SOURCE_DATE_EPOCH",
        "Seconds since 1970: the latest time that is recorded, as reproducible-builds.org has it.",
        &["build", "convert"],
    ),
    (
        "XDG_CACHE_HOME",
        "The directory in which puzzlefs/builds is what builds remember, unless --no-cache is given, and puzzlefs/images what is mounted from elsewhere. [~/.cache]",
        &["build", "convert", "mount"],
    ),
    (
        bar::SECONDS,
        bar::SECONDS_HELP,
        &[
            "boot-image", "build", "complete", "convert", "extract", "gc", "pull", "push", "repack", "unpack",
            "verify",
        ],
    ),
    (
        "TMPDIR",
        "The directory in which there is a mount point while a program runs in an image, or a boot image while it is made. [/tmp]",
        &["record", "boot-image"],
    ),
    (
        "NOTIFY_SOCKET",
        "The socket that is told when the daemon is ready, and given what is to be kept, as systemd sets it for Type=notify.",
        &["daemon", "snapshotter"],
    ),
    (
        "LISTEN_PID",
        "The process that LISTEN_FDS is for, as systemd sets it.",
        &["daemon"],
    ),
    (
        "LISTEN_FDS",
        "How many descriptors are passed that were kept (FileDescriptorStoreMax=).",
        &["daemon"],
    ),
    (
        "LISTEN_FDNAMES",
        "Their names.",
        &["daemon"],
    ),
    (
        "AWS_ACCESS_KEY_ID",
        "With AWS_SECRET_ACCESS_KEY, and AWS_SESSION_TOKEN for some, the credentials for s3://.",
        S3,
    ),
    (
        "AWS_ENDPOINT_URL",
        "The address of the server that has s3:// places, unless --endpoint names one.",
        S3,
    ),
    (
        "AWS_REGION",
        "Where Amazon has them. [us-east-1]",
        S3,
    ),
    (
        "AWS_SKIP_SIGNATURE",
        "With true, no credentials are looked for.",
        S3,
    ),
    (
        "PUZZLEFS_SSH",
        "The program that is run in place of ssh, with its first arguments, separated by spaces. [ssh]",
        &["pull", "complete", "daemon", "mount", "snapshotter"],
    ),
    (
        "PATH",
        "Where the runtime is looked for, crun or runc, that --runtime does not name by a path.",
        &["run"],
    ),
    (
        "REGISTRY_AUTH_FILE",
        "The file with credentials for registries, unless --authfile names one.",
        REGISTRY,
    ),
    (
        "XDG_RUNTIME_DIR",
        "The directory in which containers/auth.json may have credentials, too.",
        REGISTRY,
    ),
    (
        "XDG_CONFIG_HOME",
        "The directory in which containers/auth.json and containers/registries.conf are looked for. [~/.config]",
        REGISTRY,
    ),
    (
        "DOCKER_CONFIG",
        "The directory of docker's config.json. [~/.docker]",
        REGISTRY,
    ),
    (
        "CONTAINERS_REGISTRIES_CONF",
        "The file with mirrors of registries. [~/.config/containers/registries.conf, or /etc/containers/registries.conf, and the files in registries.conf.d beside them]",
        REGISTRY,
    ),
    (
        "HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY",
        "Through which proxy registries are reached, in upper case or lower case, and which are without one.",
        REGISTRY,
    ),
    (
        "SSL_CERT_FILE",
        "The file with the authorities that are trusted, in place of the system's.",
        REGISTRY,
    ),
];

const SEE_ALSO: &[&str] = &["puzzlefs(1)", "mount.puzzlefs(8)", "mount(8)", "skopeo(1)"];

/// Writes all pages into `dir`/man1 and `dir`/man8.
pub fn write(dir: &Path) -> Result<()> {
    let mut command = Args::command().disable_help_subcommand(true);
    command.build();
    let below: Vec<&clap::Command> = command.get_subcommands().collect();
    let second = below.iter().flat_map(|command| command.get_subcommands());
    for command in below.iter().copied().chain(second).chain([&command]) {
        let variables = ENVIRONMENT.iter().filter(|(_, _, commands)| {
            commands.contains(&command.get_name()) || command.get_name() == "puzzlefs"
        });
        let environment: Vec<_> = variables.map(|(name, text, _)| (*name, *text)).collect();
        page(dir, "1", command.clone(), exit::STATUS, &environment)?;
    }
    page(dir, "8", MountHelper::command(), exit::MOUNT_STATUS, &[])
}

fn page(
    dir: &Path,
    section: &str,
    command: clap::Command,
    status: &[(&str, &str)],
    environment: &[(&str, &str)],
) -> Result<()> {
    let example = command.get_after_help().map(ToString::to_string);
    let has_commands = command.has_subcommands();
    let man = Man::new(command).section(section);
    let dir = dir.join(format!("man{section}"));
    let path = dir.join(man.get_filename());
    let own = man.get_filename().replacen('.', "(", 1) + ")";
    let own = own.replacen("mount(puzzlefs.8)", "mount.puzzlefs(8)", 1);
    let mut text = Vec::new();
    let render = |text: &mut Vec<u8>| -> io::Result<()> {
        man.render_title(text)?;
        man.render_name_section(text)?;
        man.render_synopsis_section(text)?;
        man.render_description_section(text)?;
        man.render_options_section(text)?;
        if has_commands {
            man.render_subcommands_section(text)?;
        }
        list("EXIT STATUS", status).to_writer(text)?;
        if !environment.is_empty() {
            list("ENVIRONMENT", environment).to_writer(text)?;
        }
        examples(example.as_deref().unwrap_or_default()).to_writer(text)?;
        let others: Vec<&str> = SEE_ALSO.iter().copied().filter(|o| *o != own).collect();
        let mut also = Roff::new();
        also.control("SH", ["SEE ALSO"]);
        also.text([roman(others.join(", "))]);
        also.to_writer(text)?;
        man.render_version_section(text)
    };
    let context = || format!("writing the manual page {}", path.display());
    render(&mut text).with_context(context)?;
    fs::create_dir_all(&dir).with_context(context)?;
    fs::write(&path, text).with_context(context)
}

fn list(title: &str, items: &[(&str, &str)]) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", [title]);
    for (name, text) in items {
        roff.control("TP", []);
        roff.text([bold(*name)]);
        roff.text([roman(*text)]);
    }
    roff
}

/// The text below the options, which begins with the line `Example:`.
fn examples(text: &str) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["EXAMPLES"]);
    roff.control("nf", []);
    for line in text.lines().skip(1) {
        roff.text([roman(line.trim_start())]);
    }
    roff.control("fi", []);
    roff
}
