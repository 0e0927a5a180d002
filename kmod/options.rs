// SPDX-License-Identifier: GPL-2.0

//! Mount options.

use kernel::{prelude::*, str::CString};
use puzzlefs_format::Digest;
use vfs::{Log, ParameterSpec, Value};

const OCI_ROOT_DIR: u8 = 0;
const IMAGE_MANIFEST: u8 = 1;

/// The options; `Options::parse` gets the index.
pub(crate) const PARAMETERS: &[ParameterSpec] = &[
    ParameterSpec::string(c"oci_root_dir", OCI_ROOT_DIR),
    ParameterSpec::string(c"image_manifest", IMAGE_MANIFEST),
    ParameterSpec::END,
];

/// The options of one mount, as far as they were given.
#[derive(Default)]
pub(crate) struct Options {
    /// The OCI layout: the directory that has `blobs/sha256` in it.
    pub(crate) oci_root_dir: Option<CString>,
    /// The digest of an OCI manifest or of a Rootfs.
    pub(crate) image_manifest: Option<Digest>,
}

impl Options {
    /// Takes the option with this index in [`PARAMETERS`].
    pub(crate) fn parse(&mut self, index: u8, value: Value<'_>, log: &Log<'_>) -> Result {
        let Value::String(value) = value;
        match index {
            OCI_ROOT_DIR => self.oci_root_dir = Some(value.try_into()?),
            IMAGE_MANIFEST => {
                let digest = Digest::parse(value.to_bytes()).map_err(|error| {
                    log.error(format_args!("image_manifest: {error}"));
                    EINVAL
                })?;
                self.image_manifest = Some(digest);
            }
            _ => return Err(EINVAL),
        }
        Ok(())
    }
}
