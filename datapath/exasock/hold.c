// SPDX-License-Identifier: GPL-2.0-only
/*
 * Holding datagrams for a process, and giving them to the stack after all.
 *
 * One lock for each attachment orders all of it: a datagram is held, or passed, or
 * taken back in the order of its port's ring. Whatever goes to the stack goes after
 * everything that was held before it. The process takes part through claim words alone,
 * which it may scribble over: then it has its own datagrams twice or not at all, and
 * nothing else changes, for what the stack is given is in memory that only we write.
 */

#include <linux/etherdevice.h>
#include <linux/ktime.h>
#include <linux/skbuff.h>
#include <linux/timekeeping.h>
#include <net/inet_sock.h>
#include <net/udp.h>

#include "exasock.h"

static u32 *claim_of(const struct exa_sock *es, u32 number)
{
	return &es->control->claim[number & (exa_slots - 1)];
}

static u32 number_next(u32 number)
{
	return (number + 1) & EXASOCK_NUMBER_MASK;
}

static void count(u64 *counter)
{
	WRITE_ONCE(*counter, *counter + 1);
}

/* As the driver would have delivered it */
static void deliver(struct exa_sock *es, const struct exasock_slot *slot, struct net_device *port)
{
	struct sk_buff *skb = netdev_alloc_skb_ip_align(port, slot->frame);

	if (!skb) {
		count(&es->ring->rx_kernel[EXASOCK_R_MEMORY]);
		return;
	}
	skb_put_data(skb, slot->data, slot->frame);
	if (slot->hardware_ns)
		skb_hwtstamps(skb)->hwtstamp = ns_to_ktime(slot->hardware_ns);
	if (slot->software_ns)
		skb->tstamp = ns_to_ktime(slot->software_ns);
	skb->protocol = eth_type_trans(skb, port);
	skb->ip_summed = CHECKSUM_UNNECESSARY;	/* it was held because it is right */
	skb_record_rx_queue(skb, 0);
	netif_receive_skb(skb);
}

/* Everything that no reader has claimed goes to the stack, in order. Locked, no bottom halves. */
static void take_all(struct exa_sock *es, enum exasock_reason reason)
{
	u32 number;

	for (number = es->oldest; number != es->head; number = number_next(number)) {
		u32 held = EXASOCK_CLAIM(number, EXASOCK_STATE_HELD);
		unsigned int at = number & (exa_slots - 1);

		if (cmpxchg(claim_of(es, number), held,
			    EXASOCK_CLAIM(number, EXASOCK_STATE_KERNEL)) == held) {
			count(&es->ring->rx_taken);
			count(&es->ring->rx_kernel[reason]);
			deliver(es, exa_slot(es, number), es->held[at].port);
		}
	}
	es->oldest = es->head;
}

void exa_flush(struct exa_sock *es, enum exasock_reason reason)
{
	spin_lock_bh(&es->lock);
	take_all(es, reason);
	spin_unlock_bh(&es->lock);
}

/*
 * A datagram of this socket that is not held: to the stack, after what is. Here, not by
 * the driver, which gathers several before it delivers: the next one may be held before
 * this one would have arrived. False: the driver has to (no memory).
 */
bool exa_pass(struct exa_sock *es, const struct exanic_rx_frame *frame, enum exasock_reason reason)
{
	struct sk_buff *skb = exanic_rx_frame_to_skb(frame);

	spin_lock_bh(&es->lock);
	take_all(es, reason);
	count(&es->ring->rx_kernel[reason]);
	if (skb)
		netif_receive_skb(skb);
	spin_unlock_bh(&es->lock);
	return skb;
}

/*
 * A datagram, or a part of one, that may be for any socket of the namespace: to the stack,
 * after what any of them has held.
 */
bool exa_pass_unseen(struct exa_ns *ns, const struct exanic_rx_frame *frame)
{
	struct sk_buff *skb = exanic_rx_frame_to_skb(frame);
	struct exa_sock *es;

	hlist_for_each_entry_rcu(es, &ns->socks, sibling)
		if (READ_ONCE(es->oldest) != READ_ONCE(es->head))
			exa_flush(es, EXASOCK_R_HEADER);
	if (skb)
		netif_receive_skb(skb);
	return skb;
}

/* The first one that is still held decides; those after it are younger */
static enum hrtimer_restart hold_timer(struct hrtimer *timer)
{
	struct exa_sock *es = container_of(timer, struct exa_sock, timer);
	enum hrtimer_restart restart = HRTIMER_NORESTART;
	u64 now = ktime_get_ns(), hold = exa_hold_ns();
	u32 number;

	spin_lock_bh(&es->lock);
	if (hrtimer_is_queued(timer))	/* started again while this waited for the lock */
		goto unlock;
	for (number = es->oldest; number != es->head; number = number_next(number))
		if (READ_ONCE(*claim_of(es, number)) ==
		    EXASOCK_CLAIM(number, EXASOCK_STATE_HELD))
			break;
	es->oldest = number;
	if (number != es->head) {
		u64 age = now - es->held[number & (exa_slots - 1)].since;

		if (age < hold) {
			hrtimer_forward_now(timer, ns_to_ktime(hold - age));
			restart = HRTIMER_RESTART;
		} else {
			take_all(es, EXASOCK_R_TIMEOUT);
		}
	}
unlock:
	spin_unlock_bh(&es->lock);
	return restart;
}

