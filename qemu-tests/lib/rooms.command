# SPDX-License-Identifier: GPL-2.0
# The rooms of the command (folders of userspace-builder/puzzlefs/src/), the top one first, each with
# those that it imports, which stand below it. qemu-tests/host/rooms.py holds the code against it, both
# ways. `top` is the root of the library, `main` that of the program.

top: base # the errors of the library
main: cli
cli: layer_store snapshotter node build boot bundle cache pull daemon lazy remote registry upkeep reports verify extract export profile fuse mount image encode chunks source layout tree base
layer_store: snapshotter remote layout host base
snapshotter: build node daemon mount image layout base
build: metadata profile cache image encode chunks source layers layout tree host base
metadata: image encode chunks tree host
boot: node bundle pull extract fuse image lazy remote registry layout base
node: daemon mount remote registry layout base
pull: cache image lazy remote chunks layout base
daemon: lazy mount chunks layout base
upkeep: profile image chunks layout base
reports: profile image chunks layout base
verify: image chunks layout base host
bundle: extract mount image layout base
extract: image chunks base host
export: image layout base
profile: mount image chunks layout base
fuse: mount image lazy chunks layout base
mount: layout host base
cache: encode chunks layout tree host base
image: chunks layout base
encode: chunks layout base
lazy: remote chunks layout base
remote: registry chunks layout base
chunks: layout base
source: layers registry layout host base
layers: tree host base
registry: layout base
layout: host base
tree: host base
host:
base:

# What is for people at terminals only stays out of the library.
says clap: cli
says indicatif: cli
# The protocol of FUSE is spoken in one place.
says fuser: fuse
# gRPC is spoken in one place.
says tonic: snapshotter
says puzzlefs_containerd: snapshotter
