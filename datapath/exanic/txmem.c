// SPDX-License-Identifier: GPL-2.0-only
/*
 * Transmit memory (pages of BAR 2) and feedback slots: who has which (8.1, 8.4).
 * Callers hold card->map_lock.
 *
 * Each port's region begins with what the kernel is sure of: the buffer of the port's own
 * queue (tx.c), which is the port's for life as its ring is, and TXMEM_RESERVE pages for
 * exasock. Behind that comes what files may have, and exasock while it is free. Slots are
 * one pool for the card, so each port has a share for its files, and
 * EXANIC_TX_KERNEL_SLOTS beside it: no owner of a port can keep another port from coming
 * up.
 *
 * What is released goes to another owner only when the card has finished with it. Until
 * then it waits, where it is, and counts as its port's. The card has finished
 * - when the slot shows the id of the last chunk that its owner sent, or
 * - when the port's own queue has had a command confirmed that it gave after the release:
 *   the card serves the commands of a port in order (8.4).
 * Of a file's pages only the second can be known, and it is asked for only once a process
 * has mapped the registers, for without them none can ring a doorbell. Files with hardware
 * rights may have what other files' release left waiting when nothing else is free: they
 * can reach it anyway, and a port whose own queue never sends would run out.
 */

#include <linux/dma-mapping.h>

#include "access.h"
#include "exanic.h"
#include "regs.h"

#define TXMEM_RESERVE	4U	/* pages: one transmit queue of exasock */

int exanic_txmem_setup(struct exanic *card)
{
	struct page *page;
	int err = exanic_fail(EXANIC_STEP_TXMEM);

	if (err)
		return err;
	page = exanic_dma_alloc(card, PAGE_SIZE, &card->feedback_dma);
	if (!page)
		return -ENOMEM;
	memset(page_address(page), 0, PAGE_SIZE);
	mutex_lock(&card->map_lock);
	card->feedback_page = page;
	memset(&card->txmem, 0, sizeof(card->txmem));
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
	exanic_dma_free(card, PAGE_SIZE, page, card->feedback_dma);
}

__le16 *exanic_slot(struct exanic *card, u16 slot)
{
	return (__le16 *)page_address(card->feedback_page) + slot;
}

/* The address is ours to write, and a card that was reset has forgotten it */
bool exanic_txmem_was_reset(struct exanic *card)
{
	u32 low = exanic_read(card, EXANIC_REG_TX_FEEDBACK_BASE_LO);

	return !exanic_gone(card) &&
	       (low & PAGE_MASK) != (lower_32_bits(card->feedback_dma) & PAGE_MASK);
}

/* Has a command been confirmed that the port's own queue gave after the release? */
static bool wait_passed(struct exanic *card, const struct exanic_tx_wait *wait)
{
	return READ_ONCE(card->port[wait->port]->tx.confirmed) >= wait->fence;
}

/*
 * Give back what the card has finished with. Slots first, and pages by what was found
 * then: a slot may not have another owner while it still answers for pages.
 */
static void txmem_sweep(struct exanic *card)
{
	struct exanic_txmem *mem = &card->txmem;
	DECLARE_BITMAP(done, EXANIC_TX_SLOTS) = {};
	unsigned int slot, page;
	bool reset;

	if (bitmap_empty(mem->waiting_slots, EXANIC_TX_SLOTS) &&
	    bitmap_empty(mem->waiting_pages, EXANIC_TX_PAGES_MAX))
		return;
	reset = exanic_txmem_was_reset(card);
	for_each_set_bit(slot, mem->waiting_slots, EXANIC_TX_SLOTS) {
		const struct exanic_tx_wait *wait = &mem->slot_wait[slot];

		if (reset || wait_passed(card, wait) ||
		    (wait->known && le16_to_cpu(READ_ONCE(*exanic_slot(card, slot))) == wait->last))
			__set_bit(slot, done);
	}
	for_each_set_bit(page, mem->waiting_pages, EXANIC_TX_PAGES_MAX) {
		const struct exanic_tx_wait *wait = &mem->page_wait[page];

		if (reset || (wait->known ? test_bit(wait->slot, done) : wait_passed(card, wait))) {
			__clear_bit(page, mem->waiting_pages);
			__clear_bit(page, mem->pages);
		}
	}
	bitmap_andnot(mem->waiting_slots, mem->waiting_slots, done, EXANIC_TX_SLOTS);
	bitmap_andnot(mem->slots, mem->slots, done, EXANIC_TX_SLOTS);
}

