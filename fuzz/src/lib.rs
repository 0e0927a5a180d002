// SPDX-License-Identifier: Apache-2.0

//! What the targets share. A target is one file in targets/; its head states what holds for any
//! bytes. `make fuzz` builds and runs them all.

pub mod parts;
pub mod walk;
pub mod words;
