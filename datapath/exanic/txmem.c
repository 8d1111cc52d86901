// SPDX-License-Identifier: GPL-2.0-only
/*
 * Transmit memory (pages of BAR 2) and feedback slots: who has which (8.1, 8.4).
 * Callers hold card->map_lock.
 */

#include <linux/dma-mapping.h>

#include "exanic.h"
#include "regs.h"

int exanic_txmem_setup(struct exanic *card)
{
	struct page *page;
	int err = exanic_fail(EXANIC_STEP_TXMEM);

	if (err)
		return err;
	page = dma_alloc_pages(exanic_dev(card), PAGE_SIZE, &card->feedback_dma,
			       DMA_FROM_DEVICE, GFP_KERNEL);
	if (!page)
		return -ENOMEM;
	memset(page_address(page), 0, PAGE_SIZE);
	mutex_lock(&card->map_lock);
	card->feedback_page = page;
	bitmap_zero(card->tx_pages, EXANIC_TX_PAGES_MAX);
	bitmap_zero(card->tx_slots, EXANIC_TX_SLOTS);
	mutex_unlock(&card->map_lock);
	exanic_write_base(card, EXANIC_REG_TX_FEEDBACK_BASE_HI, EXANIC_REG_TX_FEEDBACK_BASE_LO,
			  card->feedback_dma);
	return 0;
}

void exanic_txmem_teardown(struct exanic *card)
{
	struct page *page;

	mutex_lock(&card->map_lock);
	page = card->feedback_page;
	card->feedback_page = NULL;
	mutex_unlock(&card->map_lock);
	exanic_zap_all(card);
	/* no bus mastering, no feedback into a page that is somebody else's */
	pci_clear_master(card->pdev);
	dma_free_pages(exanic_dev(card), PAGE_SIZE, page, card->feedback_dma, DMA_FROM_DEVICE);
}

/* First fit within the port's region; @offset counts from the start of BAR 2 */
int exanic_txmem_alloc(struct exanic_port *port, u32 size, u32 *offset)
{
	struct exanic *card = port->card;
	unsigned long first = port->tx_region >> PAGE_SHIFT;
	unsigned long end = min_t(unsigned long, EXANIC_TX_PAGES_MAX,
				  (port->tx_region + port->tx_region_size) >> PAGE_SHIFT);
	unsigned int pages = size >> PAGE_SHIFT;
	unsigned long at;

	if (!pages)
		return -EINVAL;
	at = bitmap_find_next_zero_area(card->tx_pages, end, first, pages, 0);
	if (at + pages > end)
		return -ENOMEM;
	bitmap_set(card->tx_pages, at, pages);
	*offset = at << PAGE_SHIFT;
	return 0;
}

void exanic_txmem_free(struct exanic *card, u32 offset, u32 size)
{
	bitmap_clear(card->tx_pages, offset >> PAGE_SHIFT, size >> PAGE_SHIFT);
}

__le16 *exanic_slot(struct exanic *card, u16 slot)
{
	return (__le16 *)page_address(card->feedback_page) + slot;
}

int exanic_slot_alloc(struct exanic *card, u16 *slot)
{
	unsigned long at = find_first_zero_bit(card->tx_slots, EXANIC_TX_SLOTS);

	if (at >= EXANIC_TX_SLOTS)
		return -ENOMEM;
	__set_bit(at, card->tx_slots);
	WRITE_ONCE(*exanic_slot(card, at), 0);
	*slot = at;
	return 0;
}

void exanic_slot_free(struct exanic *card, u16 slot)
{
	__clear_bit(slot, card->tx_slots);
}
