// SPDX-License-Identifier: GPL-2.0

//! Mount options.

use crate::sharing::DomainId;
use kernel::prelude::*;
use puzzlefs_format::Digest;
use vfs::{lower, Log, ParameterSpec, Value};

const OCI_ROOT_DIR: u8 = 0;
const IMAGE_MANIFEST: u8 = 1;
const DOMAIN_ID: u8 = 2;

/// The options; `Options::parse` gets the index.
pub(crate) const PARAMETERS: &[ParameterSpec] = &[
    ParameterSpec::path(c"oci_root_dir", OCI_ROOT_DIR),
    ParameterSpec::string(c"image_manifest", IMAGE_MANIFEST),
    ParameterSpec::string(c"domain_id", DOMAIN_ID),
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
            _ => return Err(EINVAL),
        }
        Ok(())
    }
}
