#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: images services; memory 3G
# shows: docs/boot-image.md, "From the node": boot images whose root file system is a mount by the kernel, which
# puzzlefs-node.service, as `make install` has it, gives to containers of podman, of root and of a user, with no right of their own.
# Containers share it; a service that is killed, or a layout that loses the image, is nothing to one that runs; lazily only what
# is read comes, once for all. Who asks at the socket gets no image that is not allowed, opens no device whatever flags it
# takes from the mount, and is refused with a word if what it passes is no user namespace of its own. Nothing is left.

import json
import os
import re
import shutil
import subprocess
import time

from badproxy import Proxy
from case import check, equal
from recipes import Recipes, write
from registries import Authority, Registry
from systemguest import system

TOP = os.environ["PUZZLEFS_TOP"]
PROGRAM = f"{TOP}/build/puzzlefs-boot"
HOST = "registry.example"
TREE = "/scratch/tool-tree"
COMMANDS = "sh cat head id kill ls sleep stat test touch wc".split()
CONFIG = {"architecture": "amd64", "os": "linux",
          "config": {"User": "app", "Env": ["PATH=/bin"], "Cmd": ["id", "-un"], "WorkingDir": "/home/app"},
          "rootfs": {"type": "layers", "diff_ids": []}}
FILES = 24
RUN = "podman run --rm --network host --tls-verify=false --security-opt apparmor=unconfined -e PUZZLEFS_WAY=node"
NODE = "-v /run/puzzlefs-node:/.puzzlefs/node"
ALL = "cat /usr/share/* | wc -c"
BYTES = str(FILES * 300_000)
DEFAULTS = "/etc/default/puzzlefs-node"
SECTION = "From the node"


def units():
    found = {}
    for name in "node", "daemon":
        with open(f"{TOP}/systemd/puzzlefs-{name}.service") as f:
            found[f"puzzlefs-{name}.service"] = f.read().replace("@PREFIX@/bin/puzzlefs", shutil.which("puzzlefs"))
    return found


def tree():
    """A small one, with bytes enough for many chunks, a device and a program of root's."""
    for name in "bin", "etc", "home/app", "usr/share", "tmp", "dev":
        os.makedirs(f"{TREE}/{name}")
    shutil.copy("/bin/busybox", f"{TREE}/bin/busybox")
    for name in COMMANDS:
        os.symlink("busybox", f"{TREE}/bin/{name}")
    files = {"etc/passwd": "root:x:0:0::/root:/bin/sh\napp:x:1234:1234::/home/app:/bin/sh\n", "etc/group": "root:x:0:\napp:x:1234:\n"}
    for name, text in files.items():
        with open(f"{TREE}/{name}", "w") as f:
            f.write(text)
    for number in range(FILES):
        with open(f"{TREE}/usr/share/{number}", "wb") as f:
            f.write(os.urandom(300_000))
    os.chmod(f"{TREE}/tmp", 0o1777)
    os.chown(f"{TREE}/home/app", 1234, 1234)
    os.mknod(f"{TREE}/dev/zero", 0o20666, os.makedev(1, 5))
    with open("/scratch/tool.json", "w") as f:
        json.dump(CONFIG, f)
    subprocess.run(["puzzlefs", "build", "--quiet", "--config", "/scratch/tool.json", TREE, "/scratch/tools:tool"], check=True)


def mounted():
    """What the kernel has of images: its superblocks."""
    return os.listdir("/sys/fs/puzzlefs") if os.path.exists("/sys/fs/puzzlefs") else []


class Place:
    """The system, and a registry behind a proxy."""

    def __init__(self, it, proxy):
        self.it, self.run, self.proxy = it, it.run, proxy
        self.tool = f"{proxy.host}/a/tool:1"
        out = it.run(f"puzzlefs boot-image --plain-http --program {PROGRAM} /scratch/tools:tool docker://{self.tool}")
        # Only what the node asks for is to be counted.
        it.run(f"podman pull --quiet --tls-verify=false {self.tool}")
        self.manifest = re.search(r"^puzzlefs +sha256:([0-9a-f]{64})$", out, re.M)[1]

    def asked(self):
        """Requests for blobs since it was asked last."""
        found = [path for method, path, _ in self.proxy.log if method == "GET" and "/blobs/" in path]
        self.proxy.reset(self.proxy.mode)
        return len(found)

    def options(self, options):
        """The service, with other options."""
        self.run(f"echo 'OPTIONS={options}' >{DEFAULTS}; systemctl restart puzzlefs-node")

    def container(self, script, options="", status=0, run=RUN):
        return self.run(f"{run} {NODE} {options} {self.tool} sh -c '{script}' 2>&1", status=status).split()

    def begin(self, name):
        """A container that goes on."""
        self.run(f"{RUN.replace('--rm', '--detach')} {NODE} --name {name} {self.tool} sleep 1000")
        self.wait_for(lambda: "sleep" in self.run(f"podman exec {name} cat /proc/1/comm || :"), f"the container {name}")

    def ask(self, what, image=None):
        image = image or f"docker://{self.proxy.host}/a/tool@sha256:{self.manifest}"
        return self.run(f"python3 {TOP}/qemu-tests/lib/nodeclient.py {image} {what} 2>&1")

    def wait_for(self, condition, what, seconds=60):
        deadline = time.monotonic() + seconds
        while not condition():
            check(time.monotonic() < deadline, f"{what} has not come about: {self.run('journalctl -n 30 2>&1; podman ps -a || :')}")
            time.sleep(0.2)

    def nothing_left(self, what):
        self.wait_for(lambda: not mounted(), f"{what}: that no image is mounted, but {mounted()}")


