// SPDX-License-Identifier: Apache-2.0
//! How much work an image may ask for. Pointers of its message may alias, lists overlap, and a
//! chunk be a block of it a thousand times: so a few bytes may stand for billions of entries and
//! extents. Whoever goes through lists charges them first, and an image that asks for more than
//! its stored bytes can be meant for is refused.

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use puzzlefs_format::{Dir, Extents, Xattrs};

/// Steps that any image may ask for: a second or less.
const BASE: u64 = 1 << 24;
/// Steps more for each byte of metadata as stored. An entry with its inode takes some 25 steps
/// and 80 bytes, an extent one and 16: metadata that compress a hundredfold stay within.
const PER_BYTE: u64 = 48;

/// Steps of an extent that is looked at: some 20 ns.
const EXTENT: u64 = 1;
/// Of an entry that is visited, without the search for its inode.
const ENTRY: u64 = 16;
/// Of a search in one layer.
const LAYER: u64 = 4;
/// Of an extended attribute.
const XATTR: u64 = 8;
/// Bytes of names that are put together and printed in a step.
const BYTES: u64 = 4;
/// Bytes that are decompressed in a step.
const DECODED: u64 = 64;

/// The work that an image may still ask for.
pub struct Work {
    left: AtomicU64,
    limit: u64,
    /// Steps of one: a message in many segments takes many to follow a pointer.
    weight: u64,
    layers: u64,
}

impl Work {
    /// For metadata stored in so many bytes, of so many segments and layers.
    pub(crate) fn new(stored: u64, segments: u64, layers: u32) -> Self {
        let limit = BASE.saturating_add(stored.saturating_mul(PER_BYTE));
        Work {
            left: AtomicU64::new(limit),
            limit,
            weight: 1 + segments / 8,
            layers: layers.into(),
        }
    }

    /// Charges the steps of something.
    ///
    /// # Errors
    ///
    /// If there are no more.
    fn charge(&self, steps: u64) -> Result<()> {
        let steps = steps.saturating_mul(self.weight);
        let charge = |left: u64| left.checked_sub(steps);
        let order = Ordering::Relaxed;
        let charged = self.left.fetch_update(order, order, charge);
        charged.ok().map(drop).with_context(|| {
            format!(
                "the image asks for more work than its metadata are meant for (the limit is {} \
                 steps): lists are shared or repeated too often",
                self.limit
            )
        })
    }

    /// Charges a visit of all entries of `dir` and their inodes.
    pub fn entries(&self, dir: &Dir<'_>) -> Result<()> {
        let each = ENTRY + LAYER * self.layers;
        self.charge(u64::from(dir.len()).saturating_mul(each))
    }

    /// Charges a look at so many inodes of a layer.
    pub fn inodes(&self, count: u32) -> Result<()> {
        self.charge(u64::from(count).saturating_mul(LAYER))
    }

    /// Charges a search for an inode by its number.
    pub fn search(&self) -> Result<()> {
        self.charge(LAYER * self.layers)
    }

    /// Charges a look at each of `extents`.
    pub fn extents(&self, extents: &Extents<'_>) -> Result<()> {
        self.charge(u64::from(extents.len()) * EXTENT)
    }

    /// Charges a look at each of `xattrs`.
    pub fn xattrs(&self, xattrs: &Xattrs<'_>) -> Result<()> {
        self.charge(u64::from(xattrs.len()) * XATTR)
    }

    /// Charges so many bytes that are copied or printed.
    pub fn bytes(&self, count: usize) -> Result<()> {
        self.charge(count as u64 / BYTES)
    }

    /// Charges what was decompressed in vain: `decoded` bytes, of which `used` are of use.
    pub fn waste(&self, decoded: u64, used: u64) -> Result<()> {
        self.charge(decoded.saturating_sub(used) / DECODED)
    }
}
