// SPDX-License-Identifier: GPL-2.0-only
/* A port's settings, counters and interrupt position. */
#include "internal.h"

void exa_port_attach(struct exa_card *card, int port, int end, uint32_t region_offset,
		     uint32_t region_size)
{
	struct exa_port *item = &card->port[port];

	item->end = end;
	item->region_offset = region_offset;
	item->region_size = region_size;
	card->core->ends[end].port = item;
}

void exa_port_configure(struct exa_card *card, int port, const struct exa_port_settings *settings)
{
	card->port[port].settings = *settings;
}

/* Every ring begins at chunk 0 of generation 0 (7.2). */
void exa_port_start(struct exa_card *card, int port, uint64_t ring)
{
	card->port[port].ring = ring;
	card->port[port].position = 0;
	card->port[port].running = true;
}

void exa_port_stop(struct exa_card *card, int port)
{
	card->port[port].running = false;
}

void exa_port_arm(struct exa_card *card, int port, uint32_t value)
{
	card->port[port].irq_config = value;
	exa_port_check_interrupt(&card->port[port]);
}

uint32_t exa_port_armed(struct exa_card *card, int port)
{
	return card->port[port].irq_config;
}

uint32_t exa_port_last_sent(struct exa_card *card, int port)
{
	return card->port[port].last_time;
}

/* The next count frames are reported with this status. */
void exa_port_spoil(struct exa_card *card, int port, int status, uint32_t count)
{
	card->port[port].spoil_status = status;
	card->port[port].spoil_count = count;
}

void exa_port_counters(struct exa_card *card, int port, uint64_t *values)
{
	memcpy(values, card->port[port].counters, sizeof(card->port[port].counters));
}

void exa_port_reset_counters(struct exa_card *card, int port)
{
	memset(card->port[port].counters, 0, (EXA_RX_DROPPED + 1) * sizeof(uint64_t));
}

/* The hardware's own counters are 32 bits wide and wrap. */
void exa_port_count(struct exa_port *port, enum exa_counter counter)
{
	port->counters[counter]++;
	if (counter <= EXA_RX_DROPPED)
		port->counters[counter] &= 0xffffffffU;
}

/* One shot (7.5): once raised, the driver must arm again. */
void exa_port_check_interrupt(struct exa_port *port)
{
	if (!(port->irq_config & EXA_IRQ_ARM) || !port->running)
		return;
	if (!exa_ring_written(port, port->irq_config % EXA_POSITIONS))
		return;
	port->irq_config &= ~EXA_IRQ_ARM;
	exa_port_count(port, EXA_INTERRUPTS);
	exa_card_interrupt(port->card);
}
