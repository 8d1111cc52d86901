// SPDX-License-Identifier: GPL-2.0-only
/*
 * mmap of /dev/exanicN (9.1). Nothing is mapped by mmap itself: pages come by page
 * fault, each time after asking whether this file may see them now. So taking a page
 * away (a port moves, memory is freed, the card is pulled) is only unmapping it.
 *
 * A ring that the file may no longer see becomes one that is never written: its
 * reader finds itself lapped once and then waits, instead of dying by SIGBUS.
 */

#include <linux/fs.h>
#include <linux/mm.h>

#include "access.h"
#include "compat.h"
#include "exanic.h"
#include "regs.h"

/* What an offset of the ABI means: area, first page in it, pages up to its end */
struct map_object {
	enum exanic_area area;
	unsigned long first;
	unsigned long pages;
	struct exanic_port *port;
};

static int map_ring(struct exanic *card, unsigned long port, struct map_object *object)
{
	if (port >= card->ports || !card->port[port]->ring_page)
		return -EINVAL;
	object->area = EXANIC_AREA_RING;
	object->port = card->port[port];
	object->first = port * EXANIC_RING_PAGES;
	object->pages = EXANIC_RING_PAGES;
	return 0;
}

static int map_filter_ring(struct exanic *card, unsigned long index, struct map_object *object)
{
	unsigned long port, buffer;

	if (!card->filter_buffers)
		return -EINVAL;
	port = index / card->filter_buffers;
	buffer = index % card->filter_buffers;
	if (port >= card->ports || !exanic_buffer_page(card->port[port], buffer))
		return -EINVAL;
	object->area = EXANIC_AREA_FILTER_RING;
	object->port = card->port[port];
	object->first = (port * EXANIC_FILTER_BUFFERS_MAX + buffer) * EXANIC_RING_PAGES;
	object->pages = EXANIC_RING_PAGES;
	return 0;
}

static int map_object(struct exanic *card, unsigned long pgoff, struct map_object *object)
{
	unsigned long regs = card->regs_len >> PAGE_SHIFT, index;

	object->port = NULL;
	object->first = 0;
	switch (pgoff) {
	case EXANIC_PGOFF_REGISTERS:
		object->area = EXANIC_AREA_REGISTERS;
		object->pages = regs;
		return 0;
	case EXANIC_PGOFF_INFO:
		object->area = EXANIC_AREA_INFO;
		object->pages = 1;
		return card->full ? 0 : -EINVAL;
	case EXANIC_PGOFF_FILTERS:
		object->area = EXANIC_AREA_REGISTERS;
		object->first = EXANIC_PGOFF_FILTERS;
		object->pages = regs > object->first ? regs - object->first : 0;
		return object->pages ? 0 : -EINVAL;
	case EXANIC_PGOFF_TX:
	case EXANIC_PGOFF_TX_ALIAS:
		object->area = EXANIC_AREA_TX;
		object->pages = card->tx_len >> PAGE_SHIFT;
		return object->pages ? 0 : -EINVAL;
	case EXANIC_PGOFF_FEEDBACK:
		object->area = EXANIC_AREA_FEEDBACK;
		object->pages = 1;
		return card->feedback_page ? 0 : -EINVAL;
	}
	if (pgoff % EXANIC_RING_PAGES == 0 && pgoff >= EXANIC_PGOFF_RX &&
	    pgoff < EXANIC_PGOFF_FILTER_RX)
		return map_ring(card, (pgoff - EXANIC_PGOFF_RX) / EXANIC_RING_PAGES, object);
	if (pgoff % EXANIC_RING_PAGES == 0 && pgoff >= EXANIC_PGOFF_RX_EXT &&
	    pgoff < EXANIC_PGOFF_DEVKIT_REGS_EXT) {
		index = (pgoff - EXANIC_PGOFF_RX_EXT) / EXANIC_RING_PAGES;
		return map_ring(card, index, object);
	}
	if (pgoff % EXANIC_RING_PAGES == 0 && pgoff >= EXANIC_PGOFF_FILTER_RX &&
	    pgoff < EXANIC_PGOFF_DEVKIT_REGS) {
		index = (pgoff - EXANIC_PGOFF_FILTER_RX) / EXANIC_RING_PAGES;
		return map_filter_ring(card, index, object);
	}
	return -EINVAL;
}

