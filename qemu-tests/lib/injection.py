# SPDX-License-Identifier: GPL-2.0
"""Allocations that fail on purpose (Documentation/fault-injection/fault-injection.rst in
the kernel's tree). Needs the kernel with sanitizers."""

import contextlib
import errno
import os

from case import check

DEBUG = "/sys/kernel/debug"
FAILING = os.path.join(DEBUG, "failslab"), os.path.join(DEBUG, "fail_page_alloc")
# What a caller may get: ENOMEM, or EIO where the VFS says no more than that a page
# could not be read.
ALLOWED = errno.ENOMEM, errno.EIO
# Of these the kernel counts down.
TIMES = 1_000_000_000
MODULE_STACK = 32  # how many callers are searched for the module: the most possible
NTH = f"/proc/self/task/{os.getpid()}/fail-nth"


def _set(folder, name, value):
    with open(os.path.join(folder, name), "w") as f:
        f.write(str(value))


def _get(folder, name):
    with open(os.path.join(folder, name)) as f:
        return int(f.read())


def _text_of(name):
    """Where the functions of a module are, or a function of the kernel's own."""
    with open("/proc/kallsyms") as f:
        symbols = [line.split() for line in f]
    code = [(int(s[0], 16), s[2], s[3:] == [f"[{name}]"]) for s in symbols if s[1] in "tT"]
    ours = [address for address, _, is_ours in code if is_ours]
    if ours:
        return min(ours), max(ours) + 4096
    start = next(address for address, symbol, _ in code if symbol == name)
    return start, min(address for address, _, _ in code if address > start)


def prepare(name, everybody=False):
    """Makes allocations on behalf of this module or function of the kernel those that may fail: in processes
    that called `may_fail`, or everybody's, kernel threads among them."""
    start, end = _text_of(name)
    for folder in FAILING:
        for name, value in (("ignore-gfp-wait", "N"), ("times", -1), ("verbose", 0), ("probability", 0),
                            ("task-filter", "N" if everybody else "Y"), ("stacktrace-depth", MODULE_STACK),
                            ("require-start", hex(start)), ("require-end", hex(end))):
            _set(folder, name, value)
    _set(FAILING[1], "min-order", 0)
    _set(FAILING[1], "ignore-gfp-highmem", "N")


@contextlib.contextmanager
def at_random(percent, *folders):
    """So many of what may fail does: of FAILING, unless `folders` are some others. Something has to."""
    for folder in folders or FAILING:
        _set(folder, "times", TIMES)
        _set(folder, "probability", percent)
    try:
        yield
    finally:
        for folder in folders or FAILING:
            _set(folder, "probability", 0)
    failed = {os.path.basename(folder): TIMES - _get(folder, "times") for folder in folders or FAILING}
    print(f"failed on purpose: {failed}", flush=True)
    check(any(failed.values()), "nothing failed on purpose")


def may_fail():
    with open("/proc/self/make-it-fail", "w") as f:
        f.write("1")


def with_nth(nth, function, *arguments):
    """Calls `function` with its `nth` allocation failing. What it returned, or None and the
    error that it raised; and whether it has that many."""
    result = error = None
    with open(NTH, "r+b", buffering=0) as f:
        f.write(b"%d" % nth)
        try:
            result = function(*arguments)
        except OSError as e:
            error = e
        left = int(os.pread(f.fileno(), 16, 0))
        f.write(b"0")
    check(error is None or error.errno in ALLOWED,
          f"{function.__name__}{arguments} gave {error} when allocation {nth} failed")
    return result, error, left == 0
