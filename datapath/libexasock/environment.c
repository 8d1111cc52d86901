// SPDX-License-Identifier: GPL-2.0-only
/* What the environment says, read once: the wrapper's variables */

#include <stdlib.h>
#include <string.h>

#include "libexasock.h"

#define SPIN_US_DEFAULT	50
#define SPIN_US_MAX	1000000000UL

static struct exa_environment environment;
static bool known;
static bool misspelt;		/* EXASOCK_SPIN */

static bool is_set(const char *name)
{
	return getenv(name);
}

/* By hand: what newer C libraries make of strtoul() older ones do not have */
static u64 environment_spin_ns(const char *value)
{
	u64 us = 0;

	if (!value)
		return SPIN_US_DEFAULT * 1000UL;
	if (!strcmp(value, "forever"))
		return EXA_FOREVER;
	misspelt = !*value;
	for (; *value >= '0' && *value <= '9'; value++)
		us = us > SPIN_US_MAX ? us : us * 10 + (u64)(*value - '0');
	misspelt |= *value;
	if (misspelt)
		return SPIN_US_DEFAULT * 1000UL;
	return (us > SPIN_US_MAX ? SPIN_US_MAX : us) * 1000UL;
}

/* Two threads that are first at once read the same */
const struct exa_environment *exa_environment(void)
{
	int kept = errno;

	if (likely(load_acquire(&known)))
		return &environment;
	environment.spin_ns = environment_spin_ns(getenv("EXASOCK_SPIN"));
	environment.trace = is_set("EXASOCK_TRACE");
	environment.debug = is_set("EXASOCK_DEBUG") || (EXA_TRACING && environment.trace);
	environment.nowarn = is_set("EXASOCK_NOWARN");
	environment.default_disable = is_set("EXASOCK_DEFAULT_DISABLE");
	store_release(&known, true);
	if (misspelt)
		exa_warn("EXASOCK_SPIN is '%s', neither microseconds nor forever: %d it is",
			 getenv("EXASOCK_SPIN"), SPIN_US_DEFAULT);
	errno = kept;
	return &environment;
}
