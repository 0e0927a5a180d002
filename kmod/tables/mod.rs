// SPDX-License-Identifier: GPL-2.0

//! Tables that know nothing of what is in them.

pub(crate) mod sparse;
pub(crate) mod table;

pub(crate) use sparse::Sparse;
pub(crate) use table::{Lent, Table};
