// SPDX-License-Identifier: GPL-2.0-only
/*
 * Waiting for one of several descriptors: readiness is the kernel's to say, and what is
 * held for us makes a descriptor readable too. First the kernel is asked without waiting
 * for EXASOCK_SPIN microseconds; then everything held is given to it, and it is left to
 * wait for the rest. Nothing is ever held for a process that sleeps.
 */

#include <pthread.h>

#include "libexasock.h"

#define LOOKS_PER_QUESTION	8

/* Look at it while waiting. NULL: too many, or over; it is only the kernel's to tell. */
struct exa_watched *exa_watch_entry(struct exa_wait *wait, struct exa_entry *entry,
				    u32 generation, int at)
{
	struct exa_watched *watched = &wait->watched[wait->count];

	if (load_acquire(&entry->generation) != generation || load(&entry->ring->dead))
		return NULL;
	if (wait->count == EXA_WATCHED) {
		wait->all = true;	/* what is held of it must not stay so */
		return NULL;
	}
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
	else if (exa_may_be_set(fd))
		wait->all = true;	/* whatever is in it */
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
	if (watched->kernels)
		return false;
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

			if (watched->kernels ||
			    load_acquire(&watched->entry->generation) != watched->generation)
				continue;
			exa_heartbeat(watched->entry);
			watched->held = held(watched);
			any |= watched->held;
		}
		__builtin_ia32_pause();
	}
}

static void wait_count(struct exa_wait *wait)
{
	unsigned int i;

	wait->changed = false;
	if (wait->all && !wait->counted) {
		__atomic_add_fetch(&exa_sleepers_of_all, 1, __ATOMIC_SEQ_CST);
		wait->counted = true;
	}
	for (i = 0; i < wait->count; i++) {
		struct exa_watched *watched = &wait->watched[i];

		if (watched->counted || !(watched->kernels || wait->asleep))
			continue;
		__atomic_add_fetch(&watched->entry->sleepers, 1, __ATOMIC_SEQ_CST);
		watched->counted = true;
	}
}

static void wait_uncount_watched(struct exa_wait *wait)
{
	unsigned int i;

	for (i = 0; i < wait->count; i++) {
		if (!wait->watched[i].counted)
			continue;
		__atomic_sub_fetch(&wait->watched[i].entry->sleepers, 1, __ATOMIC_SEQ_CST);
		wait->watched[i].counted = false;
	}
}

/* What it is about has changed */
void exa_unwatch_all(struct exa_wait *wait)
{
	unsigned int i;

	wait_uncount_watched(wait);
	for (i = 0; i < wait->count; i++)
		exa_look_ends(wait->watched[i].entry);
	wait->count = 0;
	wait->changed = true;
}

static void wait_uncount(void *of)
{
	struct exa_wait *wait = of;

	wait_uncount_watched(wait);
	if (wait->counted)
		__atomic_sub_fetch(&exa_sleepers_of_all, 1, __ATOMIC_SEQ_CST);
	wait->counted = false;
}

/* Nothing of what this wait is about is held from here on: the kernel's answer is all */
static void wait_hand_over(struct exa_wait *wait)
{
	unsigned int i;

	if (wait->all)
		exa_hand_over_all(NULL);
	for (i = 0; i < wait->count; i++) {
		struct exa_watched *watched = &wait->watched[i];

		if (load_acquire(&watched->entry->generation) == watched->generation &&
		    (!watched->kernels || load(&watched->entry->control->heartbeat)))
			exa_hand_over(watched->entry);
	}
}

/* Nor, while it looks at others, of what it leaves to the kernel */
static void wait_hand_over_kernels(struct exa_wait *wait)
{
	unsigned int i;

	if (wait->all)
		exa_hand_over_all(wait);
	for (i = 0; i < wait->count; i++)
		if (wait->watched[i].kernels &&
		    load(&wait->watched[i].entry->control->heartbeat))
			exa_hand_over(wait->watched[i].entry);
}

/* Spinning: the answer, positive or -1 with errno, or 0 */
static int wait_spin(struct exa_wait *wait)
{
	u64 spin = exa_environment()->spin_ns, start = 0;
	u32 handled = exa_signals.handled;
	int answer;

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
		if (unlikely(wait->changed)) {
			wait_count(wait);
			wait_hand_over_kernels(wait);
		}
	}
	return 0;
}

static int wait_spin_and_sleep(struct exa_wait *wait)
{
	unsigned int i;
	int answer;

	wait_hand_over_kernels(wait);
	answer = wait_spin(wait);
	if (answer)
		return answer;
	if (wait->spent >= wait->timeout) {
		for (i = 0; i < wait->count; i++)
			exa_look_ends(wait->watched[i].entry);
		return 0;
	}
	wait->asleep = true;
	wait->slept = true;
	wait_count(wait);
	wait_hand_over(wait);
	return wait->sleep(wait);
}

/*
 * As the call returns. Whoever leaves it by longjmp() out of a signal handler stays among the
 * sleepers: then looks that find nothing hand over in vain, which costs a system call.
 */
int exa_wait_for(struct exa_wait *wait)
{
	int answer;

	if (!wait->timeout && !wait->all)
		return wait_spin_and_sleep(wait);
	wait_count(wait);
	pthread_cleanup_push(wait_uncount, wait);
	answer = wait_spin_and_sleep(wait);
	pthread_cleanup_pop(1);
	return answer;
}

bool exa_timeout_valid(const struct timespec *timeout)
{
	return !timeout || (timeout->tv_sec >= 0 && timeout->tv_nsec >= 0 &&
			    timeout->tv_nsec < 1000000000);
}

/* A call's timeout, a valid one; decades are for ever */
u64 exa_ns_of(const struct timespec *timeout)
{
	if (!timeout || timeout->tv_sec > 1000000000)
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
