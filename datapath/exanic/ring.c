// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory that the card writes: RX rings, 2 MiB each, and the feedback page. Coherent:
 * card and readers share it for as long as it exists, and nobody hands it to and fro.
 * Contiguous and in the kernel's linear mapping, so that it has a struct page for each
 * page: it is mapped into processes page by page, with access checked at each fault. A
 * port keeps its ring once it has one: getting 2 MiB in one piece back later is not
 * certain.
 */

#include <linux/dma-mapping.h>

#include "exanic.h"
#include "regs.h"

/* "One lap ago" in every slot (7.2): generation 255, length 255 */
void exanic_ring_reset(struct page *page)
{
	memset(page_address(page), 0xff, EXANIC_RX_RING_SIZE);
}

/* NULL without memory, also where coherent memory is only to be had out of vmalloc */
struct page *exanic_dma_alloc(struct exanic *card, size_t size, dma_addr_t *dma)
{
	void *memory = dma_alloc_attrs(exanic_dev(card), size, dma, GFP_KERNEL | __GFP_NOWARN,
				       DMA_ATTR_FORCE_CONTIGUOUS);

	if (!memory)
		return NULL;
	if (!virt_addr_valid(memory)) {
		dev_err(exanic_dev(card), "coherent memory without pages of its own\n");
		dma_free_attrs(exanic_dev(card), size, memory, *dma, DMA_ATTR_FORCE_CONTIGUOUS);
		return NULL;
	}
	return virt_to_page(memory);
}

void exanic_dma_free(struct exanic *card, size_t size, struct page *page, dma_addr_t dma)
{
	dma_free_attrs(exanic_dev(card), size, page_address(page), dma, DMA_ATTR_FORCE_CONTIGUOUS);
}

struct page *exanic_ring_alloc(struct exanic *card, dma_addr_t *dma)
{
	struct page *page = exanic_dma_alloc(card, EXANIC_RX_RING_SIZE, dma);

	if (page)
		exanic_ring_reset(page);
	return page;
}

void exanic_ring_free(struct exanic *card, struct page *page, dma_addr_t dma)
{
	exanic_dma_free(card, EXANIC_RX_RING_SIZE, page, dma);
}

/*
 * A DMA base register pair. Bit 0 of the low half says that the card may use
 * 32-bit addresses (3, 5); low is written first (6.1, 6.2).
 */
void exanic_write_base(struct exanic *card, u32 hi, u32 lo, dma_addr_t dma)
{
	if (upper_32_bits(dma)) {
		exanic_write(card, lo, lower_32_bits(dma));
		exanic_write(card, hi, upper_32_bits(dma));
	} else {
		exanic_write(card, lo, lower_32_bits(dma) | 1);
		exanic_write(card, hi, 0);
	}
}
