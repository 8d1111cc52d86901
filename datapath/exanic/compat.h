/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Differences between kernels. Kbuild looks for the thing itself in the kernel's
 * headers and defines EXANIC_HAVE_*; version numbers say nothing about back-ports.
 */
#ifndef EXANIC_COMPAT_H
#define EXANIC_COMPAT_H

#ifdef EXANIC_HAVE_LINUX_HEX
#include <linux/hex.h>
#endif
#include <linux/hrtimer.h>
#include <linux/mm.h>
#ifdef EXANIC_HAVE_LINUX_UNALIGNED
#include <linux/unaligned.h>
#else
#include <asm/unaligned.h>
#endif

#ifndef EXANIC_HAVE_HRTIMER_SETUP
static inline void hrtimer_setup(struct hrtimer *timer,
				 enum hrtimer_restart (*function)(struct hrtimer *),
				 clockid_t clock, enum hrtimer_mode mode)
{
	hrtimer_init(timer, clock, mode);
	timer->function = function;
}
#endif

#ifndef EXANIC_HAVE_VM_FLAGS_SET
static inline void vm_flags_set(struct vm_area_struct *vma, vm_flags_t flags)
{
	vma->vm_flags |= flags;
}

static inline void vm_flags_clear(struct vm_area_struct *vma, vm_flags_t flags)
{
	vma->vm_flags &= ~flags;
}
#endif

#ifdef EXANIC_HAVE_KERNEL_TS_INFO
#define exanic_ts_info		kernel_ethtool_ts_info
#else
#define exanic_ts_info		ethtool_ts_info
#endif

#endif /* EXANIC_COMPAT_H */
