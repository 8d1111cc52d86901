/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Options that are bits of the socket: which of them the fast path serves, or are of no
 * consequence to it. One that is not named here, a new kernel's too, is the kernel's to
 * serve (EXASOCK_R_OPTION). honour.toml has a row for each option.
 */
#ifndef EXASOCK_OPTIONS_H
#define EXASOCK_OPTIONS_H

#include <linux/net_tstamp.h>
#include <net/sock.h>

/* Of no consequence, either way: states, and what is decided elsewhere */
#define EXA_FLAGS_STATE \
	(BIT(SOCK_DEAD) | BIT(SOCK_DONE) | BIT(SOCK_URGINLINE) | BIT(SOCK_KEEPOPEN) | \
	 BIT(SOCK_LINGER) | BIT(SOCK_DESTROY) | BIT(SOCK_BROADCAST) | BIT(SOCK_TIMESTAMP) | \
	 BIT(SOCK_ZAPPED) | BIT(SOCK_USE_WRITE_QUEUE) | BIT(SOCK_DBG) | BIT(SOCK_LOCALROUTE) | \
	 BIT(SOCK_TIMESTAMPING_RX_SOFTWARE) | BIT(SOCK_FASYNC) | BIT(SOCK_NOFCS) | \
	 BIT(SOCK_FILTER_LOCKED) | BIT(SOCK_SELECT_ERR_QUEUE) | BIT(SOCK_RCU_FREE) | \
	 EXA_FLAGS_COPIES)
/* The kernel's own copy of other words */
#ifdef EXASOCK_HAVE_TIMESTAMPING_ANY
#define EXA_FLAGS_COPIES	BIT(SOCK_TIMESTAMPING_ANY)
#else
#define EXA_FLAGS_COPIES	0
#endif
#ifdef EXASOCK_HAVE_RCVPRIORITY
#define EXA_FLAGS_RECEIVED	(BIT(SOCK_RCVMARK) | BIT(SOCK_RCVPRIORITY))
#else
#define EXA_FLAGS_RECEIVED	BIT(SOCK_RCVMARK)
#endif

/* A datagram received: a time is told; what concerns sending alone is not looked at */
#define EXA_FLAGS_RX \
	(EXA_FLAGS_STATE | BIT(SOCK_RCVTSTAMP) | BIT(SOCK_RCVTSTAMPNS) | BIT(SOCK_ZEROCOPY) | \
	 BIT(SOCK_WIFI_STATUS) | BIT(SOCK_TXTIME))
/* A datagram sent */
#define EXA_FLAGS_TX \
	(EXA_FLAGS_STATE | BIT(SOCK_RCVTSTAMP) | BIT(SOCK_RCVTSTAMPNS) | BIT(SOCK_TSTAMP_NEW) | \
	 BIT(SOCK_RXQ_OVFL) | BIT(SOCK_ZEROCOPY) | EXA_FLAGS_RECEIVED)
/* A connection, both ways */
#define EXA_FLAGS_STREAM	EXA_FLAGS_STATE

/* Of SO_TIMESTAMPING: what is told of a received datagram, or is about sent ones only */
#define EXA_STAMPS_RX \
	(SOF_TIMESTAMPING_TX_RECORD_MASK | SOF_TIMESTAMPING_RX_HARDWARE | \
	 SOF_TIMESTAMPING_RX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE | \
	 SOF_TIMESTAMPING_SYS_HARDWARE | SOF_TIMESTAMPING_RAW_HARDWARE | \
	 SOF_TIMESTAMPING_OPT_ID | SOF_TIMESTAMPING_OPT_TSONLY | SOF_TIMESTAMPING_OPT_STATS | \
	 SOF_TIMESTAMPING_OPT_TX_SWHW)

/*
 * What SIOCGSTAMP tells: with SO_TIMESTAMP, of no datagram; once it was asked, of the last
 * one that the kernel gave to a reader.
 */
static inline bool exa_stamp_is_told(const struct sock *sk)
{
	return (sk->sk_flags & (BIT(SOCK_TIMESTAMP) | BIT(SOCK_RCVTSTAMP))) == BIT(SOCK_TIMESTAMP);
}

/* A software stamp, if there happens to be one because of somebody else */
static inline bool exa_stamp_is_chance(u32 stamps)
{
	return (stamps & (SOF_TIMESTAMPING_SOFTWARE | SOF_TIMESTAMPING_RX_SOFTWARE)) ==
	       SOF_TIMESTAMPING_SOFTWARE;
}

/*
 * Options of a connection that are set at the level of the socket: that does not pass by
 * TCP, where it would hand the connection back. So a taken one is asked for each segment.
 */
static inline bool exa_stream_has_options(const struct sock *sk)
{
#ifdef EXASOCK_HAVE_BPF_CB_FLAGS
	if (READ_ONCE(sk->sk_bpf_cb_flags))
		return true;
#endif
	return sk->sk_flags & ~EXA_FLAGS_STREAM || READ_ONCE(sk->sk_tsflags) ||
	       READ_ONCE(sk->sk_peek_off) >= 0 || READ_ONCE(sk->sk_rcvlowat) > 1 ||
	       READ_ONCE(sk->sk_pacing_status) == SK_PACING_NEEDED;
}

#endif /* EXASOCK_OPTIONS_H */