static bool map_counts(unsigned long pgoff)
{
	switch (pgoff >> EXANIC_AREA_SHIFT) {
	case EXANIC_AREA_FEEDBACK:
	case EXANIC_AREA_RING:
	case EXANIC_AREA_FILTER_RING:
		return true;
	}
	return false;
}

static void exanic_vma_open(struct vm_area_struct *vma)
{
	struct exanic_file *ctx = vma->vm_file->private_data;

	if (map_counts(vma->vm_pgoff))
		atomic_inc(&ctx->card->usage);
}

static void exanic_vma_close(struct vm_area_struct *vma)
{
	struct exanic_file *ctx = vma->vm_file->private_data;

	if (map_counts(vma->vm_pgoff))
		atomic_dec(&ctx->card->usage);
}

/* A page of BAR 2: all of it with hardware rights, else what this file allocated */
static bool may_tx_page(const struct exanic_file *ctx, unsigned long page)
{
	struct exanic *card = ctx->card;
	unsigned int p;

	if (exanic_may_hardware(ctx))
		return true;
	if (page >= EXANIC_TX_PAGES_MAX || !test_bit(page, ctx->tx_pages))
		return false;
	for (p = 0; p < card->ports; p++) {
		const struct exanic_port *port = card->port[p];
		unsigned long first = port->tx_region >> PAGE_SHIFT;

		if (page >= first && page - first < port->tx_region_size >> PAGE_SHIFT)
			return exanic_may_port(ctx, port);
	}
	return false;
}

/* The page behind an offset, or 0 when this file may not see it. Under map_lock. */
static unsigned long map_pfn(struct exanic_file *ctx, unsigned long pgoff)
{
	unsigned long page = pgoff & (EXANIC_AREA_PAGES - 1), index;
	unsigned long dead = page_to_pfn(ctx->card->dead_page);
	struct exanic *card = ctx->card;
	struct page *ring;

	switch (pgoff >> EXANIC_AREA_SHIFT) {
	case EXANIC_AREA_INFO:
		return page_to_pfn(card->info_page);
	case EXANIC_AREA_REGISTERS:
		if (exanic_gone(card) || !exanic_may_hardware(ctx))
			return 0;
		return (pci_resource_start(card->pdev, 0) >> PAGE_SHIFT) + page;
	case EXANIC_AREA_TX:
		if (exanic_gone(card) || !may_tx_page(ctx, page))
			return 0;
		return (pci_resource_start(card->pdev, 2) >> PAGE_SHIFT) + page;
	case EXANIC_AREA_FEEDBACK:
		if (!card->feedback_page || !exanic_may_hardware(ctx))
			return 0;
		return page_to_pfn(card->feedback_page);
	case EXANIC_AREA_RING:
		index = page / EXANIC_RING_PAGES;
		if (exanic_gone(card) || index >= card->ports ||
		    !exanic_may_port(ctx, card->port[index]) || !card->port[index]->ring_page)
			return dead;
		return page_to_pfn(card->port[index]->ring_page) + page % EXANIC_RING_PAGES;
	case EXANIC_AREA_FILTER_RING:
		index = page / EXANIC_RING_PAGES;
		if (exanic_gone(card) || index / EXANIC_FILTER_BUFFERS_MAX >= card->ports)
			return dead;
		{
			unsigned int p = index / EXANIC_FILTER_BUFFERS_MAX;
			u32 buffer = index % EXANIC_FILTER_BUFFERS_MAX;

			ring = exanic_buffer_page(card->port[p], buffer);
			if (!ring || !test_bit(buffer, ctx->buffers[p]) ||
			    !exanic_may_port(ctx, card->port[p]))
				return dead;
		}
		return page_to_pfn(ring) + page % EXANIC_RING_PAGES;
	}
	return 0;
}

