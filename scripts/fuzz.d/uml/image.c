// SPDX-License-Identifier: GPL-2.0
/*
 * Images in memory: how they are changed, and how all digests that name what was changed are
 * made right again. Without that a reader would refuse almost every one at its first digest.
 */
#define _GNU_SOURCE
#include "image.h"
#include <err.h>
#include <fcntl.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ENTRY 40 /* bytes of an entry of a pack's index: digest, offset, size */
#define TRAILER 8
#define BLOCK 65536

void image_hex(const uint8_t *digest, char *hex)
{
	for (int i = 0; i < 32; i++)
		sprintf(hex + 2 * i, "%02x", digest[i]);
}

static int unhex(const char *hex, uint8_t *digest)
{
	for (int i = 0; i < 32; i++)
		if (sscanf(hex + 2 * i, "%2hhx", &digest[i]) != 1)
			return 0;
	return 1;
}

static int load(struct blob *blob, const char *layout, const uint8_t *digest)
{
	char path[4096], hex[HEX + 1];
	struct stat st;
	int fd;

	image_hex(digest, hex);
	snprintf(path, sizeof(path), "%s/blobs/sha256/%s", layout, hex);
	fd = open(path, O_RDONLY);
	if (fd < 0 || fstat(fd, &st))
		return 0;
	blob->len = st.st_size;
	blob->data = malloc(st.st_size + 1);
	if (read(fd, blob->data, st.st_size) != st.st_size)
		err(1, "%s", path);
	close(fd);
	memcpy(blob->digest, digest, 32);
	blob->is_new = 1;
	return 1;
}

/* Loads the image of a manifest: the blobs that it names, its Rootfs first. */
int image_load(struct image *image, const char *layout, const char *manifest)
{
	uint8_t digest[32];
	char *at;

	memset(image, 0, sizeof(*image));
	if (!unhex(manifest, digest) || !load(&image->blobs[0], layout, digest))
		return 0;
	image->count = 1;
	image->blobs[0].data[image->blobs[0].len] = 0;
	at = strstr((char *)image->blobs[0].data, "\"layers\"");
	while (at && (at = strstr(at, "sha256:")) && image->count < MAX_BLOBS) {
		at += strlen("sha256:");
		if (unhex(at, digest) && load(&image->blobs[image->count], layout, digest))
			image->count++;
	}
	return image->count > 1;
}

void image_copy(struct image *to, const struct image *from)
{
	*to = *from;
	for (unsigned int i = 0; i < to->count; i++) {
		struct blob *blob = &to->blobs[i];

		blob->data = memcpy(malloc(blob->len + 1), blob->data, blob->len);
		blob->is_new = 0;
	}
}

void image_free(struct image *image)
{
	for (unsigned int i = 0; i < image->count; i++)
		free(image->blobs[i].data);
}

static void replace_all(struct blob *blob, const void *old, const void *new, size_t len)
{
	uint8_t *at = blob->data;

	while ((at = memmem(at, blob->data + blob->len - at, old, len))) {
		memcpy(at, new, len);
		at += len;
	}
}

/* Blob `index` was changed: its digest, and the names of it in the Rootfs and the manifest. */
static void rename_blob(struct image *image, unsigned int index)
{
	struct blob *blob = &image->blobs[index];
	char old_hex[HEX + 1], new_hex[HEX + 1];
	uint8_t old[32];

	memcpy(old, blob->digest, 32);
	SHA256(blob->data, blob->len, blob->digest);
	blob->is_new = 1;
	if (!index)
		return;
	image_hex(old, old_hex);
	image_hex(blob->digest, new_hex);
	replace_all(&image->blobs[0], old_hex, new_hex, HEX);
	if (index > 1 && memmem(image->blobs[1].data, image->blobs[1].len, old, 32)) {
		replace_all(&image->blobs[1], old, blob->digest, 32);
		rename_blob(image, 1);
	}
	rename_blob(image, 0);
}

static uint32_t get32(const uint8_t *at)
{
	return at[0] | at[1] << 8 | at[2] << 16 | (uint32_t)at[3] << 24;
}

