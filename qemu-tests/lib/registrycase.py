# SPDX-License-Identifier: GPL-2.0
"""What the cases about registries share: images to push, and what is to be true of layouts afterwards."""

import hashlib
import json
import os
import random
import shutil
import subprocess

from case import check, equal

PUZZLEFS = os.path.join(os.environ["PUZZLEFS_TOP"], "build/puzzlefs")
STATUS = {"damaged": 3, "not found": 4, "refused": 5, "trouble": 1}
# Nothing of this user's own is to be looked at.
ENV = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "XDG_RUNTIME_DIR": "/nonexistent", "LC_ALL": "C.UTF-8"}


def puzzlefs(*arguments, env=None, fails=None):
    """Runs it; gives its JSON, or, if it `fails` with that status, what it says."""
    done = subprocess.run([PUZZLEFS, *arguments], capture_output=True, text=True, env={**ENV, **(env or {})},
                          timeout=300)
    command = " ".join(arguments)
    if fails is None:
        check(done.returncode == 0, f"{command}: status {done.returncode}: {done.stderr}")
        return json.loads(done.stdout) if "json" in arguments else done.stdout
    check(done.returncode == STATUS[fails], f"{command}: status {done.returncode}, want {STATUS[fails]}: {done.stderr}")
    check(done.stderr.startswith("puzzlefs: error: ") and done.stderr.count("\n") == 1, f"{command}: {done.stderr!r}")
    return done.stderr


def build(tree, image):
    return puzzlefs("build", "--no-cache", "--pack-size", "256K", "--format", "json", tree, image)


def make_tree(path, seed=1, files=60):
    """Files that do not compress, so that there are several packs."""
    rng = random.Random(seed)
    os.makedirs(path)
    for number in range(files):
        with open(os.path.join(path, f"file-{number:03}"), "wb") as f:
            f.write(rng.randbytes(rng.randrange(1, 60_000)))
        os.utime(os.path.join(path, f"file-{number:03}"), (number, number))
    os.utime(path, (0, 0))


def make_ordinary(tree, layout, tag="1"):
    """The same tree as an image of one layer, by umoci."""
    subprocess.run(["umoci", "init", "--layout", layout], check=True)
    subprocess.run(["umoci", "new", "--image", f"{layout}:{tag}"], check=True, capture_output=True)
    subprocess.run(["umoci", "insert", "--image", f"{layout}:{tag}", tree, "/"], check=True, capture_output=True)


def skopeo(*arguments):
    return subprocess.run(["skopeo", *arguments], check=True, capture_output=True, env=ENV).stdout


def sound(layout, what):
    """Every blob is what its name says."""
    directory = os.path.join(layout, "blobs/sha256")
    names = os.listdir(directory) if os.path.isdir(directory) else []
    for name in names:
        if len(name) == 64:
            with open(os.path.join(directory, name), "rb") as f:
                equal(hashlib.sha256(f.read()).hexdigest(), name, f"{what}: a blob")
    return len(names)


def fresh(path):
    shutil.rmtree(path, ignore_errors=True)
    return path
