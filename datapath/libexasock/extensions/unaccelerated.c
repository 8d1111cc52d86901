// SPDX-License-Identifier: GPL-2.0-only
/*
 * libexasock_ext: what a program is linked with, and the answers it gets while it is not
 * accelerated. The preloaded library comes first where names are looked up, so its functions of the
 * same names are called in the place of these.
 */

#include <errno.h>

#include "extensions/exasock/extensions.h"
#include "extensions/segment.h"
#include "libc.h"

#define WEAK	EXA_ATTRIBUTE(weak)

#pragma GCC visibility push(default)

static int unaccelerated(void)
{
	errno = EOPNOTSUPP;
	return -1;
}

WEAK int exasock_loaded(void)
{
	return 0;
}

WEAK uint32_t exasock_version_code(void)
{
	return 0;
}

WEAK const char *exasock_version_text(void)
{
	return "not accelerated";
}

WEAK int exasock_tcp_get_device(int fd, char *dev, size_t dev_len, int *port_num)
{
	(void)fd;
	(void)dev;
	(void)dev_len;
	(void)port_num;
	return unaccelerated();
}

WEAK ssize_t exasock_tcp_build_header(int fd, void *buf, size_t len, size_t offset, int flags)
{
	(void)fd;
	(void)buf;
	(void)len;
	(void)offset;
	(void)flags;
	return unaccelerated();
}

WEAK int exasock_tcp_set_length(void *hdr, size_t hdr_len, size_t data_len)
{
	return exa_segment_set_length(hdr, hdr_len, data_len);
}

WEAK int exasock_tcp_calc_checksum(void *hdr, size_t hdr_len, const void *data, size_t data_len)
{
	return exa_segment_calc_checksum(hdr, hdr_len, data, data_len);
}

WEAK int exasock_tcp_send_advance(int fd, const void *buf, size_t len)
{
	(void)fd;
	(void)buf;
	(void)len;
	return unaccelerated();
}

WEAK void print_exasock_latencies(void)
{
}

WEAK void clear_latencies(void)
{
}
