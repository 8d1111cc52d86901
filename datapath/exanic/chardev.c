// SPDX-License-Identifier: GPL-2.0-only
/*
 * /dev/exanicN (section 9): the ioctls, and what a file holds until it is closed.
 * A file keeps the card's structure, not the card: after removal everything that
 * would touch it answers ENODEV.
 */

#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/nospec.h>
#include <linux/uaccess.h>

#include "access.h"
#include "exanic.h"
#include "regs.h"

static int exanic_file_open(struct inode *inode, struct file *file)
{
	/* misc_open holds the lock under which the device is deregistered */
	struct exanic *card = container_of(file->private_data, struct exanic, misc);
	struct exanic_file *ctx = kzalloc(sizeof(*ctx), GFP_KERNEL);

	if (!ctx)
		return -ENOMEM;
	ctx->card = card;
	ctx->file = file;
	ctx->netns = exanic_current_netns();
	/* valid as long as the file, which holds its opener's credentials */
	ctx->user = file->f_cred->user;
	kref_get(&card->ref);
	mutex_lock(&card->map_lock);
	list_add_tail(&ctx->list, &card->files);
	mutex_unlock(&card->map_lock);
	file->private_data = ctx;
	return 0;
}

/* Mappings hold the file, so none is left here */
static int exanic_file_release(struct inode *inode, struct file *file)
{
	struct exanic_file *ctx = file->private_data;
	struct exanic *card = ctx->card;
	unsigned int p, bit;
	u32 buffer;

	mutex_lock(&card->map_lock);
	list_del(&ctx->list);
	for_each_set_bit(bit, ctx->tx_pages, EXANIC_TX_PAGES_MAX)
		exanic_txmem_release_page(card, bit);
	for_each_set_bit(bit, ctx->tx_slots, EXANIC_TX_SLOTS)
		exanic_slot_release(card, bit);
	for (p = 0; p < card->ports; p++) {
		exanic_rules_release(card->port[p], ctx);
		for_each_set_bit(buffer, ctx->buffers[p], EXANIC_FILTER_BUFFERS_MAX) {
			exanic_buffer_put(card->port[p], buffer);
			exanic_file_uncharge(ctx, EXANIC_RING_PAGES);
			atomic_dec(&card->usage);
		}
	}
	mutex_unlock(&card->map_lock);
	exanic_put(card);
	kfree(ctx);
	return 0;
}

static u64 filters_size(const struct exanic *card)
{
	u64 start = (u64)EXANIC_PGOFF_FILTERS << PAGE_SHIFT;

	return card->regs_len > start ? card->regs_len - start : 0;
}

/*
 * The index of a port's net device, if it means something to the caller: both the
 * opener's namespace and the caller's present one must be the port's (N6).
 */
static s32 port_ifindex(const struct exanic_file *ctx, const struct exanic_port *port)
{
	if (!port->owner || port->owner != ctx->netns || port->owner != exanic_current_netns())
		return 0;
	return port->dev->ifindex;
}

static void fill_info(struct exanic_file *ctx, struct exanic_ioc_info_ex2 *info)
{
	struct exanic *card = ctx->card;
	unsigned int p;

	info->tx_size = card->ports ? card->tx_len : 0;
	info->filters_size = card->ports ? filters_size(card) : 0;
	info->filter_buffers = card->filter_buffers;
	info->ports = card->ports;
	for (p = 0; p < card->ports; p++)
		info->ifindex[p] = port_ifindex(ctx, card->port[p]);
}

/* A port of this card that the file may use; under map_lock */
static struct exanic_port *usable_port(struct exanic_file *ctx, u32 number)
{
	struct exanic *card = ctx->card;
	struct exanic_port *port;

	if (number >= card->ports)
		return ERR_PTR(-EINVAL);
	port = card->port[array_index_nospec(number, EXANIC_MAX_PORTS)];
	return exanic_may_port(ctx, port) ? port : ERR_PTR(-EPERM);
}

/* The same, for what takes frames from the stack: not while they may be others' */
static struct exanic_port *steerable_port(struct exanic_file *ctx, u32 number)
{
	struct exanic_port *port = usable_port(ctx, number);

	return !IS_ERR(port) && exanic_carries_others(port) ? ERR_PTR(-EBUSY) : port;
}

