#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# shows: what the documents refer to is there: the cases that are to show a claim, files, headings, make's targets, the
# directories, rooms and files of docs/internals.md, the options, counters and rooms of the kernel's documents. Each row of a table with a column of cases has one.

import re

from case import check, equal
from documents import MARKDOWN, TOP

# Words of such columns that are no name of a test.
WORDS = re.compile(r"by review|not tried|all by|an eighth of them;|and|of|as it says")
TESTS = [path.stem for where in ("qemu-tests/host", "userspace-builder/puzzlefs/tests/whole",
                                 "userspace-builder/format-tests/tests/format") for path in (TOP / where).iterdir()]
NUMBERS = {path.name[:2] for path in (TOP / "qemu-tests/cases").iterdir()}
TARGETS = re.findall(r"^([a-z][\w-]*):", (TOP / "Makefile").read_text(), re.M)
COLUMNS = {"case", "shown by"}
# Of what is in the checkout, what git has. (There is no git in the build root.)
TOPS = {path.name for path in TOP.iterdir() if path.is_dir() and path.name not in (".git", "build")}
count = {"rows": 0, "cases": 0, "files": 0, "links": 0, "targets": 0}


def is_test(name):
    return name in TESTS or name in NUMBERS or name in ("cargo", "format-tests", "kmod-host")


def is_target(text):
    """`make NAME` with NAME=value behind it."""
    words = [word for word in text.split()[1:] if "=" not in word]
    count["targets"] += 1
    return all(word in TARGETS for word in words)


def cases_of_cell(document, cell):
    """A cell such as `15, 46`, or ``19, `make load`, `format-tests` ``."""
    found = 0
    for part in re.split(r"[,;]", re.sub(r"\(.*?\)", "", cell)):
        part = part.strip()
        for word in re.findall(r"`[^`]*`|\[[^]]*\]\([^)]*\)|[^\s`]+", part):
            name = word.strip("`")
            if name.startswith("["):
                found += 1
            elif name.startswith("make "):
                check(is_target(name), f"{document}: {name}: there is no such target")
                found += 1
            elif "/" in name:
                found += 1  # a file, looked for below
            elif is_test(name):
                found += 1
            else:
                check(WORDS.search(part), f"{document}: no case is called {name}: {cell}")
                found += 1
    count["cases"] += found
    return found


def tables(document, text):
    """Rows of tables with a column of cases name one, but for those that begin with the same word as the row above."""
    header = None
    for line in text.splitlines():
        if not line.startswith("|"):
            header = None
            continue
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]
        if header is None:
            header = cells
        elif header[-1] in COLUMNS and not re.fullmatch(r"[-: ]+", cells[-1]):
            equal(len(cells), len(header), f"{document}: the cells of {line}")
            check(cases_of_cell(document, cells[-1]), f"{document}: nothing shows: {line}")
            count["rows"] += 1


def prose(document, text):
    for names in re.findall(r"\b[Cc]ases? (\d\d(?:(?:, | and )\d\d)*)", text) + re.findall(r"\((\d\d(?:, \d\d)*)\)", text):
        for name in re.findall(r"\d\d", names):
            count["cases"] += 1
            check(name in NUMBERS, f"{document}: there is no case {name}")
    for words in re.findall(r"`(make [a-z][^`]*)`", text):
        check(is_target(re.sub(r"\.\.\.|\"[^\"]*\"", "x=", words)), f"{document}: `{words}`: there is no such target")
    for name in re.findall(r"`([\w./-]+/[\w./-]+)`", text):
        if name.split("/")[0] in TOPS:
            count["files"] += 1
            check((TOP / name).exists(), f"{document}: there is no {name}")


def anchors(path):
    """What GitHub makes of headings."""
    for title in re.findall(r"^#+ (.*)$", path.read_text(), re.M):
        yield re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def links(path, text):
    for link in re.findall(r"\]\(([^)]+)\)", text):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        at = (path.parent / name).resolve() if name else path
        count["links"] += 1
        check(at.exists(), f"{path.name}: there is no {link}")
        check(not anchor or anchor in anchors(at), f"{path.name}: {link}: there is no such heading")


def drawn_directories():
    """The folders, rooms and files of docs/internals.md are those of the checkout."""
    text = (TOP / "docs/internals.md").read_text()
    drawn = re.findall(r"^    ([a-z][\w-]*)/  ", text, re.M)
    equal(sorted(drawn), sorted(TOPS - {".ci", "LICENSES", "docs"}), "the directories")
    for title, name in ("module", "kmod"), ("command", "command"):
        rooms = re.findall(r"^(\w+):", (TOP / f"qemu-tests/lib/rooms.{name}").read_text(), re.M)
        part = text.split(f"## The rooms of the {title}\n")[1].split("\n## ")[0]
        told = re.findall(r"^\| `(\w+)` \|", part, re.M)
        # The roots are no folders.
        equal(told, [room for room in rooms if room not in ("top", "main")], f"the rooms of the {title}, in order")
    files = re.findall(r"`((?!kmod/)\w+/\w+\.rs)`", text)
    check(len(files) >= 5, f"only {files} are named")
    for file in files:
        check((TOP / "userspace-builder/puzzlefs/src" / file).exists(), f"docs/internals.md: there is no {file}")


def kernel_documents():
    """What in-tree/ says of the module's options, counters and rooms is what kmod/ has."""
    text = (TOP / "in-tree/puzzlefs.rst").read_text()
    options = re.findall(r'c"(\w+)"', (TOP / "kmod/mount/options.rs").read_text())
    said = re.findall(r"^(\w+)=", text.split("Mount options\n")[1].split("As the root filesystem")[0], re.M)
    equal(sorted(set(said)), sorted(set(options)), "the mount options")
    counters = re.findall(r'c"(\w+)"', (TOP / "kmod/mount/attributes.rs").read_text())
    said = re.findall(r"^What:\s+/sys/fs/puzzlefs/<dev>/(\w+)$", (TOP / "in-tree/sysfs-fs-puzzlefs").read_text(), re.M)
    equal(sorted(said), sorted(counters), "the files in sysfs")
    rooms = {path.stem for path in (TOP / "kmod").iterdir()} - {"vfs", "puzzlefs"}
    equal(sorted(re.findall(r"``(\w+)``", text.split("From the top:")[1].split("``schema``")[0])), sorted(rooms), "the rooms of kmod")


for path in MARKDOWN:
    content = path.read_text()
    for part in tables, prose:
        part(path.name, content)
    links(path, content)
drawn_directories()
kernel_documents()
for name, least in {"rows": 100, "cases": 100, "files": 20, "links": 20, "targets": 15}.items():
    check(count[name] >= least, f"only {count[name]} {name} were found")
print(", ".join(f"{number} {name}" for name, number in count.items()) + " are there")
