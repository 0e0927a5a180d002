#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# shows: push, pull and convert speak with Debian's docker-registry: over http only if asked, over TLS with a private
# authority and a client's certificate, with a password from files and helpers, with tokens that end soon. What skopeo
# copies out is what went in. One tag names an ordinary image for others, and ours for us.

import base64
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time

import badproxy as bad
from case import check, equal
from registries import PASSWORD, Authority, Registry, Tokens, bcrypt
from registrycase import ENV, PUZZLEFS, build, fresh, make_ordinary, make_tree, puzzlefs, skopeo, sound

top = tempfile.mkdtemp()
os.chdir(top)
make_tree("tree")
image = build("tree", "L:app")
manifest = image["manifest"]
make_ordinary("tree", "O")
converted = puzzlefs("convert", "--no-cache", "--format", "json", "oci:O:1", "C:1")
blobs = len(json.load(open(f"L/blobs/sha256/{manifest}"))["layers"]) + 1
HTTP = ("--plain-http", "--format", "json")


def push(to, *options, image="L:app", **more):
    return puzzlefs("push", *options, image, to, **more)


def counts(report):
    return tuple(report[key]["blobs"] for key in ("sent", "mounted", "there"))


def plain():
    with Registry(top) as registry:
        repository = f"docker://{registry.host}/a/app"
        text = push(f"{repository}:1", fails="trouble")
        check("--plain-http" in text and "tries" not in text, text)
        text = push("docker://no-such-host.invalid/a:1", fails="trouble")
        check("no-such-host.invalid" in text and "tries" not in text, text)
        report = push(f"{repository}:1", *HTTP)
        equal((report["digest"], counts(report)), (manifest, (blobs, 0, 0)), "the first push")
        report = push(f"{repository}:1", *HTTP)
        equal((counts(report), report["was_there"]), ((0, 0, blobs), True), "the second push")
        report = push(f"docker://{registry.host}/b:1", "--mount-from", repository, *HTTP)
        equal(counts(report), (0, blobs, 0), "a push beside it")
        skopeo("copy", "--src-tls-verify=false", f"{repository}:1", "oci:S:1")
        puzzlefs("verify", "S:1")
        equal(puzzlefs("inspect", "--format", "json", "S:1")["manifest"], manifest, "what skopeo copied")
        report = puzzlefs("pull", *HTTP, f"{repository}@sha256:{manifest}", "P:1")
        equal(report["manifest"], manifest, "what was pulled")
        puzzlefs("verify", "P:1")
        text = puzzlefs("pull", "--plain-http", f"{repository}@sha256:{'0' * 64}", "Q:1", fails="not found")
        check(not os.path.exists("Q"), "a layout was made for nothing")
        text = puzzlefs("pull", "--plain-http", f"{repository}:none", "Q:1", fails="not found")
        check("MANIFEST_UNKNOWN" in text, text)
        os.rename("L/blobs/sha256", "L/blobs/moved")
        push(f"{repository}:2", "--plain-http", fails="not found")
        os.rename("L/blobs/moved", "L/blobs/sha256")
        print("http:", blobs, "blobs were sent, found again, and mounted")


def damaged():
    """A blob that is not what its name says never gets there, nor does the tag."""
    subprocess.run(["cp", "-r", "L", "D"], check=True)
    layer = json.load(open(f"D/blobs/sha256/{manifest}"))["layers"][1]["digest"].split(":")[1]
    with open(f"D/blobs/sha256/{layer}", "r+b") as f:
        f.write(b"\xff" * 8)
    with Registry(top) as registry:
        text = push(f"docker://{registry.host}/app:1", "--plain-http", image="D:app", fails="damaged")
        check(layer in text, text)
        found = [name for _, names, _ in os.walk(f"{registry.data}/docker/registry/v2/blobs") for name in names]
        check(layer not in found, "the registry has a damaged blob")
        check(not os.path.exists(f"{registry.data}/docker/registry/v2/repositories/app/_manifests/tags"), "a tag is there")
        os.truncate(f"D/blobs/sha256/{layer}", 1000)
        text = push(f"docker://{registry.host}/app:1", "--plain-http", image="D:app", fails="damaged")
        check("1000 bytes" in text, text)


