# SPDX-License-Identifier: GPL-2.0
"""guest.py PLAN: the half of `make bench` that runs in the virtual machine. PLAN (JSON, by
bench.py) names the systems with their images and the rows. Prints a line of JSON for each
row of each system. Copying the images takes no measured time."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import time

MOUNT = "/mnt/bench"
DISK, DISK_KB = "/dev/ram0", 1 << 20
STORE = "/mnt/store"
MOUNTS = 9
ROUNDS = 10
IMAGE = STORE + "/image"
CONTROL, SAMPLES, SERVER_LOG = "/tmp/control", "/tmp/samples", "/tmp/server.log"


def run(*command, **options):
    return subprocess.run(command, check=True, text=True, **options)


class Mount:
    """An image on a new ext4, and how it is mounted.

    The disk is one of memory: its requests end at once. Waiting for a disk of the host would
    let the clock of a machine that counts instructions jump to the next tick, at random."""

    def __init__(self, system):
        run("blkdiscard", "--force", "--quiet", DISK)
        run("mkfs.ext4", "-q", "-O", "verity", "-E", "nodiscard,lazy_itable_init=1", DISK)
        run("mount", DISK, STORE)
        self.type, self.loop = system["mount"], None
        self.program, self.server = system["program"], None
        if system["manifest"]:
            run("tar", "-C", STORE, "-xf", system["path"])
        else:
            shutil.copy(system["path"], IMAGE)
        self.source, self.options = IMAGE, ""
        if self.type == "puzzlefs":
            self.source, self.options = "none", f"oci_root_dir={IMAGE},image_manifest={system['manifest']}"
        elif self.type == "erofs-file":
            self.type = "erofs"
        elif self.type in ("erofs", "squashfs"):
            self.source = self.loop = run("losetup", "--find", "--show", "--read-only", "--direct-io=on", IMAGE,
                                          stdout=subprocess.PIPE).stdout.strip()

    def command(self, cold, *arguments):
        """The call of walk.c on the mounted tree."""
        if arguments[0] == "mount":
            arguments += (self.type, self.source, self.options)
        return ["/tmp/walk", *(["--cold"] if cold else []), arguments[0], MOUNT, *arguments[1:]]

    def walk(self, cold, *arguments, perf=False):
        """Runs walk.c, below perf if need be; what it printed. perf samples at each tick, 250 in a
        second, so it is repeated below that, which looks only while walk.c's clock runs."""
        command = self.command(cold, *arguments)
        if not perf:
            return run(*command, stdout=subprocess.PIPE).stdout
        if arguments[0] != "mount" and not self.program:
            remount = [["umount", MOUNT], self.command(False, "mount")] if cold else []
            again = [command, *(remount + [command]) * (ROUNDS - 1)]
            command = ["sh", "-ec", "\n".join(map(shlex.join, again))]
        return run("env", f"WALK_PERF={CONTROL}", "perf", "record", "--quiet", "--all-cpus",
                   "--event=cpu-clock", "--freq=max", "--delay=-1", f"--control=fifo:{CONTROL},{CONTROL}.ack",
                   f"--output={SAMPLES}", *command, stdout=subprocess.PIPE).stdout.splitlines()[0]

    def mount(self):
        if self.program:
            with open(SERVER_LOG, "w") as log:
                self.server = subprocess.Popen([*self.program, f"{IMAGE}:bench", MOUNT], stderr=log)
            while not os.path.ismount(MOUNT):
                if self.server.poll() is not None:
                    with open(SERVER_LOG) as log:
                        sys.exit(f"{self.program[0]} ended with status {self.server.returncode}\n{log.read()}")
                time.sleep(0.01)
        else:
            self.walk(False, "mount")

    def mounting(self, perf):
        """The least of some mounts: a tick more is a large part of one."""
        took = []
        for _ in range(MOUNTS):
            self.unmount()
            took.append(json.loads(self.walk(True, "mount", perf=perf)))
        return min(took, key=lambda one: one["ns"])

    def unmount(self):
        if os.path.ismount(MOUNT):
            run("umount", MOUNT)
        if self.server:
            self.server.wait()
            self.server = None

    def close(self):
        self.unmount()
        if self.loop:
            run("losetup", "--detach", self.loop)
        run("umount", STORE)


def show_samples(system):
    """The functions that took 0.3% of the samples or more, of all processes."""
    table = run("perf", "report", f"--input={SAMPLES}", "--stdio", "--fields=overhead,sample,symbol",
                "--demangle-kernel", "--percent-limit=0.3", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    print(f"{system}: part of the samples, samples, function")
    print("".join(f"{line.rstrip()}\n" for line in table.splitlines() if line and not line.startswith("#")), flush=True)


def measure(system, rows, perf):
    """Measures the rows of one system, in order; prints where the time of row `perf` goes."""
    mount = Mount(system)
    for row in rows:
        name, cold = row["name"], not row["after"]
        if name == "mount":
            took = mount.mounting(name == perf)
        else:
            if cold:
                mount.unmount()
                mount.mount()
            took = json.loads(mount.walk(cold, *row["walk"], perf=name == perf))
        print(json.dumps({"system": system["name"], "row": name, **took}), flush=True)
        if name == perf:
            show_samples(system["name"])
    mount.close()


def measure_bare(bare):
    """zstd, SHA-256 and mappings with no file system around them, by a module that measures when loaded."""
    run("insmod", bare["module"], f"frames={bare['path']}", f"size={bare['size']}")
    took = {"bytes": bare["size"], "count": 1}
    for name in "zstd_ns", "sha256_ns", "vmap_ns":
        with open(f"/sys/module/bare/parameters/{name}") as f:
            took[name] = int(f.read())
    run("rmmod", "bare")
    print(json.dumps({"system": "bare", "row": "zstd", **took}), flush=True)


def main():
    with open(sys.argv[1]) as f:
        plan = json.load(f)
    os.mkdir(MOUNT)
    os.mkdir(STORE)
    for module in ("brd", f"rd_size={DISK_KB}"), ("loop",), ("erofs",), ("squashfs",), ("fuse",):
        run("modprobe", *module)
    shutil.copy(plan["walk"], "/tmp/walk")
    if plan["perf"]:
        os.mkfifo(CONTROL)
        os.mkfifo(CONTROL + ".ack")
    if plan["bare"]:
        measure_bare(plan["bare"])
    for system in plan["systems"]:
        measure(system, system["rows"], plan["perf"])


main()
