// SPDX-License-Identifier: GPL-2.0-only
/*
 * A segment of a taken connection into the card. All of its headers are made here, from
 * the connection's state and the kernel's route and neighbour of this moment.
 */

#include <linux/slab.h>
#include <net/inet_sock.h>
#include <net/ip.h>

#include "tcp.h"

#define IMAGE_PAYLOAD	EXA_STREAM_HEADERS	/* where it lies in the image */

/*
 * By which way the connection sends: 0 and *@dst, or why it cannot past the stack. Under
 * RCU with bottom halves off.
 */
u32 exa_stream_path(struct exa_stream *es, struct sock *sk, struct exa_dst **dst)
{
	const struct inet_sock *inet = inet_sk(sk);
	struct exa_dst_key key = {
		.daddr = inet->inet_daddr,
		.saddr = inet->inet_saddr,
		.dport = inet->inet_dport,
		.sport = inet->inet_sport,
		.oif = READ_ONCE(sk->sk_bound_dev_if),
		.mark = READ_ONCE(sk->sk_mark),
		.uid = __kuid_val(sk->sk_uid),
		.tos = READ_ONCE(inet->tos),
		.local = sock_flag(sk, SOCK_LOCALROUTE),
		.stream = true,
	};
	u32 reason;

	if (exa_stream_is_foreign(sk))
		return EXASOCK_S_FOREIGN;
	*dst = exa_dst_find(es->ns, sk, &key, &es->dst_at);
	if (!*dst)
		return EXASOCK_R_ROUTE;
	if (!(*dst)->iface || !READ_ONCE((*dst)->iface->up))
		return EXASOCK_R_DEVICE;
	if ((*dst)->rt->rt_type != RTN_UNICAST || (*dst)->rt->dst.xfrm)
		return EXASOCK_R_ROUTE;
	reason = exa_tx_obstacle(es->ns, (*dst)->iface, sk);
	if (!reason && READ_ONCE(es->ns->bypass) && exa_tracked(es->ns->net))
		reason = EXASOCK_R_FILTER;
	return reason;
}

/* TCP's clock is ktime, of which it tells milliseconds, or microseconds where the route says so */
static u32 now_stamp(const struct exa_stream *es)
{
	u64 now = es->usec_stamps ? div_u64(es->last, NSEC_PER_USEC) :
				    div_u64(es->last, NSEC_PER_SEC / TCP_TS_HZ);

	return (u32)now + es->tsoffset;
}

/* The window that the segment tells; never less than was told before */
static __be16 tell_window(struct exa_stream *es)
{
	u32 read_to = es->rcv_nxt - (u32)exa_stream_unread(es);
	u32 edge = read_to + es->rcv_window, field;

	if (before(edge, es->rcv_edge))
		edge = es->rcv_edge;
	field = DIV_ROUND_UP(edge - es->rcv_nxt, 1U << es->rcv_wscale);
	field = min(field, 0xffffU);
	es->rcv_edge = es->rcv_nxt + (field << es->rcv_wscale);
	return htons(field);
}

static struct tcphdr *make_tcp(struct exa_stream *es, const struct exa_dst *dst, u32 seq,
			       u32 length, u8 flags, __wsum sum)
{
	u32 header = es->stamps ? sizeof(struct tcphdr) + TCPOLEN_TSTAMP_ALIGNED :
				  sizeof(struct tcphdr);
	struct tcphdr *tcp = (struct tcphdr *)(es->image + IMAGE_PAYLOAD - header);
	__be32 *option = (__be32 *)(tcp + 1);

	memset(tcp, 0, sizeof(*tcp));
	tcp->source = dst->key.sport;
	tcp->dest = dst->key.dport;
	tcp->seq = htonl(seq);
	tcp->ack_seq = htonl(es->rcv_nxt);
	tcp->doff = header / 4;
	tcp_flag_byte(tcp) = flags;
	tcp->window = tell_window(es);
	if (es->stamps) {
		option[0] = htonl(TCPOPT_NOP << 24 | TCPOPT_NOP << 16 | TCPOPT_TIMESTAMP << 8 |
				  TCPOLEN_TIMESTAMP);
		option[1] = htonl(now_stamp(es));
		option[2] = htonl(es->ts_recent);
	}
	tcp->check = csum_tcpudp_magic(dst->source, dst->key.daddr, header + length, IPPROTO_TCP,
				       csum_partial(tcp, header, sum));
	return tcp;
}

