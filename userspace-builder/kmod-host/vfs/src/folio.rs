// SPDX-License-Identifier: GPL-2.0

//! Folios: how large they are, and when they are reclaimed. Of a thread a test can say both.

use kernel::page::PAGE_SIZE;
use std::cell::Cell;

/// The largest folio, as a power of 2 of pages (`MAX_PAGECACHE_ORDER`, about).
pub(crate) const MAX_ORDER: u32 = 9;

thread_local! {
    static PRESSURE: Cell<Pressure> = const { Cell::new(Pressure::NONE) };
}

/// How short memory is.
#[derive(Clone, Copy, Debug)]
pub struct Pressure {
    /// The largest folio that can be had.
    pub max_order: u32,
    /// One in so many looks at a folio that nobody uses finds it gone; 0 for none.
    pub one_in: u64,
    /// Which ones.
    pub seed: u64,
}

impl Pressure {
    /// There is memory enough.
    pub const NONE: Self = Self {
        max_order: MAX_ORDER,
        one_in: 0,
        seed: 0,
    };

    /// From here on, for this thread.
    pub fn set(self) {
        PRESSURE.set(self);
    }
}

/// Whether a folio that somebody looks for was reclaimed. It is not gone twice in a row: in the
/// kernel, too, what was used last goes last.
pub(crate) fn is_reclaimed() -> bool {
    let mut pressure = PRESSURE.get();
    if pressure.one_in == 0 {
        return false;
    }
    let before = pressure.seed;
    pressure.seed = next(before);
    PRESSURE.set(pressure);
    let says = |seed: u64| (seed >> 33) % pressure.one_in == 0;
    says(pressure.seed) && !says(before)
}

/// The next one of a row of numbers.
pub fn next(seed: u64) -> u64 {
    let factor = 6_364_136_223_846_793_005;
    seed.wrapping_mul(factor).wrapping_add(1)
}

/// The pages of the folio at page `index` of which `want` bytes are wanted
/// (`__filemap_get_folio`), if there is room for it, as `fits` says of so many pages.
pub(crate) fn pages(index: u64, want: usize, fits: impl Fn(u64) -> bool) -> u64 {
    let wanted = (want / PAGE_SIZE).max(1).ilog2();
    let aligned = index
        .checked_ilog2()
        .map_or(MAX_ORDER, |_| index.trailing_zeros());
    let mut order = wanted.min(aligned).min(PRESSURE.get().max_order);
    while order > 0 && !fits(1 << order) {
        order -= 1;
    }
    1 << order
}
