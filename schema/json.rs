// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0

//! A JSON reader (RFC 8259) that borrows, does not recurse, and takes one pass.

use crate::{limits, Error};
use core::fmt;

/// A JSON string where it stands, escapes and all; well-formed. Comparisons and
/// [`chars`](Self::chars) see what it means.
#[derive(Clone, Copy)]
pub struct Str<'a> {
    /// What stands between the quotes.
    raw: &'a str,
    /// Whether there are escapes in it: there are none in almost every string.
    escaped: bool,
}

impl<'a> Str<'a> {
    /// Its characters.
    pub fn chars(self) -> impl Iterator<Item = char> + 'a {
        let mut rest = self.raw.chars();
        core::iter::from_fn(move || match rest.next()? {
            '\\' => unescape(&mut rest),
            plain => Some(plain),
        })
    }

    /// Its characters as ASCII, written to `buffer`; `None` if one is not ASCII or there
    /// are more than fit.
    pub(crate) fn ascii(self, buffer: &mut [u8]) -> Option<&[u8]> {
        if !self.escaped {
            let bytes = buffer.get_mut(..self.raw.len())?;
            bytes.copy_from_slice(self.raw.as_bytes());
            return bytes.is_ascii().then_some(bytes);
        }
        let mut len: usize = 0;
        for c in self.chars() {
            *buffer.get_mut(len)? = u8::try_from(c).ok().filter(u8::is_ascii)?;
            len = len.checked_add(1)?;
        }
        buffer.get(..len)
    }
}

impl PartialEq<str> for Str<'_> {
    fn eq(&self, other: &str) -> bool {
        match self.escaped {
            true => self.chars().eq(other.chars()),
            false => self.raw == other,
        }
    }
}

impl PartialEq<&str> for Str<'_> {
    fn eq(&self, other: &&str) -> bool {
        *self == **other
    }
}

impl fmt::Display for Str<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.chars().try_for_each(|c| fmt::Write::write_char(f, c))
    }
}

impl fmt::Debug for Str<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.raw)
    }
}

/// The character that an escape means; `rest` stands behind its backslash. `None`
/// if there is no such escape.
fn unescape(rest: &mut core::str::Chars<'_>) -> Option<char> {
    Some(match rest.next()? {
        c @ ('"' | '\\' | '/') => c,
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'u' => {
            let first = unescape_unit(rest)?;
            let units = if (0xd800..0xdc00).contains(&first) {
                // Half of a pair: the other half is the next escape.
                if (rest.next()?, rest.next()?) != ('\\', 'u') {
                    return None;
                }
                [Some(first), Some(unescape_unit(rest)?)]
            } else {
                [Some(first), None]
            };
            char::decode_utf16(units.into_iter().flatten())
                .next()?
                .ok()?
        }
        _ => return None,
    })
}

/// The UTF-16 code unit in four hexadecimal digits.
fn unescape_unit(rest: &mut core::str::Chars<'_>) -> Option<u16> {
    (0..4).try_fold(0u16, |unit, _| {
        let digit = rest.next()?.to_digit(16)?;
        unit.checked_mul(16)?
            .checked_add(u16::try_from(digit).ok()?)
    })
}

/// What is open around a value: a bit for each object (1) or array (0).
#[derive(Default)]
struct Nesting {
    bits: u64,
    depth: u32,
}

impl Nesting {
    fn push(&mut self, is_object: bool) -> Result<(), Error> {
        if self.depth >= limits::MAX_JSON_DEPTH {
            return Err(Error::LimitExceeded);
        }
        self.depth = self.depth.saturating_add(1);
        self.bits = (self.bits << 1) | u64::from(is_object);
        Ok(())
    }

    fn pop(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        self.bits >>= 1;
    }

    /// Whether the innermost is an object; `None` at the outermost level.
    fn in_object(&self) -> Option<bool> {
        (self.depth > 0).then_some(self.bits & 1 != 0)
    }
}

