// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory that a process maps: the control page, which it may write, and the ring, which it
 * can only read. See shared.h.
 */

#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "compat.h"
#include "shared.h"

static_assert(EXASOCK_CONTROL_SIZE == PAGE_SIZE);

/* Also of what was allocated in part */
void exa_shared_free(struct exa_shared *shared)
{
	unsigned int i;

	if (shared->header)
		vunmap(shared->header);
	for (i = 0; shared->pages && i < shared->nr_pages; i++)
		put_page(shared->pages[i]);
	kvfree(shared->pages);
	if (shared->control_page)
		put_page(shared->control_page);
	memset(shared, 0, sizeof(*shared));
}

/* @size bytes of data behind the ring's header, everything zero, charged to who asks. Sleeps. */
int exa_shared_alloc(struct exa_shared *shared, size_t size)
{
	unsigned int wanted = PFN_UP(EXASOCK_RING_HEADER + size);

	memset(shared, 0, sizeof(*shared));
	shared->control_page = alloc_page(GFP_KERNEL_ACCOUNT | __GFP_ZERO);
	shared->pages = kvcalloc(wanted, sizeof(*shared->pages), GFP_KERNEL_ACCOUNT);
	if (!shared->control_page || !shared->pages)
		goto free;
	for (; shared->nr_pages < wanted; shared->nr_pages++) {
		shared->pages[shared->nr_pages] = alloc_page(GFP_KERNEL_ACCOUNT | __GFP_ZERO);
		if (!shared->pages[shared->nr_pages])
			goto free;
	}
	shared->header = vmap(shared->pages, shared->nr_pages, VM_MAP, PAGE_KERNEL);
	if (!shared->header)
		goto free;
	shared->data = (u8 *)shared->header + EXASOCK_RING_HEADER;
	shared->control = page_address(shared->control_page);
	return 0;
free:
	exa_shared_free(shared);
	return -ENOMEM;
}

/* -EACCES: the ring is read only; -EINVAL: not an offset, or longer than what is there */
int exa_shared_mmap(const struct exa_shared *shared, struct vm_area_struct *vma, u64 offset)
{
	struct page *control = shared->control_page, **pages = &control;
	unsigned int count = 1;

	if (!(vma->vm_flags & VM_SHARED))
		return -EINVAL;
	if (offset == EXASOCK_MAP_RING) {
		if (vma->vm_flags & VM_WRITE)
			return -EACCES;
		vm_flags_clear(vma, VM_MAYWRITE);
		pages = shared->pages;
		count = shared->nr_pages;
	} else if (offset) {
		return -EINVAL;
	}
	if (vma_pages(vma) > count || vma->vm_flags & VM_EXEC)
		return -EINVAL;
	vm_flags_clear(vma, VM_MAYEXEC);
	vm_flags_set(vma, VM_DONTEXPAND | VM_DONTDUMP);
	return vm_map_pages_zero(vma, pages, count);
}
