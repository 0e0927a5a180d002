#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# shows: two pulls from a docker-registry, a build and collections of garbage go on at once in one layout, again and
# again: all succeed, each image verifies and is its tree, and garbage goes.

import concurrent.futures
import json
import os
import random
import shutil
import subprocess
import tempfile
import time

from case import check, equal
from registries import Registry
from registrycase import ENV, PUZZLEFS, build, fresh, make_tree, puzzlefs, sound

ROUNDS = 9
top = tempfile.mkdtemp()
os.chdir(top)
# Each has much that another has.
for name, changed in (("base", ()), ("one", range(0, 20)), ("two", range(10, 40)), ("three", range(30, 50))):
    make_tree(name)
    for number in changed:
        with open(f"{name}/file-{number:03}", "wb") as f:
            f.write(random.Random(f"{name if number % 2 else ''}{number}").randbytes(30_000))
        os.utime(f"{name}/file-{number:03}", (number, number))
    os.utime(name, (0, 0))
    build(name, f"{name}-made:1")


def run(*arguments):
    done = subprocess.run([PUZZLEFS, *arguments], env=ENV, capture_output=True, text=True, timeout=300)
    check(done.returncode == 0, f"{' '.join(arguments)}: status {done.returncode}: {done.stderr}")
    return done.stdout


def once(registry, number, pool):
    """One layout that begins with an image and with garbage; gives how many collections there were meanwhile."""
    layout = fresh("layout")
    build("base", f"{layout}:base")
    build("three", f"{layout}:gone")
    puzzlefs("rm", f"{layout}:gone")
    # At times both pull the same, with one tag or with two.
    other, tag = (("two", "two"), ("one", "again"), ("one", "one"))[number % 3]

    def pull(image, tag):
        return ("pull", "--plain-http", "--quiet", f"docker://{registry.host}/{image}:1", f"{layout}:{tag}")

    third = ("build", "--no-cache", "--quiet", "three", f"{layout}:three")
    # What one of them removes makes garbage of what others are about to use.
    jobs = [[pull("one", "one"), pull("two", "one"), pull("one", "one")],
            [pull("three", tag), pull(other, tag), pull(other, tag)],
            [third, ("rm", f"{layout}:three"), third]]
    running = [pool.submit(all_of, job, random.Random(f"{number} {job}")) for job in jobs]
    collections = 0
    while not all(job.done() for job in running):
        run("gc", layout)
        collections += 1
    for job in running:
        job.result()
    trees = {"base": "base", "one": "one", tag: other, "three": "three"}
    check_all(layout, trees)
    equal(json.loads(run("gc", "--format", "json", layout))["abandoned_bytes"], 0, "what ended processes left")
    check_all(layout, trees)
    equal(json.loads(run("gc", "--format", "json", layout))["removed"], [], "what a second collection removes")
    return collections


def all_of(commands, rng):
    for command in commands:
        time.sleep(rng.random() / 10)
        run(*command)


def check_all(layout, trees):
    sound(layout, layout)
    for tag, tree in trees.items():
        puzzlefs("verify", f"{layout}:{tag}")
        puzzlefs("extract", f"{layout}:{tag}", fresh("out"))
        subprocess.run(["diff", "-r", tree, "out"], check=True)
    found = {entry["annotations"]["org.opencontainers.image.ref.name"]
             for entry in json.load(open(f"{layout}/index.json"))["manifests"]}
    equal(found, set(trees), "the tags")


with Registry(top) as registry, concurrent.futures.ThreadPoolExecutor(3) as pool:
    for name in "one", "two", "three":
        puzzlefs("push", "--plain-http", f"{name}-made:1", f"docker://{registry.host}/{name}:1")
    collections = [once(registry, number, pool) for number in range(ROUNDS)]
    check(sum(collections) > ROUNDS, f"collections: {collections}")
    print(f"{ROUNDS} rounds of two pulls, a build and {sum(collections)} collections of garbage")
shutil.rmtree(top)
