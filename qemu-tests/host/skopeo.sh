#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# needs: images small skopeo-oci skopeo-dir
# shows: skopeo and umoci read the manifest of an image of ours, and an image of
# packs that skopeo has copied, from layout to layout or through dir:, verifies. Tags that we take
# skopeo and umoci take too, as the same images.
set -eu
layout=$PUZZLEFS_IMAGES/small/oci

umoci ls --layout "$layout" | grep -qx test
skopeo inspect --raw "oci:$layout:test" >/tmp/manifest
sha256sum </tmp/manifest | grep "^$(cat "$PUZZLEFS_IMAGES/small/digest") "
jq -e '.layers[0].mediaType == "application/vnd.puzzlefs.image.rootfs.v1"' /tmp/manifest
jq -e '.layers[1:] | length > 0 and all(.mediaType == "application/vnd.puzzlefs.image.pack.v1")' /tmp/manifest
for name in small skopeo-oci skopeo-dir; do
	"$PUZZLEFS_TOP/build/puzzlefs" verify "$PUZZLEFS_IMAGES/$name/oci:test"
done

cp -r "$layout" /tmp/names
for tag in debian:12 repo/name:1.0 a--b x@y a+b_c.d; do
	"$PUZZLEFS_TOP/build/puzzlefs" tag /tmp/names:test "$tag"
	skopeo inspect --raw "oci:/tmp/names:$tag" | cmp - /tmp/manifest
	umoci ls --layout /tmp/names | grep -qxF "$tag"
done
for tag in a..b a- a---b a//b /a; do
	if "$PUZZLEFS_TOP/build/puzzlefs" tag /tmp/names:test "$tag"; then exit 1; fi
	if skopeo inspect --raw "oci:/tmp/names:$tag"; then exit 1; fi
done
