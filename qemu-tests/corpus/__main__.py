# SPDX-License-Identifier: GPL-2.0
import sys

from .generate import main

main(sys.argv[1:])
