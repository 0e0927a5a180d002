# SPDX-License-Identifier: GPL-2.0
"""guest.py DATA LINK SERVICE: the part of `make lazy-bench` that runs in the virtual machine. A registry and a web server
with the data below the directory DATA are behind a link; prints as JSON, for each way to have an image, how many seconds
pass until the service answers, how many bytes have come through the link by then, and the same for reading all of it."""

import contextlib
import json
import os
import subprocess
import sys
import time

HERE = os.path.dirname(__file__)
sys.path += [os.path.join(HERE, "../../qemu-tests/lib"), os.path.join(HERE, "../pull-bench.d")]
from link import DISK, MEMORY, NEAR, PORT, SERVER, inside, link, memory, registry, run, warm
from registries import wait
from services import SERVICES, ready, start, stop

LINKS = {"100 Mbit/s, 20 ms": ("100mbit", 20), "1 Gbit/s, 1 ms": ("1gbit", 1)}
HOST = f"docker://{SERVER}:{PORT}"
WEB = 8000
ROOT = "/mnt"


def came():
    with open(f"/sys/class/net/{NEAR}/statistics/rx_bytes") as f:
        return int(f.read())


class Measured:
    """Seconds and bytes since it was made."""

    def __init__(self):
        run("sync")
        self.begin, self.bytes = time.monotonic(), came()

    def __call__(self):
        return {"seconds": time.monotonic() - self.begin, "bytes": came() - self.bytes}


def web():
    """What casync mounts from."""
    config = (f"daemon off; pid /scratch/web.pid; error_log /scratch/web.log; events {{}} "
              f"http {{ access_log off; client_body_temp_path /scratch/web; proxy_temp_path /scratch/web; fastcgi_temp_path /scratch/web; "
              f"uwsgi_temp_path /scratch/web; scgi_temp_path /scratch/web; "
              f"server {{ listen {SERVER}:{WEB}; root {MEMORY}/registry/casync; }} }}")
    with open("/scratch/web.conf", "w") as f:
        f.write(config)
    server = subprocess.Popen(inside("nginx", "-c", "/scratch/web.conf"))
    wait(WEB, SERVER)
    return server


@contextlib.contextmanager
def overlay(lower, name):
    """`lower` below a directory of its own, as every runtime has it."""
    for part in "upper", "work":
        os.makedirs(f"{DISK}/{name}/{part}")
    run("mount", "-t", "overlay", "-o", f"lowerdir={lower},upperdir={DISK}/{name}/upper,workdir={DISK}/{name}/work", "none", ROOT)
    try:
        yield
    finally:
        run("umount", ROOT)


@contextlib.contextmanager
def unpacked(service, name):
    """By layers: fetched by skopeo, unpacked by umoci."""
    layout = f"{DISK}/{name}"
    run("skopeo", "copy", "-q", "--src-tls-verify=false", f"{HOST}/skopeo:{service.tree}", f"oci:{layout}:tag")
    run("umoci", "unpack", "--image", f"{layout}:tag", f"{layout}-bundle", stderr=subprocess.DEVNULL)
    yield f"{layout}-bundle/rootfs"


@contextlib.contextmanager
def casync(service, name):
    """By casync's mount over HTTP, which fetches chunks as they are read."""
    os.makedirs(f"{DISK}/{name}")
    at = f"http://{SERVER}:{WEB}"
    tree = f"{DISK}/{name}/tree"
    os.makedirs(tree)
    with open("/scratch/casync.log", "a") as log:
        process = subprocess.Popen(["casync", "mount", f"--store={at}/default.castr", f"{at}/{service.tree}.caidx", tree],
                                   stdout=log, stderr=log)
    while not os.path.ismount(tree):
        if process.poll() is not None:
            raise SystemExit("casync mount: " + open("/scratch/casync.log").read())
        time.sleep(0.01)
    with overlay(tree, f"{name}-over"):
        yield ROOT
    run("umount", tree)
    process.wait()


def pulled(reference, layout, *options):
    run("puzzlefs", "pull", "--quiet", "--plain-http", *options, f"{HOST}/{reference}", f"{layout}:tag")


@contextlib.contextmanager
def overlaid(layout, name):
    run("puzzlefs", "mount", "--overlay", f"{DISK}/{name}-over", f"{layout}:tag", ROOT)
    yield ROOT
    run("umount", ROOT)


@contextlib.contextmanager
def full(service, name):
    """By a full pull of ours."""
    pulled(f"ours:{service.tree}", f"{DISK}/{name}")
    with overlaid(f"{DISK}/{name}", name) as root:
        yield root


@contextlib.contextmanager
def daemon(layout, *options):
    """It runs on a node before images come."""
    os.makedirs(f"{layout}/blobs/sha256", exist_ok=True)
    with open(f"{layout}/oci-layout", "w") as f:
        f.write('{"imageLayoutVersion":"1.0.0"}')
    with open("/scratch/daemon.log", "a") as log:
        process = subprocess.Popen(["puzzlefs", "daemon", "--plain-http", *options, layout], stdout=log, stderr=log)
    while not subprocess.run(["pgrep", "-P", str(process.pid)], stdout=subprocess.DEVNULL).returncode == 0:
        if process.poll() is not None:
            raise SystemExit("the daemon: " + open("/scratch/daemon.log").read())
        time.sleep(0.05)
    time.sleep(0.5)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def lazily(form):
    @contextlib.contextmanager
    def way(service, name):
        pulled(f"{form}:{service.tree}", f"{DISK}/{name}", "--lazy")
        with overlaid(f"{DISK}/{name}", name) as root:
            yield root
    way.__doc__ = f"Lazily, the image of the repository {form}."
    return way


