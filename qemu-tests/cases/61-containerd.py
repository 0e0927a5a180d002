#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: images services; memory 3G
# shows: docs/running.md, containerd, each command as it stands there: Debian's containerd and its ctr pull images without their content
# coming through them, and run them by `puzzlefs snapshotter`: nginx answers a request, PostgreSQL a query. The snapshotter is killed and
# containerd started again while a container runs; ordinary images run by it, too, unpacked or converted. Docker runs them, and kubelet's plugin pulls
# them. Each time nothing is left.

import json
import os
import shutil
import time

from case import Image, check, equal
from recipes import Recipes, answers, gone, lasting, write
from registries import Authority, Registry
from systemguest import system

IMAGE = Image("services")
RECIPES = Recipes("docs/running.md", lambda section: section in ("containerd", "Docker", "Kubernetes"))
KUBERNETES, _ = RECIPES.of("Kubernetes")
ROOT, LAYOUT = "/var/lib/puzzlefs/snapshotter", "/var/lib/puzzlefs/images"
MINE = "puzzlefs$"  # the snapshotter itself
with open(f"{os.environ['PUZZLEFS_TOP']}/systemd/puzzlefs-snapshotter.service") as f:
    UNIT = f.read().replace("@PREFIX@/bin/puzzlefs", shutil.which("puzzlefs")).replace("network-online.target", "")
# ctr asks containerd to pull, as others do: then it is told that nothing need be fetched.
MORE = """
[[plugins."io.containerd.transfer.v1.local".unpack_config]]
  platform = "linux/amd64"
  snapshotter = "puzzlefs"

[plugins."io.containerd.grpc.v1.cri".registry]
  config_path = "/etc/containerd/certs.d"
"""


def snapshots(it):
    out = it.run("ctr snapshots --snapshotter puzzlefs ls").splitlines()[1:]
    return [line.split() for line in out]


def images(it):
    return it.run("grep -c ' - puzzlefs ' /proc/self/mountinfo || :").strip()


def fetched(it):
    """Bytes in containerd's own store."""
    return int(it.run("du -sb /var/lib/containerd/io.containerd.content.v1.content | cut -f1"))


def until(it, script, wanted, what):
    for _ in range(100):
        out = it.run(f"{script} 2>&1 || :")
        if out == wanted:
            return
        time.sleep(0.5)
    check(False, f"{what}: {out}\n{it.log()}")


def pulled(it, script):
    """containerd and Docker give a registry ten seconds to begin TLS, which may not be enough beside other machines."""
    for _ in range(5):
        out = it.run(f"{{ {script}; }} 2>&1 || echo NOT PULLED")
        if "TLS handshake timeout" not in out:
            break
    check("NOT PULLED" not in out, f"{script}: {out}\n{it.log()}")
    return out


