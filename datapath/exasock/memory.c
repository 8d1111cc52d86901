// SPDX-License-Identifier: GPL-2.0-only
/*
 * An attachment's memory: the control page, and the ring that the process can only
 * read. Single pages, so that a mapping keeps them by itself: what a process still has
 * mapped after its attachment is over is memory that nobody else looks at.
 */

#include <linux/mm.h>
#include <linux/percpu.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "exasock.h"

#define CONTROL_PAGES	(EXASOCK_CONTROL_SIZE / PAGE_SIZE)

static_assert(CONTROL_PAGES == 1);

static unsigned int ring_pages(void)
{
	return PFN_UP(EXASOCK_RING_HEADER + exa_slots * EXASOCK_SLOT_SIZE);
}

/* Slot of a number; the ring's header lies before them */
struct exasock_slot *exa_slot(const struct exa_sock *es, u32 number)
{
	void *slots = (void *)es->ring + EXASOCK_RING_HEADER;

	return slots + (size_t)(number & (exa_slots - 1)) * EXASOCK_SLOT_SIZE;
}

void exa_sock_free(struct exa_sock *es)
{
	unsigned int i;

	if (es->ring)
		vunmap(es->ring);
	for (i = 0; es->pages && i < es->nr_pages; i++)
		put_page(es->pages[i]);
	kvfree(es->pages);
	kvfree(es->held);
	if (es->control_page)
		put_page(es->control_page);
	free_percpu(es->sent);
	kfree(es);
}

/* Everything zero but the ring's geometry. NULL without memory. */
struct exa_sock *exa_sock_alloc(void)
{
	unsigned int wanted = ring_pages();
	struct exa_sock *es = kzalloc(sizeof(*es), GFP_KERNEL_ACCOUNT);

	if (!es)
		return NULL;
	es->control_page = alloc_page(GFP_KERNEL_ACCOUNT | __GFP_ZERO);
	es->pages = kvcalloc(wanted, sizeof(*es->pages), GFP_KERNEL_ACCOUNT);
	es->held = kvcalloc(exa_slots, sizeof(*es->held), GFP_KERNEL_ACCOUNT);
	es->sent = alloc_percpu_gfp(struct exa_sent, GFP_KERNEL_ACCOUNT);
	if (!es->control_page || !es->pages || !es->held || !es->sent)
		goto free;
	for (; es->nr_pages < wanted; es->nr_pages++) {
		es->pages[es->nr_pages] = alloc_page(GFP_KERNEL_ACCOUNT | __GFP_ZERO);
		if (!es->pages[es->nr_pages])
			goto free;
	}
	es->ring = vmap(es->pages, es->nr_pages, VM_MAP, PAGE_KERNEL);
	if (!es->ring)
		goto free;
	es->control = page_address(es->control_page);
	es->control->tail = 1;
	es->head = 1;
	es->oldest = 1;
	es->ring->abi = EXASOCK_ABI_VERSION;
	es->ring->slots = exa_slots;
	es->ring->head = 1;
	return es;
free:
	exa_sock_free(es);
	return NULL;
}

/* -EACCES: the ring is read only; -EINVAL: not an offset, or longer than what is there */
int exa_sock_mmap(struct exa_sock *es, struct vm_area_struct *vma, u64 offset)
{
	unsigned int count = 1;
	struct page **pages = &es->control_page;

	if (!(vma->vm_flags & VM_SHARED))
		return -EINVAL;
	if (offset == EXASOCK_MAP_RING) {
		if (vma->vm_flags & VM_WRITE)
			return -EACCES;
		vm_flags_clear(vma, VM_MAYWRITE | VM_MAYEXEC);
		pages = es->pages;
		count = es->nr_pages;
	} else if (offset) {
		return -EINVAL;
	}
	if (vma_pages(vma) > count || vma->vm_flags & VM_EXEC)
		return -EINVAL;
	vm_flags_set(vma, VM_DONTEXPAND | VM_DONTDUMP);
	return vm_map_pages_zero(vma, pages, count);
}