def documented(place):
    """The commands of the document, as they stand there, with a registry of TLS."""
    place.run(f"puzzlefs boot-image --program {PROGRAM} /scratch/tools:tool docker://{HOST}/team/tool:1")
    recipes = Recipes("docs/boot-image.md", lambda it: it == SECTION)
    files, scripts = recipes.of(SECTION)
    recipes.end()
    write(place.it, files)
    for line in "\n".join(scripts).splitlines():
        out = place.run(line.replace("podman run", "podman run --security-opt apparmor=unconfined -e PUZZLEFS_WAY=node"))
        print(f"{line}\n{out}", flush=True)
        if "id -un" in line:
            equal(out.splitlines()[-1], "app", line)
    place.nothing_left("after the container")


def shared(place):
    """Two containers, one superblock, no FUSE, no process beside them."""
    place.asked()
    place.begin("one")
    first = mounted()
    place.begin("two")
    equal((len(first), mounted()), (1, first), "superblocks of two containers")
    out = place.run("podman exec one cat /proc/1/mountinfo /proc/1/status")
    root = next(line for line in out.splitlines() if len(line.split()) > 5 and line.split()[4] == "/")
    check(" - overlay puzzlefs " in root and "fuse" not in out, f"what is mounted: {out}")
    numbers = [it for it in place.run("podman exec one ls /proc").split() if it.isdigit()]
    check("1" in numbers and len(numbers) == 2, f"processes, with that of ls: {numbers}")
    bounds = re.search(r"^CapBnd:\s+([0-9a-f]+)", out, re.M)[1]
    check(int(bounds, 16) & 1 << 21 == 0, f"CAP_SYS_ADMIN in the container: {bounds}")
    for name in "one", "two":
        equal(place.run(f"podman exec {name} sh -c \"{ALL}\"").split(), [BYTES], f"what the files of {name} have")
    equal(place.asked(), 0, "requests for what the layout has")
    place.run("podman exec --user 0 one sh -c 'echo mine >/usr/share/new; echo other >/usr/share/1'")
    equal(place.run("podman exec two sh -c 'test -e /usr/share/new || stat -c %s /usr/share/1'").split(), ["300000"], "the other one's files")

    # Neither the service nor the layout is needed any more.
    place.run("systemctl kill --signal KILL puzzlefs-node; podman exec one id; systemctl stop puzzlefs-node")
    place.run("cp -a /scratch/tools /scratch/kept; puzzlefs rm /scratch/tools:tool; puzzlefs gc /scratch/tools; ls /scratch/tools/blobs/sha256")
    with open("/proc/sys/vm/drop_caches", "w") as f:
        f.write("3")
    equal(place.run(f"podman exec two sh -c \"{ALL}\"").split(), [BYTES], "what is read of an image that was removed")
    place.run("podman rm --force --time 1 one two; rm -r /scratch/tools; mv /scratch/kept /scratch/tools; systemctl start puzzlefs-node")
    place.nothing_left("after both")


def lazy(place):
    """Pulled for who asks, where that is allowed; what one has read is there for the others."""
    place.run("""mkdir -p /var/lib/lazy; puzzlefs build --quiet /etc/default /var/lib/lazy:other
        echo 'LAYOUTS=/var/lib/lazy' >/etc/default/puzzlefs-daemon; echo 'OPTIONS=--no-fill --plain-http' >>/etc/default/puzzlefs-daemon
        systemctl start puzzlefs-daemon""")
    place.options(f"--layout /var/lib/lazy --plain-http --allow docker://{place.proxy.host}/a/")
    place.asked()
    counts = []
    for script, is_ in ("id -un", "app"), (ALL, BYTES), (ALL, BYTES):
        equal(place.container(script), [is_], script)
        counts.append(place.asked())
    print(f"lazily: {counts} requests for blobs", flush=True)
    check(counts[0] > 0 and counts[1] > 0 and counts[2] == 0, f"requests: {counts}")
    check(f"node/{place.manifest}" in place.run("puzzlefs tags /var/lib/lazy"), "no tag keeps what was pulled")
    place.nothing_left("after the lazy ones")
    place.run("systemctl stop puzzlefs-node puzzlefs-daemon; rm -r /var/lib/lazy")


