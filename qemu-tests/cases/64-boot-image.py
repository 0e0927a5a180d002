#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: images services; memory 3G
# shows: docs/boot-image.md: boot images, pulled from Debian's docker-registry and run by podman as Debian has it, by root and by
# a user, and by crun. The root file system is fetched and extracted before the program runs, or comes by FUSE while it is read; from a
# volume that containers share nothing is fetched again. User, directory, variables, exit status, signals, standard input and
# terminal are the program's; what the runtime mounts is there. A start that was stopped goes on; what a registry or a
# shared cache makes up is not taken; a full disk is said. nginx answers, of which little was fetched.

import base64
import json
import os
import re
import shutil
import subprocess
import time

from badproxy import Proxy
from case import Image, check, equal
from registries import PASSWORD, Authority, Registry, bcrypt
from systemguest import system

TOP = os.environ["PUZZLEFS_TOP"]
PROGRAM = f"{TOP}/build/puzzlefs-boot"
SERVICES = Image("services")
HOST = "registry.example"
TREE = "/scratch/tool-tree"
COMMANDS = "sh cat env head id kill ls mkdir ps pwd readlink sleep stat test touch tty wc".split()
CONFIG = {"architecture": "amd64", "os": "linux",
          "config": {"User": "app", "Env": ["PATH=/bin", "A=of the image"], "Cmd": ["id", "-un"], "WorkingDir": "/home/app",
                     "Volumes": {"/data": {}}},
          "rootfs": {"type": "layers", "diff_ids": []}}
FILES = 24
RUN = "podman run --rm --network host --tls-verify=false"
FUSE = "--device /dev/fuse --security-opt apparmor=unconfined"
CACHE = "-v cache:/.puzzlefs/cache"
# What is to be seen of a container from within.
LOOK = """id -un; id -G; pwd; echo "$A $HOME $PUZZLEFS_VERBOSE"; head -n 1 /etc/hosts; cat /data/of-image /mnt/it/mine /var/run/secrets/s
readlink /var/run; stat -c "%U %a" /home/app /bin; test -r /proc/self/stat && test -c /dev/null; echo new >/home/app/own; cat; exit 7"""
SEEN = ["app", "1234 77", "/home/app", "of the image /home/app ", "data", "mine", "secret", "../run", "app 750", "root 755", "hello"]


def blocks():
    """The lines of commands of the document, but for those of a section that case 65 has."""
    with open(f"{TOP}/docs/boot-image.md") as f:
        text = re.sub("^## From the node$.*?(?=^## )", "", f.read(), flags=re.M | re.S)
    return re.findall("^    (.*)$", text, re.M)


def tree():
    """A small one, with bytes enough for many chunks."""
    for name in "bin", "etc", "home/app", "data", "run", "var", "usr/share", "tmp":
        os.makedirs(f"{TREE}/{name}")
    shutil.copy("/bin/busybox", f"{TREE}/bin/busybox")
    for name in COMMANDS:
        os.symlink("busybox", f"{TREE}/bin/{name}")
    os.symlink("../run", f"{TREE}/var/run")
    files = {"etc/passwd": "root:x:0:0::/root:/bin/sh\napp:x:1234:1234::/home/app:/bin/sh\n",
             "etc/group": "root:x:0:\napp:x:1234:\nmore:x:77:app\n", "etc/hosts": "of the image\n", "data/of-image": "data\n"}
    for name, text in files.items():
        with open(f"{TREE}/{name}", "w") as f:
            f.write(text)
    for number in range(FILES):
        with open(f"{TREE}/usr/share/{number}", "wb") as f:
            f.write(os.urandom(300_000))
    os.chmod(f"{TREE}/tmp", 0o1777)
    os.chmod(f"{TREE}/home/app", 0o750)
    os.chown(f"{TREE}/home/app", 1234, 1234)
    with open("/scratch/tool.json", "w") as f:
        json.dump(CONFIG, f)
    subprocess.run(["puzzlefs", "build", "--quiet", "--config", "/scratch/tool.json", TREE, "/scratch/tools:tool"], check=True)


