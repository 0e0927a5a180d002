// SPDX-License-Identifier: GPL-2.0
/*
 * Inline functions and macros of the kernel as functions that Rust can call.
 * One line each: anything longer belongs in Rust.
 */
#include <linux/backing-dev.h>
#include <linux/capability.h>
#include <linux/cred.h>
#include <linux/fsverity.h>
#include <linux/highmem.h>
#include <linux/kdev_t.h>
#include <linux/ratelimit.h>
#include <linux/sched/signal.h>
#include <linux/security.h>
#include <linux/semaphore.h>
#include <linux/slab.h>
#include <linux/uio.h>
#include <linux/wait_bit.h>
#include <linux/workqueue.h>

#include "bindings.h"

struct inode *vfs_rs_alloc_inode(struct super_block *sb, struct kmem_cache *cache)
{
	return alloc_inode_sb(sb, cache, GFP_KERNEL);
}

struct kmem_cache *vfs_rs_inode_cache(const char *name, unsigned int size,
				      unsigned int align, bool account, void (*ctor)(void *))
{
	return kmem_cache_create(name, size, align,
				 SLAB_RECLAIM_ACCOUNT | (account ? SLAB_ACCOUNT : 0), ctor);
}

struct backing_dev_info *vfs_rs_bdi_get(struct backing_dev_info *bdi)
{
	return bdi_get(bdi);
}

bool vfs_rs_inode_is_new(struct inode *inode)
{
	return inode_state_read_once(inode) & I_NEW;
}

bool vfs_rs_inode_set_owner(struct inode *inode, u32 uid, u32 gid)
{
	i_uid_write(inode, uid);
	i_gid_write(inode, gid);
	return uid_valid(inode->i_uid) && gid_valid(inode->i_gid);
}

void vfs_rs_inode_set_times(struct inode *inode, s64 sec, u32 nsec)
{
	inode_set_mtime(inode, sec, nsec);
	inode_set_atime(inode, sec, nsec);
	inode_set_ctime(inode, sec, nsec);
}

u64 vfs_rs_inode_ctime_sec(const struct inode *inode)
{
	return inode_get_ctime_sec(inode);
}

u32 vfs_rs_inode_ctime_nsec(const struct inode *inode)
{
	return inode_get_ctime_nsec(inode);
}

void vfs_rs_inode_set_size(struct inode *inode, loff_t size)
{
	i_size_write(inode, size);
}

loff_t vfs_rs_inode_size(const struct inode *inode)
{
	return i_size_read(inode);
}

struct address_space *vfs_rs_inode_mapping(const struct inode *inode)
{
	return READ_ONCE(inode->i_mapping);
}

bool vfs_rs_inode_share_mapping(struct inode *inode, struct address_space *mapping)
{
	return cmpxchg(&inode->i_mapping, &inode->i_data, mapping) == &inode->i_data;
}

size_t vfs_rs_iter_count(const struct iov_iter *iter)
{
	return iov_iter_count(iter);
}

bool vfs_rs_mapping_has_pages(const struct address_space *mapping)
{
	return READ_ONCE(mapping->nrpages);
}

void vfs_rs_mapping_avoid_highmem(struct address_space *mapping)
{
	/* Where there is none, the flag is what lets pages be in ZONE_MOVABLE. */
	if (IS_ENABLED(CONFIG_HIGHMEM))
		mapping_set_gfp_mask(mapping, mapping_gfp_constraint(mapping, ~__GFP_HIGHMEM));
}

void vfs_rs_mapping_set_large_folios(struct address_space *mapping)
{
	mapping_set_large_folios(mapping);
}

struct inode *vfs_rs_file_inode(const struct file *file)
{
	return file_inode(file);
}

void vfs_rs_bound_readahead(struct file *file, unsigned int pages)
{
	file->f_ra.ra_pages = min(file->f_ra.ra_pages, pages);
}

unsigned int vfs_rs_readahead(const struct file *file)
{
	return file->f_ra.ra_pages;
}

/* The superblock that a file's data are on, as overlayfs has it; its own for other filesystems. */
const struct super_block *vfs_rs_file_real_super(const struct file *file)
{
	return d_real_inode(file->f_path.dentry)->i_sb;
}

struct inode *vfs_rs_path_inode(const struct path *path)
{
	return d_backing_inode(path->dentry);
}

int vfs_rs_fs_verity_digest(const struct file *file, u8 *digest, u8 *algorithm)
{
	return fsverity_get_digest(file_inode(file), digest, algorithm, NULL);
}

bool vfs_rs_dir_emit_dots(struct file *file, struct dir_context *ctx)
{
	return dir_emit_dots(file, ctx);
}

bool vfs_rs_dir_emit(struct dir_context *ctx, const char *name, int len, u64 ino,
		     unsigned int type)
{
	return dir_emit(ctx, name, len, ino, type);
}

struct folio *vfs_rs_readahead_folio(struct readahead_control *ractl)
{
	return readahead_folio(ractl);
}

loff_t vfs_rs_readahead_pos(const struct readahead_control *ractl)
{
	return readahead_pos((struct readahead_control *)ractl);
}

size_t vfs_rs_readahead_length(const struct readahead_control *ractl)
{
	return readahead_length((struct readahead_control *)ractl);
}

loff_t vfs_rs_folio_pos(const struct folio *folio)
{
	return folio_pos(folio);
}

size_t vfs_rs_folio_size(const struct folio *folio)
{
	return folio_size(folio);
}

struct address_space *vfs_rs_folio_mapping(const struct folio *folio)
{
	return folio->mapping;
}

void *vfs_rs_folio_address(struct folio *folio)
{
	return folio_test_highmem(folio) ? NULL : folio_address(folio);
}

