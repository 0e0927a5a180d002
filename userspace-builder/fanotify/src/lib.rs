// SPDX-License-Identifier: Apache-2.0
//! fanotify(7)'s pre-content events (since Linux 6.14): who reads a file that is watched waits until somebody has
//! seen to it that there is something to read.
//!
//! - [`Group`]: who is told of reads, and answers;
//! - [`Event`]: a read that waits; `event`: how the kernel writes one;
//! - [`inherited()`]: descriptors that somebody has kept while there was no listener.

mod event;
mod group;
mod inherited;

pub use event::{Event, Events};
pub use group::{Answer, Group};
pub use inherited::inherited;
