#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: images services; memory 3G
# shows: docs/running.md, images that podman pulls, each command as it stands there: Debian's podman pulls an image whose layer the registry has not, as
# `puzzlefs layer-store` has prepared it, and runs it from a mount by the kernel: nginx answers a request. Another name; copies of the
# layer, which fail; a reboot, after which podman fails until images are mounted; what was not prepared fails. Afterwards nothing is left.

import json
import os
import shutil

from case import Image, check, equal
from recipes import Recipes, answers, gone, lasting, write
from registries import Authority, Registry
from systemguest import system

IMAGE = Image("services")
SECTION = "Images that podman pulls"
RECIPES = Recipes("docs/running.md", lambda section: section == SECTION)
STORE, MOUNTS, LAYOUT = "/var/lib/puzzlefs/layers", "/run/puzzlefs-layers", "/var/lib/puzzlefs/images"
USER = "setpriv --reuid=1500 --regid=1500 --clear-groups env -C / HOME=/var/box XDG_RUNTIME_DIR=/run/user/1500"
RUN = "podman run --rm --network host --entrypoint ''"
with open(f"{os.environ['PUZZLEFS_TOP']}/systemd/puzzlefs-layer-store.service") as f:
    UNIT = f.read().replace("@PREFIX@/bin/puzzlefs", shutil.which("puzzlefs"))


def mounts(it):
    return int(it.run("grep -c ' - puzzlefs ' /proc/self/mountinfo || :"))


def layers(it):
    return json.loads(it.run("puzzlefs layer-store --list --format json"))


def documented(it, registry):
    """The document's way. What podman pulls has no layer."""
    files, (enable, push, run, end) = RECIPES.of(SECTION)
    at = lambda script: script.replace("registry.example", registry.host)
    it.run(enable.replace("enable --now", "start"))
    write(it, files)
    print(it.run(at(push)))
    prepare, start = at(run).splitlines()
    with lasting("puzzlefs layer-store"):
        print(it.run(prepare))
    layer, = layers(it)
    equal((layer["names"], layer["mounted"], mounts(it)), ([f"docker://{registry.host}/team/web:1"], True, 1), "the layer")
    blob = f"{registry.data}/docker/registry/v2/blobs/sha256/{layer['layer'][7:9]}/{layer['layer'][7:]}/data"
    os.rename(blob, f"{blob}.away")
    with lasting("podman run"):
        said = it.run(start)
        check(answers(), "nginx by podman does not answer: " + it.run("podman logs web 2>&1 || :") + said)
    os.rename(f"{blob}.away", blob)
    equal(mounts(it), 1, "mounts of the image")
    return at(end)


def containers(it, name):
    """What else is done with an image."""
    with lasting("a second container"):
        look = "pwd; stat -c '%U %a' /etc/shadow /tmp; echo new >>/etc/hostname; mv /usr/share/nginx /usr/share/other; ls /usr/share/other"
        out = it.run(f"{RUN} {name} sh -c \"{look}\"").split("\n")
        equal(out[:3], ["/var/www/html", "root 640", "root 1777"], "what a program sees")
        check("html" in out, f"what was renamed: {out}")
    it.run("podman exec web sh -c 'test -e /usr/share/nginx && test ! -e /usr/share/other'")
    digest = it.run(f"podman image inspect --format '{{{{.Digest}}}}' {name}").strip()
    with lasting("by its digest, and with a user namespace"):
        it.run(f"podman pull {name.rpartition(':')[0]}@{digest}")
        equal(mounts(it), 1, "mounts of the image by its digest")
        out = it.run(f"{RUN} --uidmap 0:100000:65536 {name} id 2>&1", status=None)
        check("root" not in out, f"with a user namespace: {out}")
    with lasting("what copies the layer"):
        it.run(f"printf 'FROM {name}\\nENV A=b\\n' >/var/Containerfile")
        for command in f"save --output /var/saved.tar {name}", "commit web changed", "build --tag built --file /var/Containerfile /var/tmp":
            said = it.run(f"podman {command} 2>&1", status=125)
            check("is a directory" in said, f"podman {command}: {said}")


