# SPDX-License-Identifier: GPL-2.0
"""What the images of a load were made from, in memory that all processes share."""

import mmap
import os

import tree
from case import Image

# One file may be in several images: its bytes are kept once, by its digest.
_kept = {}


class File:
    """A regular file: its path below the root, and its bytes."""

    def __init__(self, path, memory):
        self.path, self.memory = path, memory
        self.size = len(memory) if memory else 0

    def bytes(self, at=0, length=None):
        end = self.size if length is None else min(at + length, self.size)
        return self.memory[at:end] if self.memory and at < end else b""


class Tree:
    """An image, what its files hold, and what its directories list."""

    def __init__(self, name):
        self.image = Image(name)
        self.entries, self.directories, self.links, files = {}, {}, [], []
        for path, entry in tree.read(self.image.list).items():
            path = path.encode("latin-1")
            self.entries[path] = entry
            if entry["type"] == "directory":
                self.directories[path] = []
            elif entry["type"] == "symlink":
                self.links.append(path)
            elif entry["type"] == "file":
                files.append(File(path, self._memory(path, entry)))
        for path in self.entries:
            if path != b".":
                parent, name = os.path.split(path)
                self.directories[parent].append(name)
        self.names = sorted(self.directories)
        self.paths = sorted(self.entries)
        self.files = sorted(files, key=lambda file: file.path)
        # Chosen more often than by chance: what has more than one chunk, and holes.
        self.large = [file for file in self.files if file.size >= 1 << 18]
        self.filled = [file for file in self.files if file.size]

    def _memory(self, path, entry):
        if not entry["size"]:
            return None
        if entry["sha256"] not in _kept:
            memory = _kept[entry["sha256"]] = mmap.mmap(-1, entry["size"])
            with open(os.path.join(os.fsencode(self.image.source), path), "rb") as f:
                f.readinto(memory)
        return _kept[entry["sha256"]]

    def file(self, rng):
        return rng.choice(self.large if rng.random() < 0.4 else self.filled)