def running(it, host):
    """The document's way, with the services restarted in the middle."""
    files, (enable, push, run, end) = RECIPES.of("containerd")
    at = lambda script: script.replace("registry.example", host)
    kubernetes, = KUBERNETES.values()
    write(it, {name: text + MORE + kubernetes for name, text in files.items()})
    with lasting("services"):
        it.run(enable.replace("enable --now", "start"))
        it.run("systemctl start containerd.service")
    print(it.run(at(push)))
    # The tag names an index of the stand-in and of the image: ours finds the latter.
    equal(it.run(f"puzzlefs inspect docker://{host}/team/web:1 | head -1"), it.run("puzzlefs inspect /var/lib/images:web | head -1"),
          "the image of the index")
    pull, start = at(run).splitlines()
    with lasting("ctr images pull"):
        pulled(it, pull)
    check(fetched(it) < 100_000, f"{fetched(it)} bytes came through containerd")
    with lasting("ctr run"):
        it.run(start)
        check(answers(), "nginx by containerd does not answer: " + it.log())
    equal(images(it), "1", "mounts of the image")
    equal(sorted(kind for *_, kind in snapshots(it)), ["Active", "Committed"], "snapshots")
    usage = it.run("ctr snapshots --snapshotter puzzlefs usage -b").splitlines()[1:]
    usage = {words[0]: (int(words[1]), int(words[2])) for words in map(str.split, usage)}
    own = int(it.run(f"du -s --block-size=1 {ROOT}/snapshots/2/fs | cut -f1")), int(it.run(f"find {ROOT}/snapshots/2/fs | wc -l"))
    equal(usage["web"], own, "the usage of the container")
    packs = int(it.run(f"du -s --block-size=1 {LAYOUT}/blobs | cut -f1"))
    image, = (value for name, value in usage.items() if name != "web")
    check(0.9 < image[0] / packs <= 1, f"the image takes {image}, its blobs {packs}")

    with lasting("restarts"):
        it.run("echo kept >/proc/$(pgrep -o nginx)/root/mnt/kept; systemctl kill --signal KILL puzzlefs-snapshotter.service")
        check(answers(), "nginx does not answer without the snapshotter")
        it.run("systemctl restart containerd.service")
        until(it, "systemctl is-active puzzlefs-snapshotter.service", "active\n", "the snapshotter")
        equal(it.run("ctr tasks ls | grep web").split()[2], "RUNNING", "the container")
        equal(it.run("ctr tasks exec --exec-id 1 web cat /mnt/kept"), "kept\n", "what it has written")
        check(answers(), "nginx does not answer after restarts")
        equal(it.run(f"ctr run --rm --snapshotter puzzlefs {host}/team/web:1 other sh -c 'test ! -e /mnt/kept; echo $PWD'"),
              "/var/www/html\n", "a second container")
        out = it.run(f"ctr run --rm --read-only --snapshotter puzzlefs {host}/team/web:1 other sh -c 'touch /mnt/it' 2>&1", status=1)
        check("Read-only file system" in out, out)
    with lasting("teardown"):
        it.run(at(end))
        gone(it, "containerd", MINE)
        nothing(it)


def nothing(it):
    equal(snapshots(it), [], "snapshots")
    equal(it.run(f"ls {ROOT}/snapshots; puzzlefs tags {LAYOUT}; ls {LAYOUT}/blobs/sha256"), "", "what is left of images")
    equal(it.run("ctr content ls -q"), "", "what is left in containerd's store")


def asked(it, host):
    """containerd pulls, and asks the snapshotter before it fetches."""
    name = f"{host}/team/db:1"
    it.run(f"puzzlefs push --stand-in /var/lib/images:db docker://{name}")
    with lasting("a pull without the layer"):
        pulled(it, f"ctr images pull --local=false --platform linux/amd64 --snapshotter puzzlefs {name}")
    equal(len(it.run("ctr content ls -q").split()), 3, "blobs in containerd's store, the index, the stand-in and its config")
    equal(images(it), "1", "mounts of the image, before anybody runs it")
    with lasting("PostgreSQL"):
        it.run(f"ctr run --detach --net-host --snapshotter puzzlefs {name} db")
        until(it, "ctr tasks exec --exec-id 1 db psql -Atc 'select 6*7'", "42\n", "the database's answer")
        equal(it.run("ctr tasks exec --exec-id 2 db id -un"), "postgres\n", "its user")
        it.run("ctr tasks kill --signal SIGKILL db; ctr containers rm db")
    # In another namespace, of the same.
    pulled(it, f"ctr -n other images pull --local=false --platform linux/amd64 --snapshotter puzzlefs {name}")
    equal(images(it), "1", "mounts of the image for two namespaces")
    it.run(f"ctr images rm --sync {name}")
    equal(images(it), "1", "mounts of the image for the other namespace")
    it.run(f"ctr -n other images rm --sync {name}; puzzlefs gc {LAYOUT}")
    gone(it, "an image of two namespaces", MINE)
    nothing(it)


