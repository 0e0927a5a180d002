# SPDX-License-Identifier: GPL-2.0
"""A container whose root filesystem is the image peers-container: read-only, or as the
lower layer of an overlay with its changes on ext4."""

import contextlib
import os
import subprocess

# In a mount namespace of its own that has nothing else, which a chroot would not have:
# no user namespace can be made in one.
ENTER = 'cd "$0" && pivot_root . . && umount -l . && cd "$1" && shift && exec "$@"'


def mount(*arguments):
    subprocess.run(["mount", *arguments], check=True)


class Container:
    def __init__(self, root):
        self.root = root

    def run(self, *command, cwd="/", seconds=300):
        """The status that a command ends with, and what it prints."""
        done = subprocess.run(["timeout", f"--kill-after={seconds}", str(seconds), "unshare", "--mount", "--propagation", "private", "sh", "-c", ENTER, self.root, cwd,
                               *command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, errors="replace")
        return done.returncode, done.stdout


@contextlib.contextmanager
def container(lower, writable):
    """Runs things on the mounted image `lower`."""
    root, changes = "/mnt/container", f"/scratch/{os.path.basename(lower)}"
    os.makedirs(root, exist_ok=True)
    if writable:
        for name in "upper", "work":
            os.makedirs(f"{changes}/{name}", exist_ok=True)
        mount("-t", "overlay", "-o", f"lowerdir={lower},upperdir={changes}/upper,workdir={changes}/work", "none", root)
    else:
        mount("--bind", lower, root)
    try:
        for kind, target in ("proc", "proc"), ("sysfs", "sys"), ("devpts", "dev/pts"), ("tmpfs", "dev/shm"):
            mount("-t", kind, "none", f"{root}/{target}")
        if not writable:
            mount("-t", "tmpfs", "-o", "mode=1777", "none", f"{root}/tmp")
        yield Container(root)
    finally:
        subprocess.run(["umount", "--recursive", "--lazy", root], check=True)
