// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the core leaves for Python: a bounded ring of notes, each followed by
 * its frame. A note that does not fit is dropped and counted, so that a slow
 * Python never holds up a card.
 */
#include "internal.h"

#define OUTBOX_SIZE	(8U << 20)
#define WRAP		0xffffffffU	/* kind: go on at the start */

static uint32_t padded(uint32_t length)
{
	return (uint32_t)sizeof(struct exa_note) + ((length + 3U) & ~3U);
}

void exa_outbox_put(struct exa_core *core, uint32_t kind, int end, const uint8_t *frame,
		    uint32_t length)
{
	struct exa_outbox *box = &core->outbox;
	struct exa_note note = { .kind = kind, .end = (uint32_t)end, .length = length };
	uint32_t need = padded(length);
	bool empty = box->head == box->tail;

	if (length > EXA_MAX_FRAME)
		goto full;
	if (empty)
		box->head = box->tail = 0;
	if (box->head >= box->tail) {
		/* Free: from head to the end, and from the start to tail. */
		if (OUTBOX_SIZE - box->head < need + sizeof(note)) {
			if (box->tail <= need)
				goto full;
			note.kind = WRAP;
			memcpy(box->data + box->head, &note, sizeof(note));
			note.kind = kind;
			box->head = 0;
		}
	} else if (box->tail - box->head <= need) {
		goto full;
	}
	memcpy(box->data + box->head, &note, sizeof(note));
	if (length)
		memcpy(box->data + box->head + sizeof(note), frame, length);
	box->head += need;
	if (empty)
		exa_core_wake(core);
	return;
full:
	box->dropped++;
}

/* Takes the oldest note; 0 when there is none. A frame beyond room is cut. */
int exa_outbox_take(struct exa_core *core, struct exa_note *note, uint8_t *frame, uint32_t room)
{
	struct exa_outbox *box = &core->outbox;

	if (box->head == box->tail)
		return 0;
	memcpy(note, box->data + box->tail, sizeof(*note));
	if (note->kind == WRAP) {
		box->tail = 0;
		memcpy(note, box->data, sizeof(*note));
	}
	if (note->length && room)
		memcpy(frame, box->data + box->tail + sizeof(*note),
		       note->length < room ? note->length : room);
	box->tail += padded(note->length);
	return 1;
}

uint64_t exa_outbox_dropped(struct exa_core *core)
{
	return core->outbox.dropped;
}
