# SPDX-License-Identifier: GPL-2.0
"""What kubelet asks containerd about images (runtime.v1.ImageService), as far as a test needs it: gRPC by hand, as
the archive has no program that asks. To be run where containerd's socket is: cri.py METHOD IMAGE."""

import socket
import struct
import sys

SOCKET = "/run/containerd/containerd.sock"
DATA, HEADERS, RST, SETTINGS, GOAWAY = 0, 1, 3, 4, 7
END_STREAM, END_HEADERS, ACK = 1, 4, 1


def number(value):
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def field(index, content):
    """A field of a message that is a text or another message."""
    content = content.encode() if isinstance(content, str) else content
    return number(index << 3 | 2) + number(len(content)) + content


def header(name, value):
    """A header that is spelt out (RFC 7541, 6.2.2)."""
    return b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


def frame(kind, flags, stream, content=b""):
    return struct.pack(">I", len(content))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + content


def ask(method, message):
    """The bytes of the answer, after their length. What is no success has none."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(120)
    connection.connect(SOCKET)
    head = {":method": "POST", ":scheme": "http", ":path": f"/runtime.v1.ImageService/{method}", ":authority": "localhost",
            "content-type": "application/grpc", "te": "trailers"}
    connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0)
                       + frame(HEADERS, END_HEADERS, 1, b"".join(header(*it) for it in head.items()))
                       + frame(DATA, END_STREAM, 1, b"\0" + struct.pack(">I", len(message)) + message))
    file, answer, said = connection.makefile("rb"), b"", b""
    while True:
        start = file.read(9)
        if len(start) < 9:
            sys.exit(f"{method}: the connection ended: {said!r}")
        content = file.read(int.from_bytes(start[:3], "big"))
        kind, flags = start[3], start[4]
        if kind == SETTINGS and not flags & ACK:
            connection.sendall(frame(SETTINGS, ACK, 0))
        elif kind == DATA:
            answer += content
        elif kind in (HEADERS, RST, GOAWAY):
            said += content
        if kind in (RST, GOAWAY):
            sys.exit(f"{method}: {content!r}")
        if kind in (DATA, HEADERS) and flags & END_STREAM:
            if len(answer) < 5:
                sys.exit(f"{method} failed: {said!r}")
            return answer[5:]


if __name__ == "__main__":
    # PullImageRequest and RemoveImageRequest both begin with an ImageSpec, which begins with the name.
    print(ask(sys.argv[1], field(1, field(1, sys.argv[2]))))
