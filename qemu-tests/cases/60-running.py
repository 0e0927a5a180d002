#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: images services; memory 3G
# shows: docs/running.md, each command as it stands there but for what is pulled (cases 61, 62): nginx answers a request and PostgreSQL a query, run from images
# by crun, runc, podman, Quadlet, systemd-nspawn, a unit of systemd with RootDirectory=, LXC and LXC's template, all as Debian has them.
# Each time nothing is left: no mount, no loop device, no process. A bundle that cannot be made leaves no mount.

import subprocess
import time

from case import Image, check, equal
from recipes import Recipes, answers, gone, lasting, write
from registries import Registry
from systemguest import system

IMAGE = Image("services")
ELSEWHERE = "containerd", "Docker", "Kubernetes", "Images that podman pulls"
RECIPES = Recipes("docs/running.md", lambda section: section not in ELSEWHERE)
recipe = RECIPES.of


def bundles(it):
    _, (make, end, make_db, end_db) = recipe("crun and runc")
    with lasting("crun"):
        print(it.run(make))
        check(answers(), "nginx by crun does not answer")
        upper = it.run("ls /run/web/upper").split()
        check("etc" not in upper and "var" in upper, f"what was changed: {upper}")
        it.run(end)
        check(not it.run("ls -d /run/web 2>/dev/null || :"), "the bundle is there")
        gone(it, "crun")
    with lasting("runc"):
        script = make_db.splitlines()
        print(it.run("\n".join(script[:-1])))
        for _ in range(100):
            out = it.run(f"{script[-1]} 2>&1 || :")
            if out == "42\n":
                break
            time.sleep(1)
        equal(out, "42\n", "the database's answer by runc")
        equal(it.run("runc exec db id -nG").split(), ["postgres", "ssl-cert"], "its groups")
        equal(it.run("ls /run/db/volumes/0").split(), ["17"], "its volume")
        it.run(end_db)
        gone(it, "runc")
    # The last step fails, as an overlayfs is no place for the changes of another one: nothing of the others is left.
    said = it.run("puzzlefs bundle /var/lib/images:web /srv/half 2>&1", status=1)
    check("cannot be an upper layer" in said and not it.run("ls /srv"), f"half a bundle: {said}")
    gone(it, "half a bundle")


def podman(it):
    _, (make, end) = recipe("podman")
    with lasting("podman"):
        it.run(make)
        check(answers(), "nginx by podman does not answer: " + it.run("podman logs web 2>&1 || :"))
        it.run(end)
        gone(it, "podman")


def unit(it, section, files, what):
    more, (make, end) = recipe(section)
    write(it, files | more)
    with lasting(what):
        it.run(make)
        check(answers(), f"nginx by {what} does not answer: {it.log()}")
        it.run(end)
        gone(it, what)
    return more


def nspawn(it):
    _, (make, end, last) = recipe("systemd-nspawn")
    with lasting("systemd-nspawn"):
        process = it.start(make)
        check(answers(), "nginx by systemd-nspawn does not answer: " + it.log())
        it.run(end)
        process.wait(60)
        it.run(last)
        gone(it, "systemd-nspawn")


def lxc(it):
    files, (make, end) = recipe("LXC")
    write(it, files)
    it.run("apparmor_parser --replace /etc/apparmor.d/lxc-containers")  # as at boot
    with lasting("LXC"):
        it.run(make)
        check(answers(), "nginx by LXC does not answer: " + it.log())
        it.run(end)
        gone(it, "LXC")


