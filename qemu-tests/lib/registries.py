# SPDX-License-Identifier: GPL-2.0
"""Debian's docker-registry as the tests need it: with TLS, passwords or tokens, and the server that gives tokens."""

import base64
import contextlib
import http.server
import json
import os
import socket
import subprocess
import threading
import time
import urllib.parse

from badproxy import Server

PASSWORD = "pass:word"


def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def wait(at, host="127.0.0.1"):
    for _ in range(600):  # a machine that does much else takes its time
        with contextlib.suppress(OSError), socket.create_connection((host, at), 1):
            return
        time.sleep(0.05)
    raise SystemExit(f"nothing listens at port {at}")


def bcrypt(password):
    """By crypt(3), which perl has and Python no longer has."""
    made = subprocess.run(["perl", "-e", 'print crypt($ARGV[0], q($2y$05$abcdefghijklmnopqrstuu))', password],
                          check=True, capture_output=True, text=True).stdout
    assert made.startswith("$2y$"), made
    return made


class Registry:
    """A registry, which ends with the block. `more` is added to its configuration; `data` may be that of another. It is at the
    port `at`, or at any."""

    def __init__(self, directory, more=None, data=None, at=None):
        self.port = at or port()
        self.host = f"127.0.0.1:{self.port}"
        self.data = data or os.path.join(directory, f"registry-{self.port}")
        os.makedirs(self.data, exist_ok=True)
        self.config = os.path.join(self.data, f"config-{self.port}.yml")
        config = {"version": 0.1, "log": {"level": "error", "accesslog": {"disabled": True}},
                  "storage": {"filesystem": {"rootdirectory": self.data}},
                  "http": {"addr": self.host, "secret": "of the test"}}
        for key, value in (more or {}).items():
            config[key] = {**config.get(key, {}), **value}
        with open(self.config, "w") as f:
            json.dump(config, f)

    def __enter__(self):
        log = open(os.path.join(self.data, "log"), "w")
        self.process = subprocess.Popen(["docker-registry", "serve", self.config], stdout=log, stderr=log)
        wait(self.port)
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def openssl(*arguments, data=None):
    return subprocess.run(["openssl", *arguments], check=True, capture_output=True, input=data).stdout


class Authority:
    """A certificate authority of our own, and what it has signed."""

    def __init__(self, directory):
        self.directory = directory
        os.makedirs(directory)
        self.certificate, self.key = self.at("ca.crt"), self.at("ca.key")
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
                "-subj", "/CN=test authority", "-keyout", self.key, "-out", self.certificate,
                "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign")

    def at(self, name):
        return os.path.join(self.directory, name)

    def sign(self, name, key="ec", names="IP:127.0.0.1,DNS:unknown.test"):
        """Paths of a certificate, which is for `names`, and its key."""
        certificate, private = self.at(f"{name}.cert"), self.at(f"{name}.key")
        kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"] if key == "ec" else ["-newkey", "rsa:2048"]
        openssl("req", "-x509", *kind, "-nodes", "-days", "30", "-subj", f"/CN={name}", "-keyout", private,
                "-out", certificate, "-CA", self.certificate, "-CAkey", self.key,
                "-addext", f"subjectAltName={names}", "-addext", "basicConstraints=CA:FALSE")
        return certificate, private


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Tokens:
    """A server of tokens, by the token specification of the distribution project. `seconds`: how long one is good."""

    def __init__(self, authority):
        self.certificate, self.key = authority.sign("tokens", "rsa")
        self.port, self.seconds, self.given, self.forms = port(), 300, 0, []
        self.answer = None
        der = openssl("x509", "-in", self.certificate, "-outform", "DER")
        self.chain = [base64.b64encode(der).decode()]
        tokens = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_GET(self):
                query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
                known = "Basic " + base64.b64encode(f"user:{PASSWORD}".encode()).decode()
                self.give(query, self.headers.get("Authorization") == known)

            def do_POST(self):
                form = self.rfile.read(int(self.headers["Content-Length"])).decode()
                form = urllib.parse.parse_qs(form)
                tokens.forms.append(form)
                form["scope"] = form.get("scope", [""])[0].split()
                self.give(form, form.get("refresh_token") == ["identity"])

            def give(self, query, known):
                body = tokens.answer or json.dumps(tokens.token(query)).encode()
                self.send_response(200 if known else 401)
                self.send_header("Content-Length", str(len(body) if known else 0))
                self.end_headers()
                if known:
                    self.wfile.write(body)

        self.server = Server(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def config(self):
        return {"token": {"realm": f"http://127.0.0.1:{self.port}/token", "service": "test registry",
                          "issuer": "test", "rootcertbundle": self.certificate}}

    def token(self, query):
        self.given += 1
        access = []
        for scope in query.get("scope", []):
            kind, name, actions = scope.split(":")
            access.append({"type": kind, "name": name, "actions": actions.split(",")})
        now = int(time.time())
        claims = {"iss": "test", "sub": "user", "aud": query["service"][0], "exp": now + self.seconds,
                  "nbf": now - 5, "iat": now, "jti": str(self.given), "access": access}
        head = {"typ": "JWT", "alg": "RS256", "x5c": self.chain}
        text = ".".join(base64url(json.dumps(part).encode()) for part in (head, claims))
        signature = openssl("dgst", "-sha256", "-sign", self.key, data=text.encode())
        return {"token": f"{text}.{base64url(signature)}", "expires_in": self.seconds}
