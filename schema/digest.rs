// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0

//! sha256 digests: the names of blobs.

use crate::Error;
use core::fmt;

/// A sha256 digest, the only kind that names PuzzleFS blobs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; Digest::BYTES]);

impl Digest {
    /// Bytes of a digest.
    pub const BYTES: usize = 32;

    /// Bytes of a digest in hexadecimal.
    pub const HEX_BYTES: usize = 64;

    /// How OCI writes which algorithm it was.
    const PREFIX: &'static [u8] = b"sha256:";

    /// A digest of these bytes.
    #[inline]
    pub const fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[inline]
    pub const fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }

    /// Parses `sha256:<64 hexadecimal digits>` or the digits alone, lower case only,
    /// as the OCI image-spec has it (descriptor.md, "Digests").
    pub fn parse(text: &[u8]) -> Result<Self, Error> {
        let hex = text.strip_prefix(Self::PREFIX).unwrap_or(text);
        if hex.len() != Self::HEX_BYTES {
            return Err(Error::BadDigest);
        }
        let mut bytes = [0; Self::BYTES];
        for (byte, pair) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
            let &[high, low] = pair else {
                return Err(Error::BadDigest);
            };
            *byte = (nibble(high)? << 4) | nibble(low)?;
        }
        Ok(Self(bytes))
    }

    /// Its 64 hexadecimal digits, in ASCII: the name of its blob's file.
    pub fn to_hex(&self) -> [u8; Self::HEX_BYTES] {
        let mut hex = [0; Self::HEX_BYTES];
        for (pair, byte) in hex.chunks_exact_mut(2).zip(self.0) {
            pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 0xf)]);
        }
        hex
    }
}

fn nibble(digit: u8) -> Result<u8, Error> {
    match digit {
        b'0'..=b'9' => Ok(digit & 0xf),
        b'a'..=b'f' => Ok((digit & 0xf).saturating_add(9)),
        _ => Err(Error::BadDigest),
    }
}

fn digit(nibble: u8) -> u8 {
    let base = if nibble < 10 {
        b'0'
    } else {
        b'a'.saturating_sub(10)
    };
    base.saturating_add(nibble)
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = self.to_hex();
        f.pad(core::str::from_utf8(&hex).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
