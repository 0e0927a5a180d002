#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# shows: images are pulled from layouts that nginx has, over http and TLS, with a password and where it knows no ranges, and
# from another machine by OpenSSH: only chunks that are missing, right bytes or an error, and again after a connection was cut.
# The same from a bucket that rclone serves as S3: lazily as well, with wrong credentials, and after the server was restarted.

import base64
import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time

from case import check, equal
from registries import Authority, PASSWORD, bcrypt, port, wait
from registrycase import ENV, PUZZLEFS, build, fresh, make_tree, puzzlefs, sound

top = tempfile.mkdtemp()
os.chmod(top, 0o755)
os.chdir(top)
make_tree("tree")
make_tree("next")
with open("next/file-007", "wb") as f:
    f.write(b"another one\n" * 1000)
image, later = build("tree", "L:debian:12"), build("next", "L:repo/next")
JSON = ("--format", "json")


def pull(source, to, *options, **more):
    return puzzlefs("pull", *options, *JSON, source, to, **more)


def is_right(report, to, of=image):
    equal(report["manifest"], of["manifest"], f"what was pulled to {to}")
    puzzlefs("verify", to)
    sound(to.split(":")[0], to)


@contextlib.contextmanager
def nginx(more="", tls=None):
    at = port()
    listen = f"{at} ssl" if tls else at
    with open("nginx.conf", "w") as f:
        f.write(f"""daemon off; pid {top}/nginx.pid; error_log {top}/nginx.log; user root; worker_processes 2;
            events {{}}
            http {{ access_log {top}/access.log; client_body_temp_path {top}/tmp; proxy_temp_path {top}/tmp;
            fastcgi_temp_path {top}/tmp; uwsgi_temp_path {top}/tmp; scgi_temp_path {top}/tmp;
            server {{ listen 127.0.0.1:{listen}; root {top}; {more} }} }}""")
    fresh("access.log")
    open("access.log", "w").close()
    server = subprocess.Popen(["nginx", "-c", f"{top}/nginx.conf", "-e", f"{top}/nginx.log"])
    try:
        wait(at)
        yield f"127.0.0.1:{at}"
    finally:
        server.terminate()
        server.wait()


def statuses():
    with open("access.log") as f:
        return [line.split('"')[2].split()[0] for line in f]


def web():
    with nginx() as host:
        is_right(pull(f"http://{host}/L:debian:12", "W:1"), "W:1")
        report = pull(f"http://{host}/L:repo/next", "W:2")
        is_right(report, "W:2", later)
        check(0 < report["chunks_fetched"] < 10 and report["chunks_found"] > 10, report)
        check("206" in statuses(), statuses())
        is_right(pull(f"http://{host}/L@sha256:{image['manifest']}", "X:1"), "X:1")
        for name, fails in (("none", "not found"), (f"{'0' * 64}", "not found")):
            at = f"@sha256:{name}" if len(name) == 64 else f":{name}"
            puzzlefs("pull", f"http://{host}/L{at}", "Q:1", fails=fails)
        puzzlefs("pull", f"http://{host}/tree:1", "Q:1", fails="not found")
        check(not os.path.exists("Q"), "a layout was made for nothing")
    fresh("W")
    with nginx("max_ranges 0;") as host:
        is_right(pull(f"http://{host}/L:debian:12", "W:1"), "W:1")
        is_right(pull(f"http://{host}/L:repo/next", "W:2"), "W:2", later)
        check("206" not in statuses(), statuses())
    return "http with ranges and without"


def web_secret():
    authority = Authority(f"{top}/authority")
    signed, key = authority.sign("server")
    with open("passwords", "w") as f:
        f.write(f"user:{bcrypt(PASSWORD)}\n")
    os.chmod("passwords", 0o644)
    certificate = f"ssl_certificate {signed}; ssl_certificate_key {key};"
    with nginx(f'{certificate} auth_basic "x"; auth_basic_user_file {top}/passwords;', tls=True) as host:
        source = f"https://{host}/L:debian:12"
        fresh("W")
        puzzlefs("pull", source, "W:1", fails="trouble")
        os.makedirs("certs", exist_ok=True)
        shutil.copy(authority.certificate, "certs/ca.crt")
        text = puzzlefs("pull", "--cert-dir", "certs", source, "W:1", fails="refused")
        check("name and a password" in text, text)
        auth = base64.b64encode(f"user:{PASSWORD}".encode()).decode()
        with open("auth.json", "w") as f:
            json.dump({"auths": {host: {"auth": auth}}}, f)
        is_right(pull(source, "W:1", "--cert-dir", "certs", "--authfile", "auth.json"), "W:1")
    return "TLS with a password"


