// SPDX-License-Identifier: GPL-2.0-only
/*
 * TCP: received bytes from the ring while the connection is taken, from the kernel while
 * it is at home; and asking for it to be taken, as often as the module thinks worth it.
 */

#include <limits.h>
#include <pthread.h>
#include <string.h>

#include "libexasock.h"

static u64 *tail_of(const struct exa_entry *entry)
{
	return &((struct exasock_stream_control *)entry->control)->tail;
}

bool exa_stream_taken(const struct exa_entry *entry)
{
	return load_acquire(tail_of(entry)) & EXASOCK_STREAM_OPEN;
}

/* Is there something in the ring? */
bool exa_stream_unread(const struct exa_entry *entry)
{
	u64 tail = load_acquire(tail_of(entry));

	return tail & EXASOCK_STREAM_OPEN && load_acquire(&entry->stream->head) != tail >> 1;
}

static bool too_early(const struct exa_entry *entry)
{
	return (int64_t)(__builtin_ia32_rdtsc() - load(&entry->stream->after)) < 0;
}

/* Have it taken, if it is time to ask again. True: it is. */
bool exa_stream_want(struct exa_entry *entry)
{
	u32 handle = entry->handle;
	int kept = errno;
	bool taken;

	if (too_early(entry))
		return false;
	taken = !exa_context_ioctl(EXASOCK_IOC_STREAM_TAKE, &handle);
	errno = kept;
	return taken;
}

/* True: done, and *@sent is the answer. False: it is the kernel's. */
bool exa_stream_send(struct exa_entry *entry, int fd, const struct iovec *iov, size_t iovs,
		     ssize_t *sent)
{
	struct exasock_stream_send send = {
		.handle = entry->handle, .fd = fd, .iov = (uintptr_t)iov, .iovs = (u32)iovs,
	};
	int kept = errno;

	exa_testcancel();
	if (iovs == 1 && iov->iov_len <= UINT32_MAX) {
		send.iov = (uintptr_t)iov->iov_base;
		send.iovs = (u32)iov->iov_len;
		send.flags = EXASOCK_STREAM_BUFFER;
	}
	if (iovs > IOV_MAX || (!exa_stream_taken(entry) && too_early(entry)))
		return false;
	*sent = exa_context_ioctl(EXASOCK_IOC_STREAM_SEND, &send);
	if (likely(*sent >= 0) || errno == EFAULT)
		return true;
	if (errno == ESTALE && load(&entry->ring->dead))
		exa_entry_drop(entry, EXA_ENABLED);
	else if (errno == ESTALE)
		exa_forget(fd);		/* closed behind our back */
	errno = kept;
	return false;
}

static u64 room_of(const struct exa_receive *receive)
{
	u64 sum = 0;
	size_t i;

	for (i = 0; i < receive->iovs; i++)
		sum += receive->iov[i].iov_len;
	return sum;
}

/* @count bytes of the ring from @offset on, to the caller's buffers */
static void scatter(const struct exa_entry *entry, u64 offset, u64 count,
		    const struct iovec *iov)
{
	const u8 *bytes = (const u8 *)entry->stream + EXASOCK_RING_HEADER;
	size_t filled = 0;

	while (count) {
		u64 at = offset & entry->mask, part = entry->mask + 1 - at;

		if (filled == iov->iov_len) {
			iov++;
			filled = 0;
			continue;
		}
		if (part > count)
			part = count;
		if (part > iov->iov_len - filled)
			part = iov->iov_len - filled;
		memcpy((u8 *)iov->iov_base + filled, bytes + at, part);
		filled += part;
		offset += part;
		count -= part;
	}
}

/* What the call tells besides: of TCP no addresses, no control messages */
static void tell(const struct exa_receive *receive)
{
	if (receive->name)
		*receive->namelen = 0;
	if (receive->msg) {
		receive->msg->msg_controllen = 0;
		receive->msg->msg_flags = receive->flags & MSG_CMSG_CLOEXEC;
	}
}

enum ring {
	RING_CLOSED,		/* the connection is at home */
	RING_LITTLE,		/* less than is needed */
	RING_READ,
};

/* @needed bytes at least, if they are there */
static enum ring read_ring(struct exa_entry *entry, const struct exa_receive *receive, u64 needed,
			   u64 room, ssize_t *got)
{
	u64 *tail = tail_of(entry);

	for (;;) {
		u64 word = load_acquire(tail), offset = word >> 1, count;

		if (!(word & EXASOCK_STREAM_OPEN))
			return RING_CLOSED;
		count = load_acquire(&entry->stream->head) - offset;
		if (count < needed)
			return RING_LITTLE;
		if (count > room)
			count = room;
		if (count > entry->mask + 1UL)
			continue;	/* the head is of a later word than the tail */
		scatter(entry, offset, count, receive->iov);
		__atomic_thread_fence(__ATOMIC_ACQUIRE);
		if (receive->flags & MSG_PEEK ? load(tail) != word :
		    !swap_if(tail, &word, (offset + count) << 1 | EXASOCK_STREAM_OPEN))
			continue;
		tell(receive);
		*got = (ssize_t)count;
		return RING_READ;
	}
}

/* One look at both, without waiting; a call that wants all of it waits in the kernel */
enum exa_look exa_stream_look(struct exa_entry *entry, const struct exa_receive *receive,
			      ssize_t *got)
{
	bool all = receive->flags & MSG_WAITALL && !(receive->flags & MSG_DONTWAIT);
	u64 room = room_of(receive);
	int kept = errno;

	exa_heartbeat(entry);
	if (unlikely(load(&entry->ring->dead))) {
		exa_entry_drop(entry, EXA_ENABLED);
		return EXA_LOOK_OVER;
	}
	if (unlikely(!room))
		return EXA_LOOK_OVER;
	switch (read_ring(entry, receive, all ? room : 1, room, got)) {
	case RING_READ:
		return EXA_LOOK_GOT;
	case RING_LITTLE:
		return EXA_LOOK_NOTHING;
	case RING_CLOSED:
		break;
	}
	if (all)
		return exa_stream_want(entry) ? EXA_LOOK_NOTHING : EXA_LOOK_OVER;
	*got = exa_receive_native(receive, receive->flags | MSG_DONTWAIT);
	if (*got >= 0 || errno != EAGAIN)
		return EXA_LOOK_GOT;
	errno = kept;
	exa_stream_want(entry);
	return EXA_LOOK_NOTHING;
}
