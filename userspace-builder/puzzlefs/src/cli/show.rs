// SPDX-License-Identifier: Apache-2.0
//! Output: reports as text or JSON, names that cannot hurt a terminal.

use std::io::{self, Write};

use anyhow::Result;
use serde::Serialize;

use super::args::Format;

/// Prints a report as one JSON object, or by `text`.
pub fn report<T: Serialize>(
    format: Format,
    report: &T,
    text: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<()> {
    let mut out = io::stdout().lock();
    match format {
        Format::Json => {
            serde_json::to_writer_pretty(&mut out, report)?;
            writeln!(out)?;
        }
        Format::Text => text(&mut out)?,
    }
    Ok(out.flush()?)
}

/// Bytes for people.
pub fn bytes(count: u64) -> String {
    let human = indicatif::HumanBytes(count).to_string();
    format!("{count} bytes ({human})")
}

/// A name from an image, with all that is not printable escaped.
pub fn name(bytes: &[u8]) -> String {
    let mut out = String::new();
    for part in bytes.utf8_chunks() {
        for c in part.valid().chars() {
            match c {
                '\\' => out += "\\\\",
                c if c.is_control() => out.extend(c.escape_default()),
                c => out.push(c),
            }
        }
        for byte in part.invalid() {
            out += &format!("\\x{byte:02x}");
        }
    }
    out
}
