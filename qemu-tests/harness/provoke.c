// SPDX-License-Identifier: GPL-2.0
/* A module that does wrong, so that the harness can show that it sees it. */
#include <linux/module.h>
#include <linux/slab.h>

static char *what = "";
module_param(what, charp, 0);
MODULE_PARM_DESC(what, "warn: WARN_ON(); bug: BUG(); leak: 100 objects that nobody frees");

static int __init provoke_init(void)
{
	if (!strcmp(what, "warn"))
		WARN_ON(1);
	if (!strcmp(what, "bug"))
		BUG();
	if (!strcmp(what, "leak"))
		for (int i = 0; i < 100; i++)
			if (!kmalloc(256, GFP_KERNEL))
				return -ENOMEM;
	return 0;
}
module_init(provoke_init);

static void __exit provoke_exit(void)
{
}
module_exit(provoke_exit);

MODULE_DESCRIPTION("Provokes what the test harness has to see");
MODULE_LICENSE("GPL");
