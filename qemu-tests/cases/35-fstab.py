#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: images small; memory 2G
# shows: the lines for fstab and the systemd unit of docs/mounting.md, with another layout and
# other directories: `mount -a` mounts each once, however often it is run. Options as mount(8), fstab
# and systemd write them, with commas in values; a remount; `puzzlefs umount` is for images only;
# what surrounds UPPER does not get into a writable view; extraction in a user namespace.

import configparser
import filecmp
import json
import os
import re
import stat
import struct
import subprocess

from case import Image, check, compare, equal

IMAGE = Image("small")
FSTAB = "/tmp/fstab"


def run(*command, **options):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    equal(done.returncode, 0, f"{' '.join(command)} ({done.stdout})")
    return done.stdout


def blocks():
    """The indented texts of the document, with our places for its places."""
    places = {"/var/lib/images:debian": "/tmp/images:test", "/var/lib/images": "/tmp/images", "/srv": "/mnt/srv",
              "/var/lib/changes": "/scratch/fstab"}
    with open(f"{os.environ['PUZZLEFS_TOP']}/docs/mounting.md") as f:
        text = f.read()
    for place, ours in places.items():
        text = text.replace(place, ours)
    found = re.findall(r"(?:^(?:    .*)?\n)+", text, re.M)
    return [re.sub("^    ", "", block, flags=re.M).strip("\n") + "\n" for block in found if block.strip()]


def mounts():
    with open("/proc/self/mountinfo") as f:
        lines = [line.split() for line in f]
    return sorted((line[4], line[line.index("-") + 1]) for line in lines
                  if line[line.index("-") + 1] in ("puzzlefs", "overlay"))


# By a link, as a layout may be reached.
os.symlink(IMAGE.layout, "/tmp/images")
for name in "upper", "work":
    os.makedirs(f"/scratch/fstab/{name}")
subprocess.run(["modprobe", "overlay"], check=True)

lines = [block for block in blocks() if block.endswith(" 0 0\n")]
equal(len(lines), 2, "the texts for fstab")
with open(FSTAB, "w") as f:
    f.writelines(lines)
for _ in range(2):
    print(run("mount", "-a", "--verbose", "-T", FSTAB))
    equal(mounts(), [("/mnt/srv/debian", "puzzlefs"), ("/mnt/srv/writable", "overlay"), ("/run/debian", "puzzlefs")],
          "the mounts of fstab")
check(os.statvfs("/mnt/srv/debian").f_flag & os.ST_NOSUID, "the image is not mounted nosuid")
compare("/mnt/srv/debian", IMAGE, least=1000)
with open("/mnt/srv/writable/new", "w") as f:
    f.write("new")
equal(os.listdir("/scratch/fstab/upper"), ["new"], "what was changed")
run("mount", "-o", "remount,noexec", "-T", FSTAB, "/mnt/srv/debian")
check(os.statvfs("/mnt/srv/debian").f_flag & os.ST_NOEXEC, "the image is not remounted noexec")

# What systemd makes of the lines.
os.mkdir("/tmp/units")
run("/usr/lib/systemd/system-generators/systemd-fstab-generator", "/tmp/units", "/tmp/units", "/tmp/units",
    env=os.environ | {"SYSTEMD_FSTAB": FSTAB, "SYSTEMD_IN_INITRD": "0"})
with open("/tmp/units/mnt-srv-debian.mount") as f:
    unit = f.read()
for line in "What=/tmp/images:test", "Type=puzzlefs", "RequiresMountsFor=/tmp/images":
    check(line in unit.splitlines(), f"{line} is not in what systemd makes of fstab:\n{unit}")
run("umount", "/mnt/srv/writable")
run("umount", "/mnt/srv/debian")
run("umount", "/run/debian")

# The unit, as systemd mounts it, and as it reads it.
text, = (block for block in blocks() if "[Mount]" in block)
unit = configparser.ConfigParser()
unit.optionxform = str
unit.read_string(text)
mount = unit["Mount"]
name = run("systemd-escape", "--path", "--suffix=mount", mount["Where"]).strip()
with open(f"/tmp/units/{name}", "w") as f:
    f.write(text)
