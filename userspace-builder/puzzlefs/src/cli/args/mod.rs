// SPDX-License-Identifier: Apache-2.0
//! The command line. Help texts end with an example each.

mod store;

use std::ffi::OsString;
use std::num::NonZero;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use puzzlefs::build::profile;
use puzzlefs::chunks::pack::DEFAULT_TARGET;
use puzzlefs::encode::compress::{Compression, LZ4_LEVEL};
use puzzlefs::layout::reference::{is_tag, Reference};

pub use store::{Du, Gc, Images, Repack, Rm, Unpack};

/// Builds, checks, extracts and mounts PuzzleFS images
///
/// An image lives in an OCI layout, under a tag: OCI_DIR:TAG. The kernel's puzzlefs
/// module mounts it straight from there.
#[derive(Parser, Debug)]
#[command(name = "puzzlefs", version, propagate_version = true)]
#[command(after_help = "Example:
  puzzlefs build ./rootfs /var/lib/images:debian
  puzzlefs mount /var/lib/images:debian /mnt")]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Subcommand, Debug)]
pub enum Command {
    Build(Build),
    Inspect(Inspect),
    Ls(Ls),
    Verify(Verify),
    Extract(Extract),
    Repack(Repack),
    Unpack(Unpack),
    Du(Du),
    Rm(Rm),
    Gc(Gc),
    Mount(Mount),
    Umount(Umount),
    Stats(Stats),
    Completions(Completions),
    Man(Man),
}

/// How a report is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Text,
    /// JSON, for scripts
    Json,
}

/// What an image is to be good at ([`profile::Profile`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Profile {
    /// Fewest bytes, of one image and of many related ones: zstd 19, chunks of 512 KiB
    Small,
    /// Few bytes, and reads that cost little: zstd 15, chunks of 64 KiB
    Balanced,
    /// The cheapest reads: LZ4, or zstd for what that makes far smaller; chunks of 64 KiB
    Fast,
}

impl From<Profile> for profile::Profile {
    fn from(profile: Profile) -> Self {
        match profile {
            Profile::Small => Self::Small,
            Profile::Balanced => Self::Balanced,
            Profile::Fast => Self::Fast,
        }
    }
}

/// What chunks are stored in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ChunkForm {
    /// Packs of many chunks
    Packs,
    /// A blob for each chunk
    Loose,
}

/// Build an image from a directory tree
///
/// Lets OCI_DIR:TAG name the new image once all of it is on disk; other tags stay. An
/// interrupted build leaves the layout as it was. The same tree gives the same
/// bytes; SOURCE_DATE_EPOCH in the environment is the latest time that is recorded.
/// The build does not descend into other filesystems: a mount point in ROOTFS
/// becomes an empty directory.
#[derive(Parser, Debug)]
#[command(after_help = "Example:
  puzzlefs build ./rootfs /var/lib/images:debian
  puzzlefs build --base debian ./rootfs.new /var/lib/images:debian-new
  SOURCE_DATE_EPOCH=1700000000 puzzlefs build --format json ./rootfs images:v2")]
pub struct Build {
    /// What the image is to be good at: chunk size and compression
    #[arg(long, value_enum, default_value_t = Profile::Balanced)]
    pub profile: Profile,
    /// Compression of chunks: none, zstd[:LEVEL], or lz4[:LEVEL]; levels are 1 to 22 and 1 to 12
    /// [default: the profile's]
    #[arg(long, value_name = "METHOD", value_parser = parse_compression)]
    pub compression: Option<Compression>,
    /// Average size of a chunk in bytes, a power of two [default: the profile's]
    ///
    /// A larger one keeps the manifest of an image of many gigabytes within the size
    /// that registries take.
    #[arg(long, value_name = "BYTES")]
    pub chunk_size: Option<usize>,
    /// Bytes in a zstd frame [default: each chunk is one frame]
    ///
    /// Smaller ones make random reads cheaper for readers that go by frames, as upstream's, and
    /// compression worse.
    #[arg(long, value_name = "BYTES")]
    pub frame_size: Option<NonZero<usize>>,
    /// Store chunks in packs, or loose: each as a blob of its own
    ///
    /// A chunk that is in the layout already is not stored again. Loose chunks are
    /// what upstream's puzzlefs reads; a manifest can list some 24,000 of them.
    /// [default: packs, but loose with --compat and --fs-verity]
    #[arg(long, value_enum, value_name = "FORM")]
    pub layout: Option<ChunkForm>,
    /// Bytes in a pack, as a rule
    #[arg(long, value_name = "BYTES", default_value_t = DEFAULT_TARGET)]
    pub pack_size: u64,
    /// Build an image that upstream's puzzlefs 0.2.0 can read
    ///
    /// It has all metadata in one blob, uncompressed, which a mount reads and keeps as a whole;
    /// holes as zeros; no LZ4; and loose chunks. Without it metadata of more than 64 KiB are
    /// stored as chunks, and read when they are needed.
    #[arg(long)]
    pub compat: bool,
    /// Build on top of the image with this tag in the same layout
    ///
    /// The metadata then holds only what differs. The image reads the same as one built
    /// without.
    #[arg(long, value_name = "TAG", value_parser = parse_tag)]
    pub base: Option<String>,
    /// Record fs-verity digests of all blobs in the metadata, as upstream's builder does: these
    /// stay one blob. Those of packs are in the manifest, with or without this option
    #[arg(long)]
    pub fs_verity: bool,
    /// Number of compressing threads [default: one for each processor]
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZero<usize>>,
    /// How the report is printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// The directory to put into the image
    pub rootfs: PathBuf,
    /// The layout, made if need be, and the tag
    #[arg(value_name = "OCI_DIR:TAG")]
    pub image: Reference,
}

