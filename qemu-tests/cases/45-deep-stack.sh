#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# needs: images small; host
# shows: how much of the kernel's stack of 16 KiB a read takes where filesystems stack as deep as they
# may, on xfs on dm-crypt, while memory is reclaimed, written back and swapped out, on two
# processors (41 has the stack tracer's word, which says where, on one).
. "$PUZZLEFS_TOP/scripts/lib.sh"

tree=$("$TOP/scripts/kernel")
kbuild "$tree" "$TOP/qemu-tests/harness" modules >/tmp/harness.log || { cat /tmp/harness.log; exit 1; }
exec "$TOP/scripts/vm" --memory 2G --cpus 2 --scratch 2G -- env "PUZZLEFS_IMAGES=$PUZZLEFS_IMAGES" \
	"PYTHONPATH=$TOP/qemu-tests/lib" PYTHONDONTWRITEBYTECODE=1 \
	python3 "$TOP/qemu-tests/lib/deep_stack.py" "$(kbuild_objects "$tree" "$TOP/qemu-tests/harness")/stack_used.ko"
