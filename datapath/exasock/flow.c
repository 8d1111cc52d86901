// SPDX-License-Identifier: GPL-2.0-only
/*
 * Would the stack deliver this datagram to this host? Its own input route says so, source
 * validation included (rp_filter, martians), and is asked once for each flow: the answer
 * stands until the namespace's routes or addresses change, or what rp_filter says.
 *
 * Sources are whatever the wire says, so nothing is allocated for one: the table is a part of the
 * namespace's state, charged with it. An entry that was used lately stays, so no flood of sources
 * takes away the entry of one that has datagrams; one without asks the stack each time, which
 * is what the datagram would cost there. Nobody outside knows which flows share an entry.
 *
 * Where a policy rule looks at protocol or ports, the answer is not the flow's: the stack is asked
 * each time.
 */

#include <linux/inetdevice.h>
#include <linux/jhash.h>
#include <linux/skbuff.h>
#include <linux/slab.h>
#include <net/inet_dscp.h>
#include <net/ip.h>
#include <net/net_namespace.h>
#include <net/route.h>

#include "exasock.h"

/* Changed while routes stay: the stack looks at it for every datagram */
static int rp_filter(const struct exa_iface *iface)
{
	struct in_device *in_dev = __in_dev_get_rcu(iface->dev);

	return in_dev ? IN_DEV_RPFILTER(in_dev) : 0;
}

static u32 flow_index(const struct exa_ns *ns, const struct exa_packet *packet, int ifindex)
{
	return jhash_3words((__force u32)packet->saddr, (__force u32)packet->daddr,
			    (u32)ifindex << 8 | packet->tos, ns->seed) % EXA_FLOW_SLOTS;
}

/* In about seconds: 256 ticks */
static u32 flow_now(void)
{
	unsigned long ticks = jiffies;

	return ticks >> 8;
}

/* Do the namespace's rules look at more than addresses? */
static bool flow_rules_dissect(const struct net *net)
{
#ifdef CONFIG_IP_MULTIPLE_TABLES
	return READ_ONCE(net->ipv4.fib_rules_require_fldissect);
#else
	return false;
#endif
}

/* The address of ours that an answer would come from (fib_compute_spec_dst) */
static __be32 answer_source(struct net *net, const struct exa_iface *iface,
			    const struct exa_packet *packet)
{
	struct flowi4 fl4 = {};
	struct rtable *rt;

	if (!packet->group)
		return packet->daddr;
	if (!ipv4_is_zeronet(packet->saddr)) {
		fl4.daddr = packet->saddr;
		exa_flow_tos(&fl4, packet->tos);
		rt = ip_route_output_key(net, &fl4);
		if (!IS_ERR(rt)) {
			ip_rt_put(rt);
			return fl4.saddr;
		}
	}
	return inet_select_addr(iface->dev, packet->saddr, RT_SCOPE_UNIVERSE);
}

/* Is that what the stack makes of such a frame, and has nobody else a copy? */
static bool route_suits(const struct rtable *rt, const struct exa_iface *iface,
			const struct exa_packet *packet)
{
	struct in_device *in_dev = __in_dev_get_rcu(iface->dev);

	if (!(rt->rt_flags & RTCF_LOCAL))
		return false;
	if (!packet->group)
		return rt->rt_type == RTN_LOCAL;
	if (rt->rt_type == RTN_MULTICAST)
		return in_dev && !IN_DEV_MFORWARD(in_dev);
	return rt->rt_type == RTN_BROADCAST;
}

/* Ask the stack, with a packet as it would see it. -ENOMEM: it could not be asked. */
static int route_local(const struct exa_iface *iface, const struct exa_packet *packet)
{
	struct sk_buff *skb = exanic_rx_frame_to_skb(packet->frame);
	bool local = false;

	if (!skb)
		return -ENOMEM;
	skb->dev = iface->dev;
	if (pskb_may_pull(skb, packet->network - ETH_HLEN + sizeof(struct iphdr))) {
		__skb_pull(skb, packet->network - ETH_HLEN);
		skb_reset_network_header(skb);
		skb->protocol = htons(ETH_P_IP);
		if (exa_route_input(skb, packet->daddr, packet->saddr, packet->tos, iface->dev))
			local = route_suits(skb_rtable(skb), iface, packet);
	}
	consume_skb(skb);
	return local;
}

