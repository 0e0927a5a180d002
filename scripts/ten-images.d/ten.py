# SPDX-License-Identifier: GPL-2.0
"""ten.py FIRST SECOND [--sizes] [--only FORM,...]: the part of `make ten-images` that runs in the build
root: stores the trees in both directories in each form, has a virtual machine mount and read the
first (not with --sizes), and writes docs/ten-images.json and docs/ten-images.md."""

import argparse
import os
import pathlib

import forms
import memory
import tables


def series(directory, every, **environment):
    """(forms, {form: (place, what is known of it)}) of the trees in a directory."""
    os.environ.update(environment)
    # As they came to be, so that a version follows the one before.
    trees = sorted(directory.iterdir(), key=lambda tree: tree.stat().st_ctime_ns)
    stored = {form.name: forms.stored(form, trees) for form in every}
    made = {name: found for name, (_, found) in stored.items()}
    print(tables.sizes(every, made), tables.du(every, made), sep="\n", flush=True)
    return stored, made


def main():
    parser = argparse.ArgumentParser(prog="scripts/ten-images",
                                     description="the space and the memory that ten related images take")
    parser.add_argument("directories", type=pathlib.Path, nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--sizes", action="store_true", help="no virtual machine; writes nothing")
    parser.add_argument("--only", metavar="FORM,...", help="these forms; as --sizes")
    arguments = parser.parse_args()

    every = forms.forms()
    if arguments.only:
        names = arguments.only.split(",")
        every = [form for form in every if form.name in names]
        peers = [form for form in every if form.peer and form.mounts == 10]
        if len(every) < len(names) or not peers or all(form.peer for form in every):
            known = ", ".join(form.name for form in forms.forms())
            parser.error(f"--only wants one of ours and a peer of ten mounts at least, of: {known}")
    few = [form for form in every if form.name in forms.OF_VERSIONS]
    stored, made = series(arguments.directories[0], every)
    # No builder sees in times what came together.
    _, versions = series(arguments.directories[1], few, SOURCE_DATE_EPOCH="1")
    if not arguments.sizes and not arguments.only:
        measured = memory.measure(stored)
        print(tables.memory(measured), flush=True)
        tables.save((every, made), (few, versions), measured, memory.MEMORY)


main()
