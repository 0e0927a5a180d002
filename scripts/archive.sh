# SPDX-License-Identifier: GPL-2.0
# Sourced after lib.sh by what makes a Debian root: which archive to use, and how.
# shellcheck shell=sh

[ "$(id -u)" = 0 ] || die "making a Debian root needs root (chroot and mounts)"

host_packages() {
	apt-get update
	DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
		mmdebstrap debian-archive-keyring ca-certificates
}
command -v mmdebstrap >/dev/null || step "host packages" host_packages

# mirror LABEL: the first repository of this machine's apt that carries LABEL.
mirror() {
	# shellcheck disable=SC2016 # apt expands these
	apt-get indextargets --format '$(LABEL)|$(REPO_URI)' 'Created-By: Packages' |
		sed -n "s/^$1|//p" | head -n 1
}
main=${PUZZLEFS_MIRROR:-$(mirror Debian)}
[ -n "$main" ] || { step "package lists" apt-get update; main=$(mirror Debian); }
[ -n "$main" ] || die "apt knows no Debian mirror here; set PUZZLEFS_MIRROR"
security=${PUZZLEFS_SECURITY_MIRROR:-$(mirror Debian-Security)}

# debian DIR OPTION...: makes DIR a Debian 13 from that archive, with what the
# OPTIONs of mmdebstrap add. Its processes and mounts end with it, so that what
# an interrupted run leaves can be removed.
debian() {
	_dir=$1; shift
	rm -rf "$_dir"
	{
		for _suite in trixie trixie-updates trixie-backports; do echo "deb $main $_suite main"; done
		[ -z "$security" ] || echo "deb $security trixie-security main"
	} | setpriv --pdeathsig KILL unshare --mount --pid --mount-proc --fork --kill-child=KILL \
		mmdebstrap --mode=root --format=directory --aptopt='Acquire::Retries "5"' \
		--aptopt='APT::Install-Recommends "false"' "$@" trixie "$_dir" -
}
