// SPDX-License-Identifier: Apache-2.0
//! Arguments of the command that prepares images for podman and CRI-O.

use std::path::PathBuf;

use clap::Parser;
use puzzlefs::remote::Place;

use super::pulled::{Pulled, Sources};
use super::values::Format;

/// Prepare an image for podman and CRI-O, which then pull no layer of it
///
/// IMAGE was pushed by `puzzlefs push --stand-in`. It is pulled into the layout, lazily if `puzzlefs daemon` has that, and mounted as a layer of an
/// additional layer store. podman and CRI-O know the store by `additionallayerstores` in /etc/containers/storage.conf, and
/// look there whenever they pull: for the image under any name, and without a service. What was not prepared they pull as it is in the
/// registry, which is a file that says what it stands for: nothing can be run from that. Only root's containers can use the store.
#[derive(Parser, Debug)]
#[command(after_help = "Example:
  puzzlefs layer-store registry.example/team/web:1
  podman run --detach --network host registry.example/team/web:1
  puzzlefs layer-store --list
  puzzlefs layer-store --remove registry.example/team/web:1")]
pub struct LayerStore {
    /// Take away an image, or sha256: and the digest of a layer, after `podman rmi`
    ///
    /// The layer goes, unless another name leads to it too. It keeps a tag in the layout until then; `puzzlefs gc` removes what is left.
    #[arg(long, value_name = "IMAGE", group = "what")]
    pub remove: Option<String>,
    /// Mount what is not mounted, as after a reboot
    #[arg(long, group = "what")]
    pub restore: bool,
    /// List the layers
    #[arg(long, group = "what")]
    pub list: bool,
    /// The store: a directory for root alone, whose path does not change
    #[arg(long, value_name = "DIR", default_value = "/var/lib/puzzlefs/layers")]
    pub store: PathBuf,
    /// Where images are mounted: a directory that is empty after a reboot
    #[arg(long, value_name = "DIR", default_value = "/run/puzzlefs-layers")]
    pub mounts: PathBuf,
    /// What is pulled.
    #[command(flatten)]
    pub pulled: Pulled,
    /// From where.
    #[command(flatten)]
    pub sources: Sources,
    /// How the report is printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// The image, as for `podman pull`
    #[arg(value_name = "IMAGE", group = "what", required_unless_present_any = ["remove", "restore", "list"])]
    pub image: Option<Place>,
}
