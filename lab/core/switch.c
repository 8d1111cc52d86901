// SPDX-License-Identifier: GPL-2.0-only
/*
 * The learning switch of lab/wire/switch.py: VLANs, a bounded table that is
 * forgotten as a whole when full, bad frames stopped.
 */
#include <stdlib.h>

#include "internal.h"

int exa_switch_add(struct exa_core *core)
{
	struct exa_switch **switches;
	struct exa_switch *item;

	switches = realloc(core->switches,
			   ((size_t)core->switch_count + 1) * sizeof(struct exa_switch *));
	if (!switches)
		return -1;
	core->switches = switches;
	item = calloc(1, sizeof(*item));
	if (!item)
		return -1;
	core->switches[core->switch_count] = item;
	return core->switch_count++;
}

void exa_switch_free(struct exa_switch *item)
{
	free(item->ports);
	free(item);
}

/* tagged: bit v of 4096 says VLAN v may pass tagged; NULL: every VLAN. */
int exa_switch_plug(struct exa_core *core, int number, int end, int pvid, const uint8_t *tagged)
{
	struct exa_switch *item = core->switches[number];
	struct exa_switch_port *ports;

	ports = realloc(item->ports, ((size_t)item->count + 1) * sizeof(*ports));
	if (!ports)
		return -1;
	item->ports = ports;
	memset(&ports[item->count], 0, sizeof(*ports));
	ports[item->count].end = end;
	ports[item->count].pvid = pvid;
	ports[item->count].all = !tagged;
	if (tagged)
		memcpy(ports[item->count].tagged, tagged, sizeof(ports->tagged));
	core->ends[end].bridge = number;
	core->ends[end].slot = item->count;
	return item->count++;
}

void exa_switch_forget(struct exa_core *core, int number)
{
	struct exa_switch *item = core->switches[number];

	if (item->stations)
		memset(item->table, 0, sizeof(item->table));
	item->stations = 0;
}

void exa_switch_counters(struct exa_core *core, int number, uint64_t values[3])
{
	values[0] = core->switches[number]->bad_fcs;
	values[1] = core->switches[number]->vlan_refused;
	values[2] = core->switches[number]->forgotten;
}

static bool accepts(const struct exa_switch_port *port, int vlan)
{
	return vlan == port->pvid || port->all || port->tagged[vlan / 8] & 1U << vlan % 8;
}

static uint64_t station_key(int vlan, const uint8_t *address)
{
	uint64_t key = (uint64_t)vlan;
	int i;

	for (i = 0; i < 6; i++)
		key = key << 8 | address[i];
	return key;
}

/* The station's entry, or the free one where it belongs. */
static struct exa_station *find(struct exa_switch *item, uint64_t key)
{
	uint64_t hash = key * 0x9e3779b97f4a7c15U;
	uint32_t i = (uint32_t)(hash >> 40) % EXA_SWITCH_SLOTS;

	while (item->table[i].key && item->table[i].key != key)
		i = (i + 1) % EXA_SWITCH_SLOTS;
	return &item->table[i];
}

static void learn(struct exa_core *core, int number, uint64_t key, int slot)
{
	struct exa_switch *item = core->switches[number];
	struct exa_station *station = find(item, key);

	if (!station->key) {
		if (item->stations >= EXA_SWITCH_TABLE) {
			exa_switch_forget(core, number);
			item->forgotten++;
			station = find(item, key);
		}
		station->key = key;
		item->stations++;
	}
	station->slot = slot;
}

/* The frame as it leaves by a port of its VLAN; copies into room if changed. */
static const uint8_t *dress(const struct exa_switch_port *port, int vlan, bool tagged,
			    const uint8_t *frame, uint32_t *length, uint8_t *room)
{
	uint32_t body = *length - EXA_FCS_SIZE;
	bool has_tag = frame[12] == 0x81 && frame[13] == 0x00 && *length >= EXA_RUNT + 4;
	uint32_t rest;

	if (vlan == port->pvid) {
		if (!tagged)
			return frame;
		memcpy(room, frame, 12);
		memcpy(room + 12, frame + 16, body - 16);
		body -= 4;
	} else {
		if (tagged)
			return frame;
		/* A priority tag is replaced, none is added to. */
		rest = has_tag ? 16 : 12;
		if (body - rest + 16 > EXA_MAX_FRAME - EXA_FCS_SIZE)
			return NULL;
		memcpy(room, frame, 12);
		room[12] = 0x81;
		room[13] = 0x00;
		room[14] = (uint8_t)(vlan >> 8);
		room[15] = (uint8_t)vlan;
		memcpy(room + 16, frame + rest, body - rest);
		body = 16 + body - rest;
	}
	if (body < EXA_MIN_FRAME) {
		memset(room + body, 0, EXA_MIN_FRAME - body);
		body = EXA_MIN_FRAME;
	}
	exa_seal(room, body);
	*length = body + EXA_FCS_SIZE;
	return room;
}

static void leave(struct exa_core *core, int number, int slot, int vlan, bool tagged,
		  const uint8_t *frame, uint32_t length)
{
	uint8_t room[EXA_MAX_FRAME];
	const struct exa_switch_port *port = &core->switches[number]->ports[slot];
	const uint8_t *leaving = dress(port, vlan, tagged, frame, &length, room);

	if (leaving)
		exa_wire_reach(core, port->end, leaving, length);
}

void exa_switch_forward(struct exa_core *core, int end, const uint8_t *frame, uint32_t length)
{
	int number = core->ends[end].bridge, source = core->ends[end].slot;
	struct exa_switch *item = core->switches[number];
	bool tagged = false;
	int vlan, slot;

	if (length > EXA_MAX_FRAME || !exa_intact(frame, length)) {
		item->bad_fcs++;
		return;
	}
	vlan = item->ports[source].pvid;
	if (frame[12] == 0x81 && frame[13] == 0x00 && length >= EXA_RUNT + 4) {
		int id = (frame[14] & 0x0f) << 8 | frame[15];

		tagged = id;
		if (tagged)
			vlan = id;
	}
	if (vlan <= 0 || !accepts(&item->ports[source], vlan)) {
		item->vlan_refused++;
		return;
	}
	if (!(frame[6] & 1))
		learn(core, number, station_key(vlan, frame + 6), source);
	if (!(frame[0] & 1)) {
		const struct exa_station *station = find(item, station_key(vlan, frame));

		if (station->key) {
			if (station->slot != source)
				leave(core, number, station->slot, vlan, tagged, frame, length);
			return;
		}
	}
	for (slot = 0; slot < item->count; slot++)
		if (slot != source && accepts(&item->ports[slot], vlan))
			leave(core, number, slot, vlan, tagged, frame, length);
}
