// SPDX-License-Identifier: GPL-2.0-only
/*
 * The kernel holds a datagram back only for a process that looks for it. Whoever goes
 * to sleep, or asks the kernel anything about the socket, stops looking first and has
 * what is held given to the stack: then the kernel's answer is the whole truth.
 */

#include "libexasock.h"

/* Those that looked since the last time all were handed over */
static struct exa_entry *looking;

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

/* Another thread's wait may look at it as well, and be the last one to have said so */
static bool watched_by(const struct exa_wait *wait, const struct exa_entry *entry)
{
	unsigned int i;

	if (!wait || load(&entry->watcher) == wait)
		return wait;
	for (i = 0; i < wait->count; i++)
		if (wait->watched[i].entry == entry)
			return true;
	return false;
}

/* All that looked, but those that @wait goes on looking at itself */
void exa_hand_over_others(const struct exa_wait *wait)
{
	struct exa_entry *entry, *next;

	if (likely(!load(&looking)) || !load(&exa_life->pid))
		return;
	for (entry = exchange(&looking, NULL); entry; entry = next) {
		next = entry->looking_next;
		store_release(&entry->looking, false);
		if (watched_by(wait, entry))
			exa_looking_add(entry);
		else if (load(&entry->fds))
			exa_hand_over(entry);
	}
}

/* In a child: the parent's */
void exa_looking_forget(void)
{
	looking = NULL;
}
