#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: images small; host
# shows: the machine is reset, three times, at some moment while a lazy image is read, and a daemon fetches what is read: what it had
# in memory is gone, and its disk is as it was. Each time what the records say is here reads right, and of the rest not one byte is
# given. Reading goes on, and at the end the image is completed, and its packs have their digests.

import os
import random
import re
import subprocess
import tempfile
import time

from case import check

TOP, CACHE = os.environ["PUZZLEFS_TOP"], os.environ["PUZZLEFS_CACHE"]
RESETS = 3


def machine(disk, number):
    """A machine with that disk, in which lib/reset_guest.py runs."""
    command = [f"{TOP}/scripts/vm", "--memory", "2G", "--cpus", "2", "--scratch", disk, "--", "env",
               f"PUZZLEFS_IMAGES={os.environ['PUZZLEFS_IMAGES']}", f"PYTHONPATH={TOP}/qemu-tests/lib", "PYTHONDONTWRITEBYTECODE=1",
               "python3", f"{TOP}/qemu-tests/lib/reset_guest.py", str(number), str(RESETS)]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                            env=os.environ | {"PUZZLEFS_VM_TIMEOUT": "600"})


def until(vm, word, said):
    """Reads what a machine says up to a line that begins so."""
    for line in vm.stdout:
        said.append(line.strip())
        if line.startswith(word):
            return
    check(False, f"the machine has ended before {word!r}, with status {vm.wait()}: {said[-20:]}")


def reset(disk, number, rng):
    """Reads for some time, and ends the machine in the middle of that; gives the bytes that were here at its begin, and at the last."""
    vm, said = machine(disk, number), []
    until(vm, "here", said)
    before, = re.findall(r"^here (\d+) bytes", said[-1])
    print(said[-1], flush=True)
    until(vm, "reading", said)
    time.sleep(rng.uniform(0, 4))
    vm.kill()
    # The pipe ends with the last process that has it.
    last = re.findall(r"^reading (\d+)$", said[-1] + "\n" + vm.stdout.read(), re.M)[-1]
    vm.wait()
    return int(before), int(last)


rng = random.Random(4)
with tempfile.TemporaryDirectory(prefix="reset-", dir=CACHE) as folder:
    disk = f"{folder}/disk"
    with open(disk, "wb") as f:
        f.truncate(1 << 30)
    subprocess.run(["mkfs.ext4", "-q", disk], check=True)
    seen = [reset(disk, number, rng) for number in range(RESETS)]
    vm = machine(disk, RESETS)
    out = vm.stdout.read()
    check(vm.wait() == 0, f"the last machine: status {vm.returncode}: {out}")
    print(out.strip())
before = [before for before, _ in seen]
check(before == sorted(set(before)), f"at each begin {before} bytes were here: nothing came between two resets")
print(f"{RESETS} resets while it was read, after {', '.join(str(last) for _, last in seen)} bytes: all right, and completed")
