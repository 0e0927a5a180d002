#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# shows: convert of an ordinary image, which umoci made in five layers, gives the same Rootfs as build of
# what umoci unpacks of it, after each of the layers; and so it does of what skopeo copies of it into
# archives and directories, compressed by gzip and by zstd. What is exported of it again, as an ordinary
# image or as a tar, is the same tree to umoci and to GNU tar.
set -eu
cd /tmp
puzzlefs=$PUZZLEFS_TOP/build/puzzlefs
rootfs() { "$puzzlefs" "$@" --no-cache --format json | jq -r .rootfs; }

umoci init --layout L
umoci new --image L:0
umoci unpack --image L:0 bundle
tree=$PWD/bundle/rootfs

# Each layer changes what is in the tree, and the next image has one more.
layer() {
	umoci repack --refresh-bundle --image "L:$1" bundle
	rm -rf unpacked
	umoci unpack --image "L:$1" unpacked
	built=$(rootfs build unpacked/rootfs "P:built-$1")
	converted=$(rootfs convert "oci:L:$1" "P:$1")
	echo "$1: $converted"
	[ "$built" = "$converted" ]
}

mkdir "$tree/usr" "$tree/usr/bin" "$tree/usr/lib" "$tree/usr/share"
cp -a /usr/bin/perl /usr/bin/sh /usr/bin/bash /usr/bin/dash "$tree/usr/bin"
cp -a /usr/lib/python3 "$tree/usr/lib"
cp -a /usr/share/perl5 /usr/share/doc "$tree/usr/share"
cp -a /etc "$tree"
layer 1
rm -r "$tree/usr/share/perl5" "$tree/etc/apt" "$tree/etc/hostname"
echo file >"$tree/etc/apt"
mkdir "$tree/etc/hostname"
touch -d @1700000000.123456789 "$tree/etc/hostname/in"
layer 2
cp "$tree/usr/bin/perl" "$tree/capable"
setcap cap_net_raw+ep "$tree/capable"
setfattr -n user.key -v 0x0a3d00ff "$tree/etc"
ln "$tree/usr/bin/sh" "$tree/usr/bin/bash" "$tree/etc"
mknod "$tree/null" c 1 3
mknod "$tree/disk" b 8 1
mkfifo "$tree/fifo"
ln -s /../../etc "$tree/link"
truncate -s 64M "$tree/sparse"
echo data | dd of="$tree/sparse" bs=1 seek=40000000 conv=notrunc status=none
chmod 4755 "$tree/capable"
chown 1000:100000 "$tree/fifo"
layer 3
rm -r "$tree/usr/lib/python3"
mkdir -p "$tree/usr/lib/python3/again"
ln "$tree/etc/bash" "$tree/usr/lib/python3/again"
rm "$tree/etc/bash" "$tree/null"
mkdir "$tree/null"
layer 4
find "$tree/usr/share/doc" -name 'c*' -exec rm -r {} +
chmod 700 "$tree/usr"
chown -h 5:6 "$tree/link"
layer 5

skopeo copy -q oci:L:5 docker-archive:docker.tar:app:5
skopeo copy -q oci:L:5 oci-archive:oci.tar:five
skopeo copy -q oci:L:5 dir:dir
# What is compressed already stays so; this archive is not.
skopeo copy -q --dest-compress-format zstd docker-archive:docker.tar oci:Z:5
grep -lq "tar+zstd" Z/blobs/sha256/*
for source in docker-archive:docker.tar docker-archive:docker.tar:app:5 oci-archive:oci.tar:five dir:dir oci:Z:5; do
	found=$(rootfs convert "$source" P:5)
	[ "$found" = "$converted" ] || { echo "$source: $found"; exit 1; }
done
"$puzzlefs" verify P:5

for method in none gzip; do
	"$puzzlefs" export --to "oci:O:$method" --compression "$method" P:5
	rm -rf unpacked
	umoci unpack --image "O:$method" unpacked
	found=$(rootfs build unpacked/rootfs "P:$method")
	[ "$found" = "$converted" ] || { echo "exported, by $method: $found"; exit 1; }
	umoci config --image "O:$method" --config.user 7
done
skopeo inspect --config oci:O:gzip | jq -e '.config.User == "7" and (.history[-2].created_by == "puzzlefs export")'
# umoci knows no zstd, and skopeo unpacks it.
"$puzzlefs" export --to oci:O:zstd --compression zstd P:5
skopeo copy -q oci:O:zstd docker-archive:exported.tar
[ "$(rootfs convert docker-archive:exported.tar P:zstd)" = "$converted" ]
mkdir untarred
"$puzzlefs" export P:5 | tar -C untarred --xattrs --xattrs-include='*' --numeric-owner -xp
[ "$(rootfs build untarred P:tar)" = "$converted" ]
echo "five images and five ways to the last: $converted"
