# SPDX-License-Identifier: GPL-2.0
"""What servers were asked for, and gave."""

import contextlib
import functools
import http.server
import re
import threading

from registries import Registry

ANSWER = re.compile(r'"(?:GET|HEAD|POST|PUT) (?P<path>\S+) HTTP/1\.\d" \d+ (?P<bytes>\d+)')


class Counted:
    """Bytes of bodies, and requests, since it was made."""

    def __init__(self, read):
        self.read = read
        self.before = read()

    def since(self):
        return {name: value - self.before[name] for name, value in self.read().items()}


class CountedRegistry(Registry):
    """A registry, of which it is known what it gave."""

    def __init__(self, directory):
        super().__init__(directory, {"log": {"level": "error", "accesslog": {"disabled": False}}})

    def read(self):
        with open(f"{self.data}/log", errors="replace") as f:
            answers = [int(found["bytes"]) for found in ANSWER.finditer(f.read())]
        return {"bytes": sum(answers), "requests": len(answers)}

    def counted(self):
        return Counted(self.read)


class Files:
    """A server of the files below a directory, which ends with the block."""

    def __init__(self, directory):
        self.total = {"bytes": 0, "requests": 0}
        lock, total = threading.Lock(), self.total

        class Handler(http.server.SimpleHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def copyfile(self, source, outputfile):
                while data := source.read(1 << 16):
                    outputfile.write(data)
                    with lock:
                        total["bytes"] += len(data)

            def do_GET(self):
                with lock:
                    total["requests"] += 1
                super().do_GET()

        handler = functools.partial(Handler, directory=str(directory))
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self.server.shutdown()

    def counted(self):
        return Counted(lambda: dict(self.total))