def ordinary():
    with Registry(top) as registry:
        at = f"docker://{registry.host}"
        skopeo("copy", "--dest-tls-verify=false", "oci:O:1", f"{at}/ordinary:1")
        report = puzzlefs("convert", "--no-cache", *HTTP, f"{at}/ordinary:1", "C:remote")
        equal(report["rootfs"], converted["rootfs"], "what was converted from the registry")
        ours = puzzlefs("inspect", "--format", "json", "C:1")["manifest"]
        for source, mounted in (("oci:O:1", 0), (f"{at}/ordinary:1", 2)):
            to = f"{at}/both-{mounted}:1"
            report = push(to, "--with", source, *HTTP, image="C:1")
            equal((report["manifest"], report["mounted"]["blobs"]), (ours, mounted), "beside an ordinary image")
            index = json.loads(skopeo("inspect", "--tls-verify=false", "--raw", to))
            platforms = [entry["platform"] for entry in index["manifests"]]
            equal(platforms[1], {**platforms[0], "os.features": ["puzzlefs"]}, "the second platform")
            skopeo("copy", "--src-tls-verify=false", to, f"oci:{fresh('T')}:1")
            entry, wanted = (json.load(open(f"{layout}/index.json"))["manifests"][0]["digest"] for layout in "TO")
            equal(entry, wanted, "what skopeo takes of the two")
            report = puzzlefs("pull", *HTTP, to, f"{fresh('U')}:1")
            equal(report["manifest"], ours, "what pull takes of the two")
            again = push(to, "--with", source, *HTTP, image="C:1")
            check(again["was_there"] and again["sent"]["blobs"] == 0, again)
            report = puzzlefs("convert", "--no-cache", *HTTP, to, "C:again")
            equal(report["rootfs"], converted["rootfs"], "what convert takes of the two")
        push(f"{at}/x:1", "--plain-http", "--with", "oci:L:app", fails="refused")
        print("one tag for both: others take the ordinary image, and we ours")


def tls():
    authority = Authority(f"{top}/authority")
    certificate, key = authority.sign("server")
    client = authority.sign("client")
    config = {"http": {"tls": {"certificate": certificate, "key": key}}}
    os.makedirs("certs")
    subprocess.run(["cp", authority.certificate, "certs/ca.crt"], check=True)
    with Registry(top, config) as registry:
        to = f"docker://{registry.host}/app:1"
        text = push(to, fails="trouble")
        check("certificate" in text and "certs.d" in text and "tries" not in text, text)
        push(to, "--tls-verify=false")
        push(to, "--cert-dir", "certs")
        push(to, "--plain-http", "--retry-times", "0", fails="trouble")
        tunnel = bad.Tunnel(registry.port)
        push("docker://unknown.test:5000/app:1", "--cert-dir", "certs", env={"https_proxy": tunnel.address})
        equal(set(tunnel.asked), {"unknown.test:5000"}, "what the proxy was asked for")
        tunnel = bad.Tunnel(registry.port)
        text = push("docker://other.test:5000/app:1", "--cert-dir", "certs", env={"https_proxy": tunnel.address},
                    fails="trouble")
        check("certificate" in text, text)
        # As podman and docker look for them; /etc of this test is its own.
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/etc/docker"], check=True)
        for directory in f"{top}/.config/containers/certs.d", "/etc/docker/certs.d":
            at = f"{directory}/{registry.host}"
            os.makedirs(at)
            subprocess.run(["cp", authority.certificate, f"{at}/own.crt"], check=True)
            push(to, env={"HOME": top})
            puzzlefs("pull", to, f"{fresh('P')}:1", env={"HOME": top})
            os.remove(f"{at}/own.crt")
            os.rmdir(at)
    config["http"]["tls"]["clientcas"] = [authority.certificate]
    with Registry(top, config) as registry:
        to = f"docker://{registry.host}/app:1"
        push(to, "--cert-dir", "certs", "--retry-times", "0", fails="trouble")
        subprocess.run(["cp", client[0], "certs/me.cert"], check=True)
        subprocess.run(["cp", key, "certs/me.key"], check=True)
        text = push(to, "--cert-dir", "certs", fails="trouble")
        check("another one's" in text, text)
        subprocess.run(["cp", client[1], "certs/me.key"], check=True)
        push(to, "--cert-dir", "certs")
        os.remove("certs/me.key")
        push(to, "--cert-dir", "certs", fails="not found")
    print("TLS: by a private authority, and with a client's certificate")


