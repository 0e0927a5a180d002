#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# shows: the format core, as it is linked into the module, has no way to
# panic: not one call to core's panic functions is left in its object.
. "$PUZZLEFS_TOP/scripts/lib.sh"

object=$(kbuild_objects "$("$TOP/scripts/kernel")" "$TOP")/schema/puzzlefs_format.o
nm "$object" | grep -q ' T .*puzzlefs_format' || { echo "$object is not the format core"; exit 1; }
if nm "$object" | grep ' U ' | grep -E 'panic|_fail|unwrap|expect'; then
	echo "the format core can panic"
	exit 1
fi
echo "no panic in $object"
