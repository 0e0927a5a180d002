// SPDX-License-Identifier: GPL-2.0

//! The metadata of an image: in memory as a whole, or in blocks, each of which is a chunk
//! that is read when someone looks at what is in it. And the extents of files, which are read
//! from there.

mod access;
mod blob;
mod extents;
mod load;
mod reader;
mod run;

pub(crate) use access::Access;
pub(crate) use blob::Metadata;
pub(crate) use extents::{added_up, ExtentMap};
pub(crate) use load::load;
pub(crate) use reader::Reader;
pub(crate) use run::{ChunkExtent, LentRun, Run};
