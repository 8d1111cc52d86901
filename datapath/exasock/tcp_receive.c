// SPDX-License-Identifier: GPL-2.0-only
/*
 * Segments of attached connections. While a connection is at home they are passed to the
 * stack here, under the stream's lock, so that none is under way anywhere when it is
 * taken. While it is taken the next segment in order, with nothing unusual about it, is
 * all that is understood; whatever else comes waits until the connection is at home.
 */

#include <net/inet_hashtables.h>
#include <net/raw.h>

#include "tcp.h"

/* However small: a sender counts segments, and may have room for few (RFC 5681, 4.2) */
#define UNACKED_MOST	4

/* How much lies in the ring. The process says, and may say anything. Locked. */
u64 exa_stream_unread(struct exa_stream *es)
{
	es->consumed = exa_shared_stream_read(&es->shared, es->consumed, es->head);
	return es->head - es->consumed;
}

static bool raw_sockets(const struct net *net)
{
	return !hlist_empty(&raw_v4_hashinfo.ht[raw_hashfunc(net, IPPROTO_TCP)]);
}

/* What the stack would have looked at before TCP */
static u32 lower_obstacle(struct exa_stream *es, const struct exa_iface *iface,
			  const struct exa_packet *packet)
{
	__be32 spec_dst;
	u32 reason;

	if (iface->ns != es->ns || iface->ifindex != es->seen)
		return EXASOCK_R_DEVICE;
	if (raw_sockets(es->ns->net))
		return EXASOCK_R_SHARED;
	if (exa_stream_is_foreign(es->sk))
		return EXASOCK_S_FOREIGN;
	if (exa_stream_options_changed(es))
		return EXASOCK_R_OPTION;
	reason = exa_rx_obstacle(es->ns, iface);
	if (!reason)
		reason = exa_rx_sock_obstacle(es->sk);
	if (!reason && READ_ONCE(es->ns->bypass) && exa_tracked(es->ns->net))
		reason = EXASOCK_R_FILTER;
	if (!reason && !exa_flow_local(es->ns, iface, packet, &spec_dst))
		reason = EXASOCK_R_ROUTE;
	return reason;
}

/* Is it the next one, and plain? */
static u32 segment_obstacle(struct exa_stream *es, const struct exa_segment *segment)
{
	const u32 length = segment->packet.length;

	if (segment->flags & ~(TCPHDR_ACK | TCPHDR_PSH | TCPHDR_ECE | TCPHDR_CWR) ||
	    !(segment->flags & TCPHDR_ACK))
		return EXASOCK_S_FLAGS;
	if (segment->reserved || segment->flags & (TCPHDR_ECE | TCPHDR_CWR) ||
	    (segment->packet.tos & INET_ECN_MASK) == INET_ECN_CE)
		return EXASOCK_S_ECN;
	if (es->stamps ? !segment->stamped : !segment->bare)
		return EXASOCK_S_TCPOPTION;
	if (es->stamps && (s32)(segment->tsval - es->ts_recent) < 0)
		return EXASOCK_S_PAWS;
	if (segment->seq != es->rcv_nxt)
		return EXASOCK_S_ORDER;
	if (before(segment->ack, es->snd_una) || after(segment->ack, es->snd_nxt))
		return EXASOCK_S_BADACK;
	if (!segment->window || after(segment->seq + length, es->rcv_edge))
		return EXASOCK_S_WINDOW;
	if (!length && segment->ack == es->snd_una && es->snd_una != es->snd_nxt &&
	    (u32)segment->window << es->snd_wscale == es->snd_wnd)
		return EXASOCK_S_DUPACK;
	return 0;
}

/* May its data go into the ring? */
static u32 data_obstacle(struct exa_stream *es, u32 length)
{
	u64 heartbeat = exa_shared_heartbeat(&es->shared);

	if (!exa_fresh(heartbeat) && !exa_looked(heartbeat, exa_stream_hold_ns()))
		return EXASOCK_R_IDLE;
	if (exa_stream_unread(es) + length > min(exa_stream_room, es->rcv_window))
		return EXASOCK_R_FULL;
	return 0;
}

