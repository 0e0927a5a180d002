// SPDX-License-Identifier: GPL-2.0

//! What users hear of a mounted image: errnos, lines of the kernel log, and counters.

pub(crate) mod counters;
pub(crate) mod error;
pub(crate) mod faults;

pub(crate) use counters::Counters;
pub(crate) use error::{errno, logged, Failure};
pub(crate) use faults::{is_passing, Faults, Purpose, Reported};
