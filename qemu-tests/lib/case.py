# SPDX-License-Identifier: GPL-2.0
"""What the cases share: images that the runner has made, mounts, and failing."""

import contextlib
import os
import subprocess
import sys
import tempfile

import tree

# The kernel of `make sanitizers`, which takes its time and has not all that the stock one has.
SANITIZERS = os.uname().release.endswith("-sanitizers")


class Image:
    """A test image (see qemu-tests/image): its layout, its manifest, the list of its source."""

    def __init__(self, name):
        self.name = name
        self.path = os.path.join(os.environ["PUZZLEFS_IMAGES"], name)
        self.layout = os.path.join(self.path, "oci")
        self.list = os.path.join(self.path, "list")
        with open(os.path.join(self.path, "digest")) as f:
            self.digest = f.read().strip()
        with open(os.path.join(self.path, "source")) as f:
            self.source = f.read().strip()

    def options(self):
        return f"oci_root_dir={self.layout},image_manifest={self.digest}"

    def blob(self, digest):
        return os.path.join(self.layout, "blobs/sha256", digest)

    def files(self, at_least=1):
        """(path, size) of the regular files of the source, of that size or more."""
        return [(path.encode("latin-1"), e["size"]) for path, e in tree.read(self.list).items()
                if e["type"] == "file" and e["size"] >= at_least]

    def digests(self):
        """(path, SHA-256) of the regular files of the source."""
        return [(path.encode("latin-1"), e["sha256"]) for path, e in tree.read(self.list).items()
                if e["type"] == "file"]


def check(condition, message):
    """Ends the case when `condition` does not hold."""
    if not condition:
        sys.exit(f"FAILED: {message}")


def equal(got, want, what):
    check(got == want, f"{what} is {got!r}, want {want!r}")


def mount(options, target):
    subprocess.run(["mount", "-t", "puzzlefs", "-o", options, "none", target], check=True)


@contextlib.contextmanager
def mounted(image, target=None, extra=""):
    """Mounts an image with plain mount(8), on a directory of its own unless given one."""
    target = target or tempfile.mkdtemp(prefix="puzzlefs-", dir="/mnt")
    mount(image.options() + extra, target)
    try:
        yield target
    except BaseException:  # open files would hide the reason behind "target is busy"
        subprocess.run(["umount", "-l", target])
        raise
    subprocess.run(["umount", target], check=True)


class Logged:
    """What the kernel logs meanwhile: `lines`."""

    def __enter__(self):
        self.fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
        os.lseek(self.fd, 0, os.SEEK_END)
        return self

    def __exit__(self, *_):
        self.lines = []
        with contextlib.suppress(BlockingIOError):  # no more
            while True:
                record = os.read(self.fd, 8192).decode(errors="replace")
                self.lines.append(record.partition(";")[2].splitlines()[0])
        os.close(self.fd)


def drop_caches():
    """Empties page cache, dentries and inodes."""
    with open("/proc/sys/vm/drop_caches", "w") as f:
        f.write("3")


def compare(root, image, ignore=(), least=1):
    """Compares a tree with the source of `image`; says how many entries it compared."""
    here = os.getcwd()
    count, found = tree.differences(root, image.list, ignore)
    os.chdir(here)
    for line in found[:20]:
        print(line)
    check(not found, f"{len(found)} differences in {count} entries")
    check(count >= least, f"only {count} entries")
    print(f"{image.name}: {count} entries equal their source")
