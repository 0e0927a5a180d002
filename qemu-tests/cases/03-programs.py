#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: images debian; memory 2G
# shows: programs run from an image by chroot: a shell, Python and Perl that
# import modules of theirs, and a pipeline of many of the image's binaries.

import subprocess

from case import Image, equal, mounted

PYTHON = """
import json, decimal, email.message, hashlib, sqlite3, unicodedata
print(json.dumps({"digest": hashlib.sha256(b"x").hexdigest()[:8],
                  "sum": str(decimal.Decimal("0.1") + decimal.Decimal("0.2")),
                  "name": unicodedata.name("\\u00e9"),
                  "sql": sqlite3.connect(":memory:").execute("select 6 * 7").fetchone()[0]}))
"""
PERL = 'use POSIX qw(floor); use List::Util qw(sum); use Digest::SHA qw(sha256_hex);' \
       'print sum(1..10), " ", floor(2.7), " ", substr(sha256_hex("x"), 0, 8), "\\n"'
SHELL = "ls /usr/bin | grep -c . | sed 's/[0-9][0-9]*/some/'; sort /etc/passwd | head -n 1; id -un"


def run(root, *command):
    return subprocess.run(["chroot", root, *command], check=True, text=True,
                          stdout=subprocess.PIPE).stdout.strip()


with mounted(Image("debian")) as root:
    equal(run(root, "/bin/sh", "-c", SHELL).splitlines()[0], "some", "the shell's first line")
    equal(run(root, "/usr/bin/python3", "-c", PYTHON),
          '{"digest": "2d711642", "sum": "0.3", "name": "LATIN SMALL LETTER E WITH ACUTE", "sql": 42}',
          "Python's answer")
    equal(run(root, "/usr/bin/perl", "-e", PERL), "55 2 2d711642", "Perl's answer")
    # A setuid binary keeps its bit on a mount that does not say nosuid.
    equal(run(root, "/usr/bin/setpriv", "--reuid=1000", "--clear-groups", "/usr/bin/python3", "-c",
              "import os; print(os.stat('/usr/bin/su').st_mode & 0o4000 != 0)"), "True", "setuid")
print("sh, python3, perl and setpriv ran from the image")
