// SPDX-License-Identifier: Apache-2.0
//! containerd's filters (its package filters): `labels."a.b"==c,kind==active`.

use std::iter::Peekable;
use std::str::Chars;

use regex::RegexBuilder;

use super::fault::{Fault, Result};
use super::record::Record;

/// Bytes of a compiled expression, at most.
const MAX_REGEX: usize = 1 << 20;

enum Test {
    Present,
    Equal(String),
    NotEqual(String),
    Matches(regex::Regex),
}

/// All of these are to hold.
pub(crate) struct Filter(Vec<(Vec<String>, Test)>);

impl Filter {
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |what: &str| Fault::invalid(format!("filter {text:?}: {what}"));
        let mut chars = text.chars().peekable();
        let mut tests = Vec::new();
        while chars.peek().is_some() {
            let mut path = vec![field(&mut chars).ok_or_else(|| wrong("expected a field"))?];
            while chars.next_if_eq(&'.').is_some() {
                path.push(field(&mut chars).ok_or_else(|| wrong("expected a field"))?);
            }
            let operator = chars.next_if(|c| "=!~".contains(*c));
            if operator.is_some() && chars.next() != Some('=') {
                return Err(wrong("expected ==, != or ~="));
            }
            let test = match operator {
                None => Test::Present,
                Some(operator) => {
                    let quotes = if operator == '~' { "\"/|" } else { "\"" };
                    let value =
                        value(&mut chars, quotes).ok_or_else(|| wrong("expected a value"))?;
                    match operator {
                        '=' => Test::Equal(value),
                        '!' => Test::NotEqual(value),
                        _ => {
                            let regex = RegexBuilder::new(&value).size_limit(MAX_REGEX).build();
                            Test::Matches(regex.map_err(|error| wrong(&error.to_string()))?)
                        }
                    }
                }
            };
            tests.push((path, test));
            match chars.next() {
                None => break,
                Some(',') if chars.peek().is_some() => {}
                Some(_) => return Err(wrong("unexpected input")),
            }
        }
        Ok(Filter(tests))
    }

    pub fn takes(&self, record: &Record) -> bool {
        self.0.iter().all(|(path, test)| {
            let found = of(record, path);
            let value = found.unwrap_or_default();
            match test {
                Test::Present => found.is_some(),
                Test::Equal(wanted) => found.is_some() && value == wanted,
                Test::NotEqual(wanted) => value != wanted,
                Test::Matches(regex) => regex.is_match(value),
            }
        })
    }
}

fn of<'a>(record: &'a Record, path: &[String]) -> Option<&'a str> {
    match (path.first()?.as_str(), &path[1..]) {
        ("name", []) => Some(&record.name),
        ("parent", []) => Some(&record.parent),
        ("kind", []) => Some(record.kind.name()),
        ("labels", rest) if !rest.is_empty() => {
            record.labels.get(&rest.join(".")).map(String::as_str)
        }
        _ => None,
    }
}

fn field(chars: &mut Peekable<Chars<'_>>) -> Option<String> {
    if chars.peek() == Some(&'"') {
        return quoted(chars);
    }
    let mut text = String::new();
    while let Some(c) = chars.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
        text.push(c);
    }
    (!text.is_empty()).then_some(text)
}

fn value(chars: &mut Peekable<Chars<'_>>, quotes: &str) -> Option<String> {
    if chars.peek().is_some_and(|c| quotes.contains(*c)) {
        return quoted(chars);
    }
    let mut text = String::new();
    while let Some(c) = chars.next_if(|c| !c.is_whitespace() && *c != ',') {
        text.push(c);
    }
    (!text.is_empty()).then_some(text)
}

/// A text in quotation marks, as Go writes it.
fn quoted(chars: &mut Peekable<Chars<'_>>) -> Option<String> {
    let quote = chars.next()?;
    let mut text = String::new();
    loop {
        match chars.next()? {
            c if c == quote => return Some(text),
            '\\' if quote == '"' => text.push(escaped(chars)?),
            // Of an expression only the mark itself is escaped.
            '\\' => match chars.next()? {
                c if c == quote => text.push(c),
                c => text.extend(['\\', c]),
            },
            c => text.push(c),
        }
    }
}

fn escaped(chars: &mut Peekable<Chars<'_>>) -> Option<char> {
    let number = |chars: &mut Peekable<Chars<'_>>, digits: usize| {
        let text: String = chars.take(digits).collect();
        let is_whole = text.len() == digits && text.bytes().all(|c| c.is_ascii_hexdigit());
        let number = u32::from_str_radix(&text, 16).ok().filter(|_| is_whole);
        number.and_then(char::from_u32)
    };
    match chars.next()? {
        'a' => Some('\u{7}'),
        'b' => Some('\u{8}'),
        'f' => Some('\u{c}'),
        'n' => Some('\n'),
        'r' => Some('\r'),
        't' => Some('\t'),
        'v' => Some('\u{b}'),
        'x' => number(chars, 2),
        'u' => number(chars, 4),
        'U' => number(chars, 8),
        c @ ('\\' | '"' | '\'') => Some(c),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::{Kind, Time};
    use super::*;

    #[test]
    fn filters_are_containerds() {
        let at = Time {
            seconds: 0,
            nanos: 0,
        };
        let record = Record {
            name: "k8s.io/1/a b".into(),
            parent: String::new(),
            kind: Kind::Committed,
            created: at,
            updated: at,
            labels: [("containerd.io/snapshot.ref".into(), "sha256:12".into())].into(),
            usage: Default::default(),
            image: None,
        };
        for (text, wanted) in [
            ("", true),
            (
                "labels.\"containerd.io/snapshot.ref\"==sha256:12,parent==\"\"",
                true,
            ),
            (
                "labels.\"containerd.io/snapshot.ref\"==sha256:13,parent==\"\"",
                false,
            ),
            ("labels.\"containerd.io/snapshot.ref\"", true),
            ("labels.other", false),
            ("labels", false),
            ("labels.other!=x", true),
            ("kind==committed", true),
            ("kind!=committed", false),
            ("name==\"k8s.io/1/a b\"", true),
            ("name==\"k8s.io\\x2f1/a\\u0020b\"", true),
            ("name~=/^k8s\\.io\\/[0-9]/", true),
            ("name~=|^other|", false),
            ("kind==committed,name==x", false),
            ("other==x", false),
        ] {
            let filter = Filter::parse(text).unwrap_or_else(|fault| panic!("{fault:?}"));
            assert_eq!(filter.takes(&record), wanted, "{text}");
        }
        for text in [
            "=",
            "a=",
            "a=b",
            "a==",
            "a==b,",
            "a==b c",
            ",",
            "\"",
            "a==\"\\q\"",
            "a~=(",
            "a..b",
            "a!b",
        ] {
            assert!(Filter::parse(text).is_err(), "{text}");
        }
    }
}
