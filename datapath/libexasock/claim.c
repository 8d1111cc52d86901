// SPDX-License-Identifier: GPL-2.0-only
/*
 * The ring, from the reader's side. Threads agree by compare-and-swap: on the claim word
 * about who has a datagram, on the tail about where to look. The tail only moves
 * forward, and past a datagram before its reader frees its slots. So a word that speaks of
 * another number than the tail's means that the tail has moved meanwhile; or that nobody
 * looked for so long that the kernel has taken the datagram and used the slot again.
 */

#include "libexasock.h"

static u32 *word_of(struct exa_entry *entry, u32 number)
{
	return &entry->control->claim[number & entry->mask];
}

static void advance(struct exa_entry *entry, u32 number, u32 slots)
{
	u32 old = number;

	swap_if(&entry->control->tail, &old, (number + slots) & EXASOCK_NUMBER_MASK);
}

/* The next datagram, if it is there, and whose it is */
enum exa_claim exa_claim(struct exa_entry *entry, u32 *number)
{
	for (;;) {
		u32 at = load_acquire(&entry->control->tail);
		u32 held = EXASOCK_CLAIM(at, EXASOCK_STATE_HELD);
		u32 word;

		if (at == load_acquire(&entry->ring->head))
			return EXA_CLAIM_NONE;
		word = load_acquire(word_of(entry, at));
		if (word == held) {
			if (!swap_if(word_of(entry, at), &held,
				     EXASOCK_CLAIM(at, EXASOCK_STATE_USER)))
				continue;
			/* in one step; who sees it before goes the same way in several */
			advance(entry, at, EXASOCK_SPAN(exa_slot(entry, at)->frame));
			*number = at;
			return EXA_CLAIM_MINE;
		}
		if (word >> 2 != at) {
			if (load_acquire(&entry->control->tail) != at)
				continue;
			return EXA_CLAIM_LOST;
		}
		/* the tail stays until it has been flushed: no thread may have what follows */
		if ((word & EXASOCK_STATE_MASK) == EXASOCK_STATE_KERNEL)
			return EXA_CLAIM_KERNEL;
		advance(entry, at, 1);
	}
}

/* The caller has copied it: the slot may be written again */
void exa_release(struct exa_entry *entry, u32 number)
{
	store_release(word_of(entry, number), EXASOCK_CLAIM(number, EXASOCK_STATE_FREE));
}

/* Nothing before @head is held any more. Other threads may have gone further meanwhile. */
void exa_settle(struct exa_entry *entry, u32 head)
{
	u32 at = load_acquire(&entry->control->tail);

	while (((at - head) & EXASOCK_NUMBER_MASK) > entry->mask + 1 &&
	       !swap_if(&entry->control->tail, &at, head))
		;
}

/* Would a look find a datagram in the ring? */
bool exa_held(struct exa_entry *entry)
{
	u32 at = load_acquire(&entry->control->tail);
	u32 head = load_acquire(&entry->ring->head);

	if (entry->stream)
		return exa_stream_unread(entry);
	for (; at != head; at = (at + 1) & EXASOCK_NUMBER_MASK) {
		u32 word = load_acquire(word_of(entry, at));

		/* passed over, or another thread's: what follows is next */
		if (word != EXASOCK_CLAIM(at, EXASOCK_STATE_FREE) &&
		    word != EXASOCK_CLAIM(at, EXASOCK_STATE_USER))
			return word == EXASOCK_CLAIM(at, EXASOCK_STATE_HELD);
	}
	return false;
}
