// SPDX-License-Identifier: GPL-2.0-only
/*
 * What stands in the way of overtaking: everything that would see, change, delay or drop
 * the datagram if it went through the stack. Looked at for each datagram, for most of it
 * comes and goes without news; in the usual case each is one load that finds nothing, and
 * inline, for a call costs more than that.
 *
 * A namespace's administrator may give up its hooks (EXASOCK_SET_BYPASS_FILTERS), those
 * of its own devices only: a port that stands in another namespace has another's.
 */

#include <linux/bpf-cgroup.h>
#include <linux/if_macvlan.h>
#include <linux/kallsyms.h>
#include <linux/netfilter.h>
#include <linux/netfilter_ipv4.h>
#include <net/net_namespace.h>
#include <net/pkt_sched.h>
#include <net/sch_generic.h>
#include <net/xfrm.h>

#include "exasock.h"
#include "security.h"

static bool bypassed(const struct exa_ns *ns, const struct net_device *dev)
{
	return READ_ONCE(ns->bypass) && net_eq(dev_net(dev), ns->net);
}

/* Packet sockets on every device of these namespaces */
static __always_inline bool tapped(const struct net *net, const struct net *port)
{
	return exa_taps_all(net) || (port != net && exa_taps_all(port));
}

/* Of the packet sockets on a device so many are looked at; where there are more, one counts */
#define TAPS_MOST	8

/*
 * Those on this device alone: one for ARP, LLDP or PTP could never see the datagram. Their
 * list has other protocols' handlers too.
 */
static bool tapped_specifically(const struct net_device *dev)
{
	const struct packet_type *type;
	unsigned int left = TAPS_MOST;

	list_for_each_entry_rcu(type, &dev->ptype_specific, list)
		if (type->type == htons(ETH_P_IP) || !left--)
			return true;
	return false;
}

static bool xfrm_policies(const struct net *net, int dir)
{
#ifdef CONFIG_XFRM
	return net->xfrm.policy_count[dir] || net->xfrm.policy_count[XFRM_POLICY_MAX + dir] ||
	       net->xfrm.policy_default[dir] == XFRM_USERPOLICY_BLOCK;
#else
	return false;
#endif
}

static bool sock_policies(const struct sock *sk, int dir)
{
#ifdef CONFIG_XFRM
	return rcu_access_pointer(sk->sk_policy[dir]);
#else
	return false;
#endif
}

static bool cgroup_programs(struct sock *sk, enum cgroup_bpf_attach_type type)
{
#ifdef CONFIG_CGROUP_BPF
	return cgroup_bpf_enabled(type) && cgroup_bpf_sock_enabled(sk, type);
#else
	return false;
#endif
}

/* Those of calls that only datagrams have */
static bool datagram_programs(struct sock *sk, enum cgroup_bpf_attach_type type)
{
	return cgroup_programs(sk, type) && sk->sk_protocol == IPPROTO_UDP;
}

#ifdef CONFIG_NETFILTER
#define HOOKS_KNOWN	32

/*
 * AppArmor puts a hook into every namespace, which accepts all that carries no security
 * mark; marks are made by rules, and those are hooks of their own. It is known by its
 * name, for it is not exported. A name is looked up once for each function: the kernel has fewer
 * of them than there is room for, and no tenant can make one.
 *
 * Nothing known becomes wrong. AppArmor is part of the kernel itself, so no function of a
 * module is ever at its address, nor does its name stand alone in another place.
 */
static noinline bool hook_ask(nf_hookfn *hook, nf_hookfn **known)
{
	static nf_hookfn *others[HOOKS_KNOWN];
	static unsigned int next;
	char name[KSYM_SYMBOL_LEN];
	unsigned int i;

	for (i = 0; i < HOOKS_KNOWN && READ_ONCE(others[i]); i++)
		if (READ_ONCE(others[i]) == hook)
			return false;
	snprintf(name, sizeof(name), "%ps", hook);
	if (!strcmp(name, "apparmor_ip_postroute")) {
		WRITE_ONCE(*known, hook);
		return true;
	}
	/* two processors may write at one place: one of them asks again */
	i = READ_ONCE(next) % HOOKS_KNOWN;
	WRITE_ONCE(others[i], hook);
	WRITE_ONCE(next, i + 1);
	return false;
}

static bool hook_is_harmless(nf_hookfn *hook)
{
	static nf_hookfn *known;

	return READ_ONCE(known) == hook || hook_ask(hook, &known);
}

