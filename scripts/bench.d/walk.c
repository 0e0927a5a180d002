// SPDX-License-Identifier: GPL-2.0
/*
 * walk [--cold] ROW DIR [ARGUMENT]...: one row of `make bench` on the tree DIR, with
 * what it took on standard output, as JSON. Static, and locked in memory, so that
 * nothing but the measured filesystem is read while the clock runs.
 *
 *	stat DIR			every entry, depth first, as readdir() gives them
 *	read DIR LIST			the files of LIST, each to its end
 *	random DIR LIST			4 KiB of each file of LIST, at the offset beside it
 *	exec DIR PROGRAM [ARG]...	a program of the tree, with DIR as its root
 *	mount DIR TYPE SOURCE OPTIONS	mount(2)
 *	drop DIR			nothing
 *
 * LIST is a file of records "OFFSET PATH" that end with NUL. --cold empties the page
 * cache, dentries and inodes first. When WALK_PERF names the control pipe of `perf
 * record` (and WALK_PERF.ack the other one), it records exactly what the clock sees.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char buffer[128 << 10];
static unsigned long count, bytes;

struct memory {
	long cache, slab, free;
};

static void write_to(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		err(1, "%s", path);
	close(fd);
}

/* KiB that are free to the page: MemFree lacks what each processor has on lists of its own. */
static long free_memory(void)
{
	char line[256];
	long value, pages = 0;
	FILE *f;

	if (!access("/proc/sys/vm/stat_refresh", W_OK)) /* of SMP kernels only */
		write_to("/proc/sys/vm/stat_refresh", "1");
	f = fopen("/proc/zoneinfo", "r");
	if (!f)
		err(1, "/proc/zoneinfo");
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, " nr_free_pages %ld", &value) == 1 ||
		    sscanf(line, " count: %ld", &value) == 1)
			pages += value;
	fclose(f);
	return pages * (sysconf(_SC_PAGESIZE) >> 10);
}

/* /proc/meminfo in KiB; Buffers is the page cache of block devices. */
static struct memory memory(void)
{
	struct memory now = {0};
	char name[64];
	long value;
	FILE *f = fopen("/proc/meminfo", "r");

	if (!f)
		err(1, "/proc/meminfo");
	while (fscanf(f, "%63[^:]: %ld%*[^\n]\n", name, &value) == 2) {
		if (!strcmp(name, "Cached") || !strcmp(name, "Buffers"))
			now.cache += value;
		if (!strcmp(name, "Slab"))
			now.slab = value;
	}
	fclose(f);
	now.free = free_memory();
	return now;
}

static void perf(const char *command)
{
	const char *control = getenv("WALK_PERF");
	char ack[256];
	int fd;

	if (!control)
		return;
	snprintf(ack, sizeof(ack), "%s.ack", control);
	fd = open(ack, O_RDONLY | O_NONBLOCK);
	if (fd < 0 || fcntl(fd, F_SETFL, 0))
		err(1, "%s", ack);
	write_to(control, command);
	while (read(fd, ack, sizeof(ack)) == 0)
		usleep(1000);
	close(fd);
}

/* Opens relative to the directory, so that a path of a tree cannot leave it. */
static void stat_all(int dir)
{
	DIR *stream = fdopendir(dir);
	struct dirent *e;
	struct stat st;

	if (!stream)
		err(1, "fdopendir");
	while ((e = readdir(stream))) {
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		if (fstatat(dir, e->d_name, &st, AT_SYMLINK_NOFOLLOW))
			err(1, "stat %s", e->d_name);
		count++;
		if (S_ISDIR(st.st_mode)) {
			int sub = openat(dir, e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);

			if (sub < 0)
				err(1, "open %s", e->d_name);
			stat_all(sub);
		}
	}
	closedir(stream);
}

static void read_list(int dir, const char *list, const char *end, int whole)
{
	while (list < end) {
		char *path;
		off_t offset = strtoll(list, &path, 10);
		int fd = openat(dir, ++path, O_RDONLY);
		ssize_t got;

		if (fd < 0)
			err(1, "open %s", path);
		if (whole)
			while ((got = read(fd, buffer, sizeof(buffer))) > 0)
				bytes += got;
		else if ((got = pread(fd, buffer, 4096, offset)) > 0)
			bytes += got;
		if (got < 0)
			err(1, "read %s", path);
		close(fd);
		count++;
		list = path + strlen(path) + 1;
	}
}

static void run(const char *dir, char **program)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		if (chroot(dir) || chdir("/"))
			err(126, "chroot %s", dir);
		execv(program[0], program);
		err(127, "%s", program[0]);
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0 || status)
		errx(1, "%s failed", program[0]);
	count++;
}

static char *load(const char *path, char **end)
{
	struct stat st;
	char *text;
	int fd = open(path, O_RDONLY);

	if (fd < 0 || fstat(fd, &st) || !(text = malloc(st.st_size + 1)) ||
	    read(fd, text, st.st_size) != st.st_size)
		err(1, "%s", path);
	close(fd);
	*end = text + st.st_size;
	return text;
}

int main(int argc, char **argv)
{
	int cold = argc > 1 && !strcmp(argv[1], "--cold");
	const char *row, *dir;
	char **arg, *list = NULL, *end = NULL;
	struct memory before, after;
	struct timespec t0, t1;
	int fd = -1;

	if (argc < 3 + cold)
		errx(2, "usage: walk [--cold] ROW DIR [ARGUMENT]...");
	row = argv[1 + cold];
	dir = argv[2 + cold];
	arg = argv + 3 + cold;
	if (!strcmp(row, "read") || !strcmp(row, "random"))
		list = load(arg[0], &end);
	if (mlockall(MCL_CURRENT))
		err(1, "mlockall");
	if (cold) {
		sync();
		write_to("/proc/sys/vm/drop_caches", "3");
	}
	if (list || !strcmp(row, "stat"))
		if ((fd = open(dir, O_RDONLY | O_DIRECTORY)) < 0)
			err(1, "%s", dir);

	before = memory();
	perf("enable\n");
	clock_gettime(CLOCK_MONOTONIC, &t0);
	if (list)
		read_list(fd, list, end, !strcmp(row, "read"));
	else if (!strcmp(row, "stat"))
		stat_all(dup(fd));
	else if (!strcmp(row, "exec"))
		run(dir, arg);
	else if (!strcmp(row, "mount") && mount(arg[1], dir, arg[0], MS_RDONLY, arg[2]))
		err(1, "mount %s", arg[1]);
	clock_gettime(CLOCK_MONOTONIC, &t1);
	perf("disable\n");
	after = memory();

	printf("{\"ns\": %lld, \"count\": %lu, \"bytes\": %lu, \"cache\": %ld, \"slab\": %ld, \"used\": %ld}\n",
	       (t1.tv_sec - t0.tv_sec) * 1000000000LL + t1.tv_nsec - t0.tv_nsec, count, bytes,
	       (after.cache - before.cache) << 10, (after.slab - before.slab) << 10,
	       (before.free - after.free) << 10);
	return 0;
}
