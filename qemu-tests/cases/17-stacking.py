#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: images peers-stacking small; memory 2G
# shows: overlayfs over images as over EROFS: several lowers, whiteouts and opaque directories
# of a lower, metacopy, redirect_dir, index, nfs_export, copy-up of a big file; and how deep.

import contextlib
import errno
import os
import shutil
import subprocess

import handles
from case import Image, drop_caches, mounted
from peers import outcome, peers

MERGED = "/mnt/merged"


@contextlib.contextmanager
def overlay(lowers, *options, target=MERGED, writable=True):
    """An overlayfs over `lowers`, with a new upper directory, of which it yields the path."""
    upper = "/scratch/upper" + target.replace("/", "-")
    shutil.rmtree(upper, ignore_errors=True)
    for name in f"{upper}/upper", f"{upper}/work", target:
        os.makedirs(name, exist_ok=True)
    layers = [f"lowerdir={':'.join(lowers)}", *options]
    if writable:
        layers += [f"upperdir={upper}/upper", f"workdir={upper}/work"]
    done = subprocess.run(["mount", "-t", "overlay", "-o", ",".join(layers), "overlay", target],
                          stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise OSError(errno.EINVAL, done.stderr)
    try:
        yield f"{upper}/upper"
    finally:
        subprocess.run(["umount", "-l", target], check=True)


def read(path):
    with open(path, "rb") as f:
        return f.read()


def both(root):
    return f"{root}/upper", f"{root}/lower"


def layers(root):
    """What the upper of two lowers hides, and what it adds."""
    with overlay(both(root), writable=False):
        return (sorted(os.listdir(f"{MERGED}/dir")), read(f"{MERGED}/dir/both").decode(),
                outcome(os.stat, f"{MERGED}/dir/hidden"), os.listdir(f"{MERGED}/opaque"))


def with_debian(root):
    """With another image in the stack."""
    with overlay((*both(root), OTHER)):
        return (sorted(os.listdir(f"{MERGED}/dir")), read(f"{MERGED}/etc/passwd") == read(f"{OTHER}/etc/passwd"))


def copy_up(root):
    with overlay((f"{root}/lower",)) as upper:
        with open(f"{MERGED}/big", "ab") as f:
            f.write(b"more")
        data = read(f"{MERGED}/big")
        return ("right bytes" if data == BIG + b"more" and read(f"{root}/lower/big") == BIG else "wrong bytes",
                os.path.getsize(f"{upper}/big") - len(BIG))


def metacopy(root):
    """A change of the owner copies no data."""
    with overlay((f"{root}/lower",), "metacopy=on") as upper:
        os.chown(f"{MERGED}/big", 1, 1)
        drop_caches()
        return (os.stat(f"{upper}/big").st_blocks, "trusted.overlay.metacopy" in os.listxattr(f"{upper}/big"),
                os.stat(f"{MERGED}/big").st_uid, "right bytes" if read(f"{MERGED}/big") == BIG else "wrong bytes")


def redirect(root):
    with overlay(both(root), "redirect_dir=on") as upper:
        os.rename(f"{MERGED}/dir", f"{MERGED}/renamed")
        drop_caches()
        return (sorted(os.listdir(f"{MERGED}/renamed")), os.path.exists(f"{MERGED}/dir"),
                os.getxattr(f"{upper}/renamed", "trusted.overlay.redirect"))


def index(root):
    """With an index, names of one inode stay names of one inode when it is copied up."""
    with overlay((f"{root}/lower",), "index=on"):
        with open(f"{MERGED}/link-a", "wb") as f:
            f.write(b"written")
        drop_caches()
        return read(f"{MERGED}/link-b").decode(), os.stat(f"{MERGED}/link-b").st_nlink


def nfs_export(root):
    """A handle of an overlayfs holds one of its lower filesystem."""
    with overlay((f"{root}/lower",), "index=on", "nfs_export=on"):
        handle = handles.of(f"{MERGED}/big")
        drop_caches()
        with handles.opened(MERGED, handle) as f:
            return "right bytes" if f.read() == BIG else "wrong bytes"


def twice(root):
    """overlayfs on overlayfs."""
    def merged():
        with overlay(both(root), target="/mnt/inner"), overlay(("/mnt/inner",)):
            return sorted(os.listdir(f"{MERGED}/dir"))
    return outcome(merged)


subprocess.run(["modprobe", "overlay"], check=True)
with mounted(Image("small")) as OTHER, peers("stacking") as found:
    BIG = read(found.source("lower/big"))
    found.row("two lowers, whiteout, opaque directory", layers)
    found.row("lowers of several images", with_debian)
    found.row("copy-up of a big file", copy_up)
    found.row("metacopy=on", metacopy)
    found.row("redirect_dir=on", redirect)
    found.row("index=on", index)
    found.row("nfs_export=on", nfs_export)
    found.row("overlayfs on overlayfs on it", twice)
print("overlayfs over an image is as over EROFS")
