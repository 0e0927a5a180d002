#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# shows: sentences of docs/*.md, of the README and of `--help` that no other test shows, each with what shows it.

import base64
import contextlib
import json
import os
import pathlib
import re
import resource
import ssl
import subprocess

import badproxy
from case import check, equal
from claims import COMMAND, TOP, claims_of, content, manifest, report, run, show, tree, two_versions
from documents import examples, help_of
from registries import PASSWORD, Authority, Registry, bcrypt

ANNOTATION = "io.puzzlefsoci.puzzlefs.fs_verity"


class Help:
    """What `puzzlefs NAME --help` says, as a document."""

    def __init__(self, name):
        self.name = f"puzzlefs {name} --help"
        self.text = re.sub(r"\s+", " ", help_of(name))

    def read_text(self):
        return self.text


readme, status, mounting, registry = (claims_of(TOP / name) for name in ("README.md", "docs/status.md", "docs/mounting.md",
                                                                          "docs/registry.md"))
build, du, cat, helper = (claims_of(Help(name)) for name in ("build", "du", "cat", "mount.puzzlefs"))


def fails(*command, status, words, **options):
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
    check(done.returncode == status and words in done.stderr, f"{command}: status {done.returncode}: {done.stderr}")
    return done.stdout


@readme("cached outside the checkout (`PUZZLEFS_CACHE`, by\ndefault `~/.cache/puzzlefs`)")
def where_the_cache_is(base):
    for env, wanted in ({"HOME": base}, base / ".cache/puzzlefs"), ({"HOME": base, "PUZZLEFS_CACHE": base / "x"}, base / "x"):
        env = {"PATH": os.environ["PATH"], "PUZZLEFS_TOP": str(TOP), **{key: str(value) for key, value in env.items()}}
        equal(run("sh", "-c", f'. {TOP}/scripts/lib.sh; echo "$CACHE"', env=env).strip(), str(wanted), "the cache")


@status("An image cannot have more than some 26,000 chunks with `--layout loose`, upstream's form: every chunk is a blob then, and\n"
        "  no larger manifest fits registries.")
def chunks_of_a_manifest(base):
    files = tree(base / "files", {str(number): content(number, 9000 + number) for number in range(200)})
    run("puzzlefs", "build", "--layout", "loose", "--chunk-size", "4K", files, f"{base}/layout:it")
    found, digest = manifest(base / "layout", "it")
    entries = found["layers"][1:]
    text = (base / "layout/blobs/sha256" / digest).read_text()
    check(len(entries) > 200 and "\n" not in text, f"{len(entries)} chunks")
    # The two ends of the list are not of the chunks.
    each = len(json.dumps(entries, separators=(",", ":"))) / len(entries)
    check(25_500 < (4 << 20) / each < 26_500, f"{(4 << 20) / each} chunks have place in a manifest")


@mounting("`make install` puts `puzzlefs` into `/usr/local/bin`, the module where modprobe finds it, and\n"
          "`mount.puzzlefs` into `/sbin`")
def what_is_installed(base):
    run("make", "-C", TOP, "install", f"DESTDIR={base}")
    equal(os.readlink(base / "sbin/mount.puzzlefs"), "/usr/local/bin/puzzlefs", "where mount.puzzlefs leads")
    check(os.access(base / "usr/local/bin/puzzlefs", os.X_OK), "puzzlefs cannot be run")
    release, = (base / "lib/modules").iterdir()
    run("depmod", "-b", base, release.name)
    found = run("sh", "-c", f"modprobe -d {base} -S {release.name} --show-depends puzzlefs")
    check(found.strip().endswith("updates/puzzlefs.ko"), found)
    check((base / "usr/local/share/man/man8/mount.puzzlefs.8").exists(), "there is no manual page")
    for command in "daemon", "snapshotter":
        unit = base / f"usr/local/lib/systemd/system/puzzlefs-{command}.service"
        check(f"ExecStart=/usr/local/bin/puzzlefs {command} " in unit.read_text(), unit.read_text())


