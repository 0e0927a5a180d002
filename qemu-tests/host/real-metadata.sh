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
PUZZLEFS_LAYOUTS=$layouts cargo test --locked --package format-tests --test real -- \
	--ignored --nocapture
echo "both parsers read the metadata of four images alike"
