#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: images small; memory 2G
# shows: the lines for fstab and the systemd unit of docs/mounting.md, with another layout and
# other directories: `mount -a` mounts each once, however often it is run.

import configparser
import os
import re
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
print("fstab and systemd mount images")