/* Returns where the frame begins */
static u8 *make_lower(struct sock *sk, const struct exa_dst *dst, struct tcphdr *tcp, u32 length,
		      const u8 *mac)
{
	const struct exa_iface *iface = dst->iface;
	struct iphdr *ip = (struct iphdr *)tcp - 1;
	int ttl = READ_ONCE(inet_sk(sk)->uc_ttl);
	struct ethhdr *eth;

	memset(ip, 0, sizeof(*ip));
	ip->version = 4;
	ip->ihl = sizeof(*ip) / 4;
	ip->tos = dst->key.tos;
	ip->tot_len = htons(sizeof(*ip) + tcp->doff * 4 + length);
	ip->ttl = ttl < 0 ? ip4_dst_hoplimit(&dst->rt->dst) : ttl;
	ip->protocol = IPPROTO_TCP;
	ip->saddr = dst->source;
	ip->daddr = dst->key.daddr;
	if (ip_dont_fragment(sk, &dst->rt->dst))
		ip->frag_off = htons(IP_DF);
	ip->id = htons(atomic_inc_return(&inet_sk(sk)->inet_id));
	ip_send_check(ip);

	if (iface->vid) {
		struct vlan_ethhdr *vlan = (struct vlan_ethhdr *)ip - 1;

		vlan->h_vlan_proto = htons(ETH_P_8021Q);
		vlan->h_vlan_TCI = htons(exa_iface_tci(iface, sk));
		vlan->h_vlan_encapsulated_proto = htons(ETH_P_IP);
		eth = (struct ethhdr *)vlan;
	} else {
		eth = (struct ethhdr *)ip - 1;
		eth->h_proto = htons(ETH_P_IP);
	}
	ether_addr_copy(eth->h_dest, mac);
	ether_addr_copy(eth->h_source, iface->dev->dev_addr);
	return (u8 *)eth;
}

/* @length bytes of the send buffer from @seq on, summed; in two parts where it wraps */
static __wsum copy_payload(struct exa_stream *es, u32 seq, u32 length)
{
	u32 at = seq & (exa_stream_room - 1), part = min(length, exa_stream_room - at);
	u8 *to = es->image + IMAGE_PAYLOAD;
	__wsum sum = csum_partial_copy_nocheck(es->buffer + at, to, part);

	if (part < length)
		sum = csum_block_add(sum, csum_partial_copy_nocheck(es->buffer, to + part,
								    length - part), part);
	return sum;
}

static u32 transmit(struct exa_stream *es, u32 seq, u32 length, u8 flags)
{
	struct sock *sk = es->sk;
	u8 *eth, mac[ETH_ALEN];
	struct exa_dst *dst;
	struct tcphdr *tcp;
	__wsum sum = 0;
	u32 reason;

	if (exa_stream_options_changed(es))
		return EXASOCK_R_OPTION;
	reason = exa_stream_path(es, sk, &dst);
	if (!reason && length + 40 + (es->stamps ? TCPOLEN_TSTAMP_ALIGNED : 0) >
		       exa_dst_mtu(dst))
		reason = EXASOCK_R_SIZE;
	if (!reason)
		reason = exa_dst_mac(dst, sk, mac);
	if (reason)
		return reason;
	if (length)
		sum = copy_payload(es, seq, length);
	memset(es->image + IMAGE_PAYLOAD + length, 0, 8);
	tcp = make_tcp(es, dst, seq, length, flags, sum);
	eth = make_lower(sk, dst, tcp, length, mac);
	return exa_txq_send(dst->iface->port,
			    eth - EXANIC_TX_CHUNK_HEADER - EXANIC_TX_CHUNK_PADDING,
			    es->image + IMAGE_PAYLOAD + length - eth + EXANIC_TX_CHUNK_HEADER +
			    EXANIC_TX_CHUNK_PADDING);
}

/*
 * Locked, taken, bottom halves off, at the time @es->last. 0, or why not: then it is the
 * kernel's to send.
 */
u32 exa_stream_transmit(struct exa_stream *es, u32 seq, u32 length, u8 flags)
{
	u32 reason;

	rcu_read_lock();
	reason = transmit(es, seq, length, flags);
	rcu_read_unlock();
	if (reason)
		return reason;
	es->rcv_acked = es->rcv_nxt;
	es->unacked = 0;
	es->ack_at = 0;
	if (length) {
		es->sent_at = es->last;
		exa_publish_more(&es->shared.stream_ring->tx_segments, &es->tx_segments, 1);
		exa_publish_more(&es->shared.stream_ring->tx_bytes, &es->tx_bytes, length);
	} else {
		exa_publish_more(&es->shared.stream_ring->acks, &es->acks, 1);
	}
	return 0;
}

/* The same. While the card's memory has no room, which others may have taken, it is owed. */
void exa_stream_acknowledge(struct exa_stream *es)
{
	u32 reason = exa_stream_transmit(es, es->snd_nxt, 0, TCPHDR_ACK);

	if (reason == EXASOCK_R_BUSY)
		exa_stream_timer(es, &es->ack_at, EXA_BUSY_NS);
	else if (reason)
		exa_stream_send_home(es, reason);
}