/* First page of the port's region, and behind its last one */
static unsigned long region_first(const struct exanic_port *port)
{
	return port->tx_region >> PAGE_SHIFT;
}

static unsigned long region_end(const struct exanic_port *port)
{
	return min_t(unsigned long, EXANIC_TX_PAGES_MAX,
		     (port->tx_region + port->tx_region_size) >> PAGE_SHIFT);
}

/* The port in whose region a page of BAR 2 lies, or NULL */
struct exanic_port *exanic_txmem_port(struct exanic *card, unsigned long page)
{
	unsigned int p;

	for (p = 0; p < card->ports; p++)
		if (page >= region_first(card->port[p]) && page < region_end(card->port[p]))
			return card->port[p];
	return NULL;
}

/* Where the part of the region begins that files may have */
static unsigned long region_shared(const struct exanic_port *port)
{
	unsigned long own = region_first(port) + (port->tx.size >> PAGE_SHIFT);
	unsigned long end = region_end(port);

	return own < end ? own + min_t(unsigned long, TXMEM_RESERVE, (end - own) / 2) : end;
}

/* Pages that a file has in the port's shared part, of which others on the port want some, too */
static bool file_may_have_pages(const struct exanic_file *ctx, const struct exanic_port *port,
				unsigned int more)
{
	unsigned long first = region_shared(port), end = region_end(port), page;
	unsigned int has = 0;

	if (exanic_may_hardware(ctx))
		return true;
	page = first;
	for_each_set_bit_from(page, ctx->tx_pages, end)
		has++;
	return has + more <= DIV_ROUND_UP(end - first, 2);
}

/* First fit; @offset counts from the start of BAR 2. @ctx: the file, NULL for the kernel. */
int exanic_txmem_alloc(struct exanic_port *port, const struct exanic_file *ctx, u32 size,
		       u32 *offset)
{
	unsigned long first = ctx ? region_shared(port) : region_first(port);
	unsigned long end = region_end(port), at;
	struct exanic_txmem *mem = &port->card->txmem;
	unsigned int pages = size >> PAGE_SHIFT;

	if (!pages)
		return -EINVAL;
	txmem_sweep(port->card);
	if (ctx && !file_may_have_pages(ctx, port, pages))
		return -ENOMEM;
	at = bitmap_find_next_zero_area(mem->pages, end, first, pages, 0);
	if (at + pages > end && ctx && exanic_may_hardware(ctx)) {
		DECLARE_BITMAP(taken, EXANIC_TX_PAGES_MAX);
		unsigned int page;

		bitmap_copy(taken, mem->pages, EXANIC_TX_PAGES_MAX);
		for_each_set_bit(page, mem->waiting_pages, EXANIC_TX_PAGES_MAX)
			if (!mem->page_wait[page].known)
				__clear_bit(page, taken);
		at = bitmap_find_next_zero_area(taken, end, first, pages, 0);
	}
	if (at + pages > end)
		return -ENOMEM;
	bitmap_set(mem->pages, at, pages);
	bitmap_clear(mem->waiting_pages, at, pages);
	*offset = at << PAGE_SHIFT;
	return 0;
}

static struct exanic_port *slot_port(struct exanic *card, unsigned int slot)
{
	return card->port[card->txmem.slot_wait[slot].port];
}

/* Slots of a port: the files', or the kernel's; those that wait count as well */
static unsigned int port_slots(const struct exanic_port *port, bool file)
{
	struct exanic_txmem *mem = &port->card->txmem;
	unsigned int slot, count = 0;

	for_each_set_bit(slot, mem->slots, EXANIC_TX_SLOTS)
		count += slot_port(port->card, slot) == port && mem->slot_wait[slot].file == file;
	return count;
}

static bool file_may_have_slot(const struct exanic_file *ctx, const struct exanic_port *port,
			       unsigned int share)
{
	unsigned int slot, has = 0;

	if (exanic_may_hardware(ctx))
		return true;
	for_each_set_bit(slot, ctx->tx_slots, EXANIC_TX_SLOTS)
		has += slot_port(ctx->card, slot) == port;
	return has < DIV_ROUND_UP(share, 2);
}

