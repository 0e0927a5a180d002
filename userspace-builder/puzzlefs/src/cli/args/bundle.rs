// SPDX-License-Identifier: Apache-2.0
//! Arguments of the commands that run images.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, ValueEnum};
use puzzlefs::bundle::{Bind, Network, Options};
use puzzlefs::layout::reference::Reference;

use super::pulled::Pulled;
use super::registry::Image;
use super::values::Format;

/// The network of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Net {
    /// This machine's, with its /etc/hosts and /etc/resolv.conf
    Host,
    /// None but a loopback of its own
    None,
}

/// How a container runs, where that is not as its image says.
#[derive(Args, Debug)]
pub struct Container {
    /// A variable of its environment; of NAME alone the value is that of here, if it is set
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
    /// A file or directory of this machine, and where it is in the container
    #[arg(short, long, value_name = "SOURCE:TARGET[:ro]")]
    pub volume: Vec<Bind>,
    /// As whom it runs: names and numbers of the image's own /etc/passwd and /etc/group [default: the image's]
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,
    /// In which directory [default: the image's]
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<String>,
    /// What runs in the place of the image's entrypoint, without the image's arguments; '' for none
    #[arg(long, value_name = "PROGRAM")]
    pub entrypoint: Option<String>,
    /// The name of its machine
    #[arg(long, value_name = "NAME")]
    pub hostname: Option<String>,
    /// Which network it has
    #[arg(long, value_enum, default_value_t = Net::Host)]
    pub network: Net,
    /// Let it change nothing but its volumes
    #[arg(long)]
    pub read_only: bool,
}

impl Container {
    /// The same for the library, with arguments in the place of the image's.
    pub fn options(&self, arguments: &[String]) -> Options {
        let variable = |entry: &String| match entry.contains('=') {
            true => Some(entry.clone()),
            false => Some(format!("{entry}={}", std::env::var(entry).ok()?)),
        };
        Options {
            arguments: arguments.to_vec(),
            entrypoint: self.entrypoint.clone(),
            env: self.env.iter().filter_map(variable).collect(),
            user: self.user.clone(),
            cwd: self.workdir.clone(),
            binds: self.volume.clone(),
            hostname: self.hostname.clone().unwrap_or_default(),
            read_only: self.read_only,
            network: match self.network {
                Net::Host => Network::Host,
                Net::None => Network::None,
            },
            ..Options::default()
        }
    }
}

/// Make a runtime bundle of an image: what crun, runc and their like run
///
/// DIR/rootfs is the image, mounted, with an overlayfs above whose changes are in DIR/upper. DIR/config.json says what
/// runs there, by the config of the image: its user (by the image's own /etc/passwd and /etc/group), environment,
/// entrypoint, arguments and working directory. It has the capabilities, mounts, hidden and read-only paths that podman
/// gives a container, and its filter of system calls if this machine has that (/usr/share/containers/seccomp.json). Each volume of the image is a directory below DIR/volumes, which
/// has at first what the image has there.
///
/// DIR is made, for root alone: programs of the image that are set-uid are nothing for other users of this machine. If the
/// bundle cannot be made, nothing of it is left.
///
/// puzzlefs bundle --remove undoes it, with all changes. puzzlefs umount DIR/rootfs takes the mount away and
/// puzzlefs mount --overlay DIR makes it again, with what was changed.
#[derive(Parser, Debug)]
#[command(after_help = "Example:
  puzzlefs bundle /var/lib/images:debian /run/debian uname -a
  crun run --bundle /run/debian debian
  puzzlefs bundle --remove /run/debian")]
pub struct Bundle {
    /// How it runs.
    #[command(flatten)]
    pub container: Container,
    /// Have it run on a terminal, that of crun or runc
    #[arg(short, long)]
    pub terminal: bool,
    /// Leave it to the caller to mount something at DIR/rootfs
    #[arg(long)]
    pub no_mount: bool,
    /// Remove the bundle DIR, with all that was changed in it
    #[arg(long, value_name = "DIR", exclusive = true)]
    pub remove: Option<PathBuf>,
    /// How the report is printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// The image
    #[arg(value_name = "OCI_DIR:TAG", required_unless_present = "remove")]
    pub image: Option<Reference>,
    /// The bundle, which must not be there
    #[arg(required_unless_present = "remove")]
    pub dir: Option<PathBuf>,
    /// What to run in the place of the image's arguments
    #[arg(
        value_name = "ARGUMENT",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub arguments: Vec<String>,
}

/// Run an image once
///
/// Makes a bundle of the image (puzzlefs-bundle(1)), has crun or runc run it, with the standard streams of this command, and
/// removes it with all that was changed. The exit status is that of the program. Signals go to it.
///
/// An image in a registry is pulled into a layout before, where it stays; only its metadata, if a `puzzlefs daemon` that has
/// the layout runs. It must be a PuzzleFS image: puzzlefs convert makes one of another.
///
/// This is to try an image, and no replacement for podman: there are no ports (the network is that of this machine), no
/// container in the background, no volumes that outlive it but --volume.
#[derive(Parser, Debug)]
#[command(after_help = "Example:
  puzzlefs run /var/lib/images:debian cat /etc/os-release
  puzzlefs run docker://registry.example/team/app:1.0")]
pub struct Run {
    /// How it runs.
    #[command(flatten)]
    pub container: Container,
    /// The program that runs bundles [default: crun or runc]
    #[arg(long, value_name = "PROGRAM")]
    pub runtime: Option<OsString>,
    /// What the container is called [default: a name with the number of this process]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Where the bundle is, as long as it runs: on a filesystem that can be an upper layer of overlayfs
    #[arg(long, value_name = "DIR", default_value = "/var/lib/puzzlefs/run")]
    pub bundles: PathBuf,
    /// What is pulled.
    #[command(flatten)]
    pub pulled: Pulled,
    /// The image
    #[arg(value_name = "OCI_DIR:TAG|docker://HOST/REPOSITORY:TAG")]
    pub image: Image,
    /// What to run in the place of the image's arguments
    #[arg(
        value_name = "ARGUMENT",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub arguments: Vec<String>,
}
