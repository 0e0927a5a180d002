#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
# needs: images small small-loose peers-cache cache-fast; memory 3G; scratch 2G
# shows: readers of all kinds, mounts and overlayfs at once, in small cgroups, killed, on disks that
# are slow, stand still, fail and lie (and, in the kernel with sanitizers, allocations and requests
# that fail): nothing wrong is read, nothing fails that should not, and all is right afterwards.
# `make load` is the same for longer.

import sys

from load.run import Load

load = Load(minutes=0.5, seed=1)
load.run()
print(f"seed 1: {load.cycles} cycle, {load.kills} readers killed, {len(load.failures)} failures")
sys.exit(bool(load.failures))
