/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What bindgen reads for kmod/vfs/bindings.rs: the headers that kernel::bindings
 * leaves out, inline functions as functions, and macros as constants.
 */
#ifndef _VFS_RS_BINDINGS_H
#define _VFS_RS_BINDINGS_H

#include <crypto/sha2.h>
#include <linux/backing-dev.h>
#include <linux/compiler_types.h>
#include <linux/exportfs.h>
#include <linux/fiemap.h>
#include <linux/filelock.h>
#include <linux/fs.h>
#include <linux/fs_context.h>
#include <linux/fs_parser.h>
#include <linux/fsverity.h>
#include <linux/lz4.h>
#include <linux/magic.h>
#include <linux/mount.h>
#include <linux/namei.h>
#include <linux/pagemap.h>
#include <linux/posix_acl_xattr.h>
#include <linux/pseudo_fs.h>
#include <linux/ratelimit_types.h>
#include <linux/sched/mm.h>
#include <linux/security.h>
#include <linux/semaphore.h>
#include <linux/shrinker.h>
#include <linux/statfs.h>
#include <linux/uio.h>
#include <linux/vmalloc.h>
#include <linux/workqueue.h>
#include <linux/zstd.h>

#ifdef __BINDGEN__
static const unsigned int VFS_RS_LOOKUP_FOLLOW = LOOKUP_FOLLOW;
static const unsigned int VFS_RS_LOOKUP_NO_XDEV = LOOKUP_NO_XDEV;
static const unsigned int VFS_RS_LOOKUP_DIRECTORY = LOOKUP_DIRECTORY;
static const loff_t VFS_RS_MAX_LFS_FILESIZE = MAX_LFS_FILESIZE;
static const int VFS_RS_IOCB_NOT_PLAIN = IOCB_DIRECT | IOCB_NOWAIT | IOCB_NOIO | IOCB_WAITQ;
static const size_t VFS_RS_FS_VERITY_MAX_DIGEST = FS_VERITY_MAX_DIGEST_SIZE;
static const unsigned int VFS_RS_FS_VERITY_SHA256 = FS_VERITY_HASH_ALG_SHA256;
static const unsigned int VFS_RS_S_PRIVATE = S_PRIVATE;
static const unsigned long VFS_RS_SB_RDONLY = SB_RDONLY;
static const unsigned long VFS_RS_SB_I_NODEV = SB_I_NODEV;
static const unsigned long VFS_RS_SB_NOATIME = SB_NOATIME;
static const unsigned long VFS_RS_SB_POSIXACL = SB_POSIXACL;
/* What a mount can set, and /proc/mounts shows; all mounts are read-only, whatever they ask for. */
static const unsigned long VFS_RS_SB_SHOWN =
	SB_SYNCHRONOUS | SB_DIRSYNC | SB_MANDLOCK | SB_LAZYTIME;
static const unsigned long VFS_RS_SB_ACTIVE = SB_ACTIVE;
static const unsigned int VFS_RS_FILEID_INO64_GEN = FILEID_INO64_GEN;
static const unsigned int VFS_RS_FILEID_INO64_GEN_PARENT = FILEID_INO64_GEN_PARENT;
static const unsigned int VFS_RS_FILEID_INVALID = FILEID_INVALID;
#endif

/* helpers.c */
struct inode *vfs_rs_alloc_inode(struct super_block *sb, struct kmem_cache *cache);
struct kmem_cache *vfs_rs_inode_cache(const char *name, unsigned int size,
				      unsigned int align, bool account, void (*ctor)(void *));
struct backing_dev_info *vfs_rs_bdi_get(struct backing_dev_info *bdi);
bool vfs_rs_inode_is_new(struct inode *inode);
bool vfs_rs_inode_set_owner(struct inode *inode, u32 uid, u32 gid);
void vfs_rs_inode_set_times(struct inode *inode, s64 sec, u32 nsec);
u64 vfs_rs_inode_ctime_sec(const struct inode *inode);
u32 vfs_rs_inode_ctime_nsec(const struct inode *inode);
void vfs_rs_inode_set_size(struct inode *inode, loff_t size);
loff_t vfs_rs_inode_size(const struct inode *inode);
struct address_space *vfs_rs_inode_mapping(const struct inode *inode);
bool vfs_rs_inode_share_mapping(struct inode *inode, struct address_space *mapping);
size_t vfs_rs_iter_count(const struct iov_iter *iter);
bool vfs_rs_mapping_has_pages(const struct address_space *mapping);
void vfs_rs_mapping_avoid_highmem(struct address_space *mapping);
void vfs_rs_mapping_set_large_folios(struct address_space *mapping);
struct inode *vfs_rs_file_inode(const struct file *file);
void vfs_rs_bound_readahead(struct file *file, unsigned int pages);
unsigned int vfs_rs_readahead(const struct file *file);
const struct super_block *vfs_rs_file_real_super(const struct file *file);
struct inode *vfs_rs_path_inode(const struct path *path);
int vfs_rs_fs_verity_digest(const struct file *file, u8 *digest, u8 *algorithm);
bool vfs_rs_dir_emit_dots(struct file *file, struct dir_context *ctx);
bool vfs_rs_dir_emit(struct dir_context *ctx, const char *name, int len, u64 ino,
		     unsigned int type);
