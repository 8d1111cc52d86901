// SPDX-License-Identifier: GPL-2.0-only
/*
 * A stream's memory: what it shares with its process (shared.c), and the send buffer, which
 * nobody maps.
 */

#include <linux/slab.h>

#include "tcp.h"

#define IMAGE_PAYLOAD_MOST	8960U

/* Where byte @offset of the ring lies, and how many from there on lie together */
u8 *exa_stream_at(const struct exa_stream *es, u64 offset, u32 *length)
{
	u32 at = offset & (exa_stream_room - 1);

	*length = min(*length, exa_stream_room - at);
	return es->shared.data + at;
}

void exa_stream_free(struct exa_stream *es)
{
	exa_shared_free(&es->shared);
	kvfree(es->buffer);
	kfree(es->image);
	kfree(es);
}

/* NULL without memory */
struct exa_stream *exa_stream_alloc(u32 mss)
{
	struct exa_stream *es = kzalloc(sizeof(*es), GFP_KERNEL_ACCOUNT);

	if (!es)
		return NULL;
	es->image_room = clamp(mss, 536U, IMAGE_PAYLOAD_MOST);
	es->image = kzalloc(EXA_STREAM_HEADERS + es->image_room + 8, GFP_KERNEL_ACCOUNT);
	es->buffer = kvmalloc(exa_stream_room, GFP_KERNEL_ACCOUNT);
	if (!es->image || !es->buffer || exa_shared_alloc(&es->shared, exa_stream_room)) {
		exa_stream_free(es);
		return NULL;
	}
	exa_publish_u32(&es->shared.stream_ring->abi, EXASOCK_ABI_VERSION);
	exa_publish_u32(&es->shared.stream_ring->size, exa_stream_room);
	return es;
}
