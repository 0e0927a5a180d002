#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: images peers-stacking; memory 2G; append security=selinux enforcing=0; kernel stock
# shows: under SELinux, with the kernel's own dummy policy: mounts of one image under two contexts, each
# with its own, as of one EROFS image; labels from the image; whose label reads the layout; a context with
# a comma in it, quoted, by mount(8), fstab, systemd, `puzzlefs mount` and --overlay.


import concurrent.futures
import contextlib
import os
import subprocess

import mountapi
from case import Image, check, drop_caches, equal
from pagecache import cached

IMAGE = Image("peers-stacking")
EROFS = f"{IMAGE.path}/erofs"
SELINUX, LABEL = "/sys/fs/selinux", "security.selinux"
ONE, TWO = "user_u:object_r:base_t:s0:c0", "user_u:object_r:base_t:s0:c1"
BOTH = "user_u:object_r:base_t:s0:c0,c1"
DEFAULT = "user_u:base_r:base_t:s0"  # the initial SID of files that have no label
FILE = "lower/big"


def run(*command, **options):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, **options).stdout.strip()


def load_policy():
    """That of scripts/selinux/mdp: one type, which may do everything. What it says of squashfs, which
    has labels of its own, it says of our filesystems, too."""
    tree = run(f"{os.environ['PUZZLEFS_TOP']}/scripts/kernel", "--path", "stock",
               env=os.environ | {"PUZZLEFS_ROOT": "/"})
    run(f"{tree}/scripts/selinux/mdp/mdp", "-m", "/tmp/policy.conf", "/tmp/file_contexts")
    with open("/tmp/policy.conf") as f:
        # Of the kernel's newest capabilities checkpolicy may not know the names; none is needed here.
        lines = [line for line in f.read().splitlines(keepends=True) if not line.startswith("policycap")]
    ours = [line.replace("squashfs", name) for line in lines if "fs_use_xattr squashfs" in line
            for name in ("puzzlefs", "erofs")]
    at = next(i for i, line in enumerate(lines) if line.startswith("fs_use_xattr"))
    with open("/tmp/policy.conf", "w") as f:
        f.writelines(lines[:at] + ours + lines[at:])
    run("checkpolicy", "-U", "allow", "-M", "-o", "/tmp/policy", "/tmp/policy.conf", stderr=subprocess.STDOUT)
    if not os.path.exists(f"{SELINUX}/load"):
        run("mount", "-t", "selinuxfs", "none", SELINUX)
    with open("/tmp/policy", "rb") as f, open(f"{SELINUX}/load", "wb", buffering=0) as load:
        policy = f.read()
        equal(load.write(policy), len(policy), "what the kernel took of the policy")


def options(kind, layout=IMAGE.layout, digest=IMAGE.digest):
    return [("oci_root_dir", layout), ("image_manifest", digest)] if kind == "puzzlefs" else [("source", EROFS)]


@contextlib.contextmanager
def mounts(kind, *more):
    """The same image once for each of `more`, which are further options."""
    with contextlib.ExitStack() as stack:
        roots = []
        for number, extra in enumerate(more):
            root = f"/mnt/{kind}-{number}"
            os.makedirs(root, exist_ok=True)
            mountapi.mount(options(kind) + list(extra), root, kind=kind)
            stack.callback(run, "umount", root)
            roots.append(root)
        yield roots


def label(path):
    return os.getxattr(path, LABEL).rstrip(b"\0").decode()


def devices(roots):
    """Which of them have one superblock: by number, from 0 on."""
    found = [os.stat(root).st_dev for root in roots]
    return [found.index(device) for device in found]


def contexts(kind):
    """The labels and the superblocks of mounts with different, with equal and with no contexts."""
    first, second = [("context", ONE)], [("context", TWO)]
    with mounts(kind, first, second, first, [], [("rootcontext", TWO)]) as roots:
        with open(f"{roots[0]}/{FILE}", "rb") as f, open(f"{IMAGE.source}/{FILE}", "rb") as want:
            equal(f.read(), want.read(), "what is read")
        return [(label(root), label(f"{root}/{FILE}")) for root in roots], devices(roots)


def shares_memory():
    """Two contexts, one page cache: what was read under one is there under the other."""
    with mounts("puzzlefs", [("context", ONE)], [("context", TWO)]) as roots:
        drop_caches()
        with open(f"{roots[0]}/{FILE}", "rb") as f, open(f"{roots[1]}/{FILE}", "rb") as other:
            f.read()
            check(cached(other.fileno()) > 0, "the second context has a page cache of its own")


def at_the_same_time():
    """Whichever is first, and be it still being mounted: nobody gets another's context, or EINVAL."""
    def churn(number):
        want = (ONE, TWO, DEFAULT)[number % 3]
        root = f"/mnt/churn{number}"
        os.makedirs(root, exist_ok=True)
        for _ in range(15):
            extra = [("context", want)] if want != DEFAULT else []
            mountapi.mount(options("puzzlefs") + extra, root)
            equal(label(f"{root}/{FILE}"), want, "a label of one of many mounts")
            run("umount", root)

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        list(pool.map(churn, range(6)))


