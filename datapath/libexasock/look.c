// SPDX-License-Identifier: GPL-2.0-only
/*
 * One look, without waiting, at both places where a datagram can be. What is held at the
 * tail is older than what the socket's own queue has, and an error comes before both; the
 * ring says whether anything happened to the native socket since it last had nothing, so
 * mostly no system call is needed to know.
 */

#include "libexasock.h"

/* The native socket, now. True: that is the answer, data or error. */
static bool ask_native(struct exa_entry *entry, const struct exa_receive *receive, ssize_t *got)
{
	u32 native = load_acquire(&entry->ring->native);
	int kept = errno;

	*got = exa_receive_native(receive, receive->flags | MSG_DONTWAIT);
	if (*got >= 0 || errno != EAGAIN)
		return true;
	errno = kept;
	store(&entry->seen, native);
	return false;
}

/* Something happened to the native socket. True: an error, which is the answer. */
static bool error_pending(struct exa_entry *entry, const struct exa_receive *receive,
			  ssize_t *got)
{
	u32 native = load_acquire(&entry->ring->native);
	int kept = errno;
	u8 byte;

	*got = real(recv)(receive->fd, &byte, 0, MSG_PEEK | MSG_DONTWAIT);
	if (*got < 0 && errno != EAGAIN)
		return true;
	if (*got < 0)
		store(&entry->seen, native);
	errno = kept;
	return false;
}

enum exa_look exa_look(struct exa_entry *entry, const struct exa_receive *receive, ssize_t *got)
{
	u32 number;

	if (entry->stream)
		return exa_stream_look(entry, receive, got);
	exa_heartbeat(entry);
	if (unlikely(load(&entry->ring->dead))) {
		exa_entry_drop(entry, EXA_ENABLED);
		return EXA_LOOK_OVER;
	}
	if (unlikely(load_acquire(&entry->ring->native) != load(&entry->seen))) {
		if (exa_held(entry) ? error_pending(entry, receive, got) :
				      ask_native(entry, receive, got))
			return EXA_LOOK_GOT;
	}
	for (;;) {
		switch (exa_claim(entry, &number)) {
		case EXA_CLAIM_MINE:
			*got = exa_deliver(exa_slot(entry, number), receive);
			exa_release(entry, number);
			return EXA_LOOK_GOT;
		case EXA_CLAIM_NONE:
			return EXA_LOOK_NOTHING;
		case EXA_CLAIM_KERNEL:
		case EXA_CLAIM_LOST:
			/* its delivery may be under way: the flush waits for it */
			exa_flush(entry);
			if (ask_native(entry, receive, got))
				return EXA_LOOK_GOT;
		}
	}
}
