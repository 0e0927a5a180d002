#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: images small debian; memory 3G
# shows: what Python reads of an image is recorded, in the image and at a mount point of it; the image is packed by that and
# pulled by --lazy from a web server. Started from there, Python costs a few requests, where it takes as many as it has
# places to read without a profile, and its answer is the same. What nobody reads comes afterwards. A daemon with fifty images is small.

import json
import os
import re
import shutil
import subprocess
import time

from case import Image, check, equal, mounted
from lazyguest import daemon, workers
from webserver import Web

PYTHON = """
import json, decimal, email.message, hashlib, http.client, sqlite3, unicodedata, xml.dom.minidom
print(json.dumps({"digest": hashlib.sha256(b"x").hexdigest()[:8], "name": unicodedata.name("\\u00e9"),
                  "sql": sqlite3.connect(":memory:").execute("select 6 * 7").fetchone()[0]}))
"""
ANSWER = '{"digest": "2d711642", "name": "LATIN SMALL LETTER E WITH ACUTE", "sql": 42}'
COMMAND = ["/usr/bin/python3", "-B", "-c", PYTHON]
IMAGE = Image("debian")


class There(Image):
    """The image in a layout below /scratch."""

    def __init__(self, name, digest=IMAGE.digest):
        super().__init__(IMAGE.name)
        self.layout, self.digest = f"/scratch/{name}", digest

    def tag(self):
        return f"{self.layout}:test"

    def records(self):
        return os.listdir(f"{self.layout}/puzzlefs-lazy")


def run(*command, **options):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
    check(done.returncode == 0, f"{' '.join(command)}: status {done.returncode}: {done.stderr}")
    return done.stdout


def puzzlefs(*arguments):
    out = run("puzzlefs", *arguments)
    return json.loads(out) if "json" in arguments else out


def record(target, *command):
    out = puzzlefs("profile", "record", "--format", "text", "-o", "/scratch/profile", target, "--", *command)
    check(ANSWER in out, f"the program has said: {out}")
    chunks, stored = re.search(r"^read +(\d+) chunks, (\d+) bytes", out, re.M).groups()
    with open("/scratch/profile") as f:
        head, *parts = map(json.loads, f)
    equal(head, {"schema": "puzzlefs-profile-1"}, "the profile's first line")
    return int(chunks), int(stored), parts


def recorded(plain):
    """In the image, and at a mount of it that was there before; no file that was not opened is named."""
    chunks, stored, parts = record(plain.tag(), *COMMAND)
    whole = puzzlefs("inspect", "--format", "json", plain.tag())
    print(f"recorded: {chunks} of {whole['chunks']} chunks, {stored} of {whole['stored_bytes']} bytes")
    check(50 < chunks and stored * 4 < whole["stored_bytes"], "as much as that was not read")
    paths = [part["path"] for part in parts]
    check(any(re.fullmatch(r"/usr/bin/python3\.\d+", path) for path in paths), "Python is not in its profile")
    check(any("/xml/dom/" in path for path in paths), f"a module is not in the profile: {paths}")
    wrong = [path for path in paths if re.search(r"/perl|/man/|/share/doc/", path)]
    check(len(wrong) * 20 < len(paths), f"Python has read {wrong[:9]}")
    shutil.copy("/scratch/profile", "/scratch/python.profile")
    with mounted(plain) as root:
        equal(run("chroot", root, *COMMAND).strip(), ANSWER, "Python's answer")  # so all of it is in memory
        again, _, _ = record(root, "chroot", root, *COMMAND)
    check(again * 10 > chunks * 9, f"{again} chunks at the mount point, and {chunks} in the image")
    check(os.listdir("/tmp") == [name for name in os.listdir("/tmp") if "puzzlefs-profile" not in name], "what is left")


