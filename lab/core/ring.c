// SPDX-License-Identifier: GPL-2.0-only
/* The RX ring as its writer sees it (hardware reference 7.1 and 7.2). */
#include <assert.h>

#include "internal.h"

struct chunk_meta {
	uint32_t time;
	uint8_t status;
	uint8_t length;
	uint8_t filter;
	uint8_t generation;
};

static_assert(sizeof(struct chunk_meta) == 8, "metadata is one 64-bit store");

/*
 * Readers take the metadata as one aligned load and believe the generation:
 * the payload must be visible before it.
 */
static void publish(uint8_t *place, const struct chunk_meta *meta)
{
	uint64_t word;

	memcpy(&word, meta, sizeof(word));
	if ((uintptr_t)place % sizeof(word)) {
		__atomic_thread_fence(__ATOMIC_RELEASE);
		memcpy(place, &word, sizeof(word));
	} else {
		__atomic_store_n((uint64_t *)(void *)place, word, __ATOMIC_RELEASE);
	}
}

void exa_ring_write(struct exa_port *port, const uint8_t *frame, uint32_t length, uint32_t stamp,
		    int status)
{
	while (length) {
		uint32_t part = length < EXA_CHUNK_DATA ? length : EXA_CHUNK_DATA;
		bool last = part == length;
		uint64_t address = port->ring +
				   (uint64_t)(port->position % EXA_RING_CHUNKS) * EXA_CHUNK_SIZE;
		uint8_t *chunk = exa_dma_find(port->card, address, EXA_CHUNK_SIZE, EXA_DMA_WRITE);

		if (chunk) {
			struct chunk_meta meta = {
				.time = stamp,
				.status = last ? (uint8_t)status : 0,
				.length = last ? (uint8_t)part : 0,
				.generation = (uint8_t)(port->position / EXA_RING_CHUNKS),
			};

			memcpy(chunk, frame, part);
			publish(chunk + EXA_CHUNK_DATA, &meta);
		}
		port->position = (port->position + 1) % EXA_POSITIONS;
		frame += part;
		length -= part;
	}
}

/* A position is behind us when it is by less than half of all positions. */
bool exa_ring_written(const struct exa_port *port, uint32_t position)
{
	uint32_t behind = (port->position - position) % EXA_POSITIONS;

	return behind && behind <= EXA_POSITIONS / 2;
}
