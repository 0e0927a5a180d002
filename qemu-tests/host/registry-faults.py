#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# shows: what a bad network or a server that lies does to push, pull and convert: the right result, or an error that says
# what is wrong and leaves the layout and the registry as they were, with no blob that is not what its name says.

import json
import os
import subprocess
import sys
import tempfile
import time

import badproxy as bad
from case import check, equal
from registries import Registry
from registrycase import ENV, PUZZLEFS, build, fresh, make_ordinary, make_tree, puzzlefs, skopeo, sound

top = tempfile.mkdtemp()
os.chdir(top)
make_tree("tree")
image = build("tree", "L:app")
manifest = image["manifest"]
make_ordinary("tree", "O")
rootfs = puzzlefs("convert", "--no-cache", "--format", "json", "oci:O:1", "C:1")["rootfs"]
FAST = ("--plain-http", "--retry-times", "3")

registry = Registry(top).__enter__()
proxy, other = bad.Proxy(registry.host), bad.Proxy(registry.host)
other.mode = bad.signed_only
direct, through = f"docker://{registry.host}", f"docker://{proxy.host}"
puzzlefs("push", "--plain-http", "L:app", f"{direct}/app:1")
skopeo("copy", "--dest-tls-verify=false", "oci:O:1", f"{direct}/ordinary:1")


def reads(what, mode):
    """Pulls and converts through the proxy, which spoils that in the way of `mode`; gives the seconds."""
    start = time.monotonic()
    proxy.reset(mode)
    report = puzzlefs("pull", *FAST, "--format", "json", f"{through}/app:1", f"{fresh('P')}:1")
    equal(report["manifest"], manifest, f"{what}: what was pulled")
    puzzlefs("verify", "P:1")
    sound("P", what)
    proxy.reset(mode)
    report = puzzlefs("convert", "--no-cache", *FAST, "--format", "json", f"{through}/ordinary:1", f"{fresh('V')}:1")
    equal(report["rootfs"], rootfs, f"{what}: what was converted")
    print(f"{what}: {time.monotonic() - start:.1f} s", flush=True)
    return time.monotonic() - start


def refuses(what, mode, fails, word, ordinary=None):
    """Both fail, with that status, and say that word."""
    for command, name, status in ("pull", "app", fails), ("convert", "ordinary", ordinary or fails):
        layout = fresh("P")
        proxy.reset(mode)
        options = ("--no-cache",) if command == "convert" else ()
        text = puzzlefs(command, *options, *FAST, f"{through}/{name}:1", f"{layout}:1", fails=status)
        check(word in text and "\x1b" not in text, f"{what}: {text}")
        sound(layout, what)
        if os.path.exists(f"{layout}/index.json"):
            equal(json.load(open(f"{layout}/index.json"))["manifests"], [], f"{what}: the layout's images")
    print(f"{what}: {text.strip()[:150]}", flush=True)


def writes(what, mode):
    """Pushes through the proxy, to a repository that is new."""
    proxy.reset(mode)
    to = f"new-{len(os.listdir(registry.data + '/docker/registry/v2/repositories'))}:1"
    # Without blobs that it has: else nothing would go.
    build(make_other(), f"{fresh('W')}:1")
    report = puzzlefs("push", *FAST, "--format", "json", "W:1", f"{through}/{to}")
    check(report["sent"]["blobs"] > 2, report)
    proxy.reset()
    puzzlefs("pull", *FAST, f"{direct}/{to}", f"{fresh('P')}:1")
    puzzlefs("verify", "P:1")
    sound("P", what)
    print(f"{what}: pushed", flush=True)


number = 1


def make_other():
    global number
    number += 1
    make_tree(f"tree-{number}", number, 20)
    return f"tree-{number}"


