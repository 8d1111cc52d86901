/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Open files of /dev/exanicN, what they hold, and what they may do.
 *
 * The page offsets of the ABI overlap (BAR 0 starts at 0 and may be longer than the
 * distance to the next object), so a mapping is given an unambiguous offset of its
 * own: area in the upper bits, page within it below.
 */
#ifndef EXANIC_ACCESS_H
#define EXANIC_ACCESS_H

#include "../include/exanic_abi.h"
#include "exanic.h"

#define EXANIC_FILTER_BUFFERS_MAX	256
#define EXANIC_AREA_SHIFT		28
#define EXANIC_AREA_PAGES		BIT(EXANIC_AREA_SHIFT)

enum exanic_area {
	EXANIC_AREA_FIRST = 1,
	EXANIC_AREA_REGISTERS = EXANIC_AREA_FIRST,
	EXANIC_AREA_TX,
	EXANIC_AREA_FEEDBACK,
	EXANIC_AREA_RING,		/* port * EXANIC_RING_PAGES */
	EXANIC_AREA_FILTER_RING,	/* (port * 256 + buffer) * EXANIC_RING_PAGES */
	EXANIC_AREA_LAST = EXANIC_AREA_FILTER_RING,
	EXANIC_AREA_INFO,
};

static inline unsigned long exanic_area_pgoff(enum exanic_area area)
{
	return (unsigned long)area << EXANIC_AREA_SHIFT;
}

struct exanic_file {
	struct exanic *card;
	struct file *file;
	struct list_head list;		/* card->files */
	u64 netns;			/* cookie of the opener's namespace */
	struct user_struct *user;	/* whom its filter buffers are charged to */

	/* what is freed at close; under card->map_lock */
	DECLARE_BITMAP(tx_pages, EXANIC_TX_PAGES_MAX);
	DECLARE_BITMAP(tx_slots, EXANIC_TX_SLOTS);
	unsigned long buffers[EXANIC_MAX_PORTS][BITS_TO_LONGS(EXANIC_FILTER_BUFFERS_MAX)];
};

u64 exanic_current_netns(void);
bool exanic_may_hardware(const struct exanic_file *ctx);
bool exanic_carries_others(const struct exanic_port *port);
int exanic_file_charge(struct exanic_file *ctx, unsigned long pages);
void exanic_file_uncharge(struct exanic_file *ctx, unsigned long pages);
bool exanic_may_port(const struct exanic_file *ctx, const struct exanic_port *port);
void exanic_zap(struct exanic *card, enum exanic_area area, unsigned long first,
		unsigned long pages);

#endif /* EXANIC_ACCESS_H */