def packed(name):
    """Packed by the profile, and copied by a tool that knows nothing of it."""
    there, copy = There(name), There(f"{name}-copy")
    puzzlefs("repack", "--gc", "--profile-from", "/scratch/python.profile", there.layout, "test")
    report = puzzlefs("inspect", "--format", "json", there.tag())
    copy.digest = report["manifest"]
    run("skopeo", "--insecure-policy", "copy", "-q", "--preserve-digests", f"oci:{there.tag()}", f"oci:{copy.tag()}")
    shutil.rmtree(there.layout)
    puzzlefs("verify", copy.tag())
    equal(puzzlefs("inspect", "--format", "json", copy.tag())["profile"], report["profile"], "the profile of the copy")
    return copy, report["profile"]


def started(web, there, *options):
    """Pulls the image, starts Python from it; gives how many requests that has cost, their bytes, and seconds."""
    lazy = There(f"lazy-{os.path.basename(there.layout)}", there.digest)
    host = f"http://127.0.0.1:{web.server_port}"
    puzzlefs("pull", "--lazy", f"{host}/{os.path.basename(there.layout)}:test", lazy.tag())
    check(len(lazy.records()) > 0, "nothing is missing")
    del web.asked[:]
    with daemon(lazy, options=options), mounted(lazy) as root:
        start = time.monotonic()
        equal(run("chroot", root, *COMMAND).strip(), ANSWER, "Python's answer")
        seconds = time.monotonic() - start
        asked = list(web.asked)
        if not options:
            for _ in range(1200):
                if not lazy.records():
                    break
                time.sleep(0.5)
            equal(lazy.records(), [], "packs that are not filled")
            puzzlefs("verify", lazy.tag())
    shutil.rmtree(lazy.layout)
    # Not what says where the image is.
    small = [name for name, *_ in asked if len(name) != 64 or name == there.digest]
    asked = [request for request in asked if request[0] not in small]
    size = sum(end - start for _, start, end in asked)
    print(f"{there.layout} {' '.join(options)}: {len(asked)} requests, {size} bytes, {seconds:.1f} s")
    return asked, size


def idle(source):
    """What a daemon takes that serves fifty images of which nothing is read."""
    puzzlefs("pull", "--lazy", source, There("idle-0").tag())
    layouts = [There(f"idle-{number}") for number in range(50)]
    for there in layouts[1:]:
        run("cp", "-a", "--sparse=always", layouts[0].layout, there.layout)
    with daemon(*layouts, options=("--no-fill",)) as process:
        time.sleep(10)
        size = sum(proportional(pid) for pid in (process.pid, *workers(process)))
        status = puzzlefs("status", "--format", "json", layouts[-1].layout)
    chunks = sum(pack["chunks"] for pack in status["images"][0]["lazy"])
    print(f"idle: {size / 1e6:.1f} MB for 50 images, each with {chunks} chunks that are not here")
    check(size < 20 << 20 and chunks > 2000, "a daemon that does nothing takes more than 20 MiB")
    for there in layouts:
        shutil.rmtree(there.layout)


def proportional(pid):
    """Bytes of memory of a process, of what others have too its part."""
    with open(f"/proc/{pid}/smaps_rollup") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("Pss:")) << 10


plain = There("plain")
for name in "plain", "packed":
    shutil.copytree(IMAGE.layout, f"/scratch/{name}")
recorded(plain)
packed, profile = packed("packed")
print(f"profile: {profile}")
web = Web()
without, _ = started(web, plain, "--no-fill")
asked, size = started(web, packed, "--no-fill")
check(len(asked) * 5 < len(without), f"{len(asked)} requests with a profile, {len(without)} without")
print([(name[:8], start, end - start) for name, start, end in asked])
check(len(asked) <= 6, f"{len(asked)} requests: {asked}")
check(size < 2 * profile["bytes"], f"{size} bytes came, and {profile['bytes']} are listed")
started(web, packed)
idle(f"http://127.0.0.1:{web.server_port}/plain:test")
web.close()
for there in plain, packed:
    shutil.rmtree(there.layout)
print(f"Python starts by {len(asked)} requests, and by {len(without)} without a profile")
