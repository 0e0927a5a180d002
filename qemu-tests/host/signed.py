#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# shows: the digest that is pushed can be signed (skopeo with gpg, openssl), and the signatures hold of what registries
# give after pulls into an empty layout and into one that has much of it, after complete, repack, unpack, collections
# of garbage and further pushes. By that digest the image is found in each of these layouts. What cannot be made again
# repack says.

import json
import os
import subprocess
import tempfile

from case import check, equal
from registries import Registry, openssl
from registrycase import ENV, build, fresh, make_tree, puzzlefs, skopeo, sound

top = tempfile.mkdtemp()
os.chdir(top)
GPG = {**ENV, "GNUPGHOME": f"{top}/gpg"}
NAME = "signed.test/app:1"
JSON = ("--format", "json")


def run(*command, fails=False):
    done = subprocess.run(command, capture_output=True, text=True, env=GPG)
    check((done.returncode != 0) == fails, f"{' '.join(command)}: status {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def make_keys():
    os.mkdir("gpg", 0o700)
    run("gpg", "--batch", "--quiet", "--passphrase", "", "--quick-generate-key", "test", "rsa2048", "sign", "never")
    listed = run("gpg", "--batch", "--with-colons", "--list-keys")
    openssl("genpkey", "-algorithm", "ed25519", "-out", "key")
    openssl("pkey", "-in", "key", "-pubout", "-out", "public")
    return [line.split(":")[9] for line in listed.splitlines() if line.startswith("fpr:")][0]


def given(reference):
    """The manifest that a registry gives, as a file."""
    with open("manifest", "wb") as f:
        f.write(skopeo("inspect", "--tls-verify=false", "--raw", reference))
    return "manifest"


def sign(reference):
    manifest = given(reference)
    run("skopeo", "standalone-sign", "--output", "by-gpg", manifest, NAME, key)
    openssl("pkeyutl", "-sign", "-rawin", "-inkey", "key", "-in", manifest, "-out", "by-openssl")


def holds(reference, fails=False):
    """Whether both signatures are of the manifest that a registry gives."""
    manifest = given(reference)
    said = run("skopeo", "standalone-verify", manifest, NAME, key, "by-gpg", fails=fails)
    check(fails or f"sha256:{signed}" in said, said)
    run("openssl", "pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", "public", "-in", manifest, "-sigfile", "by-openssl",
        fails=fails)


def is_there(layout, what):
    """By the digest that was signed: the image is found, is sound, and goes to another repository as it came."""
    name = f"{layout}@sha256:{signed}"
    equal(puzzlefs("inspect", *JSON, name)["rootfs"], app["rootfs"], f"{what}: the Rootfs")
    puzzlefs("verify", name)
    puzzlefs("extract", name, fresh("out"))
    subprocess.run(["diff", "-r", "app", "out"], check=True)
    for number, name in enumerate((name, f"{layout}:app")):
        to = f"{host}/{layout.lower()}-{what}-{number}:1".replace(" ", "-")
        equal(puzzlefs("push", "--plain-http", *JSON, name, to)["digest"], signed, f"{what}: what was pushed")
        holds(to)


def converted(layout, *command):
    """Has all images of a layout converted; says of the one that was signed what is kept."""
    report = puzzlefs(*command, "--gc", *JSON, layout)
    found = [image for image in report["images"] if image["tags"] == ["app"]]
    return found[0]["manifest"], found[0]["origin"]


def steps(layout):
    """What a layout goes through after a pull."""
    is_there(layout, "pull")
    for command in (("repack", "--pack-size", "1M"), ("unpack",), ("repack", "--pack-size", "128K", "--max-unused", "0")):
        manifest, origin = converted(layout, *command)
        check(manifest != signed and origin["manifest"] == signed and origin["kept"], f"{command}: {origin}")
        is_there(layout, command[0])
    puzzlefs("complete", f"{layout}:app")
    equal(puzzlefs("tags", *JSON, layout)[-1]["digest"], signed, "what the tag names when it is complete")
    is_there(layout, "complete")
    converted(layout, "repack", "--pack-size", "1M", "--max-unused", "0")
    is_there(layout, "repack of all")
    puzzlefs("gc", layout)
    sound(layout, layout)


def shrunk(layout):
    """What no image uses goes by repack, which says that the manifest can be made no more."""
    build("older", f"{layout}:old")
    build("app", f"{layout}:app")
    puzzlefs("push", "--plain-http", f"{layout}:app", f"{host}/shared:1")
    sign(f"{host}/shared:1")
    first = puzzlefs("inspect", *JSON, f"{layout}:app")["manifest"]
    puzzlefs("rm", f"{layout}:old")
    text = puzzlefs("repack", "--max-unused", "0", layout)
    check(f"of       sha256:{first}" in text and "no image has" in text, text)
    # Until it is collected it can be kept, and comes back.
    puzzlefs("tag", f"{layout}@sha256:{first}", "signed")
    puzzlefs("gc", layout)
    puzzlefs("push", "--plain-http", f"{layout}:signed", f"{host}/kept:1")
    skopeo("copy", "--src-tls-verify=false", f"{host}/kept:1", "oci:K:1")
    puzzlefs("verify", "K:1")
    report = puzzlefs("push", "--plain-http", *JSON, f"{layout}:app", f"{host}/smaller:1")
    check(report["digest"] != first, "the smaller image has the same digest")
    return first


make_tree("older", 1)
make_tree("app", 1)
for number in range(0, 60, 7):
    with open(f"app/file-{number:03}", "wb") as f:
        f.write(os.urandom(40_000))
key = make_keys()
app = build("app", "A:app")
signed = app["manifest"]
build("older", "N:old")
with Registry(top) as registry:
    host = f"docker://{registry.host}"
    for layout, tag in ("A", "app"), ("N", "old"):
        puzzlefs("push", "--plain-http", f"{layout}:{tag}", f"{host}/{tag}:1")
    sign(f"{host}/app:1")
    holds(f"{host}/app:1")
    holds(f"{host}/old:1", fails=True)
    for layout in "N", "E":
        report = puzzlefs("pull", "--plain-http", *JSON, f"{host}/app@sha256:{signed}", f"{layout}:app")
        equal((report["manifest"], report["complete"]), (signed, layout == "E"), f"{layout}: what was pulled")
        steps(layout)
    signed = shrunk("S")
    holds(f"{host}/kept:1")
    holds(f"{host}/smaller:1", fails=True)
print("signatures by gpg and openssl hold after pull, complete, repack, unpack and push")
