# SPDX-License-Identifier: GPL-2.0
"""What the readers read: images mounted in several ways, overlayfs above them; and what is mounted,
used and unmounted again and again."""

import os
import shutil

import mountapi
from case import check

from load import operations

# Static mounts: their name, the image, options. Those of one domain share page caches, as do those
# of one layout; the second mount of an image shares the superblock of the first.
STATIC = (
    ("packs", "small", ()), ("again", "small", ()), ("loose", "small-loose", ()),
    ("domain-packs", "small", (("domain_id", "load"),)), ("domain-loose", "small-loose", (("domain_id", "load"),)),
    ("large", "peers-cache", ()), ("apart", "peers-cache", (("domain_id", "apart"),)),
    ("fast", "cache-fast", (("domain_id", "load"),)),
)
OVER = (("over-packs", "packs"), ("over-large", "large"))
IMAGES = sorted({image for _, image, _ in STATIC})


class Place:
    """A mount, and the tree of which it is the image."""

    def __init__(self, name, tree, has_handles=True):
        self.name, self.root, self.tree, self.has_handles = name, f"/mnt/{name}", tree, has_handles
        os.makedirs(self.root, exist_ok=True)

    def umount(self):
        if mountapi.libc.umount2(self.root.encode(), 0):
            number = mountapi.ctypes.get_errno()
            raise OSError(number, f"umount {self.root}: {os.strerror(number)}")


def mount(disk, tree, place, options=()):
    layout = f"{disk.root}/{tree.image.name}"
    mountapi.mount([("oci_root_dir", layout), ("image_manifest", tree.image.digest), *options], place.root)


def overlay(lower, place):
    """With changes in /scratch, which is no disk that fails; new ones each time."""
    changes = f"/scratch/changes-{place.name}"
    shutil.rmtree(changes, ignore_errors=True)
    for name in "upper", "work":
        os.makedirs(f"{changes}/{name}")
    mountapi.mount([("lowerdir+", lower.root), ("upperdir", f"{changes}/upper"), ("workdir", f"{changes}/work")],
                   place.root, kind="overlay")


def all_mounted(disk, trees):
    """Mounts all that is static; the places."""
    places = {}
    for name, image, options in STATIC:
        places[name] = Place(name, trees[image])
        mount(disk, trees[image], places[name], options)
    for name, lower in OVER:
        places[name] = Place(name, places[lower].tree, has_handles=False)
        overlay(places[lower], places[name])
    return list(places.values())


def all_unmounted(places):
    for place in reversed(places):
        place.umount()


class Churn:
    """Mounts that one process makes, uses and unmounts: its operations, beside the readers'."""

    def __init__(self, number, disk, trees, places):
        self.disk, self.trees, self.places = disk, trees, places
        self.names = [f"churn-{number}", f"churn-over-{number}"]
        for name in self.names:
            os.makedirs(f"/mnt/{name}", exist_ok=True)

    def mount(self, _, rng):
        """An image that is mounted already, or in a domain that nobody else has, or elsewhere."""
        tree = rng.choice(list(self.trees.values()))
        domain = rng.choice((None, "load", self.names[0]))
        place = Place(self.names[0], tree)
        mount(self.disk, tree, place, (("domain_id", domain),) if domain else ())
        try:
            operations.pread(place, rng)
            operations.getdents(place, rng)
        finally:
            place.umount()

    def overlay(self, _, rng):
        """Copies a file up and reads it back."""
        lower = rng.choice([place for place in self.places if not place.name.startswith("over")])
        place = Place(self.names[1], lower.tree, has_handles=False)
        overlay(lower, place)
        try:
            file = rng.choice([file for file in place.tree.filled if file.size < 5 << 20])
            path = operations.full(place, file.path)
            with open(path, "ab") as f:
                f.write(b"more")
            with open(path, "rb") as f:
                operations.same(f.read(), file.bytes() + b"more", f"what was copied up of {file.path}")
            with open(operations.full(lower, file.path), "rb") as f:
                operations.same(f.read(), file.bytes(), f"{file.path} after its copy was written")
        finally:
            place.umount()

    def clean(self):
        """Nobody does that for a process that was killed."""
        for name in reversed(self.names):
            while not mountapi.libc.umount2(f"/mnt/{name}".encode(), 0):
                pass
            check(not os.path.ismount(f"/mnt/{name}"), f"/mnt/{name} cannot be unmounted")
