// SPDX-License-Identifier: GPL-2.0-only
/*
 * Is a socket non-blocking? Programs that look without waiting ask that of the kernel
 * millions of times a second, in vain, so a "yes" is believed for a few microseconds.
 * Whoever changes it in this process ends that at once; who may change it in another one
 * is not known after a fork, and then the kernel is asked each time.
 *
 * One word has the time of the answer and, in its lowest bits, how often the mode has
 * been changed: an answer that was on its way meanwhile is not written down.
 */

#include <fcntl.h>

#include "libexasock.h"

#define CHANGES		0xffULL
#define BELIEVED	16384ULL	/* cycles: 3 to 8 us */
#define NEVER		(~CHANGES)	/* a time that has not come */

/* -1 with errno: not a descriptor any more */
int exa_nonblocking(struct exa_entry *entry, int fd)
{
	u64 word = load_acquire(&entry->mode), now = __builtin_ia32_rdtsc();
	int state;

	if ((now & ~CHANGES) - (word & ~CHANGES) < BELIEVED)
		return 1;
	state = real(fcntl)(fd, F_GETFL);
	if (state < 0)
		return -1;
	if (!(state & O_NONBLOCK))
		return 0;
	if ((word & ~CHANGES) != NEVER)
		swap_if(&entry->mode, &word, (now & ~CHANGES) | (word & CHANGES));
	return 1;
}

/* It was changed, or may have been, by a call that has returned */
void exa_mode_changed(int fd)
{
	struct exa_entry *entry = exa_known(fd);
	u64 word, other;

	if (!entry)
		return;
	word = load(&entry->mode);
	do {
		other = (word & ~CHANGES) == NEVER ? NEVER : (word + 1) & CHANGES;
	} while (!swap_if(&entry->mode, &word, other));
}

/* Before a fork: another process may change it from now on */
void exa_mode_shared(struct exa_entry *entry)
{
	store_release(&entry->mode, NEVER);
}
