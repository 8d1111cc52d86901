// SPDX-License-Identifier: GPL-2.0-only
/* TX: from a chunk in BAR2 to a frame on the wire (hardware reference 8). */
#include <assert.h>
#include <stdlib.h>

#include "internal.h"

struct tx_header {
	uint16_t feedback_id;
	uint16_t feedback_slot;
	uint16_t length;
	uint8_t type;
	uint8_t flags;
};

static_assert(sizeof(struct tx_header) == EXA_TX_HEADER, "chunk header");
static_assert(offsetof(struct tx_header, type) == 6, "chunk header");

/*
 * The guest may change its memory while we read it: copy once, and let the
 * compiler not go back to the original.
 */
static void fetch(void *to, const uint8_t *from, uint32_t length)
{
	memcpy(to, from, length);
	__asm__ volatile("" : : : "memory");
}

/* Puts a finished frame on the wire; false when there is no link, or a loop. */
bool exa_port_emit(struct exa_port *port, const uint8_t *frame, uint32_t length)
{
	struct exa_card *card = port->card;

	if (!(port->settings.link || port->settings.loopback) || card->depth >= EXA_LOOP_LIMIT) {
		exa_port_count(port, EXA_TX_NO_LINK);
		return false;
	}
	exa_capture_write(port->capture, frame, length, EXA_OUTBOUND, false);
	port->last_time = (uint32_t)exa_ticks(card);
	exa_port_count(port, EXA_TX);
	/* Bridged ports in loopback would send one frame for ever. */
	card->depth++;
	if (port->settings.loopback)
		exa_receive(port, frame, length, EXA_GOOD);
	else
		exa_wire_send(card->core, port->end, frame, length);
	card->depth--;
	return true;
}

/* Pads, seals and sends the length bytes in frame, which has room for both. */
static void finish(struct exa_port *port, uint8_t *frame, uint32_t length)
{
	if (port->settings.pad && length < EXA_MIN_FRAME) {
		memset(frame + length, 0, EXA_MIN_FRAME - length);
		length = EXA_MIN_FRAME;
	}
	if (port->settings.crc) {
		if (length > EXA_MAX_FRAME - EXA_FCS_SIZE)
			goto bad;
		exa_seal(frame, length);
		length += EXA_FCS_SIZE;
	}
	if (length < EXA_RUNT || length > EXA_MAX_FRAME)
		goto bad;
	if (exa_port_emit(port, frame, length) && port->settings.mirror_tx)
		exa_card_mirror(port->card, port, frame, length);
	return;
bad:
	exa_port_count(port, EXA_TX_BAD_CHUNK);
}

static bool in_region(const struct exa_port *port, uint32_t offset, uint32_t size)
{
	return offset >= port->region_offset && size <= port->region_size &&
	       offset - port->region_offset <= port->region_size - size;
}

/* Fetches the chunk of a command, as it is by now, and sends it. */
static void serve(struct exa_port *port, uint32_t offset)
{
	uint8_t frame[EXA_MAX_FRAME + EXA_FCS_SIZE];
	struct exa_card *card = port->card;
	struct tx_header header;
	uint32_t length;

	if (offset % 8 || !in_region(port, offset, EXA_TX_HEADER))
		goto bad_command;
	fetch(&header, card->tx_memory + offset, sizeof(header));
	if (!in_region(port, offset, EXA_TX_HEADER + (uint32_t)header.length))
		goto bad_command;
	if (header.type == EXA_TYPE_RAW && header.length > EXA_TX_PADDING &&
	    header.length - EXA_TX_PADDING <= EXA_MAX_FRAME) {
		length = (uint32_t)header.length - EXA_TX_PADDING;
		fetch(frame, card->tx_memory + offset + EXA_TX_HEADER + EXA_TX_PADDING, length);
		finish(port, frame, length);
	} else {
		exa_port_count(port, EXA_TX_BAD_CHUNK);
	}
	if (!(header.feedback_slot & EXA_TX_NO_FEEDBACK))
		exa_card_feed_back(card, header.feedback_slot, header.feedback_id);
	return;
bad_command:
	exa_port_count(port, EXA_TX_BAD_COMMAND);
}

void exa_port_transmit(struct exa_card *card, int number, uint32_t offset)
{
	struct exa_port *port = &card->port[number];

	if (!card->present)
		return;
	if (!port->stalled)
		serve(port, offset);
	else if (port->commands_used < port->commands_room)
		port->commands[port->commands_used++] = offset;
	else
		exa_port_count(port, EXA_TX_BAD_COMMAND);
}

/*
 * A port that the link partner has paused: commands wait in its FIFO, and their chunks are
 * fetched when it goes on. -1 without memory.
 */
int exa_port_stall(struct exa_card *card, int number, int stalled)
{
	struct exa_port *port = &card->port[number];
	uint32_t i;

	if (stalled && !port->commands) {
		port->commands_room = port->region_size / EXA_TX_COMMAND_BYTES;
		port->commands = calloc((size_t)port->commands_room + 1, sizeof(uint32_t));
		if (!port->commands)
			return -1;
	}
	port->stalled = stalled;
	if (stalled)
		return 0;
	for (i = 0; i < port->commands_used && card->present; i++)
		serve(port, port->commands[i]);
	exa_port_forget(card, number);
	return 0;
}

/* A reset empties the FIFO. */
void exa_port_forget(struct exa_card *card, int number)
{
	card->port[number].commands_used = 0;
}
