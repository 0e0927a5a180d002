// SPDX-License-Identifier: Apache-2.0
//! An entry of a tar: its header, and a PAX header in front of it for what has no room there (POSIX
//! pax, "pax Extended Header"; GNU tar manual, "Storing Sparse Files", format 1.0).
//!
//! The crate `tar` writes no PAX headers.

use std::io::{self, Write};

use tar::{EntryType, Header};

/// Bytes that all in a tar is a multiple of.
pub const BLOCK: u64 = 512;
/// Bytes of a name, and of the target of a link, in a header.
const NAME: usize = 100;
/// The largest number of a field of 7 octal digits, as that of an owner, and of 11, as a size.
const MAX_ID: u64 = (1 << 21) - 1;
const MAX_LONG: u64 = (1 << 33) - 1;

/// What an entry has besides its content.
pub struct Entry<'a> {
    /// Its path, a directory's with a slash at its end.
    pub path: &'a [u8],
    /// What it is.
    pub kind: EntryType,
    /// Permissions: 12 bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of the last change: seconds since the epoch, and nanoseconds on top.
    pub mtime: (i64, u32),
    /// Bytes that follow, without padding.
    pub size: u64,
    /// The size of a sparse file, in front of whose data is a map.
    pub sparse: Option<u64>,
    /// Where a link leads.
    pub link: &'a [u8],
    /// Major and minor number of a device.
    pub device: (u32, u32),
    /// Extended attributes, which [`can_hold`] says that a tar can hold.
    pub xattrs: &'a [(&'a [u8], &'a [u8])],
}

/// Whether a tar can hold an extended attribute of this name: a key of a PAX record is UTF-8, and ends at
/// the first `=`.
pub fn can_hold(xattr: &[u8]) -> bool {
    !xattr.contains(&b'=') && std::str::from_utf8(xattr).is_ok()
}

impl Entry<'_> {
    /// Writes its headers. `size` bytes and their [`padding`] are to follow.
    pub(super) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut records = Vec::new();
        let mut header = Header::new_ustar();
        header.set_entry_type(self.kind);
        header.set_mode(self.mode);
        let mut small = |key: &str, value: u64, max: u64| match value <= max {
            true => value,
            false => {
                record(&mut records, key, value.to_string().as_bytes());
                0
            }
        };
        header.set_uid(small("uid", self.uid.into(), MAX_ID));
        header.set_gid(small("gid", self.gid.into(), MAX_ID));
        header.set_size(small("size", self.size, MAX_LONG));
        let (seconds, nanoseconds) = self.mtime;
        let plain = u64::try_from(seconds).ok().filter(|t| *t <= MAX_LONG);
        header.set_mtime(plain.unwrap_or(0));
        if plain.is_none() || nanoseconds > 0 {
            record(&mut records, "mtime", time(seconds, nanoseconds).as_bytes());
        }
        let device = self.device;
        header.set_device_major(device.0)?;
        header.set_device_minor(device.1)?;
        if let Some(size) = self.sparse {
            record(&mut records, "GNU.sparse.major", b"1");
            record(&mut records, "GNU.sparse.minor", b"0");
            record(&mut records, "GNU.sparse.name", self.path);
            record(
                &mut records,
                "GNU.sparse.realsize",
                size.to_string().as_bytes(),
            );
        }
        // Who does not know sparse files is not to take the map for the file.
        let path = match self.sparse {
            Some(_) => sparse_path(self.path),
            None => self.path.to_vec(),
        };
        let fields = header.as_old_mut();
        for (key, value, field) in [
            ("path", &path[..], &mut fields.name),
            ("linkpath", self.link, &mut fields.linkname),
        ] {
            let len = value.len().min(NAME);
            field[..len].copy_from_slice(&value[..len]);
            if value.len() > NAME {
                record(&mut records, key, value);
            }
        }
        for (name, value) in self.xattrs {
            let key = format!("SCHILY.xattr.{}", String::from_utf8_lossy(name));
            record(&mut records, &key, value);
        }
        header.set_cksum();
        if !records.is_empty() {
            let mut front = Header::new_ustar();
            front.set_entry_type(EntryType::XHeader);
            front.set_mode(0o644);
            front.set_size(records.len() as u64);
            // Readers give it no file; all have the same name, so that the same tree gives the same tar.
            let name = b"PaxHeader";
            front.as_old_mut().name[..name.len()].copy_from_slice(name);
            front.set_cksum();
            out.write_all(front.as_bytes())?;
            out.write_all(&records)?;
            pad(out, records.len() as u64)?;
        }
        out.write_all(header.as_bytes())
    }
}

