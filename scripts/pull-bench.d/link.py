# SPDX-License-Identifier: GPL-2.0
"""In a virtual machine: a registry behind a link, and a disk.

All that is read and written meanwhile lies in the machine's memory. A clock that counts instructions jumps from
tick to tick while the machine waits for what is outside of it, so that each look at a file there would
take milliseconds."""

import json
import os
import shutil
import subprocess

from registries import wait

MEMORY, DISK = "/scratch/memory", "/scratch/disk"
SERVER, PORT = "10.9.0.1", 5000
NEAR = "near"


def run(*command, **options):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, **options).stdout


def inside(*command):
    return ("ip", "netns", "exec", "server", *command)


def link(rate, round_trip):
    """A network namespace behind a link of `rate` as tc(8) has it, and so many milliseconds there and back."""
    netem = ("netem", "delay", f"{round_trip / 2}ms", "rate", rate, "limit", "10000")
    run("modprobe", "-a", "veth", "sch_netem", "overlay")
    run("ip", "netns", "add", "server")
    run("ip", "link", "add", "near", "type", "veth", "peer", "name", "far", "netns", "server")
    run("ip", "address", "add", "10.9.0.2/24", "dev", "near")
    run(*inside("ip", "address", "add", f"{SERVER}/24", "dev", "far"))
    for command, device in ((run, "near"), (lambda *words: run(*inside(*words)), "far")):
        command("ip", "link", "set", device, "up")
        command("tc", "qdisc", "add", "dev", device, "root", *netem)


def memory(data, *programs):
    """The registry's data, an empty disk, and the programs, whose pages stay in the page cache."""
    for directory in MEMORY, DISK:
        os.mkdir(directory)
    run("mount", "-t", "tmpfs", "-o", "size=100%", "memory", MEMORY)
    shutil.copytree(data, f"{MEMORY}/registry")
    run("truncate", "-s", "6G", f"{MEMORY}/disk")
    run("modprobe", "loop")
    run("mkfs.ext4", "-q", "-E", "lazy_itable_init=1,nodiscard", f"{MEMORY}/disk")
    run("mount", "-o", "loop", f"{MEMORY}/disk", DISK)
    warm(*programs)


def warm(*programs):
    """Programs have their pages in the page cache."""
    for program in programs:
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
