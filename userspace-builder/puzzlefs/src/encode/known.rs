// SPDX-License-Identifier: Apache-2.0
//! What is known of chunks from earlier builds: how their content is stored. To look there, to
//! decompress and to compare takes a small part of the time that it takes to compress.
//!
//! That it is known is a hint only. What is stored is used if it is found to be the content.

use std::collections::HashMap;
use std::sync::Arc;

use puzzlefs_format::{Digest, Encoding, VERSION_LZ4};
use zstd::bulk::Decompressor;

use crate::chunks::codec::Codec;
use crate::chunks::places::Places;

/// How a chunk is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// Digest of the stored bytes.
    pub digest: Digest,
    /// Stored bytes.
    pub size: u64,
    /// What they are.
    pub codec: Codec,
}

/// Chunks of which is known how they are stored.
#[derive(Default)]
pub struct Known<'a> {
    /// By the digest of their content.
    pub forms: HashMap<Digest, Form>,
    /// Where to look for them; nowhere if nothing is known.
    pub places: Option<Arc<Places<'a>>>,
}

impl Known<'_> {
    /// How `data`, with the digest `content`, is stored, and the stored bytes; nothing for
    /// these if they are `data` itself.
    pub fn find(&self, content: &Digest, data: &[u8]) -> Option<(Form, Option<Vec<u8>>)> {
        let form = *self.forms.get(content)?;
        if form.codec == Codec::Raw {
            return (form.digest == *content).then_some((form, None));
        }
        let stored = self.places.as_ref()?.read(&form.digest).ok()?;
        let is_it = stored.len() as u64 == form.size
            && Codec::of(&stored, true) == form.codec
            && decode(&stored, data.len()).is_some_and(|found| found == data);
        is_it.then_some((form, Some(stored)))
    }
}

/// The content of a compressed chunk, if it has `len` bytes.
fn decode(stored: &[u8], len: usize) -> Option<Vec<u8>> {
    match Encoding::parse(stored, VERSION_LZ4).ok()? {
        // One after another, and the table is skipped.
        Encoding::Zstd(table) if table.decompressed_size() == len as u64 => {
            Decompressor::new().ok()?.decompress(stored, len).ok()
        }
        Encoding::Lz4(frame) if frame.decompressed_size() == len as u64 => {
            lz4::block::decompress(frame.block(), Some(i32::try_from(len).ok()?)).ok()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::digest::sha256;
    use crate::encode::compress::{Compression, Encoder};
    use crate::layout::staging::Staging;
    use crate::layout::Layout;

    /// What is said of a chunk is used if it is so, whoever says it.
    #[test]
    fn what_is_known_is_checked() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::open_or_create(dir.path()).unwrap();
        let staging = Staging::new(&layout).unwrap();
        let texts = [b"one text ".repeat(1000), b"another text ".repeat(1000)];
        for compression in [Compression::zstd(3), Compression::lz4(3)] {
            let mut encoder = Encoder::new(compression).unwrap();
            let forms = texts.each_ref().map(|text| {
                let (codec, stored) = encoder.encode(text).unwrap().unwrap();
                let (digest, size) = (sha256(&[&stored]), stored.len() as u64);
                staging.put(&digest, &stored).unwrap();
                Form {
                    digest,
                    size,
                    codec,
                }
            });
            staging.commit().unwrap();
            let [one, another] = forms;
            let (places, _) = Places::open(&layout, []);
            let places = Arc::new(places);
            let content = sha256(&[&texts[0]]);
            let size = one.size + 1;
            let codec = Codec::Raw;
            let gone = sha256(&[b"gone"]);
            for (form, is_it) in [
                (one, true),
                (another, false),
                (Form { size, ..one }, false),
                (Form { codec, ..one }, false),
                (
                    Form {
                        digest: gone,
                        ..one
                    },
                    false,
                ),
            ] {
                let known = Known {
                    forms: HashMap::from([(content, form)]),
                    places: Some(Arc::clone(&places)),
                };
                let found = known.find(&content, &texts[0]);
                assert_eq!(found.is_some(), is_it, "{form:?}");
                assert_eq!(known.find(&sha256(&[&texts[1]]), &texts[1]), None);
            }
        }
    }
}
