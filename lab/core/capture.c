// SPDX-License-Identifier: GPL-2.0-only
/*
 * The capture of a port: the same two pcapng segments, byte for byte, as
 * lab/wire/capture.py. One that cannot be written is given up, not the card.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "internal.h"

#define BUFFER_SIZE	(64U << 10)
#define PACKET_FIXED	44U
#define FCS_LENGTH	(4U << 5)
#define CRC_ERROR	(1U << 24)

static void write_all(struct exa_capture *capture, const uint8_t *data, uint32_t length)
{
	while (length && capture->fd >= 0) {
		ssize_t done = write(capture->fd, data, length);

		if (done <= 0) {
			close(capture->fd);
			capture->fd = -1;
			return;
		}
		data += done;
		length -= (uint32_t)done;
	}
}

static void begin(struct exa_capture *capture)
{
	capture->fd = open(capture->path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0644);
	write_all(capture, capture->preamble, capture->preamble_length);
	capture->size = capture->preamble_length;
}

static void flush(struct exa_capture *capture)
{
	write_all(capture, capture->buffer, capture->used);
	capture->used = 0;
}

static void rotate(struct exa_capture *capture)
{
	flush(capture);
	if (capture->fd >= 0)
		close(capture->fd);
	if (rename(capture->path, capture->previous))
		unlink(capture->path);
	begin(capture);
}

int exa_capture_open(struct exa_card *card, int port, const char *path, const char *previous,
		     const uint8_t *preamble, uint32_t preamble_length, uint64_t limit)
{
	struct exa_capture *capture = calloc(1, sizeof(*capture));

	if (!capture)
		return -1;
	capture->core = card->core;
	capture->path = strdup(path);
	capture->previous = strdup(previous);
	capture->preamble = malloc(preamble_length);
	capture->buffer = malloc(BUFFER_SIZE);
	capture->fd = -1;
	if (!capture->path || !capture->previous || !capture->preamble || !capture->buffer) {
		exa_capture_close(capture);
		return -1;
	}
	memcpy(capture->preamble, preamble, preamble_length);
	capture->preamble_length = preamble_length;
	capture->limit = limit;
	begin(capture);
	card->port[port].capture = capture;
	return capture->fd < 0 ? -1 : 0;
}

void exa_capture_close(struct exa_capture *capture)
{
	if (!capture)
		return;
	if (capture->fd >= 0)
		close(capture->fd);
	free(capture->path);
	free(capture->previous);
	free(capture->preamble);
	free(capture->buffer);
	free(capture);
}

/* How many captures were given up because their file could not be written. */
int exa_captures_lost(struct exa_core *core)
{
	int card, port, lost = 0;

	for (card = 0; card < core->card_count; card++) {
		for (port = 0; port < core->cards[card]->ports; port++) {
			const struct exa_capture *capture = core->cards[card]->port[port].capture;

			lost += capture && capture->fd < 0;
		}
	}
	return lost;
}

int exa_capture_dirty(struct exa_core *core)
{
	return core->dirty;
}

void exa_capture_flush(struct exa_core *core)
{
	int card, port;

	for (card = 0; card < core->card_count; card++)
		for (port = 0; port < core->cards[card]->ports; port++)
			if (core->cards[card]->port[port].capture)
				flush(core->cards[card]->port[port].capture);
	core->dirty = false;
}

static uint8_t *put32(uint8_t *to, uint32_t value)
{
	memcpy(to, &value, sizeof(value));
	return to + sizeof(value);
}

/* An enhanced packet block, written in place. Little-endian hosts only. */
static void put_packet(uint8_t *to, uint64_t now, const uint8_t *frame, uint32_t length,
		       uint32_t flags)
{
	uint32_t padding = -length & 3U;
	uint32_t total = PACKET_FIXED + length + padding;

	to = put32(to, 6);
	to = put32(to, total);
	to = put32(to, 0);
	to = put32(to, (uint32_t)(now >> 32));
	to = put32(to, (uint32_t)now);
	to = put32(to, length);
	to = put32(to, length);
	memcpy(to, frame, length);
	memset(to + length, 0, padding);
	to += length + padding;
	to = put32(to, 4U << 16 | 2U);	/* option epb_flags, 4 bytes */
	to = put32(to, flags);
	to = put32(to, 0);
	put32(to, total);
}

void exa_capture_write(struct exa_capture *capture, const uint8_t *frame, uint32_t length,
		       uint32_t direction, bool bad_fcs)
{
	uint32_t total = PACKET_FIXED + ((length + 3U) & ~3U);

	if (!capture || capture->fd < 0)
		return;
	if (capture->size + total > capture->limit)
		rotate(capture);
	if (capture->used + total > BUFFER_SIZE)
		flush(capture);
	put_packet(capture->buffer + capture->used, exa_wall_ns(capture->core), frame, length,
		   direction | FCS_LENGTH | (bad_fcs ? CRC_ERROR : 0));
	capture->used += total;
	capture->size += total;
	/* Whoever runs the event loop flushes soon after being told once. */
	if (!capture->core->dirty) {
		capture->core->dirty = true;
		exa_core_wake(capture->core);
	}
}
