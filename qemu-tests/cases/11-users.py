#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: images debian; memory 2G
# shows: who may do what: a user without access to the layout reads the mount; modes, ACLs
# and the trusted namespace hold; a file capability and a setuid bit work unless nosuid.

import os
import subprocess

import users
from case import Image, check, equal, mounted

CORNERS = "srv/corners"


def as_user(function, *arguments, uid=1000):
    return users.as_user(users.User("plain", uid, uid), function, *arguments)


def read(path):
    with open(path, "rb") as f:
        return f.read(64)


# The layout is readable by root alone.
image = Image("debian")
check(as_user(os.listdir, image.layout) == "EACCES", "a plain user can read the layout")

with mounted(image) as root:
    def at(*names):
        return os.path.join(root, *names)

    check(as_user(read, at("usr/bin/perl"))[:4] == b"\x7fELF", "a user cannot read the mount")
    check(len(as_user(os.listdir, at("usr/bin"))) > 100, "a user cannot list the mount")
    equal(as_user(read, at(CORNERS, "no-permissions")), "EACCES", "a file of mode 0")
    equal(as_user(os.listdir, at("root")), "EACCES", "/root")
    # The ACL of with-acl admits user 1000 and no other; it is empty, so b"" when read.
    equal(as_user(read, at(CORNERS, "with-acl"), uid=1000), b"", "with-acl, user 1000")
    equal(as_user(read, at(CORNERS, "with-acl"), uid=1001), "EACCES", "with-acl, user 1001")

    path = at(CORNERS, "with-user-xattrs")
    names = {"user.text", "user.empty", "user.binary", "user." + "n" * 250}
    equal(set(os.listxattr(path)), names | {"trusted.note"}, "xattrs for root")
    equal(set(as_user(os.listxattr, path)), names, "xattrs for a user")
    equal(as_user(os.getxattr, path, "trusted.note"), "ENODATA", "trusted.note for a user")
    equal(as_user(os.getxattr, path, "user.text"), b"value", "user.text for a user")
    equal(as_user(os.getxattr, path, "user.none"), "ENODATA", "an xattr that is not there")

def as_plain(*command):
    return subprocess.run(["setpriv", "--reuid=1000", "--clear-groups", "--inh-caps=-all", *command],
                          check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


CAP_NET_RAW = f"CapEff:\t{1 << 13:016x}"
for extra, uid, capabilities in ("", "0", CAP_NET_RAW), (",nosuid", "1000", f"CapEff:\t{0:016x}"):
    with mounted(image, extra=extra) as root:
        corners = os.path.join(root, CORNERS)
        equal(as_plain(f"{corners}/id-setuid", "-u"), uid, f"the effective uid, options {extra!r}")
        equal(as_plain(f"{corners}/grep-with-capability", "CapEff", "/proc/self/status"), capabilities,
              f"the capabilities, options {extra!r}")
print("modes, ACLs, xattr namespaces and setuid hold for a plain user")
