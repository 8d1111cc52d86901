// SPDX-License-Identifier: GPL-2.0-only
/* A datagram from its slot to the caller's buffers, with the results the kernel gives */

#include <netinet/in.h>
#include <string.h>

#include "libexasock.h"

/* Returns how much found room */
static size_t scatter(const u8 *data, size_t length, const struct iovec *iov, size_t iovs)
{
	size_t copied = 0, i;

	for (i = 0; i < iovs && copied < length; i++) {
		size_t part = length - copied;

		if (part > iov[i].iov_len)
			part = iov[i].iov_len;
		if (part)
			memcpy(iov[i].iov_base, data + copied, part);
		copied += part;
	}
	return copied;
}

/* As much of the address as there is room for, and its full length */
static void name(const struct exasock_slot *slot, struct sockaddr *to, socklen_t *length)
{
	struct sockaddr_in from = {
		.sin_family = AF_INET,
		.sin_port = slot->sport,
		.sin_addr.s_addr = slot->saddr,
	};

	memcpy(to, &from, *length < sizeof(from) ? *length : sizeof(from));
	*length = sizeof(from);
}

ssize_t exa_deliver(const struct exasock_slot *slot, const struct exa_receive *receive)
{
	size_t length = slot->length, copied;
	const u8 *data = slot->data + slot->offset;

	copied = scatter(data, length, receive->iov, receive->iovs);
	if (receive->name)
		name(slot, receive->name, receive->namelen);
	if (receive->msg) {
		receive->msg->msg_flags = receive->flags & MSG_CMSG_CLOEXEC;
		if (copied < length)
			receive->msg->msg_flags |= MSG_TRUNC;
		exa_control(slot, receive->msg);
	}
	return (ssize_t)(receive->flags & MSG_TRUNC ? length : copied);
}
