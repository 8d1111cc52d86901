/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * Socket options and flags of an accelerator of ExaNIC cards. Numbers and names are those that
 * programs for the vendor's accelerator are built with.
 */
#ifndef EXASOCK_SOCKET_H
#define EXASOCK_SOCKET_H

#include <sys/socket.h>

/* Level of the options */
#define SOL_EXASOCK		0x200

/* int, as a boolean: 1, the socket stays with the kernel; 0, it is accelerated despite --no-auto */
#define SO_EXA_NO_ACCEL		1
/* struct ip_mreqn or ip_mreq: receive a group without joining it */
#define SO_EXA_MCAST_LISTEN	2
/* int: the card's TCP engine for this connection, -1 for none; before connect() */
#define SO_EXA_ATE		3

/* A dummy send: it answers as a send does, and nothing is sent */
#define MSG_EXA_WARM		0x100000

#ifdef __cplusplus
extern "C" {
#endif

/* 0, or -1 with errno, as setsockopt() */
static inline int exasock_disable_acceleration(int fd)
{
	const int off = 1;

	return setsockopt(fd, SOL_EXASOCK, SO_EXA_NO_ACCEL, &off, sizeof(off));
}

/* connect() by the card's TCP engine @ate_id. 0, or -1 with errno, as the calls that it makes. */
static inline int exasock_ate_connect(int fd, int ate_id, const struct sockaddr *addr,
				      socklen_t addrlen)
{
	if (setsockopt(fd, SOL_EXASOCK, SO_EXA_ATE, &ate_id, sizeof(ate_id)))
		return -1;
	return connect(fd, addr, addrlen);
}

#ifdef __cplusplus
}
#endif

#endif /* EXASOCK_SOCKET_H */
