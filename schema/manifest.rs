// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0

//! OCI image manifests (image-spec 1.1, manifest.md and descriptor.md).

use crate::json::{Reader, Str};
use crate::{limits, Digest, Error};

/// Media type of an OCI image manifest.
pub const MEDIA_TYPE_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Media type of the layer that is the metadata.
pub const MEDIA_TYPE_ROOTFS: &str = "application/vnd.puzzlefs.image.rootfs.v1";

/// Media type of a chunk stored as it is.
pub const MEDIA_TYPE_CHUNK: &str = "application/vnd.puzzlefs.image.filedata.v1";

/// Media type of a chunk stored as zstd frames with a seek table. Upstream also
/// marks chunks so that it then stored as they are: the metadata says which.
pub const MEDIA_TYPE_CHUNK_ZSTD: &str = "application/vnd.puzzlefs.image.filedata.v1+zstd";

/// Media type of an LZ4 chunk's layer.
pub const MEDIA_TYPE_CHUNK_LZ4: &str = "application/vnd.puzzlefs.image.filedata.v1+lz4";

/// Media type of the list of those chunks that whoever starts from the image reads first. Who does
/// not know it loses time only.
pub const MEDIA_TYPE_PROFILE: &str = "application/vnd.puzzlefs.image.profile.v1";

/// Annotation of a pack's descriptor: its fs-verity digest, 64 hexadecimal digits.
pub const ANNOTATION_FS_VERITY: &str = "io.puzzlefsoci.puzzlefs.fs_verity";

/// What a blob that names an image can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlobKind {
    /// An OCI image manifest.
    Manifest,
    /// The metadata itself.
    Rootfs,
}

/// Tells from the first four bytes of a blob, or all that it has, which kind it is.
///
/// Metadata begins with its number of segments less one, 0 to 511, as a
/// little-endian `u32`, so its third and fourth byte are 0. JSON has no such bytes.
/// (The first byte alone would not do: 124 segments look like `{`.)
pub fn blob_kind(first_bytes: &[u8]) -> Result<BlobKind, Error> {
    match first_bytes {
        [] => Err(Error::Truncated),
        [_, _, 0, 0, ..] => Ok(BlobKind::Rootfs),
        [b'{' | b' ' | b'\t' | b'\n' | b'\r', ..] => Ok(BlobKind::Manifest),
        _ => Err(Error::UnknownBlob),
    }
}

/// What a manifest says of a blob.
#[derive(Clone, Copy, Debug)]
pub struct Descriptor<'a> {
    /// Its media type.
    pub media_type: Str<'a>,
    /// The digest of its bytes.
    pub digest: Digest,
    /// Its size. Not to be relied on: upstream gives the size that a compressed
    /// chunk has when decompressed.
    pub size: u64,
    /// The fs-verity digest of its file (SHA-256, blocks of 4096 bytes, no salt), if
    /// [`ANNOTATION_FS_VERITY`] is there. Only that of a pack means something: all that the
    /// pack's index says is vouched for by it.
    pub fs_verity: Option<Digest>,
}

impl<'a> Descriptor<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Error> {
        let (mut media_type, mut digest, mut size) = (None, None, None);
        let mut fs_verity = None;
        reader.object(|reader, key| {
            if key == "mediaType" {
                set_once(&mut media_type, reader.string()?)
            } else if key == "digest" {
                set_once(&mut digest, read_digest(reader)?)
            } else if key == "size" {
                set_once(&mut size, reader.u64()?)
            } else if key == "annotations" {
                set_once(&mut fs_verity, read_fs_verity(reader)?)
            } else {
                reader.skip_value()
            }
        })?;
        match (media_type, digest, size) {
            (Some(media_type), Some(digest), Some(size)) => Ok(Self {
                media_type,
                digest,
                size,
                fs_verity: fs_verity.flatten(),
            }),
            _ => Err(Error::BadManifest),
        }
    }
}

/// In a descriptor a digest has its algorithm in front.
fn read_digest(reader: &mut Reader<'_>) -> Result<Digest, Error> {
    let mut buffer = [0; b"sha256:".len().saturating_add(Digest::HEX_BYTES)];
    let len = buffer.len();
    match reader.string()?.ascii(&mut buffer) {
        Some(text) if text.len() == len => Digest::parse(text),
        _ => Err(Error::BadDigest),
    }
}