/* The payload into the ring, behind the head, and its sum; the card does not wait */
static __wsum copy_payload(struct exa_stream *es, const struct exa_packet *packet)
{
	const struct exanic_rx_frame *frame = packet->frame;
	u32 done = 0;
	__wsum sum = 0;

	while (done < packet->length) {
		u32 at = packet->payload + done, chunk = at / EXANIC_RX_CHUNK_DATA;
		u32 inside = at % EXANIC_RX_CHUNK_DATA;
		u32 part = min(packet->length - done, EXANIC_RX_CHUNK_DATA - inside);
		u8 *to = exa_stream_at(es, es->head + done, &part);

		const u8 *from = exanic_rx_frame_chunk(frame, chunk)->data + inside;

		sum = csum_block_add(sum, csum_partial_copy_nocheck(from, to, part), done);
		done += part;
	}
	return sum;
}

/* Is it what was sent, all of it? */
static bool is_intact(struct exa_stream *es, const struct exa_segment *segment)
{
	const struct exa_packet *packet = &segment->packet;
	u32 header = packet->payload - packet->network - sizeof(struct iphdr);
	__wsum sum = csum_add(segment->sum, copy_payload(es, packet));

	return exanic_rx_frame_intact(packet->frame) &&
	       !csum_tcpudp_magic(packet->saddr, packet->daddr, header + packet->length,
				  IPPROTO_TCP, sum);
}

static void acknowledged(struct exa_stream *es, const struct exa_segment *segment)
{
	u32 window = (u32)segment->window << es->snd_wscale, flight = es->flight;

	es->snd_wnd = window;
	es->snd_wl1 = segment->seq;
	es->max_window = max(es->max_window, window);
	if (segment->ack == es->snd_una)
		return;
	es->snd_una = segment->ack;
	while (es->flight && !after(es->ends[es->first & (EXA_FLIGHT - 1)], es->snd_una)) {
		es->first++;
		es->flight--;
	}
	exa_congestion_acked(es, flight - es->flight);
	if (es->flight)
		exa_stream_timer(es, &es->loss_at, exa_stream_loss_ns(es));
	else
		es->loss_at = 0;
}

static void delivered(struct exa_stream *es, u32 length)
{
	es->head += length;
	es->rcv_nxt += length;
	exa_publish_more(&es->shared.stream_ring->rx_segments, &es->rx_segments, 1);
	exa_publish_more(&es->shared.stream_ring->rx_bytes, &es->rx_bytes, length);
	/* the bytes, then the number that makes readers look */
	exa_publish_u64_release(&es->shared.stream_ring->head, es->head);
	smp_mb();	/* with who stops looking, and then looks at the head */
	if (!exa_shared_heartbeat(&es->shared)) {
		exa_stream_send_home(es, EXASOCK_R_SLEEP);
		return;
	}
	if (!es->narrow && es->rcv_edge - es->rcv_nxt < es->rcv_window / 2) {
		es->narrow = true;	/* it must be told when it is wide again */
		exa_stream_timer(es, &es->look_at, EXA_NARROW_NS);
	} else if (!es->look_at) {
		exa_stream_timer(es, &es->look_at, exa_stream_hold_ns());
	}
}

static void owe_acknowledgment(struct exa_stream *es)
{
	if (es->place != EXA_TAKEN || es->rcv_acked == es->rcv_nxt)
		return;		/* it went along with data */
	if (++es->unacked >= UNACKED_MOST || es->rcv_nxt - es->rcv_acked >= 2 * es->rcv_mss)
		exa_stream_acknowledge(es);
	else if (!es->ack_at)
		exa_stream_timer(es, &es->ack_at, EXA_ACK_NS);
}

/* 0: it is done with */
static u32 accept(struct exa_stream *es, const struct exa_iface *iface,
		  const struct exa_segment *segment)
{
	const u32 length = segment->packet.length;
	u32 reason;

	reason = lower_obstacle(es, iface, &segment->packet);
	if (!reason)
		reason = segment_obstacle(es, segment);
	if (!reason && length)
		reason = data_obstacle(es, length);
	if (!reason && !is_intact(es, segment))
		reason = EXASOCK_R_HEADER;
	if (reason)
		return reason;

	es->last = ktime_get_ns();
	/* of what is acknowledged at once, the first one's is echoed (RFC 7323, 4.3) */
	if (es->stamps && !after(segment->seq, es->rcv_acked))
		es->ts_recent = segment->tsval;
	acknowledged(es, segment);
	if (length)
		delivered(es, length);
	exa_stream_push(es);
	if (length)
		owe_acknowledgment(es);
	return 0;
}

