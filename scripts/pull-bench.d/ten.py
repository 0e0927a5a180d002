# SPDX-License-Identifier: GPL-2.0
"""Ten images whose bases are of different dates: what all of them take in a registry."""

import os
import shutil
import subprocess

import layers
from images import say
from registries import Registry

TITLE = "ten images, each on a base of another date"
# Bases as one releases them again and again: Debian with a framework, before and after an update of Debian.
BASES = ["old", *(f"old-django-{v}" for v in ("5.2", "5.2.1", "5.2.2", "5.2.3")),
         "new", *(f"new-django-{v}" for v in ("5.2.3", "5.2.4", "5.2.5", "5.2.6"))]
APPLICATIONS = ["git", "nginx", "nodejs", "postgresql-client"]
IMAGES = [(f"{number}-{APPLICATIONS[number % 4]}", base, APPLICATIONS[number % 4]) for number, base in enumerate(BASES)]


def run(*command):
    subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL)


def by_skopeo(host, ordinary, _place):
    for tag, _, _ in IMAGES:
        run("skopeo", "copy", "-q", "--dest-tls-verify=false", f"oci:{ordinary}:{tag}", f"docker://{host}/ten:{tag}")


def ours(host, ordinary, place):
    """All are converted in one layout, one after the other, and pushed from there."""
    command = f"{os.environ['PUZZLEFS_TOP']}/build/puzzlefs"
    for tag, _, _ in IMAGES:
        run(command, "convert", "--no-cache", f"oci:{ordinary}:{tag}", f"{place}/ours:{tag}")
        run(command, "push", "--quiet", "--plain-http", f"{place}/ours:{tag}", f"docker://{host}/ten:{tag}")


def stored(data):
    """Bytes of the blobs of a registry."""
    found = 0
    for parent, _, names in os.walk(f"{data}/docker/registry/v2/blobs"):
        found += sum(os.path.getsize(os.path.join(parent, name)) for name in names if name == "data")
    return found


def made(trees, place):
    """The ordinary images, which are kept beside the trees."""
    layout = trees / "ten-images"
    if not layout.exists():
        layers.dated(trees, IMAGES, f"{place}/ordinary", place)
        shutil.move(f"{place}/ordinary", layout)
    return layout


def measure(trees, place):
    say(f"{TITLE}: images")
    ordinary, found = made(trees, place), {}
    for name, push in ("layers, gzip (skopeo)", by_skopeo), ("puzzlefs", ours):
        say(f"{TITLE}: {name}")
        with Registry(place) as registry:
            push(registry.host, ordinary, place)
            found[name] = {"stored": stored(registry.data)}
    return found


def table(measured):
    peer = measured["layers, gzip (skopeo)"]["stored"]
    lines = [f"**{TITLE[0].upper()}{TITLE[1:]}** ({', '.join(f'{base} with {name}' for _, base, name in IMAGES)})", "",
             "| | in the registry, MB | of gzip layers |", "|---|---:|---:|"]
    for name, found in measured.items():
        lines.append(f"| {name} | {found['stored'] / 1e6:.1f} | {found['stored'] / peer:.2f} |")
    return "\n".join(lines) + "\n"
