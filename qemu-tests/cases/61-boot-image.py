#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: images services; memory 3G; cpus 2; scratch 3G
# shows: docs/boot-image.md: boot images, pulled and run by podman as Debian has it, from Debian's docker-registry. The root file
# system is fetched and extracted before the program runs; from a volume that containers share it is not fetched again. User,
# directory, variables, exit status, signals, standard input and terminal are the program's; what the runtime mounts stays.
# A start that was stopped goes on; what a registry or a shared cache makes up is not taken; a full disk is said.

import json
import os
import re
import shutil
import subprocess
import time

from badproxy import Proxy
from case import Image, check, equal
from registries import Registry
from systemguest import system

PROGRAM = f"{os.environ['PUZZLEFS_TOP']}/build/puzzlefs-boot"
SERVICES = Image("services")
TREE = "/scratch/tool-tree"
COMMANDS = "sh cat env head id ls mkdir printf ps pwd readlink sleep stat test touch tty wc".split()
CONFIG = {"architecture": "amd64", "os": "linux",
          "config": {"User": "app", "Env": ["PATH=/bin", "A=of the image"], "Cmd": ["id", "-un"], "WorkingDir": "/home/app",
                     "Volumes": {"/data": {}}},
          "rootfs": {"type": "layers", "diff_ids": []}}
NETWORK = "--network host --tls-verify=false"
# What is to be seen of a container from within.
LOOK = """id -un; id -G; pwd; echo "$A $HOME $PUZZLEFS_VERBOSE"; head -n 1 /etc/hosts; cat /data/of-image /mnt/mine; readlink /var/run
stat -c '%U %a' /home/app /bin; test -r /proc/self/stat; test -c /dev/null; cat /run/secrets/s; echo new >/home/app/own; exit 7"""


def tree():
    """A small one, with bytes enough for many chunks."""
    for name in "bin", "etc", "home/app", "data", "run", "var", "usr/share", "tmp", "mnt":
        os.makedirs(f"{TREE}/{name}")
    shutil.copy("/bin/busybox", f"{TREE}/bin/busybox")
    for name in COMMANDS:
        os.symlink("busybox", f"{TREE}/bin/{name}")
    os.symlink("../run", f"{TREE}/var/run")
    files = {"etc/passwd": "root:x:0:0::/root:/bin/sh\napp:x:1234:1234::/home/app:/bin/sh\n",
             "etc/group": "root:x:0:\napp:x:1234:\nmore:x:77:app\n", "etc/hosts": "of the image\n" * 9, "data/of-image": "data\n"}
    for name, text in files.items():
        with open(f"{TREE}/{name}", "w") as f:
            f.write(text)
    for number in range(24):
        with open(f"{TREE}/usr/share/{number}", "wb") as f:
            f.write(os.urandom(300_000))
    os.chmod(f"{TREE}/tmp", 0o1777)
    os.chmod(f"{TREE}/home/app", 0o750)
    os.chown(f"{TREE}/home/app", 1234, 1234)
    with open("/scratch/tool.json", "w") as f:
        json.dump(CONFIG, f)


class Blobs:
    """What is asked for through a proxy."""

    def __init__(self, proxy):
        self.proxy = proxy

    def asked(self):
        """Requests for bytes of blobs since it was asked last."""
        found = [path for method, path, _ in self.proxy.log if method == "GET" and "/blobs/" in path]
        self.proxy.reset(self.proxy.mode)
        return len(found)


def boots(it, proxy, image):
    """What is said of a first start, and what the program sees."""
    out = it.run(f"podman run --rm {NETWORK} -e PUZZLEFS_VERBOSE=1 {image}")
    print(out)
    found = re.search(r"(\d+) of (\d+) chunks fetched", out)
    check(found and found[1] == found[2] and int(found[2]) > 24, f"what was fetched: {out}")
    equal(out.splitlines()[-1], "app", "the image's own command")
    it.run("mkdir -p /srv/mine; echo mine >/srv/mine/mine; printf secret | podman secret create s -")
    out = it.run(f"podman run --rm {NETWORK} -v /srv/mine:/mnt:ro --secret s {image} sh -c '{LOOK}'", status=7)
    seen = out.splitlines()
    check(seen.pop(4) != "of the image", f"/etc/hosts is not the runtime's: {out}")
    equal(seen, ["app", "1234 77", "/home/app", "of the image /home/app ", "data", "mine", "../run", "app 750", "root 755", "secret"],
          "what the program sees")
    equal(it.run("ls -a /srv/mine").split(), [".", "..", "mine"], "what was written through a volume")
    equal(it.run(f"echo hello | podman run --rm -i {NETWORK} {image} cat").splitlines(), ["hello"], "standard input")
    out = it.run(f"script --quiet --return --command \"podman run --rm -t {NETWORK} {image} tty\" /dev/null")
    check("/dev/pts/0" in out, f"no terminal: {out}")
    out = it.run(f"podman run --rm {NETWORK} -e PUZZLEFS_USER=root -e HOME=/x {image} sh -c 'id -u; echo $HOME $PUZZLEFS_USER'")
    equal(out.split(), ["0", "/x"], "another user")
    said = it.run(f"podman run --rm {NETWORK} --user 5 {image} 2>&1", status=126)
    check("PUZZLEFS_USER" in said, f"a start without root: {said}")
    said = it.run(f"podman run --rm {NETWORK} {image} /bin/none 2>&1", status=127)
    check("none" in said, f"a program that is not there: {said}")


