# SPDX-License-Identifier: GPL-2.0
"""record.py LAYOUT FILE SERVICE: the part of `make lazy-bench` that records, in a virtual machine, what a service reads
until it answers."""

import os
import shutil
import sys

sys.path += [os.path.join(os.path.dirname(__file__), "../../qemu-tests/lib")]
from services import SERVICES, answered, stop

layout, file, title = sys.argv[1:]
service = SERVICES[title]
# Events of what is read come from disks only (fanotify_mark(2)).
shutil.copytree(layout, "/scratch/layout")
command = ["puzzlefs", "profile", "record", "-o", "/scratch/profile", "/scratch/layout:tag", "--", *service.command]
stop(answered(service, command, "/nowhere"))
shutil.copy("/scratch/profile", file)
