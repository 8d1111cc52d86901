// SPDX-License-Identifier: GPL-2.0-only
/*
 * Sending: the module is asked to put the datagram into the card, and what it refuses is
 * sent by the caller's own call. A destination that was refused is not asked about for a
 * while: a program that talks to neighbours the card cannot reach should not pay twice.
 */

#include <limits.h>
#include <netinet/in.h>
#include <pthread.h>
#include <string.h>

#include "libexasock.h"

#define SKIP_MOST	64
/* What a datagram can be at all; the module knows how much of it fits */
#define LENGTH_MOST	65507

#define SEND_FLAGS	(MSG_DONTWAIT | MSG_NOSIGNAL)

static struct exa_refusal *refusal_of(struct exa_entry *entry, const struct exasock_send *send)
{
	u32 mix = (send->daddr ^ send->dport) * 2654435761U;

	return &entry->refused[mix >> 29];
}

static u64 destination_of(const struct exasock_send *send)
{
	u32 flags = send->flags & ~EXASOCK_SEND_BUFFER;

	return (u64)send->daddr << 32 | (u32)send->dport << 16 | flags | 0x8000;
}

/* Threads that race here ask once too often or too rarely, no more */
static bool skip(struct exa_entry *entry, const struct exasock_send *send)
{
	struct exa_refusal *refusal = refusal_of(entry, send);
	u32 left = load(&refusal->skip);

	if (likely(!left) || load(&refusal->destination) != destination_of(send))
		return false;
	store(&refusal->skip, left - 1);
	__atomic_add_fetch(&entry->control->tx_skipped, 1, __ATOMIC_RELAXED);
	return true;
}

static void accepted(struct exa_entry *entry, const struct exasock_send *send)
{
	struct exa_refusal *refusal = refusal_of(entry, send);

	if (unlikely(load(&refusal->period))) {
		store(&refusal->skip, 0);
		store(&refusal->period, 0);
	}
}

static void refused(struct exa_entry *entry, const struct exasock_send *send)
{
	struct exa_refusal *refusal = refusal_of(entry, send);
	u32 period = load(&refusal->period);

	if (load(&refusal->destination) != destination_of(send)) {
		store(&refusal->destination, destination_of(send));
		period = 0;
	}
	store(&refusal->skip, period);
	period = period ? period * 2 : 1;
	store(&refusal->period, period > SKIP_MOST ? SKIP_MOST : period);
}

/* False: not one that the module can know */
static bool address(struct exasock_send *send, const struct sockaddr *name, socklen_t length)
{
	const struct sockaddr_in *to = (const struct sockaddr_in *)name;

	if (!name) {
		send->flags |= EXASOCK_SEND_CONNECTED;
		return true;
	}
	if (length < sizeof(*to) || exa_nowhere(to) || to->sin_family != AF_INET ||
	    !to->sin_port)
		return false;
	send->daddr = to->sin_addr.s_addr;
	send->dport = to->sin_port;
	return true;
}

/* Nothing, or one IP_PKTINFO */
static bool control(struct exasock_send *send, const struct msghdr *msg)
{
	struct cmsghdr *first;
	struct in_pktinfo info;

	if (!msg->msg_controllen)
		return true;
	first = CMSG_FIRSTHDR(msg);
	if (!first || exa_nowhere(first) ||
	    first->cmsg_level != SOL_IP || first->cmsg_type != IP_PKTINFO ||
	    first->cmsg_len != CMSG_LEN(sizeof(info)) ||
	    msg->msg_controllen < CMSG_LEN(sizeof(info)) ||
	    msg->msg_controllen > CMSG_SPACE(sizeof(info)))
		return false;
	memcpy(&info, CMSG_DATA(first), sizeof(info));
	send->flags |= EXASOCK_SEND_PKTINFO;
	send->saddr = info.ipi_spec_dst.s_addr;
	send->ifindex = info.ipi_ifindex;
	return true;
}

/* True: done, and *@sent is the answer. False: it is the kernel's. */
static bool overtake(struct exa_entry *entry, struct exasock_send *send, ssize_t *sent)
{
	int kept = errno;

	exa_testcancel();
	if (skip(entry, send))
		return false;
	send->handle = entry->handle;
	*sent = exa_context_ioctl(EXASOCK_IOC_SEND, send);
	if (likely(*sent >= 0)) {
		accepted(entry, send);
		return true;
	}
	if (errno == EFAULT)
		return true;
	if (errno == EOPNOTSUPP)
		refused(entry, send);
	else if (errno == ESTALE && load(&entry->ring->dead))
		exa_entry_drop(entry, EXA_ENABLED);
	else if (errno == ESTALE)
		exa_forget(send->fd);	/* closed behind our back */
	errno = kept;
	return false;
}

static bool stream_buffer(struct exa_entry *entry, int fd, const void *buffer, size_t length,
			  ssize_t *sent)
{
	struct iovec iov = { (void *)buffer, length };

	return exa_stream_send(entry, fd, &iov, 1, sent);
}

/* Flags that the module does not know: the kernel's, unless nothing is to be sent at all */
static bool overtake_odd(int fd, size_t length, int flags, ssize_t *sent)
{
	if (flags & MSG_EXA_WARM) {
		*sent = exa_warm_buffer(length);
		return true;
	}
	exa_find(fd);	/* it counts as a use of the socket */
	return false;
}

