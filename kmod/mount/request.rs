// SPDX-License-Identifier: GPL-2.0

//! What a mount asks for: an image in a layout.

use super::options::{Options, Verify};
use crate::sharing::DomainId;
use kernel::{prelude::*, seq_file::SeqFile};
use puzzlefs_format::Digest;
use vfs::{lower, Log};

/// An image in a layout, with all that a mount of it depends on: every option, and who reads.
/// Mounts of what is equal in all of it share a superblock, as far as the VFS lets them
/// ([`vfs::FileSystem::Identity`]). Others have one of their own, and the page cache of their
/// files in common all the same ([`crate::sharing`]).
#[derive(PartialEq)]
pub(crate) struct Request {
    /// The OCI layout, as `show_options` shows it.
    oci_root_dir: lower::Path,
    /// Its `blobs/sha256`.
    blobs: lower::Path,
    /// The digest of a manifest or of a Rootfs.
    image_manifest: Digest,
    /// Which images it shares its page cache with, if not those of the same layout.
    domain_id: Option<DomainId>,
    /// Who checks the bytes of chunks.
    verify: Verify,
    /// Whether its device nodes lead to devices, where the mount lets them.
    devices: bool,
    /// Those of the one who mounts.
    credentials: lower::Credentials,
}

impl Request {
    /// What `options` ask for. Every error is explained in `log`.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a missing option; `ENOENT`, `ENOTDIR` and what else the path walk to
    /// `blobs/sha256` said.
    pub(crate) fn new(options: &Options, log: &Log<'_>) -> Result<Self> {
        let missing = |name: &str| {
            log.error(fmt!("the option {name} is missing"));
            EINVAL
        };
        let layout = options
            .layout
            .as_ref()
            .ok_or_else(|| missing("oci_root_dir=DIRECTORY"))?;
        let image_manifest = options
            .image_manifest
            .ok_or_else(|| missing("image_manifest=DIGEST"))?;
        let blobs = layout.blobs.as_ref().map_err(|error| {
            log.error(fmt!(
                "oci_root_dir is not an OCI layout: blobs/sha256: {error:?}"
            ));
            *error
        })?;
        Ok(Self {
            oci_root_dir: layout.root.clone(),
            blobs: blobs.clone(),
            image_manifest,
            domain_id: options.domain_id,
            verify: options.verify.unwrap_or_default(),
            devices: options.devices.unwrap_or(true),
            credentials: lower::Credentials::current(),
        })
    }

    /// The directory of the blobs.
    pub(crate) fn blobs(&self) -> &lower::Path {
        &self.blobs
    }

    /// What the blobs are read with: readers of the mount need no access to the layout.
    pub(crate) fn credentials(&self) -> &lower::Credentials {
        &self.credentials
    }

    /// The digest that was asked for.
    pub(crate) fn image_manifest(&self) -> &Digest {
        &self.image_manifest
    }

    /// The domain, if it is in one.
    pub(crate) fn domain_id(&self) -> Option<DomainId> {
        self.domain_id
    }

    /// Who checks the bytes of chunks.
    pub(crate) fn verify(&self) -> Verify {
        self.verify
    }

    /// Whether its device nodes lead to devices.
    pub(crate) fn has_devices(&self) -> bool {
        self.devices
    }

    /// A `s_uuid` that two images do not share.
    pub(crate) fn uuid(&self) -> [u8; 16] {
        let [head @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] =
            *self.image_manifest.as_bytes();
        head
    }

    /// What tells its inodes from those of another image with the same numbers.
    pub(crate) fn generation(&self) -> u32 {
        let [.., a, b, c, d] = *self.image_manifest.as_bytes();
        u32::from_le_bytes([a, b, c, d])
    }

    /// Refuses options of a remount that ask for something else. The layout may be reached by
    /// another mount, as from another mount namespace: that changes nothing.
    ///
    /// # Errors
    ///
    /// `EINVAL` for those.
    pub(crate) fn check_remount(&self, options: &Options, log: &Log<'_>) -> Result {
        let is_same_dir = match &options.layout {
            Some(layout) => layout.root.is_same_directory(&self.oci_root_dir),
            None => true,
        };
        let manifest = options.image_manifest.unwrap_or(self.image_manifest);
        let is_same_domain = options.domain_id.is_none() || options.domain_id == self.domain_id;
        let verify = options.verify.unwrap_or(self.verify);
        let is_same_image = is_same_dir && manifest == self.image_manifest;
        let devices = options.devices.unwrap_or(self.devices);
        let is_same_way = verify == self.verify && devices == self.devices;
        if !is_same_image || !is_same_domain || !is_same_way {
            log.error(format_args!(
                "a remount cannot change oci_root_dir, image_manifest, domain_id, verify or \
                 devices: mount the image anew"
            ));
            return Err(EINVAL);
        }
        Ok(())
    }

    /// Shows the options so that a mount with them gives this image again.
    pub(crate) fn show_options(&self, seq: &SeqFile) {
        seq.call_printf(format_args!(",oci_root_dir="));
        self.oci_root_dir.show(seq, c", \t\n\\");
        seq.call_printf(format_args!(",image_manifest={}", self.image_manifest));
        if let Some(domain) = &self.domain_id {
            seq.call_printf(format_args!(",domain_id={domain}"));
        }
        if self.verify != Verify::default() {
            seq.call_printf(format_args!(",verify={}", self.verify));
        }
        if !self.devices {
            seq.call_printf(format_args!(",devices=no"));
        }
    }
}
