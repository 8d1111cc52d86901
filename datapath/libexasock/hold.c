// SPDX-License-Identifier: GPL-2.0-only
/*
 * The kernel holds a datagram back only for a process that looks for it. Whoever goes
 * to sleep, or asks the kernel anything about the socket, stops looking first and has
 * what is held given to the stack: then the kernel's answer is the whole truth.
 */

#include "libexasock.h"

/* Those that looked since the last time all were handed over */
static struct exa_entry *looking;
u32 exa_sleepers_of_all;

/*
 * Only marked ones are on the list, once. A thread that is handing all over at this
 * moment may miss our heartbeat: then what comes is held for the kernel's limit, not more.
 */
void exa_looking_add(struct exa_entry *entry)
{
	struct exa_entry *first;

	if (exchange(&entry->looking, true))
		return;
	first = load(&looking);
	do {
		entry->looking_next = first;
	} while (!swap_if(&looking, &first, entry));
}

/* What is held goes to the stack; when it returns, it is there */
void exa_flush(struct exa_entry *entry)
{
	u32 head = load_acquire(&entry->ring->head);
	u32 handle = entry->handle;
	int kept = errno;

	if (entry->stream) {
		if (exa_stream_taken(entry))
			exa_context_ioctl(EXASOCK_IOC_STREAM_HOME, &handle);
		errno = kept;
		return;
	}
	exa_context_ioctl(EXASOCK_IOC_FLUSH, &handle);
	exa_settle(entry, head);
	errno = kept;
}

/* This one: nothing is held from here until the next look */
void exa_hand_over(struct exa_entry *entry)
{
	store(&entry->control->heartbeat, 0);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	/* a connection may stay taken meanwhile: what comes next brings it home */
	if (!entry->stream || exa_stream_unread(entry))
		exa_flush(entry);
}

static bool hold_watched_by(const struct exa_wait *wait, const struct exa_entry *entry)
{
	unsigned int i;

	for (i = 0; wait && i < wait->count; i++)
		if (wait->watched[i].entry == entry)
			return true;
	return false;
}

/*
 * All that looked, but those that @but goes on looking at itself: for a wait that may be
 * about any of them. Other waits leave alone what other threads look at: it is theirs, and
 * nobody waits for it elsewhere, or exa_slept_on() would say so.
 */
void exa_hand_over_all(const struct exa_wait *but)
{
	struct exa_entry *entry, *next;

	if (likely(!load(&looking)) || !load(&exa_life->pid))
		return;
	for (entry = exchange(&looking, NULL); entry; entry = next) {
		next = entry->looking_next;
		store_release(&entry->looking, false);
		if (hold_watched_by(but, entry))
			exa_looking_add(entry);
		else if (load(&entry->fds))
			exa_hand_over(entry);
	}
}

/* In a child: the parent's */
void exa_looking_forget(void)
{
	looking = NULL;
	exa_sleepers_of_all = 0;
}