static int tx_alloc(struct exanic_file *ctx, struct exanic_ioc_tx_buffer *arg)
{
	struct exanic_port *port = usable_port(ctx, arg->port);
	u32 offset;
	int err;

	if (IS_ERR(port))
		return PTR_ERR(port);
	if (!arg->size || arg->size % PAGE_SIZE)
		return -EINVAL;
	if (arg->size > port->tx_region_size)
		return -ENOMEM;
	err = exanic_txmem_alloc(port, ctx, arg->size, &offset);
	if (err)
		return err;
	bitmap_set(ctx->tx_pages, offset >> PAGE_SHIFT, arg->size >> PAGE_SHIFT);
	arg->offset = offset;
	return 0;
}

static int tx_free(struct exanic_file *ctx, const struct exanic_ioc_tx_buffer *arg)
{
	u64 first = arg->offset >> PAGE_SHIFT, pages = arg->size >> PAGE_SHIFT;

	if (arg->port >= ctx->card->ports || !pages || arg->size % PAGE_SIZE ||
	    arg->offset % PAGE_SIZE || first >= EXANIC_TX_PAGES_MAX ||
	    pages > EXANIC_TX_PAGES_MAX - first)
		return -EINVAL;
	if (find_next_zero_bit(ctx->tx_pages, first + pages, first) < first + pages)
		return -EINVAL;
	bitmap_clear(ctx->tx_pages, first, pages);
	exanic_zap(ctx->card, EXANIC_AREA_TX, first, pages);
	for (; pages; pages--)
		exanic_txmem_release_page(ctx->card, first++);
	return 0;
}

static int slot_alloc(struct exanic_file *ctx, struct exanic_ioc_feedback *arg)
{
	struct exanic_port *port = usable_port(ctx, arg->port);
	u16 slot;
	int err;

	if (IS_ERR(port))
		return PTR_ERR(port);
	err = exanic_slot_alloc(port, ctx, &slot);
	if (err)
		return err;
	__set_bit(slot, ctx->tx_slots);
	arg->slot = slot;
	return 0;
}

static int slot_free(struct exanic_file *ctx, const struct exanic_ioc_feedback *arg)
{
	if (arg->port >= ctx->card->ports || arg->slot >= EXANIC_TX_SLOTS ||
	    !test_bit(arg->slot, ctx->tx_slots))
		return -EINVAL;
	__clear_bit(arg->slot, ctx->tx_slots);
	exanic_slot_release(ctx->card, arg->slot);
	return 0;
}

static int buffer_alloc(struct exanic_file *ctx, struct exanic_ioc_filter_buffer *arg)
{
	struct exanic_port *port = usable_port(ctx, arg->port);
	int err;

	if (IS_ERR(port))
		return PTR_ERR(port);
	if (arg->buffer != EXANIC_FILTER_BUFFER_ANY) {
		if (arg->buffer >= ctx->card->filter_buffers)
			return -EINVAL;
		if (test_bit(arg->buffer, ctx->buffers[port->number]))
			return 0;
	}
	err = exanic_file_charge(ctx, EXANIC_RING_PAGES);
	if (err)
		return err;
	err = exanic_buffer_get(port, &arg->buffer);
	if (err) {
		exanic_file_uncharge(ctx, EXANIC_RING_PAGES);
		return err;
	}
	__set_bit(arg->buffer, ctx->buffers[port->number]);
	atomic_inc(&ctx->card->usage);
	return 0;
}

static int buffer_free(struct exanic_file *ctx, const struct exanic_ioc_filter_buffer *arg)
{
	struct exanic *card = ctx->card;

	if (arg->port >= card->ports || arg->buffer >= card->filter_buffers)
		return -EINVAL;
	if (!test_bit(arg->buffer, ctx->buffers[arg->port]))
		return -EACCES;
	__clear_bit(arg->buffer, ctx->buffers[arg->port]);
	atomic_dec(&card->usage);
	exanic_buffer_put(card->port[arg->port], arg->buffer);
	exanic_file_uncharge(ctx, EXANIC_RING_PAGES);
	return 0;
}

static int rule_buffer(struct exanic_file *ctx, struct exanic_port *port, u32 buffer)
{
	if (buffer >= ctx->card->filter_buffers)
		return -EINVAL;
	return test_bit(buffer, ctx->buffers[port->number]) ? 0 : -EFAULT;
}

