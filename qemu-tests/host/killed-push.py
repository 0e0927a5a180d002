#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# shows: push is killed at each call by which it sends or writes, the one after the other: what the registry's tag
# names is the old image or the new one, whole, for us and for skopeo, and the next push goes on.

import os
import shutil
import tempfile

from case import check, equal
from killing import killed
from registries import Registry
from registrycase import ENV, PUZZLEFS, fresh, make_ordinary, make_tree, puzzlefs, skopeo

CALLS = ("connect", "sendto", "sendmsg", "write", "writev", "pwrite64")
top = tempfile.mkdtemp()
os.chdir(top)
for number in 1, 2:
    make_tree(f"tree-{number}", number, 12)
    puzzlefs("build", "--no-cache", "--pack-size", "128K", f"tree-{number}", "L:" + str(number))
    make_ordinary(f"tree-{number}", f"O{number}")
files = [sorted(os.listdir("L/blobs/sha256"))]


def digest(reference):
    """Of what a tag names, all of which is there."""
    skopeo("copy", "--src-tls-verify=false", reference, f"dir:{fresh('copied')}")
    report = puzzlefs("pull", "--plain-http", "--format", "json", reference, f"{fresh('P')}:1")
    puzzlefs("verify", "P:1")
    return report["manifest"]


def try_all(registry, name, *options):
    repositories = f"{registry.data}/docker/registry/v2/repositories"
    ours = [puzzlefs("inspect", "--format", "json", f"L:{number}")["manifest"] for number in (1, 2)]

    def push(to, number, *more):
        beside = ("--with", f"oci:O{number}:1") if options else ()
        return ("push", "--plain-http", "--jobs", "1", *beside, *more, f"L:{number}", f"docker://{registry.host}/{to}:x")

    puzzlefs(*push(f"{name}-old", 1))
    equal(digest(f"docker://{registry.host}/{name}-old:x"), ours[0], f"{name}: the old image")
    points = {}
    for call in CALLS:
        for number in range(1, 1000):
            repository = f"{name}-{call}-{number}"
            shutil.copytree(f"{repositories}/{name}-old", f"{repositories}/{repository}")
            if not killed((PUZZLEFS, *push(repository, 2)), call, number, ENV):
                break
            what = f"{name}, killed at {call} {number}"
            at = f"docker://{registry.host}/{repository}:x"
            found = digest(at)
            check(found in ours, f"{what}: the tag is {found}")
            points.setdefault(found, []).append(call)
            report = puzzlefs(*push(repository, 2, "--format", "json"))
            equal(digest(at), ours[1], f"{what}: the tag after another push")
            if found == ours[1]:
                equal(report["sent"]["blobs"], 0, f"{what}: blobs that are sent again")
            equal(puzzlefs("verify", "--quiet", "L:2"), "", f"{what}: the layout")
        else:
            check(False, f"{name}: {call} has no end")
    old, new = (len(points.get(manifest, [])) for manifest in ours)
    check(old > 10, f"{name}: only {old} points before the tag")
    equal([sorted(os.listdir("L/blobs/sha256"))], files, "the layout's blobs")
    print(f"{name}: killed at {old} points before the tag was the new image, and at {new} after it")


with Registry(top) as registry:
    try_all(registry, "push")
    try_all(registry, "both", "--with")
