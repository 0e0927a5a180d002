# SPDX-License-Identifier: GPL-2.0
"""Trees as ordinary images: the base is a layer, and what the tree has besides is another."""

import os
import pathlib
import subprocess
import tarfile


def run(*command, **options):
    subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL, **options)


def names(tree):
    """All paths below `tree` with what lstat(2) says, directories before what is in them."""
    found = {}
    for directory, dirs, files in os.walk(tree):
        dirs.sort()
        for name in sorted(dirs + files):
            path = os.path.join(directory, name)
            found[os.path.relpath(path, tree)] = os.lstat(path)
    return found


def is_same(one, other):
    """Whether it is the same file: trees are copies of each other, with their times."""
    facts = [(stat.st_mode, stat.st_uid, stat.st_gid, stat.st_mtime_ns, stat.st_rdev,
              stat.st_size if not os.path.stat.S_ISDIR(stat.st_mode) else 0) for stat in (one, other)]
    return facts[0] == facts[1]


def layer(base, tree, path):
    """Writes a layer with what `tree` has besides `base` (OCI image-spec, layer.md)."""
    before, after = names(base), names(tree)
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, stat in after.items():
            if name not in before or not is_same(before[name], stat):
                tar.add(os.path.join(tree, name), arcname=name, recursive=False)
        for name in before:
            parent = os.path.dirname(name)
            if name not in after and (not parent or parent in after):
                tar.addfile(tarfile.TarInfo(os.path.join(parent, ".wh." + os.path.basename(name))))


def add_layer(layout, tag, tar):
    run("umoci", "raw", "add-layer", "--image", f"{layout}:{tag}", tar, stderr=subprocess.DEVNULL)


def base(trees, name, layout, tag, scratch):
    """Makes an image in which the tree `name` is one layer."""
    tar = pathlib.Path(scratch, f"{name}.tar")
    run("tar", "-C", trees / name, "--sort=name", "--format=posix", "--xattrs", "--xattrs-include=*", "-cf", tar, ".")
    run("umoci", "new", "--image", f"{layout}:{tag}", stderr=subprocess.DEVNULL)
    add_layer(layout, tag, tar)
    tar.unlink()


def ordinary(trees, series, layout, scratch):
    """Makes an image of each tree in `layout`; its base is what its name begins with."""
    run("umoci", "init", "--layout", layout)
    for name in sorted({name.split("-")[0] for name in series}):
        base(trees, name, layout, name, scratch)
    for name in series:
        below, tar = name.split("-")[0], pathlib.Path(scratch, f"{name}.tar")
        layer(trees / below, trees / name, tar)
        run("umoci", "tag", "--image", f"{layout}:{below}", name)
        add_layer(layout, name, tar)
        tar.unlink()


def dated(trees, images, layout, scratch):
    """Makes images of (tag, base, application): each base is one layer, what `new-`application has besides `new` another."""
    run("umoci", "init", "--layout", layout)
    tars = {name: pathlib.Path(scratch, f"{name}.tar") for name in {application for _, _, application in images}}
    for name, tar in tars.items():
        layer(trees / "new", trees / f"new-{name}", tar)
    for tag, below, application in images:
        base(trees, below, layout, tag, scratch)
        add_layer(layout, tag, tars[application])
    for tar in tars.values():
        tar.unlink()