struct page *vfs_rs_folio_page(struct folio *folio, size_t index)
{
	return folio_page(folio, index);
}

bool vfs_rs_folio_test_uptodate(struct folio *folio)
{
	return folio_test_uptodate(folio);
}

void vfs_rs_folio_put(struct folio *folio)
{
	folio_put(folio);
}

struct folio *vfs_rs_filemap_get_folio(struct address_space *mapping, pgoff_t index)
{
	return filemap_get_folio(mapping, index);
}

struct folio *vfs_rs_filemap_grab_folio(struct address_space *mapping, pgoff_t index,
					size_t size)
{
	return __filemap_get_folio(mapping, index,
				   FGP_LOCK | FGP_CREAT | FGP_ACCESSED | fgf_set_order(size),
				   mapping_gfp_mask(mapping));
}

void vfs_rs_flush_dcache_folio(struct folio *folio)
{
	flush_dcache_folio(folio);
}

void vfs_rs_flush_vmap(void *address, size_t size)
{
	flush_kernel_vmap_range(address, size);
}

void vfs_rs_memcpy_to_folio(struct folio *folio, size_t offset, const char *from,
			    size_t len)
{
	memcpy_to_folio(folio, offset, from, len);
}

void vfs_rs_folio_zero_range(struct folio *folio, size_t offset, size_t len)
{
	folio_zero_range(folio, offset, len);
}

const char *vfs_rs_filename(const struct filename *filename)
{
	return filename->name;
}

const struct cred *vfs_rs_current_cred(void)
{
	return current_cred();
}

const struct cred *vfs_rs_override_creds(const struct cred *cred)
{
	return override_creds(cred);
}

void vfs_rs_revert_creds(const struct cred *old)
{
	revert_creds(old);
}

void vfs_rs_current_lsmprop(struct lsm_prop *label)
{
	security_current_getlsmprop_subj(label);
}

bool vfs_rs_lsmprop_equal(const struct lsm_prop *a, const struct lsm_prop *b)
{
	return !memcmp(a, b, sizeof(*a));
}

bool vfs_rs_path_readable(const struct path *path)
{
	return !inode_permission(mnt_idmap(path->mnt), d_backing_inode(path->dentry), MAY_READ);
}

bool vfs_rs_path_owned(const struct path *path)
{
	return inode_owner_or_capable(mnt_idmap(path->mnt), d_backing_inode(path->dentry));
}

struct posix_acl *vfs_rs_posix_acl_from_xattr(struct user_namespace *ns, const void *value,
					      size_t size)
{
	return posix_acl_from_xattr(ns, value, size);
}

struct posix_acl *vfs_rs_get_inode_acl(struct inode *inode, int type)
{
	return get_inode_acl(inode, type);
}

void vfs_rs_posix_acl_release(struct posix_acl *acl)
{
	posix_acl_release(acl);
}

void vfs_rs_sha256_update(struct sha256_ctx *ctx, const u8 *data, size_t len)
{
	sha256_update(ctx, data, len);
}

u32 vfs_rs_dev_major_minor(u32 major, u32 minor)
{
	return MKDEV(major, minor);
}

struct dentry *vfs_rs_dget(struct dentry *dentry)
{
	return dget(dentry);
}

void vfs_rs_cache_no_acl(struct inode *inode)
{
	cache_no_acl(inode);
}

void vfs_rs_set_uuid(struct super_block *sb, const u8 *uuid, unsigned int len)
{
	super_set_uuid(sb, uuid, len);
}

void vfs_rs_set_id(struct super_block *sb)
{
	snprintf(sb->s_id, sizeof(sb->s_id), "%u:%u", MAJOR(sb->s_dev), MINOR(sb->s_dev));
}

void vfs_rs_set_sysfs_name(struct super_block *sb)
{
	super_set_sysfs_name_id(sb);
}

void vfs_rs_statfs_id(struct kstatfs *buf, const struct super_block *sb)
{
	buf->f_fsid = u64_to_fsid(huge_encode_dev(sb->s_dev));
}

void vfs_rs_ratelimit_init(struct ratelimit_state *limit)
{
	ratelimit_default_init(limit);
}

void vfs_rs_sema_init(struct semaphore *sem, int permits)
{
	sema_init(sem, permits);
}

int vfs_rs_bit_lock_killable(unsigned long *word, unsigned int bit)
{
	return wait_on_bit_lock(word, bit, TASK_KILLABLE);
}

bool vfs_rs_bit_trylock(unsigned long *word, unsigned int bit)
{
	return !test_and_set_bit_lock(bit, word);
}

void vfs_rs_bit_unlock(unsigned long *word, unsigned int bit)
{
	clear_and_wake_up_bit(bit, word);
}

unsigned int vfs_rs_num_online_cpus(void)
{
	return num_online_cpus();
}

void vfs_rs_queue_on_stack(struct work_struct *work, work_func_t func)
{
	INIT_WORK_ONSTACK(work, func);
	queue_work(system_dfl_wq, work);
}

void vfs_rs_cancel_on_stack(struct work_struct *work)
{
	cancel_work_sync(work);
	destroy_work_on_stack(work);
}

unsigned int vfs_rs_nofs_save(void)
{
	return memalloc_nofs_save();
}

void vfs_rs_nofs_restore(unsigned int flags)
{
	memalloc_nofs_restore(flags);
}

bool vfs_rs_killed(void)
{
	cond_resched();
	return fatal_signal_pending(current);
}

bool vfs_rs_capable_sys_admin(void)
{
	return ns_capable_noaudit(&init_user_ns, CAP_SYS_ADMIN);
}
