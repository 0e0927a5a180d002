#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# shows: shell scripts pass shellcheck, the module's Rust is formatted and no line of it over 100
# columns, every file that can have one carries an SPDX head.
set -eu
cd "$PUZZLEFS_TOP"

find . -name .git -prune -o -path ./build -prune -o -name target -prune -o -type f -print >/tmp/files
xargs grep -lE '^#!/bin/sh|^# shellcheck shell=' </tmp/files | xargs shellcheck
grep '^./kmod/.*\.rs$' /tmp/files | xargs rustfmt --edition 2021 --check
# As checkpatch says of the module in a kernel's tree (case 37), which takes longer.
if grep -E '^./(kmod|schema)/.*\.(rs|c|h)$' /tmp/files | grep -v '/tests/' | xargs grep -nE '^.{101}'; then
	echo "are over 100 columns"
	exit 1
fi
grep -vE '/(LICENSE|COPYING|MAINTAINERS|sysfs-fs-puzzlefs|debian/(copyright|changelog|source/format))|\.(md|lock|json)$|/\.(gitignore|shellcheckrc)$|/rust-project.json$|^./fuzz/seeds/' /tmp/files |
	xargs grep -L 'SPDX-License-Identifier:' >/tmp/bare || :
[ ! -s /tmp/bare ] || { cat /tmp/bare; echo "have no SPDX head"; exit 1; }
echo "$(wc -l </tmp/files) files"
