// SPDX-License-Identifier: Apache-2.0
//! The tar in a layer's blob. What compressed it is told by the first bytes: media types are
//! wrong in some images, and files have none.

use std::io::{BufReader, Cursor, Read};

use anyhow::Result;
use liblzma::stream::{Stream, CONCATENATED};

const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
const XZ: &[u8] = &[0xfd, b'7', b'z', b'X', b'Z', 0];
/// Bytes that are read from a blob at once.
const BUFFER: usize = 128 << 10;
/// Memory that a decoder may take, in bytes, whatever the blob says: that of `xz -9` and of
/// `zstd --ultra -22`, which no decoder for containers needs more than.
const XZ_MEMORY: u64 = 100 << 20;
const ZSTD_WINDOW_LOG: u32 = 27;

/// What is in `blob`: of all members and frames, as one.
///
/// # Errors
///
/// If its first bytes cannot be read, or no decoder can be had.
pub fn decode<'a>(mut blob: impl Read + 'a) -> Result<Box<dyn Read + 'a>> {
    let mut begin = Vec::new();
    blob.by_ref()
        .take(XZ.len() as u64)
        .read_to_end(&mut begin)?;
    let blob = Cursor::new(begin.clone()).chain(blob);
    let blob = BufReader::with_capacity(BUFFER, blob);
    Ok(if begin.starts_with(GZIP) {
        Box::new(flate2::bufread::MultiGzDecoder::new(blob))
    } else if begin.starts_with(ZSTD) || is_skippable(&begin) {
        let mut decoder = zstd::Decoder::with_buffer(blob)?;
        decoder.window_log_max(ZSTD_WINDOW_LOG)?;
        Box::new(decoder)
    } else if begin.starts_with(XZ) {
        let stream = Stream::new_stream_decoder(XZ_MEMORY, CONCATENATED)?;
        Box::new(liblzma::bufread::XzDecoder::new_stream(blob, stream))
    } else {
        Box::new(blob)
    })
}

/// Whether a skippable frame of zstd begins (RFC 8878, 3.1.2).
fn is_skippable(begin: &[u8]) -> bool {
    matches!(begin, [low, 0x2a, 0x4d, 0x18, ..] if low & 0xf0 == 0x50)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn decoded(blob: &[u8]) -> Vec<u8> {
        let mut text = Vec::new();
        decode(blob).unwrap().read_to_end(&mut text).unwrap();
        text
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        out.write_all(text).unwrap();
        out.finish().unwrap()
    }

    /// The second of two is not left out, and what is between frames is nothing.
    #[test]
    fn all_members_and_frames_count() {
        assert_eq!(decoded(b"plain"), b"plain");
        assert_eq!(decoded(b""), b"");
        assert_eq!(decoded(b"a"), b"a");
        assert_eq!(decoded(&[gzip(b"one "), gzip(b"two")].concat()), b"one two");
        let zstd = |text: &[u8]| zstd::encode_all(text, 1).unwrap();
        let skippable = b"\x5e\x2a\x4d\x18\x04\0\0\0none";
        let frames = [&zstd(b"one ")[..], skippable, &zstd(b"two")[..], skippable];
        assert_eq!(decoded(&frames.concat()), b"one two");
        let frames = [skippable, &zstd(b"two")[..]];
        assert_eq!(decoded(&frames.concat()), b"two");
        let xz = |text: &[u8]| {
            let mut out = liblzma::write::XzEncoder::new(Vec::new(), 1);
            out.write_all(text).unwrap();
            out.finish().unwrap()
        };
        assert_eq!(decoded(&[xz(b"one "), xz(b"two")].concat()), b"one two");
    }

    #[test]
    fn one_that_is_cut_is_an_error() {
        let whole = gzip(&[7; 5000]);
        let read = |blob: &[u8]| decode(blob).unwrap().read_to_end(&mut Vec::new());
        assert!(read(&whole).is_ok());
        for len in [whole.len() - 1, whole.len() / 2, 3] {
            assert!(read(&whole[..len]).is_err(), "{len}");
        }
    }
}
