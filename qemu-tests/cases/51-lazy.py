#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: images small; memory 3G
# shows: an image that was pulled by --lazy from Debian's docker-registry. Without `puzzlefs daemon` every file that is
# not here is EIO and none is wrong; with it all of the tree is as its source. The process that fetches is killed while
# four readers go through the tree: no wrong byte, no error, and afterwards all packs are what their names say.

import contextlib
import errno
import os
import random
import shutil
import signal
import time

from case import check, compare, drop_caches, equal, mounted
from lazyguest import IMAGE, TREE, Lazy, Reader, daemon, digest, is_completed, puzzlefs, workers
from registries import Registry

KILLS = 40


def pull(name, source):
    lazy = Lazy(name)
    report = puzzlefs("pull", "--lazy", "--plain-http", "--format", "json", source, f"{lazy.layout}:test")
    equal(report["manifest"], IMAGE.digest, "what was pulled")
    whole = sum(os.path.getsize(IMAGE.blob(pack)) for pack in lazy.packs())
    check(report["bytes_fetched"] * 8 < whole, f"{report['bytes_fetched']} of {whole} bytes came at once")
    check(len(lazy.records()) > 0, "nothing is missing")
    print(f"{name}: {report['requests']} requests, {report['bytes_fetched']} of {whole} bytes, "
          f"{len(lazy.records())} of {len(lazy.packs())} packs are lazy")
    return lazy


def alone(lazy):
    """Without anybody who fetches: what is not here is EIO. Gives how many files could be read."""
    outcome = {"right": 0, "EIO": 0}
    with mounted(lazy) as root:
        for name, entry in TREE.items():
            try:
                with open(os.path.join(root.encode(), name.encode("latin-1").lstrip(b"/")), "rb") as f:
                    found = digest(f)
            except OSError as error:
                equal(error.errno, errno.EIO, f"the error of {name}")
                outcome["EIO"] += 1
                continue
            equal(found, entry["sha256"], name)
            outcome["right"] += 1
    return outcome


def killed(source):
    lazy = pull("killed", source)
    deaths, rng = 0, random.Random(1)
    with daemon(lazy, options=("--on-failure", "wait", "--no-fill")) as process, mounted(lazy) as root:
        readers = [Reader(root, seed) for seed in range(4)]
        while any(reader.is_alive() for reader in readers):
            if deaths < KILLS:
                time.sleep(rng.uniform(0, 0.4))
                for pid in workers(process):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                        deaths += 1
            else:
                time.sleep(0.1)
        for reader in readers:
            reader.join()
            equal(reader.faults, [], "what a reader found")
        check(deaths > 5, f"only {deaths} workers were killed: the tree was read too fast")
        print(f"killed: {deaths} workers, {sum(reader.bytes for reader in readers)} bytes read by four, all right")
    is_completed(lazy, "--plain-http")


def filled(source):
    """What nobody reads comes as well, also of an image that was pulled after the daemon had begun."""
    os.makedirs("/scratch/filled/blobs/sha256")
    with open("/scratch/filled/oci-layout", "w") as f:
        f.write('{"imageLayoutVersion":"1.0.0"}')
    first = Lazy("filled")
    with daemon(first):
        lazy = pull("filled", source)
        for _ in range(600):
            if not lazy.records():
                break
            time.sleep(0.5)
        equal(lazy.records(), [], "packs that are not filled")
    puzzlefs("verify", f"{lazy.layout}:test")


def unreachable(lazy):
    """Whoever reads what no source gives has an error after the time that was said."""
    with daemon(lazy, options=("--timeout", "1", "--no-fill", "--retry-times", "0")), mounted(lazy) as root:
        start = time.monotonic()
        name = max(TREE, key=lambda name: TREE[name]["size"])
        try:
            with open(os.path.join(root.encode(), name.encode("latin-1").lstrip(b"/")), "rb") as f:
                f.read()
            check(False, f"{name} could be read")
        except OSError as error:
            equal(error.errno, errno.EIO, "the error")
        check(time.monotonic() - start < 60, "it took too long")


with Registry("/scratch") as registry:
    source = f"docker://{registry.host}/a/small:1"
    puzzlefs("push", "--plain-http", f"{IMAGE.layout}:test", source)
    lazy = pull("lazy", source)
    outcome = alone(lazy)
    print(f"alone: {outcome}")
    check(outcome["EIO"] > 1000, f"{outcome}: what was not here could be read")
    drop_caches()
    with daemon(lazy, options=("--no-fill",)), mounted(lazy) as root:
        compare(root, lazy, least=2000)
    status = puzzlefs("status", "--format", "json", lazy.layout)["images"][0]
    print(f"with the daemon: {status['bytes_here']} of {status['bytes']} bytes are here, "
          f"{len(lazy.records())} packs lack something that no file has")
    puzzlefs("verify", f"{lazy.layout}:test")
    killed(source)
    filled(source)
    gone = pull("gone", source)
unreachable(gone)
for name in "lazy", "killed", "filled", "gone":
    shutil.rmtree(f"/scratch/{name}")
print("lazy images: right bytes, or EIO")
