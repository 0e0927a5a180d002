# SPDX-License-Identifier: GPL-2.0
"""Rust sources as tokens, for cases that ask what the code says: without strings and with
comments apart."""

import os
import pathlib
import re

TOP = pathlib.Path(os.environ.get("PUZZLEFS_TOP") or pathlib.Path(__file__).parents[2])
# What no checkout has: build products. A folder `build` is one at the top only.
PRODUCTS = {"target", ".git"}
BUILD = TOP / "build"

TOKEN = re.compile(r"""
    (?P<comment>//[^\n]*|/\*)
  | (?P<string>\b[bc]?r(?P<hashes>\#*)".*?"(?P=hashes) | (?:\b[bc])?"(?:\\.|[^"\\])*"
      | (?:\bb)?'(?:\\(?:x..|u\{[^}]*\}|.)|[^'\\\n])')
  | (?P<lifetime>'[A-Za-z_]\w*)
  | (?P<word>(?:r\#)?[A-Za-z_]\w*|[0-9]\w*)
  | (?P<mark>::|->|=>|[^\s\w])
""", re.X | re.S)


def files(*suffixes, below="."):
    """The files of the checkout that end so, from its top on."""
    found = []
    for folder, folders, names in os.walk(TOP / below):
        folders[:] = sorted(f for f in set(folders) - PRODUCTS if pathlib.Path(folder, f) != BUILD)
        found += [pathlib.Path(folder, name).relative_to(TOP) for name in sorted(names) if name.endswith(suffixes)]
    return found


def end_of_block_comment(text, at):
    """Where the block comment at `at` ends: they nest."""
    depth = 0
    for mark in re.compile(r"/\*|\*/").finditer(text, at):
        depth += 1 if mark[0] == "/*" else -1
        if depth == 0:
            return mark.end()
    raise ValueError("a block comment does not end")


def scan(text):
    """Yields kind, text and line of each token and comment."""
    at, line, counted = 0, 1, 0
    while match := TOKEN.search(text, at):
        at = match.end()
        if match[0] == "/*":
            at = end_of_block_comment(text, match.start())
        line += text.count("\n", counted, match.start())
        counted = match.start()
        yield match.lastgroup if match.lastgroup != "hashes" else "string", text[match.start():at], line


def code(text):
    """Tokens of code and their lines: no comments, no strings."""
    return [(token, line) for kind, token, line in scan(text) if kind in ("word", "mark")]
