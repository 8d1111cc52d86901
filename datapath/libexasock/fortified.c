// SPDX-License-Identifier: GPL-2.0-only
/* What programs built with _FORTIFY_SOURCE call instead: the size is checked, then the same */

#include "libexasock.h"

EXPORT ssize_t __recv_chk(int fd, void *buffer, size_t length, size_t size, int flags)
{
	if (length > size)
		__chk_fail();
	return recv(fd, buffer, length, flags);
}

EXPORT ssize_t __recvfrom_chk(int fd, void *buffer, size_t length, size_t size, int flags,
			      struct sockaddr *name, socklen_t *namelen)
{
	if (length > size)
		__chk_fail();
	return recvfrom(fd, buffer, length, flags, name, namelen);
}

EXPORT ssize_t __read_chk(int fd, void *buffer, size_t length, size_t size)
{
	if (length > size)
		__chk_fail();
	return read(fd, buffer, length);
}

EXPORT int __poll_chk(struct pollfd *fds, nfds_t count, int timeout, size_t size)
{
	if (size / sizeof(*fds) < count)
		__chk_fail();
	return poll(fds, count, timeout);
}

EXPORT int __ppoll_chk(struct pollfd *fds, nfds_t count, const struct timespec *timeout,
		       const sigset_t *mask, size_t size)
{
	if (size / sizeof(*fds) < count)
		__chk_fail();
	return ppoll(fds, count, timeout, mask);
}
