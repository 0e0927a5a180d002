// SPDX-License-Identifier: Apache-2.0
//! Output: reports as text or JSON.

use std::io::{self, Write};

use puzzlefs::base::text;
use serde::Serialize;

use super::args::Format;
use super::failure::{Failure, Result};
use super::out;

/// Prints a report as one JSON object, or by `print`. Nothing in it can hurt a
/// terminal.
pub fn report<T: Serialize>(
    format: Format,
    report: &T,
    print: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<()> {
    let shown = match format {
        Format::Json => {
            let shown = serde_json::to_string_pretty(report);
            text::json(&shown.map_err(puzzlefs::Error::from)?) + "\n"
        }
        Format::Text => {
            let mut shown = Vec::new();
            print(&mut shown).map_err(Failure::Output)?;
            text::plain(&String::from_utf8_lossy(&shown))
        }
    };
    out::write(|out| out.write_all(shown.as_bytes()).map_err(Failure::Output))
}

/// The same of work that was done, of which text is nothing to be said with --quiet.
pub fn done<T: Serialize>(
    format: Format,
    report: &T,
    print: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<()> {
    match format {
        Format::Text if out::is_quiet() => Ok(()),
        format => self::report(format, report, print),
    }
}

/// Bytes for people.
pub fn bytes(count: u64) -> String {
    let human = indicatif::HumanBytes(count).to_string();
    format!("{count} bytes ({human})")
}

/// Tags, which index.json may have chosen freely.
pub fn tags(tags: &[String]) -> String {
    let quoted = tags.iter().map(|tag| text::quoted(tag.as_bytes()));
    quoted.collect::<Vec<_>>().join(" ")
}
