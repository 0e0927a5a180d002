# SPDX-License-Identifier: GPL-2.0
# `make help` says what there is. Kbuild reads the file Kbuild, not this one.

PREFIX ?= /usr/local
module_release = $(shell tr '\0' '\n' <build/puzzlefs.ko | sed -n 's/^vermagic=\([^ ]*\) .*/\1/p')

## make: the module and the CLI, build/puzzlefs.ko and build/puzzlefs
all: kmod cli

## make kmod [KDIR=DIR]: the module, for the stock kernel or for the prepared tree DIR
kmod:
	scripts/build-kmod $(KDIR)

## make cli: the static puzzlefs command, and the program of boot images
cli:
	scripts/build-cli

## make demo: a Debian image, built, mounted in a virtual machine and run from
demo: all
	scripts/demo

## make test [CASES="NAME..."]: all checks and cases, or some; ends with "N passed, N failed"
test: all
	qemu-tests/run $(CASES)

## make sanitizers [CASES="NAME..."]: the cases under a kernel with KASAN, lockdep, kmemleak
sanitizers: cli
	scripts/build-kmod --kernel sanitizers
	PUZZLEFS_KERNEL=sanitizers qemu-tests/run $(CASES)

## make corpus: each of thousands of damaged images, and what is heavy; `make test` takes a sample
corpus: all
	PUZZLEFS_CORPUS=all qemu-tests/run 43 44

## make deaths: who fetches lazy images is killed 200 times below readers; `make test` takes a fifth of it
deaths: all
	PUZZLEFS_CORPUS=all qemu-tests/run 58

## make in-tree: the module in a kernel's own tree, =m and =y, with all its lints; build/vmlinuz-in-tree
in-tree:
	scripts/build-in-tree

## make bench [RUNS=N]: size and speed beside EROFS, squashfs, upstream; writes docs/bench.json and its plots
bench: all
	scripts/bench --runs $(or $(RUNS),1)

## make bench-native [RUNS=N]: the read rows at native speed (user-mode Linux), beside the counted ones; writes docs/bench-native.json
bench-native: cli
	scripts/build-kmod --kernel uml
	scripts/bench --native --runs $(or $(RUNS),12)

## make scale: mount and first read at 10 thousand, 100 thousand and 1 million files
scale: all
	scripts/scale

## make ten-images: ten related images, their size and memory in each form; writes docs/ten-images.md
ten-images: all
	scripts/ten-images

## make pull-bench: what related images take to pull from a registry, beside layers and casync; writes docs/registry.md
pull-bench: all
	scripts/pull-bench

## make lazy-bench: how long services take to start from a registry, lazily and otherwise; writes docs/lazy.md
lazy-bench: all
	scripts/lazy-bench

## make check: what needs no virtual machine (formatting, lints, unit tests)
check: all
	qemu-tests/run --host

## make fuzz [SECONDS=N] [TARGETS="NAME..."]: the readers on any bytes, each target for so long; adds to docs/fuzz.json
fuzz:
	scripts/fuzz --seconds $(or $(SECONDS),60) $(TARGETS)

## make fuzz-uml [SECONDS=N]: the module in user-mode Linux, on changed images; adds to docs/fuzz.json
fuzz-uml: cli
	scripts/build-kmod --kernel uml-fuzz
	scripts/fuzz-uml $(or $(SECONDS),60)

## make load [MINUTES=N] [KERNEL=sanitizers] [SEED=N]: readers of all kinds, mounts, disks and memory that fail; writes docs/load.json
load: all
	$(if $(filter-out stock,$(KERNEL)),scripts/build-kmod --kernel $(KERNEL))
	scripts/load --kernel $(or $(KERNEL),stock) --minutes $(or $(MINUTES),30) $(if $(SEED),--seed $(SEED))

## make rust-analyzer: rust-project.json, for editors
rust-analyzer:
	scripts/rust-analyzer

## make install [DESTDIR=DIR]: the module and the CLI, its man pages, completions and systemd units
install: install-command
	install -D -m 644 -t $(DESTDIR)/lib/modules/$(module_release)/updates build/puzzlefs.ko
	$(if $(DESTDIR),,depmod $(module_release))

# What needs no kernel. Debian's packages have /usr for a prefix, and nothing beside it.
sbin = $(if $(filter /usr,$(PREFIX)),/usr/sbin,/sbin)
share = $(PREFIX)/share
zsh_completions = $(share)/zsh/$(if $(filter /usr,$(PREFIX)),vendor-completions,site-functions)
install-command:
	install -D -t $(DESTDIR)$(PREFIX)/bin build/puzzlefs
	install -D build/puzzlefs-boot $(DESTDIR)$(PREFIX)/libexec/puzzlefs/boot
	install -d $(DESTDIR)$(sbin) $(DESTDIR)$(PREFIX)/lib/systemd/system $(DESTDIR)$(zsh_completions) \
		$(DESTDIR)$(share)/bash-completion/completions $(DESTDIR)$(share)/fish/vendor_completions.d
	ln -sf $(PREFIX)/bin/puzzlefs $(DESTDIR)$(sbin)/mount.puzzlefs
	ln -sf $(PREFIX)/bin/puzzlefs $(DESTDIR)$(sbin)/mount.fuse.puzzlefs
	for unit in daemon snapshotter; do sed 's|@PREFIX@|$(PREFIX)|' systemd/puzzlefs-$$unit.service \
		>$(DESTDIR)$(PREFIX)/lib/systemd/system/puzzlefs-$$unit.service || exit; done
	build/puzzlefs man $(DESTDIR)$(share)/man
	build/puzzlefs completions bash >$(DESTDIR)$(share)/bash-completion/completions/puzzlefs
	build/puzzlefs completions zsh >$(DESTDIR)$(zsh_completions)/_puzzlefs
	build/puzzlefs completions fish >$(DESTDIR)$(share)/fish/vendor_completions.d/puzzlefs.fish

## make deb [KERNELS="NAME..."] [SIGN_KEY=FILE SIGN_CERT=FILE]: Debian packages in build/deb: the command, DKMS, modules
deb: cli
	SIGN_KEY=$(SIGN_KEY) SIGN_CERT=$(SIGN_CERT) scripts/deb $(KERNELS)

## make deb-test: the packages on clean Debian systems, which are booted: installed, upgraded, removed
deb-test: deb
	scripts/deb-test

## make crates: the command's crates as cargo publishes them, each built from its package alone; for `cargo install`
crates:
	scripts/crates

## make clean: removes build/; scripts/clean-cache removes what is stale in the cache
clean:
	rm -rf build rust-project.json

help:
	@sed -n 's/^## //p' $(firstword $(MAKEFILE_LIST))

.PHONY: all kmod cli demo test sanitizers corpus deaths in-tree bench bench-native scale ten-images pull-bench lazy-bench check fuzz fuzz-uml load rust-analyzer install install-command deb deb-test crates clean help
