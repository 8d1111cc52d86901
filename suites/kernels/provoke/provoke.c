// SPDX-License-Identifier: GPL-2.0-only
/*
 * Mistakes on purpose, one of each kind that a reporting kernel sees: the bench proves with it
 * that it would see a report. The name of one, written to /sys/kernel/debug/provoke, makes it.
 *
 * In no image but those of the reporting kernels, and loaded by the test that uses it only.
 */
#include <linux/debugfs.h>
#include <linux/kernel.h>
#include <linux/ktime.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/netdevice.h>
#include <linux/nsproxy.h>
#include <linux/rcupdate.h>
#include <linux/rtnetlink.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/timer.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>
#include <net/net_namespace.h>

#define PROVOKE_SIZE	60
#define PROVOKE_DEVICE	"provoked"

/* What the compiler must not know. */
static unsigned int provoke_one = 1;
module_param_named(one, provoke_one, uint, 0400);

static DEFINE_MUTEX(provoke_first);
static DEFINE_MUTEX(provoke_second);
static DEFINE_SPINLOCK(provoke_lock);
static int __rcu *provoke_pointer;
static int provoke_shared;
static int provoke_table[4];
static struct net_device *provoke_held;
static netdevice_tracker provoke_held_tracker;

static int provoke_out_of_bounds(void)
{
	char *memory = kmalloc(PROVOKE_SIZE, GFP_KERNEL);

	if (!memory)
		return -ENOMEM;
	OPTIMIZER_HIDE_VAR(memory);
	memory[PROVOKE_SIZE - 1 + provoke_one] = 1;
	kfree(memory);
	return 0;
}

static int provoke_out_of_vmalloc(void)
{
	char *memory = vmalloc(PROVOKE_SIZE);

	if (!memory)
		return -ENOMEM;
	OPTIMIZER_HIDE_VAR(memory);
	memory[PROVOKE_SIZE - 1 + provoke_one] = 1;
	vfree(memory);
	return 0;
}

static int provoke_after_free(void)
{
	char *memory = kmalloc(PROVOKE_SIZE, GFP_KERNEL);

	if (!memory)
		return -ENOMEM;
	kfree(memory);
	OPTIMIZER_HIDE_VAR(memory);
	memory[provoke_one] = 1;
	return 0;
}

static int provoke_shift(void)
{
	provoke_shared = 1 << (31 + provoke_one);
	return 0;
}

static int provoke_index(void)
{
	provoke_shared = provoke_table[3 + provoke_one];
	return 0;
}

static noinline int provoke_leak(void)
{
	int count;

	/* Several: the last one's address may stay in a register or on a stack. */
	for (count = 0; count < 8; count++) {
		char *memory = kzalloc(PROVOKE_SIZE, GFP_KERNEL);

		if (!memory)
			return -ENOMEM;
		OPTIMIZER_HIDE_VAR(memory);
	}
	return 0;
}

static int provoke_order(void)
{
	mutex_lock(&provoke_first);
	mutex_lock(&provoke_second);
	mutex_unlock(&provoke_second);
	mutex_unlock(&provoke_first);
	mutex_lock(&provoke_second);
	mutex_lock(&provoke_first);
	mutex_unlock(&provoke_first);
	mutex_unlock(&provoke_second);
	return 0;
}

static int provoke_rcu(void)
{
	provoke_shared = !rcu_dereference(provoke_pointer);
	return 0;
}

static int provoke_sleep(void)
{
	spin_lock(&provoke_lock);
	might_sleep();
	spin_unlock(&provoke_lock);
	return 0;
}

struct provoke_object {
	struct timer_list timer;
};

static void provoke_expired(struct timer_list *timer)
{
}

static int provoke_free_active(void)
{
	struct provoke_object *object = kzalloc(sizeof(*object), GFP_KERNEL);

	if (!object)
		return -ENOMEM;
	timer_setup(&object->timer, provoke_expired, 0);
	mod_timer(&object->timer, jiffies + 3600 * HZ);
	/* the reporting kernel takes the timer out of its list */
	kfree(object);
	return 0;
}

/* Two callers at once, for a second: plain accesses that nothing orders. */
static int provoke_race(void)
{
	ktime_t end = ktime_add_ms(ktime_get(), 1000);

	while (ktime_before(ktime_get(), end) && !signal_pending(current)) {
		int count;

		for (count = 0; count < 1000; count++)
			provoke_shared++;
		cond_resched();
	}
	return 0;
}

/* A reference to the device PROVOKE_DEVICE that nobody gives back, until "give-back" does. */
static int provoke_device(void)
{
	struct net_device *dev;

	if (provoke_held)
		return -EBUSY;
	dev = dev_get_by_name(current->nsproxy->net_ns, PROVOKE_DEVICE);
	if (!dev)
		return -ENODEV;
	netdev_hold(dev, &provoke_held_tracker, GFP_KERNEL);
	dev_put(dev);
	provoke_held = dev;
	return 0;
}

static int provoke_give_back(void)
{
	if (!provoke_held)
		return -ENODEV;
	netdev_put(provoke_held, &provoke_held_tracker);
	provoke_held = NULL;
	return 0;
}

/* The count of the caller's namespace is right, but one who holds it is not signed off. */
static int provoke_namespace(void)
{
	netns_tracker tracker;

	put_net(get_net_track(current->nsproxy->net_ns, &tracker, GFP_KERNEL));
	return 0;
}

static const struct {
	const char *name;
	int (*make)(void);
} provoke_mistakes[] = {
	{ "out-of-bounds", provoke_out_of_bounds },
	{ "out-of-vmalloc", provoke_out_of_vmalloc },
	{ "after-free", provoke_after_free },
	{ "shift", provoke_shift },
	{ "index", provoke_index },
	{ "leak", provoke_leak },
	{ "order", provoke_order },
	{ "rcu", provoke_rcu },
	{ "sleep", provoke_sleep },
	{ "free-active", provoke_free_active },
	{ "race", provoke_race },
	{ "device", provoke_device },
	{ "give-back", provoke_give_back },
	{ "namespace", provoke_namespace },
};

static ssize_t provoke_write(struct file *file, const char __user *from, size_t count, loff_t *pos)
{
	char name[32] = "";
	size_t index;
	int ret;

	if (count >= sizeof(name))
		return -EINVAL;
	if (copy_from_user(name, from, count))
		return -EFAULT;
	for (index = 0; index < ARRAY_SIZE(provoke_mistakes); index++) {
		if (sysfs_streq(name, provoke_mistakes[index].name)) {
			ret = provoke_mistakes[index].make();
			return ret ? ret : count;
		}
	}
	return -ENOENT;
}

static const struct file_operations provoke_fops = {
	.owner = THIS_MODULE,
	.write = provoke_write,
};

static struct dentry *provoke_file;

static int __init provoke_init(void)
{
	provoke_file = debugfs_create_file("provoke", 0200, NULL, NULL, &provoke_fops);
	return PTR_ERR_OR_ZERO(provoke_file);
}

static void __exit provoke_exit(void)
{
	debugfs_remove(provoke_file);
	if (provoke_held)
		provoke_give_back();
}

module_init(provoke_init);
module_exit(provoke_exit);

MODULE_DESCRIPTION("Mistakes on purpose, for a kernel that reports them");
MODULE_LICENSE("GPL");
