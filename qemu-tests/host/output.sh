#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# shows: what a closure of the filesystem is to write, and has not written whole, is not published (kmod/vfs/output.rs),
# whatever it does; and vfs has no other way to write memory that nobody has zeroed.
set -eu
cd "$PUZZLEFS_TOP"

# A slice would say that its bytes are written, before they are.
if grep -nE 'Fn(Once|Mut)?\(.*&mut \[u8\]' kmod/vfs/*.rs; then
	echo "a closure is trusted to write all of its memory: lend it an Output"
	exit 1
fi
rustc --edition 2021 --test -o /tmp/output qemu-tests/lib/output.rs
/tmp/output
echo "only what is written counts as written"
