#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: images peers-container; memory 2G; kernel stock
# shows: stress-ng, all stressors of a group at once, each checking what it gets (--verify): in
# a container whose root, programs and devices are an image, as root and as a plain user; and
# those that have to write, in a directory of the image below an overlay.

import re
import subprocess

from case import check
from container import container
from peers import peers

SECONDS = 6
# What reads and looks up: the directories of /run, libraries, the device nodes in /dev, the
# root; open files of them, their handles, what statfs(2) and statmount(2) say.
READING = "dev dup dynlib fd-fork fstat getdent io open resources splice statmount sysinfo tee"
# What may be done, or says something else, only as root; stress-ng itself refuses to be many
# programs as root.
AS_ROOT, AS_USER = "handle", "exec"
# What changes files and directories: nothing of it can be done in a read-only filesystem. On
# overlayfs each new name is looked up in the image first, directories are those of both.
CHANGING = """access acl aio aiol chattr chdir chmod chown chroot copy-file dentry dir dirdeep
    dirmany dnotify fallocate fanotify fault fcntl fiemap file-ioctl filename filerace flock
    fpunch fsize fstat getdent hdd inode-flags inotify io io-uring iomix lease link locka lockf
    lockmix lockofd metamix mknod mmapfork msync open pseek readahead rename revio seek sendfile
    sync-file touch umask unlink utime xattr"""
# Together they have to find room below the overlay: who finds none gives up.
SMALL = [f"--{name}-bytes=32M" for name in ("fallocate", "hdd", "iomix", "readahead", "revio", "sync-file")]
USER = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
GROUPS = (
    ("read-only root, as root", False, "/tmp", (), f"{READING} {AS_ROOT}"),
    ("read-only root, as a plain user", False, "/tmp", USER, f"{READING} {AS_USER}"),
    ("overlay, in a directory of the image", True, "/run/1", (), CHANGING),
)


def interrupted(said):
    """The stressors that failed as their time was over while they made their file, and of which
    nothing else is said. ("fail" is what --verify finds.)"""
    lines = re.findall(r"(error|fail): +\[\d+\] ([\w-]+): (.*)", said)
    found = {}
    for kind, name, what in lines:
        if "terminated with an error" not in what:
            found.setdefault(name, []).append(kind == "error" and "errno=4 " in what)
    return sorted(name for name, all_of_it in found.items() if all(all_of_it))


def stress(writable, directory, user, stressors):
    """Which stressors passed and which did not, by stress-ng's own account."""
    def run(box, names, seconds):
        status, said = box.run(
            *user, "stress-ng", "--verify", f"--timeout={seconds}", f"--temp-path={directory}",
            "--fstat-dir=/usr/lib/x86_64-linux-gnu", "--chdir-dirs=256", *SMALL,
            *(word for name in names for word in (f"--{name}", "1")))
        account = {what: sorted(re.findall(r"(\S+) \(1\)", line)) for what, line in
                   re.findall(r"(passed|skipped|failed): (.*)", said)}
        if status or account.get("passed") != names:
            print(said, flush=True)
        return status, {what: names for what, names in account.items() if names}, interrupted(said)

    def probe(root):
        with container(root, writable) as box:
            status, account, again = run(box, stressors, SECONDS)
            # On a busy machine. They get more time, and nobody beside them; what is found wrong stays so.
            if again and account.get("failed") == again:
                del account["failed"]
                for name in again:
                    status, alone, _ = run(box, [name], 10 * SECONDS)
                    for what, names in alone.items():
                        account[what] = sorted(account.get(what, []) + names)
        return status, account
    return probe


subprocess.run(["modprobe", "overlay"], check=True)
with peers("container", ("puzzlefs", "erofs")) as found:
    for name, writable, directory, user, words in GROUPS:
        stressors = sorted(words.split())
        answers = found.row(f"{name}, {len(stressors)} stressors", stress(writable, directory, user, stressors))
        check(answers["puzzlefs"] == (0, {"passed": stressors}), f"{name}: not all of {stressors}")
print("stress-ng finds nothing")
