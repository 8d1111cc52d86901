// SPDX-License-Identifier: GPL-2.0-only
/*
 * The functions of exasock/extensions.h, for programs that are built for the vendor's accelerator.
 * What would hand a connection's sequence numbers to the program is refused as for a connection
 * that is not accelerated, and said once: a program then sends by its socket.
 */

#include "extensions/exasock/extensions.h"
#include "extensions/segment.h"
#include "libexasock.h"

/* The release of the vendor's whose interface this is */
#define INTERFACE_CODE	EXASOCK_VERSION(2, 7, 6)
#define INTERFACE_TEXT	"2.7.6 (exalab)"

static int extension_refused(const char *function)
{
	static bool said;

	if (!exchange(&said, true))
		exa_warn("%s is not supported: send by the socket", function);
	errno = EOPNOTSUPP;
	return -1;
}

EXPORT int exasock_loaded(void)
{
	return 1;
}

EXPORT u32 exasock_version_code(void)
{
	return INTERFACE_CODE;
}

EXPORT const char *exasock_version_text(void)
{
	return INTERFACE_TEXT;
}

EXPORT int exasock_tcp_get_device(int fd, char *dev, size_t dev_len, int *port_num)
{
	(void)fd;
	(void)dev;
	(void)dev_len;
	(void)port_num;
	return extension_refused(__func__);
}

EXPORT ssize_t exasock_tcp_build_header(int fd, void *buf, size_t len, size_t offset, int flags)
{
	(void)fd;
	(void)buf;
	(void)len;
	(void)offset;
	(void)flags;
	return extension_refused(__func__);
}

EXPORT int exasock_tcp_send_advance(int fd, const void *buf, size_t len)
{
	(void)fd;
	(void)buf;
	(void)len;
	return extension_refused(__func__);
}

EXPORT int exasock_tcp_set_length(void *hdr, size_t hdr_len, size_t data_len)
{
	return exa_segment_set_length(hdr, hdr_len, data_len);
}

EXPORT int exasock_tcp_calc_checksum(void *hdr, size_t hdr_len, const void *data, size_t data_len)
{
	return exa_segment_calc_checksum(hdr, hdr_len, data, data_len);
}

EXPORT void print_exasock_latencies(void)
{
	exa_say("exasock: ", "no latencies are measured");
}

EXPORT void clear_latencies(void)
{
}
