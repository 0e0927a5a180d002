#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# shows: clippy with the kernel's own lints (its Makefile and .clippy.toml) has nothing to say of
# the format core, of vfs and of the filesystem, as they are compiled for the stock kernel. In
# a kernel's tree, =m and =y, case 37 asks it too.
. "$PUZZLEFS_TOP/scripts/lib.sh"

tree=$("$TOP/scripts/kernel")
# Objects of their own: what clippy compiles, rustc would compile again for the module.
objects=$(kbuild_objects "$tree" "$TOP")-clippy
mkdir -p "$objects"
# A warning is an error, so that nothing that was warned of counts as made.
kernel_make "$tree" M="$TOP" MO="$objects" CLIPPY=1 KRUSTFLAGS=--deny=warnings >"$objects/log" 2>&1 ||
	{ cat "$objects/log"; exit 1; }
for crate in schema/puzzlefs_format kmod/vfs/vfs kmod/puzzlefs; do
	grep -q '^savedcmd.*clippy-driver' "$objects/${crate%/*}/.${crate##*/}.o.cmd" ||
		{ echo "clippy was not asked about $crate"; exit 1; }
done
echo "clippy of the kernel has nothing to say"