def damaged():
    """What is not what it should be gets nowhere."""
    subprocess.run(["cp", "-r", "L", "D"], check=True)
    layers = json.load(open(f"D/blobs/sha256/{image['manifest']}"))["layers"]
    largest = max(layers, key=lambda layer: layer["size"])["digest"].split(":")[1]
    with open(f"D/blobs/sha256/{largest}", "r+b") as f:
        f.write(b"\xff" * 4096)
    subprocess.run(["cp", "-r", "D", "buckets/images/D"], check=True)
    for source in of_all("D"):
        fresh("W")
        text = puzzlefs("pull", "--plain-http", source, "W:1", fails="damaged")
        check(not os.path.exists(f"W/blobs/sha256/{largest}"), text)
        sound("W", f"after {source}")
    fresh("D")


@contextlib.contextmanager
def sshd():
    """OpenSSH with a key of the host and one of the user, which only this test knows."""
    at = port()
    os.makedirs("/run/sshd", exist_ok=True)
    for key in "host", "user", "stranger":
        if not os.path.exists(key):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    with open("authorized", "w") as f:
        f.write(open("user.pub").read())
    with open("sshd.conf", "w") as f:
        f.write(f"Port {at}\nListenAddress 127.0.0.1\nHostKey {top}/host\nAuthorizedKeysFile {top}/authorized\nUsePAM no\n"
                f"StrictModes no\nPermitRootLogin yes\nPidFile {top}/sshd.pid\n"
                f"SetEnv PATH={os.path.dirname(PUZZLEFS)}:/usr/bin:/bin\n")
    with open("known", "w") as f:
        f.write(f"[127.0.0.1]:{at} {open('host.pub').read()}")
    with open("ssh.conf", "w") as f:
        f.write(f"Host *\nIdentityFile {top}/user\nIdentitiesOnly yes\nUserKnownHostsFile {top}/known\nBatchMode yes\n")
    server = subprocess.Popen(["/usr/sbin/sshd", "-D", "-e", "-f", f"{top}/sshd.conf"], stderr=open("sshd.log", "w"))
    try:
        wait(at)
        yield f"ssh://root@127.0.0.1:{at}"
    finally:
        server.terminate()
        server.wait()


SECRET = "a-secret-of-the-test"


@contextlib.contextmanager
def s3(at=None):
    """rclone's server of S3, whose buckets are the directories of `buckets`."""
    at = at or port()
    server = subprocess.Popen([RCLONE, "serve", "s3", "--addr", f"127.0.0.1:{at}", "--auth-key", f"tester,{SECRET}",
                               "--vfs-cache-mode", "off", "--dir-cache-time", "0s", f"{top}/buckets"],
                              stdout=open("s3.log", "a"), stderr=subprocess.STDOUT, env={**ENV, "HOME": top})
    try:
        wait(at)
        yield at
    finally:
        server.terminate()
        server.wait()