/* Where the index of a pack begins, and its number of chunks; 0 if it is none. */
static uint32_t pack_index(const struct blob *blob, size_t *start)
{
	uint32_t count;

	if (blob->len < TRAILER || memcmp(blob->data + blob->len - 4, "PzPk", 4))
		return 0;
	count = get32(blob->data + blob->len - TRAILER);
	if (count > (blob->len - TRAILER) / ENTRY)
		return 0;
	*start = blob->len - TRAILER - (size_t)count * ENTRY;
	return count;
}

/* Numbers that mean something: limits, kinds, signs. */
static uint64_t number(void)
{
	static const uint64_t numbers[] = {
		0, 1, 2, 3, 5, 6, 7, 8, 255, 256, 4095, 4096, 65535, 65536, 1 << 24, 16777217,
		0x7fffffff, 0x80000000, 0xffffffff, 1ull << 32, INT64_MAX, UINT64_MAX,
	};

	return numbers[rnd(sizeof(numbers) / sizeof(*numbers))];
}

static void bytes_mutate(uint8_t *data, size_t len)
{
	uint64_t value = number();
	size_t width = 1 << rnd(4);

	if (!len)
		return;
	switch (rnd(4)) {
	case 0:
		data[rnd(len)] ^= 1 << rnd(8);
		break;
	case 1:
		data[rnd(len)] = rnd(256);
		break;
	case 2:
		if (len >= width)
			memcpy(data + rnd(len - width + 1), &value, width);
		break;
	default:
		width = 1 + rnd(len < 64 ? len : 64);
		memmove(data + rnd(len - width + 1), data + rnd(len - width + 1), width);
	}
}

/* A word of a message becomes another: a field, a pointer, a copy. */
static void message_mutate(struct blob *blob)
{
	size_t words = blob->len / 8, at, to, count;
	uint64_t word, value = number();
	int shift, bits;

	if (words < 3)
		return;
	at = 1 + rnd(words - 1);
	to = 1 + rnd(words - 1);
	memcpy(&word, blob->data + 8 * at, 8);
	switch (rnd(7)) {
	case 0: /* a field */
		bits = 16 << rnd(3);
		shift = rnd(64 / bits) * bits;
		value = bits == 64 ? value : value & ((1ull << bits) - 1);
		word = (bits == 64 ? 0 : word & ~(((1ull << bits) - 1) << shift)) | value << shift;
		break;
	case 1: /* a pointer to somewhere else, of the same kind */
		word = (word & 0xffffffff00000003) | (uint32_t)((to - at - 1) << 2);
		break;
	case 2: /* another length of a list */
		word = (word & 0x7ffffffff) | rnd(64) << 35;
		break;
	case 3: /* a tag with another number of elements */
		word = (word & ~0xfffffffcull) | rnd(64) << 2;
		break;
	case 4: /* what is there once more */
		memcpy(&word, blob->data + 8 * to, 8);
		break;
	case 5:
		count = 1 + rnd(8);
		if (at + count <= words && to + count <= words)
			memmove(blob->data + 8 * to, blob->data + 8 * at, 8 * count);
		return;
	default:
		word += rnd(2) ? 1ull << rnd(64) : -(1ull << rnd(64));
	}
	memcpy(blob->data + 8 * at, &word, 8);
}

/* The message, which is the Rootfs so far, goes into raw blocks; the Rootfs says where. */
static void into_blocks(struct image *image)
{
	struct blob *rootfs = &image->blobs[1];
	size_t blocks = (rootfs->len + BLOCK - 1) / BLOCK, words;
	const uint64_t version = 6;
	uint64_t *to;
	uint8_t *message = rootfs->data;
	size_t left = rootfs->len;

	if (!blocks || image->count + blocks > MAX_BLOBS || memcmp(message + 16, &version, 8))
		return; /* only messages of our own writer, of that version */
	/* Frame; root pointer, 3 words and 4 pointers; a list of (len, blob) with what each leads to. */
	words = 1 + 1 + 7 + 1 + 2 * blocks + blocks * (3 + 4);
	to = calloc(words, 8);
	to[0] = (uint64_t)(words - 1) << 32;
	to[1] = 4ull << 48 | 3ull << 32;
	to[2] = version;
	to[7] = 1 << 2 | 1 | (uint64_t)(2 * blocks << 3 | 7) << 32; /* pointer 2, `blocks` */
	to[9] = blocks << 2 | 1ull << 32 | 1ull << 48;
	for (size_t i = 0; i < blocks; i++) {
		size_t element = 10 + 2 * i, blob = 10 + 2 * blocks + 7 * i;
		size_t len = left < BLOCK ? left : BLOCK;
		struct blob *block = &image->blobs[image->count++];

		block->data = memcpy(malloc(len + 1), message, len);
		block->len = len;
		SHA256(block->data, len, block->digest);
		block->is_new = 1;
		message += len;
		left -= len;
		to[element] = len;
		to[element + 1] = (uint32_t)((blob - element - 2) << 2) | 2ull << 32 | 1ull << 48;
		/* A BlobRef: offset, flags, and a pointer to its digest. */
		to[blob + 2] = 1 | (uint64_t)(32 << 3 | 2) << 32;
		memcpy(&to[blob + 3], block->digest, 32);
	}
	free(rootfs->data);
	rootfs->data = (uint8_t *)to;
	rootfs->len = words * 8;
}

