// SPDX-License-Identifier: Apache-2.0
//! What the runtime has mounted into a container: /proc, /dev, volumes, /etc/hosts and the like. All of that is the
//! runtime's, and stays as it is.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::base::error::{Result, Where};

const TABLE: &str = "/proc/self/mountinfo";

/// Where something is mounted, as paths from the root without a slash before them, each once, in ascending order. The
/// root itself is not among them.
///
/// # Errors
///
/// If /proc is not there.
pub fn points() -> Result<Vec<PathBuf>> {
    let table = Path::new(TABLE);
    let text = std::fs::read(table).context(TABLE).at(table)?;
    Ok(parse(&text))
}

/// The same of a table (proc_pid_mountinfo(5)). What is no line of one is left out.
pub fn parse(table: &[u8]) -> Vec<PathBuf> {
    let lines = table.split(|b| *b == b'\n');
    let fields = lines.filter_map(|line| line.split(|b| *b == b' ').nth(4));
    let points = fields.filter_map(|field| {
        let point = PathBuf::from(OsString::from_vec(unescaped(field)));
        let point = point.strip_prefix("/").ok()?.to_owned();
        (!point.as_os_str().is_empty()).then_some(point)
    });
    let mut points: Vec<PathBuf> = points.collect();
    points.sort_unstable();
    points.dedup();
    points
}

/// Those of `points`, which are in ascending order, that are below no other one.
pub fn outermost(points: &[PathBuf]) -> Vec<&Path> {
    let mut outermost: Vec<&Path> = Vec::new();
    for point in points {
        // Paths are ordered by their names: what is below one follows it.
        if !outermost.last().is_some_and(|last| point.starts_with(last)) {
            outermost.push(point);
        }
    }
    outermost
}

/// Whether the root may not be written to.
///
/// # Errors
///
/// If /proc is not there.
pub fn is_read_only() -> Result<bool> {
    let table = Path::new(TABLE);
    let text = std::fs::read(table).context(TABLE).at(table)?;
    Ok(has_read_only_root(&text))
}

fn has_read_only_root(table: &[u8]) -> bool {
    let lines = table.split(|b| *b == b'\n');
    let fields = lines.map(|line| line.split(|b| *b == b' ').collect::<Vec<_>>());
    let roots = fields.filter(|fields| fields.get(4) == Some(&&b"/"[..]));
    // The last one is on top.
    let options = roots.last().and_then(|fields| fields.get(5).copied());
    options.is_some_and(|options| options.split(|b| *b == b',').any(|it| it == b"ro"))
}

/// Spaces, tabs, newlines and backslashes are written as a backslash and three octal digits.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, behind)) = rest.split_first() {
        let escaped = behind.get(..3).filter(|_| *first == b'\\');
        let escaped = escaped.and_then(|digits| std::str::from_utf8(digits).ok());
        match escaped.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &behind[3..];
            }
            None => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    #[test]
    fn mount_points_are_found() {
        let table = b"\
            594 510 0:50 / / rw,relatime - overlay overlay rw,lowerdir=/l/A:/l/B,upperdir=/u,workdir=/w\n\
            595 594 0:53 / /proc rw,nosuid - proc proc rw\n\
            601 594 0:25 /containers/x/hosts /etc/hosts rw master:9 shared:7 - tmpfs tmpfs rw\n\
            602 594 8:1 /v/data /srv/a\\040b\\134c rw,nosuid - ext4 /dev/vda1 rw\n\
            603 602 8:1 /v/more /srv/a\\040b\\134c rw,nosuid - ext4 /dev/vda1 rw\n\
            604 595 0:5 /null /proc/kcore ro - devtmpfs devtmpfs rw\n\
            605 594 8:1 /\xff /\xff\\99 rw - ext4 /dev/vda1 rw\n\
            606 594 8:1 / relative rw - ext4 x rw\n\
            short line\n\n";
        let found = parse(table);
        let found: Vec<&[u8]> = found.iter().map(|it| it.as_os_str().as_bytes()).collect();
        let is: [&[u8]; 5] = [
            b"etc/hosts",
            b"proc",
            b"proc/kcore",
            b"srv/a b\\c",
            b"\xff\\99",
        ];
        assert_eq!(found, is);
        assert!(!has_read_only_root(table) && !has_read_only_root(b""));
        let read_only = b"1 0 0:5 / / rw - overlay o rw\n2 1 0:5 / / noatime,ro - overlay o rw\n3 1 0:6 / /x rw - x x ro";
        assert!(has_read_only_root(read_only));
        assert!(points().unwrap().contains(&PathBuf::from("proc")));
        assert_eq!(unescaped(b"\\0401\\04\\777\\"), b" 1\\04\\777\\");
        let points = ["a", "a/b", "a/b/c", "a-b", "ab", "b/c", "b/d"].map(PathBuf::from);
        let mut points = points.to_vec();
        points.sort_unstable();
        let outermost: Vec<_> = outermost(&points)
            .iter()
            .map(|it| it.display().to_string())
            .collect();
        assert_eq!(outermost, ["a", "a-b", "ab", "b/c", "b/d"]);
        assert_eq!(OsStr::from_bytes(&unescaped(b"\\012")), "\n");
    }
}
