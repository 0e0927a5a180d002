// SPDX-License-Identifier: Apache-2.0
//! Arguments of the commands that build images.

use std::num::NonZero;
use std::path::PathBuf;

use clap::{Args, Parser, ValueEnum};
use puzzlefs::build::{profile, Owner, Range};
use puzzlefs::encode::compress::{Compression, LZ4_LEVEL};
use puzzlefs::layout::reference::{self, Reference};
use puzzlefs::source::{Name, Platform};

use super::profile::ProfileFrom;
use super::registry::Registry;
use super::values::{pack_size, size, threads, Format};

/// What an image is to be good at ([`profile::Profile`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Profile {
    /// Fewest bytes, of one image and of many related ones: zstd 19, chunks of 512 KiB. To build it
    /// takes 10 to 30 times as long as balanced. Reads cost more
    Small,
    /// Few bytes, and reads that cost little: zstd 6 or LZ4, chunks of 128 KiB. To build it takes
    /// less time than gzip
    Balanced,
    /// The cheapest reads: LZ4, or zstd for what that makes far smaller; chunks of 64 KiB. To build
    /// it takes about twice as long as balanced
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

/// How an image is stored.
#[derive(Args, Debug)]
pub struct Storing {
    /// What the image is to be good at: chunk size and compression
    #[arg(long, value_enum, default_value_t = Profile::Balanced)]
    pub profile: Profile,
    /// Compression of chunks: none, zstd[:LEVEL], or lz4[:LEVEL]; levels are 1 to 22 and 1 to 12
    /// [default: the profile's]
    #[arg(long, value_name = "METHOD", value_parser = parse_compression)]
    pub compression: Option<Compression>,
    /// Average size of a chunk in bytes, or in K, M: a power of two [default: the profile's]
    #[arg(long, value_name = "BYTES", value_parser = size)]
    pub chunk_size: Option<u64>,
    /// Bytes in a zstd frame [default: each chunk is one frame]
    ///
    /// Smaller ones make random reads cheaper for readers that go by frames, as upstream's, and
    /// compression worse.
    #[arg(long, value_name = "BYTES", value_parser = size)]
    pub frame_size: Option<u64>,
    /// Store chunks in packs, or loose: each as a blob of its own
    ///
    /// A chunk that is in the layout already is not stored again. Loose chunks are
    /// what upstream's puzzlefs reads; a manifest can list some 26,000 of them.
    /// [default: packs, but loose with --compat and --fs-verity]
    #[arg(long, value_enum, value_name = "FORM")]
    pub layout: Option<ChunkForm>,
    /// Bytes in a pack, as a rule, or K, M, G [default: 16M]
    #[arg(long, value_name = "BYTES", value_parser = pack_size)]
    pub pack_size: Option<u64>,
    /// Build an image that upstream's puzzlefs 0.2.0 can read
    ///
    /// It has all metadata in one blob, uncompressed, which a mount reads and keeps as a whole;
    /// holes as zeros; no LZ4; and loose chunks. Without it metadata of more than 64 KiB are
    /// stored as chunks, and read when they are needed.
    #[arg(long)]
    pub compat: bool,
    /// Record fs-verity digests of all blobs in the metadata, as upstream's builder does: these
    /// stay one blob. Those of packs are in the manifest, with or without this option
    #[arg(long)]
    pub fs_verity: bool,
    /// Neither use nor leave what builds remember
    ///
    /// That is which chunks files became, and how chunks are stored. It is in
    /// $XDG_CACHE_HOME/puzzlefs/builds or ~/.cache/puzzlefs/builds, or in /var/cache/puzzlefs/builds if root
    /// has the HOME of a user. It may be deleted at any time, and is not used if others can write to
    /// it. The image is the same with it and without.
    #[arg(long)]
    pub no_cache: bool,
    /// Put what a profile names side by side, in its order, and list it in the image
    ///
    /// A profile is a file that `puzzlefs profile record` has made, or an image that has one. The files of the image are
    /// the same with it and without, to the digest of the Rootfs. Packs of the layout that have some of what the profile
    /// names among other chunks are not used: those chunks are stored again.
    #[arg(long, value_name = "FILE|OCI_DIR:TAG")]
    pub profile_from: Option<ProfileFrom>,
    /// Number of compressing threads [default: one for each processor]
    #[arg(long, value_name = "N", value_parser = threads)]
    pub threads: Option<NonZero<usize>>,
    /// How the report is printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// Build an image from a directory tree
///
/// Lets OCI_DIR:TAG name the new image once all of it is on disk; other tags stay. An
/// interrupted build leaves the layout as it was. The same tree gives the same
/// bytes; SOURCE_DATE_EPOCH in the environment is the latest time that is recorded.
///
/// What is mounted below ROOTFS is in the image too, as tar and du have it: who builds / means all of
/// its files, on however many disks and subvolumes they are. Not in it is what no disk has: proc,
/// sysfs, cgroup and other filesystems that show the state of the kernel, which is another one each
/// time and may have no end. --one-file-system leaves out all other mounts. In the place of what
/// is left out is an empty directory, or an empty file, to mount on. The report lists it.
///
/// Extended attributes are kept if they are in the namespaces user, trusted (which only root sees)
/// and security, or POSIX ACLs. No other filesystem takes those that filesystems have for
/// themselves, as btrfs.compression: the report names them.
#[derive(Parser, Debug)]
#[command(after_help = "Example:
  puzzlefs build ./rootfs /var/lib/images:debian
  puzzlefs build --base debian ./rootfs.new /var/lib/images:debian-new
  SOURCE_DATE_EPOCH=1700000000 puzzlefs build --format json ./rootfs images:v2
  puzzlefs build --profile-from python.profile ./rootfs /var/lib/images:debian
  puzzlefs build --exclude '*.pyc' --exclude /var/cache/apt/ --owner 0:0 ./rootfs images:v3")]
pub struct Build {
    /// How it is stored.
    #[command(flatten)]
    pub storing: Storing,
    /// Leave out all that is mounted below ROOTFS
    ///
    /// Mounts are told apart by the kernel's numbers: subvolumes of btrfs are no mounts, directories
    /// and files that are mounted by mount --bind are.
    #[arg(short = 'x', long)]
    pub one_file_system: bool,
    /// Build on top of the image with this tag in the same layout
    ///
    /// The metadata then holds only what differs. The image reads the same as one built
    /// without.
    #[arg(long, value_name = "TAG")]
    pub base: Option<reference::Name>,
    /// Leave out what matches a pattern, in the syntax of gitignore(5)
    ///
    /// Patterns are matched from ROOTFS on; a later one has precedence, and with ! before it takes
    /// back what an earlier one excludes. What is in a directory that is left out is left out, too.
    #[arg(long, value_name = "PATTERN")]
    pub exclude: Vec<String>,
    /// The same of all patterns in a file, one in a line, before those of --exclude
    #[arg(long, value_name = "FILE")]
    pub exclude_from: Vec<PathBuf>,
    /// Owner and group of all files in the image
    #[arg(long, value_name = "UID:GID", conflicts_with_all = ["uid_map", "gid_map"])]
    pub owner: Option<Owner>,
    /// Which owners in the image stand for which on the host: INSIDE:OUTSIDE:COUNT, several times if need be
    ///
    /// As /proc/PID/uid_map has it: 0:100000:65536 makes 0 of 100000, and so on. An owner in no range is
    /// an error.
    #[arg(long, value_name = "RANGE")]
    pub uid_map: Vec<Range>,
    /// The same of groups
    #[arg(long, value_name = "RANGE")]
    pub gid_map: Vec<Range>,
    /// Record no time later than this, in seconds since the epoch, and this as that of the image
    ///
    /// [default: SOURCE_DATE_EPOCH, if it is set]
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    pub clamp_mtime: Option<i64>,
    /// The config of the image (environment, entrypoint, user and so on): an OCI image config
    ///
    /// What it says of layers is replaced.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The config and the annotations of another image, named as for puzzlefs convert, or of a PuzzleFS
    /// image: OCI_DIR:TAG
    #[arg(long, value_name = "IMAGE", conflicts_with = "config")]
    pub config_from: Option<ConfigFrom>,
    /// How the registry of --config-from is spoken with.
    #[command(flatten)]
    pub registry: Registry,
    /// Read all files, also those that did not change since the last build of ROOTFS
    ///
    /// A file did not change if it has the same device, inode number, size, mtime and ctime. What a
    /// program writes to a file that it has mapped into its memory may not show in these. It is
    /// also checked whether packs of the layout are still what they were when they were written.
    #[arg(long, conflicts_with = "no_cache")]
    pub force: bool,
    /// The directory to put into the image, or - for a tar on standard input
    ///
    /// A tar may be compressed, as puzzlefs convert has it.
    pub rootfs: PathBuf,
    /// The layout, made if need be, and the tag
    ///
    /// Both may have colons: the name is split where a layout is, or a directory, and where neither
    /// is, at the first colon, as skopeo does.
    #[arg(value_name = "OCI_DIR:TAG")]
    pub image: Reference,
}

/// Convert an ordinary container image
///
/// The layers are read as they are, from the uppermost down, and not unpacked: that takes no rights, no
/// directory tree and no other tool. What an upper layer hides is not stored. The metadata are those that
/// puzzlefs build makes of the same tree, so that images share chunks however they were made.
///
/// The config (environment, entrypoint, user, labels and so on) and the annotations of the image are kept.
#[derive(Parser, Debug)]
#[command(after_help = "Example:
  puzzlefs convert oci:./build:v1 /var/lib/images:app
  puzzlefs convert docker://docker.io/library/debian:13 /var/lib/images:debian
  puzzlefs convert docker-archive:app.tar /var/lib/images:app
  zstdcat rootfs.tar.zst | puzzlefs convert - /var/lib/images:rootfs")]
pub struct Convert {
    /// How it is stored.
    #[command(flatten)]
    pub storing: Storing,
    /// Which image of an index: for this operating system and architecture [default: this machine's]
    #[arg(long, value_name = "OS/ARCHITECTURE[/VARIANT]")]
    pub platform: Option<Platform>,
    /// All images of an index, for whatever platform: the tag then names an index of them
    #[arg(long, conflicts_with = "platform")]
    pub all: bool,
    /// Keep the layers, as layers of metadata
    ///
    /// So the image says what each layer brought: puzzlefs inspect counts it. Each file is in the uppermost
    /// layer that has a name of it, and each directory in the uppermost one that has anything in it, or removes
    /// something from it. Content is stored as without this option, and only once; files that are hidden are
    /// not kept. It costs that the metadata are not those of puzzlefs build, so that they are shared with no
    /// other image, and that each look-up of an inode searches the layers from the uppermost down. Without
    /// it the image has one layer, and reads the same.
    #[arg(long)]
    pub keep_layers: bool,
    /// How a registry is spoken with.
    #[command(flatten)]
    pub registry: Registry,
    /// The image: oci:DIR:TAG, oci-archive:FILE[:TAG], docker-archive:FILE[:NAME] (of docker save), dir:DIR,
    /// docker://HOST/REPOSITORY[:TAG], as skopeo calls them, tar:FILE for a tar of a tree, or - for one on standard input
    ///
    /// What has none of these before it is an image in a registry, as for podman pull: HOST/REPOSITORY[:TAG], or a
    /// short name that registries.conf has an alias for, or one registry to search.
    /// Layers and tars may be compressed by gzip, zstd or xz.
    pub source: Name,
    /// The layout, made if need be, and the tag
    ///
    /// Both may have colons: the name is split where a layout is, or a directory, and where neither
    /// is, at the first colon, as skopeo does.
    #[arg(value_name = "OCI_DIR:TAG")]
    pub image: Reference,
}

/// An image whose config another one is to have.
#[derive(Clone, Debug)]
pub enum ConfigFrom {
    /// An ordinary image.
    Ordinary(Name),
    /// One of ours.
    Ours(Reference),
}

impl std::str::FromStr for ConfigFrom {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if !Name::has_transport(text) {
            return Ok(Self::Ours(text.parse()?));
        }
        match text.parse()? {
            Name::Tar(_) | Name::Stdin => Err("a tar has no config".into()),
            name => Ok(Self::Ordinary(name)),
        }
    }
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
