/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * Functions of an accelerator of ExaNIC cards. Link with -lexasock_ext: its answers are those of a
 * program that is not accelerated. Under exasock(1) the accelerator's own functions are called.
 *
 * Names and types are those that programs for the vendor's accelerator are built with.
 */
#ifndef EXASOCK_EXTENSIONS_H
#define EXASOCK_EXTENSIONS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define EXASOCK_VERSION(a, b, c)	(((a) << 16) + ((b) << 8) + (c))

#ifdef __cplusplus
extern "C" {
#endif

/* 1 under the accelerator, else 0 */
int exasock_loaded(void);

/* EXASOCK_VERSION() of the interface that is provided; 0 without the accelerator */
uint32_t exasock_version_code(void);

/* The same for people; never NULL */
const char *exasock_version_text(void);

/*
 * By which card and port the connection @fd leaves: the name of the card, such as "exanic0", into
 * @dev, which has room for @dev_len bytes, and the port's number into *@port_num. 0; or -1,
 * errno EOPNOTSUPP: it is not an accelerated TCP connection.
 */
int exasock_tcp_get_device(int fd, char *dev, size_t dev_len, int *port_num);

/*
 * Ethernet, IP and TCP headers of the connection's next segment into @buf, which has room for @len
 * bytes; @offset and @flags must be 0. Returns their length; or -1, errno EOPNOTSUPP: it is not
 * accelerated; ENOTCONN; EAGAIN: the neighbour is not resolved yet; EPIPE: it is closed.
 */
ssize_t exasock_tcp_build_header(int fd, void *buf, size_t len, size_t offset, int flags);

/*
 * Headers for @data_len bytes of payload: length and checksum in the IP header at @hdr are set.
 * 0; or -1, errno EINVAL: these are no Ethernet, IPv4 and TCP headers of @hdr_len bytes, or
 * the payload is longer than an IP packet can be.
 */
int exasock_tcp_set_length(void *hdr, size_t hdr_len, size_t data_len);

/* TCP's checksum over these headers and the payload is set in them. Returns as the one above. */
int exasock_tcp_calc_checksum(void *hdr, size_t hdr_len, const void *data, size_t data_len);

/*
 * The caller has sent these bytes itself, by a segment of exasock_tcp_build_header(). 0; or -1,
 * errno EOPNOTSUPP: the connection is not accelerated.
 */
int exasock_tcp_send_advance(int fd, const void *buf, size_t len);

/* Print, and forget, what the accelerator has measured of itself */
void print_exasock_latencies(void);
void clear_latencies(void);

#ifdef __cplusplus
}
#endif

#endif /* EXASOCK_EXTENSIONS_H */