/* Key bytes 0-1 destination port, 2-3 source port, 4-7 and 8-11 addresses, 12 protocol (12) */
static int add_ip_rule(struct exanic_file *ctx, struct exanic_ioc_ip_rule *arg)
{
	struct exanic_port *port = steerable_port(ctx, arg->port);
	struct exanic_key key = {};
	int err;

	if (IS_ERR(port))
		return PTR_ERR(port);
	err = rule_buffer(ctx, port, arg->buffer);
	if (err)
		return err;
	exanic_key_put(&key, 0, arg->dport, 2);
	exanic_key_put(&key, 2, arg->sport, 2);
	exanic_key_put(&key, 4, arg->dst, 4);
	exanic_key_put(&key, 8, arg->src, 4);
	exanic_key_put(&key, 12, arg->proto, 1);
	return exanic_rule_add(port, true, &key, arg->buffer, ctx, &arg->id);
}

/* Key bytes 0-5 destination, 6-7 Ethertype, 8 VLAN id low, 9 tagged | VLAN id high (12) */
static int add_mac_rule(struct exanic_file *ctx, struct exanic_ioc_mac_rule *arg)
{
	struct exanic_port *port = steerable_port(ctx, arg->port);
	struct exanic_key key = {};
	u64 dst = 0;
	int err, i;

	if (IS_ERR(port))
		return PTR_ERR(port);
	err = rule_buffer(ctx, port, arg->buffer);
	if (err)
		return err;
	for (i = 0; i < 6; i++)
		dst |= (u64)arg->dst[i] << (8 * i);
	exanic_key_put(&key, 0, dst, 6);
	exanic_key_put(&key, 6, arg->ethertype, 2);
	switch (arg->vlan_method) {
	case EXANIC_VLAN_ANY:
		break;
	case EXANIC_VLAN_ONE:
		key.value[8] = arg->vlan & 0xff;
		key.mask[8] = 0xff;
		key.value[9] = 0x10 | (arg->vlan >> 8 & 0xf);
		key.mask[9] = 0xff;
		break;
	case EXANIC_VLAN_UNTAGGED:
		key.mask[9] = 0x10;
		break;
	case EXANIC_VLAN_TAGGED:
		key.value[9] = 0x10;
		key.mask[9] = 0x10;
		break;
	default:
		return -EINVAL;
	}
	return exanic_rule_add(port, false, &key, arg->buffer, ctx, &arg->id);
}

static int remove_rule(struct exanic_file *ctx, bool ip, const struct exanic_ioc_rule_id *arg)
{
	if (arg->port >= ctx->card->ports)
		return -EINVAL;
	return exanic_rule_remove(ctx->card->port[arg->port], ip, arg->id, ctx);
}

static int configure_hash(struct exanic_file *ctx, const struct exanic_ioc_hash *arg)
{
	struct exanic_port *port = steerable_port(ctx, arg->port);

	if (IS_ERR(port))
		return PTR_ERR(port);
	return exanic_hash_configure(port, arg->enable, arg->mask, arg->function);
}

union exanic_ioc_arg {
	struct exanic_ioc_info info;
	struct exanic_ioc_info_ex info_ex;
	struct exanic_ioc_info_ex2 info_ex2;
	struct exanic_ioc_tx_buffer tx_buffer;
	struct exanic_ioc_feedback feedback;
	struct exanic_ioc_ip_rule ip_rule;
	struct exanic_ioc_mac_rule mac_rule;
	struct exanic_ioc_rule_id rule_id;
	struct exanic_ioc_filter_buffer filter_buffer;
	struct exanic_ioc_hash hash;
	s32 usage;
};

