# SPDX-License-Identifier: GPL-2.0
"""What is started in an image, and how one knows that it answers."""

import contextlib
import dataclasses
import os
import subprocess
import time
import urllib.request

POSTGRES = "/usr/lib/postgresql/17/bin"
PAUSE = 0.01


@dataclasses.dataclass
class Service:
    """`command` runs in the image `tree`. It answers when `asked` gives true, or, without that, when it has ended well."""
    tree: str
    command: list
    asked: object = None


def page(port):
    def ask(_root):
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as answer:
            return bool(answer.read())
        return False
    return ask


def query(root):
    if not os.path.exists(f"{root}/var/run/postgresql/.s.PGSQL.5432"):
        return False
    command = ["chroot", root, "setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", f"{POSTGRES}/psql", "-Atc", "select 6*7"]
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout == b"42\n"


NODE = "require('http').createServer((_, answer) => answer.end('a page')).listen(8080)"
DJANGO = "import django.contrib.admin, django.core.handlers.wsgi, django.db.models; print(django.__version__)"
SERVICES = {
    "nginx, until it serves a page": Service("new-nginx", ["nginx", "-g", "daemon off;"], page(80)),
    "python, until it has imported a framework": Service("new-django-5.2.6", ["python3", "-c", DJANGO]),
    "postgres, until it answers a query": Service("new-postgresql", [
        "setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", f"{POSTGRES}/postgres",
        "-D", "/var/lib/postgresql/17/main", "-c", "config_file=/etc/postgresql/17/main/postgresql.conf"], query),
    "node, until it serves a page": Service("new-nodejs", ["node", "-e", NODE], page(8080)),
}


@contextlib.contextmanager
def ready(root):
    """What every container finds in its tree: /proc and /dev."""
    subprocess.run(["mount", "-t", "proc", "proc", f"{root}/proc"], check=True)
    subprocess.run(["mount", "--rbind", "--make-rslave", "/dev", f"{root}/dev"], check=True)
    try:
        yield
    finally:
        for name in "dev", "proc":
            subprocess.run(["umount", "--recursive", f"{root}/{name}"], check=True)


def answered(service, command, root, least=600):
    """Runs `command`, which is the service's in the tree at `root`, until it answers; ends it."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    end = time.monotonic() + least
    while True:
        if service.asked is None:
            status = process.wait()
            if status:
                raise SystemExit(f"{command}: status {status}")
            return
        if service.asked(root):
            break
        if process.poll() is not None or time.monotonic() > end:
            raise SystemExit(f"{command}: it does not answer; status {process.poll()}")
        time.sleep(PAUSE)
    return process


def start(service, root):
    """Starts it in the tree at `root`; returns the process, or None, once it has answered."""
    return answered(service, ["chroot", root, *service.command], root)


def stop(process):
    if process:
        process.terminate()
        process.wait()
