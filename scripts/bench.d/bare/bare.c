// SPDX-License-Identifier: GPL-2.0
/*
 * The floor of `make bench`: what zstd and SHA-256 take in this kernel with no file system
 * around them, and what it takes to map pages side by side, which decompressors do.
 * Loading the module measures; its parameters in /sys then say how long, in ns.
 */
#include <crypto/sha2.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/ktime.h>
#include <linux/module.h>
#include <linux/vmalloc.h>
#include <linux/zstd.h>

static char *frames = "";
module_param(frames, charp, 0);
MODULE_PARM_DESC(frames, "file of zstd frames, one after another");
static unsigned long size;
module_param(size, ulong, 0);
MODULE_PARM_DESC(size, "what they decompress to, in bytes");

static unsigned long zstd_ns, sha256_ns;
module_param(zstd_ns, ulong, 0444);
MODULE_PARM_DESC(zstd_ns, "result: decompressing all frames");
module_param(sha256_ns, ulong, 0444);
MODULE_PARM_DESC(sha256_ns, "result: hashing what came out");
static unsigned long vmap_ns;
module_param(vmap_ns, ulong, 0444);
MODULE_PARM_DESC(vmap_ns, "result: mapping a page beside others, touching it, unmapping it");

#define VMAP_PAGES 16	/* 64 KiB, as one chunk */
#define VMAP_TIMES 64

static int measure_vmap(void)
{
	struct page *pages[VMAP_PAGES];
	int i, times, ret = 0;
	u64 t0;

	for (i = 0; i < VMAP_PAGES; i++) {
		pages[i] = alloc_page(GFP_KERNEL);
		if (!pages[i]) {
			ret = -ENOMEM;
			goto free;
		}
	}
	t0 = ktime_get_ns();
	for (times = 0; times < VMAP_TIMES; times++) {
		u8 *mapped = vm_map_ram(pages, VMAP_PAGES, NUMA_NO_NODE);

		if (!mapped) {
			ret = -ENOMEM;
			goto free;
		}
		for (int page = 0; page < VMAP_PAGES; page++)
			WRITE_ONCE(mapped[page * PAGE_SIZE], 1);
		vm_unmap_ram(mapped, VMAP_PAGES);
	}
	vmap_ns = (ktime_get_ns() - t0) / (VMAP_TIMES * VMAP_PAGES);
free:
	while (i--)
		__free_page(pages[i]);
	return ret;
}

static int measure(const void *stored, size_t length, void *content, void *workspace)
{
	zstd_dctx *dctx = zstd_init_dctx(workspace, zstd_dctx_workspace_bound());
	u8 digest[SHA256_DIGEST_SIZE];
	u64 t0, t1, t2;
	size_t got;

	t0 = ktime_get_ns();
	got = zstd_decompress_dctx(dctx, content, size, stored, length);
	t1 = ktime_get_ns();
	sha256(content, size, digest);
	t2 = ktime_get_ns();
	if (zstd_is_error(got) || got != size)
		return -EINVAL;
	zstd_ns = t1 - t0;
	sha256_ns = t2 - t1;
	return 0;
}

static int measure_file(struct file *file)
{
	loff_t length = i_size_read(file_inode(file)), pos = 0;
	void *stored = vmalloc(length), *content = vzalloc(size), *workspace = vmalloc(zstd_dctx_workspace_bound());
	int ret = -ENOMEM;

	if (stored && content && workspace)
		ret = kernel_read(file, stored, length, &pos) == length ?
		      measure(stored, length, content, workspace) : -EIO;
	vfree(stored);
	vfree(content);
	vfree(workspace);
	return ret;
}

static int __init bare_init(void)
{
	struct file *file = filp_open(frames, O_RDONLY, 0);
	int ret;

	if (IS_ERR(file))
		return PTR_ERR(file);
	ret = measure_file(file);
	fput(file);
	return ret ?: measure_vmap();
}
module_init(bare_init);

static void __exit bare_exit(void)
{
}
module_exit(bare_exit);

MODULE_DESCRIPTION("Measures bare zstd and SHA-256");
MODULE_LICENSE("GPL");