/// Show what an image holds and what it takes to store it
#[derive(Parser, Debug)]
#[command(after_help = "Example:
  puzzlefs inspect /var/lib/images:debian
  puzzlefs inspect --format json /var/lib/images:debian | jq .dedup_ratio")]
pub struct Inspect {
    /// How the report is printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// The image
    #[arg(value_name = "OCI_DIR:TAG")]
    pub image: Reference,
}

/// List a directory of an image
///
/// What a terminal would not show as it is, is escaped: \n, \t, \r, \xNN for other controls and
/// for bytes that are not UTF-8, \u{NNNN} for characters that turn the direction of text, and \\
/// for a backslash; so no two names look alike, on a terminal and in a pipe. --null prints names as
/// they are. With --format json each name is one JSON object on its own line, in which `path` has
/// replacement characters where it is not UTF-8, and `path_hex` then all its bytes; `target` and
/// `target_hex` likewise.
#[derive(Parser, Debug)]
#[command(after_help = "Example:
  puzzlefs ls -l /var/lib/images:debian /etc")]
pub struct Ls {
    /// Show type, mode, links, owner, size and modification time
    #[arg(short, long)]
    pub long: bool,
    /// Print the paths as they are, each ended by a NUL: for xargs -0
    #[arg(short = 'z', long, conflicts_with_all = ["long", "format"])]
    pub null: bool,
    /// List all that is below, too
    #[arg(short = 'R', long)]
    pub recursive: bool,
    /// How the names are printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// The image
    #[arg(value_name = "OCI_DIR:TAG")]
    pub image: Reference,
    /// Path in the image
    #[arg(default_value = "/")]
    pub path: OsString,
}

/// Check every digest, all structure and every chunk of an image
///
/// Exits with 1 if anything is wrong.
#[derive(Parser, Debug)]
#[command(after_help = "Example:
  puzzlefs verify /var/lib/images:debian")]
pub struct Verify {
    /// How the report is printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// The image
    #[arg(value_name = "OCI_DIR:TAG")]
    pub image: Reference,
}

/// Extract an image into a new directory
///
/// Root restores owners, devices and all extended attributes; others leave out what they
/// may not set. Nothing outside DIR is touched, whatever the image says.
#[derive(Parser, Debug)]
#[command(after_help = "Example:
  puzzlefs extract /var/lib/images:debian ./rootfs")]
pub struct Extract {
    /// The image
    #[arg(value_name = "OCI_DIR:TAG")]
    pub image: Reference,
    /// The directory: new, or empty
    pub dir: PathBuf,
}

/// Mount an image by the kernel's puzzlefs module
#[derive(Parser, Debug)]
#[command(after_help = "Example:
  puzzlefs mount -o nosuid,nodev /var/lib/images:debian /mnt
  puzzlefs mount --overlay /var/lib/changes /var/lib/images:debian /mnt")]
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
    /// there. Options that are not of the mount are those of overlayfs, as volatile.
    #[arg(long, value_name = "UPPER")]
    pub overlay: Option<PathBuf>,
    /// The image
    #[arg(value_name = "OCI_DIR:TAG")]
    pub image: Reference,
    /// Where to mount it
    pub mountpoint: PathBuf,
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

/// Print a shell's completion script
#[derive(Parser, Debug)]
#[command(after_help = "Example:
  puzzlefs completions bash >/usr/share/bash-completion/completions/puzzlefs")]
pub struct Completions {
    /// The shell
    pub shell: Shell,
}

/// Write the manual pages into a directory
#[derive(Parser, Debug)]
#[command(after_help = "Example:
  puzzlefs man /usr/local/share/man/man1")]
pub struct Man {
    /// The directory
    pub dir: PathBuf,
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
    /// Mount in the namespace NS
    #[arg(short = 'N', value_name = "NS")]
    pub namespace: Option<PathBuf>,
    /// Mount options
    #[arg(short = 'o', value_name = "OPTIONS")]
    pub options: Vec<String>,
    /// Type, maybe with a subtype
    #[arg(short = 't', value_name = "TYPE")]
    pub fs_type: Option<String>,
}

fn parse_compression(text: &str) -> Result<Compression, String> {
    let (method, level) = match text.split_once(':') {
        Some((method, level)) => (method, Some(level)),
        None => (text, None),
    };
    let within = |level: &str, max: u8| {
        let level = level.parse().ok().filter(|level| (1..=max).contains(level));
        level.ok_or_else(|| format!("{method} has the levels 1 to {max}"))
    };
    Ok(match (method, level) {
        ("none", None) => Compression::default(),
        ("zstd", None) => profile::Profile::Balanced.compression(),
        ("zstd", Some(level)) => Compression::zstd(within(level, 22)?.into()),
        ("lz4", None) => Compression::lz4(LZ4_LEVEL),
        ("lz4", Some(level)) => Compression::lz4(within(level, 12)?.into()),
        _ => return Err("expected none, zstd, zstd:LEVEL, lz4 or lz4:LEVEL".into()),
    })
}

fn parse_tag(text: &str) -> Result<String, String> {
    match is_tag(text) {
        true => Ok(text.to_owned()),
        false => Err("a tag has letters, digits and -._@+".into()),
    }
}
