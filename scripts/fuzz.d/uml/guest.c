// SPDX-License-Identifier: GPL-2.0
/*
 * guest SECONDS LAYOUT OUT: the guest's half of `make fuzz-uml`. Changes the images of LAYOUT,
 * mounts each, goes through it, unmounts it, and keeps those that made the module run code that
 * none had before (kcov): they are changed again. Before each mount the image is written to
 * OUT/current, so that one which kills the machine is known. Says what it did in OUT/counts.
 */
#define _GNU_SOURCE
#include "image.h"
#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kcov.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LAYOUT "/tmp/fuzz"
#define MOUNT "/mnt/fuzz"
#define COVER (256 << 10) /* program counters of one image */
#define MAP 65536
#define MAX_CORPUS 4000
#define SLOW 5 /* seconds for one image */

static struct image corpus[MAX_CORPUS];
static unsigned int corpus_count;
static unsigned long *cover;
static uint8_t seen[MAP];
static unsigned long mounts, refused, edges, slow;
static uint64_t state;

/* A number below `below` (splitmix64). */
uint64_t rnd(uint64_t below)
{
	uint64_t z = state += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	z ^= z >> 31;
	return below ? z % below : 0;
}

static void kcov_begin(void)
{
	int fd = open("/sys/kernel/debug/kcov", O_RDWR);

	if (fd < 0 || ioctl(fd, KCOV_INIT_TRACE, COVER))
		err(1, "kcov");
	cover = mmap(NULL, COVER * sizeof(*cover), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (cover == MAP_FAILED || ioctl(fd, KCOV_ENABLE, KCOV_TRACE_PC))
		err(1, "kcov");
}

/* How many edges the module took since, that it had not taken before. */
static unsigned int kcov_new(void)
{
	unsigned long count = __atomic_load_n(&cover[0], __ATOMIC_RELAXED), last = 0;
	unsigned int new = 0;

	for (unsigned long i = 1; i <= count; i++) {
		unsigned long edge = (cover[i] * 0x9e3779b97f4a7c15 >> 48 ^ last) % MAP;

		new += !seen[edge];
		seen[edge] = 1;
		last = (cover[i] * 0x9e3779b97f4a7c15 >> 49);
	}
	edges += new;
	return new;
}

/* The image in one file, for whoever has to find out what it did: sizes and bytes of its blobs. */
static void save(const struct image *image, const char *path)
{
	FILE *f = fopen(path, "w");

	if (!f)
		err(1, "%s", path);
	for (unsigned int i = 0; i < image->count; i++) {
		char hex[HEX + 1];

		image_hex(image->blobs[i].digest, hex);
		fprintf(f, "%s %zu\n", hex, image->blobs[i].len);
		fwrite(image->blobs[i].data, 1, image->blobs[i].len, f);
	}
	fclose(f);
}

/* Whether the kernel has complained since; the console has what it said. */
static int complained(void)
{
	static int fd = -1;
	char line[8192];
	ssize_t len;
	int found = 0;

	if (fd < 0) {
		fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK);
		lseek(fd, 0, SEEK_END);
	}
	while ((len = read(fd, line, sizeof(line) - 1)) > 0 || (len < 0 && errno == EPIPE)) {
		if (len < 0)
			continue;
		line[len] = 0;
		found |= strstr(line, "BUG") || strstr(line, "WARNING") || strstr(line, "UBSAN") ||
			 strstr(line, "stall") || strstr(line, "page allocation failure");
	}
	return found;
}

static void try(struct image *image, const char *out, int is_seed)
{
	char options[256], hex[HEX + 1], path[4096];
	unsigned long before = differences;
	struct timespec start, end;
	int is_kept;

	snprintf(path, sizeof(path), "%s/current", out);
	save(image, path);
	image_write(image, LAYOUT);
	image_hex(image->blobs[0].digest, hex);
	snprintf(options, sizeof(options), "oci_root_dir=" LAYOUT ",image_manifest=%s", hex);
	clock_gettime(CLOCK_MONOTONIC, &start);
	__atomic_store_n(&cover[0], 0, __ATOMIC_RELAXED);
	mounts++;
	if (!mount("none", MOUNT, "puzzlefs", MS_NODEV, options)) {
		visit(MOUNT);
		if (umount2(MOUNT, 0))
			err(1, "umount");
	} else {
		refused++;
		if (is_seed)
			err(1, "a seed cannot be mounted");
	}
	is_kept = kcov_new() && corpus_count < MAX_CORPUS;
	clock_gettime(CLOCK_MONOTONIC, &end);
	if (end.tv_sec - start.tv_sec > SLOW || differences > before || complained()) {
		slow += end.tv_sec - start.tv_sec > SLOW;
		snprintf(path, sizeof(path), "%s/found-%lu-%ld", out, mounts, (long)time(NULL));
		save(image, path);
		fprintf(stderr, "FOUND %s: %ld s\n", path, (long)(end.tv_sec - start.tv_sec));
	}
	if (is_kept || is_seed)
		corpus[corpus_count++] = *image;
	else {
		image_unlink(image, LAYOUT);
		image_free(image);
	}
}

static void counts(const char *out)
{
	char path[4096];
	FILE *f;

	snprintf(path, sizeof(path), "%s/counts", out);
	f = fopen(path, "w");
	if (!f)
		err(1, "%s", path);
	fprintf(f, "mounts %lu\nrefused %lu\nedges %lu\ncorpus %u\noperations %lu\nfailures %lu\n"
		"differences %lu\nslow %lu\n", mounts, refused, edges, corpus_count, operations, failures,
		differences, slow);
	fclose(f);
}

int main(int argc, char **argv)
{
	time_t end;
	char line[256], list[4096];
	FILE *f;

	if (argc != 4)
		errx(1, "usage: guest SECONDS LAYOUT OUT");
	state = time(NULL) * 1000003ull ^ getpid();
	mkdir(LAYOUT, 0755);
	mkdir(LAYOUT "/blobs", 0755);
	mkdir(LAYOUT "/blobs/sha256", 0755);
	mkdir(MOUNT, 0755);
	if (mount("debugfs", "/sys/kernel/debug", "debugfs", 0, NULL) && errno != EBUSY)
		err(1, "debugfs");
	kcov_begin();
	complained();
	snprintf(list, sizeof(list), "%s/manifests", argv[2]);
	f = fopen(list, "r");
	while (f && fgets(line, sizeof(line), f)) {
		struct image image;

		if (strlen(line) < HEX || !image_load(&image, argv[2], line))
			errx(1, "no image: %s", line);
		try(&image, argv[3], 1);
	}
	if (!corpus_count)
		errx(1, "no images in %s", list);
	for (end = time(NULL) + atoi(argv[1]); time(NULL) < end;) {
		struct image image;

		/* The newest, or any. */
		image_copy(&image, &corpus[rnd(2) ? rnd(corpus_count) : corpus_count - 1 - rnd(corpus_count / 8 + 1)]);
		do
			image_mutate(&image);
		while (!rnd(4));
		try(&image, argv[3], 0);
		if (mounts % 1000 == 0)
			counts(argv[3]);
	}
	counts(argv[3]);
	return differences || slow;
}
