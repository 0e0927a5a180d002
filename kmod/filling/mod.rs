// SPDX-License-Identifier: GPL-2.0

//! The data of files, on its way into the page cache.
//!
//! A chunk is verified as a whole: that is the unit of trust. What becomes of it then
//! depends on whose it is:
//!
//! - A chunk that one file has to itself is decompressed straight into the folios of that
//!   file, if all of it was asked for; readahead is expanded so that it mostly is. Several
//!   such chunks in one window are decompressed at once ([`batch`]).
//! - A chunk that several small files share goes into a page cache of its own
//!   ([`crate::sharing`]), from which these are read. If they have folios, they are copied
//!   from there, until all of it was copied.

mod batch;
mod file;
mod piece;
mod small;
mod window;

pub(crate) use file::File;
pub(crate) use small::small;

/// How far to read ahead, in bytes: some chunks, since several are decompressed at once
/// ([`batch`]). With more than this, programs that start would read, around what they
/// touch, more than they need.
pub(crate) const READAHEAD_BYTES: usize = 256 << 10;

/// Whoever reads more at once, in bytes, gets it at once up to this.
pub(crate) const REQUEST_BYTES: usize = 1 << 20;
