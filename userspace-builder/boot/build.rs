// SPDX-License-Identifier: Apache-2.0
//! How the program is linked.

fn main() {
    // A tenth of its size would be where it is to be relocated.
    println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    println!("cargo::rerun-if-changed=build.rs");
}
