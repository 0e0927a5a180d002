// SPDX-License-Identifier: Apache-2.0
//! Arguments of the command that containers ask for mounts.

use std::path::PathBuf;

use clap::Parser;
use puzzlefs::node::Allowed;

use super::pulled::Pulled;

/// Mount images for containers that ask
///
/// The program of a boot image asks at a socket that is mounted into its container, and gets its root file system as a mount by
/// the kernel, without any right of its own. Whoever may connect to the socket may ask for each image that the layout has, by its
/// digest, and for images from the repositories that --allow names: these are pulled into the layout, lazily, if
/// `puzzlefs daemon` has the layout. The mount ends with the container.
#[derive(Parser, Debug)]
#[command(after_help = "Example:
  puzzlefs node --layout /var/lib/images
  puzzlefs node --allow docker://registry.example/team/ --mode 666")]
pub struct Node {
    /// Where containers ask: mount the directory that it is in into them, at /.puzzlefs/node
    #[arg(long, value_name = "PATH", default_value = "/run/puzzlefs-node/socket")]
    pub socket: PathBuf,
    /// The mode of the socket: 600 for containers of root, 666 for those of all users
    #[arg(long, value_name = "MODE", default_value = "600", value_parser = mode)]
    pub mode: u32,
    /// What is pulled.
    #[command(flatten)]
    pub pulled: Pulled,
    /// A repository that images may be pulled from, as docker://HOST/REPOSITORY, or all below docker://HOST/PATH/
    ///
    /// It may be given several times. They are pulled with the credentials that this command finds.
    #[arg(long, value_name = "REPOSITORY")]
    pub allow: Vec<Allowed>,
    /// How many images that were pulled are kept: of more the oldest ones lose their tags
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..))]
    pub images: u16,
}

fn mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok();
    mode.filter(|mode| *mode <= 0o777)
        .ok_or_else(|| "expected an octal mode".into())
}
