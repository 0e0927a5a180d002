// SPDX-License-Identifier: Apache-2.0
//! Compiles metadata.capnp, for the sizes of its structs (needs the `capnp` program). It is a link to the format's, whose
//! content a package of this crate has.

fn main() {
    capnpc::CompilerCommand::new()
        .file("metadata.capnp")
        .default_parent_module(["metadata".into(), "sizes".into()].into())
        .run()
        .expect("compiling metadata.capnp (is the `capnp` program installed?)");
}
