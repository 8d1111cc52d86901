// SPDX-License-Identifier: GPL-2.0-only
/*
 * MSG_EXA_WARM: a dummy send. Programs make it with an order that must never be placed, to
 * keep what a real send needs in the caches. So it ends here, before anything is asked
 * about the descriptor, whatever that is: the kernel would send it, for it ignores the flag.
 * Only what the answer depends on is judged: how long the message says it is.
 */

#include <limits.h>

#include "libexasock.h"

static ssize_t warm_error(int error)
{
	errno = error;
	return -1;
}

ssize_t exa_warm_buffer(size_t length)
{
	return length > SSIZE_MAX ? warm_error(EINVAL) : (ssize_t)length;
}

ssize_t exa_warm_msg(const struct msghdr *msg)
{
	size_t sum = 0, i;

	if (exa_nowhere(msg))
		return warm_error(EFAULT);
	if (msg->msg_iovlen > IOV_MAX)
		return warm_error(EMSGSIZE);
	if (msg->msg_iovlen && exa_nowhere(msg->msg_iov))
		return warm_error(EFAULT);
	for (i = 0; i < msg->msg_iovlen; i++) {
		if (msg->msg_iov[i].iov_len > SSIZE_MAX - sum)
			return warm_error(EINVAL);
		sum += msg->msg_iov[i].iov_len;
	}
	return (ssize_t)sum;
}

/* The first failure ends it; it is reported if it is of the first message */
int exa_warm_messages(struct mmsghdr *messages, unsigned int count)
{
	int kept = errno;
	unsigned int i;

	if (count && exa_nowhere(messages))
		return (int)warm_error(EFAULT);
	if (count > IOV_MAX)
		count = IOV_MAX;	/* as the kernel */
	for (i = 0; i < count; i++) {
		ssize_t length = exa_warm_msg(&messages[i].msg_hdr);

		if (length < 0 && !i)
			return -1;
		if (length < 0)
			break;
		messages[i].msg_len = (unsigned int)length;
	}
	errno = kept;
	return (int)i;
}
