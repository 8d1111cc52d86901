// SPDX-License-Identifier: GPL-2.0-only
/*
 * Connections that are not at home, found by what a frame says that names no socket.
 *
 * A fragment, or a segment with IP options, tells two addresses and not whose it is: all that are
 * taken between these two, in the namespace, go home. A frame of a device that is none of ours any
 * more tells all but the namespace: it is a stray when its connection is still on its way home.
 *
 * The cost of such a frame does not depend on how many connections or namespaces there are (rules
 * B3, N11): both tables are hashed by all that is known, with a seed, and one frame sends home a
 * few at most. Each of those, arrived, sends the next few.
 */

#include <linux/hashtable.h>
#include <linux/jhash.h>
#include <linux/random.h>

#include "tcp.h"

#define INDEX_BITS	10
#define UNSEEN_MOST	8	/* that one frame sends home */
#define UNSEEN_STEPS	64	/* in the table, others' included */

static DEFINE_HASHTABLE(exa_pairs, INDEX_BITS);		/* taken, by namespace and addresses */
static DEFINE_HASHTABLE(exa_stray_table, INDEX_BITS);	/* by port, tag, address and connection */
static DEFINE_SPINLOCK(exa_index_lock);			/* both; inside struct exa_stream.lock */
static unsigned int exa_strays;				/* in the table */
static u32 exa_index_seed;

/* A connection as its frames name it */
struct exa_way {
	const struct net_device *port;
	u16 vid;
	const u8 *mac;
	__be32 peer;
	__be32 own;
	__be16 peer_port;
	__be16 own_port;
};

static u32 pair_hash(const struct exa_ns *ns, __be32 peer, __be32 own)
{
	return jhash_3words((__force u32)peer, (__force u32)own, (u32)ns->cookie, exa_index_seed);
}

static u32 way_hash(const struct exa_way *way)
{
	u32 words[7] = {
		(u32)(unsigned long)way->port, way->vid, get_unaligned((const u32 *)way->mac),
		get_unaligned((const u16 *)(way->mac + 4)), (__force u32)way->peer,
		(__force u32)way->own,
		(u32)(__force u16)way->peer_port << 16 | (__force u16)way->own_port,
	};

	return jhash2(words, ARRAY_SIZE(words), exa_index_seed);
}

static struct exa_way stream_way(const struct exa_stream *es)
{
	return (struct exa_way) {
		.port = es->port, .vid = es->vid, .mac = es->mac, .peer = es->peer,
		.own = es->own, .peer_port = es->peer_port, .own_port = es->own_port,
	};
}

/* It is taken. Both locked. */
void exa_stream_index(struct exa_stream *es, const struct sock *sk)
{
	es->peer = inet_sk(sk)->inet_daddr;
	es->own = inet_sk(sk)->inet_rcv_saddr;
	es->peer_port = inet_sk(sk)->inet_dport;
	es->own_port = inet_sk(sk)->inet_sport;
	spin_lock(&exa_index_lock);
	hash_add_rcu(exa_pairs, &es->pair, pair_hash(es->ns, es->peer, es->own));
	spin_unlock(&exa_index_lock);
}

/* It is not taken any more. Locked. */
void exa_stream_unindex(struct exa_stream *es)
{
	spin_lock(&exa_index_lock);
	hash_del_rcu(&es->pair);
	spin_unlock(&exa_index_lock);
}

/* A few of those that are taken between these two. Under RCU. */
void exa_streams_unseen(const struct exa_ns *ns, __be32 peer, __be32 own)
{
	unsigned int found = 0, steps = 0;
	struct exa_stream *es;

	hash_for_each_possible_rcu(exa_pairs, es, pair, pair_hash(ns, peer, own)) {
		if (++steps > UNSEEN_STEPS || found == UNSEEN_MOST)
			break;
		if (es->ns != ns || es->peer != peer || es->own != own)
			continue;
		spin_lock_bh(&es->lock);
		if (es->place == EXA_TAKEN) {
			es->unseen = true;	/* then exa_stream_arrived_unseen() */
			exa_stream_send_home(es, EXASOCK_R_HEADER);
			found++;
		}
		spin_unlock_bh(&es->lock);
	}
}