static int by_digest(const void *a, const void *b)
{
	return memcmp(a, b, 32);
}

/* A chunk in a pack: its digest in the index, which stays in order, and in the Rootfs. */
static void chunk_mutate(struct image *image, unsigned int index)
{
	struct blob *pack = &image->blobs[index];
	size_t start;
	uint32_t count = pack_index(pack, &start), offset, size;
	uint8_t *entry, old[32];
	int many = 1 + rnd(3);

	if (!count)
		return;
	entry = pack->data + start + rnd(count) * ENTRY;
	offset = get32(entry + 32);
	size = get32(entry + 36);
	if (offset > start || size > start - offset)
		return;
	while (many--) /* its head and its end, where its form is, as often as the rest */
		switch (rnd(3)) {
		case 0:
			bytes_mutate(pack->data + offset, size < 24 ? size : 24);
			break;
		case 1:
			bytes_mutate(pack->data + offset + size - (size < 40 ? size : 40), size < 40 ? size : 40);
			break;
		default:
			bytes_mutate(pack->data + offset, size);
		}
	memcpy(old, entry, 32);
	SHA256(pack->data + offset, size, entry);
	replace_all(&image->blobs[1], old, entry, 32);
	qsort(pack->data + start, count, ENTRY, by_digest);
	rename_blob(image, index);
	rename_blob(image, 1);
}

void image_mutate(struct image *image)
{
	unsigned int index = rnd(image->count), many = 1 + rnd(4);
	struct blob *blob;
	size_t start;
	uint32_t count;

	/* Half of all in the Rootfs: it has most of what there is to get wrong. */
	if (rnd(2))
		index = 1;
	blob = &image->blobs[index];
	if (index == 1) {
		while (many--)
			message_mutate(blob);
		if (!rnd(4))
			into_blocks(image);
		return rename_blob(image, 1);
	}
	if (!index) {
		while (many--)
			bytes_mutate(blob->data, blob->len);
		return rename_blob(image, 0);
	}
	count = pack_index(blob, &start);
	if (count && rnd(4))
		return chunk_mutate(image, index);
	if (count)
		bytes_mutate(blob->data + start, blob->len - start);
	else
		bytes_mutate(blob->data, blob->len);
	rename_blob(image, index);
}

static void path_of(const struct blob *blob, const char *layout, char *path, size_t len)
{
	char hex[HEX + 1];

	image_hex(blob->digest, hex);
	snprintf(path, len, "%s/blobs/sha256/%s", layout, hex);
}

void image_write(struct image *image, const char *layout)
{
	for (unsigned int i = 0; i < image->count; i++) {
		struct blob *blob = &image->blobs[i];
		char path[4096];
		int fd;

		if (!blob->is_new)
			continue;
		path_of(blob, layout, path, sizeof(path));
		fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
		if (fd < 0) {
			blob->is_new = 0; /* another image has the same */
			continue;
		}
		if (write(fd, blob->data, blob->len) != (ssize_t)blob->len)
			err(1, "%s", path);
		close(fd);
	}
}

void image_unlink(const struct image *image, const char *layout)
{
	for (unsigned int i = 0; i < image->count; i++) {
		char path[4096];

		if (!image->blobs[i].is_new)
			continue;
		path_of(&image->blobs[i], layout, path, sizeof(path));
		unlink(path);
	}
}
