// SPDX-License-Identifier: GPL-2.0-only
/*
 * Would the stack deliver this datagram to this host? Its own input route says so, source
 * validation included (rp_filter, martians), and is asked once for each flow: the answer
 * stands until the namespace's routes or addresses change, or what rp_filter says.
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

struct exa_flow {
	__be32 saddr;
	__be32 daddr;
	int ifindex;
	u8 tos;
	bool local;
	int rp_filter;
	int genid;			/* of the namespace's routes */
	unsigned int gen;		/* of its devices */
	__be32 spec_dst;
	struct rcu_head rcu;
};

/* Changed while routes stay: the stack looks at it for every datagram */
static int rp_filter(const struct exa_iface *iface)
{
	struct in_device *in_dev = __in_dev_get_rcu(iface->dev);

	return in_dev ? IN_DEV_RPFILTER(in_dev) : 0;
}

static u32 flow_index(const struct exa_packet *packet, int ifindex)
{
	return jhash_3words((__force u32)packet->saddr, (__force u32)packet->daddr,
			    (u32)ifindex << 8 | packet->tos, 0) % EXA_FLOW_SLOTS;
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

/* Ask the stack, with a packet as it would see it */
static bool route_local(const struct exa_iface *iface, const struct exa_packet *packet)
{
	struct sk_buff *skb = exanic_rx_frame_to_skb(packet->frame);
	bool local = false;

	if (!skb)
		return false;
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

static struct exa_flow *flow_make(struct exa_ns *ns, const struct exa_iface *iface,
				  const struct exa_packet *packet)
{
	struct exa_flow *flow = kmalloc(sizeof(*flow), GFP_ATOMIC);

	if (!flow)
		return NULL;
	flow->saddr = packet->saddr;
	flow->daddr = packet->daddr;
	flow->ifindex = iface->ifindex;
	flow->tos = packet->tos;
	flow->rp_filter = rp_filter(iface);
	flow->gen = READ_ONCE(ns->gen);
	flow->genid = rt_genid_ipv4(ns->net);	/* before it is asked for */
	smp_rmb();
	flow->local = route_local(iface, packet);
	flow->spec_dst = flow->local ? answer_source(ns->net, iface, packet) : 0;
	return flow;
}

static bool flow_matches(const struct exa_flow *flow, struct exa_ns *ns,
			 const struct exa_iface *iface, const struct exa_packet *packet)
{
	return flow->saddr == packet->saddr && flow->daddr == packet->daddr &&
	       flow->ifindex == iface->ifindex && flow->tos == packet->tos &&
	       flow->rp_filter == rp_filter(iface) &&
	       flow->genid == rt_genid_ipv4(ns->net) && flow->gen == READ_ONCE(ns->gen);
}

/* Under RCU in NAPI. @spec_dst: what IP_PKTINFO tells. */
bool exa_flow_local(struct exa_ns *ns, const struct exa_iface *iface,
		    const struct exa_packet *packet, __be32 *spec_dst)
{
	struct exa_flow __rcu **at = &ns->flow[flow_index(packet, iface->ifindex)];
	struct exa_flow *flow = rcu_dereference(*at), *old;
	bool local;

	if (!flow || !flow_matches(flow, ns, iface, packet)) {
		flow = flow_make(ns, iface, packet);
		if (!flow)
			return false;
		spin_lock_bh(&ns->lock);
		old = rcu_replace_pointer(*at, flow, lockdep_is_held(&ns->lock));
		spin_unlock_bh(&ns->lock);
		if (old)
			kfree_rcu(old, rcu);
	}
	local = flow->local;
	*spec_dst = flow->spec_dst;
	return local;
}

void exa_flows_drop(struct exa_ns *ns)
{
	struct exa_flow *old;
	unsigned int i;

	spin_lock_bh(&ns->lock);
	for (i = 0; i < EXA_FLOW_SLOTS; i++) {
		old = rcu_replace_pointer(ns->flow[i], NULL, lockdep_is_held(&ns->lock));
		if (old)
			kfree_rcu(old, rcu);
	}
	spin_unlock_bh(&ns->lock);
}
