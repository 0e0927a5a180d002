# SPDX-License-Identifier: GPL-2.0
"""guest.py PLAN: the half of memory.py that runs in the virtual machine. PLAN (JSON) is a system
of memory.systems(). Prints, as JSON, by how many bytes the lines of /proc/meminfo changed from
before the mounts until all files were read."""

import json
import os
import shutil
import subprocess
import sys

IMAGES, MOUNTS = "/scratch/images", "/mnt/ten"
LINES = ("MemFree", "MemAvailable", "Cached", "Buffers", "Slab")


def run(*command):
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout


def meminfo():
    with open("/proc/meminfo") as file:
        found = dict(line.split(":") for line in file)
    return {name: int(found[name].split()[0]) << 10 for name in LINES}


def drop_caches():
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w") as file:
        file.write("3")


def mount(number, kind, options, image):
    """Mounts one image, a file by a loop device that leaves no second copy in the page cache; where."""
    folder, device = f"{MOUNTS}/{number}", "none"
    os.makedirs(folder, exist_ok=True)
    if image:
        device = run("losetup", "--find", "--show", "--read-only", "--direct-io=on", f"{IMAGES}/{image}").strip()
    run("mount", "-i", "-t", kind, "-o", options.format(images=IMAGES), device, folder)
    return folder


def cached_below(folder):
    """How much of the page cache the files below `folder` have, found by dropping them from it."""
    before = meminfo()["Cached"]
    for path, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(path, name), "rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return before - meminfo()["Cached"]


def measure(system):
    """Copies the images to where they are mounted from, mounts and reads all."""
    os.mkdir(IMAGES)
    for image in system["images"]:
        target = f"{IMAGES}/{os.path.basename(image)}"
        (shutil.copytree if os.path.isdir(image) else shutil.copy)(image, target)
    drop_caches()
    before = meminfo()
    mounted = [mount(number, *how) for number, how in enumerate(system["mounts"])]
    for folder in mounted:
        run("sh", "-c", 'find "$0" -xdev -type f -print0 | sort -z | xargs -0 cat >/dev/null', folder)
    after = meminfo()
    change = {name: after[name] - before[name] for name in LINES}
    lower = cached_below(IMAGES)
    with open("/proc/mounts") as file:
        options = [line.split()[3] for line in file if line.split()[1] == mounted[0]]
    return {"options": options[0], "images_cached": lower, **change}


def main():
    for module in "loop", "erofs":
        run("modprobe", module)
    with open(sys.argv[1]) as file:
        print(json.dumps(measure(json.load(file))))


main()