/* True: it is taken care of, or lost as on any wire; it was not acknowledged */
static bool hold(struct exa_stream *es, const struct exa_iface *iface,
		 const struct exanic_rx_frame *frame)
{
	struct sk_buff *skb = NULL;

	if (skb_queue_len(&es->held) < EXA_STREAM_HELD)
		skb = exanic_rx_frame_to_skb(frame);
	if (skb) {
		skb->skb_iif = iface->ifindex;	/* until the stack sets it */
		__skb_queue_tail(&es->held, skb);
	}
	return true;
}

/* To the stack, now: see take.c */
static bool pass(struct exa_stream *es, const struct exa_iface *iface,
		 const struct exa_packet *packet)
{
	const struct exanic_rx_frame *frame = packet->frame;
	struct sk_buff *skb = exanic_rx_frame_to_skb(frame);

	es->seen = iface->ifindex;
	es->vid = packet->vid;
	ether_addr_copy(es->mac, packet->dmac);
	WRITE_ONCE(es->port, frame->dev);
	if (skb) {
		netif_receive_skb(skb);
		return true;
	}
	exa_settle(&es->settling);	/* the driver delivers it, some time */
	return false;
}

static bool received(struct exa_stream *es, const struct exa_iface *iface,
		     const struct exa_segment *segment, bool odd)
{
	const struct exanic_rx_frame *frame = segment->packet.frame;
	enum exa_place place;
	bool taken = true;
	u32 reason;

	spin_lock_bh(&es->lock);
	place = es->sk ? es->place : EXA_HOME;
	if (place != EXA_HOME && !READ_ONCE(iface->up)) {
		/* its device is going: nothing of it waits any more, it is lost (iface_lose()) */
		exa_stream_send_home(es, EXASOCK_R_DEVICE);
		goto unlock;
	}
	switch (place) {
	case EXA_HOME:
		taken = pass(es, iface, &segment->packet);
		break;
	case EXA_TAKEN:
		reason = odd ? EXASOCK_R_HEADER : accept(es, iface, segment);
		if (!reason)
			break;
		exa_stream_send_home(es, reason);
		fallthrough;
	case EXA_LEAVING:
		taken = hold(es, iface, frame);
		break;
	}
unlock:
	spin_unlock_bh(&es->lock);
	return taken;
}

/* Whose it is, with a reference (rule N3) */
static struct sock *lookup(const struct exa_iface *iface, const struct exa_packet *packet)
{
	struct net *net = iface->ns->net;	/* not const: 6.1 wants it so */

#ifdef EXASOCK_HAVE_LOOKUP_HASHINFO
	return __inet_lookup_established(net, net->ipv4.tcp_death_row.hashinfo, packet->saddr,
					 packet->sport, packet->daddr, ntohs(packet->dport),
					 iface->ifindex, 0);
#else
	return __inet_lookup_established(net, packet->saddr, packet->sport, packet->daddr,
					 ntohs(packet->dport), iface->ifindex, 0);
#endif
}

/* Under RCU in NAPI. False: it is no attached connection's. */
bool exa_stream_receive(const struct exanic_rx_frame *frame)
{
	struct exa_segment segment;
	struct exa_iface *iface;
	struct exa_stream *es;
	enum exa_parse parsed;
	bool taken = false;
	struct sock *sk;

	if (!READ_ONCE(exa_stream_kind.count))
		return false;
	parsed = exa_segment_parse(frame, &segment);
	if (parsed == EXA_PARSE_OTHER)
		return false;
	iface = exa_iface_of_frame(frame->dev, segment.packet.vid, segment.packet.dmac, false);
	if (!iface)
		return parsed != EXA_PARSE_UNSEEN && exa_stream_is_stray(frame, &segment.packet);
	if (parsed == EXA_PARSE_UNSEEN) {
		exa_streams_unseen(iface->ns, segment.packet.saddr, segment.packet.daddr);
		return false;
	}
	sk = lookup(iface, &segment.packet);
	if (!sk)
		return false;
	es = sk_fullsock(sk) ? exa_stream_find(sk) : NULL;
	if (es)
		taken = received(es, iface, &segment, parsed == EXA_PARSE_ODD);
	sock_gen_put(sk);
	return taken;
}
