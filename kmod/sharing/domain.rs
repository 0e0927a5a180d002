// SPDX-License-Identifier: GPL-2.0

//! Domains: images whose mounts share the page cache of what they have in common.

use core::fmt;

/// The name of a domain: mounts that name the same one share the page cache of files with the
/// same content, and with no others. See [`super::fingerprint`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct DomainId {
    bytes: [u8; Self::MAX_BYTES],
    len: usize,
}

impl DomainId {
    /// Room for a digest in hexadecimal.
    pub(crate) const MAX_BYTES: usize = 64;

    /// The domain `name`; none if it is too long, or has another character than ASCII letters
    /// and digits, `-`, `_`, and `.`: then `/proc/mounts` needs no escapes.
    pub(crate) fn new(name: &[u8]) -> Option<Self> {
        let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
        if !name.iter().all(is_plain) {
            return None;
        }
        let mut bytes = [0; Self::MAX_BYTES];
        bytes.get_mut(..name.len())?.copy_from_slice(name);
        let len = name.len();
        Some(Self { bytes, len })
    }

    /// Its bytes.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl fmt::Display for DomainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(core::str::from_utf8(self.as_bytes()).unwrap_or_default())
    }
}
