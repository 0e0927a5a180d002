// SPDX-License-Identifier: GPL-2.0

//! Shrinkers. Nobody calls one here but a test.

/// Memory that can be given back at any time. It is counted in pages.
pub trait Shrink: Send + Sync + 'static {
    /// How many pages could be given back.
    fn count(&self) -> usize;
    /// Gives back `pages`, or what there is. Returns how many they were.
    fn shrink(&self, pages: usize) -> usize;
}
