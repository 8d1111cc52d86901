// SPDX-License-Identifier: GPL-2.0-only
/* RX: from the wire to the ring, or to a counter (hardware reference 5, 7). */
#include "internal.h"

static int judge(struct exa_port *port, const uint8_t *frame, uint32_t length, int status)
{
	if (port->spoil_count) {
		port->spoil_count--;
		return port->spoil_status;
	}
	if (status == EXA_GOOD && !exa_intact(frame, length))
		return EXA_BAD_CRC;
	return status;
}

static void deliver(struct exa_port *port, const uint8_t *frame, uint32_t length, uint32_t stamp,
		    int status)
{
	bool wanted = port->settings.promiscuous || frame[0] & 1 ||
		      !memcmp(frame, port->settings.mac, sizeof(port->settings.mac));
	bool taken = wanted && port->running && port->card->present;

	if (taken)
		exa_ring_write(port, frame, length, stamp, status);
	if (status == EXA_OVERFLOW)
		exa_port_count(port, EXA_RX_DROPPED);
	else if (status != EXA_GOOD)
		exa_port_count(port, EXA_RX_ERROR);
	else
		exa_port_count(port, taken ? EXA_RX : EXA_RX_IGNORED);
	/* The interrupt must not overtake the data: it comes last. */
	if (taken)
		exa_port_check_interrupt(port);
}

void exa_receive(struct exa_port *port, const uint8_t *frame, uint32_t length, int status)
{
	if (!(port->settings.link || port->settings.loopback)) {
		exa_port_count(port, EXA_RX_NO_LINK);
		return;
	}
	if (length < EXA_RUNT || length > EXA_MAX_FRAME) {
		exa_port_count(port, EXA_RX_ERROR);
		return;
	}
	status = judge(port, frame, length, status);
	exa_capture_write(port->capture, frame, length, EXA_INBOUND, status == EXA_BAD_CRC);
	deliver(port, frame, length, (uint32_t)exa_ticks(port->card), status);
	if (status == EXA_GOOD)
		exa_card_pass_on(port->card, port, frame, length);
}

void exa_port_receive(struct exa_card *card, int port, const uint8_t *frame, uint32_t length,
		      int status)
{
	exa_receive(&card->port[port], frame, length, status);
}
