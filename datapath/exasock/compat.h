/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Differences between kernels, 6.1 to 7.2, beyond those of ../exanic/compat.h. Kbuild looks
 * for the thing itself and defines EXASOCK_HAVE_*.
 */
#ifndef EXASOCK_COMPAT_H
#define EXASOCK_COMPAT_H

#include <linux/file.h>
#include <linux/inetdevice.h>
#include <linux/netdevice.h>
#include <net/flow.h>
#ifdef EXASOCK_HAVE_HOTDATA
#include <net/hotdata.h>
#endif
#include <net/inet_dscp.h>
#include <net/inet_sock.h>
#include <net/net_namespace.h>
#ifdef EXASOCK_HAVE_RX_QUEUE
#include <net/netdev_rx_queue.h>
#endif
#include <net/route.h>
#ifdef EXASOCK_HAVE_RPS
#include <net/rps.h>
#endif
#include <net/sock.h>
#include <net/udp.h>

#include "../exanic/compat.h"

/* A queue's table of flows came to have a tag */
#ifdef EXASOCK_HAVE_RPS_TAG
#define exa_flow_table(queue)		READ_ONCE((queue)->rps_flow_table)
#else
#define exa_flow_table(queue)		rcu_access_pointer((queue)->rps_flow_table)
#endif

/* What a struct fd holds came to be asked by name */
#ifndef fd_file
#define fd_file(fd)			((fd).file)
#endif

/* Flags of inet_sock and udp_sock became bits of a word */
#ifndef EXASOCK_HAVE_INET_FLAGS
#define inet_cmsg_flags(inet)		((inet)->cmsg_flags)
#define exa_mc_loop(sk)			(inet_sk(sk)->mc_loop)
#define exa_mc_all(sk)			(inet_sk(sk)->mc_all)
#define exa_recverr(sk)			(inet_sk(sk)->recverr)
#else
#define exa_mc_loop(sk)			inet_test_bit(MC_LOOP, sk)
#define exa_mc_all(sk)			inet_test_bit(MC_ALL, sk)
#define exa_recverr(sk)			inet_test_bit(RECVERR, sk)
#endif
#ifndef EXASOCK_HAVE_UDP_FLAGS
#define exa_udp_gro(sk)			(udp_sk(sk)->gro_enabled)
#define exa_udp_corked(sk)		(udp_sk(sk)->corkflag)
#else
#define exa_udp_gro(sk)			udp_test_bit(GRO_ENABLED, sk)
#define exa_udp_corked(sk)		udp_test_bit(CORK, sk)
#endif

/* The table of UDP sockets: one for all, then one for each namespace, then not an argument */
static inline struct udp_table *exa_udp_table(const struct net *net)
{
#ifdef EXASOCK_HAVE_NET_UDP_TABLE
	return net->ipv4.udp_table;
#else
	return &udp_table;
#endif
}

static inline struct sock *exa_udp_lookup(struct net *net, __be32 saddr, __be16 sport,
					  __be32 daddr, __be16 dport, int ifindex)
{
#ifdef EXASOCK_HAVE_LOOKUP_TABLE
	return __udp4_lib_lookup(net, saddr, sport, daddr, dport, ifindex, 0,
				 exa_udp_table(net), NULL);
#else
	return __udp4_lib_lookup(net, saddr, sport, daddr, dport, ifindex, 0, NULL);
#endif
}

/* The type of service became a code point */
static inline void exa_flow_tos(struct flowi4 *fl4, u8 tos)
{
#ifdef EXASOCK_HAVE_FLOW_DSCP
	fl4->flowi4_dscp = inet_dsfield_to_dscp(tos);
#else
	fl4->flowi4_tos = tos & INET_DSCP_MASK;
#endif
}

/* False: the stack would drop it */
static inline bool exa_route_input(struct sk_buff *skb, __be32 daddr, __be32 saddr, u8 tos,
				   struct net_device *dev)
{
#ifdef EXASOCK_HAVE_ROUTE_TOS
	return !ip_route_input_noref(skb, daddr, saddr, tos, dev);
#else
	return !ip_route_input_noref(skb, daddr, saddr, inet_dsfield_to_dscp(tos), dev);
#endif
}

/*
 * Is there a packet socket for everything on every device, in that namespace? The kernel's
 * list of them is one for all, then one for each namespace. Before, it was not to be had:
 * then each packet socket counts.
 */
static inline bool exa_taps_all(const struct net *net)
{
#if defined(EXASOCK_HAVE_NET_PTYPES)
	return !list_empty(&net->ptype_all);
#elif defined(EXASOCK_HAVE_HOTDATA)
	const struct packet_type *type;

	list_for_each_entry_rcu(type, &net_hotdata.ptype_all, list)
		if (!type->af_packet_net || type->af_packet_net == net)
			return true;
	return false;
#else
	return !hlist_empty(&net->packet.sklist);
#endif
}

#endif /* EXASOCK_COMPAT_H */
