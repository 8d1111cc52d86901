// SPDX-License-Identifier: GPL-2.0-only
/* /dev/exasock: a context for each open, declared in ../include/exasock_abi.h. */

#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "tcp.h"

static int exa_open(struct inode *inode, struct file *file)
{
	struct exa_context *context = kzalloc(sizeof(*context), GFP_KERNEL_ACCOUNT);
	unsigned int i;
	int err;

	if (!context)
		return -ENOMEM;
	err = exa_share_open(context);
	if (err) {
		kfree(context);
		return err;
	}
	mutex_init(&context->lock);
	for (i = 0; i < EXA_KINDS; i++)
		xa_init_flags(&context->handles[i], XA_FLAGS_ALLOC1);
	context->pid = get_pid(task_tgid(current));
	get_task_comm(context->comm, current->group_leader);
	file->private_data = context;
	return 0;
}

static int exa_release(struct inode *inode, struct file *file)
{
	struct exa_context *context = file->private_data;
	unsigned int i;

	exa_detach_all(&exa_sock_kind, context);
	exa_detach_all(&exa_stream_kind, context);
	for (i = 0; i < EXA_KINDS; i++)
		xa_destroy(&context->handles[i]);
	exa_share_close(context);
	put_pid(context->pid);
	kfree(context);
	return 0;
}

static long exa_ioctl_info(void __user *arg)
{
	struct exasock_info info = {
		.abi = EXASOCK_ABI_VERSION,
		.slots = exa_slots,
		.netns = current->nsproxy->net_ns->net_cookie,
	};

	return copy_to_user(arg, &info, sizeof(info)) ? -EFAULT : 0;
}

static long exa_ioctl_attach(struct exa_context *context, void __user *arg,
			     struct exa_attachment_kind *kind)
{
	struct exasock_attach attach;
	int err;

	if (copy_from_user(&attach, arg, sizeof(attach)))
		return -EFAULT;
	err = exa_attach(kind, context, &attach);
	if (err)
		return err;
	return copy_to_user(arg, &attach, sizeof(attach)) ? -EFAULT : 0;
}

static long exa_ioctl_flush(struct exa_context *context, u32 handle)
{
	struct exa_attachment *attachment = exa_attachment_get(&exa_sock_kind, context, handle);

	if (!attachment)
		return -ESTALE;
	exa_flush(container_of(attachment, struct exa_sock, attachment), EXASOCK_R_SLEEP);
	exa_attachment_put(attachment);
	return 0;
}

/* By words: for so little copy_from_user() is mostly calls */
static bool read_send(struct exasock_send *send, const void __user *arg)
{
	const u64 __user *from = arg;
	u64 *to = (u64 *)send;
	unsigned int i;

	static_assert(sizeof(*send) % sizeof(*to) == 0);
	if (!user_access_begin(from, sizeof(*send)))
		return false;
	for (i = 0; i < sizeof(*send) / sizeof(*to); i++)
		unsafe_get_user(to[i], from + i, fault);
	user_access_end();
	return true;

fault:
	user_access_end();
	return false;
}

static long exa_ioctl_send(struct exa_context *context, void __user *arg)
{
	struct exasock_send send __uninitialized;

	return read_send(&send, arg) ? exa_send(context, &send) : -EFAULT;
}

static long exa_ioctl_setting(void __user *arg)
{
	struct exasock_setting setting;
	int err;

	if (copy_from_user(&setting, arg, sizeof(setting)))
		return -EFAULT;
	err = exa_setting(&setting);
	if (err)
		return err;
	return copy_to_user(arg, &setting, sizeof(setting)) ? -EFAULT : 0;
}

static long exa_ioctl_list(void __user *arg, struct exa_attachment_kind *kind)
{
	struct exasock_list list;
	int err;

	if (copy_from_user(&list, arg, sizeof(list)))
		return -EFAULT;
	err = exa_list(kind, &list);
	if (err)
		return err;
	return copy_to_user(arg, &list, sizeof(list)) ? -EFAULT : 0;
}

