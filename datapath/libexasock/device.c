// SPDX-License-Identifier: GPL-2.0-only
/* The way to the kernel module; tests/fake_device.c stands in for it */

#include <sys/mman.h>

#include "libexasock.h"

int exa_device_open(void)
{
	return open(EXASOCK_DEVICE, O_RDWR | O_CLOEXEC);
}

int exa_device_ioctl(int fd, unsigned long request, void *argument)
{
	return real(ioctl)(fd, request, argument);
}

void *exa_device_map(void *at, size_t length, int protection, int fd, u64 offset)
{
	return mmap(at, length, protection, MAP_SHARED | MAP_FIXED, fd, (off_t)offset);
}
