// SPDX-License-Identifier: GPL-2.0-only
/*
 * Destinations of a namespace: the kernel's own routes, looked up in that namespace with
 * everything its lookup uses (rule N2), and kept while they are current. Neighbours are
 * not kept: the kernel's table is asked for each datagram, so that a MAC address is what the
 * stack would have used this moment.
 *
 * A look-up that finds nothing makes an entry, as each of the kernel's own sends does: only who
 * sends makes it do so. It is charged to its memory cgroup, except where a timer or the card's poll
 * sends for a connection, which has one destination.
 */

#include <linux/if_macvlan.h>
#include <linux/igmp.h>
#include <linux/inetdevice.h>
#include <linux/jhash.h>
#include <linux/slab.h>
#include <net/arp.h>
#include <net/inet_sock.h>
#include <net/inet_dscp.h>
#include <net/ip.h>
#include <net/neighbour.h>

#include "exasock.h"

static_assert(EXA_DST_SLOTS <= U16_MAX);

static u32 dst_index(const struct exa_ns *ns, const struct exa_dst_key *key)
{
	u32 words[6] = {
		(__force u32)key->daddr, (__force u32)key->saddr,
		(u32)(__force u16)key->dport << 16 | (__force u16)key->sport,
		key->oif, key->mark, key->uid ^ (u32)key->tos << 24 ^ key->local ^
		(u32)key->stream << 1,
	};

	return jhash2(words, ARRAY_SIZE(words), ns->seed) % EXA_DST_SLOTS;
}

static __always_inline bool keys_match(const struct exa_dst_key *one,
				       const struct exa_dst_key *other)
{
	return one->daddr == other->daddr && one->saddr == other->saddr &&
	       one->dport == other->dport && one->sport == other->sport &&
	       one->oif == other->oif && one->mark == other->mark && one->uid == other->uid &&
	       one->tos == other->tos && one->local == other->local &&
	       one->stream == other->stream;
}

/*
 * Routes, addresses, path MTU: the route knows; devices: the generation does. What the
 * kernel's ipv4_dst_check() says of a route of its own, without the call.
 */
static bool dst_current(const struct exa_dst *dst, const struct exa_ns *ns)
{
	struct dst_entry *entry = &dst->rt->dst;

	if (dst->gen != READ_ONCE(ns->gen))
		return false;
	if (likely(dst->plain))
		return READ_ONCE(entry->obsolete) == DST_OBSOLETE_FORCE_CHK &&
		       dst->rt->rt_genid == rt_genid_ipv4(ns->net);
	return entry->ops->check(entry, 0);
}

static void dst_free(struct rcu_head *head)
{
	struct exa_dst *dst = container_of(head, struct exa_dst, rcu);

	ip_rt_put(dst->rt);
	kfree(dst);
}

/* What never changes of a route says already that nothing is sent there past the stack */
static enum exasock_reason dst_reason(const struct exa_dst *dst)
{
	const struct rtable *rt = dst->rt;

	if (rt->rt_type != RTN_UNICAST && rt->rt_type != RTN_MULTICAST)
		return EXASOCK_R_LOOP;
	if (!dst->iface)
		return EXASOCK_R_DEVICE;
	return rt->dst.lwtstate || !dst->plain ? EXASOCK_R_FILTER : EXASOCK_R_NONE;
}

static struct exa_dst *dst_make(struct exa_ns *ns, struct sock *sk, const struct exa_dst_key *key)
{
	struct exa_dst *dst = kzalloc(sizeof(*dst), GFP_ATOMIC | __GFP_ACCOUNT);
	struct flowi4 fl4;

	if (!dst)
		return NULL;
	dst->key = *key;
	dst->flags = inet_sk_flowi_flags(sk);
	dst->gen = smp_load_acquire(&ns->gen);	/* before the device is looked for: see iface.c */
	flowi4_init_output(&fl4, key->oif, key->mark, key->tos & INET_DSCP_MASK,
			   key->local ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE,
			   key->stream ? IPPROTO_TCP : IPPROTO_UDP,
			   dst->flags, key->daddr, key->saddr, key->dport,
			   key->sport, KUIDT_INIT(key->uid));
	dst->rt = ip_route_output_flow(ns->net, &fl4, sk);
	if (IS_ERR(dst->rt)) {
		kfree(dst);
		return NULL;
	}
	dst->source = fl4.saddr;
	dst->iface = exa_iface_of_dev(ns, dst->rt->dst.dev);
	dst->plain = !dst_xfrm(&dst->rt->dst);
	dst->mtu = dst_mtu(&dst->rt->dst);
	dst->reason = dst_reason(dst);
	return dst;
}

static __always_inline bool dst_is(const struct exa_dst *dst, const struct exa_ns *ns,
				   const struct sock *sk, const struct exa_dst_key *key)
{
	return dst && keys_match(&dst->key, key) && dst->flags == inet_sk_flowi_flags(sk) &&
	       dst_current(dst, ns);
}

