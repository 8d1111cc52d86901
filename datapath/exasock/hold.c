// SPDX-License-Identifier: GPL-2.0-only
/*
 * Holding datagrams for a process, and giving them to the stack after all.
 *
 * One lock for each attachment orders all of it: a datagram is held, or passed, or
 * taken back in the order of its port's ring. Whatever goes to the stack goes after
 * everything that was held before it.
 *
 * The process takes part through claim words alone, which say whether a reader took a
 * number and nothing else. Where a datagram begins, how long it is, by which port and when
 * it came is in struct exa_held, which is not mapped by anybody: what a claim word or the
 * ring's pages say of it is never asked (rules B1, B2). So whoever scribbles over claim
 * words has his own datagrams twice or not at all, and nothing else changes.
 */

#include <linux/etherdevice.h>
#include <linux/ktime.h>
#include <linux/skbuff.h>
#include <linux/timekeeping.h>
#include <net/inet_sock.h>
#include <net/udp.h>

#include "exasock.h"

static u32 slot_at(u32 number)
{
	return number & (exa_slots - 1);
}

static u32 number_after(u32 number, u32 slots)
{
	return (number + slots) & EXASOCK_NUMBER_MASK;
}

static u32 number_next(u32 number)
{
	return number_after(number, 1);
}

static void hold_count_kernel(struct exa_sock *es, enum exasock_reason reason)
{
	exa_publish_more(&es->shared.ring->rx_kernel[reason], &es->rx_kernel[reason], 1);
}

/*
 * For this socket, whoever else might want it: others have theirs. The stack takes a
 * buffer's socket for the receiver, as after an early lookup. It is valid: see sock.c.
 */
static void address(struct exa_sock *es, struct sk_buff *skb)
{
	skb->sk = es->sk;
	skb->destructor = sock_pfree;
}

/* As the driver would have delivered it */
static void deliver(struct exa_sock *es, const u8 *data, const struct exa_held *held)
{
	struct net_device *port = held->port;
	struct sk_buff *skb;

	if (held->alone && !es->sk)
		return;		/* the socket is gone, and its queue */
	skb = netdev_alloc_skb_ip_align(port, held->frame);

	if (!skb) {
		hold_count_kernel(es, EXASOCK_R_MEMORY);
		return;
	}
	skb_put_data(skb, data, held->frame);
	if (held->hardware_ns)
		skb_hwtstamps(skb)->hwtstamp = ns_to_ktime(held->hardware_ns);
	if (held->software_ns)
		skb->tstamp = ns_to_ktime(held->software_ns);
	skb->protocol = eth_type_trans(skb, port);
	skb->ip_summed = CHECKSUM_UNNECESSARY;	/* it was held because it is right */
	skb_record_rx_queue(skb, 0);
	if (held->alone)
		address(es, skb);
	netif_receive_skb(skb);
}

/* What begins at that number, NULL: nothing, whatever its claim word says */
static struct exa_held *held_at(const struct exa_sock *es, u32 number)
{
	struct exa_held *held = &es->held[slot_at(number)];

	return held->begins && held->owner == number ? held : NULL;
}

static enum exa_claimed claimed(const struct exa_sock *es, u32 number)
{
	return exa_shared_claimed(&es->shared, slot_at(number), number);
}

