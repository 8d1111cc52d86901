// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory of RX rings: 2 MiB, contiguous, real pages so that it can be mapped page
 * by page with access checked at each fault. A port keeps its ring once it has
 * one: getting 2 MiB in one piece back later is not certain.
 */

#include <linux/dma-mapping.h>

#include "exanic.h"
#include "regs.h"

/* "One lap ago" in every slot (7.2): generation 255, length 255 */
void exanic_ring_reset(struct page *page)
{
	memset(page_address(page), 0xff, EXANIC_RX_RING_SIZE);
}

struct page *exanic_ring_alloc(struct exanic *card, dma_addr_t *dma)
{
	struct page *page = dma_alloc_pages(exanic_dev(card), EXANIC_RX_RING_SIZE, dma,
					    DMA_FROM_DEVICE, GFP_KERNEL | __GFP_NOWARN);

	if (page)
		exanic_ring_reset(page);
	return page;
}

void exanic_ring_free(struct exanic *card, struct page *page, dma_addr_t dma)
{
	dma_free_pages(exanic_dev(card), EXANIC_RX_RING_SIZE, page, dma, DMA_FROM_DEVICE);
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
