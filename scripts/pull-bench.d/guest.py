# SPDX-License-Identifier: GPL-2.0
"""guest.py DATA TAG...: the part of `make pull-bench` that runs in the virtual machine. A registry with the data below
the directory DATA is behind a link of 100 Mbit/s and 20 ms there and back; prints as JSON how many seconds each
pull takes: by layers, as they are fetched, and as podman has them unpacked and mounted; by zstd:chunked, mounted, too; by
ours, mounted."""

import json
import os
import sys
import time

sys.path.append(os.path.join(os.path.dirname(__file__), "../../qemu-tests/lib"))
from link import DISK, PORT, SERVER, link, memory, registry, run
from podman import Podman

DATA, TAGS = sys.argv[1], sys.argv[2:]


def seconds(what):
    run("sync")
    before = time.monotonic()
    what()
    return time.monotonic() - before


def pulled_and_mounted(host, tag):
    run("puzzlefs", "pull", "--quiet", "--plain-http", f"{host}/ours:{tag}", f"{DISK}/ours:{tag}")
    run("puzzlefs", "mount", f"{DISK}/ours:{tag}", "/mnt")


def mounted_by_podman(podman, reference):
    podman("image", "mount", podman.pull(reference))


def main():
    memory(DATA, "docker-registry", "skopeo", "podman", "puzzlefs")
    link("100mbit", 20)
    server = registry()
    podmans = {name: Podman(f"{DISK}/{name}") for name in ("skopeo", "podman")}
    host = f"docker://{SERVER}:{PORT}"
    found = {name: [] for name in ("layers, gzip (skopeo)", "layers, gzip (podman)", "zstd:chunked (podman)", "puzzlefs")}
    for tag in TAGS:
        found["layers, gzip (skopeo)"].append(seconds(lambda tag=tag: run(
            "skopeo", "copy", "-q", "--src-tls-verify=false", f"{host}/skopeo:{tag}", f"oci:{DISK}/layers:{tag}")))
        for name, of in (("layers, gzip (podman)", "skopeo"), ("zstd:chunked (podman)", "podman")):
            reference = f"{host}/{of}:{tag}"
            found[name].append(seconds(lambda of=of, reference=reference: mounted_by_podman(podmans[of], reference)))
        found["puzzlefs"].append(seconds(lambda tag=tag: pulled_and_mounted(host, tag)))
        run("umount", "/mnt")
    server.kill()
    print(json.dumps(found))


main()
