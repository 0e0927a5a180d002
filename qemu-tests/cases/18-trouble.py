#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: images peers-cache; memory 2G
# shows: whatever happens to blobs in use, packs and loose chunks, a read gives the right bytes or
# EIO, where EROFS gives wrong ones; the log names inodes and chunks, and not without limit; readers
# need no access to the layout.

import errno
import hashlib
import os
import random
import re
import shutil
import subprocess
import time

from case import Image, Logged, check, drop_caches, equal

IMAGE, TARGET, STORE = Image("peers-cache"), "/mnt/target", "/scratch"
FILES = ["random", "verify", *(f"small/{i}" for i in range(0, 200, 5))]
DIGESTS = dict(IMAGE.digests())
RIGHT, FAILED, WRONG = "right bytes", "EIO", "WRONG BYTES"


def run(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def content(f, name):
    """What reading an open file gives."""
    digest = hashlib.sha256()
    try:
        while data := f.read(1 << 20):
            digest.update(data)
    except OSError as error:
        return errno.errorcode[error.errno]
    return RIGHT if digest.hexdigest() == DIGESTS[b"./" + name.encode()] else WRONG


def read(name, root=TARGET):
    try:
        with open(f"{root}/{name}", "rb", buffering=0) as f:
            return content(f, name)
    except OSError as error:
        return errno.errorcode[error.errno]


def tally(outcomes):
    """How often there was which outcome."""
    outcomes = list(outcomes)
    return {outcome: outcomes.count(outcome) for outcome in sorted(set(outcomes))}


def blobs():
    top = f"{STORE}/oci/blobs/sha256"
    return sorted(os.path.join(top, name) for name in os.listdir(top))


def overwrite(path):
    """Other bytes in place, one in each KiB."""
    with open(path, "r+b") as f:
        data = bytearray(f.read())
        for at in range(0, len(data), 1024):
            data[at] ^= 0x10
        f.seek(0)
        f.write(data)


def replace(path):
    with open(path + ".new", "wb") as f:
        f.write(random.Random(path).randbytes(os.path.getsize(path)))
    os.rename(path + ".new", path)


# What is done to each blob, and what may then come of files that are open, and of others.
TROUBLES = {
    "deleted": (os.unlink, {RIGHT}, {RIGHT, FAILED}),
    "replaced": (replace, {RIGHT}, {RIGHT, FAILED}),
    "chmod 000": (lambda path: os.chmod(path, 0), {RIGHT}, {RIGHT}),
    "truncated": (lambda path: os.truncate(path, os.path.getsize(path) // 2), {RIGHT, FAILED}, {RIGHT, FAILED}),
    "overwritten": (overwrite, {FAILED}, {FAILED}),
}


def new_layout(loose):
    shutil.rmtree(f"{STORE}/oci", ignore_errors=True)
    shutil.copytree(IMAGE.layout, f"{STORE}/oci")
    if loose:
        run("puzzlefs", "unpack", "--gc", f"{STORE}/oci")
    run("mount", "-t", "puzzlefs", f"{STORE}/oci:test", TARGET)


def check_log(lines, seconds, failed):
    """Each line names inode and chunk, or a pack of which the index could not be read again, and they are no more than a
    superblock's limit allows."""
    chunks = [line for line in lines if line.startswith("puzzlefs (") and "callbacks suppressed" not in line]
    for line in chunks:
        check(re.search(r": (inode \d+: chunk sha256:[0-9a-f]{64}: |pack sha256:[0-9a-f]{64} cannot be read: )", line),
              f"a line names no chunk: {line}")
    print(f"{len(chunks)} lines in the log in {seconds:.0f} s, such as: {chunks[:1]}")
    check(failed <= len(chunks) <= 10 * (seconds // 5 + 2), "those are not so many as they should be")


def trouble(name, loose):
    action, while_open, afterwards = TROUBLES[name]
    new_layout(loose)
    start = time.monotonic()
    with Logged() as log:
        files = {path: open(f"{TARGET}/{path}", "rb", buffering=0) for path in FILES}
        for path in blobs():
            action(path)
        drop_caches()
        opened = tally(content(f, path) for path, f in files.items())
        for f in files.values():
            f.close()
        drop_caches()
        again = tally(map(read, FILES))
    print(f"{'loose chunks' if loose else 'packs'}, {name}: open {opened}, opened later {again}", flush=True)
    check(set(opened) <= while_open and set(again) <= afterwards, "that is not as it should be")
    run("umount", TARGET)
    check_log(log.lines, time.monotonic() - start, FAILED in opened | again)


def peer(name):
    """The same damage to an EROFS image: it knows no digests."""
    image = shutil.copy(os.path.join(IMAGE.path, "erofs"), f"{STORE}/erofs")
    run("mount", "-t", "erofs", "-o", "loop,ro", image, TARGET)
    TROUBLES[name][0](image)
    drop_caches()
    found = tally(map(read, FILES))
    run("umount", TARGET)
    print(f"EROFS, {name}: {found}", flush=True)
    check(WRONG in found, "EROFS notices: say so in docs/filesystem.md")


def plain_user():
    """Loose chunks are opened when the file is, by whoever that is."""
    new_layout(loose=True)
    os.chmod(f"{STORE}/oci", 0o700)
    pid = os.fork()
    if pid == 0:
        os.setgroups([])
        os.setresuid(1000, 1000, 1000)
        denied = not os.access(f"{STORE}/oci/index.json", os.R_OK)
        os._exit(0 if denied and read("text") == RIGHT else 1)
    equal(os.waitpid(pid, 0)[1], 0, "the status of a plain user")
    run("umount", TARGET)


os.makedirs(TARGET, exist_ok=True)
run("modprobe", "-a", "loop", "erofs")
for loose in False, True:
    for name in TROUBLES:
        trouble(name, loose)
peer("overwritten")
plain_user()
print("right bytes or EIO, whatever happened to the blobs")
