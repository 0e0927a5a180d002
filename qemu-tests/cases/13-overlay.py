#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: images debian; memory 2G
# shows: what containers are run from: overlayfs over an image. Files are changed, removed
# and renamed above it, ownership and xattrs are copied up, the image stays as it is; two
# PuzzleFS mounts do not stack on each other.

import errno
import os
import subprocess

import mountapi
from case import Image, check, equal, mounted

image = Image("debian")
with mounted(image) as lower:
    for name in "/scratch/upper", "/scratch/work", "/mnt/merged":
        os.mkdir(name)
    subprocess.run(["modprobe", "overlay"], check=True)
    subprocess.run(["mount", "-t", "overlay", "-o",
                    f"lowerdir={lower},upperdir=/scratch/upper,workdir=/scratch/work",
                    "overlay", "/mnt/merged"], check=True)
    os.chdir("/mnt/merged/srv/corners")
    with open("size-4097", "r+b") as f:
        f.write(b"changed")
    os.chmod("grep-with-capability", 0o700)
    equal(os.getxattr("with-user-xattrs", "user.text"), b"value", "an xattr through overlayfs")
    os.unlink("empty")
    os.rename("nanoseconds" if os.path.exists("nanoseconds") else "mtime-nanoseconds", "renamed")
    equal(os.stat("renamed").st_mtime_ns, 1_700_000_000_123_456_789, "the mtime after rename")
    with open("new", "w") as f:
        f.write("new")
    script = "echo x >/tmp/file && cat /tmp/file && rm /srv/corners/zeros && ls /srv/corners | grep -c zeros"
    done = subprocess.run(["chroot", "/mnt/merged", "/bin/sh", "-c", script],
                          stdout=subprocess.PIPE, text=True)
    equal(done.stdout, "x\n0\n", "the shell in the container")
    os.chdir("/")
    subprocess.run(["umount", "/mnt/merged"], check=True)
    with open(os.path.join(lower, "srv/corners/size-4097"), "rb") as f:
        check(f.read(7) != b"changed", "the image has changed")
    check(os.path.exists(os.path.join(lower, "srv/corners/empty")), "a file of the image is gone")

    os.mkdir("/mnt/second")
    try:
        mountapi.mount([("oci_root_dir", lower), ("image_manifest", image.digest)], "/mnt/second")
        check(False, "a directory of a PuzzleFS was taken for a layout")
    except mountapi.MountError as error:
        print(errno.errorcode[error.errno], error.messages)
print("an overlay over the image was changed, the image was not")
