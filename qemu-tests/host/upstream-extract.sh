#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# needs: images plain plain-raw
# shows: upstream puzzlefs 0.2.0 extracts images that ours builds, zstd and raw,
# and what it extracts equals their source, in all that it can make (lib/plain-tree); also after
# their chunks have been in packs.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# As a user without privileges, who cannot look into the cache.
peer=$("$PUZZLEFS_TOP/scripts/peer-puzzlefs")
install "$peer" "$work/peer"

for name in plain plain-raw; do
	cp -r "$PUZZLEFS_IMAGES/$name/oci" "$work/oci"
	[ "$name" = plain ] || for convert in repack unpack; do
		"$PUZZLEFS_TOP/build/puzzlefs" $convert --gc "$work/oci"
	done
	mkdir "$work/$name"
	chown -R nobody "$work"
	RUST_LOG=warn setpriv --reuid=nobody --regid=nogroup --clear-groups \
		"$work/peer" extract "$work/oci:test" "$work/$name"
	python3 "$PUZZLEFS_TOP/qemu-tests/lib/compare.py" "$work/$name" "$name" uid gid mtime nlink
	rm -r "$work/oci"
done
