# SPDX-License-Identifier: GPL-2.0
"""Programs that are killed at a system call of theirs, by strace."""

import signal
import subprocess

from case import check


def killed(command, call, number, env=None):
    """Whether the command was killed at that call of that name, by any of its threads."""
    tracer = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={number}"]
    done = subprocess.run([*tracer, *command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=120, env=env)
    if done.returncode == 0:
        return False
    check(done.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL), f"{call} {number}: {done.returncode}, {done.stderr}")
    return True
