// SPDX-License-Identifier: GPL-2.0-only
/*
 * The process's open device, opened when a socket first asks for it. Its descriptor
 * lies at the end of the numbers, for the application counts on getting the lowest.
 */

#include <sys/resource.h>

#include "libexasock.h"

/* The kernel's table of descriptors grows up to the highest number in use */
#define HIGHEST		65536
#define PLACES		64

struct exa_context exa_context = { .fd = -1 };

static bool impossible;		/* no module, or not one we understand */

/* A copy of @fd as high as may be, or -1 */
static int copy_up(int fd)
{
	struct rlimit limit;
	int low, high = HIGHEST, copy;

	if (!getrlimit(RLIMIT_NOFILE, &limit) && limit.rlim_cur < HIGHEST)
		high = (int)limit.rlim_cur;
	for (low = high - 1; low >= high - PLACES && low > STDERR_FILENO; low--) {
		copy = real(fcntl)(fd, F_DUPFD_CLOEXEC, low);
		if (copy >= 0)
			return copy;
	}
	return real(fcntl)(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
}

/* Transient: asked again with the next socket */
static int open_failed(int error)
{
	if (error == EMFILE || error == ENFILE || error == ENOMEM || error == EINTR)
		return -EMFILE;
	impossible = true;
	exa_debug("all sockets stay native: %s: %s", EXASOCK_DEVICE,
		  error == EPROTO ? "another version of the kernel module" : "cannot be opened");
	return -ENODEV;
}

/* Open it if it is not. 0, -ENODEV for good, -EMFILE for now. Locked. */
int exa_context_open(void)
{
	struct exasock_info info;
	int fd, high;

	if (exa_context.fd >= 0)
		return 0;
	if (impossible)
		return -ENODEV;
	fd = exa_device_open();
	if (fd < 0)
		return open_failed(errno);
	if (exa_device_ioctl(fd, EXASOCK_IOC_INFO, &info) || info.abi != EXASOCK_ABI_VERSION ||
	    !info.slots || info.slots > EXASOCK_SLOTS_MAX || info.slots & (info.slots - 1)) {
		real(close)(fd);
		return open_failed(EPROTO);
	}
	high = copy_up(fd);
	if (high >= 0) {
		real(close)(fd);
		fd = high;
	}
	exa_context.slots = info.slots;
	store_release(&exa_context.fd, fd);
	exa_signals_watch();
	return 0;
}

/*
 * True: somebody has closed it without us, as programs do that close everything by raw
 * system calls. The attachments are gone with it; a new one can be opened. Locked.
 */
bool exa_context_lost(void)
{
	if (exa_context.fd < 0 || real(fcntl)(exa_context.fd, F_GETFD) >= 0)
		return false;
	store_release(&exa_context.fd, -1);
	return true;
}

/* The application is about to put something on our number: go to another one. Locked. */
void exa_context_move(void)
{
	int old = exa_context.fd;
	int copy = copy_up(old);

	if (copy >= 0)
		store_release(&exa_context.fd, copy);
	else
		exa_disable("no descriptor left");
}

/* In a child: the parent's context is not ours */
void exa_context_forget(void)
{
	int fd = exchange(&exa_context.fd, -1);

	impossible = false;
	if (fd >= 0)
		real(close)(fd);
}
