# SPDX-License-Identifier: GPL-2.0
"""guest.py DATA TAG...: the part of `make pull-bench` that runs in the virtual machine. A registry with the data below
the directory DATA is behind a link of 100 Mbit/s and 20 ms there and back; prints as JSON how many seconds each
pull takes: by layers, as they are fetched, and as podman has them unpacked and mounted; by zstd:chunked, mounted, too; by
ours, mounted.

All that is read and written meanwhile lies in the machine's memory. A clock that counts instructions jumps from
tick to tick while the machine waits for what is outside of it, so that each look at a file there would
take milliseconds."""

import json
import os
import shutil
import subprocess
import sys
import time

sys.path.append(os.path.join(os.path.dirname(__file__), "../../qemu-tests/lib"))
from podman import Podman
from registries import wait

DATA, TAGS = sys.argv[1], sys.argv[2:]
MEMORY, DISK = "/scratch/memory", "/scratch/disk"
SERVER, PORT = "10.9.0.1", 5000
LINK = ("netem", "delay", "10ms", "rate", "100mbit", "limit", "10000")


def run(*command, **options):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, **options).stdout


def inside(*command):
    return ("ip", "netns", "exec", "server", *command)


def link():
    run("modprobe", "-a", "veth", "sch_netem", "overlay")
    run("ip", "netns", "add", "server")
    run("ip", "link", "add", "near", "type", "veth", "peer", "name", "far", "netns", "server")
    run("ip", "address", "add", "10.9.0.2/24", "dev", "near")
    run(*inside("ip", "address", "add", f"{SERVER}/24", "dev", "far"))
    for command, device in ((run, "near"), (lambda *words: run(*inside(*words)), "far")):
        command("ip", "link", "set", device, "up")
        command("tc", "qdisc", "add", "dev", device, "root", *LINK)


def memory():
    """The registry's data, an empty disk, and the programs, whose pages stay in the page cache."""
    for directory in MEMORY, DISK:
        os.mkdir(directory)
    run("mount", "-t", "tmpfs", "-o", "size=100%", "memory", MEMORY)
    shutil.copytree(DATA, f"{MEMORY}/registry")
    run("truncate", "-s", "6G", f"{MEMORY}/disk")
    run("modprobe", "loop")
    run("mkfs.ext4", "-q", "-E", "lazy_itable_init=1,nodiscard", f"{MEMORY}/disk")
    run("mount", "-o", "loop", f"{MEMORY}/disk", DISK)
    for program in "docker-registry", "skopeo", "podman", "puzzlefs":
        with open(shutil.which(program), "rb") as f:
            while f.read(1 << 20):
                pass


def registry():
    config = {"version": 0.1, "log": {"level": "error", "accesslog": {"disabled": True}},
              "storage": {"filesystem": {"rootdirectory": f"{MEMORY}/registry"}, "maintenance": {"readonly": {"enabled": True}}},
              "http": {"addr": f"{SERVER}:{PORT}", "secret": "of the test"}}
    with open("/scratch/config.yml", "w") as f:
        json.dump(config, f)
    with open("/scratch/log", "w") as log:
        server = subprocess.Popen(inside("docker-registry", "serve", "/scratch/config.yml"), stdout=log, stderr=log)
    wait(PORT, SERVER)
    return server


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
    memory()
    link()
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