def keys(at, secret=SECRET):
    return {"AWS_ACCESS_KEY_ID": "tester", "AWS_SECRET_ACCESS_KEY": secret, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{at}"}


def bucket(at):
    source, plain = "s3://images/team/L", "--plain-http"
    ENV.update(keys(at))
    fresh("W")
    check("--plain-http" in puzzlefs("pull", f"{source}:debian:12", "Q:1", fails="refused"), "no word of --plain-http")
    is_right(pull(f"{source}:debian:12", "W:1", plain), "W:1")
    report = pull(f"{source}:repo/next", "W:2", plain)
    is_right(report, "W:2", later)
    check(0 < report["chunks_fetched"] < 10 and report["chunks_found"] > 10, report)
    for place in f"{source}:none", f"{source}@sha256:{'0' * 64}", "s3://images/nowhere:1", "s3://nobucket/team/L:1":
        puzzlefs("pull", plain, place, "Q:1", fails="not found")
    text = puzzlefs("pull", plain, f"{source}:debian:12", "Q:1", env=keys(at, "another-secret"), fails="refused")
    check(SECRET not in text and "another-secret" not in text, text)
    # The command line goes before the environment.
    other = {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}
    puzzlefs("pull", plain, f"{source}:debian:12", "Q:1", env=other, fails="trouble")
    check(not os.path.exists("Q"), "a layout was made for nothing")
    puzzlefs("pull", plain, "--endpoint", f"http://127.0.0.1:{at}", f"{source}:debian:12", fresh("X") + ":1", env=other)


def bucket_lazily():
    """What is pulled lazily is completed by a server that has ended meanwhile, and was started again."""
    with s3() as at:
        ENV.update(keys(at))
        fresh("W")
        report = pull("s3://images/team/L:debian:12", "W:1", "--lazy", "--plain-http")
        check(not report["complete"], report)
    options = "--plain-http", "--retry-times", "1"
    text = puzzlefs("complete", *options, "W:1", fails="trouble")
    check(f"from s3://images/team/L@sha256:{image['manifest']}" in text, text)
    with s3(at):
        puzzlefs("complete", *options, "W:1", env=keys(at, "another-secret"), fails="refused")
        done = puzzlefs("complete", *options, *JSON, "W:1")
        check(done["lazy"]["requests"] > 3, done)
        is_right({"manifest": done["manifest"]}, "W:1")


def of_all(layout):
    """Its image at each place; the servers are those that run."""
    places = f"http://{running['web']}/{layout}", f"{running['ssh']}{top}/{layout}", f"s3://images/{layout}"
    return [f"{place}:debian:12" for place in places]


running = {}
SSH = {"PUZZLEFS_SSH": f"ssh -F {top}/ssh.conf"}


def ssh(place):
    source = f"{place}{top}/L"
    fresh("W")
    is_right(pull(f"{source}:debian:12", "W:1"), "W:1")
    report = pull(f"{source}:repo/next", "W:2")
    is_right(report, "W:2", later)
    check(0 < report["chunks_fetched"] < 10 and report["chunks_found"] > 10, report)
    # What was pulled there is given as it was at its source.
    is_right(pull(f"{place}{top}/W:2", "X:2"), "X:2", later)
    for at in ":none", f"@sha256:{'0' * 64}":
        puzzlefs("pull", f"{source}{at}", "Q:1", fails="not found")
    puzzlefs("pull", f"{place}/nowhere:1", "Q:1", fails="not found")
    check(not os.path.exists("Q"), "a layout was made for nothing")
    # Who is not known, and who does not know us.
    for option in (f"-o IdentityFile={top}/stranger -i {top}/stranger", "-o UserKnownHostsFile=/dev/null"):
        with open("other.conf", "w") as f:
            f.write(open("ssh.conf").read().replace(f"IdentityFile {top}/user", "") if "stranger" in option
                    else open("ssh.conf").read().replace(f"UserKnownHostsFile {top}/known", ""))
        refused = subprocess.run([PUZZLEFS, "pull", f"{source}:debian:12", "Q:1"], capture_output=True, text=True,
                                 env={**ENV, "PUZZLEFS_SSH": f"ssh -F {top}/other.conf {option}"})
        check(refused.returncode == 1 and "ends with status 255" in refused.stderr, refused.stderr)
    # A key that may do nothing else.
    with open("authorized", "w") as f:
        f.write(f'command="{PUZZLEFS} serve {top}/L",restrict {open("user.pub").read()}')
    fresh("W")
    is_right(pull(f"{place}/whatever:debian:12", "W:1"), "W:1")
    with open("authorized", "w") as f:
        f.write(open("user.pub").read())


def cut(place):
    """Sessions are killed while they have something to say, again and again."""
    fresh("W")
    killed, done = 0, threading.Event()

    def kill():
        nonlocal killed
        while not done.is_set():
            found = subprocess.run(["pgrep", "-f", f"^puzzlefs serve {top}/L$"], capture_output=True, text=True).stdout.split()
            for pid in found[:1]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
                    killed += 1
            time.sleep(0.05)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        deadline = time.monotonic() + 120
        while killed < 5:
            check(time.monotonic() < deadline, f"only {killed} were killed")
            fresh("W")
            # Half a second passes before each other try, so that it gets there in the end, or says that it did not.
            done_here = subprocess.run([PUZZLEFS, "pull", "--quiet", "--retry-times", "3", f"{place}{top}/L:debian:12", "W:1"],
                                       env={**ENV, **SSH}, capture_output=True, text=True, timeout=300)
            check(done_here.returncode in (0, 1), done_here.stderr)
            if os.path.isdir("W"):
                sound("W", "after sessions were killed")
    finally:
        done.set()
        killer.join()
    is_right(pull(f"{place}{top}/L:debian:12", "W:1"), "W:1")
    return killed


said = [web(), web_secret()]
ENV.update(SSH)
os.makedirs("buckets/images/team")
subprocess.run(["cp", "-r", "L", "buckets/images/team/L"], check=True)
RCLONE = subprocess.run([f"{os.environ['PUZZLEFS_TOP']}/scripts/rclone"], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
bucket_lazily()
with nginx() as running["web"], sshd() as running["ssh"], s3() as running["s3"]:
    ssh(running["ssh"])
    bucket(running["s3"])
    damaged()
    killed = cut(running["ssh"])
print(f"nginx: {', '.join(said)}; ssh: only what is missing, known hosts and keys, {killed} sessions "
      "killed; S3: keys, lazily, after a restart")