@mounting("(`puzzlefs inspect` says it, and `skopeo inspect --raw oci:LAYOUT:TAG | sha256sum`)")
def who_says_the_digest(base):
    layout, _ = two_versions(base)
    said = run("bash", "-euo", "pipefail", "-c", f"skopeo inspect --raw oci:{layout}:v1 | sha256sum").split()[0]
    check(f"sha256:{said}\n" in run("puzzlefs", "inspect", f"{layout}:v1"), said)


@mounting("Images that were built before manifests said so get it by `puzzlefs repack`.")
def old_images_get_annotations(base):
    layout, _ = two_versions(base)
    found, digest = manifest(layout, "v1")
    text = re.sub(rf',"annotations":\{{"{re.escape(ANNOTATION)}":"[0-9a-f]*"\}}', "", (layout / "blobs/sha256" / digest).read_text())
    check(ANNOTATION not in text and text != json.dumps(found), "the annotations are still there")
    old = run("sha256sum", input=text).split()[0]
    (layout / "blobs/sha256" / old).write_text(text)
    index = (layout / "index.json").read_text()
    size = re.search(r'"size":(\d+)', index)[1]
    (layout / "index.json").write_text(index.replace(digest, old).replace(f'"size":{size}', f'"size":{len(text)}'))
    check(not any("annotations" in layer for layer in manifest(layout, "v1")[0]["layers"]), "it says so already")
    run("puzzlefs", "repack", layout)
    packs = [layer for layer in manifest(layout, "v1")[0]["layers"] if layer["mediaType"].endswith(".pack.v1")]
    check(packs and all(ANNOTATION in layer.get("annotations", {}) for layer in packs), f"{packs}")


@build("To build it takes 10 to 30 times as long as balanced.")
@build("To build it takes less time than gzip")
@build("To build it takes about twice as long as balanced")
def prices(base):
    (base / "tree").mkdir()
    run("cp", "-a", "/usr/share/perl", "/usr/bin/bash", "/usr/bin/openssl", base / "tree")

    def processor_time(*command):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        run(*command)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    took = {profile: processor_time("puzzlefs", "build", "--no-cache", "--threads", "1", "--profile", profile, base / "tree",
                                    f"{base}/{profile}:it") for profile in ("balanced", "small", "fast")}
    took["gzip"] = processor_time("sh", "-c", f"tar -C {base} -c tree | gzip | wc -c")
    print({name: round(seconds, 2) for name, seconds in took.items()})
    check(10 < took["small"] / took["balanced"] < 30, "the price of small is another")
    check(1.4 < took["fast"] / took["balanced"] < 3, "the price of fast is another")
    check(took["balanced"] < took["gzip"], "balanced takes more than gzip")


@build("Record no time later than this, in seconds since the epoch, and this as that of the image")
def times_of_an_image(base):
    files = tree(base / "files", {"new": b"x"})
    run("puzzlefs", "build", "--clamp-mtime", "1000000000", files, f"{base}/layout:it")
    equal(manifest(base / "layout", "it")[0]["annotations"]["org.opencontainers.image.created"], "2001-09-09T01:46:40Z",
          "the time of the image")


@du("OWN is what only this image uses: what would go with it, after `puzzlefs repack --gc`.")
def what_would_go(base):
    layout, new = two_versions(base)
    run("puzzlefs", "build", new, f"{layout}:v2")
    run("puzzlefs", "repack", "--max-unused", "0", "--gc", layout)
    before = {image["tags"][0]: image for image in report("du", "--format", "json", layout)["images"]}
    size = sum(path.stat().st_size for path in (layout / "blobs/sha256").iterdir())
    run("puzzlefs", "rm", f"{layout}:v1")
    run("puzzlefs", "repack", "--max-unused", "0", "--gc", layout)
    gone = size - sum(path.stat().st_size for path in (layout / "blobs/sha256").iterdir())
    own = before["v1"]["own"]["bytes"]
    # Its manifest and Rootfs go, too.
    check(own > 100_000 and own <= gone < own + 10_000, f"{gone} bytes went, of {own} of its own")


