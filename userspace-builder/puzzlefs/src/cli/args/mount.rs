// SPDX-License-Identifier: Apache-2.0
//! Arguments of the commands about mounted images, and of the helper of mount(8).

use std::path::PathBuf;
use std::str::FromStr;

use clap::Parser;
use puzzlefs::layout::reference::Reference;
use puzzlefs::remote::Place;

use super::fetching::Fetching;
use super::registry::Registry;
use super::values::Format;

/// Mount an image by the kernel's puzzlefs module, or by FUSE
#[derive(Parser, Debug)]
#[command(after_help = "Example:
  puzzlefs mount -o nosuid,nodev /var/lib/images:debian /mnt
  puzzlefs mount --overlay /var/lib/changes /var/lib/images:debian /mnt
  puzzlefs mount --fuse /var/lib/images:debian /mnt
  puzzlefs mount --fuse docker://registry.example/team/app:1.0 /mnt
  puzzlefs mount --fuse --fill --cache /var/lib/images https://files.example/images:debian /mnt")]
// The kernel fetches nothing: who gives such an option is told so.
#[command(mut_group("Fetching", |group| group.requires("fuse")))]
#[command(mut_group("Registry", |group| group.requires("fuse")))]
pub struct Mount {
    /// Mount options, as mount(8) has them, and those of the filesystem
    ///
    /// domain_id=NAME: share the page cache with images of other layouts that have the same NAME.
    /// verify=chunk, the default: each chunk is hashed when it was read. verify=fsverity: packs
    /// are checked by the filesystem that the layout is on. Each must have fs-verity enabled, as by
    /// fsverity(1), with the digest that the manifest says; loose chunks are hashed as ever.
    #[arg(short, long, value_name = "OPTIONS")]
    pub options: Vec<String>,
    /// Mount it writable: what is changed goes to the directory UPPER
    ///
    /// It is an overlayfs over the image, which stays as it is and is mounted nowhere else:
    /// umount(8) leaves UPPER and nothing more. UPPER is made if need be, on a filesystem that can
    /// be an upper layer of overlayfs (ext4, xfs, btrfs, tmpfs). UPPER/upper has what was
    /// changed, UPPER/work is overlayfs's own; mounted again with the same image it goes on from
    /// there. Options that are not of the mount are those of overlayfs, as volatile. LXC's templates call it --persist.
    #[arg(long, value_name = "UPPER", visible_alias = "persist")]
    pub overlay: Option<PathBuf>,
    /// Mount it by FUSE: without the module, and without root
    ///
    /// The command itself serves the image, in the background, until it is unmounted by puzzlefs umount,
    /// umount(8) or fusermount3 -u, or ended by SIGTERM, which unmounts it. Each chunk is verified
    /// before it is used, as by the module. Users need fusermount3, of the package fuse3; others see the
    /// mount only with the option allow_other. What is wrong with the image later on is in the system's
    /// log.
    ///
    /// Of an image of which not all is here (puzzlefs pull --lazy) it fetches what is read, as it is read, and keeps it in
    /// the layout; no daemon is needed for that. The options of fetching and of registries are for that.
    #[arg(long, conflicts_with = "overlay")]
    pub fuse: bool,
    /// With --fuse: stay in the foreground, and log to standard error
    #[arg(short, long, requires = "fuse")]
    pub foreground: bool,
    /// With --fuse: fetch what nobody reads as well
    #[arg(long, requires = "fuse")]
    pub fill: bool,
    /// With --fuse: the layout in which an image from elsewhere is kept; it is made if need be
    ///
    /// [default: $XDG_CACHE_HOME/puzzlefs/images or ~/.cache/puzzlefs/images, or in /var/cache/puzzlefs/images if root runs
    /// it with the home of a user] What it has is not fetched again, whichever image it came with: puzzlefs tags, du, rm and
    /// gc are for it as for any layout.
    #[arg(long, value_name = "OCI_DIR", requires = "fuse")]
    pub cache: Option<PathBuf>,
    /// How what is read is fetched, by FUSE.
    #[command(flatten)]
    pub fetching: Fetching,
    /// How a registry is spoken with.
    #[command(flatten)]
    pub registry: Registry,
    /// The image; with --fuse also one that is elsewhere: docker://HOST/REPOSITORY:TAG, https://HOST/DIR:TAG,
    /// ssh://HOST/DIR:TAG, s3://BUCKET/PREFIX:TAG
    ///
    /// Of one that is elsewhere only the metadata come before it is mounted, as by puzzlefs pull --lazy. Where its source
    /// does not answer, the cache's image of this name is mounted.
    #[arg(value_name = "OCI_DIR:TAG")]
    pub image: What,
    /// Where to mount it
    pub mountpoint: PathBuf,
}

/// An image that is to be mounted.
#[derive(Clone, Debug)]
pub enum What {
    /// In a layout.
    Here(Reference),
    /// Somewhere else.
    Elsewhere(Place),
}

impl FromStr for What {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const ELSEWHERE: [&str; 5] = ["docker://", "https://", "http://", "ssh://", "s3://"];
        match ELSEWHERE.iter().any(|start| text.starts_with(start)) {
            true => text.parse().map(What::Elsewhere),
            false => text.parse().map(What::Here),
        }
    }
}

/// Unmount an image
#[derive(Parser, Debug)]
#[command(after_help = "Example:
  puzzlefs umount /mnt")]
pub struct Umount {
    /// Detach it now, and clean up once it is no longer in use
    #[arg(short, long)]
    pub lazy: bool,
    /// Where it is mounted
    pub mountpoint: PathBuf,
}

/// Show what the kernel has counted of a mounted image
///
/// Chunks read and verified, bytes, failures, since it was mounted. Mounts of one image from one
/// layout share the counters. /sys/fs/puzzlefs/DEVICE has them too, one file each.
#[derive(Parser, Debug)]
#[command(after_help = "Example:
  puzzlefs stats /mnt
  puzzlefs stats --format json /mnt | jq .verify_failures")]
pub struct Stats {
    /// How the report is printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// Where the image is mounted, or anything below
    pub mountpoint: PathBuf,
}

/// Mount helper of mount(8) for `-t puzzlefs`
///
/// SPEC is OCI_DIR:TAG, or anything else if the options oci_root_dir and image_manifest
/// say what to mount.
#[derive(Parser, Debug)]
#[command(name = "mount.puzzlefs", version)]
#[command(after_help = "Example:
  mount -t puzzlefs /var/lib/images:debian /mnt
  mount -t puzzlefs -o verify=fsverity /var/lib/images:debian /mnt
  mount -t puzzlefs -o oci_root_dir=/var/lib/images,image_manifest=SHA256 none /mnt")]
pub struct MountHelper {
    /// What to mount
    pub spec: String,
    /// Where to mount it
    pub dir: PathBuf,
    /// Tolerate unknown options (accepted, the kernel decides)
    #[arg(short)]
    pub sloppy: bool,
    /// Check only, do not mount
    #[arg(short)]
    pub fake: bool,
    /// No /etc/mtab (there is none)
    #[arg(short)]
    pub no_mtab: bool,
    /// Say what is mounted
    #[arg(short)]
    pub verbose: bool,
    /// Not supported: nsenter(1) runs mount(8) in another namespace
    #[arg(short = 'N', value_name = "NS")]
    pub namespace: Option<PathBuf>,
    /// Mount options
    #[arg(short = 'o', value_name = "OPTIONS")]
    pub options: Vec<String>,
    /// Type, maybe with a subtype
    #[arg(short = 't', value_name = "TYPE")]
    pub fs_type: Option<String>,
}
