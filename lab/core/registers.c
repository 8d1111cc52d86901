// SPDX-License-Identifier: GPL-2.0-only
/*
 * The registers that need no Python: plain values it published, and those
 * that are the data path itself. A 0 sends the caller to Python.
 */
#include "internal.h"

void exa_register_live(struct exa_card *card, uint32_t offset, int live, int port)
{
	if (offset / 4 >= EXA_REGISTERS)
		return;
	card->live[offset / 4] = (uint8_t)live;
	card->live_port[offset / 4] = (uint8_t)port;
}

void exa_register_publish(struct exa_card *card, uint32_t offset, uint32_t value)
{
	if (offset / 4 >= EXA_REGISTERS)
		return;
	card->values[offset / 4] = value;
	if (card->live[offset / 4] == EXA_LIVE_PYTHON)
		card->live[offset / 4] = EXA_LIVE_PLAIN;
}

int exa_register_read(struct exa_card *card, uint32_t offset, uint32_t *value)
{
	const struct exa_port *port;
	uint8_t live;

	if (!card->present) {
		*value = 0xffffffffU;
		return 1;
	}
	if (offset % 4 || offset / 4 >= EXA_REGISTERS)
		return 0;
	live = card->live[offset / 4];
	port = &card->port[card->live_port[offset / 4]];
	switch (live) {
	case EXA_LIVE_PYTHON:
	case EXA_LIVE_TX_COMMAND:
		return 0;
	case EXA_LIVE_PLAIN:
		*value = card->values[offset / 4];
		return 1;
	case EXA_LIVE_TIME_LOW:
		*value = (uint32_t)exa_ticks(card);
		return 1;
	case EXA_LIVE_TIME_HIGH:
		*value = (uint32_t)(exa_ticks(card) >> 32);
		return 1;
	case EXA_LIVE_IRQ_CONFIG:
		*value = port->irq_config;
		return 1;
	case EXA_LIVE_LAST_TIME:
		*value = port->last_time;
		return 1;
	default:
		*value = (uint32_t)port->counters[live - EXA_LIVE_COUNTER];
		return 1;
	}
}

int exa_register_write(struct exa_card *card, uint32_t offset, uint32_t value)
{
	int port;

	if (!card->present)
		return 1;
	if (offset % 4 || offset / 4 >= EXA_REGISTERS)
		return 0;
	port = card->live_port[offset / 4];
	switch (card->live[offset / 4]) {
	case EXA_LIVE_TX_COMMAND:
		exa_port_transmit(card, port, value);
		return 1;
	case EXA_LIVE_IRQ_CONFIG:
		exa_port_arm(card, port, value);
		return 1;
	default:
		return 0;
	}
}
