# SPDX-License-Identifier: GPL-2.0
"""Has a virtual machine mount ten images of one form, read all their files, and say what memory
that took; a machine for each form. What it said is kept in the cache, too."""

import hashlib
import json
import pathlib
import subprocess

from images import cached, say
from systems import TOP

# What holds all that is read, so that nothing is dropped meanwhile; and the largest form.
MEMORY, SCRATCH = "5G", "3G"
GUEST = pathlib.Path(TOP) / "scripts/ten-images.d/guest.py"


def systems(stored):
    """What guest.py mounts: {"name", "title", "images" (files and directories), "mounts" (type,
    options, and the image that is mounted from a loop device, if one is)}."""
    layout = "oci_root_dir={images}/image,image_manifest="
    for name, form, title, option in (
            ("puzzlefs", "puzzlefs-default", "PuzzleFS, one layout", ""),
            ("puzzlefs-small", "puzzlefs-small", "PuzzleFS, profile small, one layout", ""),
            ("puzzlefs-apart", "puzzlefs-default", "PuzzleFS, one layout, no page cache shared", ",domain_id=")):
        place, ours = stored[form]
        yield {"name": name, "title": title, "images": [str(place / "image")],
               "mounts": [["puzzlefs", layout + manifest + option + (image if option else ""), None]
                          for image, manifest in ours["manifests"].items()]}

    names = list(ours["manifests"])
    place, _ = stored["erofs-each"]
    for name, title, options in (("erofs", "ten EROFS, page cache sharing off", "ro"),
                                 ("erofs-share", "ten EROFS, page cache sharing on", "ro,inode_share,domain_id=ten")):
        yield {"name": name, "title": title, "images": [str(place / name) for name in names],
               "mounts": [["erofs", options, name] for name in names]}


def measured(system):
    """What guest.py says of one system."""
    def make(place):
        say(f"reading in a virtual machine (some minutes): {system['title']} ...")
        plan = place / "plan.json"
        plan.write_text(json.dumps(system))
        return json.loads(subprocess.check_output(
            [f"{TOP}/scripts/vm", "--memory", MEMORY, "--scratch", SCRATCH, "--", "python3", "-B", GUEST, plan]))

    made_from = [json.dumps(system), GUEST.read_text(), MEMORY]
    if system["name"].startswith("puzzlefs"):
        made_from.append(hashlib.sha256((pathlib.Path(TOP) / "build/puzzlefs.ko").read_bytes()).hexdigest())
    return {"title": system["title"], **cached(f"ten-memory-{system['name']}", made_from, make)[1]}


def measure(stored):
    """What guest.py says of each system."""
    return [measured(system) for system in systems(stored)]