WAYS = {
    "layers, unpacked": unpacked,
    "casync mount": casync,
    "puzzlefs, pulled as a whole": full,
    "puzzlefs, lazy": lazily("ours"),
    "puzzlefs, lazy, with a profile": lazily("profile"),
}
LAZY = [name for name in WAYS if "lazy" in name]


def read_all(root):
    """Reads each file below `root`, on that filesystem."""
    run("sh", "-c", 'find "$1" -xdev -type f -print0 | sort -z | xargs -0 cat >/dev/null', "sh", root)


def started(way, service, name):
    """How long it takes until the service answers."""
    with daemon(f"{DISK}/{name}") if way in LAZY else contextlib.nullcontext():
        measured = Measured()
        with WAYS[way](service, name) as root:
            with ready(root):
                process = start(service, root)
                found = measured()
                stop(process)
    return found


def read(way, service, name):
    """How long it takes until all was read."""
    with daemon(f"{DISK}/{name}") if way in LAZY else contextlib.nullcontext():
        measured = Measured()
        with WAYS[way](service, name) as root:
            read_all(root)
            found = measured()
    return found


def second(way, first, service, name):
    """How long a start takes where an image on the same base was started before, and nothing but what that has read is there."""
    layout = f"{DISK}/{name}"
    with daemon(layout, "--no-fill"):
        with WAYS[way](first, name) as root, ready(root):
            stop(start(first, root))
        measured = Measured()
        pulled(f"{'profile' if 'profile' in way else 'ours'}:{service.tree}", layout, "--lazy")
        with overlaid(layout, f"{name}-second") as root, ready(root):
            process = start(service, root)
            found = measured()
            stop(process)
    return found


def complete(service, name):
    """Reading of a complete image, cold, in the same order: without a daemon, and beside one."""
    layout = f"{DISK}/{name}"
    pulled(f"ours:{service.tree}", layout)
    found = {}
    for form, around in (("alone", contextlib.nullcontext()), ("beside the daemon", daemon(layout, "--no-fill"))):
        with around:
            for turn in "warming up", "counted":
                run("puzzlefs", "mount", f"{layout}:tag", ROOT)
                run("sync")
                with open("/proc/sys/vm/drop_caches", "w") as f:
                    f.write("3")
                # The metadata; and the programs, which lie outside of the machine.
                run("find", ROOT, "-xdev", "-name", "no such name")
                warm("puzzlefs", "sh", "find", "sort", "xargs", "cat")
                measured = Measured()
                read_all(ROOT)
                found[form] = measured()["seconds"]
                run("umount", ROOT)
    return found


def first_bytes(service, name, count=1 << 20):
    """The first bytes of the largest file, of an image of which nothing was read."""
    with daemon(f"{DISK}/{name}", "--no-fill"):
        pulled(f"ours:{service.tree}", f"{DISK}/{name}", "--lazy")
        run("puzzlefs", "mount", f"{DISK}/{name}:tag", ROOT)
        sizes = {}
        for parent, _, names in os.walk(f"{ROOT}/usr/lib"):
            for file in names:
                status = os.lstat(os.path.join(parent, file))
                if os.path.stat.S_ISREG(status.st_mode):
                    sizes[os.path.join(parent, file)] = status.st_size
        measured = Measured()
        with open(max(sizes, key=sizes.get), "rb", buffering=0) as f:
            read = sum(len(f.read(128 << 10)) for _ in range(count >> 17))
        found = measured()
        run("umount", ROOT)
    if read != count:
        raise SystemExit(f"{read} bytes of {count}")
    return found


def said(what, found):
    """Prints what was found as soon as it was."""
    print(f"{what}: {found}", file=sys.stderr, flush=True)
    return found


def main():
    data, at, title = sys.argv[1:]
    service = SERVICES[title]
    memory(data, "docker-registry", "skopeo", "umoci", "puzzlefs", "casync", "nginx", "pgrep", "find", "sort", "xargs", "cat")
    link(*LINKS[at])
    servers = [registry(), web()]
    run("modprobe", "fuse")
    found = {"start": {}, "read": {}}
    for number, way in enumerate(WAYS):
        found["start"][way] = said(f"start, {way}", started(way, service, f"start-{number}"))
        if "puzzlefs" in way:
            found["read"][way] = said(f"read, {way}", read(way, service, f"read-{number}"))
    first = next(it for it in SERVICES.values() if it is not service)
    found["second"] = {way: said(f"second, {way}", second(way, first, service, f"second-{number}"))
                       for number, way in enumerate(LAZY)}
    found["complete"] = said("complete", complete(service, "complete"))
    found["first MiB"] = said("first MiB", first_bytes(service, "first"))
    for server in servers:
        server.kill()
    print(json.dumps(found))


main()
