#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: images small; memory 3G
# shows: puzzlefs-daemon.service, as `make install` has it, run by Debian's systemd. Its main process, which holds the
# events, is killed while readers wait and while four go through the tree: they wait until the next one is there, no byte
# is wrong, and the image is whole afterwards. Once the service is stopped, what is not here is EIO.

import contextlib
import errno
import os
import random
import shutil
import signal
import subprocess
import time

from case import check, equal, mounted
from lazyguest import IMAGE, TREE, Lazy, Reader, largest, puzzlefs

KILLS = 25
UNITS = "/run/systemd/system"
UNIT = os.path.join(os.environ["PUZZLEFS_TOP"], "systemd/puzzlefs-daemon.service")
SERVICE = "puzzlefs-daemon.service"


def systemctl(*arguments, check_it=True):
    """systemd speaks only with who is in its namespace."""
    manager = subprocess.run(["pgrep", "-x", "systemd"], stdout=subprocess.PIPE, text=True).stdout.split()
    if not manager:
        return ""
    command = ["nsenter", f"--target={manager[0]}", "--pid", "--mount", "systemctl", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    check(done.returncode == 0 or not check_it, f"systemctl {' '.join(arguments)}: {done.stdout}")
    return done.stdout.strip()


@contextlib.contextmanager
def systemd(lazy, options):
    """systemd as the first process of a namespace, and nothing but the service."""
    os.makedirs(f"{UNITS}/{SERVICE}.d", exist_ok=True)
    with open(UNIT) as f:
        lines = f.read().replace("@PREFIX@/bin/puzzlefs", shutil.which("puzzlefs")).splitlines()
    # Nothing of a whole system is there.
    lines = [line for line in lines if "network-online" not in line]
    with open(f"{UNITS}/{SERVICE}", "w") as f:
        f.write("\n".join(lines))
    with open(f"{UNITS}/{SERVICE}.d/test.conf", "w") as f:
        f.write(f"[Unit]\nDefaultDependencies=no\n[Service]\n"
                f'Environment="LAYOUTS={lazy.layout}" "OPTIONS={options}"\nStandardError=append:/run/service.log\n')
    with open(f"{UNITS}/test.target", "w") as f:
        f.write("[Unit]\nDefaultDependencies=no\n")
    if not os.path.ismount("/sys/fs/cgroup"):
        subprocess.run(["mount", "-t", "cgroup2", "none", "/sys/fs/cgroup"], check=True)
    with open("/run/systemd.log", "a") as log:
        manager = subprocess.Popen(
            ["unshare", "--pid", "--fork", "--kill-child=KILL", "--mount", "--mount-proc", "env", "container=test",
             "/usr/lib/systemd/systemd", "--system", "--unit=test.target", "--log-target=console"], stdout=log, stderr=log)
    try:
        for _ in range(100):
            if systemctl("is-active", "test.target", check_it=False) == "active":
                break
            time.sleep(0.2)
        else:
            said = systemctl("is-active", "test.target", check_it=False)
            check(False, f"systemd has not begun: {said} {open('/run/systemd.log').read()[-3000:]}")
        yield
    finally:
        manager.kill()
        manager.wait()


def log():
    if not os.path.exists("/run/service.log"):
        return ""
    with open("/run/service.log") as f:
        return f.read()


def main_process():
    """Its number here, and not that in its namespace."""
    group = systemctl("show", "--property", "ControlGroup", "--value", SERVICE)
    with open(f"/sys/fs/cgroup{group}/cgroup.procs") as f:
        pids = [int(line) for line in f]
    parents = {pid: parent(pid) for pid in pids}
    return next((pid for pid in pids if parents[pid] not in pids and parents[pid]), None)


def parent(pid):
    with contextlib.suppress(OSError), open(f"/proc/{pid}/stat") as f:
        return int(f.read().rpartition(")")[2].split()[1])
    return 0


def kill():
    """Whether the main process was killed."""
    pid = main_process()
    if not pid:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
        return True
    return False


def waits(lazy):
    shutil.move("/scratch/net", "/scratch/net-gone")
    with mounted(lazy) as root:
        reader = Reader(root, 0, [largest()])
        time.sleep(3)
        for _ in range(3):
            check(kill(), "the service does not run: " + log())
            time.sleep(2)
            check(reader.is_alive(), f"a reader has ended: {reader.faults}; {log()}")
        said = log()
        check("goes on for one that has ended; 1 reads have waited" in said, said)
        shutil.move("/scratch/net-gone", "/scratch/net")
        reader.join(60)
        equal((reader.faults, reader.bytes), ([], TREE[largest()]["size"]), "what was read after three deaths: " + log())
    status = puzzlefs("status", lazy.layout)
    check("daemon: 0 reads wait" in status, status)


def reads(lazy):
    rng, deaths = random.Random(2), 0
    with mounted(lazy) as root:
        readers = [Reader(root, seed) for seed in range(4)]
        while any(reader.is_alive() for reader in readers):
            time.sleep(rng.uniform(0.1, 0.8))
            deaths += deaths < KILLS and kill()
        errors = [number for reader in readers for number in reader.errors]
        faults = [fault for reader in readers for fault in reader.faults]
    wrong = [fault for fault in faults if "other bytes" in fault]
    equal(wrong, [], "wrong bytes")
    # What died between the kernel and the journal.
    check(all(number == errno.EIO for number in errors) and len(errors) <= deaths // 5, f"{faults}")
    check(deaths > 3, f"only {deaths} were killed: the tree was read too fast")
    print(f"systemd: {deaths} deaths of the main process, {sum(reader.bytes for reader in readers)} bytes right, "
          f"{len(errors)} reads EIO")


puzzlefs("pull", f"oci:{IMAGE.layout}:test", "/scratch/net:test")
puzzlefs("pull", "--lazy", "oci:/scratch/net:test", "/scratch/sys:test")
lazy = Lazy("sys")
with systemd(lazy, "--no-fill --on-failure wait"):
    systemctl("start", SERVICE, check_it=False)
    why = systemctl("show", SERVICE, "--property=Result,ExecMainStatus,StatusErrno", check_it=False)
    check(systemctl("is-active", SERVICE, check_it=False) == "active",
          f"{why}; {log()}; {open('/run/systemd.log').read()[-2000:]}")
    equal(systemctl("is-active", SERVICE), "active", "the service")
    waits(lazy)
    reads(lazy)
    puzzlefs("pull", "--lazy", "oci:/scratch/net:test", "/scratch/sys:again")
    systemctl("stop", SERVICE)
    shutil.rmtree("/scratch/sys")
    puzzlefs("pull", "--lazy", "oci:/scratch/net:test", "/scratch/sys:test")
    with mounted(lazy) as root:
        reader = Reader(root, 0, [largest()])
        reader.join(60)
        equal(reader.errors, [errno.EIO], "a read without the service")
puzzlefs("complete", f"{lazy.layout}:test")
puzzlefs("verify", f"{lazy.layout}:test")
for name in "net", "sys":
    shutil.rmtree(f"/scratch/{name}")
