#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# needs: skopeo
# shows: what a pull leaves where it has not stored all blobs of the source is an image that skopeo copies, under its
# local manifest; and that of the source, by its digest, after `puzzlefs complete`. A copy of the local one pulls
# and verifies as any image.
set -eu
cd /tmp
puzzlefs=$PUZZLEFS_TOP/build/puzzlefs
build() { "$puzzlefs" -q build --no-cache "$@"; }
digest() { skopeo inspect --raw "oci:$1" | sha256sum | cut -d' ' -f1; }

mkdir tree
cp -a /usr/lib/python3 /usr/share/perl5 tree
build tree one:v1
cp -a /usr/share/doc /etc tree
rm -r tree/perl5
build tree two:v2

"$puzzlefs" pull oci:one:v1 here:v1
cmp one/index.json here/index.json
"$puzzlefs" pull --format json oci:two:v2 here:v2 >report
jq -e '(.complete | not) and .chunks_found > 100' report
for layout in here copy; do
	[ $layout = here ] || skopeo copy oci:here:v2 oci:copy:v2
	"$puzzlefs" verify $layout:v2
	"$puzzlefs" extract $layout:v2 out-$layout
	diff -r --no-dereference tree out-$layout
done
[ "$(digest copy:v2)" = "$(jq -r .local_manifest report)" ]
[ "$(digest two:v2)" = "$(jq -r .manifest report)" ]
"$puzzlefs" gc here | grep 'removed *0 blobs'

# The image itself, from a layout that has not all of it, and from one that has.
"$puzzlefs" pull oci:here:v2 on:v2
"$puzzlefs" complete here:v2
for layout in on here; do
	skopeo copy oci:$layout:v2 oci:copy-$layout:v2
	[ "$(digest copy-$layout:v2)" = "$(digest two:v2)" ]
	"$puzzlefs" verify copy-$layout:v2
done
diff -r two/blobs copy-here/blobs
