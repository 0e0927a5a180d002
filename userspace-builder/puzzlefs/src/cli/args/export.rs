// SPDX-License-Identifier: Apache-2.0
//! Arguments of the commands that give an image, or parts of it, to other tools.

use std::ffi::OsString;

use clap::{Parser, ValueEnum};
use puzzlefs::export::ordinary::Compression;
use puzzlefs::layout::reference::{Name, Reference};

use super::values::Format;

/// How a layer is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LayerCompression {
    /// Not at all
    None,
    /// As every tool reads it
    Gzip,
    /// Smaller, and unpacked sooner; tools of before 2021 do not know it
    Zstd,
}

impl From<LayerCompression> for Compression {
    fn from(compression: LayerCompression) -> Self {
        match compression {
            LayerCompression::None => Self::None,
            LayerCompression::Gzip => Self::Gzip,
            LayerCompression::Zstd => Self::Zstd,
        }
    }
}

/// Export an image as a tar, or as an ordinary OCI image
///
/// The tar goes to standard output. It is in the format POSIX pax, with extended attributes as
/// SCHILY.xattr and sparse files as GNU tar's 1.0, which GNU tar, libarchive and all tools in Go read.
/// The same image gives the same bytes. Sockets, which no tar can hold, are left out, and so are
/// extended attributes with a = in their name: they are counted, and the exit status is 2.
///
/// With --to the image becomes an ordinary one of a single layer, with the config and the annotations
/// that `puzzlefs convert` kept.
#[derive(Parser, Debug)]
#[command(after_help = "Example:
  puzzlefs export /var/lib/images:debian | tar -C rootfs --xattrs --xattrs-include='*' -xp
  puzzlefs export --to oci:./ordinary:debian /var/lib/images:debian
  skopeo copy oci:./ordinary:debian docker-archive:debian.tar:debian:latest")]
pub struct Export {
    /// Make an ordinary image in a layout, which is made if need be: oci:DIR:TAG
    #[arg(long, value_name = "oci:DIR:TAG", value_parser = target)]
    pub to: Option<Reference>,
    /// How its layer is compressed [default: gzip]
    #[arg(long, value_enum, value_name = "METHOD", requires = "to")]
    pub compression: Option<LayerCompression>,
    /// How the report on the ordinary image is printed
    #[arg(long, value_enum, default_value_t = Format::Text, requires = "to")]
    pub format: Format,
    /// The image
    #[arg(value_name = "OCI_DIR:TAG")]
    pub image: Reference,
}

/// Print files of an image
///
/// Symbolic links are followed within the image. All of what is printed was verified before.
#[derive(Parser, Debug)]
#[command(after_help = "Example:
  puzzlefs cat /var/lib/images:debian /etc/os-release")]
pub struct Cat {
    /// The image
    #[arg(value_name = "OCI_DIR:TAG")]
    pub image: Reference,
    /// Paths in the image
    #[arg(required = true)]
    pub path: Vec<OsString>,
}

/// Show in what two images differ
///
/// Each line has a letter, A for what only the second image has, D for what only the first has, M for
/// what differs, then the path, and in brackets in what: type, content, target, device, mode, owner,
/// mtime, xattrs or links (which names are hard links of each other). Names are escaped as by `puzzlefs
/// ls`. At the end it says how many bytes of files differ and how many chunks are shared. With --format
/// json each path is one JSON object on its own line, and the last one is the summary.
#[derive(Parser, Debug)]
#[command(after_help = "Example:
  puzzlefs diff /var/lib/images:app-1 /var/lib/images:app-2")]
pub struct Diff {
    /// Exit with 1 if the images differ
    #[arg(long)]
    pub exit_code: bool,
    /// How the differences are printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// The first image
    #[arg(value_name = "OCI_DIR:TAG")]
    pub first: Reference,
    /// The second image
    #[arg(value_name = "OCI_DIR:TAG")]
    pub second: Reference,
}

/// An ordinary image that is to be made.
fn target(text: &str) -> Result<Reference, String> {
    let place = text.strip_prefix("oci:");
    let place = place.ok_or("expected oci:DIR:TAG, as in oci:./layout:debian")?;
    let image: Reference = place.parse()?;
    match image.name {
        Name::Tag(_) => Ok(image),
        Name::Digest(_) => Err("what is made has no digest before: name it by a tag".into()),
    }
}
