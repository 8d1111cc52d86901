// SPDX-License-Identifier: GPL-2.0-only
/*
 * The C library's functions, found when first needed: a constructor would be too late
 * for those who call us from theirs. Ours finds all of them nevertheless, so that no
 * signal handler is the first to.
 */

#include <dlfcn.h>
#include <stdlib.h>

#include "libexasock.h"

/* The oldest of its versions, which every C library has: see LDLIBS in the Makefile */
__asm__(".symver dlsym, dlsym@GLIBC_2.2.5");

/* NULL: this C library has none of that name */
void *exa_real_find(struct exa_real *wanted)
{
	void *found = dlsym(RTLD_NEXT, wanted->name);

	store(&wanted->function, found);
	return found;
}

static void __attribute__((constructor)) find_all(void)
{
	struct exa_real *wanted;

	for (wanted = __start_exa_reals; wanted < __stop_exa_reals; wanted++)
		if (wanted->name)
			exa_real(wanted);
	exa_environment();
}
