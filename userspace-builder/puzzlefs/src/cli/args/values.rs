// SPDX-License-Identifier: Apache-2.0
//! Values that arguments of several commands have.

use std::num::NonZero;

use clap::ValueEnum;
use puzzlefs_format::limits;

/// How a report is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Text,
    /// JSON, for scripts
    Json,
}

/// A number of bytes, with K, M or G for 1024, 1024^2 or 1024^3 of them.
pub fn size(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.strip_suffix(|c: char| c.is_ascii_alphabetic()) {
        Some(digits) => match text.as_bytes().last() {
            Some(b'k' | b'K') => (digits, 10),
            Some(b'm' | b'M') => (digits, 20),
            Some(b'g' | b'G') => (digits, 30),
            _ => return Err("expected a number of bytes, or of K, M or G".into()),
        },
        None => (text, 0),
    };
    let number: u64 = digits.parse().map_err(|e| format!("{e}"))?;
    let size = number.checked_mul(1 << shift);
    size.ok_or_else(|| "that is more than 64 bits hold".into())
}

/// Bytes of a pack: at least a page, and no more than a pack may have.
pub fn pack_size(text: &str) -> Result<u64, String> {
    let size = size(text)?;
    match (4096..=limits::MAX_PACK_BYTES).contains(&size) {
        true => Ok(size),
        false => Err(format!(
            "a pack has 4096 to {} bytes",
            limits::MAX_PACK_BYTES
        )),
    }
}

/// Bytes in a second: one at least.
pub fn rate(text: &str) -> Result<u64, String> {
    match size(text)? {
        0 => Err("with a rate of 0 nothing would come: --no-fill".into()),
        rate => Ok(rate),
    }
}

/// Threads: so many that no machine has more to gain.
pub fn threads(text: &str) -> Result<NonZero<usize>, String> {
    let number: Option<NonZero<usize>> = text.parse().ok();
    let number = number.filter(|number| number.get() <= 1024);
    number.ok_or_else(|| "expected 1 to 1024".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_suffixes() {
        for (text, bytes) in [
            ("4096", 4096),
            ("64K", 65_536),
            ("64k", 65_536),
            ("3M", 3 << 20),
            ("1g", 1 << 30),
            ("17179869183G", u64::MAX - (1 << 30) + 1),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for bad in [
            "",
            "K",
            "-1",
            "1.5M",
            "1KB",
            "1KiB",
            "1T",
            "0x10",
            "17179869184G",
            " 1",
            "18446744073709551616",
            "1\u{e9}",
        ] {
            assert!(size(bad).is_err(), "{bad}");
        }
        for bad in ["0", "4095", "4G", "1000G"] {
            assert!(pack_size(bad).is_err(), "{bad}");
        }
        assert_eq!(pack_size("4K"), Ok(4096));
        for bad in ["0", "1025", "-1", "x"] {
            assert!(threads(bad).is_err(), "{bad}");
        }
    }
}
