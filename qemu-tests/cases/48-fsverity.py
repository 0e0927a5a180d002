#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: memory 2G
# shows: by verify=fsverity the filesystem of the layout checks packs, and nothing of them is hashed
# again; packs that the manifest does not vouch for are refused; loose chunks are hashed as ever; an
# image whose index lies hurts no other image, in one domain neither.

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import random
import shutil
import struct
import subprocess

import mountapi
from case import check, drop_caches, equal
from pagecache import cached

SCRATCH, MNT = "/scratch/verity", "/mnt/verity"
TREE, LAYOUT = f"{SCRATCH}/tree", f"{SCRATCH}/oci"
FS_IOC_ENABLE_VERITY, FS_IOC_MEASURE_VERITY = 0x40806685, 0xC0046686
SHA256, SHA512 = 1, 2
ANNOTATION = "io.puzzlefsoci.puzzlefs.fs_verity"
PACK = "application/vnd.puzzlefs.image.pack.v1"
FILES = {}


def run(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def enable(path, algorithm=SHA256, salt=b""):
    """fs-verity, as fsverity(1) enables it."""
    kept = bytearray(salt)
    place = (mountapi.ctypes.c_char * len(kept)).from_buffer(kept) if salt else None
    address = mountapi.ctypes.addressof(place) if salt else 0
    arg = struct.pack("<4I Q 2I Q 88x", 1, algorithm, 4096, len(salt), address, 0, 0, 0)
    fd = os.open(path, os.O_RDONLY)
    try:
        fcntl.ioctl(fd, FS_IOC_ENABLE_VERITY, arg)
    finally:
        os.close(fd)


def measure(path):
    """What the kernel says that the fs-verity digest of a file is."""
    fd = os.open(path, os.O_RDONLY)
    answer = fcntl.ioctl(fd, FS_IOC_MEASURE_VERITY, struct.pack("<2H 64x", 0, 64))
    os.close(fd)
    algorithm, size = struct.unpack_from("<2H", answer)
    equal((algorithm, size), (SHA256, 32), "algorithm and size of the digest")
    return answer[4:36].hex()


def blob(layout, digest):
    return f"{layout}/blobs/sha256/{digest.removeprefix('sha256:')}"


def manifest(layout, tag="image"):
    """The digest of a tag's manifest, and what is in it."""
    with open(f"{layout}/index.json") as f:
        found = next(m["digest"] for m in json.load(f)["manifests"]
                     if m["annotations"]["org.opencontainers.image.ref.name"] == tag)
    with open(blob(layout, found)) as f:
        return found, json.load(f)


def packs(layout, tag="image"):
    return [layer for layer in manifest(layout, tag)[1]["layers"] if layer["mediaType"] == PACK]


def store(layout, data):
    digest = hashlib.sha256(data).hexdigest()
    with open(blob(layout, digest), "wb") as f:
        f.write(data)
    return f"sha256:{digest}"


def options(layout, digest, verify="fsverity", domain=None):
    found = [("oci_root_dir", layout), ("image_manifest", digest), ("verify", verify), ("domain_id", domain)]
    return [(key, value) for key, value in found if value]


def mounts(*wanted):
    """Mounts of (layout, manifest, ...), at the paths that it yields, nothing of them cached."""
    return mountapi.mounts(MNT, *(options(*what) for what in wanted))


def refused(layout, digest, error, word, verify="fsverity"):
    try:
        with mounts((layout, digest, verify)):
            check(False, f"a mount was not refused that ought to say {word}")
    except mountapi.MountError as found:
        said = "".join(found.messages)
        equal(found.errno, getattr(errno, error), f"the errno of a mount that says {said!r}")
        check(word in said, f"the kernel says {said!r}, not {word!r}")
        print(f"refused, {error}: {said}")


def read(path):
    with open(path, "rb", buffering=0) as f:
        return b"".join(iter(lambda: f.read(1 << 20), b""))


def right(root):
    for name, content in FILES.items():
        check(read(f"{root}/{name}") == content, f"{root}/{name} has other bytes")


def fails(path):
    try:
        read(path)
    except OSError as error:
        return equal(errno.errorcode[error.errno], "EIO", f"the errno of {path}")
    check(False, f"{path} can be read")


def is_cached(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        return cached(fd) > 0
    finally:
        os.close(fd)


def counters(root):
    return json.loads(run("puzzlefs", "stats", "--format", "json", root))


def shown(path):
    with open("/proc/mounts") as f:
        return next(line.split()[3] for line in f if line.split()[1] == path)


def build():
    """One image, whose chunks are as large as what is in them: nothing is compressed."""
    rng = random.Random(48)
    FILES["noise"] = rng.randbytes(3_000_000)
    for name in "twin0", "twin1":  # of one size, in one pack
        FILES[name] = rng.randbytes(20_000)
    FILES["sparse"] = FILES["noise"][:200_000] + bytes(1 << 20) + FILES["noise"][-200_000:]
    for number in range(100):
        FILES[f"small{number}"] = rng.randbytes(rng.randrange(1, 1500))
    os.makedirs(TREE)
    for name, content in FILES.items():
        with open(f"{TREE}/{name}", "wb") as f:
            if name == "sparse":
                f.write(content[:200_000])
                f.seek(1 << 20, os.SEEK_CUR)
                f.write(content[-200_000:])
            else:
                f.write(content)
    run("puzzlefs", "build", "--compression=none", "--pack-size=1000000", TREE, f"{LAYOUT}:image")


def vouched():
    """Right bytes, none of them hashed; as many ways to say so as there are."""
    digest, _ = manifest(LAYOUT)
    check(len(packs(LAYOUT)) > 2, "the image has few packs")
    for pack in packs(LAYOUT):
        enable(blob(LAYOUT, pack["digest"]))
        equal(pack["annotations"][ANNOTATION], measure(blob(LAYOUT, pack["digest"])), "the builder's digest of a pack")
    chunks = json.loads(run("puzzlefs", "inspect", "--format", "json", f"{LAYOUT}:image"))["chunks"]
    with mounts((LAYOUT, digest), (LAYOUT, digest, "chunk"), (LAYOUT, digest, None)) as (path, by_chunk, default):
        right(path)
        found = counters(path)
        equal(found["chunks_verified"], 0, "the number of chunks that were hashed")
        check(found["chunks_vouched"] >= chunks, f"{found['chunks_vouched']} of {chunks} chunks were vouched for")
        check(not is_cached(f"{by_chunk}/noise"), "what was not hashed is shared with who wants it to be")
        right(by_chunk)
        found = counters(by_chunk)
        equal(found["chunks_vouched"], 0, "the number of chunks that were vouched for by verify=chunk")
        check(found["chunks_verified"] >= chunks, f"{found['chunks_verified']} of {chunks} chunks were hashed")
        check("verify=fsverity" in shown(path), f"shown is {shown(path)}")
        check("verify" not in shown(by_chunk), f"shown is {shown(by_chunk)}")
        devices = [os.stat(root).st_dev for root in (path, by_chunk, default)]
        check(devices[0] != devices[1] == devices[2], "two ways to verify have one superblock")
        for bad in "verify=chunk", "verify=none":
            done = subprocess.run(["mount", "-o", f"remount,{bad}", path], stderr=subprocess.DEVNULL)
            equal(done.returncode, 32, f"the status of a remount with {bad}")
        run("mount", "-o", "remount,nosuid", path)
        check("verify=fsverity" in shown(path), f"shown after a remount is {shown(path)}")
    refused(LAYOUT, digest, "EINVAL", "verify: chunk or fsverity", "none")
    for command in (["mount", "-t", "puzzlefs"], ["puzzlefs", "mount"]):
        run(*command, "-o", "verify=fsverity", f"{LAYOUT}:image", f"{MNT}/0")
        check("verify=fsverity" in shown(f"{MNT}/0"), f"shown is {shown(f'{MNT}/0')}")
        right(f"{MNT}/0")
        run("umount", f"{MNT}/0")


def refusals():
    """Whatever the manifest does not vouch for."""
    digest, text = manifest(LAYOUT)

    def changed(change):
        """A manifest like that, but for its first pack."""
        copy = json.loads(json.dumps(text))
        change(next(layer for layer in copy["layers"] if layer["mediaType"] == PACK))
        return store(LAYOUT, json.dumps(copy).encode())

    def annotate(value):
        return changed(lambda pack: pack["annotations"].update({ANNOTATION: value}))
    other = "0" * 64
    refused(LAYOUT, annotate(other), "EKEYREJECTED", "another fs-verity digest")
    refused(LAYOUT, changed(lambda pack: pack.pop("annotations")), "ENOKEY", "no fs-verity digest of it")
    for bad in other[1:], other + "0", f"sha256:{other}", other[1:] + "G", 7, None:
        for verify in "fsverity", "chunk":
            refused(LAYOUT, annotate(bad), "EUCLEAN", "digest", verify)
    with mounts((LAYOUT, annotate(other), "chunk")) as (path,):  # it does not matter there
        right(path)
    # A manifest that was changed in its place.
    path = blob(LAYOUT, annotate("f" * 64))
    claimed = os.path.basename(path)
    with open(path, "r+b") as f:
        data = f.read().replace(b"f" * 64, text_of(packs(LAYOUT)[0]).encode())
        f.seek(0)
        f.write(data)
    refused(LAYOUT, claimed, "EBADMSG", "not those of that digest")

    # Packs that are the same files, but for fs-verity.
    first = packs(LAYOUT)[0]["digest"]
    for how, error, word in ((None, "EOPNOTSUPP", "not enabled"), ({"salt": b"salt"}, "EKEYREJECTED", "another"),
                             ({"algorithm": SHA512}, "EKEYREJECTED", "another")):
        path = blob(LAYOUT, first)
        with open(path, "rb") as f:
            data = f.read()
        os.unlink(path)
        store(LAYOUT, data)
        if how:
            enable(path, **how)
        refused(LAYOUT, digest, error, word)
        with mounts((LAYOUT, digest, "chunk")) as (root,):
            right(root)
        os.unlink(path)
        store(LAYOUT, data)
        enable(path)
    with mounts((LAYOUT, digest)) as (root,):
        right(root)
    # Below an overlayfs another file may take its place.
    for name in "upper", "work", "merged":
        os.makedirs(f"{SCRATCH}/{name}")
    run("modprobe", "overlay")
    run("mount", "-t", "overlay", "-o", f"lowerdir={LAYOUT},upperdir={SCRATCH}/upper,workdir={SCRATCH}/work", "none", f"{SCRATCH}/merged")
    refused(f"{SCRATCH}/merged", digest, "EOPNOTSUPP", "not enabled")
    run("umount", f"{SCRATCH}/merged")


def text_of(pack):
    return pack["annotations"][ANNOTATION]


@contextlib.contextmanager
def on_disk(kind, *arguments):
    """A new filesystem with a copy of the layout, all packs with fs-verity: the layout."""
    run("modprobe", "-a", "loop", kind)
    root = f"{SCRATCH}/{kind}"
    os.makedirs(root)
    with open(f"{SCRATCH}/disk", "wb") as f:
        f.truncate(400 << 20)
    run(f"mkfs.{kind}", *arguments, f"{SCRATCH}/disk")
    run("mount", "-o", "loop", f"{SCRATCH}/disk", root)
    try:
        shutil.copytree(LAYOUT, f"{root}/oci")
        yield f"{root}/oci"
    finally:
        run("umount", "-l", root)
        os.unlink(f"{SCRATCH}/disk")


def disks():
    """What a disk damages below is noticed there, and goes no further."""
    digest, _ = manifest(LAYOUT)
    for kind, arguments in ("ext4", ["-q", "-b", "4096", "-O", "verity"]), ("btrfs", ["-q"]):
        with on_disk(kind, *arguments) as layout:
            for pack in packs(layout):
                enable(blob(layout, pack["digest"]))
            os.sync()
            with mounts((layout, digest)) as (path,):
                right(path)
                # Half a page of what is in the file on the disk, wherever that is.
                wanted = FILES["noise"][1_500_000:1_502_000]
                with open(f"{SCRATCH}/disk", "r+b") as disk:
                    at = disk.read().find(wanted)
                    check(at > 0, "the file's bytes are not on the disk")
                    disk.seek(at)
                    disk.write(bytes(byte ^ 1 for byte in wanted))
                    disk.flush()
                    drop_caches()
                    fails(f"{path}/noise")
                    check(read(f"{path}/small7") == FILES["small7"], "small7 has other bytes")
                    disk.seek(at)
                    disk.write(wanted)
                    disk.flush()
                    drop_caches()
                    right(path)
                equal(counters(path)["chunks_verified"], 0, "the number of chunks that were hashed")
        print(f"{kind}: right bytes, EIO for what the disk has changed", flush=True)
    with on_disk("xfs", "-q") as layout:
        refused(layout, digest, "EOPNOTSUPP", "not enabled")


def evil_twin(layout):
    """An image with the Rootfs of the other one, in packs whose indexes say that they have its
    chunks, of other bytes. Its manifest vouches for them."""
    _, text = manifest(LAYOUT)
    os.makedirs(f"{layout}/blobs/sha256")
    for layer in text["layers"]:
        with open(blob(LAYOUT, layer["digest"]), "rb") as f:
            data = f.read()
        if layer["mediaType"] == PACK:
            index = len(data) - 8 - 40 * int.from_bytes(data[-8:-4], "little")
            data = bytes(byte ^ 0x55 for byte in data[:index]) + data[index:]
        layer["digest"] = store(layout, data)
        if layer["mediaType"] == PACK:
            enable(blob(layout, layer["digest"]))
            layer["annotations"][ANNOTATION] = measure(blob(layout, layer["digest"]))
    return store(layout, json.dumps(text).encode())


def is_evil(root):
    for name in "noise", "small7":
        want = bytes(byte ^ 0x55 for byte in FILES[name])
        check(read(f"{root}/{name}") == want, f"{root}/{name} is not what the image's maker vouches for")


def lies():
    """Who lies in an index lies to the readers of that image only, in whatever order they read."""
    evil, apart = f"{SCRATCH}/evil", f"{SCRATCH}/apart"
    twin, (digest, _) = evil_twin(evil), manifest(LAYOUT)
    shutil.copytree(LAYOUT, apart)
    for pack in packs(apart):
        enable(blob(apart, pack["digest"]))
    for domain in "x", None:
        good = [(LAYOUT, digest, "fsverity", domain), (LAYOUT, digest, "chunk", domain), (apart, digest, "fsverity", domain)]
        with mounts((evil, twin, "fsverity", domain), *good) as (bad, *others):
            is_evil(bad)
            for path in others:
                right(path)
            is_evil(bad)
        with mounts(*good, (evil, twin, "fsverity", domain)) as (*others, bad):
            for path in others:
                right(path)
            is_evil(bad)
            for path in others:
                right(path)
    with mounts((evil, twin, "chunk", "x")) as (bad,):
        fails(f"{bad}/noise")
        fails(f"{bad}/small7")
    # Packs with the same fs-verity digest are the same packs, whatever directory they are in.
    for domain in "x", None:
        with mounts((LAYOUT, digest, "fsverity", domain), (apart, digest, "fsverity", domain)) as (one, two):
            right(one)
            equal(is_cached(f"{two}/noise"), domain is not None, f"sharing of two layouts, domain {domain}")


def loose():
    """Chunks that are blobs by themselves are hashed, alone and beside packs."""
    os.mkdir(f"{SCRATCH}/part")
    with open(f"{SCRATCH}/part/noise", "wb") as f:
        f.write(FILES["noise"])
    layout = f"{SCRATCH}/mixed"
    run("puzzlefs", "build", "--compression=none", "--layout=loose", f"{SCRATCH}/part", f"{layout}:loose")
    run("puzzlefs", "build", "--compression=none", TREE, f"{layout}:image")
    for pack in packs(layout):
        enable(blob(layout, pack["digest"]))
    digest, text = manifest(layout)
    others = [layer["digest"] for layer in text["layers"] if "filedata" in layer["mediaType"]]
    check(others and packs(layout), "the image has not both loose chunks and packs")
    alone, _ = manifest(layout, "loose")
    rootfs = next(layer["digest"] for layer in text["layers"] if "rootfs" in layer["mediaType"])
    with mounts((layout, digest), (layout, alone)) as (path, single):
        right(path)
        found = counters(path)
        check(found["chunks_verified"] >= len(others), f"{found['chunks_verified']} of {len(others)} loose chunks were hashed")
        check(found["chunks_vouched"] > 0, "no chunk was vouched for")
        check(read(f"{single}/noise") == FILES["noise"], "the file of loose chunks has other bytes")
        equal(counters(single)["chunks_vouched"], 0, "loose chunks that were vouched for")
        drop_caches()
        for other in others:
            with open(blob(layout, other), "r+b") as f:
                first = f.read(1)
                f.seek(0)
                f.write(bytes([first[0] ^ 1]))
        for root in path, single:
            fails(f"{root}/noise")
        check(read(f"{path}/small7") == FILES["small7"], "small7 has other bytes")
    # By its Rootfs alone an image has no packs.
    with mounts((layout, rootfs)) as (path,):
        fails(f"{path}/small7")


os.makedirs(SCRATCH)
os.makedirs(f"{MNT}/0")
build()
for test in vouched, refusals, lies, loose, disks:
    test()
    print(f"{test.__name__}: {test.__doc__.splitlines()[0]}", flush=True)
print("the filesystem below checks what the manifest vouches for, and nothing is taken on trust")
