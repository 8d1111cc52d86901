// SPDX-License-Identifier: GPL-2.0-only
/*
 * Waiting for one of several descriptors: readiness is the kernel's to say, and what is
 * held for us makes a descriptor readable too. First the kernel is asked without waiting
 * for EXASOCK_SPIN microseconds; then everything held is given to it, and it is left to
 * wait for the rest. Nothing is ever held for a process that sleeps.
 */

#include "libexasock.h"

#define LOOKS_PER_QUESTION	8

/* Look at it while waiting. NULL: too many, or over; it is only the kernel's. */
struct exa_watched *exa_watch_entry(struct exa_wait *wait, struct exa_entry *entry,
				    u32 generation, int at)
{
	struct exa_watched *watched = &wait->watched[wait->count];

	if (wait->count == EXA_WATCHED || load_acquire(&entry->generation) != generation ||
	    load(&entry->ring->dead))
		return NULL;
	store(&entry->watcher, wait);
	if (entry->stream && !exa_stream_taken(entry))
		exa_stream_want(entry);
	*watched = (struct exa_watched){ .entry = entry, .generation = generation, .at = at };
	wait->count++;
	return watched;
}

/* If @fd has a ring, look at it while waiting */
void exa_watch(struct exa_wait *wait, int fd, int at)
{
	struct exa_entry *entry = exa_known(fd);

	if (entry)
		exa_watch_entry(wait, entry, load_acquire(&entry->generation), at);
}

static u32 head_of(const struct exa_entry *entry)
{
	if (entry->stream)
		return load_acquire(&entry->stream->head) & INT32_MAX;
	return load_acquire(&entry->ring->head);
}

static bool held(struct exa_watched *watched)
{
	if (watched->edge) {
		watched->head = head_of(watched->entry);
		if (watched->head == watched->told)
			return false;
	}
	return exa_held(watched->entry) &&
	       load_acquire(&watched->entry->generation) == watched->generation;
}

/*
 * For after the kernel was asked. What was held before and no longer is may have gone
 * past its answer into the socket's queue: it counts, lest it be readable and then not.
 * Not for an edge: there it has one of its own.
 */
bool exa_watched_readable(struct exa_watched *watched)
{
	return (watched->held && !watched->edge) || held(watched);
}

/* Look at the rings for a moment, or until there is something */
static void look(struct exa_wait *wait)
{
	unsigned int looks = 0, i;
	bool any = false;

	if (wait->count)
		looks = wait->timeout ? LOOKS_PER_QUESTION : 1;
	for (; looks && !any; looks--) {
		for (i = 0; i < wait->count; i++) {
			struct exa_watched *watched = &wait->watched[i];

			if (load_acquire(&watched->entry->generation) != watched->generation)
				continue;
			exa_heartbeat(watched->entry);
			watched->held = held(watched);
			any |= watched->held;
		}
		__builtin_ia32_pause();
	}
}

/*
 * The answer, positive or -1 with errno, if there was one before the spinning's end;
 * else 0, and nothing is held any more unless the call's own timeout is over.
 */
int exa_wait_spin(struct exa_wait *wait)
{
	u64 spin = exa_environment()->spin_ns, start = 0;
	u32 handled = exa_signals.handled;
	int answer;

	exa_hand_over_others(wait);
	if (!wait->count && !wait->blind)
		spin = 0;
	if (spin > wait->timeout)
		spin = wait->timeout;
	if (spin)
		start = exa_now();
	while (spin || wait->count || !wait->timeout) {
		look(wait);
		answer = wait->ask(wait);
		if (answer)
			return answer;
		if (!spin)
			break;
		if (exa_signals.handled != handled) {
			errno = EINTR;
			return -1;
		}
		wait->spent = exa_now() - start;
		if (wait->spent >= spin)
			break;
	}
	if (wait->spent < wait->timeout)
		exa_hand_over_others(NULL);
	return 0;
}

/* A call's timeout; one that is not valid counts as for ever, for the kernel to refuse */
u64 exa_ns_of(const struct timespec *timeout)
{
	if (!timeout || timeout->tv_sec < 0 || timeout->tv_nsec < 0 ||
	    timeout->tv_nsec >= 1000000000 || timeout->tv_sec > 1000000000)
		return EXA_FOREVER;
	return (u64)timeout->tv_sec * 1000000000 + (u64)timeout->tv_nsec;
}

struct timespec exa_rest_of(const struct exa_wait *wait)
{
	u64 rest = wait->spent < wait->timeout ? wait->timeout - wait->spent : 0;

	return (struct timespec){
		.tv_sec = (time_t)(rest / 1000000000),
		.tv_nsec = (long)(rest % 1000000000),
	};
}
