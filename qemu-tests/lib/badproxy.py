# SPDX-License-Identifier: GPL-2.0
"""A server between a client and a registry that spoils what passes, in the way that a mode says."""

import http.client
import http.server
import socket
import sys
import threading
from collections import Counter


class Server(http.server.ThreadingHTTPServer):
    """One that has nothing to say of clients that are gone."""

    daemon_threads = True

    def handle_error(self, request, client_address):
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Proxy:
    """Forwards to the registry at `host`. `mode` is a function of a Request, which answers it or not."""

    def __init__(self, host):
        self.target, self.mode, self.lock = host, None, threading.Lock()
        self.reset()
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, *_):
                pass

            def handle_expect_100(self):
                return True  # sent when the body is read

            def any(self):
                Request(proxy, self).run()

            do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = any

        self.server = Server(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def reset(self, mode=None):
        with self.lock:
            self.mode, self.seen, self.log = mode, Counter(), []


class Request:
    """A request that came in."""

    def __init__(self, proxy, handler):
        self.proxy, self.handler = proxy, handler
        self.method, self.path, self.headers = handler.command, handler.path, {}
        for name in handler.headers.keys():  # podman says one several times
            self.headers[name] = ", ".join(handler.headers.get_all(name))
        key = (self.method, self.path.split("?")[0])
        with proxy.lock:
            proxy.seen[key] += 1
            # The first time this is asked for, it is 1.
            self.count = proxy.seen[key]
            proxy.log.append((self.method, self.path, self.headers))

    def run(self):
        mode = self.proxy.mode
        try:
            if mode is None or not mode(self):
                self.forward()
        except (BrokenPipeError, ConnectionResetError):
            self.cut()

    def is_blob(self):
        return self.method == "GET" and "/blobs/sha256:" in self.path

    def is_manifest(self):
        return self.method == "GET" and "/manifests/" in self.path

    def is_upload(self):
        return self.method == "PUT" and "/blobs/uploads/" in self.path

    def range(self):
        return self.headers.get("Range") or self.headers.get("range")

    def body(self):
        """What was sent with it."""
        length = int(self.headers.get("Content-Length") or self.headers.get("content-length") or 0)
        if "100-continue" in (self.headers.get("Expect") or self.headers.get("expect") or ""):
            self.handler.send_response_only(100)
            self.handler.end_headers()
        return self.handler.rfile.read(length)

    def fetch(self, drop=(), body=None):
        """What the registry answers: status, headers, body."""
        connection = http.client.HTTPConnection(self.proxy.target, timeout=60)
        body = self.body() if body is None else body
        left_out = {"host", "expect", "connection", "content-length", *drop}
        headers = {k: v for k, v in self.headers.items() if k.lower() not in left_out}
        connection.request(self.method, self.path, body or None, {**headers, "Host": self.proxy.host})
        answer = connection.getresponse()
        found = answer.status, dict(answer.getheaders()), answer.read()
        connection.close()
        return found

    def answer(self, status, headers=None, body=b"", length=None):
        self.handler.send_response_only(status)
        headers = {k: v for k, v in (headers or {}).items() if k.lower() not in ("transfer-encoding", "connection")}
        if self.method != "HEAD" or "Content-Length" not in headers:
            headers["Content-Length"] = str(len(body) if length is None else length)
        for name, value in headers.items():
            self.handler.send_header(name, value)
        self.handler.end_headers()
        if self.method != "HEAD":
            self.handler.wfile.write(body)
        self.handler.wfile.flush()
        return True

    def forward(self, drop=()):
        return self.answer(*self.fetch(drop))

    def cut(self):
        self.handler.close_connection = True
        return True


# Modes.

def cut_blobs(after, drop=()):
    """Cuts each connection that gives a blob, the first times at `after` of its bytes. Headers may get lost."""
    def mode(request):
        if not request.is_blob():
            return False
        status, headers, body = request.fetch(drop)
        if request.count > 2:
            return request.answer(status, headers, body)
        request.answer(status, headers, body[:int(len(body) * after)], len(body))
        return request.cut()
    return mode


def status_first(code, headers=None, times=1, wanted=lambda request: True):
    def mode(request):
        if request.count > times or not wanted(request):
            return False
        request.body()
        return request.answer(code, headers, b'{"errors":[{"code":"TOOMANYREQUESTS","message":"not \x1b[31mnow"}]}')
    return mode


def no_ranges(request):
    """As a server that knows none: all of it."""
    return request.forward(["range"]) if request.is_blob() else False


def refuses_ranges(code):
    return lambda request: request.answer(code) if request.is_blob() and request.range() else False


def other_range(request):
    """Gives the bytes behind those that were asked for, and says so."""
    if not (request.is_blob() and request.range()):
        return False
    first, last = request.range().removeprefix("bytes=").split("-")
    request.headers = {k: v for k, v in request.headers.items() if k.lower() != "range"}
    status, headers, body = request.fetch()
    first = int(first) + 1
    part = body[first:int(last) + 2 if last else None]
    return request.answer(206, {"Content-Range": f"bytes {first}-{first + len(part) - 1}/{len(body)}"}, part)


def changed(at_least):
    """A byte of each body of that size is another one."""
    def mode(request):
        if not request.is_blob():
            return False
        status, headers, body = request.fetch()
        if len(body) >= at_least:
            body = bytes([body[0] ^ 1]) + body[1:]
        return request.answer(status, headers, body)
    return mode


def wrong_length(by):
    """Says another length than there is."""
    def mode(request):
        if not request.is_blob():
            return False
        status, headers, body = request.fetch()
        request.answer(status, headers, body + b"x" * max(by, 0), max(len(body) + by, 0))
        return request.cut()
    return mode


def endless(request):
    """A blob without a length, and without an end."""
    if not request.is_blob():
        return False
    status, headers, body = request.fetch()
    handler = request.handler
    handler.send_response_only(status)
    for name, value in headers.items():
        if name == "Content-Range":
            handler.send_header(name, value)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    while True:
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(body), body))
        body = b"\0" * 65536