def wait_for(it, what, script, seconds=60):
    deadline = time.monotonic() + seconds
    while not it.run(f"{script} || :"):
        check(time.monotonic() < deadline, f"{what} has not come about in {seconds} s: {it.run('podman logs s 2>&1 || :')}")
        time.sleep(0.2)


def signals(it, blobs, image):
    """The first process is the program; a second start fetches nothing."""
    loop = 'trap "exit 9" TERM; cat /proc/1/comm; echo $$; echo begun >>/tmp/begun; while :; do sleep 0.1; done'
    it.run(f"podman run --detach --name s {NETWORK} {image} sh -c '{loop}'")
    wait_for(it, "the program", "podman logs s | grep 1")
    equal(it.run("podman logs s").split(), ["sh", "1"], "the first process")
    it.run("podman stop --time 20 s")
    equal(it.run("podman wait s").strip(), "9", "the status after a signal")
    blobs.asked()
    it.run("podman start s")
    wait_for(it, "the second start", "podman exec s sh -c 'test $(wc -l </tmp/begun) = 2 && echo yes'")
    equal(blobs.asked(), 0, "requests of a second start")
    equal(it.run("podman exec s ps -o pid,comm").split()[2:4], ["1", "sh"], "what ps says")
    it.run("podman rm --force --time 3 s")


def shared(it, blobs, image):
    """A volume for chunks."""
    run = f"podman run --rm {NETWORK} -v cache:/.puzzlefs/cache {image}"
    blobs.asked()
    equal(it.run(run).split(), ["app"], "a first container")
    first = blobs.asked()
    equal(it.run(run).split(), ["app"], "a second container")
    second = blobs.asked()
    check(first > 0 and second == 0, f"requests for blobs: {first}, then {second}")
    # Somebody else changes what is in there.
    it.run("""cd $(podman volume inspect cache --format '{{.Mountpoint}}')/blobs/sha256
        for file in *; do [ $(stat -c %s $file) -lt 100000 ] || printf changed | dd of=$file bs=1 seek=5000 conv=notrunc status=none; done""")
    equal(it.run(run).split(), ["app"], "a container whose cache was changed")
    third = blobs.asked()
    check(third > 0, "what was changed was not fetched again")
    it.run("podman volume rm cache")
    print(f"shared: {first} requests for blobs, then {second}; {third} after the cache was damaged")


def interrupted(it, proxy, blobs, image):
    """A start is stopped while it fetches, and goes on."""
    def slow(request):
        if request.is_blob() and request.count == 1:
            time.sleep(0.2)

    proxy.reset(slow)
    it.run(f"podman run --detach --name s {NETWORK} {image}")
    deadline = time.monotonic() + 60
    while not any("/blobs/" in path for _, path, _ in proxy.log[5:]):
        check(time.monotonic() < deadline, "nothing is fetched")
        time.sleep(0.1)
    it.run("podman stop --time 20 s")
    equal(it.run("podman wait s").strip(), "143", "the status of a start that was stopped")
    proxy.reset()
    equal(it.run("podman start --attach s").split(), ["app"], "what is started again")
    it.run("podman rm s")


def hostile(it, proxy, image):
    def other(request):
        if request.is_blob():
            request.answer(200, body=b"x" * 5000)
            return True

    # The layer of the boot image is there already: podman does not ask for it again.
    proxy.reset(other)
    said = it.run(f"podman run --rm {NETWORK} {image} 2>&1", status=125)
    check("puzzlefs: error" in said and "sha256" in said, f"what a registry made up: {said}")
    proxy.reset()
    said = it.run(f"podman run --rm {NETWORK} --tmpfs /.puzzlefs/cache:size=2m {image} 2>&1", status=125)
    check("/.puzzlefs/cache" in said and "No space left" in said, f"a full disk: {said}")


def service(it, image):
    it.run(f"podman run --detach --name web {NETWORK} {image}")
    wait_for(it, "an answer of nginx", "curl --silent http://127.0.0.1/ | grep 'Welcome to nginx'")
    it.run("podman rm --force --time 3 web")


def left(it):
    """What is there that should not be."""
    return it.run("pgrep -l '^(nginx|conmon|crun|puzzlefs)' || :") + it.run("podman ps --all --quiet")


def push(it, name, layout, host):
    """Makes a boot image."""
    image = f"{host}/a/{name}:1"
    out = it.run(f"puzzlefs boot-image --plain-http --program {PROGRAM} {layout}:{name} docker://{image}")
    print(out)
    check(re.search(r"^boot +sha256:[0-9a-f]{64}, [0-9]+ bytes", out, re.M), out)
    IMAGES[name] = image


IMAGES = {}
tree()
subprocess.run(["puzzlefs", "build", "--quiet", "--config", "/scratch/tool.json", TREE, "/scratch/tools:tool"], check=True)
with system() as it, Registry("/scratch") as registry:
    proxy = Proxy(registry.host)
    blobs = Blobs(proxy)
    push(it, "tool", "/scratch/tools", proxy.host)
    push(it, "web", SERVICES.layout, proxy.host)
    start = time.monotonic()
    for part, arguments in ((boots, (proxy, IMAGES["tool"])), (signals, (blobs, IMAGES["tool"])), (shared, (blobs, IMAGES["tool"])),
                            (interrupted, (proxy, blobs, IMAGES["tool"])), (hostile, (proxy, IMAGES["tool"])),
                            (service, (IMAGES["web"],))):
        part(it, *arguments)
        print(f"{part.__name__}: {time.monotonic() - start:.0f} s", flush=True)
    equal(left(it), "", "what is left")
for name in "tool-tree", "tools":
    shutil.rmtree(f"/scratch/{name}")