def login(host, path, **auth):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    auth = auth or {"auth": base64.b64encode(f"user:{PASSWORD}".encode()).decode()}
    with open(path, "w") as f:
        json.dump({"auths": {host: auth}}, f)


def password():
    with open("htpasswd", "w") as f:
        f.write(f"user:{bcrypt(PASSWORD)}\n")
    with Registry(top, {"auth": {"htpasswd": {"realm": "test", "path": f"{top}/htpasswd"}}}) as registry:
        to = f"docker://{registry.host}/app:1"
        text = push(to, "--plain-http", fails="refused")
        check("log in" in text, text)
        login(registry.host, f"{top}/auth.json")
        push(to, "--plain-http", "--authfile", "auth.json")
        for env, path in (({"HOME": "home"}, "home/.docker/config.json"),
                          ({"HOME": "home2"}, "home2/.config/containers/auth.json"),
                          ({"XDG_RUNTIME_DIR": "run"}, "run/containers/auth.json"),
                          ({"DOCKER_CONFIG": "docker"}, "docker/config.json"),
                          ({"REGISTRY_AUTH_FILE": "own.json"}, "./own.json")):
            login(registry.host, path)
            puzzlefs("pull", "--plain-http", to, f"{fresh('P')}:1", env=env)
        login(registry.host, "./wrong.json", auth=base64.b64encode(b"user:secret").decode())
        text = push(to, "--plain-http", "--authfile", "wrong.json", fails="refused")
        check("secret" not in text and "user" in text, text)
        with open("docker-credential-test", "w") as f:
            f.write('#!/bin/sh\nread -r server\n[ "$1 $server" = "get ' + registry.host + '" ] || exit 1\n'
                    f'echo \'{{"ServerURL":"x","Username":"user","Secret":"{PASSWORD}"}}\'\n')
        os.chmod("docker-credential-test", 0o755)
        env = {"PATH": f"{top}:{os.environ['PATH']}"}
        for config in {"credHelpers": {registry.host: "test"}}, {"credsStore": "test"}:
            with open("helper.json", "w") as f:
                json.dump(config, f)
            push(to, "--plain-http", "--authfile", "helper.json", env=env)
        with open("helper.json", "w") as f:
            json.dump({"credsStore": "none"}, f)
        text = push(to, "--plain-http", "--authfile", "helper.json", fails="not found")
        check("docker-credential-none" in text, text)
        push(to, "--plain-http", "--authfile", "missing.json", fails="not found")
        others(registry)
    print("passwords: from five files and two kinds of helpers")


def others(registry):
    """Redirects to another server, which gets no credentials, and has them from nobody."""
    with Registry(top, data=registry.data) as open_to_all:
        other, proxy = bad.Proxy(open_to_all.host), bad.Proxy(registry.host)
        login(proxy.host, f"{top}/proxy.json")
        options = ("--plain-http", "--authfile", "proxy.json")
        other.reset(bad.signed_only)
        for uses in 10 ** 9, 1:
            proxy.reset(bad.elsewhere(other, uses))
            puzzlefs("pull", *options, f"docker://{proxy.host}/app:1", f"{fresh('P')}:1")
            puzzlefs("verify", "P:1")
        check(len(other.log) > blobs and bad.credentials(proxy), "nobody was sent elsewhere")
        equal(bad.credentials(other), 0, "requests with credentials at another host")
        other.reset()
        proxy.reset(bad.uploads_elsewhere(other))
        push(f"docker://{proxy.host}/elsewhere:1", *options)
        check(len(other.log) == blobs, other.log)
        equal(bad.credentials(other), 0, "uploads with credentials at another host")