def reboot(it, name):
    """After it nothing is mounted."""
    it.run(f"podman stop --time 3 web; systemctl stop puzzlefs-layer-store.service; umount {MOUNTS}/*/*.image; rm -r {MOUNTS}")
    for command in f"{RUN} {name} true", "podman start web":
        said = it.run(f"{command} 2>&1 && echo IT RUNS || :")
        print(said)
        check("no such file or directory" in said and "IT RUNS" not in said, f"without a mount: {said}")
    equal(layers(it)[0]["mounted"], False, "a layer after a reboot")
    with lasting("after a reboot"):
        it.run("systemctl start puzzlefs-layer-store.service; podman start web")
        check(answers(), "nginx does not answer after a reboot: " + it.log())


def unprepared(it, host, manifest):
    """What podman makes of an image that is not in the store, and of one that came there later."""
    name, other = f"{host}/team/db:1", f"{host}/team/db:old"
    it.run(f"for name in {name} {other}; do puzzlefs push --stand-in /var/lib/images:db docker://$name; done")
    for user, wanted in ("", "no matching entries in passwd file"), ("--user 0", "not found"):
        said = it.run(f"podman run --rm --network host {user} {name} 2>&1 && echo IT RUNS || :")
        check(wanted in said and "IT RUNS" not in said, f"an image that was not prepared: {said}")
    it.run(f"puzzlefs layer-store {name}; puzzlefs layer-store {other}")
    layer, = layers(it)
    equal((len(layer["names"]), mounts(it)), (2, 1), "names and mounts of one layer")
    it.run(f"podman pull {name}")
    out = it.run(f"{RUN} {name} sh -c 'id -un; ls /usr/lib/postgresql'").split()
    equal(out, ["postgres", "17"], "what a program of it says")
    it.run(f"podman rmi --all --force >/dev/null; puzzlefs layer-store --remove {name}")
    equal((len(layers(it)), mounts(it)), (1, 1), "layers while one more name leads there")
    it.run(f"puzzlefs layer-store --remove {other}")
    for command, wanted in (f"--remove {name}", "has no layer"), (f"{host}/team/web@{manifest}", "--stand-in"):
        said = it.run(f"puzzlefs layer-store {command} 2>&1", status=4)
        check(wanted in said, f"puzzlefs layer-store {command}: {said}")


def user(it):
    """Who is not root has nothing of it, and is not disturbed."""
    it.run("""echo box:x:1500:1500::/var/box:/bin/bash >>/etc/passwd; echo box:x:1500: >>/etc/group
        for file in /etc/subuid /etc/subgid; do echo box:200000:65536 >$file; done
        install -d -o box -g box -m 700 /var/box /run/user/1500""")
    with lasting("a user's podman"):
        it.run(f"{USER} podman images 2>&1; ! {USER} ls {STORE}; ! {USER} ls {MOUNTS}; pkill -KILL -u box || :")


authority = Authority("/scratch/authority")
certificate, key = authority.sign("registry")
tls = {"http": {"tls": {"certificate": certificate, "key": key}}}
with system({"puzzlefs-layer-store.service": UNIT}) as it, Registry("/scratch", tls) as registry:
    it.run(f"mkdir -p /etc/ssl/certs; cat {authority.certificate} >>/etc/ssl/certs/ca-certificates.crt; cp -r {IMAGE.layout} /var/lib/images")
    end = documented(it, registry)
    name, manifest = f"{registry.host}/team/web:1", layers(it)[0]["manifest"]
    containers(it, name)
    reboot(it, name)
    with lasting("teardown"):
        it.run(end)
        gone(it, "podman with a store")
    equal(it.run(f"ls {STORE}; find {MOUNTS} -mindepth 2; ls {LAYOUT}/blobs/sha256; puzzlefs tags {LAYOUT}"), "lock\n", "what is left of images")
    unprepared(it, registry.host, manifest)
    user(it)
    gone(it, "images that were prepared late")
shutil.rmtree("/scratch/authority")
RECIPES.end()
