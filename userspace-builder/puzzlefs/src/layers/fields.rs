// SPDX-License-Identifier: Apache-2.0
//! The fields of a tar's headers (POSIX pax, "ustar Interchange Format" and "pax Extended Header";
//! GNU tar manual, "Basic Tar Format").

use anyhow::{bail, ensure, Context, Result};

use crate::host::xattr::XattrSet;

/// Extended attributes as PAX records: what star, GNU tar, libarchive and Go write.
const XATTR: &str = "SCHILY.xattr.";
/// Limits of include/uapi/linux/limits.h: XATTR_NAME_MAX and XATTR_SIZE_MAX.
const XATTR_NAME: usize = 255;
const XATTR_SIZE: usize = 65536;

/// A number of a header: octal digits, or if its first bit is set a binary one in two's complement.
pub fn number(field: &[u8]) -> Result<i64> {
    let Some(first) = field.first().filter(|first| **first & 0x80 != 0) else {
        let digits = field.split(|b| *b == 0).next().unwrap_or_default();
        let digits = std::str::from_utf8(digits).unwrap_or("?").trim();
        return match digits {
            "" => Ok(0),
            _ => i64::from_str_radix(digits, 8)
                .with_context(|| format!("a number in a header: {digits:?}")),
        };
    };
    // The bit that says so is none of the number; the next one is its sign.
    let head = i8::from_be_bytes([first << 1]) >> 1;
    let mut value = i64::from(head);
    for byte in &field[1..] {
        value = value
            .checked_mul(256)
            .and_then(|value| value.checked_add(i64::from(*byte)))
            .context("a number in a header is larger than 64 bits")?;
    }
    Ok(value)
}

/// What the PAX records in front of an entry say of it.
#[derive(Clone, Debug, Default)]
pub struct Records {
    /// `path`.
    pub path: Option<Vec<u8>>,
    /// `linkpath`.
    pub link: Option<Vec<u8>>,
    /// `size`.
    pub size: Option<u64>,
    /// `uid`.
    pub uid: Option<u64>,
    /// `gid`.
    pub gid: Option<u64>,
    /// `mtime`.
    pub mtime: Option<(i64, u32)>,
    /// Extended attributes, in no order.
    pub xattrs: XattrSet,
    /// `GNU.sparse.*` without that prefix, in order.
    pub sparse: Vec<(String, Vec<u8>)>,
}

impl Records {
    /// Reads the records of a header.
    pub fn parse(text: &[u8]) -> Result<Self> {
        let mut records = Records::default();
        let mut rest = text;
        // Some fill the block with zeros and count them.
        while rest.first().is_some_and(|byte| *byte != 0) {
            let (key, value, after) =
                record(rest).context("a PAX header with a malformed record")?;
            records
                .take(key, value)
                .with_context(|| format!("PAX record {key:?}"))?;
            rest = after;
        }
        Ok(records)
    }

    fn take(&mut self, key: &str, value: &[u8]) -> Result<()> {
        let number = || -> Result<u64> { Ok(std::str::from_utf8(value)?.trim().parse()?) };
        match key {
            // Without a value the record takes back what a global header said.
            _ if value.is_empty() && !key.starts_with(XATTR) => {}
            "path" => self.path = Some(value.to_vec()),
            "linkpath" => self.link = Some(value.to_vec()),
            "size" => self.size = Some(number()?),
            "uid" => self.uid = Some(number()?),
            "gid" => self.gid = Some(number()?),
            "mtime" => self.mtime = Some(time(std::str::from_utf8(value)?)?),
            _ => {
                if let Some(name) = key.strip_prefix(XATTR) {
                    self.xattr(name.as_bytes(), value)?;
                } else if let Some(key) = key.strip_prefix("GNU.sparse.") {
                    self.sparse.push((key.into(), value.to_vec()));
                }
            }
        }
        Ok(())
    }

    /// Whether a sparse file follows.
    pub fn is_sparse(&self) -> bool {
        self.sparse
            .iter()
            .any(|(key, _)| key == "map" || key == "offset")
            || self.is_sparse_1_0()
    }

    /// Whether its map is in front of its data.
    pub fn is_sparse_1_0(&self) -> bool {
        self.sparse_value("major") == Some(b"1")
    }

    /// The path of a sparse file: the header's own is for those who do not know the format.
    pub fn sparse_name(&self) -> Option<&[u8]> {
        self.sparse_value("name")
    }