/// What GNU tar calls a sparse file for those who do not know such files.
fn sparse_path(path: &[u8]) -> Vec<u8> {
    let (dir, name) = match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&b"."[..], path),
    };
    [dir, b"/GNUSparseFile.0/", name].concat()
}

/// The map in front of a sparse file's data: the ranges that are stored, and where it ends.
pub fn sparse_map(data: &[(u64, u64)], size: u64) -> Vec<u8> {
    let end = data.last().map_or(0, |(_, end)| *end);
    // Without data at its end, an empty range says how long it is.
    let last = (end < size || data.is_empty()).then_some((size, size));
    let count = data.len() + usize::from(last.is_some());
    let mut map = format!("{count}\n").into_bytes();
    for (start, end) in data.iter().chain(&last) {
        map.extend(format!("{start}\n{}\n", end - start).bytes());
    }
    map.resize(map.len().next_multiple_of(BLOCK as usize), 0);
    map
}

/// Zeros up to the next block, behind `len` bytes.
pub(super) fn pad(out: &mut dyn Write, len: u64) -> io::Result<()> {
    let zeros = [0; BLOCK as usize];
    out.write_all(&zeros[..padding(len) as usize])
}

/// How many.
fn padding(len: u64) -> u64 {
    (BLOCK - len % BLOCK) % BLOCK
}

/// Appends `LENGTH KEY=VALUE` and a newline. The length counts its own digits.
fn record(records: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let digits = |len: usize| len.to_string().len();
    let mut len = rest + digits(rest);
    if digits(len) > digits(rest) {
        len = rest + digits(len);
    }
    records.extend(format!("{len} {key}=").bytes());
    records.extend(value);
    records.push(b'\n');
}

/// A decimal number of seconds, of which nanoseconds are added to whole ones.
fn time(seconds: i64, nanoseconds: u32) -> String {
    let (sign, whole, part) = match (seconds < 0, nanoseconds) {
        (true, 1..) => (
            "-",
            (seconds + 1).unsigned_abs(),
            1_000_000_000 - nanoseconds,
        ),
        (true, 0) => ("-", seconds.unsigned_abs(), 0),
        (false, _) => ("", seconds.unsigned_abs(), nanoseconds),
    };
    match part {
        0 => format!("{sign}{whole}"),
        _ => format!("{sign}{whole}.{part:09}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_count_their_own_digits() {
        for len in 0..1200 {
            let mut records = Vec::new();
            record(&mut records, "k", &vec![b'x'; len]);
            let text = String::from_utf8(records).unwrap();
            let (digits, _) = text.split_once(' ').unwrap();
            assert_eq!(digits.parse(), Ok(text.len()), "{len}");
        }
    }

    #[test]
    fn times_are_decimal() {
        for (time, is) in [
            ((0, 0), "0"),
            ((-5, 0), "-5"),
            ((-5, 7), "-4.999999993"),
            ((-1, 500_000_000), "-0.500000000"),
            ((1, 999_999_999), "1.999999999"),
            ((i64::MIN, 0), "-9223372036854775808"),
        ] {
            assert_eq!(super::time(time.0, time.1), is);
        }
    }

    #[test]
    fn maps_end_where_the_file_does() {
        let text = |map: Vec<u8>| {
            assert_eq!(map.len() % 512, 0);
            String::from_utf8(map)
                .unwrap()
                .trim_end_matches('\0')
                .to_owned()
        };
        assert_eq!(text(sparse_map(&[], 9)), "1\n9\n0\n");
        assert_eq!(text(sparse_map(&[(2, 5)], 9)), "2\n2\n3\n9\n0\n");
        assert_eq!(text(sparse_map(&[(0, 1), (4, 9)], 9)), "2\n0\n1\n4\n5\n");
    }
}
