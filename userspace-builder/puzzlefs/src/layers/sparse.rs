// SPDX-License-Identifier: Apache-2.0
//! Which parts of a sparse file a tar holds (GNU tar manual, "Storing Sparse Files": the old
//! format, and PAX 0.0, 0.1 and 1.0).

use std::io::Read;

use anyhow::{ensure, Context, Result};
use tar::GnuSparseHeader;

use super::fields::number;

/// Parts of a file, at most: their list takes 16 MiB then.
const MAX_PARTS: usize = 1 << 20;
/// Bytes of a line of a map in format 1.0, at most: a number of 64 bits.
const MAX_LINE: usize = 20;
const BLOCK: u64 = 512;

/// The parts that are stored, each by its offset in the file and its length, in bytes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Map(pub Vec<(u64, u64)>);

impl Map {
    fn push(&mut self, offset: u64, len: u64) -> Result<()> {
        ensure!(self.0.len() < MAX_PARTS, "more than {MAX_PARTS} parts");
        self.0.push((offset, len));
        Ok(())
    }

    /// Adds the parts of a header in the old format. An entry of zeros ends the list.
    pub fn push_old(&mut self, parts: &[GnuSparseHeader]) -> Result<()> {
        for part in parts {
            let unsigned = |field| Ok::<_, anyhow::Error>(u64::try_from(number(field)?)?);
            if part.offset[0] == 0 && part.numbytes[0] == 0 {
                break;
            }
            self.push(unsigned(&part.offset)?, unsigned(&part.numbytes)?)?;
        }
        Ok(())
    }

    /// The parts that PAX records hold (formats 0.0 and 0.1), and the file's size.
    pub fn of_records(records: &[(String, Vec<u8>)]) -> Result<(Self, u64)> {
        let (mut map, mut offset) = (Map::default(), None);
        let mut size = None;
        for (key, value) in records {
            let text = std::str::from_utf8(value)?;
            match key.as_str() {
                "size" | "realsize" => size = Some(text.parse()?),
                "offset" => offset = Some(text.parse()?),
                "numbytes" => map.push(offset.take().context("no offset")?, text.parse()?)?,
                "map" => {
                    let mut numbers = text.split(',').map(str::parse);
                    while let Some(offset) = numbers.next() {
                        map.push(
                            offset?,
                            numbers.next().context("an odd number of numbers")??,
                        )?;
                    }
                }
                _ => {}
            }
        }
        Ok((map, size.context("no size")?))
    }

    /// Reads the map in front of a file's data (format 1.0). Returns how many bytes it has.
    pub fn read(data: &mut impl Read) -> Result<(Self, u64)> {
        let (mut map, mut data) = (Map::default(), Lines { data, read: 0 });
        let parts = data.number()?;
        for _ in 0..parts {
            map.push(data.number()?, data.number()?)?;
        }
        let read = data.read;
        let padding = read.next_multiple_of(BLOCK) - read;
        let mut zeros = [0; BLOCK as usize];
        data.data.read_exact(&mut zeros[..padding as usize])?;
        Ok((map, read + padding))
    }

    /// Checks that the parts follow each other within a file of `size` bytes, and that they are
    /// those of which `stored` bytes are there.
    pub fn check(&self, size: u64, stored: u64) -> Result<()> {
        let (mut end, mut sum) = (0u64, 0u64);
        for (offset, len) in &self.0 {
            ensure!(*offset >= end, "parts that are not in order");
            end = offset.checked_add(*len).context("a part beyond the end")?;
            // At most `end`.
            sum += len;
        }
        ensure!(end <= size, "a part beyond the end");
        ensure!(
            sum == stored,
            "parts of {sum} bytes, of which {stored} are there"
        );
        Ok(())
    }
}

/// Decimal numbers, each in a line.
struct Lines<'a, R> {
    data: &'a mut R,
    read: u64,
}

impl<R: Read> Lines<'_, R> {
    fn number(&mut self) -> Result<u64> {
        let mut line = Vec::new();
        loop {
            let mut byte = [0];
            self.data.read_exact(&mut byte)?;
            self.read += 1;
            match byte {
                [b'\n'] => break,
                [byte] => line.push(byte),
            }
            ensure!(line.len() <= MAX_LINE, "no map of a sparse file");
        }
        Ok(std::str::from_utf8(&line)?.parse()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_read_in_each_form() {
        let records = |list: &[(&str, &str)]| {
            let list = list
                .iter()
                .map(|(key, value)| (key.to_string(), value.as_bytes().to_vec()));
            Map::of_records(&list.collect::<Vec<_>>())
        };
        let is = Map(vec![(0, 5), (4096, 10)]);
        let list = [
            ("size", "9999"),
            ("numblocks", "2"),
            ("offset", "0"),
            ("numbytes", "5"),
        ];
        let more = [("offset", "4096"), ("numbytes", "10")];
        assert_eq!(
            records(&[&list[..], &more].concat()).unwrap(),
            (Map(is.0.clone()), 9999)
        );
        let list = [("map", "0,5,4096,10"), ("size", "9999"), ("name", "x")];
        assert_eq!(records(&list).unwrap(), (Map(is.0.clone()), 9999));
        for bad in ["1", "1,", "1,2,3", "x", "1,-1"] {
            assert!(records(&[("map", bad), ("size", "9")]).is_err(), "{bad}");
        }
        let mut data = b"2\n0\n5\n4096\n10\n".to_vec();
        data.resize(512, 0);
        data.extend(b"rest");
        let mut data = &data[..];
        assert_eq!(Map::read(&mut data).unwrap(), (is, 512));
        assert_eq!(data, b"rest");
        assert!(Map::read(&mut &[b'1'; 512][..]).is_err());
    }

    #[test]
    fn parts_are_in_order_and_all_there() {
        let check = |parts: &[(u64, u64)], size, stored| Map(parts.to_vec()).check(size, stored);
        assert!(check(&[(0, 5), (5, 5), (20, 0)], 20, 10).is_ok());
        assert!(check(&[(0, 5), (4, 5)], 20, 10).is_err());
        assert!(check(&[(0, 5), (19, 2)], 20, 7).is_err());
        assert!(check(&[(0, 5)], 20, 6).is_err());
        assert!(check(&[(u64::MAX, 2)], u64::MAX, 2).is_err());
    }
}
