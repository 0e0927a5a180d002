# SPDX-License-Identifier: GPL-2.0
"""One tree as PuzzleFS, EROFS, squashfs and upstream's FUSE filesystem, mounted side by
side: what a feature does is asked of each of them, so that a difference is seen."""

import contextlib
import errno
import os
import subprocess
import time

from case import Image, check, mounted

KERNEL = ("puzzlefs", "erofs", "squashfs")
# With upstream's server, which takes minutes for what the others do in seconds.
ALL = (*KERNEL, "upstream")


def outcome(function, *arguments):
    """What a function returns, or the name of its errno."""
    try:
        return function(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno]


class Peers:
    """The image peers-NAME, mounted in each form on /mnt/FORM."""

    def __init__(self, name, forms):
        self.image = Image(f"peers-{name}")
        self.roots = {form: f"/mnt/{form}" for form in forms}

    def row(self, feature, probe, forms=None, same=True):
        """Asks `probe(root)` of each form, and prints the answers. That of PuzzleFS must be that of
        EROFS, unless `same` is another function of the two. An error that is part of the answer
        is for the probe to catch (`outcome`). Returns the answers."""
        answers = {}
        for form in forms or self.roots:
            # Upstream's server is shown, not held to anything.
            answers[form] = (outcome(probe, self.roots[form]) if form == "upstream" else probe(self.roots[form]))
        shown = " | ".join(f"{form} {answer}" for form, answer in answers.items())
        print(f"{feature}: {shown}", flush=True)
        ours, erofs = answers["puzzlefs"], answers.get("erofs")
        good = ours == erofs if same is True else same(ours, erofs)
        check(good, f"{feature}: PuzzleFS says {ours!r}, EROFS {erofs!r}")
        return answers

    def source(self, name):
        return os.path.join(self.image.source, name)


@contextlib.contextmanager
def plain(image, form):
    """EROFS or squashfs, over a loop device."""
    subprocess.run(["modprobe", "-a", "loop", form], check=True)
    subprocess.run(["mount", "-t", form, "-o", "loop,ro", os.path.join(image.path, form), f"/mnt/{form}"], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", f"/mnt/{form}"], check=True)


@contextlib.contextmanager
def upstream(image, form):
    """Upstream's server, in the foreground: as a daemon it wants a syslog."""
    subprocess.run(["modprobe", "fuse"], check=True)
    with open(os.path.join(image.path, "upstream-program")) as f:
        server = subprocess.Popen([f.read().strip(), "mount", "-f", f"{image.path}/upstream:test", f"/mnt/{form}"])
    while not os.path.ismount(f"/mnt/{form}"):
        check(server.poll() is None, "upstream's server has ended")
        time.sleep(0.05)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", f"/mnt/{form}"], check=True)
        server.wait()


@contextlib.contextmanager
def peers(name, forms=KERNEL):
    """Mounts the image in each of `forms`."""
    found = Peers(name, forms)
    with contextlib.ExitStack() as stack:
        for form in forms:
            os.makedirs(f"/mnt/{form}", exist_ok=True)
            if form == "puzzlefs":
                stack.enter_context(mounted(found.image, f"/mnt/{form}"))
            else:
                stack.enter_context((upstream if form == "upstream" else plain)(found.image, form))
        yield found
