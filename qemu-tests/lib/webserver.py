# SPDX-License-Identifier: GPL-2.0
"""In the guest: a web server for /scratch that notes what is asked for, and may do to an answer what bad servers do."""

import contextlib
import http.server
import os
import random
import re
import threading
import time


class Web(http.server.ThreadingHTTPServer):
    """A web server for the files below /scratch. `asked`: name, begin and end of what was asked for. With `faults` an
    answer may be one of `kinds`, by so much of a chance; `made` counts them."""

    daemon_threads = True

    def __init__(self, port=0, faults=0.0):
        super().__init__(("127.0.0.1", port), Answers)
        self.asked, self.faults, self.kinds, self.made, self.random = [], faults, FAULTS, {}, random.Random(1)
        self.serving = threading.Thread(target=self.serve_forever, daemon=True)
        self.serving.start()

    def close(self):
        self.shutdown()
        self.serving.join()
        self.server_close()

    def handle_error(self, *_):
        pass  # the other end has gone away


def cut(answer, body):
    """The connection ends in the middle."""
    answer.send(body[:len(body) // 2], len(body))
    answer.close_connection = True


def lie(answer, body):
    """A byte is another one."""
    wrong = bytearray(body)
    wrong[len(wrong) // 2] ^= 1
    answer.send(bytes(wrong), len(body))


def crawl(answer, body):
    """A byte a second, and then none."""
    answer.send(b"", len(body))
    for at in range(2):
        answer.wfile.write(body[at:at + 1])
        answer.wfile.flush()
        time.sleep(1)
    answer.close_connection = True


def refuse(answer, _body):
    """503."""
    answer.send_error(503)


FAULTS = [cut, lie, crawl, refuse]


class Answers(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        try:
            with open("/scratch" + self.path, "rb") as f:
                whole = f.read()
        except OSError:
            self.send_error(404)
            return
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        self.start, self.end = (int(wanted[1]), int(wanted[2]) + 1) if wanted else (0, len(whole))
        self.is_part, self.whole = bool(wanted), len(whole)
        server, body = self.server, whole[self.start:self.end]
        server.asked.append((os.path.basename(self.path), self.start, self.end))
        if len(body) > 1 and server.random.random() < server.faults:
            fault = server.random.choice(server.kinds)
            server.made[fault.__name__] = server.made.get(fault.__name__, 0) + 1
            fault(self, body)
        else:
            self.send(body, len(body))

    def send(self, body, length):
        self.send_response(206 if self.is_part else 200)
        if self.is_part:
            self.send_header("Content-Range", f"bytes {self.start}-{self.end - 1}/{self.whole}")
        self.send_header("Content-Length", str(length))
        self.end_headers()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *_):
        pass