@cat("All of what is printed was verified before.")
def nothing_damaged_is_printed(base):
    layout, _ = two_versions(base)
    whole = run("puzzlefs", "cat", f"{layout}:v1", "/common")
    pack = max((layout / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    data = bytearray(pack.read_bytes())
    data[len(data) // 2] ^= 1
    pack.write_bytes(data)
    said = fails(COMMAND, "cat", f"{layout}:v1", "/common", status=3, words="sha256:")
    check(whole.startswith(said) and len(said) < len(whole), "what is damaged was printed")


@helper("Not supported: nsenter(1) runs mount(8) in another namespace")
def another_namespace(base):
    layout, _ = two_versions(base)
    fails(TOP / "build/mount.puzzlefs", f"{layout}:v1", "/mnt", "-N", "/proc/1/ns/mnt", status=32, words="nsenter")


@registry("the system's bundle, or `$SSL_CERT_FILE`; and `*.crt` in `--cert-dir`, or in the first of "
          "`~/.config/containers/certs.d/HOST`, `/etc/containers/certs.d/HOST`, `/etc/docker/certs.d/HOST`")
@registry("`registries.conf`, version 2, and `registries.conf.d`: `$CONTAINERS_REGISTRIES_CONF`, `~/.config/containers`, `/etc/containers`")
def where_authorities_and_mirrors_are(base):
    layout, _ = two_versions(base)
    authority = Authority(str(base / "authority"))
    certificate, key = authority.sign("server")
    with Registry(str(base), {"http": {"tls": {"certificate": certificate, "key": key}}}) as server:
        def push(name, status=0, **more):
            env = {"PATH": os.environ["PATH"], "HOME": str(base), **more}
            run("puzzlefs", "push", "--retry-times", "0", f"{layout}:v1", f"docker://{name}/app:1", env=env, status=status)

        def at(path, text):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            yield
            path.unlink()
            with contextlib.suppress(OSError):  # others are in it
                path.parent.rmdir()
        push(server.host, status=1)
        push(server.host, SSL_CERT_FILE=authority.certificate)
        text = pathlib.Path(authority.certificate).read_text()
        for place in base / ".config/containers/certs.d", pathlib.Path("/etc/containers/certs.d"):
            for _ in at(place / server.host / "own.crt", text):
                push(server.host)
        push(server.host, status=1)
        conf = f'[[registry]]\nprefix = "registry.test"\nlocation = "{server.host}"\n'
        for place in base / ".config", pathlib.Path("/etc"):
            for name in "registries.conf", "registries.conf.d/own.conf":
                for _ in at(place / "containers" / name, conf):
                    push("registry.test", SSL_CERT_FILE=authority.certificate)
        push("registry.test", status=1, SSL_CERT_FILE=authority.certificate)


@registry("`$XDG_CONFIG_HOME/containers/auth.json` or `~/.config/containers/auth.json`")
def credentials_of_a_home(base):
    layout, _ = two_versions(base)
    (base / "htpasswd").write_text(f"user:{bcrypt(PASSWORD)}\n")
    known = base64.b64encode(f"user:{PASSWORD}".encode()).decode()
    with Registry(str(base), {"auth": {"htpasswd": {"realm": "test", "path": f"{base}/htpasswd"}}}) as server:
        def push(status, home):
            env = {"PATH": os.environ["PATH"], "HOME": str(base), "XDG_CONFIG_HOME": str(base / home)}
            run("puzzlefs", "push", "--plain-http", f"{layout}:v1", f"docker://{server.host}/app:1", env=env, status=status)
        (base / "config/containers").mkdir(parents=True)
        (base / "config/containers/auth.json").write_text(json.dumps({"auths": {server.host: {"auth": known}}}))
        push(5, "none")
        push(0, "config")


def pushed(base, server):
    layout, _ = two_versions(base)
    run("puzzlefs", "push", "--plain-http", f"{layout}:v1", f"docker://{server.host}/app:1")
    return badproxy.Proxy(server.host)


@registry("`--retry-times` times (5)")
def how_often_it_is_tried(base):
    base.joinpath("tree").mkdir()
    run("puzzlefs", "build", base / "tree", f"{base}/layout:v1")
    with Registry(str(base)) as server:
        run("puzzlefs", "push", "--plain-http", f"{base}/layout:v1", f"docker://{server.host}/app:1")
        proxy = badproxy.Proxy(server.host)
        for times, status in (5, 0), (6, 1):
            proxy.reset(badproxy.status_first(503, {"Retry-After": "0"}, times, lambda request: request.is_manifest()))
            run("puzzlefs", "pull", "--plain-http", f"docker://{proxy.host}/app:1", f"{base}/pulled-{times}:1", status=status)


@registry("and the answers 408, 429, 500, 502, 503, 504. A\nRetry-After")
def answers_that_pass(base):
    with Registry(str(base)) as server:
        proxy = pushed(base, server)
        for code, status in (408, 0), (429, 0), (500, 0), (502, 0), (503, 0), (504, 0), (404, 4), (501, 1):
            proxy.reset(badproxy.status_first(code, wanted=lambda request: request.is_manifest()))
            run("puzzlefs", "pull", "--plain-http", f"docker://{proxy.host}/app:1", f"{base}/pulled-{code}:1", status=status)


@registry("Redirects are followed five times, never from https to http")
def redirects(base):
    with Registry(str(base)) as server:
        proxy = pushed(base, server)
        for hops, status in (5, 0), (6, 5):
            def mode(request, hops=hops):
                path, _, found = request.path.partition("?")
                if not request.is_blob() or int(found or 0) == hops:
                    return False
                return request.answer(307, {"Location": f"{path}?{int(found or 0) + 1}"})
            proxy.reset(mode)
            run("puzzlefs", "pull", "--plain-http", f"docker://{proxy.host}/app:1", f"{base}/pulled-{hops}:1", status=status)
        authority = Authority(str(base / "authority"))
        secure = badproxy.Proxy(server.host)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*authority.sign("server"))
        secure.server.socket = context.wrap_socket(secure.server.socket, server_side=True)
        env = {"PATH": os.environ["PATH"], "HOME": str(base), "SSL_CERT_FILE": authority.certificate}
        command = COMMAND, "pull", f"docker://{secure.host}/app:1"
        run(*command, f"{base}/secure:1", env=env)
        secure.reset(lambda request: request.is_blob() and request.answer(307, {"Location": f"http://{server.host}{request.path}"}))
        fails(*command, f"{base}/other:1", status=5, words="leads from https to plain http", env=env)


def environment():
    """Each variable that the command looks at is in its manual page, and in that of no other."""
    source = "".join(path.read_text() for path in (TOP / "userspace-builder/puzzlefs/src").rglob("*.rs"))
    names = set(re.findall(r'\b(?:var|var_os|path)\(\s*"([A-Z_]+)"\s*\)', source)) - {"HOME"}
    names |= set(re.findall(r'SECONDS: &str = "([A-Z_]+)"', source))
    check(len(names) >= 8, f"only {names} were found")
    base = pathlib.Path("/tmp/pages")
    run("puzzlefs", "man", base)
    page = (base / "man1/puzzlefs.1").read_text().split("ENVIRONMENT")[1].replace("\\", "")
    equal(sorted(name for name in names if f"fB{name}" not in page), [], "variables that no manual page has")
    # Those of registries are in the page of each command that has options for them.
    for name, _ in examples():
        if name and "." not in name:
            pages = (base / f"man1/puzzlefs-{name}.1").read_text().replace("\\", "")
            has_options, has_variables = "--authfile" in pages, "REGISTRY_AUTH_FILE" in pages.split("ENVIRONMENT")[-1]
            equal(has_variables, has_options, f"variables of registries in the page of {name}")
    print(f"{len(names)} variables are in the manual pages")


os.unshare(os.CLONE_NEWNS)
subprocess.run(["mount", "--make-rprivate", "/"], check=True)
os.makedirs("/etc/containers", exist_ok=True)
subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/etc/containers"], check=True)
environment()
print(f"{show()} sentences hold")
