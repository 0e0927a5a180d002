#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: images small skopeo-oci skopeo-dir repacked; memory 2G
# shows: an image of packs that skopeo has copied, from layout to layout and through
# dir:, has the same digest, mounts and equals its source. (host/skopeo verifies it.)
# so does one whose chunks were taken out of its packs and put into others.

from case import Image, compare, equal, mounted

for name in "skopeo-oci", "skopeo-dir", "repacked":
    if name != "repacked":
        equal(Image(name).digest, Image("small").digest, f"the manifest's digest of {name}")
    with mounted(Image(name)) as root:
        compare(root, Image(name), least=1000)
