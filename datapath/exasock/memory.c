// SPDX-License-Identifier: GPL-2.0-only
/* An attached UDP socket's memory: what it shares with its process (shared.c), and what not */

#include <linux/percpu.h>
#include <linux/slab.h>

#include "exasock.h"

/* Slot of a number, for writing it: what is known of it is in struct exa_held */
struct exasock_slot *exa_slot(const struct exa_sock *es, u32 number)
{
	u8 *slot = es->shared.data + (size_t)(number & (exa_slots - 1)) * EXASOCK_SLOT_SIZE;

	return (struct exasock_slot *)slot;
}

void exa_sock_free(struct exa_sock *es)
{
	exa_shared_free(&es->shared);
	kvfree(es->held);
	free_percpu(es->sent);
	kfree(es);
}

/* Everything zero but the ring's geometry. NULL without memory. */
struct exa_sock *exa_sock_alloc(void)
{
	struct exa_sock *es = kzalloc(sizeof(*es), GFP_KERNEL_ACCOUNT);

	if (!es)
		return NULL;
	es->held = kvcalloc(exa_slots, sizeof(*es->held), GFP_KERNEL_ACCOUNT);
	es->sent = alloc_percpu_gfp(struct exa_sent, GFP_KERNEL_ACCOUNT);
	if (!es->held || !es->sent ||
	    exa_shared_alloc(&es->shared, (size_t)exa_slots * EXASOCK_SLOT_SIZE)) {
		exa_sock_free(es);
		return NULL;
	}
	es->head = 1;
	es->oldest = 1;
	exa_shared_begin(&es->shared, 1);
	exa_publish_u32(&es->shared.ring->abi, EXASOCK_ABI_VERSION);
	exa_publish_u32(&es->shared.ring->slots, exa_slots);
	exa_publish_u32(&es->shared.ring->head, 1);
	return es;
}