def places():
    """Mirrors of registries.conf, and proxies of the environment."""
    with Registry(top) as registry, Registry(top) as mirror:
        push(f"docker://{mirror.host}/copy/team/app:1", "--plain-http")
        conf = f"""[[registry]]
            prefix = "registry.test/team"
            location = "{registry.host}/team"
            insecure = true
            [[registry.mirror]]
            location = "127.0.0.1:1/nobody"
            [[registry.mirror]]
            location = "{mirror.host}/copy/team"
            insecure = true
            [[registry]]
            location = "blocked.test"
            blocked = true"""
        with open("registries.conf", "w") as f:
            f.write(conf)
        env = {"CONTAINERS_REGISTRIES_CONF": "registries.conf"}
        puzzlefs("pull", "docker://registry.test/team/app:1", f"{fresh('P')}:1", env=env)
        puzzlefs("verify", "P:1")
        # A push goes to the registry itself, and from there it is read when no mirror has it.
        push("docker://registry.test/team/other:1", env=env)
        puzzlefs("pull", f"docker://{registry.host}/team/other:1", "--plain-http", f"{fresh('P')}:1")
        puzzlefs("pull", "docker://registry.test/team/other:1", f"{fresh('P')}:1", env=env)
        text = puzzlefs("pull", "docker://blocked.test/a:1", f"{fresh('P')}:1", env=env, fails="refused")
        check("blocks" in text, text)
        tunnel = bad.Tunnel(registry.port)
        to = "docker://unknown.test:5000/team/other:1"
        for name in "HTTP_PROXY", "http_proxy", "ALL_PROXY":
            tunnel.asked.clear()
            puzzlefs("pull", "--plain-http", to, f"{fresh('P')}:1", env={name: tunnel.address})
            equal(set(tunnel.asked), {"unknown.test:5000"}, "what the proxy was asked for")
        env = {"HTTP_PROXY": tunnel.address, "NO_PROXY": ".test"}
        puzzlefs("pull", "--plain-http", "--retry-times", "0", to, f"{fresh('P')}:1", env=env, fails="trouble")
        tunnel.asked.clear()
        puzzlefs("pull", "--plain-http", f"docker://{registry.host}/team/other:1", f"{fresh('P')}:1", env=env)
        equal(tunnel.asked, [], "what the proxy was asked for")
    print("mirrors, a blocked registry, and proxies")


def looks():
    """What is looked at takes few requests, and none for what files hold."""
    with Registry(top) as registry:
        for tag in "1", "b", "c":
            push(f"docker://{registry.host}/app:{tag}", "--plain-http")
        proxy = bad.Proxy(registry.host)
        at = f"docker://{proxy.host}/app"
        equal(puzzlefs("tags", "--plain-http", at).split(), ["1", "b", "c"], "tags")
        here, there = (puzzlefs(*command, image) for command, image in
                       ((("ls", "-lR"), "L:app"), (("ls", "-lR", "--plain-http"), f"{at}:1")))
        equal(there, here, "what ls says of an image in a registry")
        proxy.reset()
        there = puzzlefs("inspect", *HTTP, f"{at}:1")
        here = puzzlefs("inspect", "--format", "json", "L:app")
        for key in there:
            if key not in ("requests", "bytes_fetched"):
                equal(there[key], here[key], f"inspect: {key}")
        check("chunk_bytes" not in there and "names" in there, there)
        took = len([entry for entry in proxy.log])
        size = sum(os.path.getsize(f"L/blobs/sha256/{name}") for name in os.listdir("L/blobs/sha256"))
        check(took <= blobs + 4 and there["bytes_fetched"] < size / 10, f"{took} requests, {there['bytes_fetched']} bytes")
        equal([name for name in os.listdir(tempfile.gettempdir()) if name.startswith("puzzlefs-")], [], "what is left")
    print(f"looks: {took} requests and {there['bytes_fetched']} bytes of {size}")


def returned():
    """What was pulled into a layout that has much of it goes back as it came."""
    make_tree("older")
    for name in "file-003", "file-030":
        with open(f"older/{name}", "wb") as f:
            f.write(os.urandom(5000))
    with Registry(top) as registry:
        to = f"docker://{registry.host}/app:1"
        push(to, "--plain-http")
        build("older", "N:old")
        report = puzzlefs("pull", *HTTP, to, "N:new")
        check(not report["complete"] and report["chunks_fetched"] < 20, report)
        report = push(f"docker://{registry.host}/back:1", *HTTP, image="N:new")
        equal((report["digest"], counts(report)), (manifest, (blobs, 0, 0)), "what was pushed again")
        skopeo("copy", "--src-tls-verify=false", f"docker://{registry.host}/back:1", "oci:S:back")
        puzzlefs("verify", "S:back")
    print("what was pulled goes back as it came")