/* A slot of the port's that a file left and the card may still write to */
static unsigned long slot_left_waiting(const struct exanic_port *port)
{
	struct exanic_txmem *mem = &port->card->txmem;
	unsigned int slot;

	for_each_set_bit(slot, mem->waiting_slots, EXANIC_TX_SLOTS)
		if (slot_port(port->card, slot) == port && mem->slot_wait[slot].file)
			return slot;
	return EXANIC_TX_SLOTS;
}

/* @ctx: the file, NULL for the kernel */
int exanic_slot_alloc(struct exanic_port *port, const struct exanic_file *ctx, u16 *slot)
{
	struct exanic *card = port->card;
	struct exanic_txmem *mem = &card->txmem;
	unsigned int share = EXANIC_TX_KERNEL_SLOTS;
	unsigned long at;

	if (ctx)
		share = EXANIC_TX_SLOTS / card->ports - EXANIC_TX_KERNEL_SLOTS;
	txmem_sweep(card);
	if (ctx && !file_may_have_slot(ctx, port, share))
		return -ENOMEM;
	at = find_first_zero_bit(mem->slots, EXANIC_TX_SLOTS);
	if (port_slots(port, ctx) >= share)
		at = EXANIC_TX_SLOTS;
	if (at >= EXANIC_TX_SLOTS && ctx && exanic_may_hardware(ctx))
		at = slot_left_waiting(port);
	if (at >= EXANIC_TX_SLOTS)
		return -ENOMEM;
	__set_bit(at, mem->slots);
	__clear_bit(at, mem->waiting_slots);
	mem->slot_wait[at].port = port->number;
	mem->slot_wait[at].file = ctx;
	WRITE_ONCE(*exanic_slot(card, at), 0);
	*slot = at;
	return 0;
}

static u64 wait_fence(const struct exanic_port *port)
{
	return READ_ONCE(port->tx.issued) + 1;
}

/* A queue of the kernel ends: its memory, its slot, the id of its last command */
void exanic_txmem_release(struct exanic_port *port, u32 offset, u32 size, u16 slot, u16 last)
{
	struct exanic_txmem *mem = &port->card->txmem;
	unsigned long page = offset >> PAGE_SHIFT, end = (offset + size) >> PAGE_SHIFT;

	mem->slot_wait[slot].fence = wait_fence(port);
	mem->slot_wait[slot].last = last;
	mem->slot_wait[slot].known = true;
	__set_bit(slot, mem->waiting_slots);
	for (; page < end; page++) {
		mem->page_wait[page].known = true;
		mem->page_wait[page].slot = slot;
		__set_bit(page, mem->waiting_pages);
	}
	txmem_sweep(port->card);
}

/* A file lets go of a page; it is of no port any more once the card is on its way out */
void exanic_txmem_release_page(struct exanic *card, unsigned long page)
{
	struct exanic_port *port = exanic_txmem_port(card, page);
	struct exanic_txmem *mem = &card->txmem;

	if (!mem->doorbells || !port) {
		__clear_bit(page, mem->pages);
		return;
	}
	mem->page_wait[page].known = false;
	mem->page_wait[page].port = port->number;
	mem->page_wait[page].fence = wait_fence(port);
	__set_bit(page, mem->waiting_pages);
}

/* A file lets go of a slot */
void exanic_slot_release(struct exanic *card, u16 slot)
{
	struct exanic_txmem *mem = &card->txmem;

	if (!mem->doorbells || !card->ports) {
		__clear_bit(slot, mem->slots);
		return;
	}
	mem->slot_wait[slot].known = false;
	mem->slot_wait[slot].fence = wait_fence(slot_port(card, slot));
	__set_bit(slot, mem->waiting_slots);
}

/* Buffers of the port that other modules have; pages and slots of it that wait for the card */
void exanic_txmem_count(struct exanic_port *port, u64 *buffers, u64 *waiting_pages,
			u64 *waiting_slots)
{
	struct exanic_txmem *mem = &port->card->txmem;
	unsigned long page = region_first(port);
	unsigned int slot;

	*buffers = 0;
	*waiting_pages = 0;
	*waiting_slots = 0;
	txmem_sweep(port->card);
	for_each_set_bit_from(page, mem->waiting_pages, region_end(port))
		(*waiting_pages)++;
	for_each_set_bit(slot, mem->slots, EXANIC_TX_SLOTS) {
		if (slot_port(port->card, slot) != port)
			continue;
		if (test_bit(slot, mem->waiting_slots))
			(*waiting_slots)++;
		else if (!mem->slot_wait[slot].file && slot != port->tx.slot)
			(*buffers)++;
	}
}
