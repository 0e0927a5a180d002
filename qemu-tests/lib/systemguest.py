# SPDX-License-Identifier: GPL-2.0
"""In the guest: a system that is run by systemd, as the first process of namespaces of its own, with directories that
can be written to. All of it ends with it."""

import contextlib
import os
import subprocess
import tempfile
import time

from case import check

LOG = "/run/systemd.log"
# The root is shared, and read-only: these are to be changed here alone.
CHANGED = "/etc /root /srv /opt"
DISK = "/scratch/system"
START = f"""
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs /run
for dir in {CHANGED}; do
    mkdir -p {DISK}$dir/upper {DISK}$dir/work
    mount -t overlay -o "lowerdir=$dir,upperdir={DISK}$dir/upper,workdir={DISK}$dir/work" system "$dir"
done
# On no overlayfs, as others are to have their changes there.
mkdir -p {DISK}/var
mount --bind {DISK}/var /var
mkdir -p -m 755 /var/lib/lxc /var/lib/dbus /var/cache/lxc /var/log /run/lock
mkdir -p -m 1777 /var/tmp
ln -s /run /var/run
ln -s /run/lock /var/lock
mount -t securityfs securityfs /sys/kernel/security
exec env container=test /usr/lib/systemd/systemd --system --unit=test.target --log-target=console
"""
TARGET = """[Unit]
Requires=dbus.socket
After=dbus.socket
"""


class System:
    def __init__(self, pid):
        self.pid = pid

    def start(self, script, **options):
        """A shell in it, which runs a script."""
        command = ["nsenter", f"--target={self.pid}", "--pid", "--mount", "bash", "-euo", "pipefail", "-c", script]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, text=True, **options)

    def run(self, script, status=0):
        """What a script prints, which ends with that status."""
        # A file, as a container in the background keeps what it was given open.
        with tempfile.TemporaryFile("w+", errors="replace") as file:
            process = self.start(script, stdout=file, stderr=file)
            try:
                process.wait(300)
            except subprocess.TimeoutExpired:
                process.kill()
            file.seek(0)
            out = file.read()
        check(status is None or process.returncode == status, f"{script}: status {process.returncode}: {out}\n{self.log()}")
        return out

    def log(self):
        with open(LOG, errors="replace") as f:
            return f.read()[-5000:]


@contextlib.contextmanager
def system(units=None):
    """`units` are files for /run/systemd/system."""
    os.makedirs("/tmp/units", exist_ok=True)
    for name, text in {"test.target": TARGET, **(units or {})}.items():
        with open(f"/tmp/units/{name}", "w") as f:
            f.write(text)
    if not os.path.ismount("/sys/fs/cgroup"):
        subprocess.run(["mount", "-t", "cgroup2", "none", "/sys/fs/cgroup"], check=True)
    script = START.replace("exec env", "mkdir -p /run/systemd; cp -r /tmp/units /run/systemd/system\nexec env")
    with open(LOG, "w") as log:
        manager = subprocess.Popen(["unshare", "--pid", "--fork", "--kill-child=KILL", "--mount", "--mount-proc", "sh", "-euc", script],
                                   stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        yield begun(manager)
    finally:
        manager.kill()
        manager.wait()


def begun(manager):
    """The system, once its target is reached."""
    for _ in range(600):
        check(manager.poll() is None, "systemd has ended: " + open(LOG, errors="replace").read()[-3000:])
        found = subprocess.run(["pgrep", "-x", "-P", str(manager.pid), "systemd"], stdout=subprocess.PIPE, text=True).stdout.split()
        if found:
            it = System(int(found[0]))
            ask = it.start("systemctl is-active test.target", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            if ask.communicate()[0].strip() == "active":
                return it
        time.sleep(0.2)
    check(False, "systemd has not begun: " + open(LOG, errors="replace").read()[-5000:])