print(run("systemd-analyze", "verify", "--man=no", f"/tmp/units/{name}"))
run("mount", mount["What"], mount["Where"], "-t", mount["Type"], "-o", mount["Options"])
compare(mount["Where"], IMAGE, least=1000)
run("umount", mount["Where"])


def flags(path):
    found = os.statvfs(path).f_flag
    return {name for name in ("NOSUID", "NOEXEC", "NODEV") if found & getattr(os, f"ST_{name}")}


def commas():
    """A layout with a path that ends as an option of mount(8): it is in no way taken for one."""
    layout, target = "/scratch/with,exec", "/mnt/comma"
    os.makedirs(layout)
    run("mount", "--bind", IMAGE.layout, layout)
    named = f'oci_root_dir="{layout}",image_manifest={IMAGE.digest}'
    theirs = "nofail,_netdev,comment=theirs,x-theirs,X-mount.mkdir=0710"
    with open(FSTAB, "w") as f:
        f.write(f"none {target} puzzlefs {named},noexec,{theirs} 0 0\n")
    run("/usr/lib/systemd/system-generators/systemd-fstab-generator", "/tmp/units", "/tmp/units", "/tmp/units",
        env=os.environ | {"SYSTEMD_FSTAB": FSTAB, "SYSTEMD_IN_INITRD": "0"})
    with open("/tmp/units/mnt-comma.mount") as f:
        unit_options, = (line.split("=", 1)[1].strip() for line in f if line.startswith("Options="))
    tag = f"{layout}:test"
    for command in (("mount", "-a", "-T", FSTAB),
                    ("mount", "-t", "puzzlefs", "-o", unit_options, "none", target),
                    ("mount", "-t", "puzzlefs", "-o", f"{named},noexec", "none", target),
                    ("mount", "-t", "puzzlefs", "-o", "noexec", tag, target),
                    ("puzzlefs", "mount", "-o", f"noexec,{theirs}", tag, target)):
        run(*command)
        compare(target, IMAGE, least=1000)
        with open("/proc/mounts") as f:
            check("oci_root_dir=/scratch/with\\054exec," in f.read(), "the comma is not shown as \\054")
        equal(flags(target), {"NOEXEC"}, f"the flags after {' '.join(command)}")
        run("mount", "-o", "remount,nosuid", target)
        equal(flags(target), {"NOEXEC", "NOSUID"}, "the flags after a remount")
        run("mount", "-o", "remount,suid,nodev", target)
        equal(flags(target), {"NOEXEC", "NODEV"}, "the flags after another remount")
        compare(target, IMAGE, least=1000)
        run("puzzlefs", "umount", target)
    equal(os.stat(target).st_mode & 0o7777, 0o710, "the mode of the mount point that was made")
    run("puzzlefs", "mount", "-o", "X-mount.mkdir=0700", tag, "/mnt/deep/made")
    run("puzzlefs", "umount", "/mnt/deep/made")
    equal(os.stat("/mnt/deep/made").st_mode & 0o7777, 0o700, "the mode of another one")
    run("umount", layout)


