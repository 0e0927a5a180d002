// SPDX-License-Identifier: GPL-2.0
/*
 * /proc/stack_used: how many bytes of its stack the task that reads it has used at the most, since
 * it began.
 *
 * A stack is zeroed when its task begins, so what is not zero was used, by interrupts too. That
 * needs no change of code while the kernel runs, as the stack tracer does; it is what
 * CONFIG_DEBUG_STACK_USAGE does when a task ends.
 */
#include <linux/module.h>
#include <linux/proc_fs.h>
#include <linux/sched.h>
#include <linux/sched/task_stack.h>
#include <linux/seq_file.h>

static int show(struct seq_file *seq, void *unused)
{
	/* The lowest word is a magic number. */
	const unsigned long *end = end_of_stack(current), *word = end + 1;

	while (word < end + THREAD_SIZE / sizeof(*end) && !READ_ONCE(*word))
		word++;
	seq_printf(seq, "%lu\n", THREAD_SIZE - (word - end) * sizeof(*end));
	return 0;
}

static int __init stack_used_init(void)
{
	return proc_create_single("stack_used", 0400, NULL, show) ? 0 : -ENOMEM;
}
module_init(stack_used_init);

static void __exit stack_used_exit(void)
{
	remove_proc_entry("stack_used", NULL);
}
module_exit(stack_used_exit);

MODULE_DESCRIPTION("Says how much of its stack a task has used");
MODULE_LICENSE("GPL");
