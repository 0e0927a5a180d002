// SPDX-License-Identifier: GPL-2.0
/*
 * Goes through a mounted image by the system calls that programs use. Bounded: what an image
 * says may be far more than it is. Errors are all right; what is not is another byte, or another
 * error, when the same is read again in another way.
 */
#define _GNU_SOURCE
#include "image.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define MAX_ENTRIES 200 /* of an image */
#define MAX_DEPTH 6
#define MAX_BYTES 262144 /* of a file */
#define PAGE 4096

unsigned long operations, failures, differences;
static int left;
static sigjmp_buf fault;

static long did(long result)
{
	operations++;
	failures += result < 0;
	return result;
}

static void on_bus(int signal)
{
	siglongjmp(fault, signal);
}

/* Reads page `at` by a mapping; -1 if that cannot be. */
static int by_fault(const uint8_t *map, size_t at, uint8_t *to)
{
	if (sigsetjmp(fault, 1))
		return -1;
	memcpy(to, map + at, PAGE);
	return 0;
}

static void differs(const char *path, const char *how, size_t at)
{
	differences++;
	fprintf(stderr, "DIFFERENCE %s at %zu of %s\n", how, at, path);
}

/*
 * Reads a page of the file, or all that there is of it, in three ways: by a mapping, by pread()
 * in no order, and by read() from the front, each with the page cache dropped before.
 */
static void contents(int fd, size_t size, const char *path)
{
	static uint8_t front[MAX_BYTES], other[PAGE];
	size_t len = size < MAX_BYTES ? size : MAX_BYTES, got = 0;
	uint8_t *map;
	ssize_t n = 0;

	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	while (got < len && (n = did(pread(fd, front + got, len - got, got))) > 0)
		got += n;
	if (n < 0 && errno == EINTR)
		return;
	if (got < len && n == 0)
		differs(path, "end", got);
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	for (int i = 0; i < 4 && len; i++) {
		size_t at = rnd((len + PAGE - 1) / PAGE) * PAGE;
		size_t want = len - at < PAGE ? len - at : PAGE;

		n = did(pread(fd, other, want, at));
		/* What was read from the front is what is read now; what was not, is not. */
		if (n > 0 && at + n <= got && memcmp(other, front + at, n))
			differs(path, "bytes", at);
		if (n < 0 && at < got && at + want <= got)
			differs(path, "error of pread", at);
	}
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	map = len ? mmap(NULL, len, PROT_READ, MAP_PRIVATE, fd, 0) : MAP_FAILED;
	if (map == MAP_FAILED)
		return;
	madvise(map, len, rnd(2) ? MADV_RANDOM : MADV_NORMAL);
	for (int i = 0; i < 4; i++) {
		size_t at = rnd((len + PAGE - 1) / PAGE) * PAGE;
		size_t want = len - at < PAGE ? len - at : PAGE;

		if (did(by_fault(map, at, other))) {
			if (at + want <= got)
				differs(path, "error of a fault", at);
		} else if (at + want <= got && memcmp(other, front + at, want)) {
			differs(path, "bytes of a fault", at);
		}
	}
	munmap(map, len);
}

static void regular(int dir, const char *name, const struct stat *st)
{
	static uint64_t room[128];
	struct fiemap *map = (struct fiemap *)room;
	int fd = did(openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK));

	if (fd < 0)
		return;
	did(lseek(fd, rnd(st->st_size + 1), SEEK_HOLE));
	did(lseek(fd, rnd(st->st_size + 1), SEEK_DATA));
	memset(map, 0, sizeof(*map));
	map->fm_length = FIEMAP_MAX_OFFSET;
	map->fm_extent_count = 8;
	did(ioctl(fd, FS_IOC_FIEMAP, map));
	contents(fd, st->st_size, name);
	if (st->st_size > MAX_BYTES) /* its end, too */
		did(pread(fd, room, sizeof(room), st->st_size - rnd(sizeof(room))));
	close(fd);
}

static void attributes(int dir, const char *name)
{
	static char path[8192], names[65536], value[65536];
	ssize_t len;

	snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", dir, name);
	len = did(llistxattr(path, names, sizeof(names)));
	for (char *at = names; at < names + len && left; at += strlen(at) + 1, left--)
		if (did(lgetxattr(path, at, value, sizeof(value))) < 0 && errno == ENODATA)
			differs(at, "listed, not there: xattr", 0);
}

static void directory(int fd, int depth)
{
	struct dirent *entry;
	struct stat st;
	char target[4096];
	DIR *stream = fdopendir(fd);
	int down;

	if (!stream)
		return;
	while (left > 0 && (errno = 0, entry = readdir(stream))) {
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		left--;
		/* It may be listed and not there: a directory that claims to be sorted loses names. */
		if (did(fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW)))
			continue;
		attributes(fd, entry->d_name);
		if (S_ISREG(st.st_mode))
			regular(fd, entry->d_name, &st);
		else if (S_ISLNK(st.st_mode))
			did(readlinkat(fd, entry->d_name, target, sizeof(target)));
		else if (S_ISDIR(st.st_mode) && depth < MAX_DEPTH &&
			 (down = did(openat(fd, entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW))) >= 0)
			directory(down, depth + 1);
	}
	did(errno ? -1 : 0);
	did(fstatat(fd, "no such name", &st, 0));
	closedir(stream);
}

void visit(const char *root)
{
	struct sigaction action = { .sa_handler = on_bus };
	int fd = did(open(root, O_RDONLY | O_DIRECTORY));

	sigaction(SIGBUS, &action, NULL);
	left = MAX_ENTRIES;
	if (fd >= 0)
		directory(fd, 0);
}
