// SPDX-License-Identifier: GPL-2.0
/*
 * cost COMMAND...: runs COMMAND; prints what it took as JSON on file descriptor 3. The peak
 * that the kernel counts for a process includes what it was before exec: here next to nothing.
 */
#include <err.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static double seconds(struct timeval t)
{
	return t.tv_sec + t.tv_usec / 1e6;
}

int main(int argc, char **argv)
{
	struct rusage used;
	int status;
	pid_t pid;

	if (argc < 2)
		errx(2, "usage: cost COMMAND... 3>FILE");
	pid = fork();
	if (pid == 0) {
		execvp(argv[1], argv + 1);
		err(127, "%s", argv[1]);
	}
	if (pid < 0 || wait4(pid, &status, 0, &used) < 0)
		err(1, "%s", argv[1]);
	dprintf(3, "{\"cpu\": %f, \"peak\": %ld}\n", seconds(used.ru_utime) + seconds(used.ru_stime),
		used.ru_maxrss << 10);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