/// Reads one JSON text from its begin to its end.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Result<Self, Error> {
        let text = core::str::from_utf8(bytes).map_err(|_| Error::BadJson)?;
        Ok(Self { text, at: 0 })
    }

    /// The next byte, white space or not.
    fn next_byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn advance(&mut self) {
        self.at = self.at.saturating_add(1);
    }

    /// The next byte that is not white space.
    fn peek(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.next_byte() {
            self.advance();
        }
        self.next_byte()
    }

    /// Takes `byte` if it is the next one that is not white space.
    pub(crate) fn eat(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        if is_next {
            self.advance();
        }
        is_next
    }

    /// Whether an object comes next.
    pub(crate) fn is_at_object(&mut self) -> bool {
        self.peek() == Some(b'{')
    }

    pub(crate) fn require(&mut self, byte: u8) -> Result<(), Error> {
        self.eat(byte).then_some(()).ok_or(Error::BadJson)
    }

    /// Checks that only white space is left.
    pub(crate) fn end(mut self) -> Result<(), Error> {
        self.peek().map_or(Ok(()), |_| Err(Error::BadJson))
    }

    /// Reads an object: calls `member` behind each key to read the value.
    pub(crate) fn object(
        &mut self,
        mut member: impl FnMut(&mut Self, Str<'a>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.require(b'{')?;
        if self.eat(b'}') {
            return Ok(());
        }
        loop {
            let key = self.key()?;
            member(self, key)?;
            if !self.eat(b',') {
                return self.require(b'}');
            }
        }
    }

    /// Reads an array: calls `element` to read each.
    pub(crate) fn array(
        &mut self,
        mut element: impl FnMut(&mut Self) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.require(b'[')?;
        if self.eat(b']') {
            return Ok(());
        }
        loop {
            element(self)?;
            if !self.eat(b',') {
                return self.require(b']');
            }
        }
    }

    /// Reads a key and its colon.
    fn key(&mut self) -> Result<Str<'a>, Error> {
        let key = self.string()?;
        self.require(b':')?;
        Ok(key)
    }

    pub(crate) fn string(&mut self) -> Result<Str<'a>, Error> {
        self.require(b'"')?;
        let rest = self.text.get(self.at..).ok_or(Error::BadJson)?;
        let (mut len, mut escaped) = (0usize, false);
        // Byte by byte: what matters is ASCII, which no other character has in it.
        let matters = |byte: &&u8| matches!(**byte, b'"' | b'\\' | 0..0x20);
        loop {
            let mut ahead = rest.as_bytes().get(len..).ok_or(Error::BadJson)?.iter();
            let found = ahead.find(matters).ok_or(Error::BadJson)?;
            // Where it was found: not by `position`, which the compiler takes to overflow at times.
            let behind = rest.len().saturating_sub(ahead.len());
            len = behind.saturating_sub(1);
            match found {
                b'"' => {
                    self.at = self.at.saturating_add(behind);
                    let raw = rest.get(..len).ok_or(Error::BadJson)?;
                    return Ok(Str { raw, escaped });
                }
                b'\\' => {
                    let mut chars = rest.get(behind..).ok_or(Error::BadJson)?.chars();
                    unescape(&mut chars).ok_or(Error::BadJson)?;
                    len = rest.len().saturating_sub(chars.as_str().len());
                    escaped = true;
                }
                _ => return Err(Error::BadJson),
            }
        }
    }

    /// Reads a number that is a whole one, written without fraction or exponent.
    pub(crate) fn u64(&mut self) -> Result<u64, Error> {
        self.peek();
        let start = self.at;
        self.number()?;
        let digits = self.text.get(start..self.at).ok_or(Error::BadJson)?;
        // Not `str::parse`: it can panic, as far as the compiler knows.
        digits.bytes().try_fold(0u64, |number, digit| {
            let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10);
            let digit = digit.ok_or(Error::BadManifest)?;
            let number = number.checked_mul(10).ok_or(Error::BadManifest)?;
            number.checked_add(digit.into()).ok_or(Error::BadManifest)
        })
    }

    /// Reads a value of any kind for its form only.
    pub(crate) fn skip_value(&mut self) -> Result<(), Error> {
        let mut nesting = Nesting::default();
        loop {
            // A value begins.
            match self.peek() {
                Some(b'{') => {
                    self.advance();
                    if !self.eat(b'}') {
                        nesting.push(true)?;
                        self.key()?;
                        continue;
                    }
                }
                Some(b'[') => {
                    self.advance();
                    if !self.eat(b']') {
                        nesting.push(false)?;
                        continue;
                    }
                }
                Some(b'"') => {
                    self.string()?;
                }
                Some(b'-' | b'0'..=b'9') => self.number()?,
                _ => self.literal()?,
            }
            // A value has ended, and with it perhaps what is around it.
            loop {
                let Some(in_object) = nesting.in_object() else {
                    return Ok(());
                };
                if self.eat(b',') {
                    if in_object {
                        self.key()?;
                    }
                    break;
                }
                self.require(if in_object { b'}' } else { b']' })?;
                nesting.pop();
            }
        }
    }

    fn literal(&mut self) -> Result<(), Error> {
        let rest = self.text.get(self.at..).ok_or(Error::BadJson)?;
        let literal = ["true", "false", "null"]
            .into_iter()
            .find(|l| rest.starts_with(l));
        self.at = self.at.saturating_add(literal.ok_or(Error::BadJson)?.len());
        Ok(())
    }

    fn number(&mut self) -> Result<(), Error> {
        self.eat_raw(b"-");
        if !self.eat_raw(b"0") {
            self.digits()?;
        }
        if self.eat_raw(b".") {
            self.digits()?;
        }
        if self.eat_raw(b"eE") {
            self.eat_raw(b"+-");
            self.digits()?;
        }
        Ok(())
    }

    /// One digit or more.
    fn digits(&mut self) -> Result<(), Error> {
        let start = self.at;
        while self.eat_raw(b"0123456789") {}
        if self.at == start {
            return Err(Error::BadJson);
        }
        Ok(())
    }

    /// Takes the next byte if it is one of `set`.
    fn eat_raw(&mut self, set: &[u8]) -> bool {
        let is_next = self.next_byte().is_some_and(|byte| set.contains(&byte));
        if is_next {
            self.advance();
        }
        is_next
    }
}
