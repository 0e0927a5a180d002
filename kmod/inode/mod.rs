// SPDX-License-Identifier: GPL-2.0

//! From inodes of the metadata to inodes of the VFS.

mod attributes;
mod data;
pub(crate) mod dir;
mod find;
mod open;
mod open_file;
pub(crate) mod xattr;

pub(crate) use attributes::attributes;
pub(crate) use data::{InodeData, Node};
pub(crate) use find::{by_number, parent};
pub(crate) use open::{open, release};
pub(crate) use open_file::OpenFile;