class Place:
    """The system, and a registry behind a proxy."""

    def __init__(self, it, proxy):
        self.it, self.run, self.proxy = it, it.run, proxy
        self.tool, self.registry = f"{proxy.host}/a/tool:1", proxy.target

    def asked(self):
        """Requests for blobs since it was asked last."""
        found = [path for method, path, _ in self.proxy.log if method == "GET" and "/blobs/" in path]
        self.proxy.reset(self.proxy.mode)
        return len(found)

    def wait_for(self, what, script, seconds=100):
        deadline = time.monotonic() + seconds
        while not self.run(f"{script} || :"):
            check(time.monotonic() < deadline, f"{what} has not come about in {seconds} s: {self.run('podman logs s 2>&1 || :')}")
            time.sleep(0.2)

    def cached(self):
        """How many chunks of how many the volume has, of images of which not all is there."""
        where = self.run("podman volume inspect cache --format '{{.Mountpoint}}'").strip()
        found = re.findall(r"(\d+) of (\d+) chunks", self.run(f"puzzlefs status {where}"))
        return [sum(int(pair[at]) for pair in found) for at in (0, 1)]

    def look(self, options):
        """What the program sees."""
        out = self.run(f"echo hello | {RUN} -i -v /srv/mine:/mnt/it:ro --secret s,target=/var/run/secrets/s {options} {self.tool} sh -c '{LOOK}'",
                       status=7)
        seen = out.splitlines()
        check(seen.pop(4) != "of the image", f"/etc/hosts is not the runtime's: {out}")
        equal(seen, SEEN, "what the program sees")
        equal(self.run("ls -a /srv/mine").split(), [".", "..", "mine"], "what was written through a volume")


def documented(place):
    """The commands of the document, as they stand there, with a registry of TLS."""
    for line in blocks():
        command = line
        if "boot-image" in line:
            command = line.replace("boot-image", f"boot-image --program {PROGRAM}")
        elif "/dev/fuse" in line:
            command = line.replace("podman run", "podman run --security-opt apparmor=unconfined")
        out = place.run(command)
        print(f"{line}\n{out}", flush=True)
        if "id -un" in line:
            equal(out.splitlines()[-1], "app", line)
    place.run("podman volume rm chunks")


def extracted(place):
    out = place.run(f"{RUN} -e PUZZLEFS_VERBOSE=1 {place.tool}")
    found = re.search(r"(\d+) of (\d+) chunks fetched", out)
    check(found and found[1] == found[2] and int(found[2]) > FILES, f"what was fetched: {out}")
    equal(out.splitlines()[-1], "app", "the image's own command")
    place.run("mkdir -p /srv/mine; echo mine >/srv/mine/mine; echo secret | podman secret create s -")
    place.look("")
    said = place.run(f"{RUN} --user 5 {place.tool} 2>&1", status=126)
    check("PUZZLEFS_USER" in said, f"a start without root: {said}")
    said = place.run(f"{RUN} -e PUZZLEFS_USER=root --entrypoint /.puzzlefs/boot {place.tool} none 2>&1", status=127)
    check("none" in said, f"a program that is not there: {said}")


def signals(place):
    """The first process is the program; a second start fetches nothing."""
    loop = 'trap "exit 9" TERM; cat /proc/1/comm; echo $$; echo begun >>/tmp/begun; while :; do sleep 0.1; done'
    place.run(f"{RUN.replace('--rm', '--detach')} --name s {place.tool} sh -c '{loop}'")
    place.wait_for("the program", "podman logs s | grep 1")
    equal(place.run("podman logs s").split(), ["sh", "1"], "the first process")
    place.run("podman stop --time 20 s")
    equal(place.run("podman wait s").strip(), "9", "the status after a signal")
    place.asked()
    place.run("podman start s")
    place.wait_for("the second start", "podman exec s sh -c 'test $(wc -l </tmp/begun) = 2 && echo yes'")
    equal(place.asked(), 0, "requests of a second start")
    place.run("podman rm --force --time 1 s")


def shared(place):
    """A volume for chunks."""
    place.asked()
    counts = []
    for _ in range(2):
        equal(place.run(f"{RUN} {CACHE} {place.tool}").split(), ["app"], "a container with a cache")
        counts.append(place.asked())
    # Somebody else changes what is in there.
    place.run("""cd $(podman volume inspect cache --format '{{.Mountpoint}}')/blobs/sha256
        for file in *; do [ $(stat -c %s $file) -lt 100000 ] || printf changed | dd of=$file bs=1 seek=5000 conv=notrunc status=none; done""")
    equal(place.run(f"{RUN} {CACHE} {place.tool}").split(), ["app"], "a container whose cache was changed")
    counts.append(place.asked())
    check(counts[0] > 0 and counts[1] == 0 and counts[2] > 0, f"requests for blobs: {counts}")
    place.run("podman volume rm cache")
    print(f"shared: {counts[0]} requests for blobs, then {counts[1]}; {counts[2]} after the cache was damaged")


