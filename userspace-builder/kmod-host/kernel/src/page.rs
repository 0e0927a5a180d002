// SPDX-License-Identifier: GPL-2.0

//! Pages.

/// The size of a page, as a power of 2.
pub const PAGE_SHIFT: usize = 12;

/// The size of a page, in bytes.
pub const PAGE_SIZE: usize = 1 << PAGE_SHIFT;
