// SPDX-License-Identifier: GPL-2.0-only
/*
 * The card's view of guest memory: sorted ranges, and no access that is not
 * wholly within one of them in the direction it was mapped for.
 */
#include <stdlib.h>

#include "internal.h"

/* Index of the last range that starts at or before iova, or -1. */
static int below(const struct exa_card *card, uint64_t iova)
{
	int low = 0, high = (int)card->range_count;

	while (low < high) {
		int middle = (low + high) / 2;

		if (card->ranges[middle].iova <= iova)
			low = middle + 1;
		else
			high = middle;
	}
	return low - 1;
}

int exa_dma_map(struct exa_card *card, uint64_t iova, uint64_t size, uint8_t *memory, int prot)
{
	uint32_t at = (uint32_t)(below(card, iova) + 1);

	if (card->range_count == card->range_room) {
		uint32_t room = card->range_room ? 2 * card->range_room : 16;
		struct exa_range *ranges = realloc(card->ranges, room * sizeof(*ranges));

		if (!ranges)
			return -1;
		card->ranges = ranges;
		card->range_room = room;
	}
	memmove(card->ranges + at + 1, card->ranges + at,
		(card->range_count - at) * sizeof(*card->ranges));
	card->ranges[at] = (struct exa_range){ iova, size, memory, prot };
	card->range_count++;
	card->range_last = 0;
	return 0;
}

void exa_dma_unmap(struct exa_card *card, uint64_t iova, uint64_t size)
{
	uint32_t from, to = 0;

	for (from = 0; from < card->range_count; from++) {
		struct exa_range range = card->ranges[from];

		if (range.iova < iova || range.iova - iova >= size)
			card->ranges[to++] = range;
	}
	card->range_count = to;
	card->range_last = 0;
}

void exa_dma_unmap_all(struct exa_card *card)
{
	card->range_count = 0;
	card->range_last = 0;
}

uint64_t exa_dma_faults(struct exa_card *card)
{
	return card->dma_faults;
}

static bool holds(const struct exa_range *range, uint64_t iova, uint64_t size)
{
	return iova >= range->iova && iova - range->iova <= range->size &&
	       size <= range->size - (iova - range->iova);
}

/* Where the bytes are in our memory; NULL, and counted, when out of reach. */
uint8_t *exa_dma_find(struct exa_card *card, uint64_t iova, uint64_t size, int prot)
{
	struct exa_range *range;
	int index;

	/* Rings and feedback stay in one range: look there first. */
	if (card->range_last < card->range_count) {
		range = &card->ranges[card->range_last];
		if (holds(range, iova, size) && range->prot & prot)
			return range->memory + (iova - range->iova);
	}
	index = below(card, iova);
	if (index >= 0) {
		range = &card->ranges[index];
		if (holds(range, iova, size) && range->prot & prot) {
			card->range_last = (uint32_t)index;
			return range->memory + (iova - range->iova);
		}
	}
	card->dma_faults++;
	return NULL;
}
