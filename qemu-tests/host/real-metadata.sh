#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# needs: images debian upstream-raw upstream-zstd upstream-delta
# shows: the core's parser and the capnp crate read real metadata alike, that
# of our builder and that of upstream's.
set -eu
cd "$PUZZLEFS_TOP/userspace-builder"
export CARGO_TARGET_DIR="$PUZZLEFS_CACHE/cargo-test"
# Nobody edits between two builds here, and the cache is not to grow by gigabytes with each.
export CARGO_INCREMENTAL=0 CARGO_PROFILE_DEV_DEBUG=line-tables-only

layouts=
for image in debian upstream-raw upstream-zstd upstream-delta; do
	layouts=${layouts:+$layouts:}$PUZZLEFS_IMAGES/$image/oci
done
# Of the whole workspace, as the case `cargo` has it: with the features of one package alone all would be built again.
PUZZLEFS_LAYOUTS=$layouts cargo test --locked --workspace --test format -- --ignored --nocapture real:: |
	tee /tmp/real-metadata
grep -q '^test result: ok. 1 passed' /tmp/real-metadata
echo "both parsers read the metadata of four images alike"