void exa_hold_start(struct exa_sock *es)
{
	hrtimer_setup(&es->timer, hold_timer, CLOCK_MONOTONIC, HRTIMER_MODE_REL_SOFT);
}

/* Has the socket something in its own queue that must be read first? */
static bool queued(struct sock *sk)
{
	return !skb_queue_empty_lockless(&sk->sk_receive_queue) ||
	       !skb_queue_empty_lockless(&udp_sk(sk)->reader_queue) || READ_ONCE(sk->sk_err) ||
	       READ_ONCE(sk->sk_shutdown) & RCV_SHUTDOWN;
}

static bool slot_free(const struct exa_sock *es, u32 number)
{
	u32 old = (number - exa_slots) & EXASOCK_NUMBER_MASK;
	u32 claim = READ_ONCE(*claim_of(es, number));

	return claim != EXASOCK_CLAIM(old, EXASOCK_STATE_HELD) &&
	       claim != EXASOCK_CLAIM(old, EXASOCK_STATE_USER);
}

/*
 * The datagram with everything a reader needs. False: the kernel should judge it, for its
 * checksum is wrong, or the card has overtaken us.
 */
static bool fill(struct exasock_slot *slot, u32 number, const struct exa_iface *iface,
		 const struct exa_packet *packet, u16 cmsg, __be32 spec_dst)
{
	const struct exanic_rx_frame *frame = packet->frame;

	WRITE_ONCE(slot->number, number);
	slot->offset = packet->payload;
	slot->length = packet->length;
	slot->saddr = packet->saddr;
	slot->daddr = packet->daddr;
	slot->sport = packet->sport;
	slot->dport = packet->dport;
	slot->ifindex = iface->ifindex;
	slot->spec_dst = spec_dst;
	slot->cmsg = cmsg;
	slot->ttl = packet->ttl;
	slot->tos = packet->tos;
	slot->software_ns = 0;
	slot->hardware_ns = 0;
	if (cmsg & (EXASOCK_CMSG_TIMESTAMP | EXASOCK_CMSG_TIMESTAMPNS |
		    EXASOCK_CMSG_TIMESTAMPING_SW))
		slot->software_ns = ktime_get_real_ns();
	if (exanic_rx_stamping(frame->dev))
		slot->hardware_ns = ktime_to_ns(exanic_timestamp_to_ktime(frame->dev,
									  frame->timestamp));
	slot->frame = packet->bytes;
	exanic_rx_frame_copy(frame, slot->data, packet->bytes, NULL);
	if (!exanic_rx_frame_intact(frame))
		return false;
	if (packet->check) {
		u32 at = packet->payload - sizeof(struct udphdr);
		u32 length = packet->length + sizeof(struct udphdr);

		if (csum_tcpudp_magic(packet->saddr, packet->daddr, length, IPPROTO_UDP,
				      csum_partial(slot->data + at, length, 0)))
			return false;
	}
	return true;
}

/* Why not, with the attachment locked */
static enum exasock_reason hold(struct exa_sock *es, const struct exa_iface *iface,
				const struct exa_packet *packet, u16 cmsg, __be32 spec_dst)
{
	struct exa_held *held;
	u32 number = es->head;

	if (!es->sk || !READ_ONCE(iface->up))
		return EXASOCK_R_DEVICE;
	/* what the driver had in hand before it was attached may still be on its way */
	if (!es->settled) {
		if (!poll_state_synchronize_rcu(es->grace))
			return EXASOCK_R_IDLE;
		es->settled = true;
	}
	/* again: it may have stopped looking and flushed before the lock was ours */
	if (!exa_fresh(READ_ONCE(es->control->heartbeat)))
		return EXASOCK_R_IDLE;
	if (queued(es->sk))
		return EXASOCK_R_QUEUE;
	if (!slot_free(es, number))
		return EXASOCK_R_FULL;
	if (!fill(exa_slot(es, number), number, iface, packet, cmsg, spec_dst))
		return EXASOCK_R_HEADER;

	held = &es->held[number & (exa_slots - 1)];
	held->port = packet->frame->dev;
	held->since = ktime_get_ns();
	if (((number - es->oldest) & EXASOCK_NUMBER_MASK) >= exa_slots)
		es->oldest = (number - exa_slots + 1) & EXASOCK_NUMBER_MASK;
	/* the content, then the claim word, then the number that makes readers look */
	smp_store_release(claim_of(es, number), EXASOCK_CLAIM(number, EXASOCK_STATE_HELD));
	es->head = number_next(number);
	smp_store_release(&es->ring->head, es->head);	/* read first by readers */
	count(&es->ring->rx_held);
	if (!hrtimer_is_queued(&es->timer))
		hrtimer_start(&es->timer, ns_to_ktime(exa_hold_ns()), HRTIMER_MODE_REL_SOFT);
	return EXASOCK_R_NONE;
}

/* EXASOCK_R_NONE: it is held. Else it must go to the stack, by exa_pass(). */
enum exasock_reason exa_hold(struct exa_sock *es, const struct exa_iface *iface,
			     const struct exa_packet *packet, u16 cmsg, __be32 spec_dst)
{
	enum exasock_reason reason;

	spin_lock_bh(&es->lock);
	reason = hold(es, iface, packet, cmsg, spec_dst);
	spin_unlock_bh(&es->lock);
	return reason;
}
