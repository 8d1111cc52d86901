// SPDX-License-Identifier: GPL-2.0-only
/* A core: the cards and the wire of one lab, and its clocks. */
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"

#define OUTBOX_SIZE	(8U << 20)

struct exa_core *exa_core_new(int wake_fd)
{
	struct exa_core *core = calloc(1, sizeof(*core));

	if (!core)
		return NULL;
	core->wake_fd = wake_fd;
	core->outbox.data = malloc(OUTBOX_SIZE);
	if (!core->outbox.data) {
		free(core);
		return NULL;
	}
	return core;
}

void exa_core_free(struct exa_core *core)
{
	int i;

	exa_capture_flush(core);
	exa_wire_clear(core);
	for (i = 0; i < core->card_count; i++) {
		struct exa_card *card = core->cards[i];
		int port;

		for (port = 0; port < card->ports; port++) {
			exa_capture_close(card->port[port].capture);
			free(card->port[port].commands);
		}
		free(card->ranges);
		free(card);
	}
	free(core->cards);
	free(core->ends);
	free(core->switches);
	free(core->outbox.data);
	free(core);
}

/* For tests: time stands still at these values; both 0 lets it run again. */
void exa_core_set_time(struct exa_core *core, uint64_t monotonic_ns, uint64_t wall_ns)
{
	core->fixed_time = monotonic_ns || wall_ns;
	core->fixed_monotonic = monotonic_ns;
	core->fixed_wall = wall_ns;
}

static uint64_t read_clock(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

uint64_t exa_monotonic_ns(const struct exa_core *core)
{
	return core->fixed_time ? core->fixed_monotonic : read_clock(CLOCK_MONOTONIC);
}

uint64_t exa_wall_ns(const struct exa_core *core)
{
	return core->fixed_time ? core->fixed_wall : read_clock(CLOCK_REALTIME);
}

/* Python waits on the descriptor; a full one is awake already. */
void exa_core_wake(struct exa_core *core)
{
	const uint64_t one = 1;

	if (core->wake_fd >= 0 && write(core->wake_fd, &one, sizeof(one)) < 0)
		return;
}
