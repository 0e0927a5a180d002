/* SPDX-License-Identifier: GPL-2.0 */
/* What the guest of `make fuzz-uml` consists of: guest.c, image.c, visit.c. */
#include <stddef.h>
#include <stdint.h>

#define HEX 64
#define MAX_BLOBS 32

struct blob {
	uint8_t *data;
	size_t len;
	uint8_t digest[32];
	int is_new; /* its file is to be written, and to be removed again */
};

/* An image: blob 0 is the manifest, blob 1 the Rootfs, the others are packs and chunks. */
struct image {
	struct blob blobs[MAX_BLOBS];
	unsigned int count;
};

uint64_t rnd(uint64_t below);

/* image.c */
int image_load(struct image *image, const char *layout, const char *manifest);
void image_copy(struct image *to, const struct image *from);
void image_free(struct image *image);
void image_mutate(struct image *image);
void image_write(struct image *image, const char *layout);
void image_unlink(const struct image *image, const char *layout);
void image_hex(const uint8_t *digest, char *hex);

/* visit.c */
void visit(const char *root);
extern unsigned long operations, failures, differences;