struct folio *vfs_rs_readahead_folio(struct readahead_control *ractl);
loff_t vfs_rs_readahead_pos(const struct readahead_control *ractl);
size_t vfs_rs_readahead_length(const struct readahead_control *ractl);
loff_t vfs_rs_folio_pos(const struct folio *folio);
size_t vfs_rs_folio_size(const struct folio *folio);
struct address_space *vfs_rs_folio_mapping(const struct folio *folio);
void *vfs_rs_folio_address(struct folio *folio);
struct page *vfs_rs_folio_page(struct folio *folio, size_t index);
bool vfs_rs_folio_test_uptodate(struct folio *folio);
void vfs_rs_folio_put(struct folio *folio);
struct folio *vfs_rs_filemap_get_folio(struct address_space *mapping, pgoff_t index);
struct folio *vfs_rs_filemap_grab_folio(struct address_space *mapping, pgoff_t index,
					size_t size);
void vfs_rs_flush_dcache_folio(struct folio *folio);
void vfs_rs_flush_vmap(void *address, size_t size);
void vfs_rs_memcpy_to_folio(struct folio *folio, size_t offset, const char *from,
			    size_t len);
void vfs_rs_folio_zero_range(struct folio *folio, size_t offset, size_t len);
const char *vfs_rs_filename(const struct filename *filename);
const struct cred *vfs_rs_current_cred(void);
const struct cred *vfs_rs_override_creds(const struct cred *cred);
void vfs_rs_revert_creds(const struct cred *old);
void vfs_rs_current_lsmprop(struct lsm_prop *label);
bool vfs_rs_lsmprop_equal(const struct lsm_prop *a, const struct lsm_prop *b);
bool vfs_rs_path_readable(const struct path *path);
bool vfs_rs_path_owned(const struct path *path);
struct posix_acl *vfs_rs_posix_acl_from_xattr(struct user_namespace *ns, const void *value,
					      size_t size);
struct posix_acl *vfs_rs_get_inode_acl(struct inode *inode, int type);
void vfs_rs_posix_acl_release(struct posix_acl *acl);
void vfs_rs_sha256_update(struct sha256_ctx *ctx, const u8 *data, size_t len);
u32 vfs_rs_dev_major_minor(u32 major, u32 minor);
struct dentry *vfs_rs_dget(struct dentry *dentry);
void vfs_rs_cache_no_acl(struct inode *inode);
void vfs_rs_set_uuid(struct super_block *sb, const u8 *uuid, unsigned int len);
void vfs_rs_set_id(struct super_block *sb);
void vfs_rs_set_sysfs_name(struct super_block *sb);
void vfs_rs_statfs_id(struct kstatfs *buf, const struct super_block *sb);
void vfs_rs_ratelimit_init(struct ratelimit_state *limit);
void vfs_rs_sema_init(struct semaphore *sem, int permits);
int vfs_rs_bit_lock_killable(unsigned long *word, unsigned int bit);
bool vfs_rs_bit_trylock(unsigned long *word, unsigned int bit);
void vfs_rs_bit_unlock(unsigned long *word, unsigned int bit);
unsigned int vfs_rs_num_online_cpus(void);
void vfs_rs_queue_on_stack(struct work_struct *work, work_func_t func);
void vfs_rs_cancel_on_stack(struct work_struct *work);
unsigned int vfs_rs_nofs_save(void);
void vfs_rs_nofs_restore(unsigned int flags);
bool vfs_rs_killed(void);
bool vfs_rs_capable_sys_admin(void);

#endif /* _VFS_RS_BINDINGS_H */