def refused(place):
    place.options(f"--layout /scratch/tools --plain-http --allow docker://{place.proxy.host}/team/")
    unknown = "0" * 64
    for what, image, word in (
            ("mine", f"docker://{place.proxy.host}/a/tool@sha256:{unknown}", "nothing may be pulled from"),
            ("mine", f"docker://{place.proxy.host}/team/tool@sha256:{unknown}", "cannot be had"),
            ("mine", f"docker://169.254.169.254/team/tool@sha256:{unknown}", "nothing may be pulled from"),
            ("mine", f"docker://{place.tool}", "by its digest only"),
            ("mine", "oci:/scratch/tools:tool", "expected"),
            ("garbage", None, "no"), ("silence", None, "x"), ("nothing", None, "no user namespace came"),
            ("/dev/null", None, "no user namespace"), ("/proc/self/ns/net", None, "no user namespace"),
            ("/proc/self/ns/user", None, "the node's"), ("unmapped", None, "must be known"), ("gone", None, "gone")):
        place.proxy.reset()
        said = place.ask(what, image)
        print(f"{what} {image}: {said}", flush=True)
        check(word in said and "MOUNTED" not in said, f"{what}, {image}: {said}")
        check("team/tool@" in str(image) or not place.proxy.log, f"{what}, {image}: the registry was asked: {place.proxy.log}")


def hostile(place):
    """Somebody who has a mount, and root's rights over it."""
    place.options("--layout /scratch/tools")
    check("MOUNTED" in place.ask("mine"), "a sound request")
    said = place.ask("hostile").splitlines()
    equal(said[0], "flags rw,relatime,idmapped puzzlefs", "what is left of the flags")
    equal(said[1:], ["Permission denied", "Read-only file system", "Read-only file system", "Invalid argument"], "what a client can do")
    place.nothing_left("after all of them")


def otherwise(place):
    """The program has another way, or says why not."""
    place.options("--layout /var/lib/none")
    said = " ".join(place.container("id -un", status=126))
    check("the node says" in said and "nothing may be pulled" in said, said)
    equal(place.container("id -un", "-e PUZZLEFS_WAY="), ["app"], "a container whose node does not have the image")
    place.run("systemctl stop puzzlefs-node; rm -rf /var/lib/none")
    said = " ".join(place.container("id -un", status=126))
    check("/.puzzlefs/node/socket" in said, said)


def rootless(place):
    """By a user's podman, whose numbers are others."""
    place.run("""echo box:x:1500:1500::/var/box:/bin/bash >>/etc/passwd; echo box:x:1500: >>/etc/group
        for file in /etc/subuid /etc/subgid; do echo box:200000:65536 >$file; done
        install -d -o box -g box -m 700 /var/box /run/user/1500""")
    run = f"setpriv --reuid=1500 --regid=1500 --clear-groups env -C / HOME=/var/box XDG_RUNTIME_DIR=/run/user/1500 {RUN}"
    place.run(run.replace(RUN, f"podman pull --quiet --tls-verify=false {place.tool} 2>&1"))
    place.options("--layout /scratch/tools")
    said = " ".join(place.container("id -un", status=126, run=run))
    check("Permission denied" in said, f"a user who may not ask: {said}")
    place.options("--layout /scratch/tools --mode 666")
    out = place.container(f"id -un; stat -c %U /home/app /bin/busybox; {ALL}; echo x >own; cat own", run=run)
    equal(out[-5:], ["app", "app", "root", BYTES, "x"], "a user's container")
    place.nothing_left("after a user's container")


tree()
PARTS = documented, shared, refused, hostile, otherwise, rootless, lazy
authority = Authority("/scratch/authority")
certificate, key = authority.sign("registry", names=f"DNS:{HOST}")
tls = {"http": {"tls": {"certificate": certificate, "key": key}}}
with system(units()) as it, Registry("/scratch") as registry, Registry("/scratch", tls, data=registry.data, at=443):
    it.run(f"""echo 127.0.0.1 {HOST} >>/etc/hosts; mkdir -p /etc/containers/certs.d/{HOST} /etc/default
        cp {authority.certificate} /etc/containers/certs.d/{HOST}; ln -s /scratch/tools /var/lib/images""")
    place = Place(it, Proxy(registry.host))
    start = time.monotonic()
    for part in PARTS:
        part(place)
        print(f"{part.__name__}: {time.monotonic() - start:.0f} s", flush=True)
    it.run("systemctl stop puzzlefs-node puzzlefs-daemon")
    equal(it.run("pgrep -l '^(puzzlefs|conmon|crun|boot)' || :") + it.run("podman ps --all --quiet"), "", "what is left")
for name in "tool-tree", "tools", "authority":
    shutil.rmtree(f"/scratch/{name}")