/* Everything that no reader has claimed goes to the stack, in order. Locked, no bottom halves. */
static void take_all(struct exa_sock *es, enum exasock_reason reason)
{
	u32 number;

	for (number = es->oldest; number != es->head; number = number_next(number)) {
		const struct exa_held *held = held_at(es, number);

		if (held && exa_shared_take(&es->shared, slot_at(number), number)) {
			exa_publish_more(&es->shared.ring->rx_taken, &es->rx_taken, 1);
			hold_count_kernel(es, reason);
			deliver(es, exa_slot(es, number)->data, held);
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

/* The same, and a datagram of this socket is about to go there too */
void exa_flush_for(struct exa_sock *es, enum exasock_reason reason)
{
	spin_lock_bh(&es->lock);
	take_all(es, reason);
	hold_count_kernel(es, reason);
	spin_unlock_bh(&es->lock);
}

/*
 * A datagram of this socket that is not held: to the stack, after what is. Here, not by
 * the driver, which gathers several before it delivers: the next one may be held before
 * this one would have arrived. @alone: others have theirs. False: no memory.
 */
bool exa_pass(struct exa_sock *es, const struct exanic_rx_frame *frame,
	      enum exasock_reason reason, bool alone)
{
	struct sk_buff *skb = exanic_rx_frame_to_skb(frame);

	spin_lock_bh(&es->lock);
	take_all(es, reason);
	hold_count_kernel(es, reason);
	if (skb && alone && es->sk)
		address(es, skb);
	if (skb && (!alone || es->sk))
		netif_receive_skb(skb);
	else
		kfree_skb(skb);
	spin_unlock_bh(&es->lock);
	return skb;
}

/*
 * It has something held: a frame that may be anybody's finds it. It stays in the list until then,
 * for a datagram more costs nothing so, and to be found with nothing held costs little once.
 */
static void hold_list(struct exa_sock *es)
{
	spin_lock(&es->ns->holding_lock);
	list_add_tail(&es->holding, &es->ns->holding);
	spin_unlock(&es->ns->holding_lock);
}

/* Detached: nothing is held for it any more, and it is not found in the list */
void exa_hold_end(struct exa_sock *es)
{
	spin_lock_bh(&es->ns->holding_lock);
	list_del_init(&es->holding);
	spin_unlock_bh(&es->ns->holding_lock);
}

/*
 * What any socket of the namespace has held goes to the stack. Only those are looked at that have
 * held something since the last such frame, so that a flood of them costs each what one costs
 * (rule B3). Under RCU: one that is taken out of the list here is not freed meanwhile. What is held
 * by another port's poll after it was taken out is not before this frame.
 */
void exa_flush_ns(struct exa_ns *ns)
{
	LIST_HEAD(found);
	struct exa_sock *es;

	if (list_empty(&ns->holding))
		return;
	spin_lock_bh(&ns->holding_lock);
	list_splice_init(&ns->holding, &found);
	while (!list_empty(&found)) {
		es = list_first_entry(&found, struct exa_sock, holding);
		list_del_init(&es->holding);
		spin_unlock_bh(&ns->holding_lock);
		exa_flush(es, EXASOCK_R_HEADER);
		spin_lock_bh(&ns->holding_lock);
	}
	spin_unlock_bh(&ns->holding_lock);
}

/* A device of the namespace is going: what came by it is delivered now */
void exa_flush_device(struct exa_ns *ns)
{
	struct exa_sock *es;

	rcu_read_lock();
	hlist_for_each_entry_rcu(es, &ns->attached[EXA_SOCKS], sibling)
		exa_flush(es, EXASOCK_R_DEVICE);
	rcu_read_unlock();
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
		if (held_at(es, number) && claimed(es, number) == EXA_CLAIMED_NOT)
			break;
	es->oldest = number;
	if (number != es->head) {
		u64 age = now - es->held[slot_at(number)].since;

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
	INIT_LIST_HEAD(&es->holding);
	hrtimer_setup(&es->timer, hold_timer, CLOCK_MONOTONIC, HRTIMER_MODE_REL_SOFT);
}

/* Has the socket something in its own queue that must be read first? */
static bool queued(struct sock *sk)
{
	return !skb_queue_empty_lockless(&sk->sk_receive_queue) ||
	       !skb_queue_empty_lockless(&udp_sk(sk)->reader_queue) || READ_ONCE(sk->sk_err) ||
	       READ_ONCE(sk->sk_shutdown) & RCV_SHUTDOWN;
}

/* Has nobody what begins, or began, in that slot or reaches into it? */
static bool slot_free(const struct exa_sock *es, u32 number)
{
	u32 owner = es->held[slot_at(number)].owner;

	return !held_at(es, owner) || claimed(es, owner) == EXA_CLAIMED_DONE;
}

static bool slots_free(const struct exa_sock *es, u32 number, u32 slots)
{
	u32 i;

	for (i = 0; i < slots; i++)
		if (!slot_free(es, number_after(number, i)))
			return false;
	return true;
}

/*
 * Before they are written: what began there does no longer, whatever is claimed of it later.
 * The first slot of a datagram is reached before its others, so none is left without one.
 */
static void slots_vacate(struct exa_sock *es, u32 number, u32 slots)
{
	for (; slots; slots--, number = number_next(number))
		es->held[slot_at(number)].begins = false;
}

/* Slots of @owner at which nothing begins */
static void slots_fill(struct exa_sock *es, u32 number, u32 slots, u32 owner)
{
	for (; slots; slots--, number = number_next(number)) {
		es->held[slot_at(number)].owner = owner;
		exa_shared_pass_over(&es->shared, slot_at(number), number);
	}
}

/* What is left before the end of the ring, when it is too little for @span slots */
static u32 padding(u32 number, u32 span)
{
	u32 left = exa_slots - (number & (exa_slots - 1));

	return span > left ? left : 0;
}

/*
 * The datagram with everything a reader needs, and @held with what we need. False: the kernel
 * should judge it, for its checksum is wrong, or the card has overtaken us.
 */
static bool fill(struct exasock_slot *slot, struct exa_held *held, u32 number,
		 const struct exa_iface *iface, const struct exa_packet *packet,
		 const struct exa_telling *telling)
{
	const struct exanic_rx_frame *frame = packet->frame;
	u16 cmsg = telling->cmsg;

	held->alone = telling->alone;
	held->port = frame->dev;
	held->frame = packet->bytes;
	held->software_ns = 0;
	held->hardware_ns = 0;
	if (cmsg & (EXASOCK_CMSG_TIMESTAMP | EXASOCK_CMSG_TIMESTAMPNS |
		    EXASOCK_CMSG_TIMESTAMPING_SW))
		held->software_ns = ktime_get_real_ns();
	if (exanic_rx_stamping(frame->dev))
		held->hardware_ns = ktime_to_ns(exanic_timestamp_to_ktime(frame->dev,
									  frame->timestamp));

	WRITE_ONCE(slot->number, number);
	slot->offset = packet->payload;
	slot->length = packet->length;
	slot->saddr = packet->saddr;
	slot->daddr = packet->daddr;
	slot->sport = packet->sport;
	slot->dport = packet->dport;
	slot->ifindex = iface->ifindex;
	slot->spec_dst = telling->spec_dst;
	slot->cmsg = cmsg;
	slot->ttl = packet->ttl;
	slot->tos = packet->tos;
	slot->software_ns = held->software_ns;
	slot->hardware_ns = held->hardware_ns;
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
				const struct exa_packet *packet,
				const struct exa_telling *telling)
{
	u32 span = EXASOCK_SPAN(packet->bytes), pad = padding(es->head, span);
	u32 number = number_after(es->head, pad);
	struct exa_held *held;

	if (!es->sk || es->over || !READ_ONCE(iface->up))
		return EXASOCK_R_DEVICE;
	/* again: it may have stopped looking and flushed before the lock was ours */
	if (!exa_fresh(exa_shared_heartbeat(&es->shared)))
		return EXASOCK_R_IDLE;
	if (queued(es->sk))
		return EXASOCK_R_QUEUE;
	if (!slots_free(es, es->head, pad + span))
		return EXASOCK_R_FULL;
	slots_vacate(es, es->head, pad + span);
	held = &es->held[slot_at(number)];
	if (!fill(exa_slot(es, number), held, number, iface, packet, telling))
		return EXASOCK_R_HEADER;

	slots_fill(es, es->head, pad, es->head);
	slots_fill(es, number_next(number), span - 1, number);
	held->owner = number;
	held->begins = true;
	held->since = ktime_get_ns();
	/* the content, then the claim word, then the number that makes readers look */
	exa_shared_offer(&es->shared, slot_at(number), number);
	es->head = number_after(number, span);
	if (((es->head - es->oldest) & EXASOCK_NUMBER_MASK) > exa_slots)
		es->oldest = (es->head - exa_slots) & EXASOCK_NUMBER_MASK;
	exa_publish_u32_release(&es->shared.ring->head, es->head);	/* readers begin there */
	exa_publish_more(&es->shared.ring->rx_held, &es->rx_held, 1);
	if (unlikely(list_empty(&es->holding)))
		hold_list(es);
	if (!hrtimer_is_queued(&es->timer))
		hrtimer_start(&es->timer, ns_to_ktime(exa_hold_ns()), HRTIMER_MODE_REL_SOFT);
	return EXASOCK_R_NONE;
}

/* EXASOCK_R_NONE: it is held. Else it must go to the stack, by exa_pass(). */
enum exasock_reason exa_hold(struct exa_sock *es, const struct exa_iface *iface,
			     const struct exa_packet *packet, const struct exa_telling *telling)
{
	enum exasock_reason reason;

	spin_lock_bh(&es->lock);
	reason = hold(es, iface, packet, telling);
	spin_unlock_bh(&es->lock);
	return reason;
}
