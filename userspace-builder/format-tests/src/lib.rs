// SPDX-License-Identifier: Apache-2.0

//! What the tests of `puzzlefs_format` share: generated metadata, other ways to
//! write it, and the comparison with the `capnp` crate.

pub mod agree;
pub mod damage;
pub mod model;
pub mod relocate;

/// The `capnp` crate's view of schema/metadata.capnp.
#[allow(missing_docs, unreachable_pub, clippy::all)]
pub mod metadata_capnp {
    include!(concat!(env!("OUT_DIR"), "/metadata_capnp.rs"));
}

/// How proptest runs here: `cases` times, or as often as the environment's
/// `PROPTEST_CASES` says, and leaving no files in the checkout. A failure prints the
/// shrunk input in full.
pub fn config(cases: u32) -> proptest::test_runner::Config {
    let default = proptest::test_runner::Config::default();
    let is_set = std::env::var_os("PROPTEST_CASES").is_some();
    proptest::test_runner::Config {
        cases: if is_set { default.cases } else { cases },
        failure_persistence: None,
        ..default
    }
}
