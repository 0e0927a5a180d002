// SPDX-License-Identifier: Apache-2.0
//! Blobs that are checked while they are read.

use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::Arc;

use puzzlefs_format::Digest;

use crate::base::digest::Hashing;

/// A blob. If it must have a digest, and has another one, its end is an error: so whoever reads all of it
/// has what was asked for.
pub struct Checked {
    blob: Box<dyn Read>,
    /// Until the end has come.
    hash: Option<(Hashing<io::Sink>, Digest)>,
    ended: Option<Arc<AtomicU32>>,
}

impl Checked {
    /// What `blob` gives, which must have `digest` if there is one.
    pub fn new(blob: impl Read + 'static, digest: Option<Digest>) -> Self {
        Checked {
            blob: Box::new(blob),
            hash: digest.map(|digest| (Hashing::new(io::sink()), digest)),
            ended: None,
        }
    }

    /// Adds one to `ended` once all of it was read, and has the digest.
    pub fn count(&mut self, ended: &Arc<AtomicU32>) {
        self.ended = Some(ended.clone());
    }
}

impl Read for Checked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.blob.read(buffer)?;
        if let Some((hash, _)) = &mut self.hash {
            hash.write_all(&buffer[..read])?;
        }
        if read > 0 || buffer.is_empty() {
            return Ok(read);
        }
        if let Some((hash, digest)) = self.hash.take() {
            let found = hash.finish().1.digest;
            if found != digest {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("its content has the digest sha256:{found}: copy the image again"),
                ));
            }
        }
        if let Some(ended) = self.ended.take() {
            ended.fetch_add(1, Ordering::Relaxed);
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::digest::sha256;

    #[test]
    fn the_end_tells() {
        let text = vec![7u8; 100_000];
        let read = |text: &[u8], digest| {
            let ended = Arc::new(AtomicU32::new(0));
            let mut blob = Checked::new(io::Cursor::new(text.to_vec()), digest);
            blob.count(&ended);
            let read = blob.read_to_end(&mut Vec::new());
            (read.is_ok(), ended.load(Ordering::Relaxed))
        };
        let digest = Some(sha256(&[&text]));
        assert_eq!(read(&text, digest), (true, 1));
        assert_eq!(read(&text, None), (true, 1));
        assert_eq!(read(&text[1..], digest), (false, 0));
        let mut part = [0; 10];
        let ended = Arc::new(AtomicU32::new(0));
        let mut blob = Checked::new(io::Cursor::new(text), digest);
        blob.count(&ended);
        blob.read_exact(&mut part).unwrap();
        assert_eq!(ended.load(Ordering::Relaxed), 0);
    }
}