static struct exa_dst *dst_find_at(struct exa_ns *ns, struct sock *sk,
				   const struct exa_dst_key *key, u32 index)
{
	struct exa_dst __rcu **at = &ns->dst[index];
	struct exa_dst *dst = rcu_dereference(*at), *old;

	if (dst_is(dst, ns, sk, key))
		return dst;
	dst = dst_make(ns, sk, key);
	if (!dst)
		return NULL;
	spin_lock_bh(&ns->lock);
	old = rcu_replace_pointer(*at, dst, lockdep_is_held(&ns->lock));
	spin_unlock_bh(&ns->lock);
	if (old)
		call_rcu(&old->rcu, dst_free);
	return dst;
}

/*
 * Where it goes, under RCU with bottom halves off. NULL: nowhere, or no memory; the kernel
 * will say what is wrong. Its device may not be one of ours. *@at is where the sender's last
 * destination was in the table: it has one, mostly.
 */
struct exa_dst *exa_dst_find(struct exa_ns *ns, struct sock *sk, const struct exa_dst_key *key,
			     u16 *at)
{
	struct exa_dst *dst = rcu_dereference(ns->dst[READ_ONCE(*at)]);
	u32 index;

	if (likely(dst_is(dst, ns, sk, key)))
		return dst;
	index = dst_index(ns, key);
	WRITE_ONCE(*at, index);
	return dst_find_at(ns, sk, key, index);
}

/* Is this host a member of the group on that device? Then it hears what it sends. */
static bool member(const struct net_device *dev, __be32 group)
{
	struct in_device *in_dev = __in_dev_get_rcu(dev);
	const struct ip_mc_list *im;

	if (!in_dev)
		return false;
	for (im = rcu_dereference(in_dev->mc_list); im; im = rcu_dereference(im->next_rcu))
		if (im->multiaddr == group)
			return true;
	return IN_DEV_MFORWARD(in_dev);
}

static enum exasock_reason group_mac(const struct exa_dst *dst, const struct sock *sk, u8 *mac)
{
	if (dst->iface->macvlan &&
	    ((struct macvlan_dev *)netdev_priv(dst->iface->dev))->mode == MACVLAN_MODE_BRIDGE)
		return EXASOCK_R_LOOP;	/* its siblings hear it too */
	if (exa_mc_loop(sk) && member(dst->iface->dev, dst->key.daddr))
		return EXASOCK_R_LOOP;
	ip_eth_mc_map(dst->key.daddr, mac);
	return EXASOCK_R_NONE;
}

/*
 * A macvlan in bridge mode reaches another one on the same device without the wire. That an address
 * is none of theirs is kept together with the number of changes among them that were seen before it
 * was looked for (macvlan_changed() in iface.c).
 */
static bool on_this_host(struct exa_dst *dst, const u8 *mac)
{
	const struct exa_iface *iface = dst->iface;
	struct net_device *upper;
	struct list_head *at;
	u64 packed;

	if (!iface->macvlan ||
	    ((struct macvlan_dev *)netdev_priv(iface->dev))->mode != MACVLAN_MODE_BRIDGE)
		return false;
	/* before they are looked at */
	packed = ether_addr_to_u64(mac) | (u64)smp_load_acquire(&iface->siblings) << 48;
	if (READ_ONCE(dst->mac) == packed)
		return false;
	netdev_for_each_upper_dev_rcu(iface->chain[1], upper, at)
		if (ether_addr_equal(upper->dev_addr, mac))
			return true;
	WRITE_ONCE(dst->mac, packed);
	return false;
}

/* The destination's MAC address, if the kernel would send this moment, and by the wire */
enum exasock_reason exa_dst_mac(struct exa_dst *dst, struct sock *sk, u8 *mac)
{
	const struct rtable *rt = dst->rt;
	struct neighbour *neighbour;

	if (rt->rt_type == RTN_MULTICAST)
		return group_mac(dst, sk, mac);
	if (rt->rt_gw_family == AF_INET6)
		return EXASOCK_R_NEIGHBOUR;
	neighbour = __ipv4_neigh_lookup_noref(rt->dst.dev,
					      (__force u32)rt_nexthop(rt, dst->key.daddr));
	/*
	 * As the stack does: an address that was not confirmed lately is used all the same,
	 * and the kernel is told to find out. Without one it is the stack's to wait for it.
	 */
	if (!neighbour || (!(READ_ONCE(neighbour->nud_state) & NUD_CONNECTED) &&
			   neigh_event_send(neighbour, NULL)))
		return EXASOCK_R_NEIGHBOUR;
	neigh_ha_snapshot(mac, neighbour, rt->dst.dev);
	return on_this_host(dst, mac) ? EXASOCK_R_LOOP : EXASOCK_R_NONE;
}

void exa_dsts_drop(struct exa_ns *ns)
{
	struct exa_dst *old;
	unsigned int i;

	spin_lock_bh(&ns->lock);
	for (i = 0; i < EXA_DST_SLOTS; i++) {
		old = rcu_replace_pointer(ns->dst[i], NULL, lockdep_is_held(&ns->lock));
		if (old)
			call_rcu(&old->rcu, dst_free);
	}
	spin_unlock_bh(&ns->lock);
}
