// SPDX-License-Identifier: Apache-2.0
//! Arguments of the commands that bring images from elsewhere.

use std::path::PathBuf;

use clap::Parser;
use puzzlefs::layout::reference::Reference;
use puzzlefs::remote::Place;
use puzzlefs::source::Platform;

use super::registry::Registry;
use super::values::Format;

/// Bring an image into a layout, of which only those chunks travel that it does not have
///
/// Whatever packs of the layout hold a chunk, it is not fetched. A pack is checked before it is relied on, unless
/// it was before, and has not changed since.
/// What travels is what the files of the image use: packs of the source may have more. So the layout
/// may end up without some blobs of the image. Then the tag names a manifest of this layout, which has the
/// same files, and mounts, checks and copies as any; OCI_DIR@sha256:DIGEST with the digest at
/// the source names the same image. `puzzlefs complete`, or --whole, makes those blobs.
///
/// A pull that was interrupted goes on where it was, unless `puzzlefs gc` came between.
#[derive(Parser, Debug)]
#[command(after_help = "Example:
  puzzlefs pull docker://registry.example/team/app:1.0 /var/lib/images:app
  puzzlefs pull oci:/media/images:debian /var/lib/images:debian
  puzzlefs pull https://files.example/images:debian /var/lib/images:debian
  puzzlefs pull ssh://build.example/srv/images:debian /var/lib/images:debian
  puzzlefs pull --endpoint https://s3.example s3://images/team:debian /var/lib/images:debian
  puzzlefs pull --lazy docker://registry.example/team/app:1.0 /var/lib/images:app
  puzzlefs pull oci:/media/images@sha256:DIGEST /var/lib/images:debian")]
pub struct Pull {
    /// Also make all blobs of the image, as the source has them
    #[arg(long)]
    pub whole: bool,
    /// Fetch only the metadata: the rest comes when it is read, if `puzzlefs daemon` runs, or by `puzzlefs complete`
    ///
    /// The image can be mounted right away. What is read of it before it is there is an error (EIO) without the
    /// daemon, and never something else. Tools that know nothing of this take its packs for damaged.
    #[arg(long, conflicts_with = "whole")]
    pub lazy: bool,
    /// Check all packs again that the image relies on, and remember nothing
    ///
    /// Which packs are sound is remembered where builds remember what they read: see puzzlefs-build(1). A pack
    /// did not change if it has the same device, inode number, size, mtime and ctime.
    #[arg(long)]
    pub no_cache: bool,
    /// Where to ask for chunks before SOURCE, which names the image; it may be given several times
    ///
    /// A layout or a repository that has the same image, or packs of it. Which image it names does not matter, but where
    /// --lazy records it.
    #[arg(long, value_name = "PLACE")]
    pub from: Vec<Place>,
    /// Which image of an index [default: for this machine]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<Platform>,
    /// How the report is printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// How a registry is spoken with.
    #[command(flatten)]
    pub registry: Registry,
    /// The image, wherever it is: docker://HOST/REPOSITORY:TAG, oci:DIR:TAG, https://HOST/DIR:TAG,
    /// ssh://HOST/DIR:TAG, s3://BUCKET/PREFIX:TAG, or with @sha256:DIGEST
    ///
    /// ssh://[USER@]HOST[:PORT]/DIR:TAG is a layout of another machine, on which puzzlefs is installed: the system's
    /// ssh runs `puzzlefs serve` there, and looks for hosts, keys and all else where it always does.
    /// s3://BUCKET/PREFIX:TAG is a layout whose files are objects of a bucket, of Amazon S3 or what speaks the same.
    /// https:// (and http://) is a layout's directory as any web server has it. Both are split at the first colon of
    /// the path. Credentials for the host are found as those for registries.
    ///
    /// What has neither before it is an image in a registry, as for podman pull: HOST/REPOSITORY[:TAG], or a
    /// short name that registries.conf has an alias for, or one registry to search.
    #[arg(value_name = "SOURCE")]
    pub source: Place,
    /// What it is to be here; the layout is made if need be
    #[arg(value_name = "OCI_DIR:TAG")]
    pub image: Reference,
}

/// Make all blobs of an image that was pulled, as its source has them
///
/// Of an image that was pulled by --lazy it copies what other packs of the layout have, and fetches what is missing from
/// --from, or from where it was pulled.
///
/// Of others: The tag then names its manifest as the source has it.
/// Its packs are put together from chunks that the layout has. Those that have chunks which
/// the image does not use, and the layout does not have, are fetched, if --from says where.
/// Afterwards these chunks may be there twice, until `puzzlefs gc` or `puzzlefs repack`.
#[derive(Parser, Debug)]
#[command(after_help = "Example:
  puzzlefs complete /var/lib/images:debian
  puzzlefs complete --from oci:/media/images:debian /var/lib/images:debian")]
pub struct Complete {
    /// Where to fetch what is not here, before where it was pulled; it may be given several times
    #[arg(long, value_name = "SOURCE")]
    pub from: Vec<Place>,
    /// How the report is printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// How a registry is spoken with.
    #[command(flatten)]
    pub registry: Registry,
    /// The image
    #[arg(value_name = "OCI_DIR:TAG")]
    pub image: Reference,
}

/// Answer a pull of another machine, on standard input and output
///
/// `puzzlefs pull ssh://HOST/DIR:TAG` runs this on HOST. Nothing is ever written. A key that may do
/// nothing else has this command in authorized_keys: command="puzzlefs serve /srv/images",restrict.
/// An image that was pulled into the layout is given as its source had it.
#[derive(Parser, Debug)]
#[command(after_help = "Example:
  puzzlefs serve /srv/images </dev/null")]
pub struct Serve {
    /// The layout
    #[arg(value_name = "OCI_DIR")]
    pub layout: PathBuf,
}