def large_manifest(request):
    return request.answer(200, {}, b" " * (64 << 20)) if request.is_manifest() else False


def other_manifest(request):
    if not request.is_manifest():
        return False
    status, headers, body = request.fetch()
    return request.answer(status, headers, body.replace(b"}", b" }", 1))


def upload_cut(request):
    """Reads half of what is sent, and is gone."""
    if not request.is_upload() or request.proxy.seen["cut"] > 1:
        return False
    request.proxy.seen["cut"] += 1
    request.handler.send_response_only(100)
    request.handler.end_headers()
    request.handler.rfile.read(1000)
    return request.cut()


def upload_answer_lost(request):
    """The registry has it, and nobody hears of it."""
    if not request.is_upload() or request.proxy.seen["lost"] > 1:
        return False
    request.proxy.seen["lost"] += 1
    request.fetch()
    return request.cut()


def upload_refused(code, body=b""):
    """The first two of all."""
    def mode(request):
        if not request.is_upload() or request.proxy.seen["refused"] > 1:
            return False
        request.proxy.seen["refused"] += 1
        return request.answer(code, {}, body)
    return mode


def elsewhere(other, uses=10 ** 9):
    """Sends everyone who wants a blob to another server, with an address that is good for so many uses."""
    def mode(request):
        if not request.is_blob():
            return False
        request.body()
        with other.lock:
            other.seen["signed"] += 1
            number = other.seen["signed"]
            other.seen[f"left {number}"] = uses
        return request.answer(307, {"Location": f"http://{other.host}{request.path}?signature={number}"})
    return mode


def signed_only(request):
    """The other server: whoever has a good signature, and no credentials, has the blob."""
    other = request.proxy
    number = request.path.partition("?signature=")[2]
    credentials = {k.lower() for k in request.headers} & {"authorization", "cookie"}
    with other.lock:
        other.seen["credentials"] += len(credentials)
        good = other.seen[f"left {number}"] > 0
        other.seen[f"left {number}"] -= 1
    if not good:
        return request.answer(403, {}, b"<Error><Code>AccessDenied</Code></Error>")
    request.path = request.path.partition("?")[0]
    return request.forward(["authorization"])


def uploads_elsewhere(other):
    """Has blobs sent to another server."""
    def mode(request):
        if request.method != "POST":
            return False
        status, headers, body = request.fetch()
        if "Location" in headers:
            headers["Location"] = f"http://{other.host}/{headers['Location'].split('/', 3)[3]}"
        return request.answer(status, headers, body)
    return mode


def credentials(proxy):
    """Requests that had some."""
    names = [{name.lower() for name in headers} for _, _, headers in proxy.log]
    return sum(bool(found & {"authorization", "cookie"}) for found in names)


class Tunnel:
    """A proxy that connects to where it is told to, whose name nobody else knows: to `port` of this machine."""

    def __init__(self, port):
        self.asked, self.port = [], port
        tunnel = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_CONNECT(self):
                tunnel.asked.append(self.path)
                self.send_response(200)
                self.end_headers()
                with socket.create_connection(("127.0.0.1", tunnel.port)) as to:
                    back = threading.Thread(target=tunnel.copy, args=(to, self.connection), daemon=True)
                    back.start()
                    tunnel.copy(self.connection, to)
                    back.join()
                self.close_connection = True

        self.server = Server(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @staticmethod
    def copy(source, to):
        try:
            while data := source.recv(65536):
                to.sendall(data)
            to.shutdown(socket.SHUT_WR)
        except OSError:
            pass


def round_and_round(request):
    return request.answer(302, {"Location": request.path + "x"}) if request.is_blob() else False