def template(it):
    files, (make, start, stop) = recipe("LXC's template")
    write(it, files)
    with lasting("LXC's template"):
        create, execute = make.splitlines()
        print(it.run(create))
        gone(it, "lxc-create")
        process = it.start(execute)
        check(answers(), "nginx by lxc-execute does not answer: " + it.log())
        equal(it.run("lxc-attach --name app -- hostname").strip(), "app", "its name")
        it.run(stop.splitlines()[0])
        process.wait(60)
        gone(it, "lxc-execute")
        it.run("test -e /var/lib/lxc/app/upper/upper/etc/hostname")
        it.run(start)
        check(answers(), "nginx by lxc-start does not answer: " + it.log())
        it.run(stop)
        gone(it, "lxc-destroy")
    # What another image says: a user, and what was changed is there again.
    it.run("lxc-create --name db --template oci --config /etc/lxc/host.conf -- --url oci:/var/lib/images:db")
    with open("/scratch/system/var/lib/lxc/db/config") as f:
        config = f.read()
    ids = it.run("puzzlefs cat /var/lib/images:db /etc/passwd | grep ^postgres: | cut -d: -f3,4").strip().split(":")
    for line in (f"lxc.init.uid = {ids[0]}", f"lxc.init.gid = {ids[1]}", "lxc.init.cwd = /var/lib/postgresql",
                 "lxc.environment = PGDATA=/var/lib/postgresql/17/main"):
        check(line in config.splitlines(), f"{line} is not in {config}")
    it.run("lxc-destroy --name db")
    gone(it, "lxc-destroy of db")


def once(it):
    _, (command,) = recipe("To try an image")
    with lasting("puzzlefs run"):
        process = it.start(f"exec {command}")
        check(answers(), "nginx by puzzlefs run does not answer: " + it.log())
        it.run("pkill -QUIT -f '^nginx: master'")
        equal(process.wait(60), 0, "its exit status")
        gone(it, "puzzlefs run")
    for runtime in "crun", "runc":
        run = f"puzzlefs run --runtime {runtime} --entrypoint ''"
        out = it.run(f"{run} -e A=b -v /etc/lxc:/mnt/it:ro /var/lib/images:db sh -c 'id -un; echo $A; pwd; ls /mnt/it; exit 7'", status=7)
        equal(out.split(), ["postgres", "b", "/var/lib/postgresql", "default.conf", "host.conf"], f"what a program by {runtime} says")
        process = it.start(f"exec {run} /var/lib/images:web sh -c 'trap \"exit 9\" TERM; touch /mnt/it; while :; do sleep 0.1; done'")
        for _ in range(200):
            if it.run("ls /var/lib/puzzlefs/run/*/upper/mnt/it 2>/dev/null || :"):
                break
            time.sleep(0.2)
        it.run("kill -TERM $(pgrep -x puzzlefs)")
        equal(process.wait(60), 9, f"the exit status after a signal by {runtime}")
        gone(it, f"puzzlefs run by {runtime}")
    # On a terminal.
    out = it.run("script --quiet --return --command \"puzzlefs run --entrypoint '' /var/lib/images:web tty\" /dev/null")
    check("/dev/pts/0" in out or "/dev/console" in out, f"no terminal: {out}")
    equal(it.run("ls /var/lib/puzzlefs/run"), "", "bundles that are left")


def from_registry(it):
    """The second time nothing is pulled. Nothing of it is left but the layout."""
    with Registry("/scratch") as registry, lasting("puzzlefs run of a registry"):
        source = f"docker://{registry.host}/a/web:1"
        subprocess.run(["puzzlefs", "push", "--quiet", "--plain-http", f"{IMAGE.layout}:web", source], check=True)
        for _ in range(2):
            out = it.run(f"puzzlefs run --plain-http --entrypoint '' {source} sh -c 'id -un; exit 7'", status=7)
            equal(out.split()[-1:], ["root"], "what a program of an image in a registry says")
        equal(it.run("ls /var/lib/puzzlefs/run"), "", "bundles that are left")
        gone(it, "puzzlefs run of a registry")
        said = it.run(f"puzzlefs run --plain-http docker://{registry.host}/a/none:1", status=4)
        check("none" in said, f"an image that is not there: {said}")


with system() as it:
    it.run(f"cp -r {IMAGE.layout} /var/lib/images")  # overlayfs does not stack so deep as on virtiofs
    bundles(it)
    podman(it)
    mount = unit(it, "Quadlet", {}, "Quadlet")
    unit(it, "A unit of systemd", mount, "RootDirectory=")
    nspawn(it)
    lxc(it)
    template(it)
    once(it)
    from_registry(it)
RECIPES.end()