static bool overtake_buffer(int fd, const void *buffer, size_t length, int flags,
			    const struct sockaddr *name, socklen_t namelen, ssize_t *sent)
{
	struct exasock_send send = {
		.fd = fd, .flags = EXASOCK_SEND_BUFFER, .iov = (uintptr_t)buffer,
		.iovs = (u32)length,
	};
	struct exa_entry *entry;

	if (unlikely(flags & ~SEND_FLAGS))
		return overtake_odd(fd, length, flags, sent);
	entry = exa_find(fd);
	if (!entry)
		return false;
	if (entry->stream)
		return stream_buffer(entry, fd, buffer, length, sent);
	return length <= LENGTH_MOST && address(&send, name, namelen) &&
	       overtake(entry, &send, sent);
}

static bool overtake_msg(struct exa_entry *entry, int fd, const struct msghdr *msg, int flags,
			 ssize_t *sent)
{
	struct exasock_send send = { .fd = fd };

	if (exa_nowhere(msg))
		return false;
	send.iov = (uintptr_t)msg->msg_iov;
	if (entry->stream)
		return !(flags & ~SEND_FLAGS) && !msg->msg_controllen &&
		       !exa_nowhere(msg->msg_iov) &&
		       exa_stream_send(entry, fd, msg->msg_iov, msg->msg_iovlen, sent);
	if (flags & ~SEND_FLAGS || msg->msg_iovlen > IOV_MAX ||
	    !address(&send, msg->msg_name, msg->msg_namelen) || !control(&send, msg))
		return false;
	send.iovs = (u32)msg->msg_iovlen;
	return overtake(entry, &send, sent);
}

EXPORT ssize_t send(int fd, const void *buffer, size_t length, int flags)
{
	ssize_t sent;

	if (!overtake_buffer(fd, buffer, length, flags, NULL, 0, &sent))
		sent = real(send)(fd, buffer, length, flags);
	exa_trace("(%d, %zu bytes, %#x) = %zd", fd, length, flags, sent);
	return sent;
}

EXPORT ssize_t sendto(int fd, const void *buffer, size_t length, int flags,
		      const struct sockaddr *name, socklen_t namelen)
{
	ssize_t sent;

	if (!overtake_buffer(fd, buffer, length, flags, name, namelen, &sent))
		sent = real(sendto)(fd, buffer, length, flags, name, namelen);
	exa_trace("(%d, %zu bytes, %#x) = %zd", fd, length, flags, sent);
	return sent;
}

EXPORT ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
	struct exa_entry *entry;
	ssize_t sent;

	if (unlikely(flags & MSG_EXA_WARM)) {
		sent = exa_warm_msg(msg);
	} else {
		entry = exa_find(fd);
		if (!entry || !overtake_msg(entry, fd, msg, flags, &sent))
			sent = real(sendmsg)(fd, msg, flags);
	}
	exa_trace("(%d, %#x) = %zd", fd, flags, sent);
	return sent;
}

/* The first failure ends it; it is reported if nothing was sent before */
EXPORT int sendmmsg(int fd, struct mmsghdr *messages, unsigned int count, int flags)
{
	struct exa_entry *entry;
	int kept = errno;
	unsigned int i;

	if (unlikely(flags & MSG_EXA_WARM))
		return exa_warm_messages(messages, count);
	entry = exa_find(fd);
	if (!entry || exa_nowhere(messages))
		return real(sendmmsg)(fd, messages, count, flags);
	if (count > IOV_MAX)
		count = IOV_MAX;	/* as the kernel */
	for (i = 0; i < count; i++) {
		struct mmsghdr *message = &messages[i];
		ssize_t sent;

		entry = exa_find(fd);
		if (!entry || !overtake_msg(entry, fd, &message->msg_hdr, flags, &sent))
			sent = real(sendmsg)(fd, &message->msg_hdr, flags);
		if (sent < 0)
			break;
		message->msg_len = (unsigned int)sent;
	}
	exa_trace("(%d, %u messages, %#x) = %u", fd, count, flags, i);
	if (i < count && !i)
		return -1;
	errno = kept;
	return (int)i;
}

EXPORT ssize_t write(int fd, const void *buffer, size_t length)
{
	ssize_t sent;

	if (!exa_find(fd) || !overtake_buffer(fd, buffer, length, 0, NULL, 0, &sent))
		return real(write)(fd, buffer, length);
	exa_trace("(%d, %zu bytes) = %zd", fd, length, sent);
	return sent;
}

EXPORT ssize_t writev(int fd, const struct iovec *iov, int iovs)
{
	struct exa_entry *entry = exa_find(fd);
	struct msghdr msg = { .msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)iovs };
	size_t sum = 0;
	ssize_t sent;
	int i;

	if (likely(!entry) || exa_nowhere(iov))
		return real(writev)(fd, iov, iovs);
	for (i = 0; i < iovs && i < IOV_MAX; i++)
		sum |= iov[i].iov_len;
	/* a vector of nothing sends nothing, unlike a message of nothing */
	if (!sum || !overtake_msg(entry, fd, &msg, 0, &sent))
		return real(writev)(fd, iov, iovs);
	exa_trace("(%d, %d buffers) = %zd", fd, iovs, sent);
	return sent;
}

EXPORT __alias(send) ssize_t __send(int fd, const void *buffer, size_t length, int flags);
EXPORT __alias(write) ssize_t __write(int fd, const void *buffer, size_t length);