def docker(it, host):
    """Docker, whose images are in containerd."""
    files, (run, end) = RECIPES.of("Docker")
    at = lambda script: script.replace("registry.example", host)
    write(it, files)
    daemon = it.start("exec dockerd --containerd /run/containerd/containerd.sock --iptables=false --ip6tables=false --bridge=none 2>/run/docker.log")
    until(it, "docker info --format '{{.Driver}}'", "puzzlefs\n", "Docker's storage driver")
    with lasting("docker run"):
        pulled(it, at(run))
        check(answers(), "nginx by Docker does not answer: " + it.run("tail -20 /run/docker.log; docker logs web"))
    equal(images(it), "1", "mounts of the image")
    equal(it.run("docker exec web id -un"), "root\n", "as whom it runs")
    it.run(at(end))
    daemon.terminate()
    daemon.wait(60)
    it.run(f"ctr -n moby content prune references; puzzlefs gc {LAYOUT}")
    gone(it, "Docker", MINE)
    nothing(it)


def kubernetes(it, host):
    """What kubelet asks of containerd about images."""
    ask = f"python3 -B {os.environ['PUZZLEFS_TOP']}/qemu-tests/lib/cri.py"
    # It would ask a registry of this machine by http.
    write(it, {f"/etc/containerd/certs.d/{host}/hosts.toml": f'server = "https://{host}"\n'})
    with lasting("kubelet's pull"):
        check("sha256:" in pulled(it, f"{ask} PullImage {host}/team/db:1"), "the pull says no digest")
    equal(images(it), "1", "mounts of the image that kubelet has pulled")
    ref = it.run("ctr -n k8s.io snapshots --snapshotter puzzlefs ls").splitlines()[1].split()[0]
    info = json.loads(it.run(f"ctr -n k8s.io snapshots --snapshotter puzzlefs info {ref}"))
    equal(info["Labels"]["containerd.io/snapshot/cri.image-ref"], f"{host}/team/db:1", "what the snapshotter is told")
    it.run(f"{ask} RemoveImage {host}/team/db:1; puzzlefs gc {LAYOUT}")
    gone(it, "kubelet's image", MINE)
    nothing(it)


def lazily(it, host):
    """A daemon has the layout: the container runs before its image is here."""
    name = f"{host}/team/web:1"
    it.run("mkdir -p /run/puzzlefs")
    daemon = it.start(f"exec puzzlefs daemon --no-fill --metrics /run/puzzlefs/daemon.sock {LAYOUT} 2>/run/daemon.log")
    until(it, "test -S /run/puzzlefs/daemon.sock && echo there", "there\n", "the daemon's socket")
    status = lambda: json.loads(it.run(f"puzzlefs status --format json {LAYOUT}"))["images"]
    with lasting("puzzlefs run, lazily"):
        equal(it.run(f"puzzlefs run --entrypoint '' docker://{name} echo $((6 * 7)) | tail -1"), "42\n", "what a lazy image says")
        here, = status()
        check(0 < here["bytes_here"] < here["bytes"] / 2, f"{here['bytes_here']} of {here['bytes']} bytes are here")
        it.run(f"puzzlefs rm {LAYOUT}:{name}; puzzlefs gc {LAYOUT}")
    with lasting("lazily"):
        pulled(it, f"ctr images pull --snapshotter puzzlefs {name}")
        it.run(f"ctr run --detach --net-host --snapshotter puzzlefs {name} web")
        check(answers(), "nginx does not answer lazily: " + it.run("cat /run/daemon.log") + it.log())
    here, = status()
    check(0 < here["bytes_here"] < here["bytes"] / 2, f"{here['bytes_here']} of {here['bytes']} bytes are here")
    it.run(f"ctr tasks kill --signal SIGKILL web; ctr containers rm web; ctr images rm --sync {name}; puzzlefs gc {LAYOUT}")
    daemon.terminate()
    daemon.wait(60)
    gone(it, "a lazy image", MINE)
    nothing(it)


