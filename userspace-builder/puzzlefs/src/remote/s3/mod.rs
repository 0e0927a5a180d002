// SPDX-License-Identifier: Apache-2.0
//! A layout in a bucket of Amazon S3, or of what speaks the same, as a place that images come from: its files are
//! objects. The crate object_store finds credentials, signs, repeats what failed, and goes on where a body was cut.
//!
//! - this file: what is asked for; [`Reference`]: where; `http`: how requests get there.

mod http;
mod reference;

use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::StreamExt;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::path::Path;
use object_store::{BackoffConfig, GetOptions, GetRange, ObjectStore, RetryConfig};
use puzzlefs_format::{limits, Digest, MEDIA_TYPE_MANIFEST};
use tokio::runtime::{Builder, Runtime};

use self::http::Connections;
use super::seam::{Document, Part, Remote};
use crate::base::digest::sha256;
use crate::base::error::{Error, Result};
use crate::base::text;
use crate::layout::listing;
use crate::layout::reference::Name;
use crate::registry::{Http, Options};

pub use reference::Reference;

/// The longest pause before something is tried again, and how long it is tried at all.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_secs(600);
/// Characters of what object_store says, which has what the server says in it.
const MAX_SAID: usize = 600;

/// A layout in a bucket.
pub struct S3 {
    reference: Reference,
    store: AmazonS3,
}

impl S3 {
    /// The layout of an image. Nothing is asked yet.
    ///
    /// # Errors
    ///
    /// If the environment says something that makes no sense, or an endpoint without TLS, which was not asked for.
    pub fn new(reference: &Reference, options: &Options) -> Result<Self> {
        let retry = RetryConfig {
            backoff: BackoffConfig {
                max_backoff: LONGEST_PAUSE,
                ..BackoffConfig::default()
            },
            max_retries: usize::try_from(options.retries).unwrap_or(usize::MAX),
            retry_timeout: PATIENCE,
        };
        let mut store = AmazonS3Builder::from_env()
            .with_bucket_name(&reference.bucket)
            .with_retry(retry)
            .with_http_connector(Connections(Arc::new(Http::new(options))));
        if let Some(endpoint) = &options.endpoint {
            store = store.with_endpoint(endpoint);
        }
        let endpoint = store.get_config_value(&AmazonS3ConfigKey::Endpoint);
        let is_plain = endpoint.is_some_and(|endpoint| !endpoint.starts_with("https://"));
        if is_plain && !options.plain_http {
            let text = "the endpoint for s3:// speaks no TLS: --plain-http if it is to be so";
            return Err(Error::refused(text));
        }
        let store = store.with_allow_http(options.plain_http).build();
        let wrong = |e| Error::refused(format!("{}: {}", reference.layout(), quoted(&e)));
        Ok(S3 {
            reference: reference.clone(),
            store: store.map_err(wrong)?,
        })
    }

    /// What a key has, or a part of it.
    fn get(&self, key: &Path, range: Option<Range<u64>>) -> Result<Object> {
        let runtime = Builder::new_current_thread().enable_time().build()?;
        let options = GetOptions {
            range: range.map(GetRange::Bounded),
            ..GetOptions::default()
        };
        let got = runtime.block_on(self.store.get_opts(key, options));
        let stream = got.map_err(|e| self.error(&e))?.into_stream();
        Ok(Object {
            runtime,
            stream,
            piece: Bytes::new(),
        })
    }

    fn error(&self, error: &object_store::Error) -> Error {
        let text = format!("{}: {}", self.reference.layout(), quoted(error));
        match error {
            object_store::Error::NotFound { .. } => Error::not_found(text),
            object_store::Error::Unauthenticated { .. }
            | object_store::Error::PermissionDenied { .. } => Error::refused(text),
            _ => Error::unreached(text),
        }
    }

    fn blob_key(&self, digest: &Digest) -> Path {
        self.reference.key(&format!("blobs/sha256/{digest}"))
    }

    /// A whole object that is small.
    fn file(&self, key: &Path) -> Result<Vec<u8>> {
        let limit = limits::MAX_MANIFEST_BYTES as u64;
        let mut text = Vec::new();
        let body = self.get(key, None)?;
        body.take(limit + 1).read_to_end(&mut text)?;
        match text.len() as u64 > limit {
            true => {
                let context = format!("{}: {key}", self.reference.layout());
                let text = format!("{context} has more than the {limit} bytes that it may");
                Err(Error::damaged(text))
            }
            false => Ok(text),
        }
    }
}

/// What was said, fit to be shown, and not for ever.
fn quoted(error: &object_store::Error) -> String {
    let said: String = error.to_string().chars().take(MAX_SAID).collect();
    text::quoted(said.as_bytes())
}

impl Remote for S3 {
    fn name(&self) -> String {
        self.reference.layout()
    }

    fn manifest(&self, name: &Name) -> Result<Document> {
        let (digest, media_type) = match name {
            Name::Digest(digest) => (*digest, MEDIA_TYPE_MANIFEST.to_owned()),
            Name::Tag(tag) => {
                let index = self.file(&self.reference.key("index.json"))?;
                match listing::tagged(&index, tag)? {
                    listing::Tagged::One(entry) => (entry.digest, entry.media_type),
                    listing::Tagged::Several(text) => {
                        return Ok(Document {
                            digest: sha256(&[&text]),
                            media_type: listing::INDEX.to_owned(),
                            text,
                        })
                    }
                }
            }
        };
        let text = self.file(&self.blob_key(&digest))?;
        let found = sha256(&[&text]);
        if found != digest {
            let layout = self.reference.layout();
            let text = format!("{layout}: the manifest {name} has the digest sha256:{found}, and not sha256:{digest}");
            return Err(Error::damaged(text).of(&digest));
        }
        Ok(Document {
            digest,
            media_type,
            text,
        })
    }

    fn blob(&self, digest: &Digest, _size: u64) -> Result<Box<dyn Read + Send + '_>> {
        let object = self.get(&self.blob_key(digest), None);
        Ok(Box::new(object.map_err(|e| e.of(digest))?))
    }

    fn range(&self, digest: &Digest, _size: u64, range: Range<u64>) -> Result<Part<'_>> {
        let object = self.get(&self.blob_key(digest), Some(range));
        Ok(Part::Range(Box::new(object.map_err(|e| e.of(digest))?)))
    }
}

/// An object that is read. Who reads it waits in the runtime, which does nothing at other times.
struct Object {
    runtime: Runtime,
    stream: BoxStream<'static, object_store::Result<Bytes>>,
    /// What was read, and not asked for yet.
    piece: Bytes,
}

impl Read for Object {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.runtime.block_on(self.stream.next()) {
                None => return Ok(0),
                Some(piece) => {
                    let wrong = |e| io::Error::other(Error::unreached(quoted(&e)));
                    self.piece = piece.map_err(wrong)?;
                }
            }
        }
        let count = self.piece.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.piece.split_to(count));
        Ok(count)
    }
}
