#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: images corpus
# shows: of each of thousands of damaged images `puzzlefs verify` and an independent reader (qemu-tests/corpus) say the
# same: what passes is sound for the reader, and what is sound for it passes, but for what corpus/exceptions.py explains.

import json
import os
import sys

sys.path.insert(0, os.path.join(os.environ["PUZZLEFS_TOP"], "qemu-tests"))
from corpus.exceptions import explained
from corpus.generate import is_sound

with open(os.path.join(os.environ["PUZZLEFS_IMAGES"], "corpus/right.json")) as f:
    right = json.load(f)
faults, sound, passed = [], 0, 0
for image in right["images"]:
    tree = [right["entries"][index] for index in image["tree"]]
    # One that a reader may refuse at mount is right if it does not.
    good = is_sound({"mount": "is" if image["mount"] == "may" else image["mount"], "tree": tree})
    sound += good
    passed += image["verify"]
    if image["verify"] and not good:
        faults.append(f"{image['name']}: verify passes it, and the reader does not: {image['why']}")
    if good and image["mount"] == "is" and not image["verify"] and explained(image["words"]) is None:
        faults.append(f"{image['name']}: all of it is sound, and verify says {image['words']}")
for fault in faults[:100]:
    print(fault)
print(f"{len(right['images'])} images: {sound} are sound, {passed} pass, {len(faults)} times they do not agree")
# As many as the documents say.
sys.exit(bool(faults) or not passed or passed == len(right["images"]) or len(right["images"]) <= 5600)
