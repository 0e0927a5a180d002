// SPDX-License-Identifier: Apache-2.0
//! Text that an image, a layout or a registry has chosen: names, tags, media types. What
//! makes a terminal do something, or a line read as another one, never leaves the command as it is.

use std::fmt::Write;
use std::path::Path;

use std::os::unix::ffi::OsStrExt;

/// Whether a terminal does something else with `c` than to show it: controls, also those of
/// U+0080 to U+009F, marks that turn the direction of what follows, separators of lines.
pub fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Whether something in `text` does.
pub fn is_harmful_in(text: &str) -> bool {
    text.chars().any(is_harmful)
}

/// A name, with all that is harmful escaped, and what is not UTF-8: `\n`, `\t`, `\r`; a byte
/// that is no text by itself or a control of ASCII as `\x9b`; another character as `\u{202e}`;
/// and a backslash as two. So no two names look alike by their escapes.
pub fn quoted(name: &[u8]) -> String {
    let mut out = String::with_capacity(name.len());
    if name.iter().all(|b| matches!(b, b' '..=b'~') && *b != b'\\') {
        out.extend(name.iter().map(|b| char::from(*b)));
        return out;
    }
    for part in name.utf8_chunks() {
        for c in part.valid().chars() {
            match c {
                '\\' => out += "\\\\",
                c => push(&mut out, c),
            }
        }
        for byte in part.invalid() {
            // A String takes all.
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

/// The same of a path.
pub fn path(path: &Path) -> String {
    quoted(path.as_os_str().as_bytes())
}

/// Lines of our own, in which some of an image may be: all that is harmful is escaped, but for
/// the ends of lines.
pub fn plain(text: &str) -> String {
    let lines: Vec<String> = text.split('\n').map(line).collect();
    lines.join("\n")
}

/// One such line.
pub fn line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    text.chars().for_each(|c| push(&mut out, c));
    out
}

/// JSON in which harmful characters are `\u` escapes. They stand in strings only, where
/// [`serde_json`] has escaped those below U+0020.
pub fn json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            // All are in the basic plane.
            c if is_harmful(c) && c >= ' ' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

fn push(out: &mut String, c: char) {
    match c {
        '\n' => *out += "\\n",
        '\t' => *out += "\\t",
        '\r' => *out += "\\r",
        c if c.is_ascii_control() => {
            let _ = write!(out, "\\x{:02x}", u32::from(c));
        }
        c if is_harmful(c) => {
            let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
        }
        c => out.push(c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_names_look_alike() {
        for (name, shown) in [
            (&b"plain \xc3\xa9"[..], "plain \u{e9}"),
            (b"\x1b[31m\x07\x7f", "\\x1b[31m\\x07\\x7f"),
            (b"a\nb\tc\rd\\n", "a\\nb\\tc\\rd\\\\n"),
            // A C1 control as a character, and as a byte that is none.
            (b"\xc2\x9b", "\\u{9b}"),
            (b"\x9b", "\\x9b"),
            (b"\xff", "\\xff"),
            (
                "\u{202e}\u{2066}\u{200f}\u{61c}\u{2028}".as_bytes(),
                "\\u{202e}\\u{2066}\\u{200f}\\u{61c}\\u{2028}",
            ),
        ] {
            assert_eq!(quoted(name), shown);
            // What has been escaped stays so.
            assert_eq!(plain(shown), shown);
        }
        assert_eq!(plain("a\x1b\n\u{202e}\\"), "a\\x1b\n\\u{202e}\\");
    }

    #[test]
    fn json_stays_json() {
        let value = "\u{9b}\u{202e}\x7f\x1b\"\\\n\u{2028}\u{e9}";
        let text = json(&serde_json::to_string(value).unwrap());
        assert!(!text.chars().any(is_harmful), "{text}");
        assert_eq!(serde_json::from_str::<String>(&text).unwrap(), value);
    }
}
