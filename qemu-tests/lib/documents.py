# SPDX-License-Identifier: GPL-2.0
"""What the documents show: their blocks, and a place where the commands in them find what they name."""

import contextlib
import json
import os
import pathlib
import random
import re
import shutil
import subprocess
import tempfile

from case import check
from registries import Registry

TOP = pathlib.Path(os.environ["PUZZLEFS_TOP"])
COMMAND = TOP / "build/puzzlefs"
MARKDOWN = [TOP / "README.md", TOP / "SECURITY.md", *sorted((TOP / "docs").glob("*.md")), TOP / "schema/FORMAT.md"]
IMAGES = pathlib.Path("/var/lib/images")
# What the documents write for any name, and what we have of that kind.
STANDS_FOR = {"LAYOUT": str(IMAGES), "HOST": "registry.example", "REPOSITORY": "team/ordinary", ":TAG": ":1.0"}
# Before a script: mount(8) asks its helper whether it would mount, make(1) says what it would do and fsverity(1), which
# Debian's build root has not, notes what it was asked for. The kernel's part is for cases in a machine.
PRELUDE = f"""
mount() {{ command mount --fake "$@"; }}
fsverity() {{ [ "$1" = enable ] && [ -f "$2" ] && echo "$2" >>enabled; }}
make() {{
	for word; do
		case $word in *=*) grep -q "[(]${{word%%=*}}[),]" {TOP}/Makefile ;; esac
	done
	command make -n -C {TOP} "$@"
}}
scripts/bench() {{
	python3 -Bc 'import sys; sys.path.insert(0, "{TOP}/scripts/bench.d"); import bench; bench.arguments()' "$@"
}}
scripts/load() {{ [ "$*" = --show ]; python3 -B {TOP}/scripts/load.d/report.py --show; }}
puzzlefs() {{ {COMMAND} "$@"; }}
"""


def markdown_blocks(text):
    """The indented blocks of a document, each with its lines. An empty line may be in one."""
    for block in re.findall(r"(?:^    .*\n)(?:^(?:    .*)?\n(?=\n*    )|^    .*\n)*", text, re.M):
        yield [line[4:] for line in block.splitlines()]


def rst_blocks(text):
    """The same of a text for the kernel's documentation."""
    for block in re.findall(r"::\n\n((?:^  .*\n)+)", text, re.M):
        yield [line[2:] for line in block.splitlines()]


def examples():
    """What `--help` shows, by command."""
    names = re.findall(r"^  ([\w-]+) ", help_of().split("Commands:")[1].split("Options:")[0], re.M)
    for name in ["", *(name for name in names if name != "help"), "mount.puzzlefs"]:
        text = help_of(name) + "\n"
        check("\nExample:\n" in text, f"puzzlefs {name} --help has no example")
        yield name, re.findall("^  (.*)$", text.split("\nExample:\n")[1], re.M)


def help_of(name=""):
    command = [TOP / "build" / name] if name.startswith("mount.") else [COMMAND, *name.split()]
    return subprocess.run([*command, "--help"], check=True, stdout=subprocess.PIPE, text=True).stdout


def quiet(*command, **options):
    return subprocess.run([str(word) for word in command], check=True, stdout=subprocess.PIPE, text=True, **options).stdout


