// SPDX-License-Identifier: Apache-2.0
//! Compiles schema/metadata.capnp, for the sizes of its structs (needs the `capnp` program).

fn main() {
    capnpc::CompilerCommand::new()
        .src_prefix("../../schema")
        .file("../../schema/metadata.capnp")
        .default_parent_module(["metadata".into(), "sizes".into()].into())
        .run()
        .expect("compiling schema/metadata.capnp (is the `capnp` program installed?)");
}
