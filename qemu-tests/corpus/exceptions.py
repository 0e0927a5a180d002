# SPDX-License-Identifier: GPL-2.0
"""Where `puzzlefs verify` refuses an image of which all that can be asked for reads right: a pattern of what it says, and
the reason. It is a defect if it says anything else there; and an entry that nothing needs is to be taken out.

The other way there is none: what verify passes reads right.

And what the kernel does otherwise than FORMAT.md says, until that is mended."""

import re

ONLY_VERIFY = [(re.compile(pattern), reason) for pattern, reason in (
    (r"^layer \d+: (inode \d+ comes after|an inode has the number 0)",
     "a reader searches in a layer, and may happen to find what it asks for in one that is not in order"),
    (r": the extended attribute .* comes twice", "a writer must not do that; a reader takes the first"),
    (r"^(layer \d+, )?inode \d+: ", "it looks at each inode of each layer, also where no name leads to it"),
    (r"(has another name too|the name .* comes twice)", "a writer must not do that; a mount shows both"),
    (r"directories say that they are sorted and are not", "a lookup may happen to find each name"),
    (r"^(fsVerityData|the metadata holds a bad pointer)", "nobody reads the fs-verity digests in order to read files"),
    (r"its blocks have another root directory", "a mount looks at the copy of the root directory only"),
    (r"^the image asks for more work", "it looks at all of the image: FORMAT.md, 7"),
    (r"^(the |the index of the )?pack ", "a pack is right as a whole or damaged; a mount takes each chunk from where it is right"),
    (r"^(config: |unused layer: )", "no file needs it, but who copies the image does"),
    (r"is no PuzzleFS image", "only a mount takes a Rootfs without its manifest"),
)]

# Patterns of the image's name, and of what is not right there.
KERNEL = [(re.compile(name), re.compile(what), reason) for name, what, reason in (
    (r"^pack:(damaged-but-loose|entry\[)", r"(EIO|EFAULT), but it is sound",
     "it takes a chunk from packs that list it; it tries no loose blob, which cannot be opened in a page fault"),
)]


def explained(words):
    """Which of them says why verify alone refuses, if one does."""
    return next((number for number, (pattern, _) in enumerate(ONLY_VERIFY) if any(map(pattern.search, words))), None)


def known(name, fault):
    """Which defect of the kernel that is, if it is a known one."""
    return next((number for number, (image, what, _) in enumerate(KERNEL) if image.search(name) and what.search(fault)), None)