def ordinary(it):
    """Ordinary images, of two layers: unpacked, and then converted."""
    it.run("""
        mkdir -p /var/tmp/a/bin /var/tmp/a/dir /var/tmp/b/dir
        cp /usr/bin/busybox /var/tmp/a/bin/busybox
        ln -s busybox /var/tmp/a/bin/sh
        echo lower >/var/tmp/a/file; echo lower >/var/tmp/a/gone; echo lower >/var/tmp/a/dir/lower
        echo upper >/var/tmp/b/file; touch /var/tmp/b/.wh.gone /var/tmp/b/dir/.wh..wh..opq; echo upper >/var/tmp/b/dir/upper
        umoci init --layout /var/tmp/o
        for image in x y; do
            umoci new --image /var/tmp/o:$image
            for layer in a b; do
                tar -C /var/tmp/$layer -cf /var/tmp/$layer.tar .
                umoci raw add-layer --image /var/tmp/o:$image /var/tmp/$layer.tar
            done
            # The next one's layers have other digests.
            touch /var/tmp/a/file /var/tmp/b/file
        done
        tar -C /var/tmp/o -cf /var/tmp/o.tar .""")
    load = "ctr images import --snapshotter puzzlefs --base-name plain /var/tmp/o.tar"
    remove = "ctr images rm --sync plain:x plain:y"
    shown = "read a </file; echo $a; test -e /gone || echo gone; cd dir; echo *; : >/new; busybox rm /bin/busybox"

    def runs():
        equal(sorted(kind for *_, kind in snapshots(it)), ["Committed"] * 4, "layers")
        for image in "xy":
            out = it.run(f"ctr run --rm --snapshotter puzzlefs plain:{image} plain sh -c '{shown}'")
            equal(out.split(), ["upper", "gone", "upper"], "what an ordinary image says")

    it.run(load)
    runs()
    equal((images(it), it.run(f"puzzlefs tags {LAYOUT}")), ("0", ""), "images of layers that stay")
    it.run(remove)
    gone(it, "an ordinary image", MINE)
    nothing(it)

    # Layers that nobody uses are converted at the start, others when they are there.
    it.run(load)
    write(it, {"/etc/default/puzzlefs-snapshotter": "OPTIONS=--convert\n"})
    with lasting("converted at the start"):
        it.run("systemctl restart puzzlefs-snapshotter.service")
        converted(it)
        runs()
    it.run(remove)
    nothing_converted(it)
    with lasting("converted after the pull"):
        it.run(load)
        converted(it)
        runs()
    it.run("systemctl kill --signal KILL puzzlefs-snapshotter.service")
    until(it, "systemctl is-active puzzlefs-snapshotter.service", "active\n", "the snapshotter")
    runs()
    it.run(f"{remove}; rm /etc/default/puzzlefs-snapshotter")
    nothing_converted(it)
    it.run("systemctl restart puzzlefs-snapshotter.service")


def converted(it):
    """Each layer is an image, which is mounted, and its files are gone. Both base layers share busybox."""
    until(it, "grep -c ' - puzzlefs ' /proc/self/mountinfo", "4\n", "mounts of layers")
    until(it, f"ls -d {ROOT}/snapshots/*/fs 2>/dev/null | wc -l", "0\n", "files of layers")
    equal(len(it.run(f"puzzlefs tags {LAYOUT}").splitlines()), 4, "images of layers")
    size = os.stat("/usr/bin/busybox").st_size
    blobs = int(it.run(f"du -sb {LAYOUT}/blobs/sha256 | cut -f1"))
    check(blobs < size * 0.9, f"{blobs} bytes for two layers with {size} bytes each")


def nothing_converted(it):
    it.run(f"puzzlefs gc {LAYOUT}")
    gone(it, "converted layers", MINE)
    nothing(it)


authority = Authority("/scratch/authority")
certificate, key = authority.sign("registry")
tls = {"http": {"tls": {"certificate": certificate, "key": key}}}
with system({"puzzlefs-snapshotter.service": UNIT}) as it, Registry("/scratch", tls) as registry:
    it.run(f"mkdir -p /etc/ssl/certs; cat {authority.certificate} >>/etc/ssl/certs/ca-certificates.crt")
    it.run(f"mkdir -p /var/lib; cp -r {IMAGE.layout} /var/lib/images")
    try:
        running(it, registry.host)
        asked(it, registry.host)
        docker(it, registry.host)
        kubernetes(it, registry.host)
        lazily(it, registry.host)
        ordinary(it)
    except SystemExit:
        print(it.log())
        raise
    it.run("systemctl stop containerd.service puzzlefs-snapshotter.service")
    gone(it, "the snapshotter")
RECIPES.end()
