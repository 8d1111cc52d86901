// SPDX-License-Identifier: GPL-2.0-only
/*
 * Several datagrams at once. Only calls that do not wait for more than the first one are
 * served here: one that waits for all of them, or with a timeout, is the kernel's.
 */

#include <pthread.h>

#include "libexasock.h"

/* An error that waits is the next call's: it would be lost behind what we already have */
static bool error_waits(int fd)
{
	struct pollfd errors = { .fd = fd };

	return real(poll)(&errors, 1, 0) != 0;
}

/*
 * After the first one, which must not be lost to a cancellation: whatever is there. What
 * is in the socket's own queue is read by the kernel's own recvmmsg, which knows what to
 * do with an error in the middle.
 */
static unsigned int receive_more(struct exa_entry *entry, int fd, struct mmsghdr *messages,
				 unsigned int done, unsigned int count, int flags)
{
	int kept = errno, cancel;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	while (done < count) {
		struct mmsghdr *message = &messages[done];
		struct exa_receive receive;
		ssize_t got;
		int more;

		if (!exa_receivable_msg(&message->msg_hdr))
			break;
		if (load_acquire(&entry->ring->native) != load(&entry->seen)) {
			if (error_waits(fd))
				break;
			more = real(recvmmsg)(fd, message, count - done, flags, NULL);
			if (more > 0) {
				done += (unsigned int)more;
				continue;
			}
			/* nothing there: the look below notes it, and finds what is held */
		}
		receive = exa_receive_of_msg(fd, &message->msg_hdr, flags);
		switch (exa_look(entry, &receive, &got)) {
		case EXA_LOOK_GOT:
			break;
		case EXA_LOOK_NOTHING:
			exa_look_ends(entry);
			goto out;
		case EXA_LOOK_OVER:
			goto out;
		}
		if (got < 0)
			break;
		message->msg_len = (unsigned int)got;
		done++;
	}
out:
	pthread_setcancelstate(cancel, NULL);
	errno = kept;
	return done;
}

static bool waits(struct exa_entry *entry, int fd, int flags)
{
	int kept = errno;
	bool waits;

	if (flags & (MSG_DONTWAIT | MSG_WAITFORONE))
		return false;
	waits = exa_nonblocking(entry, fd) <= 0;
	errno = kept;
	return waits;
}

EXPORT int recvmmsg(int fd, struct mmsghdr *messages, unsigned int count, int flags,
		    struct timespec *timeout)
{
	const int allowed = EXA_RECEIVE_FLAGS | MSG_WAITFORONE;
	struct exa_entry *entry = exa_find(fd);
	struct exa_receive receive;
	ssize_t got;
	int done;

	if (!entry || exa_nowhere(messages))
		return real(recvmmsg)(fd, messages, count, flags, timeout);
	if (entry->stream || !count || timeout || flags & ~allowed || waits(entry, fd, flags) ||
	    !exa_receivable_msg(&messages->msg_hdr)) {
		exa_hand_over(entry);
		return real(recvmmsg)(fd, messages, count, flags, timeout);
	}
	flags &= ~MSG_WAITFORONE;
	receive = exa_receive_of_msg(fd, &messages->msg_hdr, flags);
	got = exa_receive(entry, &receive);
	if (got < 0) {
		done = -1;
	} else {
		messages->msg_len = (unsigned int)got;
		done = (int)receive_more(entry, fd, messages, 1, count, flags | MSG_DONTWAIT);
	}
	exa_trace("(%d, %u messages, %#x) = %d", fd, count, flags, done);
	return done;
}
