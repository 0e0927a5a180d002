#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# shows: licences, versions and sources of all crates that cargo links are those that
# userspace-builder/deny.toml lets in; and that there are no advisories about them, if
# cargo-deny's copy of the RustSec database is in the cache (cargo/advisory-dbs): the
# database is no package of a registry, so nothing here can fetch it.
. "$PUZZLEFS_TOP/scripts/lib.sh"

deny=$("$TOP/scripts/cargo-deny")
cd "$TOP/userspace-builder"
"$deny" --locked check licenses bans sources
if [ -d "$CARGO_HOME/advisory-dbs" ]; then
	"$deny" --locked check --disable-fetch advisories
	echo "licences, versions, sources and advisories are as they should be"
else
	echo "licences, versions and sources are as they should be; ADVISORIES WERE NOT LOOKED AT"
fi
