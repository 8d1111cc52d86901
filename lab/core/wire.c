// SPDX-License-Identifier: GPL-2.0-only
/*
 * What joins the ends. The same steps as lab/wire/wire.py, with rules and
 * ends outside the core left to Python through the outbox.
 */
#include <stdlib.h>

#include "internal.h"

static void unplug(struct exa_end *end)
{
	end->peer = -1;
	end->bridge = -1;
	end->slot = -1;
}

int exa_end_add(struct exa_core *core)
{
	struct exa_end *ends = realloc(core->ends, ((size_t)core->end_count + 1) * sizeof(*ends));

	if (!ends)
		return -1;
	core->ends = ends;
	memset(&ends[core->end_count], 0, sizeof(*ends));
	unplug(&ends[core->end_count]);
	ends[core->end_count].used = true;
	return core->end_count++;
}

void exa_end_remove(struct exa_core *core, int end)
{
	core->ends[end].used = false;
	core->ends[end].carrier = false;
	core->ends[end].port = NULL;
}

void exa_end_set_carrier(struct exa_core *core, int end, int up)
{
	core->ends[end].carrier = up;
	if (core->ends[end].bridge >= 0)
		exa_switch_forget(core, core->ends[end].bridge);
}

void exa_end_set_rules(struct exa_core *core, int end, int tx, int rx)
{
	core->ends[end].rules_tx = tx;
	core->ends[end].rules_rx = rx;
}

void exa_end_counters(struct exa_core *core, int end, uint64_t values[5])
{
	values[0] = core->ends[end].sent;
	values[1] = core->ends[end].received;
	values[2] = core->ends[end].no_link;
	values[3] = core->ends[end].looped;
	values[4] = core->ends[end].refused;
}

void exa_wire_clear(struct exa_core *core)
{
	int i;

	for (i = 0; i < core->end_count; i++)
		unplug(&core->ends[i]);
	for (i = 0; i < core->switch_count; i++)
		exa_switch_free(core->switches[i]);
	core->switch_count = 0;
}

void exa_wire_cable(struct exa_core *core, int first, int second)
{
	core->ends[first].peer = second;
	core->ends[second].peer = first;
}

void exa_wire_send(struct exa_core *core, int end, const uint8_t *frame, uint32_t length)
{
	if (length < EXA_RUNT || length > EXA_MAX_FRAME) {
		core->ends[end].refused++;
		return;
	}
	core->ends[end].sent++;
	if (core->ends[end].rules_tx)
		exa_outbox_put(core, EXA_NOTE_TX_RULES, end, frame, length);
	else
		exa_wire_forward(core, end, frame, length);
}

/* From an end, past its rules, to wherever the frame goes. */
void exa_wire_forward(struct exa_core *core, int number, const uint8_t *frame, uint32_t length)
{
	struct exa_end *end = &core->ends[number];

	if (!end->used)
		return;
	if (!end->carrier) {
		end->no_link++;
		return;
	}
	if (core->depth >= EXA_LOOP_LIMIT) {
		end->looped++;
		return;
	}
	core->depth++;
	if (end->bridge >= 0)
		exa_switch_forward(core, number, frame, length);
	else if (end->peer >= 0)
		exa_wire_reach(core, end->peer, frame, length);
	core->depth--;
}

/* A frame is about to reach an end: its rules first. */
void exa_wire_reach(struct exa_core *core, int end, const uint8_t *frame, uint32_t length)
{
	if (core->ends[end].rules_rx)
		exa_outbox_put(core, EXA_NOTE_RX_RULES, end, frame, length);
	else
		exa_wire_arrive(core, end, frame, length);
}

void exa_wire_arrive(struct exa_core *core, int number, const uint8_t *frame, uint32_t length)
{
	struct exa_end *end = &core->ends[number];

	if (!end->used)
		return;
	if (!end->carrier) {
		end->no_link++;
		return;
	}
	end->received++;
	if (end->port)
		exa_receive(end->port, frame, length, EXA_GOOD);
	else
		exa_outbox_put(core, EXA_NOTE_DELIVER, number, frame, length);
}