/* One fault fills the whole mapping: a receiver should not fault on every page */
static vm_fault_t exanic_fault(struct vm_fault *vmf)
{
	struct vm_area_struct *vma = vmf->vma;
	struct exanic_file *ctx = vma->vm_file->private_data;
	unsigned long address, pgoff, pfn;
	vm_fault_t ret;

	mutex_lock(&ctx->card->map_lock);
	pfn = map_pfn(ctx, vmf->pgoff);
	ret = pfn ? vmf_insert_pfn(vma, vmf->address, pfn) : VM_FAULT_SIGBUS;
	if (ret != VM_FAULT_NOPAGE)
		goto out;
	for (address = vma->vm_start, pgoff = vma->vm_pgoff; address < vma->vm_end;
	     address += PAGE_SIZE, pgoff++) {
		pfn = map_pfn(ctx, pgoff);
		if (pfn && vmf_insert_pfn(vma, address, pfn) != VM_FAULT_NOPAGE)
			break;
	}
out:
	mutex_unlock(&ctx->card->map_lock);
	return ret;
}

static const struct vm_operations_struct exanic_vm_ops = {
	.open = exanic_vma_open,
	.close = exanic_vma_close,
	.fault = exanic_fault,
};

/* May this file map the object at all? Pages are asked about again, one by one. */
static int map_check(struct exanic_file *ctx, const struct map_object *object, bool write)
{
	switch (object->area) {
	case EXANIC_AREA_INFO:
		return write ? -EACCES : 0;
	case EXANIC_AREA_TX:
		return 0;
	case EXANIC_AREA_RING:
	case EXANIC_AREA_FILTER_RING:
		if (write)
			return -EACCES;
		return exanic_may_port(ctx, object->port) ? 0 : -EPERM;
	default:
		return exanic_may_hardware(ctx) ? 0 : -EPERM;
	}
}

int exanic_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct exanic_file *ctx = file->private_data;
	struct exanic *card = ctx->card;
	struct map_object object;
	int err;

	mutex_lock(&card->map_lock);
	if (exanic_gone(card))
		err = -ENODEV;
	else
		err = map_object(card, vma->vm_pgoff, &object);
	if (!err && vma_pages(vma) > object.pages)
		err = -EINVAL;
	if (!err)
		err = map_check(ctx, &object, vma->vm_flags & VM_WRITE);
	if (!err && object.area == EXANIC_AREA_REGISTERS)
		card->txmem.doorbells = true;
	mutex_unlock(&card->map_lock);
	if (err)
		return err;

	switch (object.area) {
	case EXANIC_AREA_REGISTERS:
		vma->vm_page_prot = pgprot_noncached(vma->vm_page_prot);
		break;
	case EXANIC_AREA_TX:
		vma->vm_page_prot = pgprot_writecombine(vma->vm_page_prot);
		break;
	case EXANIC_AREA_FEEDBACK:
		break;
	default:
		vm_flags_clear(vma, VM_MAYWRITE);
	}
	/* a private, writable mapping would be of copies: never what is meant */
	if ((vma->vm_flags & (VM_SHARED | VM_MAYWRITE)) == VM_MAYWRITE)
		return -EINVAL;
	vm_flags_set(vma, VM_IO | VM_PFNMAP | VM_DONTEXPAND | VM_DONTDUMP);
	vma->vm_pgoff = exanic_area_pgoff(object.area) + object.first;
	vma->vm_ops = &exanic_vm_ops;
	exanic_vma_open(vma);
	return 0;
}