static __always_inline bool hooked(const struct net *net, unsigned int number)
{
	const struct nf_hook_entries *entries = rcu_dereference(net->nf.hooks_ipv4[number]);
	unsigned int i;

	for (i = 0; entries && i < entries->num_hook_entries; i++)
		if (!hook_is_harmless(entries->hooks[i].hook))
			return true;
	return false;
}
#endif

static __always_inline bool netfilter(const struct net *net, unsigned int first,
				      unsigned int second)
{
#ifdef CONFIG_NETFILTER
	return hooked(net, first) || hooked(net, second);
#else
	return false;
#endif
}

/* By its place among the others; who chooses the same one counts as conntrack */
static bool tracks(const struct net *net, unsigned int number)
{
#ifdef CONFIG_NETFILTER
	const struct nf_hook_entries *entries = rcu_dereference(net->nf.hooks_ipv4[number]);
	unsigned int i;

	for (i = 0; entries && i < entries->num_hook_entries; i++)
		if (nf_hook_entries_get_hook_ops(entries)[i]->priority == NF_IP_PRI_CONNTRACK)
			return true;
#endif
	return false;
}

/*
 * Does conntrack follow connections here? It would lose track of one that is taken, and
 * call the segments invalid that it sees later, unless its administrator made it liberal.
 */
bool exa_tracked(const struct net *net)
{
#if IS_ENABLED(CONFIG_NF_CONNTRACK)
	if (READ_ONCE(net->ct.nf_ct_proto.tcp.tcp_be_liberal))
		return false;
#endif
	return tracks(net, NF_INET_PRE_ROUTING) || tracks(net, NF_INET_LOCAL_OUT);
}

/* Filters of clsact and programs of tcx; before 6.6 only the former */
static bool tc_ingress(const struct net_device *dev)
{
#if defined(EXASOCK_HAVE_TCX) && defined(CONFIG_NET_XGRESS)
	return rcu_access_pointer(dev->tcx_ingress);
#elif defined(EXASOCK_HAVE_MINIQ) && defined(CONFIG_NET_CLS_ACT)
	return rcu_access_pointer(dev->miniq_ingress);
#else
	return false;
#endif
}

static bool tc_egress(const struct net_device *dev)
{
#if defined(EXASOCK_HAVE_TCX) && defined(CONFIG_NET_XGRESS)
	return rcu_access_pointer(dev->tcx_egress);
#elif defined(EXASOCK_HAVE_MINIQ) && defined(CONFIG_NET_CLS_ACT)
	return rcu_access_pointer(dev->miniq_egress);
#else
	return false;
#endif
}

static bool ingress_hooks(const struct net_device *dev)
{
	bool found = rcu_access_pointer(dev->xdp_prog) || tc_ingress(dev);

#ifdef CONFIG_NETFILTER_INGRESS
	if (rcu_access_pointer(dev->nf_hooks_ingress))
		found = true;
#endif
	return found;
}

static bool egress_hooks(const struct net_device *dev)
{
	bool found = tc_egress(dev);

#ifdef CONFIG_NETFILTER_EGRESS
	if (rcu_access_pointer(dev->nf_hooks_egress))
		found = true;
#endif
	return found;
}

/*
 * A queueing discipline that may delay, drop or mark: one that may be skipped while it is
 * empty only keeps order. fq, which paces, is one that may not be skipped.
 */
static bool queues(const struct net_device *dev)
{
	const struct Qdisc *qdisc = rcu_dereference(netdev_get_tx_queue(dev, 0)->qdisc);

	return qdisc->enqueue && !(qdisc->flags & TCQ_F_CAN_BYPASS);
}

/*
 * The tag's priority follows the socket's (exa_iface_tci()), unless that is 0: then a
 * control group may give another one (net_prio).
 */
static bool prioritized_by_group(const struct net_device *dev, const struct sock *sk)
{
#if IS_ENABLED(CONFIG_CGROUP_NET_PRIO)
	return is_vlan_dev(dev) && vlan_dev_priv(dev)->nr_egress_mappings &&
	       !READ_ONCE(sk->sk_priority) && rcu_access_pointer(dev->priomap);
#else
	return false;
#endif
}

/* netif_running() and netif_carrier_ok() */
static bool running(const struct net_device *dev)
{
	const unsigned long carrier = BIT(__LINK_STATE_NOCARRIER), start = BIT(__LINK_STATE_START);

	return (READ_ONCE(dev->state) & (carrier | start)) == start;
}