/* Under map_lock; @arg is a kernel copy */
static int exanic_do_ioctl(struct exanic_file *ctx, unsigned int cmd, union exanic_ioc_arg *arg)
{
	struct exanic_ioc_info_ex2 info = {};

	switch (cmd) {
	case EXANIC_IOC_INFO:
	case EXANIC_IOC_INFO_EX:
	case EXANIC_IOC_INFO_EX2:
		fill_info(ctx, &info);
		if (cmd == EXANIC_IOC_INFO_EX2) {
			arg->info_ex2 = info;
			return 0;
		}
		arg->info_ex.tx_size = info.tx_size;
		arg->info_ex.filters_size = info.filters_size;
		memcpy(arg->info_ex.ifindex, info.ifindex, sizeof(arg->info_ex.ifindex));
		if (cmd == EXANIC_IOC_INFO_EX)
			arg->info_ex.filter_buffers = info.filter_buffers;
		return 0;
	case EXANIC_IOC_DEVICE_USAGE:
		arg->usage = atomic_read(&ctx->card->usage);
		return 0;
	case EXANIC_IOC_TX_BUFFER_ALLOC:
		return tx_alloc(ctx, &arg->tx_buffer);
	case EXANIC_IOC_TX_BUFFER_FREE:
		return tx_free(ctx, &arg->tx_buffer);
	case EXANIC_IOC_FEEDBACK_ALLOC:
		return slot_alloc(ctx, &arg->feedback);
	case EXANIC_IOC_FEEDBACK_FREE:
		return slot_free(ctx, &arg->feedback);
	case EXANIC_IOC_FILTER_ADD_IP:
		return add_ip_rule(ctx, &arg->ip_rule);
	case EXANIC_IOC_FILTER_ADD_MAC:
		return add_mac_rule(ctx, &arg->mac_rule);
	case EXANIC_IOC_FILTER_REMOVE_IP:
		return remove_rule(ctx, true, &arg->rule_id);
	case EXANIC_IOC_FILTER_REMOVE_MAC:
		return remove_rule(ctx, false, &arg->rule_id);
	case EXANIC_IOC_BUFFER_ALLOC:
		if (arg->filter_buffer.buffer == EXANIC_FILTER_BUFFER_ANY)
			return -EINVAL;
		return buffer_alloc(ctx, &arg->filter_buffer);
	case EXANIC_IOC_BUFFER_ALLOC_EX:
		return buffer_alloc(ctx, &arg->filter_buffer);
	case EXANIC_IOC_BUFFER_FREE:
		return buffer_free(ctx, &arg->filter_buffer);
	case EXANIC_IOC_HASH_CONFIGURE:
		return configure_hash(ctx, &arg->hash);
	case EXANIC_IOC_DEVKIT_INFO:
	case EXANIC_IOC_DEVKIT_INFO_EX:
		return -EINVAL;		/* development kits are not supported */
	default:
		return -ENOTTY;
	}
}

static long exanic_file_ioctl(struct file *file, unsigned int cmd, unsigned long address)
{
	struct exanic_file *ctx = file->private_data;
	void __user *user = (void __user *)address;
	union exanic_ioc_arg arg = {};
	size_t size = _IOC_SIZE(cmd);
	int err;

	if (_IOC_TYPE(cmd) != EXANIC_IOC_MAGIC || size > sizeof(arg))
		return -ENOTTY;
	/* user memory may be a mapping of ours: never touched under map_lock */
	if (_IOC_DIR(cmd) & _IOC_WRITE && copy_from_user(&arg, user, size))
		return -EFAULT;
	mutex_lock(&ctx->card->map_lock);
	err = exanic_gone(ctx->card) ? -ENODEV : exanic_do_ioctl(ctx, cmd, &arg);
	mutex_unlock(&ctx->card->map_lock);
	if (err)
		return err;
	if (_IOC_DIR(cmd) & _IOC_READ && copy_to_user(user, &arg, size))
		return -EFAULT;
	return 0;
}

static const struct file_operations exanic_fops = {
	.owner = THIS_MODULE,
	.open = exanic_file_open,
	.release = exanic_file_release,
	.unlocked_ioctl = exanic_file_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.mmap = exanic_mmap,
	.llseek = noop_llseek,
};

int exanic_chardev_register(struct exanic *card)
{
	int err = exanic_fail(EXANIC_STEP_CHARDEV);

	if (err)
		return err;
	card->misc.minor = MISC_DYNAMIC_MINOR;
	card->misc.name = card->name;
	card->misc.fops = &exanic_fops;
	card->misc.parent = exanic_dev(card);
	return misc_register(&card->misc);
}

void exanic_chardev_unregister(struct exanic *card)
{
	misc_deregister(&card->misc);
}