/// Finds [`ANNOTATION_FS_VERITY`] in annotations. Other annotations, and what is no object in
/// their place, are none of ours.
fn read_fs_verity(reader: &mut Reader<'_>) -> Result<Option<Digest>, Error> {
    if !reader.is_at_object() {
        reader.skip_value()?;
        return Ok(None);
    }
    let mut found = None;
    reader.object(|reader, key| {
        if key == ANNOTATION_FS_VERITY {
            let mut buffer = [0; Digest::HEX_BYTES];
            let text = reader.string().map_err(|_| Error::BadDigest)?;
            let text = text.ascii(&mut buffer).ok_or(Error::BadDigest)?;
            set_once(&mut found, Digest::parse(text)?)
        } else {
            reader.skip_value()
        }
    })?;
    Ok(found)
}

/// Keeps the value of a key, which must not come twice: readers differ in which
/// of the two they would take.
fn set_once<T>(slot: &mut Option<T>, value: T) -> Result<(), Error> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(Error::BadManifest),
    }
}

/// An OCI image manifest with exactly one Rootfs layer.
#[derive(Clone, Debug)]
pub struct Manifest<'a> {
    config: Option<Descriptor<'a>>,
    rootfs: Descriptor<'a>,
    layers: Layers<'a>,
}

impl<'a> Manifest<'a> {
    /// Parses a manifest, all of it, in one pass. Keys may come in any order, and
    /// unknown ones are skipped.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        Self::parse_each(bytes, |_| Ok(()))
    }

    /// The same; calls `each` with the layers as they come. What follows them may yet turn out
    /// to be no manifest.
    pub fn parse_each(
        bytes: &'a [u8],
        mut each: impl FnMut(&Descriptor<'a>) -> Result<(), Error>,
    ) -> Result<Self, Error> {
        if bytes.len() > limits::MAX_MANIFEST_BYTES {
            return Err(Error::LimitExceeded);
        }
        let mut reader = Reader::new(bytes)?;
        let (mut version, mut media_type) = (None, None);
        let (mut config, mut rootfs, mut layers) = (None, None, None);
        reader.object(|reader, key| {
            if key == "schemaVersion" {
                set_once(&mut version, reader.u64()?)
            } else if key == "mediaType" {
                set_once(&mut media_type, reader.string()?)
            } else if key == "config" {
                set_once(&mut config, Descriptor::read(reader)?)
            } else if key == "layers" {
                let start = reader.clone();
                set_once(
                    &mut layers,
                    Layers {
                        reader: start,
                        position: Position::Start,
                    },
                )?;
                reader.array(|reader| {
                    let layer = Descriptor::read(reader)?;
                    if layer.media_type == MEDIA_TYPE_ROOTFS && rootfs.replace(layer).is_some() {
                        return Err(Error::SeveralRootfs);
                    }
                    each(&layer)
                })
            } else {
                reader.skip_value()
            }
        })?;
        reader.end()?;

        if version != Some(2) || media_type.is_some_and(|t| t != MEDIA_TYPE_MANIFEST) {
            return Err(Error::BadManifest);
        }
        Ok(Self {
            config,
            layers: layers.ok_or(Error::BadManifest)?,
            rootfs: rootfs.ok_or(Error::NoRootfs)?,
        })
    }

    /// The image's configuration, if it has one.
    pub fn config(&self) -> Option<Descriptor<'a>> {
        self.config
    }

    /// The layer that is the metadata.
    pub fn rootfs(&self) -> Descriptor<'a> {
        self.rootfs
    }

    /// All layers in their order, that one among them.
    pub fn layers(&self) -> Layers<'a> {
        self.layers.clone()
    }
}

/// Iterates over the layers of a manifest.
#[derive(Clone, Debug)]
pub struct Layers<'a> {
    reader: Reader<'a>,
    position: Position,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Position {
    Start,
    Inside,
    End,
}

impl<'a> Iterator for Layers<'a> {
    type Item = Result<Descriptor<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let has_next = match self.position {
            Position::Start => self.reader.eat(b'[') && !self.reader.eat(b']'),
            Position::Inside => self.reader.eat(b','),
            Position::End => false,
        };
        self.position = Position::End;
        if !has_next {
            return None;
        }
        let layer = Descriptor::read(&mut self.reader);
        if layer.is_ok() {
            self.position = Position::Inside;
        }
        Some(layer)
    }
}

impl core::iter::FusedIterator for Layers<'_> {}
