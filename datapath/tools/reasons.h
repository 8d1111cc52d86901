/* SPDX-License-Identifier: GPL-2.0-only */
/* Names of enum exasock_reason and exasock_refusal, for people and programs */
#ifndef EXASOCK_REASONS_H
#define EXASOCK_REASONS_H

#include "../include/exasock_abi.h"

static const char *const exasock_reasons[] = {
	[EXASOCK_R_NONE] = "none",
	[EXASOCK_R_DEVICE] = "device",
	[EXASOCK_R_FILTER] = "filter",
	[EXASOCK_R_TAP] = "tap",
	[EXASOCK_R_STACKED] = "stacked",
	[EXASOCK_R_OPTION] = "option",
	[EXASOCK_R_SIZE] = "size",
	[EXASOCK_R_MEMORY] = "memory",
	[EXASOCK_R_IDLE] = "idle",
	[EXASOCK_R_QUEUE] = "queue",
	[EXASOCK_R_FULL] = "full",
	[EXASOCK_R_TIMEOUT] = "timeout",
	[EXASOCK_R_SLEEP] = "sleep",
	[EXASOCK_R_SHARED] = "shared",
	[EXASOCK_R_HEADER] = "header",
	[EXASOCK_R_ROUTE] = "route",
	[EXASOCK_R_UNBOUND] = "unbound",
	[EXASOCK_R_ERROR] = "error",
	[EXASOCK_R_BEHIND] = "behind",
	[EXASOCK_R_NEIGHBOUR] = "neighbour",
	[EXASOCK_R_LOOP] = "loop",
	[EXASOCK_R_BUSY] = "busy",
	[EXASOCK_R_SKIPPED] = "skipped",
	[EXASOCK_R_POLICY] = "policy",
	[EXASOCK_R_QDISC] = "qdisc",
	[EXASOCK_R_FOREIGN] = "foreign",
};

static const char *const exasock_refusals[] = {
	[EXASOCK_N_KIND] = "kind",
	[EXASOCK_N_CARD] = "card",
	[EXASOCK_N_TAKEN] = "taken",
	[EXASOCK_N_LIMIT] = "limit",
	[EXASOCK_N_MEMORY] = "memory",
};

/* What each means, for people */
static const char *const exasock_refusal_texts[] = {
	[EXASOCK_N_KIND] = "not a plain IPv4 UDP socket, or established TCP connection",
	[EXASOCK_N_CARD] = "this network namespace has no ExaNIC device that is up",
	[EXASOCK_N_TAKEN] = "another process has accelerated it already",
	[EXASOCK_N_LIMIT] = "max_sockets of the module, or a share of it, is used up",
	[EXASOCK_N_MEMORY] = "no memory",
};

_Static_assert(sizeof(exasock_refusals) / sizeof(*exasock_refusals) == EXASOCK_N_REFUSALS &&
	       sizeof(exasock_refusal_texts) / sizeof(*exasock_refusal_texts) ==
	       EXASOCK_N_REFUSALS, "a name and a text for every refusal");
_Static_assert(sizeof(exasock_reasons) / sizeof(*exasock_reasons) == EXASOCK_R_REASONS,
	       "a name for every reason");

#endif /* EXASOCK_REASONS_H */