/* Bridge, bond, VRF and the like; and macvlans above, one of which may want the frame */
static bool stacked(const struct exa_iface *iface, unsigned int i)
{
	const struct net_device *dev = iface->chain[i];

	if (netif_is_l3_slave(dev))
		return true;
	if (!rcu_access_pointer(dev->rx_handler))
		return false;
	if (!i)
		return true;
	/* a tagged frame goes to the VLAN above, before any handler of the device below */
	return netif_is_macvlan(iface->chain[i - 1]) && !netif_is_macvlan_port(dev);
}

/*
 * Would the stack pass frames on to other processors (RPS, RFS)? It has them some time later
 * then, when what came after them may have been held.
 */
static bool detours(const struct exa_iface *iface)
{
#ifdef CONFIG_RPS
	unsigned int i;

	for (i = 0; static_branch_unlikely(&rps_needed) && i < iface->depth; i++)
		if (rcu_access_pointer(iface->chain[i]->_rx->rps_map) ||
		    exa_flow_table(iface->chain[i]->_rx))
			return true;
#endif
	return false;
}

enum exasock_reason exa_rx_obstacle(const struct exa_ns *ns, const struct exa_iface *iface)
{
	const struct net *net = ns->net;
	unsigned int i;

	for (i = 0; i < iface->depth; i++) {
		const struct net_device *dev = iface->chain[i];

		if (stacked(iface, i))
			return EXASOCK_R_STACKED;
		if (!list_empty(&dev->ptype_all) || tapped_specifically(dev))
			return EXASOCK_R_TAP;
		if (ingress_hooks(dev) && !bypassed(ns, dev))
			return EXASOCK_R_FILTER;
	}
	if (detours(iface))
		return EXASOCK_R_STACKED;
	if (exa_security_receives())
		return EXASOCK_R_POLICY;
	if (tapped(net, dev_net(iface->port->dev)))
		return EXASOCK_R_TAP;
	if (netfilter(net, NF_INET_PRE_ROUTING, NF_INET_LOCAL_IN) && !READ_ONCE(ns->bypass))
		return EXASOCK_R_FILTER;
	return xfrm_policies(net, XFRM_POLICY_IN) ? EXASOCK_R_FILTER : EXASOCK_R_NONE;
}

/* What is its receiver's own */
enum exasock_reason exa_rx_sock_obstacle(struct sock *sk)
{
	if (rcu_access_pointer(sk->sk_filter) || sock_policies(sk, XFRM_POLICY_IN) ||
	    cgroup_programs(sk, CGROUP_INET_INGRESS) ||
	    datagram_programs(sk, CGROUP_UDP4_RECVMSG))
		return EXASOCK_R_FILTER;
	return EXASOCK_R_NONE;
}

enum exasock_reason exa_tx_obstacle(const struct exa_ns *ns, const struct exa_iface *iface,
				    struct sock *sk)
{
	const struct net *net = ns->net;
	unsigned int i;

	for (i = 0; i < iface->depth; i++) {
		const struct net_device *dev = iface->chain[i];

		if (!running(dev))
			return EXASOCK_R_DEVICE;
		if (!list_empty(&dev->ptype_all))
			return EXASOCK_R_TAP;
		if (egress_hooks(dev) && !bypassed(ns, dev))
			return EXASOCK_R_FILTER;
		if (queues(dev) && !bypassed(ns, dev))
			return EXASOCK_R_QDISC;
		if (prioritized_by_group(dev, sk))
			return EXASOCK_R_FILTER;
	}
	if (exa_security_sends())
		return EXASOCK_R_POLICY;
	if (tapped(net, dev_net(iface->port->dev)))
		return EXASOCK_R_TAP;
	if (netfilter(net, NF_INET_LOCAL_OUT, NF_INET_POST_ROUTING) && !READ_ONCE(ns->bypass))
		return EXASOCK_R_FILTER;
	if (xfrm_policies(net, XFRM_POLICY_OUT) || sock_policies(sk, XFRM_POLICY_OUT) ||
	    cgroup_programs(sk, CGROUP_INET_EGRESS) || datagram_programs(sk, CGROUP_UDP4_SENDMSG))
		return EXASOCK_R_FILTER;
	return EXASOCK_R_NONE;
}
