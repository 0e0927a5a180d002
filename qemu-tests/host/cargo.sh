#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# shows: the cargo workspace is formatted, clippy has nothing to say, and its tests pass
# (among them: the core's parser against the capnp crate, and on mutated bytes; the module's rooms in
# user space, and its read path on images of any bytes).
set -eu
cd "$PUZZLEFS_TOP/userspace-builder"
export CARGO_TARGET_DIR="$PUZZLEFS_CACHE/cargo-test"
# Nobody edits between two builds here, and the cache is not to grow by gigabytes with each.
export CARGO_INCREMENTAL=0 CARGO_PROFILE_DEV_DEBUG=line-tables-only

cargo fmt --all --check
cargo clippy --locked --quiet --workspace --all-targets -- --deny warnings
cargo test --locked --workspace | tee /tmp/cargo-test
awk '/^test result:/ { passed += $4; failed += $6 }
	END { print passed " tests passed, " failed " failed"; exit !passed || failed }' /tmp/cargo-test