def interrupted(place):
    """A start is stopped while it fetches, and goes on."""
    def slow(request):
        if request.is_blob():
            time.sleep(0.5)

    place.proxy.reset(slow)
    place.run(f"{RUN.replace('--rm', '--detach')} --name s {place.tool}")
    deadline = time.monotonic() + 60
    while not any("/blobs/" in path for _, path, _ in place.proxy.log):
        check(time.monotonic() < deadline, "nothing is fetched")
        time.sleep(0.05)
    place.run("podman stop --time 20 s")
    equal(place.run("podman wait s").strip(), "143", "the status of a start that was stopped")
    place.proxy.reset()
    equal(place.run("podman start --attach s").split(), ["app"], "what is started again")
    place.run("podman rm s")


def hostile(place):
    def other(request):
        return request.is_blob() and request.answer(200, body=b"x" * 5000)

    # The layer of the boot image is there: podman does not ask for it again.
    place.proxy.reset(other)
    said = place.run(f"{RUN} {place.tool} 2>&1", status=125)
    check("puzzlefs: error" in said and "sha256" in said, f"what a registry made up: {said}")
    place.proxy.reset()
    said = place.run(f"{RUN} --tmpfs /.puzzlefs/cache:size=2m {place.tool} 2>&1", status=125)
    check("/.puzzlefs/cache" in said and "No space left" in said, f"a full disk: {said}")


def by_fuse(place):
    """What is read is fetched; whoever serves it is not to be seen."""
    place.asked()
    run = f"{RUN} {FUSE} {CACHE} -e PUZZLEFS_WAY=fuse"
    # What was read is recorded soon.
    equal(place.run(f"{run} {place.tool} sh -c 'id -un; sleep 2'").split(), ["app"], "a first container")
    boot, every = place.cached()
    all_of_it = "cat /usr/share/* | wc -c"
    equal(place.run(f"{run} {place.tool} sh -c '{all_of_it}; sleep 2'").split(), [str(FILES * 300_000)], "what all files have")
    more = place.cached()
    check(0 < boot < every / 2 and more in ([every, every], [0, 0]), f"{boot} chunks of {every}, {more} after all was read")
    first = place.asked()
    equal(place.run(f"{run} {place.tool} sh -c '{all_of_it}'").split(), [str(FILES * 300_000)], "a second container")
    second = place.asked()
    check(first > 0 and second == 0, f"requests for blobs: {first}, then {second}")
    print(f"by FUSE: {boot} of {every} chunks at boot, all after all was read; {first} requests, then {second}", flush=True)
    place.look(f"{FUSE} {CACHE} -e PUZZLEFS_WAY=fuse")
    script = """cat /proc/1/comm; echo $$; kill -9 -1; for it in /proc/[0-9]*; do
            [ -e $it/stat ] || ! kill -9 ${it#/proc/} || echo killed; done 2>/dev/null
        wc -c </usr/share/1; touch /usr/share/new; test -e /.puzzlefs || echo gone; wait; ps -o comm; exit 5"""
    out = place.run(f"{run} -e PUZZLEFS_USER=root {place.tool} sh -c '{script}'", status=5).split()
    equal(out[:4], ["sh", "1", "300000", "gone"], "what root sees and may do")
    check(set(out[4:]) == {"COMMAND", "sh", "ps"}, f"processes: {out}")
    out = place.run(f"script --quiet --return --command \"{run} -t {place.tool} tty\" /dev/null")
    check("/dev/pts/0" in out, f"no terminal: {out}")
    run = f"{RUN} {FUSE} {CACHE} -v changes:/.puzzlefs/changes {place.tool} sh -c"
    equal(place.run(f"{run} 'echo mine >own; cat own'; {run} 'cat own'").split(), ["mine", "mine"], "what was changed, in a volume")
    place.run("podman volume rm cache changes")


def service(place):
    """nginx answers; of PostgreSQL beside it nothing is fetched."""
    image = f"{place.registry}/team/web:1"
    out = place.run(f"puzzlefs boot-image --plain-http --program {PROGRAM} {SERVICES.layout}:web docker://{image}")
    print(out, flush=True)
    # As in a network of their own, runtimes allow all ports to everybody.
    place.run(f"sysctl --quiet net.ipv4.ip_unprivileged_port_start=0; {RUN.replace('--rm', '--detach')} {FUSE} {CACHE} --name s {image}")
    place.wait_for("an answer of nginx", "curl --silent http://127.0.0.1/ | grep 'Welcome to nginx'")
    boot, every = place.cached()
    place.run("podman exec s ls -lR /etc; podman exec s nginx -t; podman exec s cat /usr/bin/perl >/dev/null")
    more, _ = place.cached()
    check(0 < boot < every / 20 and boot < more < every / 10, f"nginx: {boot} chunks, {more} after more was read, of {every}")
    place.run("podman rm --force --time 3 s; podman volume rm cache")
    print(f"nginx: {boot} of {every} chunks when it answers, {more} after more was read", flush=True)


