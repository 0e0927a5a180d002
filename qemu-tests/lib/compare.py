# SPDX-License-Identifier: GPL-2.0
"""compare.py ROOT IMAGE [FIELD...]: compares a tree with the source of a test image,
except in the FIELDs (see tree.py)."""

import sys

from case import Image, compare

compare(sys.argv[1], Image(sys.argv[2]), sys.argv[3:], least=10000)
