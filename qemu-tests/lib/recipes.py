# SPDX-License-Identifier: GPL-2.0
"""Documents whose blocks are run as they stand there: docs/running.md by cases 60 to 62, a part of docs/boot-image.md by 65."""

import contextlib
import os
import re
import time
import urllib.request

from case import check, equal

PAGE = "Welcome to nginx"


class Recipes:
    """The blocks of a document's sections, each with the file that it is said to be, if it is one; of those whose
    section is `chosen`."""

    def __init__(self, name, chosen):
        self.name, self.used, self.blocks = name, set(), []
        with open(f"{os.environ['PUZZLEFS_TOP']}/{name}") as f:
            text = f.read()
        for block in re.finditer(r"(?:^    .*\n)(?:^(?:    .*)?\n(?=\n*    )|^    .*\n)*", text, re.M):
            before = text[:block.start()].rstrip().split("\n\n")[-1]
            file = re.findall(r"`(/(?:etc|var)/[^`]*)`", before if not before.startswith(" ") else "")
            section = ["", *re.findall(r"^##+ (.*)$", text[:block.start()], re.M)][-1]
            if chosen(section):
                self.blocks.append([section, file[0] if file else None, re.sub("^    ", "", block[0], flags=re.M).strip("\n")])

    def of(self, section):
        """The files and the scripts of a section, in order."""
        files, scripts = {}, []
        for index, (of, file, text) in enumerate(self.blocks):
            if of == section:
                self.used.add(index)
                if file:
                    files[file] = text + "\n"
                else:
                    scripts.append(text)
        check(files or scripts, f"{self.name} has nothing in {section}")
        return files, scripts

    def end(self):
        """All were asked for."""
        equal([text for index, (_, _, text) in enumerate(self.blocks) if index not in self.used], [], "blocks that nobody has run")
        print(f"{len(self.blocks)} blocks of {self.name} run; nothing is left of any")


def write(it, files):
    for name, text in files.items():
        it.run(f"mkdir -p {os.path.dirname(name)}; cat >{name} <<'END'\n{text}END\n")


def answers():
    """nginx, on this machine's network."""
    for _ in range(300):
        with contextlib.suppress(OSError), urllib.request.urlopen("http://127.0.0.1/", timeout=30) as answer:
            return PAGE in answer.read().decode()
        time.sleep(0.2)
    return False


def left(it, but="^$"):
    """What is there that should not be."""
    mounts = it.run("grep -E ' - (puzzlefs|fuse|overlay) ' /proc/self/mountinfo | grep -v ' - overlay system ' || :")
    loops = it.run("losetup --list --noheadings")
    names = "nginx|postgres|conmon|crun|runc|podman|systemd-nspawn|lxc-start|containerd-shim|puzzlefs"
    processes = it.run(f"pgrep -l '^({names})' | grep -vE '{but}' || :")
    return mounts + loops + processes


def gone(it, what, but="^$"):
    for _ in range(100):
        rest = left(it, but)
        if not rest:
            return
        time.sleep(0.2)
    check(False, f"{what} has left:\n{rest}\n{it.log()}")


@contextlib.contextmanager
def lasting(what):
    start = time.monotonic()
    yield
    print(f"{what}: {time.monotonic() - start:.0f} s", flush=True)