    /// The size of a sparse file, in bytes.
    pub fn sparse_size(&self) -> Result<u64> {
        let size = self
            .sparse_value("realsize")
            .context("a sparse file without size")?;
        Ok(std::str::from_utf8(size)?.parse()?)
    }

    fn sparse_value(&self, key: &str) -> Option<&[u8]> {
        let found = self.sparse.iter().rev().find(|(found, _)| found == key);
        found.map(|(_, value)| &value[..])
    }

    /// The last one of a name counts.
    fn xattr(&mut self, name: &[u8], value: &[u8]) -> Result<()> {
        ensure!(!name.is_empty() && !name.contains(&0), "it is no name");
        ensure!(
            name.len() <= XATTR_NAME && value.len() <= XATTR_SIZE,
            "more than Linux has room for"
        );
        self.xattrs.retain(|(old, _)| old != name);
        self.xattrs.push((name.to_vec(), value.to_vec()));
        Ok(())
    }
}

/// The first of some records: `LENGTH KEY=VALUE` and a newline, the length that of all of it. A value may
/// have any bytes, newlines too, at which the crate `tar` ends it.
fn record(text: &[u8]) -> Option<(&str, &[u8], &[u8])> {
    let digits = text.iter().position(|byte| *byte == b' ')?;
    let len: usize = std::str::from_utf8(&text[..digits]).ok()?.parse().ok()?;
    let body = text.get(digits + 1..len)?.strip_suffix(b"\n")?;
    let equals = body.iter().position(|byte| *byte == b'=')?;
    // What no key of ours could be is passed over.
    let key = std::str::from_utf8(&body[..equals]).unwrap_or_default();
    Some((key, &body[equals + 1..], &text[len..]))
}

/// Seconds and nanoseconds of a decimal number of seconds. Of more than nine digits behind the
/// point the rest is cut off.
fn time(text: &str) -> Result<(i64, u32)> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().with_context(|| format!("{text:?}"))?;
    if !part.bytes().all(|b| b.is_ascii_digit()) {
        bail!("{text:?}: no time");
    }
    let digits = &part[..part.len().min(9)];
    let nanoseconds: u32 = format!("{digits:0<9}").parse()?;
    match (whole.starts_with('-'), nanoseconds) {
        (true, 1..) => Ok((
            seconds.checked_sub(1).context("no time")?,
            1_000_000_000 - nanoseconds,
        )),
        _ => Ok((seconds, nanoseconds)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_binary() {
        assert_eq!(number(b"0000644\0").unwrap(), 0o644);
        assert_eq!(number(b"   644 \0").unwrap(), 0o644);
        assert_eq!(number(b"\0\0\0\0").unwrap(), 0);
        assert_eq!(number(b"\x80\0\0\x01\0").unwrap(), 256);
        assert_eq!(number(b"\xff\xff\xff\xfe").unwrap(), -2);
        assert_eq!(
            number(b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff").unwrap(),
            i64::MAX
        );
        assert!(number(b"\x80\0\0\0\x80\0\0\0\0\0\0\0").is_err());
        assert!(number(b"12x4\0").is_err());
        assert!(number(b"8\0").is_err());
    }

    #[test]
    fn records_have_any_bytes() {
        let text = b"12 path=a\nb\n31 SCHILY.xattr.user.x=\0\n=\xff\n 9\n10 size=7\n\0\0";
        let records = Records::parse(text).unwrap();
        assert_eq!(records.path.as_deref(), Some(&b"a\nb"[..]));
        assert_eq!(records.size, Some(7));
        let value = b"\0\n=\xff\n 9".to_vec();
        assert_eq!(records.xattrs, [(b"user.x".to_vec(), value)]);
        for bad in [
            "12 path=a\n",
            "9 path=ab",
            "8 path=a",
            "99999999999999999999999 a=b\n",
            "x",
            "6 path\n",
            "0 a=b\n",
        ] {
            assert!(Records::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_are_decimal() {
        for (text, is) in [
            ("0", (0, 0)),
            ("1350244992.023960108", (1_350_244_992, 23_960_108)),
            ("1.5", (1, 500_000_000)),
            ("1.0000000019", (1, 1)),
            ("-1.5", (-2, 500_000_000)),
            ("-0.5", (-1, 500_000_000)),
            ("-1", (-1, 0)),
        ] {
            assert_eq!(time(text).unwrap(), is, "{text}");
        }
        for bad in ["", ".5", "1.x", "x", "1.-5", "99999999999999999999"] {
            assert!(time(bad).is_err(), "{bad}");
        }
    }
}