/* Sent home for such a frame, it is there: the next ones */
void exa_stream_arrived_unseen(struct exa_stream *es)
{
	bool unseen;

	spin_lock_bh(&es->lock);
	unseen = es->unseen;
	es->unseen = false;
	spin_unlock_bh(&es->lock);
	if (!unseen)
		return;
	rcu_read_lock();
	exa_streams_unseen(es->ns, es->peer, es->own);
	rcu_read_unlock();
}

static void stray_add(struct exa_stream *es)
{
	struct exa_way way = stream_way(es);

	spin_lock(&exa_index_lock);
	if (hlist_unhashed(&es->stray)) {
		hash_add(exa_stray_table, &es->stray, way_hash(&way));
		WRITE_ONCE(exa_strays, exa_strays + 1);
	}
	spin_unlock(&exa_index_lock);
}

/* At home. Locked. */
void exa_stream_arrived(struct exa_stream *es)
{
	if (hlist_unhashed(&es->stray))
		return;
	spin_lock(&exa_index_lock);
	hash_del(&es->stray);
	WRITE_ONCE(exa_strays, exa_strays - 1);
	spin_unlock(&exa_index_lock);
}

static bool way_is(const struct exa_way *way, const struct exa_stream *es)
{
	return es->port == way->port && es->vid == way->vid && es->peer == way->peer &&
	       es->own == way->own && es->peer_port == way->peer_port &&
	       es->own_port == way->own_port && ether_addr_equal_unaligned(es->mac, way->mac);
}

/*
 * A frame of no device of ours: is it for a connection that is on its way home? The stack would
 * show it to the kernel's copy of that connection, which would answer by what it knew when it was
 * taken: until it is at home what comes for it is lost, as on any wire. In NAPI.
 */
bool exa_stream_is_stray(const struct exanic_rx_frame *frame, const struct exa_packet *packet)
{
	const struct exa_way way = {
		.port = frame->dev, .vid = packet->vid, .mac = packet->dmac,
		.peer = packet->saddr, .own = packet->daddr, .peer_port = packet->sport,
		.own_port = packet->dport,
	};
	struct exa_stream *es;
	bool found = false;

	smp_rmb();		/* the device was looked for first: see exa_streams_device_gone() */
	if (!READ_ONCE(exa_strays))
		return false;
	spin_lock_bh(&exa_index_lock);
	hash_for_each_possible(exa_stray_table, es, stray, way_hash(&way))
		found |= way_is(&way, es);
	spin_unlock_bh(&exa_index_lock);
	return found;
}

/* What waits, and came by that device: it was never acknowledged, so its sender has it */
static void stream_drop_held(struct exa_stream *es, int ifindex)
{
	struct sk_buff *skb, *next;

	skb_queue_walk_safe(&es->held, skb, next) {
		if (skb->skb_iif != ifindex)
			continue;
		__skb_unlink(skb, &es->held);
		kfree_skb(skb);
	}
}

static void stream_lose_device(struct exa_stream *es, const struct exa_iface *iface)
{
	spin_lock_bh(&es->lock);
	if (es->place != EXA_HOME && es->seen == iface->ifindex) {
		exa_stream_send_home(es, EXASOCK_R_DEVICE);
		stray_add(es);
	}
	stream_drop_held(es, iface->ifindex);
	spin_unlock_bh(&es->lock);
}

/*
 * The device is down for us already, and can still be found: its connections go home, and no other
 * is disturbed. One that is taken at this moment is seen here, or has seen the device down; nothing
 * of the device waits for a connection from now on (tcp_receive.c).
 */
void exa_streams_device_gone(const struct exa_iface *iface)
{
	struct exa_stream *es;

	rcu_read_lock();
	hlist_for_each_entry_rcu(es, &iface->ns->attached[EXA_STREAMS], sibling)
		stream_lose_device(es, iface);
	rcu_read_unlock();
	smp_mb();	/* strays are known before the device cannot be found any more */
}

void exa_stream_index_setup(void)
{
	exa_index_seed = get_random_u32();
}