def passing():
    for after in 0, 0.3, 0.999:
        reads(f"cut after {after} of a blob", bad.cut_blobs(after))
    reads("cut, and no ranges", bad.cut_blobs(0.5, ["range"]))
    reads("no ranges", bad.no_ranges)
    for code in 400, 416, 501:
        reads(f"{code} for a range", bad.refuses_ranges(code))
    for code in 500, 502, 503, 504:
        reads(f"{code} once", bad.status_first(code))
    took = reads("429 with a pause", bad.status_first(429, {"Retry-After": "2"}, wanted=lambda request: request.is_manifest()))
    check(took >= 4, f"Retry-After was not obeyed: {took} s")


def lasting():
    refuses("500 for ever", bad.status_first(500, times=99), "trouble", "given up after 4 tries")
    refuses("a pause of a day", bad.status_first(429, {"Retry-After": "86400"}, 99), "trouble", "86400 s")
    refuses("403", bad.status_first(403, times=99), "refused", "403")
    refuses("cut for ever", lambda request: request.is_blob() and request.cut(), "trouble", "given up after 4 tries")
    refuses("a byte is another one", bad.changed(1), "damaged", "sha256:")
    refuses("a byte of something large is another one", bad.changed(10_000), "damaged", "sha256:")
    for by in -10, 10:
        refuses(f"{by} bytes more than said", bad.wrong_length(by), "damaged", "")
    refuses("another manifest", bad.other_manifest, "damaged", "has the digest")
    refuses("a manifest of 64 MiB", bad.large_manifest, "damaged", "more than")
    refuses("redirects without end", bad.round_and_round, "refused", "leads on and on")


def ranges():
    """What a server says of a range is held against what was asked for."""
    for what, mode in ("another range", bad.other_range), ("no end", bad.endless):
        layout = fresh("P")
        proxy.reset(mode)
        done = subprocess.run([PUZZLEFS, "pull", *FAST, f"{through}/app:1", f"{layout}:1"], capture_output=True,
                              text=True, env=ENV, timeout=120)
        sound(layout, what)
        if done.returncode == 0:
            puzzlefs("verify", f"{layout}:1")
        check(done.returncode in (0, 3), f"{what}: {done.returncode} {done.stderr}")
        check(mode is bad.endless or "was asked for its bytes" in done.stderr, f"{what}: {done.stderr}")
        print(f"{what}: {done.stderr.strip()[:150] or 'right'}")


def redirects():
    for uses in 10 ** 9, 1:
        with other.lock:
            other.seen.clear()
        reads(f"elsewhere, {uses} uses of an address", bad.elsewhere(other, uses))
        equal(other.seen["credentials"], 0, "credentials for another host")
        asked = sum(request[1].startswith("/v2/") and "/blobs/" in request[1] for request in other.log)
        check(asked > 0, "nobody came to the other host")
        print(f"  {other.seen['signed']} addresses for {asked} requests")


def uploads():
    writes("an upload that is cut", bad.upload_cut)
    writes("an answer that is lost", bad.upload_answer_lost)
    unknown = b'{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}'
    writes("an upload that is forgotten", bad.upload_refused(404, unknown))
    writes("429", bad.status_first(429, {"Retry-After": "1"}, wanted=lambda request: request.method == "POST"))
    writes("503 once for each look", bad.status_first(503, wanted=lambda request: request.method == "HEAD"))
    writes("503 for uploads", bad.upload_refused(503))
    build(make_other(), f"{fresh('W')}:1")
    proxy.reset(lambda request: request.is_upload() and request.body() is not None and request.cut())
    puzzlefs("push", *FAST, "W:1", f"{through}/never:1", fails="trouble")
    check(not os.path.exists(f"{registry.data}/docker/registry/v2/repositories/never/_manifests/tags"), "a tag is there")
    print("an upload that never gets through: the tag is not there")


for part in passing, lasting, ranges, redirects, uploads:
    if not sys.argv[1:] or part.__name__ in sys.argv[1:]:
        part()
registry.__exit__()
