// SPDX-License-Identifier: GPL-2.0-only
/*
 * A stream's memory: the control page and the ring, which the process maps, and the send
 * buffer, which it does not.
 */

#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "tcp.h"

#define IMAGE_PAYLOAD_MOST	8960U

/* Where byte @offset of the ring lies, and how many from there on lie together */
u8 *exa_stream_at(const struct exa_stream *es, u64 offset, u32 *length)
{
	u32 at = offset & (exa_stream_room - 1);

	*length = min(*length, exa_stream_room - at);
	return (u8 *)es->ring + EXASOCK_RING_HEADER + at;
}

void exa_stream_free(struct exa_stream *es)
{
	unsigned int i;

	if (es->ring)
		vunmap(es->ring);
	for (i = 0; es->pages && i < es->nr_pages; i++)
		put_page(es->pages[i]);
	kvfree(es->pages);
	kvfree(es->buffer);
	kfree(es->image);
	if (es->control_page)
		put_page(es->control_page);
	kfree(es);
}

/* NULL without memory */
struct exa_stream *exa_stream_alloc(u32 mss)
{
	unsigned int wanted = PFN_UP(EXASOCK_RING_HEADER + exa_stream_room);
	struct exa_stream *es = kzalloc(sizeof(*es), GFP_KERNEL_ACCOUNT);

	if (!es)
		return NULL;
	es->image_room = clamp(mss, 536U, IMAGE_PAYLOAD_MOST);
	es->image = kzalloc(EXA_STREAM_HEADERS + es->image_room + 8, GFP_KERNEL_ACCOUNT);
	es->buffer = kvmalloc(exa_stream_room, GFP_KERNEL_ACCOUNT);
	es->control_page = alloc_page(GFP_KERNEL_ACCOUNT | __GFP_ZERO);
	es->pages = kvcalloc(wanted, sizeof(*es->pages), GFP_KERNEL_ACCOUNT);
	if (!es->image || !es->buffer || !es->control_page || !es->pages)
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
	es->ring->abi = EXASOCK_ABI_VERSION;
	es->ring->size = exa_stream_room;
	return es;
free:
	exa_stream_free(es);
	return NULL;
}

/* As exa_sock_mmap() */
int exa_stream_mmap(struct exa_stream *es, struct vm_area_struct *vma, u64 offset)
{
	struct page **pages = &es->control_page;
	unsigned int count = 1;

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
