#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: images small small-loose; memory 2G
# shows: `puzzlefs mount --overlay`: a writable view, by an overlayfs that shows the image first
# and then the changes, again after the next mount; the image stays as it is, no mount but the
# one is seen, umount leaves nothing; what cannot be is refused with what to do.

import os
import shutil
import subprocess

from case import Image, check, compare, equal, mounted

IMAGE = Image("small")
TAG = f"{IMAGE.layout}:test"
TARGET, UPPER = "/mnt/target", "/scratch/changes"


def run(*command, **options):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)


def overlay(*options, upper=UPPER, tag=TAG, target=TARGET):
    return run("puzzlefs", "mount", *options, "--overlay", upper, tag, target)


def must(done):
    equal(done.returncode, 0, f"{' '.join(done.args)} ({done.stdout})")


def refused(what, done, words):
    # 1: trouble, 4: not found, 5: refused.
    check(done.returncode in (1, 4, 5) and words in done.stdout, f"{what}: status {done.returncode}, {done.stdout}")
    print(f"{what}: {done.stdout.strip()}")


def mounts():
    """Mounts of overlayfs and PuzzleFS that are to be seen, as (type, source, options)."""
    with open("/proc/self/mountinfo") as f:
        tails = [line.split(" - ")[1].split() for line in f]
    return [tail for tail in tails if tail[0] in ("overlay", "puzzlefs")]


os.makedirs(TARGET, exist_ok=True)

# The image, then the changes.
must(overlay("-o", "nosuid"))
kind, source, options = mounts()[0]
equal((kind, source, len(mounts())), ("overlay", TAG, 1), "the mounts")
check(f"upperdir={UPPER}/upper" in options.split(","), f"the options are {options}")
check(os.statvfs(TARGET).f_flag & os.ST_NOSUID, "nosuid is not set")
# overlayfs counts and numbers directories in its own way.
compare(TARGET, IMAGE, ignore=("nlink", "same inode as"), least=1000)
with open(f"{TARGET}/etc/passwd", "a") as f:
    f.write("me:x:1:1::/:/bin/sh\n")
os.unlink(f"{TARGET}/etc/group")
os.mkdir(f"{TARGET}/new")
refused("a second mount with the same UPPER", overlay(target="/mnt"), "in use by another overlay")
with mounted(IMAGE) as root:
    compare(root, IMAGE, least=1000)
must(run("umount", TARGET))


def nothing_left():
    equal(mounts(), [], "the mounts")
    must(run("rmmod", "puzzlefs"))
    must(run("insmod", os.environ["PUZZLEFS_MODULE"]))


nothing_left()
must(overlay("-o", "ro"))
with open(f"{TARGET}/etc/passwd") as f:
    check("me:x:1" in f.read(), "a change is not there at the second mount")
equal((os.path.exists(f"{TARGET}/etc/group"), os.listdir(f"{TARGET}/new")), (False, []), "the other changes")
check(os.statvfs(TARGET).f_flag & os.ST_RDONLY, "ro is not set")

# What cannot be. Nothing stays that was made for it.
refused("UPPER on a read-only mount", overlay(upper=f"{TARGET}/new", target="/mnt"), "Read-only")
must(run("puzzlefs", "umount", TARGET))
refused("another image", overlay(tag=f"{Image('small-loose').layout}:test"), "another image")
must(overlay())
refused("UPPER on overlayfs", overlay(upper=f"{TARGET}/new", target="/mnt"), "ext4, xfs")
equal(os.listdir(f"{TARGET}/new"), [], "what is left in UPPER")
must(run("umount", TARGET))
refused("no mount point", overlay(upper="/scratch/none", target="/mnt/none"), "/mnt/none")
refused("an unknown option", overlay("-o", "no-such-option", upper="/scratch/none"), "overlay: Unknown parameter 'no-such-option'")
check(not os.path.exists("/scratch/none"), "UPPER is left")
with mounted(IMAGE) as root:
    refused("UPPER on a PuzzleFS", overlay(upper=f"{root}/etc"), "Read-only file system")
refused("UPPER is a file", overlay(upper=IMAGE.list), "exists")
refused("no image", overlay(tag=f"{IMAGE.layout}:none"), "no tag none")
shutil.copytree(IMAGE.layout, "/tmp/oci")
refused("a plain user", run("setpriv", "--reuid=1000", "--clear-groups", "puzzlefs", "mount", "--overlay", UPPER,
                            "/tmp/oci:test", TARGET), "only root may mount")
must(run("rmmod", "overlay"))
MODPROBE = "/proc/sys/kernel/modprobe"
with open(MODPROBE) as f:
    modprobe = f.read()
with open(MODPROBE, "w") as f:
    f.write("/bin/false")
refused("no overlayfs in the kernel", overlay(), "modprobe overlay")
with open(MODPROBE, "w") as f:
    f.write(modprobe)
nothing_left()
print("a writable view is the image and what was changed")
