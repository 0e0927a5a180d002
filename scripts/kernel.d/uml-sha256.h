/* SPDX-License-Identifier: GPL-2.0 */
/*
 * SHA-256 by the processor's own instructions in user-mode Linux, which otherwise has only
 * the generic C: the stock kernel takes these instructions too, and PuzzleFS hashes all that
 * it reads. To be lib/crypto/um/sha256.h.
 *
 * No registers need saving: as everywhere in this architecture, kernel_fpu_begin() does
 * nothing. Those of user programs are in processes of their own; a signal that interrupts
 * the kernel saves and restores all; and nothing schedules in between without preemption.
 */
#include <asm/cpufeature.h>

asmlinkage void sha256_ni_transform(struct sha256_block_state *state, const u8 *data, size_t nblocks);

static void sha256_blocks(struct sha256_block_state *state, const u8 *data, size_t nblocks)
{
	if (boot_cpu_has(X86_FEATURE_SHA_NI))
		sha256_ni_transform(state, data, nblocks);
	else
		sha256_blocks_generic(state, data, nblocks);
}
