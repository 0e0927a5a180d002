// SPDX-License-Identifier: Apache-2.0
//! Compiles schema/metadata.capnp to Rust (needs the `capnp` program).

fn main() {
    capnpc::CompilerCommand::new()
        .src_prefix("../../schema")
        .file("../../schema/metadata.capnp")
        .run()
        .expect("compiling schema/metadata.capnp (is the `capnp` program installed?)");
}
