// SPDX-License-Identifier: Apache-2.0
//! Arguments of the commands about a layout as a whole.

use std::path::PathBuf;

use clap::Parser;
use puzzlefs::layout::reference::{is_tag, Name, Reference, TAG_GRAMMAR};

use super::profile::ProfileFrom;
use super::registry::{Home, Registry};
use super::values::{pack_size, Format};

/// Put the chunks of images into packs
///
/// Also those that are in packs already, where these hold much that no image uses, or
/// where several small ones can become one. All images then share packs: no chunk is
/// in two. Their manifests change, their Rootfs and its digest do not. index.json is replaced
/// at the end; the old manifests and blobs stay until `puzzlefs gc`, or with --gc
/// until the end. The manifest that an image had at first may be signed: its digest goes on
/// naming the image, `puzzlefs push` sends it and `puzzlefs complete` makes it again. Where the
/// images do not have all of its chunks any more, the report says so.
#[derive(Parser, Debug)]
#[command(after_help = "Example:
  puzzlefs repack /var/lib/images
  puzzlefs repack --profile-from python.profile /var/lib/images debian
  puzzlefs repack --max-unused 0 --gc /var/lib/images debian debian-new")]
pub struct Repack {
    /// Bytes in a pack, as a rule, or K, M, G
    #[arg(long, value_name = "BYTES", default_value = "16M", value_parser = pack_size)]
    pub pack_size: u64,
    /// How much of a pack may be unused before its chunks are packed anew
    #[arg(long, value_name = "PERCENT", default_value_t = 10, value_parser = clap::value_parser!(u8).range(..=100))]
    pub max_unused: u8,
    /// Put what a profile names side by side, in its order, and list it in the images
    ///
    /// A profile is a file that `puzzlefs profile record` has made, or an image that has one. Without this option images
    /// keep the profile that they have.
    #[arg(long, value_name = "FILE|OCI_DIR:TAG")]
    pub profile_from: Option<ProfileFrom>,
    /// What both directions need
    #[command(flatten)]
    pub images: Images,
}

/// Make each chunk of images a blob of its own
///
/// The opposite of `puzzlefs repack`. Upstream's puzzlefs reads no packs; for it, images
/// have to be built with --compat as well.
#[derive(Parser, Debug)]
#[command(after_help = "Example:
  puzzlefs unpack --gc /var/lib/images debian")]
pub struct Unpack {
    /// What both directions need
    #[command(flatten)]
    pub images: Images,
}

/// Images to convert.
#[derive(clap::Args, Debug)]
pub struct Images {
    /// Then remove what no tag leads to any more, as `puzzlefs gc` does
    #[arg(long)]
    pub gc: bool,
    /// How the report is printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// The layout
    #[arg(value_name = "OCI_DIR")]
    pub layout: PathBuf,
    /// The images [default: all]
    #[arg(value_name = "TAG")]
    pub tags: Vec<Name>,
}

/// Show what images take of a layout: by themselves, and together
///
/// Counts stored bytes of chunks, wherever they lie. OWN is what only this image uses:
/// what would go with it, after `puzzlefs repack --gc`.
#[derive(Parser, Debug)]
#[command(after_help = "Example:
  puzzlefs du /var/lib/images
  puzzlefs du --format json /var/lib/images debian | jq '.images[0].own.bytes'")]
pub struct Du {
    /// How the report is printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// The layout
    #[arg(value_name = "OCI_DIR")]
    pub layout: PathBuf,
    /// The images to show [default: all]
    #[arg(value_name = "TAG")]
    pub tags: Vec<Name>,
}

/// List the tags of a layout, and what they name, or those of a repository
///
/// TYPE is puzzlefs, index (of images, for several machines), other (an ordinary image), missing
/// (the layout does not have it) or broken. A registry says only the tags.
#[derive(Parser, Debug)]
#[command(after_help = "Example:
  puzzlefs tags /var/lib/images
  puzzlefs tags docker://registry.example/team/app
  puzzlefs tags --format json /var/lib/images | jq -r '.[].tag'")]
pub struct Tags {
    /// How the list is printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// How a registry is spoken with.
    #[command(flatten)]
    pub registry: Registry,
    /// The layout, OCI_DIR or docker://HOST/REPOSITORY
    #[arg(value_name = "OCI_DIR")]
    pub layout: Home,
}

/// Give an image a further tag in the same layout
///
/// Another image that has TAG loses it.
#[derive(Parser, Debug)]
#[command(after_help = "Example:
  puzzlefs tag /var/lib/images:debian debian:12
  puzzlefs tag /var/lib/images@sha256:DIGEST debian")]
pub struct Tag {
    /// The image
    #[arg(value_name = "OCI_DIR:TAG")]
    pub image: Reference,
    /// The further tag
    #[arg(value_name = "TAG", value_parser = tag)]
    pub tag: String,
}

fn tag(text: &str) -> Result<String, String> {
    let grammar = || TAG_GRAMMAR.to_owned();
    is_tag(text).then(|| text.to_owned()).ok_or_else(grammar)
}

/// Remove the tag of an image
///
/// Its blobs stay until `puzzlefs gc`, or with --gc until the end. OCI_DIR@sha256:DIGEST removes
/// all entries of a manifest from index.json, with a tag or without. On a full disk the image's
/// manifest goes first, unless another entry names it, and with --gc its other blobs, to make
/// room for the new index.json.
#[derive(Parser, Debug)]
#[command(after_help = "Example:
  puzzlefs rm --gc /var/lib/images:debian")]
pub struct Rm {
    /// Then remove what no tag leads to any more, as `puzzlefs gc` does
    #[arg(long)]
    pub gc: bool,
    /// How the report is printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// The image
    #[arg(value_name = "OCI_DIR:TAG")]
    pub image: Reference,
}

/// Remove blobs that nothing in index.json leads to
///
/// And what builds left that were killed. Waits for builds in the same layout, and they for
/// it; other tools must not write into the layout meanwhile. Ordinary OCI images in the
/// layout keep their blobs. Of an image that is damaged all stays that its manifest lists; it
/// is named, and the exit status is 3. If an image could not be read, nothing is removed, since it is not
/// known what it needs. An image that is mounted but has no tag any more may lose its own.
#[derive(Parser, Debug)]
#[command(after_help = "Example:
  puzzlefs gc --dry-run /var/lib/images")]
pub struct Gc {
    /// Only show what would be removed
    #[arg(long)]
    pub dry_run: bool,
    /// How the report is printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// The layout
    #[arg(value_name = "OCI_DIR")]
    pub layout: PathBuf,
}
