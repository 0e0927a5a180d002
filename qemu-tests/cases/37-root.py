#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: images debian; host
# shows: fs/puzzlefs is built in a kernel's tree as =m and =y without
# a warning; that kernel has an image as its root, by its command line alone, and by the
# /init of docs/mounting.md, with and without an overlayfs over it.

import contextlib
import json
import os
import re
import shutil
import subprocess
import tempfile

from case import Image, check, equal

TOP = os.environ["PUZZLEFS_TOP"]
IMAGE = Image("debian")
KERNEL = f"{TOP}/build/vmlinuz-in-tree"
WORK = tempfile.mkdtemp(prefix="root-")
# The first process: the image's own Python. A word that the kernel does not know is an argument for it:
# a program on the first disk.
PYTHON, PROGRAM = "/usr/bin/python3", "/dev/vda"


def documented(start):
    """The block of docs/mounting.md that starts so, for our image and our first process."""
    with open(f"{TOP}/docs/mounting.md") as f:
        block, = re.findall(rf"(?:^    {re.escape(start)}.*\n)(?:^    .*\n)*", f.read(), re.M)
    block = re.sub("^    ", "", block, flags=re.M)
    return block.replace("DIGEST", IMAGE.digest).replace("/sbin/init", PYTHON)


def cpio(name, directory, *what):
    """An initramfs of `what` in a directory."""
    path = f"{WORK}/{name}"
    found = subprocess.run(["find", *what, "-print0"], cwd=directory, stdout=subprocess.PIPE, check=True)
    with open(path, "wb") as f:
        subprocess.run(["cpio", "--null", "--create", "--format=newc", "--quiet"], cwd=directory,
                       input=found.stdout, stdout=f, check=True)
    return path


def raw_disk(name, content=b""):
    """A disk that holds `content`, and behind it what a program may as well end with."""
    with open(f"{WORK}/{name}", "wb") as f:
        f.write(content.ljust(1 << 20, b"\n"))
    return f.name


def boot(name, initramfs, command_line, *disks):
    """Boots a machine, and returns what lib/root_guest.py says of it."""
    with open(f"{TOP}/qemu-tests/lib/root_guest.py") as f:
        program = f"WANT = {WANT!r}\n{f.read()}"
    disks = raw_disk("program", program.encode()), raw_disk("report"), *disks
    console = f"{WORK}/{name}.console"
    command = ["qemu-system-x86_64", "-M", "microvm,acpi=off", "-cpu", "max,la57=off,erms=off,fsrm=off", "-smp", "2",
               "-m", "1G", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
               "-serial", f"file:{console}", "-kernel", KERNEL, "-initrd", initramfs,
               "-append", f"console=ttyS0 panic=-1 reboot=t {command_line} {PROGRAM}"]
    for number, disk in enumerate(disks):
        command += ["-drive", f"if=none,id=disk{number},format=raw,file={disk}",
                    "-device", f"virtio-blk-device,drive=disk{number}"]
    with contextlib.suppress(subprocess.TimeoutExpired):
        subprocess.run(command, timeout=300)
    with open(f"{WORK}/report", "rb") as f:
        report = f.read().strip()
    complaint = subprocess.run([f"{TOP}/scripts/vm.d/complaints", console], stdout=subprocess.PIPE, text=True).stdout
    if complaint or not report:
        with open(console, errors="replace") as f:
            print(f.read())
    equal(complaint, "", f"{name}: what the kernel complained of")
    check(report, f"{name}: the machine left no report")
    return json.loads(report)


def equal_root(name, report, kind, written):
    print(f"{name}: {report}")
    equal(report["type"], kind, f"{name}: what / is")
    equal(report["different"], [], f"{name}: files that are not those of the source")
    equal(report["written"], written, f"{name}: writing below /")
    equal(report["verify_failures"], 0, f"{name}: chunks that are not what they should be")
    check(report["bytes_read"] > 1 << 20, f"{name}: {report['bytes_read']} bytes were read of the layout")
    check(report["packages"] > 50, f"{name}: dpkg-query knows {report['packages']} packages")


subprocess.run([f"{TOP}/scripts/build-in-tree"], check=True)
WANT = {"/" + path.decode("latin-1"): digest for path, digest in IMAGE.digests()[::16]}
check(len(WANT) > 500, f"only {len(WANT)} files")

# By the command line: the layout is in an initramfs, which has no program in it.
line = documented("root=none").strip()
report = boot("command-line", cpio("layout", IMAGE.path, "oci"), f"{line} init={PYTHON}")
equal_root("command line", report, "puzzlefs", "Read-only file system")
check(f"image_manifest={IMAGE.digest}" in report["options"], "/ is another image")

# By an initramfs: the layout is on a disk.
disk = f"{WORK}/disk"
subprocess.run(["mkfs.ext4", "-q", "-d", IMAGE.layout, disk, "160M"], check=True)
for name in "bin", "dev", "disk", "image", "changes", "root":
    os.makedirs(f"{WORK}/initramfs/{name}")
shutil.copy("/bin/busybox", f"{WORK}/initramfs/bin/busybox")
init = documented("#!/bin/busybox").replace("/dev/vda", "/dev/vdc")
plain = re.sub("(?m)^.*(changes|overlay).*\n", "", init).replace("none /image", "none /root")
for name, text, kind, written in (("read-only", plain, "puzzlefs", "Read-only file system"),
                                  ("overlay", init, "overlay", "written")):
    with open(f"{WORK}/initramfs/init", "w") as f:
        f.write(text)
    os.chmod(f.name, 0o755)
    report = boot(name, cpio("init", f"{WORK}/initramfs", "."), "", disk)
    equal_root(f"initramfs, {name}", report, kind, written)
shutil.rmtree(WORK)
print(f"{len(WANT)} files and dpkg-query, from an image as the root in three ways")
