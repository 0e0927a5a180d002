#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# shows: no function of the module takes more of the kernel's stack than a C function may without a
# warning (CONFIG_FRAME_WARN; rustc has no such warning).

import os
import re
import subprocess

from case import check

TOP = os.environ["PUZZLEFS_TOP"]


def run(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def frames(disassembly):
    """The functions, each with the most that it takes at once for its own variables, in bytes."""
    function, sizes = None, {}
    for line in disassembly.splitlines():
        if begin := re.match(r"[0-9a-f]+ <(.*)>:$", line):
            function = begin[1]
            sizes[function] = 0
        elif take := re.search(r"\bsub +\$0x([0-9a-f]+),%rsp", line):
            sizes[function] = max(sizes[function], int(take[1], 16))
    return sizes


check(frames("0000 <f>:\n 1:\tsub    $0x10,%rsp\n 2:\tsub    $0x830,%rsp\n") == {"f": 0x830}, "cannot tell frames")
with open(os.path.join(run(f"{TOP}/scripts/kernel").strip(), ".config")) as f:
    most = int(re.search(r"^CONFIG_FRAME_WARN=(\d+)$", f.read(), re.MULTILINE)[1])
sizes = frames(run("objdump", "--disassemble", "--no-show-raw-insn", "--demangle", f"{TOP}/build/puzzlefs.ko"))
check(most > 0 and len(sizes) > 300, f"{len(sizes)} functions, {most} bytes: that says nothing")
for function, size in sizes.items():
    check(size <= most, f"{function} takes {size} bytes of stack, more than {most}")
largest = max(sizes, key=sizes.get)
print(f"{len(sizes)} functions, none takes more than {sizes[largest]} of {most} bytes: {largest}")
