# SPDX-License-Identifier: GPL-2.0
# Sourced by the scripts beside it: where things are, and how progress is said.
# shellcheck shell=sh disable=SC2034

set -eu

TOP=${PUZZLEFS_TOP:-$(cd "$(dirname "$(readlink -f "$0")")/.." && pwd)}
CACHE=${PUZZLEFS_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/puzzlefs}
mkdir -p "$CACHE"

say() { printf '%s\n' "puzzlefs: $*" >&2; }
die() { say "error: $*"; exit 1; }

# key FILE...: a short name for the content of FILEs (and standard input's text).
key() { cat -- "$@" | sha256sum | cut -c1-12; }

# step NAME COMMAND...: runs COMMAND with its output in a log file. Says that it
# began; on a terminal counts the seconds and shows the newest line; says how
# long it took, or shows the end of the log.
step() {
	_name=$1; shift
	_log=$CACHE/log/$(printf %s "$_name" | tr -c 'a-zA-Z0-9.\n' -).log
	mkdir -p "$CACHE/log"
	_start=$(date +%s)
	say "$_name ..."
	"$@" >"$_log" 2>&1 &
	_pid=$!
	# An interrupted caller must not leave the step running behind it.
	trap 'kill "$_pid" 2>/dev/null; exit 130' INT TERM
	_next=15
	while kill -0 "$_pid" 2>/dev/null; do
		_t=$(($(date +%s) - _start))
		_line=$(tail -c 400 "$_log" 2>/dev/null | tr '\r' '\n' | tail -n 1 | tr -cd '[:print:]' | cut -c1-60)
		if [ -t 2 ]; then
			printf '\r\033[K  %3d s  %s' "$_t" "$_line" >&2
		elif [ "$_t" -ge "$_next" ]; then
			say "  $_name: $_t s: $_line"; _next=$((_next + 30))
		fi
		sleep 0.5
	done
	[ ! -t 2 ] || printf '\r\033[K' >&2
	trap - INT TERM
	if wait "$_pid"; then
		say "$_name: done in $(($(date +%s) - _start)) s"
	else
		tail -n 40 "$_log" >&2
		die "$_name failed; the whole log: $_log"
	fi
}

# show_warnings: those of the compiler in the log of the last step.
show_warnings() { grep -A 15 -E '^warning|: warning: ' "$_log" >&2 || :; }

# kbuild_objects TREE SOURCE: where kbuild leaves what it makes; in the cache, so
# that no output lies in the kernel's tree or in the checkout.
kbuild_objects() { echo "$CACHE/kmod-$(printf '%s\n' "$1" "$2" | key -)"; }

# kernel_cc TREE: the C compiler that the kernel TREE was prepared with.
kernel_cc() {
	# Debian's clang says whose it is before its name.
	grep -q '^CONFIG_CC_IS_CLANG=y' "$1/.config" && echo clang && return
	sed -n 's/^CONFIG_CC_VERSION_TEXT="\([^ ]*\).*/\1/p' "$1/.config"
}

# kernel_config TREE FRAGMENT MAKE...: configures the kernel TREE, which MAKE builds, as
# allnoconfig and the lines of FRAGMENT; fails unless all of them come out.
kernel_config() {
	_tree=$1 _fragment=$2; shift 2
	# Lines for Kconfig, without their reasons.
	sed -n 's/^\(CONFIG_[^ \t]*\).*/\1/p' "$_fragment" >"$_tree/fragment.config"
	"$@" KCONFIG_ALLCONFIG=fragment.config allnoconfig
	# Kconfig leaves out what needs something that is not set, without a word.
	_missing=$(sed 's/^\(.*\)=n$/# \1 is not set/' "$_tree/fragment.config" | grep -vxFf "$_tree/.config") || :
	[ -z "$_missing" ] || { echo "not in the configuration: $_missing"; return 1; }
}

# kernel_make TREE ARGUMENT...: make in the kernel TREE, with the compiler that it was
# configured with.
kernel_make() {
	_tree=$1; shift
	_cc=$(kernel_cc "$_tree")
	case $_cc in
	*clang*) set -- LLVM=1 "$@" ;;
	*-gcc*) set -- "CC=$_cc" "CROSS_COMPILE=${_cc%%gcc*}" "$@" ;;
	*) set -- "CC=$_cc" "$@" ;;
	esac
	make -C "$_tree" -j"$(nproc)" "$@"
}

# kbuild TREE SOURCE [TARGET...]: builds the modules of directory SOURCE against the
# prepared kernel TREE.
kbuild() {
	_tree=$1 _source=$2; shift 2
	_objects=$(kbuild_objects "$_tree" "$_source")
	# User-mode Linux builds its Rust position-independent, by a table of addresses that its
	# module loader does not make; its C is of the large model, since modules lie far away.
	! grep -q '^CONFIG_UML=y' "$_tree/.config" ||
		set -- ARCH=um "KRUSTFLAGS=-Crelocation-model=static -Ccode-model=large" "$@"
	# A kernel that is there to say what code ran (scripts/fuzz-uml) wants to know it of these.
	! grep -q '^CONFIG_KCOV=y' "$_tree/.config" || set -- KCOV_INSTRUMENT=y "$@"
	mkdir -p "$_objects"
	(
		flock 8
		kernel_make "$_tree" M="$_source" MO="$_objects" "$@"
	) 8<"$_objects"
}
