#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# needs: host
# shows: scripts/vm returns COMMAND's own status; it sees a
# crash, a warning of a kernel whose COMMAND succeeded, a machine that dies and one that
# hangs; what it runs sees the module, the CLI, /scratch with verity and no way to write
# into the build root.
# shellcheck disable=SC2016 # the machine's shell expands them
. "$PUZZLEFS_TOP/scripts/lib.sh"

# expect STATUS COMMAND...: COMMAND in a machine makes scripts/vm exit with STATUS.
expect() {
	want=$1; shift
	got=0
	"$TOP/scripts/vm" --memory 512M -- "$@" >"$work/out" 2>"$work/err" || got=$?
	[ "$got" = "$want" ] || { cat "$work/err"; die "scripts/vm -- $*: status $got, want $want"; }
	say "status $want: $*"
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tree=$("$TOP/scripts/kernel")
kbuild "$tree" "$TOP/qemu-tests/harness" modules >"$work/log" || { cat "$work/log"; exit 1; }
provoke=$(kbuild_objects "$tree" "$TOP/qemu-tests/harness")/provoke.ko

expect 0 sh -euc 'test "$1" = "it'\''s  two"; lsmod | grep -q ^puzzlefs; test -x /sbin/mount.puzzlefs
	puzzlefs --version; echo out; echo err >&2
	dumpe2fs -h /dev/vda 2>/dev/null | grep -q verity; touch /scratch/file
	! touch /etc/file 2>/dev/null' sh "it's  two"
grep -qx out "$work/out"
grep -qx err "$work/err"
[ "$(wc -l <"$work/err")" = 1 ] || die "the kernel log is mixed with standard error"

expect 1 false
expect 77 sh -c 'exit 77'
expect 123 insmod "$provoke" what=warn
expect 123 sh -c 'insmod "$1" what=bug; true' sh "$provoke"
expect 123 sh -c 'echo c >/proc/sysrq-trigger'
expect 125 sh -c 'echo o >/proc/sysrq-trigger; sleep 60'
PUZZLEFS_VM_TIMEOUT=25 expect 124 sleep 100
