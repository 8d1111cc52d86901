// SPDX-License-Identifier: GPL-2.0-only
/* What a card's ports share: clock, feedback, interrupt, mirror and bridge. */
#include <stdlib.h>
#include <unistd.h>

#include "internal.h"

#define CLOCK_FRACTION	48

struct exa_card *exa_card_new(struct exa_core *core, int ports, uint8_t *tx_memory,
			      uint32_t tx_size)
{
	struct exa_card **cards;
	struct exa_card *card;
	int port;

	if (ports < 1 || ports > EXA_PORTS)
		return NULL;
	cards = realloc(core->cards, ((size_t)core->card_count + 1) * sizeof(struct exa_card *));
	if (!cards)
		return NULL;
	core->cards = cards;
	card = calloc(1, sizeof(*card));
	if (!card)
		return NULL;
	card->core = core;
	card->number = core->card_count;
	card->ports = ports;
	card->tx_memory = tx_memory;
	card->tx_size = tx_size;
	card->msi = -1;
	card->mirror_output = -1;
	card->present = true;
	for (port = 0; port < EXA_PORTS; port++) {
		card->port[port].card = card;
		card->port[port].end = -1;
	}
	core->cards[core->card_count++] = card;
	return card;
}

int exa_card_number(struct exa_card *card)
{
	return card->number;
}

void exa_card_set_present(struct exa_card *card, int present)
{
	card->present = present;
}

void exa_card_set_feedback(struct exa_card *card, uint64_t base)
{
	card->feedback = base;
}

void exa_card_set_clock(struct exa_card *card, uint64_t base, uint64_t fraction, uint64_t origin_ns,
			uint64_t step)
{
	card->clock_base = base;
	card->clock_fraction = fraction;
	card->clock_origin = origin_ns;
	card->clock_step = step;
}

/* The same whole-number line as lab/card/clock.py. */
uint64_t exa_ticks(const struct exa_card *card)
{
	uint64_t now = exa_monotonic_ns(card->core);
	uint64_t passed = now > card->clock_origin ? now - card->clock_origin : 0;
	unsigned __int128 total = (unsigned __int128)passed * card->clock_step +
				  card->clock_fraction;

	return card->clock_base + (uint64_t)(total >> CLOCK_FRACTION);
}

void exa_card_set_mirror(struct exa_card *card, int output, int bridge)
{
	card->mirror_output = output;
	card->bridge = bridge;
}

void exa_card_mirror(struct exa_card *card, const struct exa_port *source, const uint8_t *frame,
		     uint32_t length)
{
	if (card->mirror_output < 0 || card->mirror_output >= card->ports)
		return;
	if (source != &card->port[card->mirror_output])
		exa_port_emit(&card->port[card->mirror_output], frame, length);
}

/* What a good received frame causes besides its delivery. */
void exa_card_pass_on(struct exa_card *card, const struct exa_port *source, const uint8_t *frame,
		      uint32_t length)
{
	if (source->settings.mirror_rx)
		exa_card_mirror(card, source, frame, length);
	if (!card->bridge || card->ports < 2)
		return;
	if (source == &card->port[0])
		exa_port_emit(&card->port[1], frame, length);
	else if (source == &card->port[1])
		exa_port_emit(&card->port[0], frame, length);
}

void exa_card_feed_back(struct exa_card *card, uint16_t slot, uint16_t id)
{
	uint8_t *place;

	if (slot >= EXA_FEEDBACK_SLOTS) {
		card->dma_faults++;
		return;
	}
	place = exa_dma_find(card, card->feedback + 2U * slot, sizeof(id), EXA_DMA_WRITE);
	if (!place)
		return;
	if ((uintptr_t)place % sizeof(id))
		memcpy(place, &id, sizeof(id));
	else
		__atomic_store_n((uint16_t *)(void *)place, id, __ATOMIC_RELEASE);
}

void exa_card_set_msi(struct exa_card *card, int fd)
{
	card->msi = fd;
	if (fd >= 0 && card->undelivered) {
		card->undelivered = false;
		exa_card_signal(card);
	}
}

void exa_card_set_interrupt_fault(struct exa_card *card, int lose, int later, int repeat)
{
	card->fault_lose = lose;
	card->fault_later = later;
	card->fault_repeat = repeat;
}

void exa_card_withdraw_interrupt(struct exa_card *card)
{
	card->undelivered = false;
}

static void raise_msi(struct exa_card *card, uint64_t times)
{
	if (!card->present)
		return;
	if (card->msi < 0)
		card->undelivered = true;
	else if (write(card->msi, &times, sizeof(times)) < 0)
		return;	/* the counter is full: the guest is awake already */
}

/* Interrupts the guest; while MSI is masked the wish is kept. */
void exa_card_signal(struct exa_card *card)
{
	if (card->core->hold_signals)
		card->held_signals++;
	else
		raise_msi(card, 1);
}

/*
 * The guest waits for the reply to its doorbell, not for an interrupt: the
 * pump holds interrupts back until the reply is on its way.
 */
void exa_core_release_signals(struct exa_core *core)
{
	int i;

	core->hold_signals = false;
	for (i = 0; i < core->card_count; i++) {
		struct exa_card *card = core->cards[i];
		uint32_t times = card->held_signals;

		card->held_signals = 0;
		if (times)
			raise_msi(card, times);
	}
}

uint64_t exa_card_faulted_interrupts(struct exa_card *card)
{
	return card->faulted_interrupts;
}

void exa_card_interrupt(struct exa_card *card)
{
	int i;

	if (card->fault_lose || card->fault_later || card->fault_repeat)
		card->faulted_interrupts++;
	if (card->fault_lose)
		return;
	if (card->fault_later) {
		exa_outbox_put(card->core, EXA_NOTE_INTERRUPT, card->number, NULL, 0);
		return;
	}
	for (i = 0; i <= card->fault_repeat; i++)
		exa_card_signal(card);
}