static long exa_ioctl_stream_send(struct exa_context *context, void __user *arg)
{
	struct exasock_stream_send send;

	if (copy_from_user(&send, arg, sizeof(send)))
		return -EFAULT;
	return exa_stream_send(context, &send);
}

static long exa_ioctl_stream(struct exa_context *context, unsigned int cmd, u32 __user *arg)
{
	struct exa_attachment *attachment;
	struct exa_stream *es;
	u32 handle;
	long ret;

	if (get_user(handle, arg))
		return -EFAULT;
	if (cmd == EXASOCK_IOC_STREAM_DETACH)
		return exa_detach(&exa_stream_kind, context, handle);
	attachment = exa_attachment_get(&exa_stream_kind, context, handle);
	if (!attachment)
		return -ESTALE;
	es = container_of(attachment, struct exa_stream, attachment);
	ret = cmd == EXASOCK_IOC_STREAM_TAKE ? exa_stream_ioctl_take(es) :
					       exa_stream_ioctl_home(es);
	exa_stream_put(es);
	return ret;
}

static long exa_ioctl(struct file *file, unsigned int cmd, unsigned long value)
{
	struct exa_context *context = file->private_data;
	void __user *arg = (void __user *)value;
	u32 handle;

	switch (cmd) {
	case EXASOCK_IOC_SEND:
		return exa_ioctl_send(context, arg);
	case EXASOCK_IOC_FLUSH:
	case EXASOCK_IOC_DETACH:
		if (get_user(handle, (u32 __user *)arg))
			return -EFAULT;
		if (cmd == EXASOCK_IOC_FLUSH)
			return exa_ioctl_flush(context, handle);
		return exa_detach(&exa_sock_kind, context, handle);
	case EXASOCK_IOC_INFO:
		return exa_ioctl_info(arg);
	case EXASOCK_IOC_ATTACH:
		return exa_ioctl_attach(context, arg, &exa_sock_kind);
	case EXASOCK_IOC_SETTING:
		return exa_ioctl_setting(arg);
	case EXASOCK_IOC_LIST:
		return exa_ioctl_list(arg, &exa_sock_kind);
	case EXASOCK_IOC_STREAM_SEND:
		return exa_ioctl_stream_send(context, arg);
	case EXASOCK_IOC_STREAM_DETACH:
	case EXASOCK_IOC_STREAM_HOME:
	case EXASOCK_IOC_STREAM_TAKE:
		return exa_ioctl_stream(context, cmd, arg);
	case EXASOCK_IOC_STREAM_ATTACH:
		return exa_ioctl_attach(context, arg, &exa_stream_kind);
	case EXASOCK_IOC_STREAM_LIST:
		return exa_ioctl_list(arg, &exa_stream_kind);
	default:
		return -ENOTTY;
	}
}

static int exa_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct exa_context *context = file->private_data;
	u64 offset = (u64)vma->vm_pgoff << PAGE_SHIFT, handle;
	struct exa_attachment_kind *kind = &exa_sock_kind;
	struct exa_attachment *attachment;
	int err;

	if (offset >= EXASOCK_MAP_STREAMS) {
		kind = &exa_stream_kind;
		offset -= EXASOCK_MAP_STREAMS;
	}
	handle = div64_u64_rem(offset, EXASOCK_MAP_STRIDE, &offset);
	if (handle > U32_MAX)
		return -EINVAL;
	attachment = exa_attachment_get(kind, context, handle);
	if (!attachment)
		return -EINVAL;
	err = kind->mmap(attachment, vma, offset);
	exa_attachment_put(attachment);
	return err;
}

static const struct file_operations exa_fops = {
	.owner = THIS_MODULE,
	.open = exa_open,
	.release = exa_release,
	.unlocked_ioctl = exa_ioctl,
	.mmap = exa_mmap,
};

/*
 * For everybody: what it gives is what the caller's own sockets may do anyway, and
 * only in a namespace that somebody with the right to has given a card's device.
 */
static struct miscdevice exa_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "exasock",
	.mode = 0666,
	.fops = &exa_fops,
};

int exa_chardev_register(void)
{
	return misc_register(&exa_misc);
}

void exa_chardev_unregister(void)
{
	misc_deregister(&exa_misc);
}
