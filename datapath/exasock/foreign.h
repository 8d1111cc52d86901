/* SPDX-License-Identifier: GPL-2.0-only */
/* Whose functions an attached UDP socket has; of a connection see exa_stream_is_foreign() */
#ifndef EXASOCK_FOREIGN_H
#define EXASOCK_FOREIGN_H

#include <net/udp.h>

#include "exasock.h"

/*
 * Has somebody else put functions on the socket (a sockmap, at any time)? They would see its
 * datagrams. Asked for each, sent or received.
 */
static inline bool exa_sock_is_foreign(const struct sock *sk)
{
	return READ_ONCE(sk->sk_prot) != &udp_prot ||
	       READ_ONCE(sk->sk_data_ready) != exa_sock_data_ready;
}

#endif /* EXASOCK_FOREIGN_H */