def rootless(place):
    """By a user's podman, in either way."""
    place.run("""echo box:x:1500:1500::/var/box:/bin/bash >>/etc/passwd; echo box:x:1500: >>/etc/group
        for file in /etc/subuid /etc/subgid; do echo box:200000:65536 >$file; done; chmod 666 /dev/fuse
        install -d -o box -g box -m 700 /var/box /run/user/1500""")
    run = f"setpriv --reuid=1500 --regid=1500 --clear-groups env -C / HOME=/var/box XDG_RUNTIME_DIR=/run/user/1500 {RUN}"
    look = "sh -c 'id -un; id -G; cat /usr/share/* | wc -c; exit 7'"
    for way in "", "--device /dev/fuse -e PUZZLEFS_WAY=fuse":
        out = place.run(f"{run} {way} {place.tool} {look} 2>/dev/null", status=7)  # it misses a bus
        equal(out.splitlines()[-3:], ["app", "1234 77", str(FILES * 300_000)], f"a user's container, {way or 'extracted'}")


def by_crun(place):
    """Without podman: a bundle of what umoci unpacks."""
    place.run(f"""skopeo copy --quiet --src-tls-verify=false docker://{place.tool} oci:/var/o:t; umoci unpack --image /var/o:t /var/b
        cd /var/b; jq '.process.terminal = false | del(.linux.namespaces[] | select(.type == "network"))
        | .process.capabilities[] = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_SETUID", "CAP_SETGID", "CAP_SETFCAP"]
        ' config.json >new; mv new config.json""")
    equal(place.run("crun run --bundle /var/b t").split()[-1:], ["app"], "by crun")


def private(place):
    """A registry that wants a password: podman's for the layer, and a secret for the program."""
    with open("/scratch/htpasswd", "w") as f:
        f.write(f"user:{bcrypt(PASSWORD)}\n")
    known = base64.b64encode(f"user:{PASSWORD}".encode()).decode()
    more = {"auth": {"htpasswd": {"realm": "test", "path": "/scratch/htpasswd"}}}
    with Registry("/scratch", more) as registry:
        with open("/scratch/auth.json", "w") as f:
            json.dump({"auths": {registry.host: {"auth": known}}}, f)
        image = f"{registry.host}/a/tool:1"
        place.run(f"puzzlefs boot-image --plain-http --authfile /scratch/auth.json --program {PROGRAM} /scratch/tools:tool docker://{image}")
        run = f"{RUN} --authfile /scratch/auth.json"
        said = place.run(f"{run} {image} 2>&1", status=126)
        check("puzzlefs: error" in said, f"without a password: {said}")
        place.run("podman secret create auth /scratch/auth.json")
        equal(place.run(f"{run} --secret auth,target=/.puzzlefs/auth.json {image}").split(), ["app"], "with a password")


def left(place):
    """What is there that should not be."""
    return place.run("pgrep -l '^(nginx|conmon|crun|boot)' || :") + place.run("podman ps --all --quiet")


tree()
PARTS = documented, extracted, rootless, by_fuse, by_crun, private, signals, shared, interrupted, hostile, service
authority = Authority("/scratch/authority")
certificate, key = authority.sign("registry", names=f"DNS:{HOST}")
tls = {"http": {"tls": {"certificate": certificate, "key": key}}}
with system() as it, Registry("/scratch") as registry, Registry("/scratch", tls, data=registry.data, at=443):
    place = Place(it, Proxy(registry.host))
    it.run(f"""echo 127.0.0.1 {HOST} >>/etc/hosts; mkdir -p /etc/containers/certs.d/{HOST}
        cp {authority.certificate} /etc/containers/certs.d/{HOST}; ln -s /scratch/tools /var/lib/images""")
    out = it.run(f"puzzlefs boot-image --plain-http --program {PROGRAM} /scratch/tools:tool docker://{place.tool}")
    size = re.search(r"^boot +sha256:[0-9a-f]{64}, ([0-9]+) bytes", out, re.M)
    check(size and int(size[1]) < 2_500_000, out)
    check(os.path.getsize(PROGRAM) <= 4 << 20, f"the program has {os.path.getsize(PROGRAM)} bytes")
    start = time.monotonic()
    for part in PARTS:
        part(place)
        print(f"{part.__name__}: {time.monotonic() - start:.0f} s", flush=True)
    for _ in range(100):
        if not left(place):
            break
        time.sleep(0.2)
    equal(left(place), "", "what is left")
for name in "tool-tree", "tools", "authority":
    shutil.rmtree(f"/scratch/{name}")
