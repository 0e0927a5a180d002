# SPDX-License-Identifier: GPL-2.0
"""ten.py DIRECTORY [--sizes]: the part of `make ten-images` that runs in the build root:
stores the trees in DIRECTORY in each form, has a virtual machine mount and read them
(not with --sizes), and writes docs/ten-images.json and docs/ten-images.md."""

import argparse
import pathlib

import forms
import memory
import tables


def main():
    parser = argparse.ArgumentParser(description="the space and the memory that ten related images take")
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--sizes", action="store_true", help="no virtual machine; writes nothing")
    arguments = parser.parse_args()

    # As they came to be, so that a version follows the one before.
    trees = sorted(arguments.directory.iterdir(), key=lambda tree: tree.stat().st_ctime_ns)
    every = forms.forms()
    stored = {form.name: forms.stored(form, trees) for form in every}
    made = {name: found for name, (_, found) in stored.items()}
    print(tables.sizes(every, made), tables.du(every, made), sep="\n", flush=True)
    if not arguments.sizes:
        measured = memory.measure(stored)
        print(tables.memory(measured), flush=True)
        tables.save(every, made, measured, memory.MEMORY)


main()