class Place:
    """A directory and a registry with all that the documents name. /var/lib, /media and some others are our own."""

    def __init__(self):
        self.top = pathlib.Path(tempfile.mkdtemp(prefix="documents-"))
        os.unshare(os.CLONE_NEWNS)
        quiet("mount", "--make-rprivate", "/")
        for where in "/var/lib", "/media", "/usr/local", "/usr/share/bash-completion/completions":
            os.makedirs(where, exist_ok=True)
            quiet("mount", "-t", "tmpfs", "tmpfs", where)
        pathlib.Path("/usr/local/share").mkdir()
        helper = pathlib.Path("/sbin/mount.puzzlefs")
        if not helper.exists():
            helper.touch()
        quiet("mount", "--bind", COMMAND, helper)
        self.env = {"PATH": os.environ["PATH"], "HOME": str(self.top / "home"), "LC_ALL": "C.UTF-8",
                    "PUZZLEFS_TOP": str(TOP), "PUZZLEFS_CACHE": os.environ["PUZZLEFS_CACHE"],
                    "CONTAINERS_REGISTRIES_CONF": str(self.top / "registries.conf"), "XDG_RUNTIME_DIR": str(self.top)}
        self.make_trees()

    def make_trees(self):
        """What a script starts from: it works on a copy."""
        here = self.top / "start"
        for number, name in enumerate(("rootfs", "rootfs.new")):
            rng = random.Random(1)
            for path in "etc/os-release", "usr/share/doc/bash/copyright", "var/cache/apt/a", "x.pyc", "own":
                (here / name / path).parent.mkdir(parents=True, exist_ok=True)
                (here / name / path).write_text("NAME=Debian\n" + rng.randbytes(9000).hex())
            (here / name / "own").write_bytes(rng.randbytes(400_000 + number))
        (here / "python.profile").write_text('{"schema":"puzzlefs-profile-1"}\n{"path":"/own","start":0,"end":1}\n')
        quiet("tar", "-C", here / "rootfs", "--zstd", "-cf", here / "rootfs.tar.zst", ".")
        for layout, tag in ("build", "v1"), ("ordinary", "app"):
            image = here / layout
            quiet("umoci", "init", "--layout", image)
            quiet("umoci", "new", "--image", f"{image}:{tag}")
            quiet("umoci", "insert", "--image", f"{image}:{tag}", here / "rootfs", "/", stderr=subprocess.DEVNULL)
        quiet("skopeo", "copy", "-q", f"oci:{here}/build:v1", f"docker-archive:{here}/app.tar:app:latest")
        self.images = self.top / "images"
        for tag, tree in ("debian", "rootfs"), ("debian-new", "rootfs.new"), ("app-1", "rootfs"), ("app-2", "rootfs.new"):
            quiet(COMMAND, "build", "--no-cache", "--pack-size", "256K", here / tree, f"{self.images}:{tag}")
        quiet(COMMAND, "convert", "--no-cache", f"oci:{here}/build:v1", f"{self.images}:app")
        quiet(COMMAND, "tag", f"{self.images}:debian", "v1")

    def digest(self, image="debian"):
        return json.loads(quiet(COMMAND, "inspect", "--format", "json", f"{self.images}:{image}"))["manifest"]

    @contextlib.contextmanager
    def registry(self):
        """With an ordinary image, one of ours, and `docker.io/library/debian:13`."""
        with Registry(str(self.top)) as registry:
            entries = [f'[[registry]]\nprefix = "{prefix}"\nlocation = "{registry.host}/{at}"\ninsecure = true\n'
                       for prefix, at in (("registry.example/team", "team"), ("docker.io/library", "library"))]
            pathlib.Path(self.env["CONTAINERS_REGISTRIES_CONF"]).write_text("\n".join(entries))
            for to in "team/ordinary:1.0", "library/debian:13":
                quiet("skopeo", "copy", "-q", "--dest-tls-verify=false", f"oci:{self.top}/start/build:v1",
                      f"docker://{registry.host}/{to}")
            quiet(COMMAND, "push", "--plain-http", f"{self.images}:app", f"docker://{registry.host}/team/app:1.0")
            yield

    def run(self, name, lines, before=""):
        """Runs the lines of a block as one script; gives what it prints and where it ran."""
        where = self.top / "here"
        for old in where, IMAGES, pathlib.Path("/media/images"):
            shutil.rmtree(old, ignore_errors=True)
        shutil.copytree(self.top / "start", where)
        for layout in IMAGES, pathlib.Path("/media/images"):
            shutil.copytree(self.images, layout)
        script = "\n".join(lines)
        for word, ours in {**STANDS_FOR, "DIGEST": self.digest(), "SHA256": self.digest()}.items():
            script = re.sub(rf"(?<![A-Z]){word}(?![A-Z])", ours, script)
        done = subprocess.run(["bash", "-euo", "pipefail", "-c", f"{PRELUDE}\n{before}\n{script}"], cwd=where, text=True,
                              env=self.env, errors="replace", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        check(done.returncode == 0, f"{name}: status {done.returncode}\n{script}\n{done.stdout[-500:]!a}\n{done.stderr}")
        return done.stdout, where