static void flow_make(struct exa_flow *flow, struct exa_ns *ns, const struct exa_iface *iface,
		      const struct exa_packet *packet)
{
	int local;

	flow->saddr = packet->saddr;
	flow->daddr = packet->daddr;
	flow->ifindex = iface->ifindex;
	flow->tos = packet->tos;
	flow->rp_filter = rp_filter(iface);
	flow->gen = READ_ONCE(ns->gen);
	flow->genid = rt_genid_ipv4(ns->net);	/* before it is asked for */
	smp_rmb();
	local = route_local(iface, packet);
	flow->local = local > 0;
	flow->spec_dst = flow->local ? answer_source(ns->net, iface, packet) : 0;
	flow->used = flow_now();
	flow->known = local >= 0;
}

static __always_inline bool flow_current(const struct exa_flow *flow, const struct exa_ns *ns)
{
	return flow->known && flow->genid == rt_genid_ipv4(ns->net) &&
	       flow->gen == READ_ONCE(ns->gen);
}

static __always_inline bool flow_matches(const struct exa_flow *flow, const struct exa_ns *ns,
					 const struct exa_iface *iface,
					 const struct exa_packet *packet)
{
	return flow->saddr == packet->saddr && flow->daddr == packet->daddr &&
	       flow->ifindex == iface->ifindex && flow->tos == packet->tos &&
	       flow->rp_filter == rp_filter(iface) && flow_current(flow, ns);
}

/* In the place of one that is not current, or was not used lately */
static void flow_keep(struct exa_flow *at, struct exa_ns *ns, const struct exa_flow *fresh)
{
	spin_lock_bh(&ns->lock);
	if (!flow_current(at, ns) || fresh->used - READ_ONCE(at->used) > 1 ||
	    (at->saddr == fresh->saddr && at->daddr == fresh->daddr &&
	     at->ifindex == fresh->ifindex && at->tos == fresh->tos)) {
		write_seqcount_begin(&at->sequence);
		at->saddr = fresh->saddr;
		at->daddr = fresh->daddr;
		at->ifindex = fresh->ifindex;
		at->tos = fresh->tos;
		at->rp_filter = fresh->rp_filter;
		at->gen = fresh->gen;
		at->genid = fresh->genid;
		at->local = fresh->local;
		at->spec_dst = fresh->spec_dst;
		at->used = fresh->used;
		at->known = true;
		write_seqcount_end(&at->sequence);
	}
	spin_unlock_bh(&ns->lock);
}

static noinline bool flow_ask(struct exa_flow *at, struct exa_ns *ns, const struct exa_iface *iface,
			      const struct exa_packet *packet, __be32 *spec_dst)
{
	struct exa_flow fresh;

	flow_make(&fresh, ns, iface, packet);
	*spec_dst = fresh.spec_dst;
	if (fresh.known && !flow_rules_dissect(ns->net))
		flow_keep(at, ns, &fresh);
	return fresh.local;
}

/* Under RCU in NAPI. @spec_dst: what IP_PKTINFO tells. */
bool exa_flow_local(struct exa_ns *ns, const struct exa_iface *iface,
		    const struct exa_packet *packet, __be32 *spec_dst)
{
	struct exa_flow *flow = &ns->flow[flow_index(ns, packet, iface->ifindex)];
	unsigned int sequence = raw_read_seqcount(&flow->sequence);
	bool local;

	/* while it is written it is nobody's: no waiting */
	if (unlikely(sequence & 1 || !flow_matches(flow, ns, iface, packet) ||
		     flow_rules_dissect(ns->net)))
		return flow_ask(flow, ns, iface, packet, spec_dst);
	local = flow->local;
	*spec_dst = flow->spec_dst;
	if (unlikely(read_seqcount_retry(&flow->sequence, sequence)))
		return flow_ask(flow, ns, iface, packet, spec_dst);
	if (unlikely(READ_ONCE(flow->used) != flow_now()))
		WRITE_ONCE(flow->used, flow_now());
	return local;
}

void exa_flows_init(struct exa_ns *ns)
{
	unsigned int i;

	for (i = 0; i < EXA_FLOW_SLOTS; i++)
		seqcount_init(&ns->flow[i].sequence);
}
