#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: images small debian; memory 2G
# shows: what mount(8), the mount helper, `puzzlefs mount` and /proc/mounts make of options;
# two mounts at once, of one image and of two; statfs; a busy mount stays.

import os
import subprocess

from case import Image, check, compare, equal, mount, mounted


def shown(target):
    """The line of /proc/mounts for `target`."""
    with open("/proc/mounts") as f:
        for line in f:
            source, where, kind, options, *_ = line.split()
            if where == target:
                return source, kind, options.split(",")
    return None


def run(*command):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


small = Image("small")
os.mkdir("/mnt/a")
os.mkdir("/mnt/b")

# What /proc/mounts shows makes the same mount again.
with mounted(small, "/mnt/a", ",nosuid,nodev,noatime"):
    source, kind, options = shown("/mnt/a")
    equal((source, kind), ("none", "puzzlefs"), "source and type")
    for option in "ro", "nosuid", "nodev", "noatime":
        check(option in options, f"{option} is not in {options}")
    mount(",".join(options), "/mnt/b")
    equal(shown("/mnt/b"), shown("/mnt/a"), "the second mount")
    equal(os.stat("/mnt/a/etc/passwd").st_size, os.stat("/mnt/b/etc/passwd").st_size, "a size")

    # Busy: a file is open, then it is not.
    with open("/mnt/b/etc/passwd") as f:
        check(run("umount", "/mnt/b").returncode != 0, "a busy mount was unmounted")
        check(run("rmmod", "puzzlefs").returncode != 0, "the module of a mount was unloaded")
        check(f.read().startswith("root:"), "the open file cannot be read")
    equal(run("umount", "/mnt/b").returncode, 0, "umount")

    # A second image beside the first; a lazy umount under an open file.
    mount(Image("debian").options(), "/mnt/b")
    with open("/mnt/b/usr/bin/perl", "rb") as f:
        equal(run("umount", "-l", "/mnt/b").returncode, 0, "umount -l")
        equal(len(f.read()), os.fstat(f.fileno()).st_size, "what is read after umount -l")

    # statfs: full, of the image's size, and without a walk.
    st = os.statvfs("/mnt/a")
    equal(st.f_bfree, 0, "free blocks")
    check(st.f_blocks * st.f_frsize > 1 << 20, f"only {st.f_blocks} blocks of {st.f_frsize}")
    equal(st.f_namemax, 255, "f_namemax")
    equal(st.f_files, len({os.lstat(os.path.join(d, n)).st_ino for d, ds, fs in os.walk("/mnt/a")
                           for n in ds + fs}) + 1, "f_files")

# The helper of mount(8) resolves a tag; so does `puzzlefs mount`.
tag = f"{small.layout}:test"
for command in (("mount", "-t", "puzzlefs", "-o", "nodev", tag, "/mnt/a"),
                ("puzzlefs", "mount", "-o", "nodev", tag, "/mnt/a")):
    done = run(*command)
    equal(done.returncode, 0, f"{' '.join(command)} ({done.stdout})")
    options = shown("/mnt/a")[2]
    check("nodev" in options and f"image_manifest={small.digest}" in options, f"it has {options}")
    compare("/mnt/a", small, least=1000)
    equal(run("puzzlefs" if command[0] == "puzzlefs" else "umount", *(
        ("umount", "/mnt/a") if command[0] == "puzzlefs" else ("/mnt/a",))).returncode, 0, "umount")

# A remount changes the mount and never the image; it stays read-only.
with mounted(small, "/mnt/a"):
    for options in "remount,nosuid", "remount,rw":
        done = run("mount", "-o", options, "/mnt/a")
        equal(done.returncode, 0, f"mount -o {options} ({done.stdout})")
    options = shown("/mnt/a")[2]
    check("nosuid" in options and "ro" in options, f"after the remounts it has {options}")
    done = run("mount", "-o", f"remount,image_manifest={'0' * 64}", "/mnt/a")
    check(done.returncode != 0 and "remount" in done.stdout, f"another image: {done.stdout}")

# A person sees the reason.
done = run("mount", "-t", "puzzlefs", f"{small.layout}:no-such-tag", "/mnt/a")
check(done.returncode != 0 and "no-such-tag" in done.stdout, f"a wrong tag: {done.stdout}")
done = run("mount", "-t", "puzzlefs", "-o", f"oci_root_dir={small.layout},image_manifest={'0' * 64}",
           "none", "/mnt/a")
check(done.returncode != 0 and "0" * 64 in done.stdout, f"a wrong digest: {done.stdout}")
print("options, helper, statfs and busy mounts are as they should be")