def as_task(level, function):
    """What `function` returns in a process with a label of that level."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            with open("/proc/self/attr/current", "w") as f:
                f.write(f"user_u:base_r:base_t:{level}")
            status = 0 if function() else 2
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def reader():
    """The layout is read under the label of who mounted: another one has another superblock."""
    def mounted():
        mountapi.mount(options("puzzlefs"), "/mnt/first")
        return True

    def is_shared():
        mountapi.mount(options("puzzlefs"), "/mnt/other")
        shared = os.stat("/mnt/other").st_dev == os.stat("/mnt/first").st_dev
        run("umount", "/mnt/other")
        return shared

    for root in "/mnt/first", "/mnt/other":
        os.makedirs(root, exist_ok=True)
    # By a task with a label like the others': our own is the one that the kernel began with.
    equal(as_task("s0", mounted), 0, "whether a task mounts")
    equal([as_task(level, is_shared) for level in ("s0", "s0:c0")], [0, 2],
          "whether a task shares the superblock, with the same label and with another (2: it does not)")
    run("umount", "/mnt/first")


def labels_of_the_image():
    """An image whose files have labels."""
    tree, layout = "/scratch/selinux/tree", "/scratch/selinux/oci"
    os.makedirs(tree)
    for name, text in ("one", ONE), ("two", TWO):
        with open(f"{tree}/{name}", "w") as f:
            f.write(text)
        os.setxattr(f"{tree}/{name}", LABEL, text.encode())
    run("puzzlefs", "build", tree, f"{layout}:test")
    os.makedirs("/mnt/labels", exist_ok=True)
    run("mount", "-t", "puzzlefs", f"{layout}:test", "/mnt/labels")
    equal([label(f"/mnt/labels/{name}") for name in ("one", "two")], [ONE, TWO], "the labels of the image")
    check(LABEL in os.listxattr("/mnt/labels/one"), "a label of the image is not listed")
    run("umount", "/mnt/labels")
    # A context given is in place of them. (mount(8) leaves it out unless /etc/selinux is there.)
    run("puzzlefs", "mount", "-o", f"context={TWO}", f"{layout}:test", "/mnt/labels")
    equal([label(f"/mnt/labels/{name}") for name in ("one", "two")], [TWO, TWO], "the labels under a context")
    run("umount", "/mnt/labels")


def quoted():
    """A context with a comma in it, by all that mounts: quoted, as mount(8) says."""
    # libselinux takes it for off without this file, and mount(8) then drops contexts.
    run("mount", "-t", "tmpfs", "none", "/etc/selinux")
    with open("/etc/selinux/config", "w") as f:
        f.write("SELINUX=permissive\nSELINUXTYPE=dummy\n")
    run("modprobe", "overlay")
    tag, target, fstab = f"{IMAGE.layout}:test", "/mnt/quoted", "/tmp/fstab"
    os.makedirs(target, exist_ok=True)
    option = f'context="{BOTH}"'
    with open(fstab, "w") as f:
        f.write(f"{tag} {target} puzzlefs nosuid,{option},nodev 0 0\n")
    os.makedirs("/tmp/units", exist_ok=True)
    run("/usr/lib/systemd/system-generators/systemd-fstab-generator", "/tmp/units", "/tmp/units", "/tmp/units",
        env=os.environ | {"SYSTEMD_FSTAB": fstab, "SYSTEMD_IN_INITRD": "0"})
    with open("/tmp/units/mnt-quoted.mount") as f:
        unit_options, = (line.split("=", 1)[1].strip() for line in f if line.startswith("Options="))
    by_digest = f"oci_root_dir={IMAGE.layout},image_manifest={IMAGE.digest},{option}"
    for command in (("mount", "-t", "puzzlefs", "-o", f"{option},nosuid", tag, target),
                    ("mount", "-i", "-t", "puzzlefs", "-o", f"{by_digest},nosuid", "none", target),
                    ("mount", "-t", "puzzlefs", "-o", f"{by_digest},nosuid", "none", target),
                    ("mount", "-a", "-T", fstab),
                    ("mount", tag, target, "-t", "puzzlefs", "-o", unit_options),
                    ("puzzlefs", "mount", "-o", f"nosuid,{option}", tag, target),
                    ("puzzlefs", "mount", "-o", f"nosuid,{option}", "--overlay", "/scratch/quoted", tag, target)):
        run(*command)
        equal([label(target), label(f"{target}/{FILE}")], [BOTH, BOTH], f"the labels by {' '.join(command)}")
        check(os.statvfs(target).f_flag & os.ST_NOSUID, f"{' '.join(command)} lost an option behind the comma")
        if "--overlay" not in command:
            # mount(8) repeats the context, which the kernel shows.
            run("mount", "-o", "remount,noexec", target)
            found = os.statvfs(target).f_flag
            check(found & os.ST_NOEXEC and found & os.ST_NOSUID, "a remount under a context")
            equal(label(target), BOTH, "the label after a remount")
        run("puzzlefs", "umount", target)


with open("/proc/self/attr/current") as attribute:
    check(attribute.read().rstrip("\0\n") == "kernel", "SELinux is not there, or has a policy already")
load_policy()
run("modprobe", "erofs")
ours, erofs = contexts("puzzlefs"), contexts("erofs")
for kind, found in ("puzzlefs", ours), ("erofs", erofs):
    print(f"{kind}: labels of root and file {found[0]}, superblocks {found[1]}")
equal(ours[0], [(ONE, ONE), (TWO, TWO), (ONE, ONE), (DEFAULT, DEFAULT), (TWO, DEFAULT)], "the labels")
equal(ours, erofs, "what PuzzleFS says, beside EROFS over a file")
with mounts("puzzlefs", [], []) as both:
    equal(devices(both), [0, 0], "the superblocks of two mounts without options for SELinux")
shares_memory()
at_the_same_time()
reader()
labels_of_the_image()
quoted()
print("one image under many contexts")
