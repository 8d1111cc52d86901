// SPDX-License-Identifier: GPL-2.0-only
/*
 * Whose a datagram is: the kernel's own lookup, in the namespace of the device it came
 * by (rules N2, N3). A multicast one goes to every member, a broadcast one to everybody
 * who is bound to its port.
 */

#include <linux/igmp.h>
#include <net/inet_hashtables.h>
#include <net/inet_sock.h>
#include <net/raw.h>
#include <net/sock_reuseport.h>
#include <net/udp.h>

#include "exasock.h"
#include "foreign.h"
#include "options.h"

/* May the socket have this group's datagrams from this source, by this device? (ip_mc_sf_allow) */
static bool member_allows(const struct sock *sk, const struct exa_packet *packet, int ifindex,
			  bool *joined)
{
	const struct ip_mc_socklist *member;

	*joined = false;
	if (!ipv4_is_multicast(packet->daddr))
		return true;
	for (member = rcu_dereference(inet_sk(sk)->mc_list); member;
	     member = rcu_dereference(member->next_rcu)) {
		const struct ip_sf_socklist *sources;
		unsigned int i;

		if (member->multi.imr_multiaddr.s_addr != packet->daddr ||
		    member->multi.imr_ifindex != ifindex)
			continue;
		*joined = true;
		sources = rcu_dereference(member->sflist);
		for (i = 0; sources && i < sources->sl_count; i++)
			if (sources->sl_addr[i] == packet->saddr)
				return member->sfmode == MCAST_INCLUDE;
		return member->sfmode == MCAST_EXCLUDE;
	}
	return exa_mc_all(sk);
}

static bool wants_group(const struct net *net, const struct sock *sk,
			const struct exa_packet *packet, int ifindex, bool *joined)
{
	const struct inet_sock *inet = inet_sk(sk);
	int bound = READ_ONCE(sk->sk_bound_dev_if);

	*joined = false;
	if (!net_eq(sock_net(sk), net) || udp_sk(sk)->udp_port_hash != ntohs(packet->dport) ||
	    (inet->inet_daddr && inet->inet_daddr != packet->saddr) ||
	    (inet->inet_dport != packet->sport && inet->inet_dport) ||
	    (inet->inet_rcv_saddr && inet->inet_rcv_saddr != packet->daddr) ||
	    ipv6_only_sock(sk) || (bound && bound != ifindex))
		return false;
	return member_allows(sk, packet, ifindex, joined);
}

static void lookup_group(struct net *net, const struct exa_packet *packet, int ifindex,
			 struct exa_receivers *receivers)
{
	struct udp_hslot *slot = udp_hashslot(exa_udp_table(net), net, ntohs(packet->dport));
	/* of a group only its own membership says that this host is a member there at all */
	bool joined, member = !ipv4_is_multicast(packet->daddr);
	struct sock *sk;

	sk_for_each_rcu(sk, &slot->head) {
		if (!wants_group(net, sk, packet, ifindex, &joined))
			continue;
		if (receivers->count == EXA_RECEIVERS) {
			receivers->kernel = true;
			return;
		}
		receivers->sk[receivers->count++] = sk;
		member |= joined;
	}
	if (!member)
		receivers->kernel = true;
}

/* Under RCU */
void exa_lookup(struct net *net, const struct exa_packet *packet, int ifindex,
		struct exa_receivers *receivers)
{
	const struct sock_reuseport *group;
	struct sock *sk;

	receivers->count = 0;
	receivers->kernel = false;
	if (packet->group) {
		lookup_group(net, packet, ifindex, receivers);
		return;
	}
	sk = exa_udp_lookup(net, packet->saddr, packet->sport, packet->daddr, packet->dport,
			    ifindex);
	if (!sk)
		return;
	receivers->sk[receivers->count++] = sk;
	/* a program that selects by content would have been given the packet */
	group = rcu_dereference(sk->sk_reuseport_cb);
	receivers->kernel = group && rcu_access_pointer(group->prog);
}

static bool raw_sockets(const struct net *net)
{
	const struct hlist_head *head =
		&raw_v4_hashinfo.ht[raw_hashfunc(net, IPPROTO_UDP)];

	return !hlist_empty(head);
}

/* What the process is to be told along with a datagram; OPTION when it is more than we know */
enum exasock_reason exa_rx_options(struct sock *sk, const struct exa_packet *packet, u16 *cmsg)
{
	const unsigned long known = IP_CMSG_PKTINFO | IP_CMSG_TTL | IP_CMSG_TOS;
	unsigned long flags = inet_cmsg_flags(inet_sk(sk));
	u32 stamps = READ_ONCE(sk->sk_tsflags);
	u16 bits = 0;

	if (packet->bytes > EXASOCK_FRAME_MOST(exa_slots))
		return EXASOCK_R_SIZE;
	if (exa_sock_is_foreign(sk))
		return EXASOCK_R_FOREIGN;
	if (raw_sockets(sock_net(sk)))
		return EXASOCK_R_SHARED;
	if (flags & ~known || sk->sk_flags & ~EXA_FLAGS_RX || stamps & ~EXA_STAMPS_RX ||
	    exa_stamp_is_told(sk) || exa_stamp_is_chance(stamps) ||
	    READ_ONCE(udp_sk(sk)->encap_type) || exa_udp_gro(sk) ||
	    READ_ONCE(sk->sk_peek_off) >= 0 ||
	    READ_ONCE(inet_sk(sk)->min_ttl) > packet->ttl)
		return EXASOCK_R_OPTION;
	if (flags & IP_CMSG_PKTINFO)
		bits |= EXASOCK_CMSG_PKTINFO;
	if (flags & IP_CMSG_TTL)
		bits |= EXASOCK_CMSG_TTL;
	if (flags & IP_CMSG_TOS)
		bits |= EXASOCK_CMSG_TOS;
	if (sock_flag(sk, SOCK_RCVTSTAMP))
		bits |= sock_flag(sk, SOCK_RCVTSTAMPNS) ? EXASOCK_CMSG_TIMESTAMPNS :
							  EXASOCK_CMSG_TIMESTAMP;
	if (stamps & SOF_TIMESTAMPING_SOFTWARE && stamps & SOF_TIMESTAMPING_RX_SOFTWARE)
		bits |= EXASOCK_CMSG_TIMESTAMPING_SW;
	if (stamps & SOF_TIMESTAMPING_RAW_HARDWARE)
		bits |= EXASOCK_CMSG_TIMESTAMPING_HW;
	/* as sock_recv_cmsgs(): from now on SIOCGSTAMP has something to tell */
	if (unlikely(sock_read_timestamp(sk) == SK_DEFAULT_STAMP) &&
	    !sock_flag(sk, SOCK_RCVTSTAMP))
		sock_write_timestamp(sk, 0);
	*cmsg = bits;
	return EXASOCK_R_NONE;
}
