#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: images peers-container; memory 2G; kernel stock
# shows: the kernel's own selftests that have an image to work with: run from it, in a container
# whose root filesystem it is, read-only where they can do with that and below an overlay where
# they make files. They clone, cover, move, list and idmap that root, walk its paths, execute
# its files.

import re
import subprocess

from case import check
from container import container
from peers import peers

# A directory of tools/testing/selftests, the programs in it, or (program, argument...).
READ_ONLY = {
    "exec": ["binfmt_misc_disabled", "binfmt_misc_interplimit", "binfmt_misc_loader", "binfmt_misc_selfpin",
             "binfmt_misc_transparent", "null-argv", "recursion-depth",
             *(f"load_address{how}.0x{align}" for how in ("", ".static") for align in (1000, 200000, 1000000))],
    "filesystems/empty_mntns": ["empty_mntns_test", "overmount_chroot_test", "root_readdir_test"],
    "filesystems/fsmount_ns": ["fsmount_ns_test"],
    "filesystems/mntns_unbindable": ["mntns_unbindable_test"],
    "filesystems/mount-notify": ["mount-notify_test", "mount-notify_test_ns"],
    "filesystems/mount_cycle": ["mount_cover_test", "nsfs_rbind_loop_test", "overmount_ns_file_test",
                                "overmount_reparent_test", "unmounted_tree_test"],
    "filesystems/open_tree_ns": ["open_tree_ns_covered_test", "open_tree_ns_test"],
    "filesystems/openat2": ["emptypath_test", "resolve_test"],
    "filesystems/statmount": ["listmount_test", "statmount_test"],
    "filesystems/umount_propagation": ["locked_mount_test", "shrink_submounts_test", "umount_propagation_test"],
    "mount": ["nosymfollow-test", "unprivileged-remount-test"],
    # Its other fixture makes an ext4 of its own.
    "mount_setattr": [("mount_setattr_test", "-F", "mount_setattr_idmapped")],
    "move_mount_set_group": ["move_mount_set_group_test"],
    "splice": [("splice_read", "/run/0/9/9", "4096")],
}
OVERLAY = {
    "exec": ["check-exec", "execveat", "non-regular"],
    "fchmodat2": ["fchmodat2_test"],
    "filesystems/move_mount": ["move_mount_test"],
    "filesystems/openat2": ["openat2_test"],
    "filesystems/overlayfs": ["automount_in_layer", "dev_in_maps", "idmapped_mounts", "set_layers_via_fds"],
    "filesystems/statmount": ["statmount_test_ns"],
}
# What fails in a root filesystem on tmpfs, too.
FAILING = {"set_layers_via_fds": ["set_layers_via_fds.set_layers_via_detached_mount_fds"]}
RESULT = re.compile(r"^(ok|not ok) \d+(?: -)? ?(.*?)(?: # (SKIP|XFAIL)\b.*)?$", re.M)
passed = 0


def selftest(box, directory, name, *arguments):
    """The status, how many passed and were skipped, and which failed, for those that say so."""
    status, said = box.run(f"./{name}", *arguments, cwd=f"/selftests/{directory}")
    results = RESULT.findall(said)
    failed = [what for how, what, _ in results if how == "not ok"]
    skipped = sum(bool(note) for *_, note in results)
    if failed != FAILING.get(name, []) or bool(status) != bool(failed):
        print(said, flush=True)
    # Such output is the same wherever it is read.
    answer = said if name == "splice_read" else len(results) - len(failed) - skipped
    return status, answer, skipped, failed


def run(found, writable, directories):
    """Each program in all roots, one root after another."""
    answers = {}
    for form, root in found.roots.items():
        with container(root, writable) as box:
            for directory, programs in directories.items():
                for program in programs:
                    name, *arguments = [program] if isinstance(program, str) else program
                    answers[form, f"{directory}/{name}"] = selftest(box, directory, name, *arguments)
    global passed
    for test in [test for form, test in answers if form == "puzzlefs"]:
        status, count, skipped, failed = found.row(
            test, lambda root, test=test: answers[root.removeprefix("/mnt/"), test])["puzzlefs"]
        check(failed == FAILING.get(test.rpartition("/")[2], []) and bool(status) == bool(failed), f"{test} fails")
        passed += count if isinstance(count, int) and count else 1


for module in "overlay", "binfmt_misc":
    subprocess.run(["modprobe", module], check=True)
with peers("container", ("puzzlefs", "erofs")) as found:
    run(found, False, READ_ONLY)
    run(found, True, OVERLAY)
print(f"{passed} of the kernel's selftests pass")
