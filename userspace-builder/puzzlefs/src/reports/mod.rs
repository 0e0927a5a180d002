// SPDX-License-Identifier: Apache-2.0
//! What an image or a layout holds, for people and programs. Nothing is changed.
//!
//! - [`diff`]: in what two images differ;
//! - [`inspect`]: an image in numbers;
//! - [`list`]: the names in an image;
//! - [`tags`]: what index.json names;
//! - [`du`]: what the images of a layout take.

pub mod diff;
pub mod du;
pub mod inspect;
pub mod list;
pub mod tags;