def interrupted():
    """After a signal the tag is what it was, and the next push goes on."""
    for how in signal.SIGINT, signal.SIGTERM, signal.SIGKILL:
        with Registry(top) as registry:
            proxy, reached = bad.Proxy(registry.host), threading.Event()

            def third_waits(request):
                if request.is_upload():
                    proxy.seen["uploads"] += 1
                    if proxy.seen["uploads"] == 3:
                        reached.set()
                        time.sleep(3)
                return False

            proxy.reset(third_waits)
            to = f"docker://{proxy.host}/app:1"
            process = subprocess.Popen([PUZZLEFS, "push", "--plain-http", "--jobs", "1", "L:app", to], env=ENV,
                                       stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            check(reached.wait(60), "no third upload")
            process.send_signal(how)
            equal(process.communicate(timeout=60), (b"", b""), "what is said after a signal")
            equal(process.returncode, -how, "how it ended")
            check(not os.path.exists(f"{registry.data}/docker/registry/v2/repositories/app/_manifests/tags"), "a tag is there")
            sent, _, there = counts(push(to, *HTTP))
            check(there >= 2 and sent + there == blobs, (sent, there))
            puzzlefs("verify", "L:app")
    print("a push that was interrupted goes on:", there, "blobs were there")


def tokens():
    tokens = Tokens(Authority(f"{top}/tokens"))
    with Registry(top, {"auth": tokens.config()}) as registry:
        to = f"docker://{registry.host}/app:1"
        text = push(to, "--plain-http", "--retry-times", "0", fails="refused")
        login(registry.host, f"{top}/auth.json")
        options = ("--plain-http", "--authfile", "auth.json")
        given = tokens.given
        push(to, *options)
        equal(tokens.given, given + 1, "tokens for a push")
        # It takes blobs from another repository by the same token.
        report = push(f"docker://{registry.host}/b:1", *options, "--mount-from", to.rpartition(":")[0], "--format", "json")
        equal(counts(report), (0, blobs, 0), "a push beside it")
        login(registry.host, f"{top}/identity.json", identitytoken="identity")
        puzzlefs("pull", "--plain-http", "--authfile", "identity.json", to, f"{fresh('P')}:1")
        equal(tokens.forms[-1]["scope"], ["repository:app:pull"], "the scope that an identity is given for")
        # They end while they are used.
        proxy = bad.Proxy(registry.host)
        renewed = []

        def late(request):
            if request.is_blob() and request.count == 1:
                renewed.append(request.path)
                return request.answer(401, {"WWW-Authenticate": f'Bearer realm="http://127.0.0.1:{tokens.port}/token",'
                                            'service="test registry",error="invalid_token"'})
            return False

        proxy.reset(late)
        login(proxy.host, f"{top}/late.json")
        puzzlefs("pull", "--plain-http", "--authfile", "late.json", f"docker://{proxy.host}/app:1", f"{fresh('P')}:1")
        puzzlefs("verify", "P:1")
        check(renewed, "no token was too late")
        for answer in b"{}", b"[]", b"x" * (4 << 20), b'{"token": "a\\r\\nb"}', b'{"token": ""}', b'{"expires_in": -1}':
            tokens.answer = answer
            puzzlefs("pull", *options, to, f"{fresh('P')}:1", fails="refused")
        tokens.answer = None
    print("tokens: one for a push, renewed when one was too late")


# Mounts of this test end with it.
os.unshare(os.CLONE_NEWNS)
subprocess.run(["mount", "--make-rprivate", "/"], check=True)
for part in plain, damaged, ordinary, tls, password, tokens, places, looks, returned, interrupted:
    if not sys.argv[1:] or part.__name__ in sys.argv[1:]:
        part()
for layout in "P", "U":
    sound(layout, layout)