def refused(status, words, *command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    check(done.returncode == status and words in done.stdout, f"{command}: {done.returncode}, {done.stdout}")
    print(f"{' '.join(command)}: {done.stdout.strip()}")


def unmounting():
    """`puzzlefs umount` leaves alone what is no image, nor a view that it has made."""
    for name in "foreign", "view", "lower":
        os.makedirs(f"/mnt/{name}", exist_ok=True)
    run("mount", "-t", "tmpfs", "none", "/mnt/foreign")
    refused(5, "a mount of tmpfs", "puzzlefs", "umount", "/mnt/foreign")
    check(os.path.ismount("/mnt/foreign"), "a tmpfs was unmounted")
    refused(4, "no mount point", "puzzlefs", "umount", "/mnt/lower")
    run("mount", "-t", "puzzlefs", "/tmp/images:test", "/mnt/lower")
    for name in "upper", "work":
        os.makedirs(f"/scratch/foreign/{name}")
    run("mount", "-t", "overlay", "-o", "lowerdir=/mnt/lower,upperdir=/scratch/foreign/upper,"
        "workdir=/scratch/foreign/work", "overlay", "/mnt/view")
    refused(5, "a mount of overlay", "puzzlefs", "umount", "/mnt/view")
    run("umount", "/mnt/view")
    # The image is above the tmpfs, and only the image goes.
    run("puzzlefs", "mount", "/tmp/images:test", "/mnt/foreign")
    run("puzzlefs", "umount", "/mnt/foreign")
    check(os.path.ismount("/mnt/foreign"), "a tmpfs below an image was unmounted")
    run("umount", "/mnt/foreign")
    refused(5, "X-mount.idmap is done by mount(8)", "puzzlefs", "mount", "-o", "X-mount.idmap=b:0:1:1",
            "/tmp/images:test", "/mnt/view")
    run("puzzlefs", "umount", "/mnt/lower")


def surroundings():
    """A default ACL of the directory that UPPER is in."""
    # Version 2; tag, permissions, id: owner, user 1234, group, mask, others.
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", tag, 7, user) for tag, user in (
        (1, 0xffffffff), (2, 1234), (4, 0xffffffff), (0x10, 0xffffffff), (0x20, 0xffffffff)))
    os.makedirs("/scratch/acl")
    os.setxattr("/scratch/acl", "system.posix_acl_default", acl)
    run("puzzlefs", "mount", "--overlay", "/scratch/acl/changes", "/tmp/images:test", "/mnt/view")
    run("mount", "-t", "puzzlefs", "/tmp/images:test", "/mnt/lower")
    here, image = (set(os.listxattr(root)) for root in ("/mnt/view", "/mnt/lower"))
    equal(here, image, "the extended attributes of the root of a view")
    equal(os.stat("/mnt/view").st_mode, os.stat("/mnt/lower").st_mode, "its mode")
    os.mkdir("/mnt/view/new")
    check("system.posix_acl_access" not in os.listxattr("/mnt/view/new"), "a new directory has an ACL")
    run("puzzlefs", "umount", "/mnt/view")
    run("puzzlefs", "umount", "/mnt/lower")


def namespace():
    """The root of a user namespace extracts an image: all names and contents, and says what it left out."""
    done = subprocess.run(["unshare", "--user", "--map-root-user", "puzzlefs", "extract", "--format", "json",
                           "/tmp/images:test", "/scratch/extracted"], stdout=subprocess.PIPE, text=True)
    report = json.loads(done.stdout)
    check(done.returncode == 2 and report["skipped"] > 0, f"status {done.returncode}, {report}")
    run("mount", "-t", "puzzlefs", "/tmp/images:test", "/mnt/lower")
    names = {}
    for root in "/scratch/extracted", "/mnt/lower":
        names[root] = {os.path.relpath(os.path.join(top, name), root) for top, dirs, files in os.walk(root)
                       for name in dirs + files}
    missing = names["/mnt/lower"] - names["/scratch/extracted"]
    check(all(stat.S_IFMT(os.lstat(f"/mnt/lower/{name}").st_mode) in (stat.S_IFCHR, stat.S_IFBLK) for name in missing),
          f"missing are {sorted(missing)[:10]}")
    for name in sorted(names["/scratch/extracted"]):
        a, b = f"/scratch/extracted/{name}", f"/mnt/lower/{name}"
        if stat.S_ISREG(os.lstat(a).st_mode):
            check(filecmp.cmp(a, b, shallow=False), f"{name} differs")
    print(f"in a user namespace: {report}, without {sorted(missing)}")
    run("puzzlefs", "umount", "/mnt/lower")


commas()
unmounting()
surroundings()
namespace()
print("fstab and systemd mount images")
