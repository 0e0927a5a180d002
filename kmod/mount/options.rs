// SPDX-License-Identifier: GPL-2.0

//! Mount options.

use crate::sharing::DomainId;
use core::fmt;
use kernel::prelude::*;
use puzzlefs_format::Digest;
use vfs::{lower, Log, ParameterSpec, Value};

const OCI_ROOT_DIR: u8 = 0;
const IMAGE_MANIFEST: u8 = 1;
const DOMAIN_ID: u8 = 2;
const VERIFY: u8 = 3;
const DEVICES: u8 = 4;

/// The options; `Options::parse` gets the index.
pub(crate) const PARAMETERS: &[ParameterSpec] = &[
    ParameterSpec::path(c"oci_root_dir", OCI_ROOT_DIR),
    ParameterSpec::string(c"image_manifest", IMAGE_MANIFEST),
    ParameterSpec::string(c"domain_id", DOMAIN_ID),
    ParameterSpec::string(c"verify", VERIFY),
    ParameterSpec::string(c"devices", DEVICES),
    ParameterSpec::END,
];

/// The options of one mount, as far as they were given.
#[derive(Default)]
pub(crate) struct Options {
    /// The OCI layout.
    pub(crate) layout: Option<Layout>,
    /// The digest of an OCI manifest or of a Rootfs.
    pub(crate) image_manifest: Option<Digest>,
    /// Which images it shares its page cache with.
    pub(crate) domain_id: Option<DomainId>,
    /// Who checks the bytes of chunks.
    pub(crate) verify: Option<Verify>,
    /// Whether its device nodes lead to devices.
    pub(crate) devices: Option<bool>,
}

/// Who checks that a chunk's bytes are the right ones, before anything is done with them. There is
/// no way to have nobody do it.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Verify {
    /// This filesystem: each chunk's bytes are hashed when they were read, and compared with its
    /// digest.
    #[default]
    Chunk,
    /// For chunks in packs the filesystem below: each pack has fs-verity, with the digest that
    /// the manifest says. Chunks that are loose are hashed as by [`Verify::Chunk`].
    FsVerity,
}

impl Verify {
    /// What `name` stands for, if anything.
    fn new(name: &[u8]) -> Option<Self> {
        match name {
            b"chunk" => Some(Self::Chunk),
            b"fsverity" => Some(Self::FsVerity),
            _ => None,
        }
    }
}

impl fmt::Display for Verify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Chunk => "chunk",
            Self::FsVerity => "fsverity",
        })
    }
}

/// An OCI layout.
pub(crate) struct Layout {
    /// `oci_root_dir`, the directory that has `blobs/sha256` in it.
    pub(crate) root: lower::Path,
    /// `blobs/sha256`. It need not be there for a remount.
    pub(crate) blobs: Result<lower::Path>,
}

impl Options {
    /// Takes the option with this index in [`PARAMETERS`].
    ///
    /// # Errors
    ///
    /// `EINVAL` for a digest that is none; those of the path walk to the layout.
    pub(crate) fn parse(&mut self, index: u8, value: Value<'_>, log: &Log<'_>) -> Result {
        match index {
            OCI_ROOT_DIR => {
                self.layout = Some(Layout {
                    root: value.directory(c"")?,
                    blobs: value.directory(c"blobs/sha256"),
                });
            }
            IMAGE_MANIFEST => {
                let digest = Digest::parse(value.string()?.to_bytes()).map_err(|error| {
                    log.error(format_args!("image_manifest: {error}"));
                    EINVAL
                })?;
                self.image_manifest = Some(digest);
            }
            DOMAIN_ID => {
                let name = DomainId::new(value.string()?.to_bytes()).ok_or_else(|| {
                    log.error(format_args!(
                        "domain_id: up to {} letters, digits, '-', '_' and '.'",
                        DomainId::MAX_BYTES
                    ));
                    EINVAL
                })?;
                self.domain_id = Some(name);
            }
            VERIFY => {
                let verify = Verify::new(value.string()?.to_bytes()).ok_or_else(|| {
                    log.error(format_args!("verify: chunk or fsverity"));
                    EINVAL
                })?;
                self.verify = Some(verify);
            }
            DEVICES => {
                self.devices = match value.string()?.to_bytes() {
                    b"yes" => Some(true),
                    b"no" => Some(false),
                    _ => {
                        log.error(format_args!("devices: yes or no"));
                        return Err(EINVAL);
                    }
                };
            }
            _ => return Err(EINVAL),
        }
        Ok(())
    }
}
