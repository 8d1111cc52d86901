// SPDX-License-Identifier: GPL-2.0-only
/* What the environment says, read once: the wrapper's variables */

#include <stdlib.h>

#include "libexasock.h"

#define SPIN_US_DEFAULT	50
#define SPIN_US_MAX	1000000000UL

static struct exa_environment environment;
static bool known;

static bool is_set(const char *name)
{
	return getenv(name);
}

static u64 spin_ns(void)
{
	const char *value = getenv("EXASOCK_SPIN");
	unsigned long us;
	char *end;

	if (!value || *value < '0' || *value > '9')
		return SPIN_US_DEFAULT * 1000UL;
	errno = 0;
	us = strtoul(value, &end, 10);
	if (*end)
		return SPIN_US_DEFAULT * 1000UL;
	return (errno || us > SPIN_US_MAX ? SPIN_US_MAX : us) * 1000UL;
}

/* Two threads that are first at once read the same */
const struct exa_environment *exa_environment(void)
{
	int kept = errno;

	if (likely(load_acquire(&known)))
		return &environment;
	environment.spin_ns = spin_ns();
	environment.trace = is_set("EXASOCK_TRACE");
	environment.debug = is_set("EXASOCK_DEBUG") || (EXA_TRACING && environment.trace);
	environment.nowarn = is_set("EXASOCK_NOWARN");
	environment.default_disable = is_set("EXASOCK_DEFAULT_DISABLE");
	store_release(&known, true);
	errno = kept;
	return &environment;
}
