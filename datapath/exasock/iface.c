// SPDX-License-Identifier: GPL-2.0-only
/*
 * The devices of namespaces that have attachments, as frames name them: port of a
 * card, VLAN tag, destination address (rule N3). Kept by the kernel's own news of
 * net devices: one is here while it is up and all below it is.
 */

#include <linux/etherdevice.h>
#include <linux/hashtable.h>
#include <linux/if_macvlan.h>
#include <linux/if_vlan.h>
#include <linux/jhash.h>
#include <linux/rtnetlink.h>
#include <linux/slab.h>

#include "tcp.h"

#define IFACE_BITS	10

static DEFINE_HASHTABLE(exa_ifaces, IFACE_BITS);	/* written under exa_mutex */
static DEFINE_HASHTABLE(exa_groups, IFACE_BITS);
static LIST_HEAD(exa_ports);				/* under exa_mutex */
static u32 exa_iface_seed;

static u32 iface_hash(const struct net_device *port, u16 vid, const u8 *mac)
{
	u32 words[4] = {
		(u32)(unsigned long)port, (u32)((u64)(unsigned long)port >> 32) ^ vid,
		mac ? get_unaligned((const u32 *)mac) : 0,
		mac ? get_unaligned((const u16 *)(mac + 4)) : 0,
	};

	return jhash2(words, ARRAY_SIZE(words), exa_iface_seed);
}

/*
 * Which device has a frame of this port, under RCU. Several may have one to a group:
 * then the answer is the device that the others stand on, and obstacle.c says so.
 */
struct exa_iface *exa_iface_of_frame(const struct net_device *port, u16 vid, const u8 *mac,
				     bool group)
{
	struct exa_iface *iface;

	if (group) {
		hash_for_each_possible_rcu(exa_groups, iface, group, iface_hash(port, vid, NULL))
			if (iface->port->dev == port && iface->vid == vid)
				return iface;
		return NULL;
	}
	hash_for_each_possible_rcu(exa_ifaces, iface, node, iface_hash(port, vid, mac))
		if (iface->port->dev == port && iface->vid == vid &&
		    ether_addr_equal(iface->mac, mac))
			return iface;
	return NULL;
}

/* Under RCU or exa_mutex */
struct exa_iface *exa_iface_of_dev(struct exa_ns *ns, const struct net_device *dev)
{
	struct exa_iface *iface;

	list_for_each_entry_rcu(iface, &ns->ifaces, list, lockdep_is_held(&exa_mutex))
		if (iface->dev == dev)
			return iface;
	return NULL;
}

static struct exa_port *port_find(const struct net_device *dev)
{
	struct exa_port *port;

	list_for_each_entry(port, &exa_ports, list)
		if (port->dev == dev)
			return port;
	return NULL;
}

static struct exa_port *port_get(struct net_device *dev)
{
	struct exa_port *port = port_find(dev);

	if (!port) {
		port = kzalloc(sizeof(*port), GFP_KERNEL);
		if (!port)
			return NULL;
		port->dev = dev;
		list_add(&port->list, &exa_ports);
		exa_txqs_alloc(port);
	}
	port->users++;
	return port;
}

/* Ports without transmit memory: somebody may have given back what there is meanwhile */
static void ports_retry(struct work_struct *work)
{
	struct exa_port *port;

	mutex_lock(&exa_mutex);
	list_for_each_entry(port, &exa_ports, list)
		exa_txqs_alloc(port);
	mutex_unlock(&exa_mutex);
}

static DECLARE_DELAYED_WORK(exa_ports_work, ports_retry);

/* Soon, however often it is said. Any context. */
void exa_ports_retry(void)
{
	schedule_delayed_work(&exa_ports_work, HZ / 10);
}

static void port_put(struct exa_port *port)
{
	if (--port->users)
		return;
	list_del(&port->list);
	exa_txqs_free(port);
	kfree_rcu(port, rcu);
}

/*
 * What stands between @dev and a card, from the top: a macvlan, a VLAN, a port, each of
 * the first two at most once. Other orders exist; the stack's own rules for them are
 * intricate, so their traffic is left to it. False: not ours.
 */
static bool chain_build(struct exa_iface *iface, struct net_device *dev)
{
	iface->dev = dev;
	if (netif_is_macvlan(dev)) {
		const struct macvlan_dev *vlan = netdev_priv(dev);

		/* a source mode one is not found by destination */
		if (vlan->mode == MACVLAN_MODE_SOURCE)
			return false;
		iface->macvlan = true;
		iface->chain[iface->depth++] = dev;
		dev = vlan->lowerdev;
	}
	if (is_vlan_dev(dev)) {
		if (vlan_dev_vlan_proto(dev) != htons(ETH_P_8021Q))
			return false;
		iface->vid = vlan_dev_vlan_id(dev);
		iface->chain[iface->depth++] = dev;
		dev = vlan_dev_priv(dev)->real_dev;
	}
	if (!exanic_is_port(dev))
		return false;
	iface->chain[iface->depth++] = dev;
	return true;
}

static bool chain_up(const struct exa_iface *iface)
{
	unsigned int i;

	for (i = 0; i < iface->depth; i++)
		if (!(iface->chain[i]->flags & IFF_UP))
			return false;
	return true;
}

static bool chain_has(const struct exa_iface *iface, const struct net_device *dev)
{
	unsigned int i;

	for (i = 0; i < iface->depth; i++)
		if (iface->chain[i] == dev)
			return true;
	return false;
}

static void iface_add(struct exa_ns *ns, struct net_device *dev)
{
	struct exa_iface *iface;

	if (exa_iface_of_dev(ns, dev))
		return;
	iface = kzalloc(sizeof(*iface), GFP_KERNEL);
	if (!iface)
		return;	/* its traffic goes through the kernel */
	if (!chain_build(iface, dev) || !chain_up(iface))
		goto free;
	iface->port = port_get(iface->chain[iface->depth - 1]);
	if (!iface->port)
		goto free;
	iface->ns = ns;
	iface->ifindex = dev->ifindex;
	ether_addr_copy(iface->mac, dev->dev_addr);
	iface->up = true;
	list_add_rcu(&iface->list, &ns->ifaces);
	hash_add_rcu(exa_ifaces, &iface->node,
		     iface_hash(iface->port->dev, iface->vid, iface->mac));
	if (!iface->macvlan)
		hash_add_rcu(exa_groups, &iface->group,
			     iface_hash(iface->port->dev, iface->vid, NULL));
	exa_settle(&iface->settling);
	WRITE_ONCE(ns->gen, ns->gen + 1);
	return;
free:
	kfree(iface);
}

/* Who found it before may still use it until a grace period is over, but sees it down */
static void iface_remove(struct exa_iface *iface)
{
	struct exa_ns *ns = iface->ns;

	WRITE_ONCE(iface->up, false);
	WRITE_ONCE(ns->gen, ns->gen + 1);
	hash_del_rcu(&iface->node);
	if (!iface->macvlan)
		hash_del_rcu(&iface->group);
	list_del_rcu(&iface->list);
	port_put(iface->port);
	kfree_rcu(iface, rcu);
}

/* All that are up, for a namespace that has just got its state. Under RTNL and exa_mutex. */
void exa_ifaces_scan(struct exa_ns *ns)
{
	struct net_device *dev;

	ASSERT_RTNL();
	for_each_netdev(ns->net, dev)
		if (dev->flags & IFF_UP)
			iface_add(ns, dev);
}

void exa_ifaces_drop(struct exa_ns *ns)
{
	struct exa_iface *iface, *next;

	list_for_each_entry_safe(iface, next, &ns->ifaces, list)
		iface_remove(iface);
}

/* @dev and, unless @alone, all that stands on it; true when there was something */
static bool ifaces_lose(const struct net_device *dev, bool alone)
{
	struct exa_iface *iface, *next;
	bool found = false;
	struct exa_ns *ns;

	list_for_each_entry(ns, &exa_namespaces, list) {
		list_for_each_entry_safe(iface, next, &ns->ifaces, list) {
			if (alone ? iface->dev == dev : chain_has(iface, dev)) {
				iface_remove(iface);
				found = true;
			}
		}
	}
	return found;
}

/* A device came up: it, and those above it that are up already */
static void ifaces_gain(struct net_device *dev)
{
	struct exa_ns *ns = exa_pernet(dev_net(dev))->ns;
	struct net_device *upper;
	struct list_head *at;

	if (ns)
		iface_add(ns, dev);
	netdev_for_each_upper_dev_rcu(dev, upper, at) {
		ns = exa_pernet(dev_net(upper))->ns;
		if (ns && upper->flags & IFF_UP)
			iface_add(ns, upper);
	}
}

/* Where a macvlan's address is on this host has changed: destinations look again */
static void macvlans_changed(void)
{
	struct exa_ns *ns;

	list_for_each_entry(ns, &exa_namespaces, list)
		WRITE_ONCE(ns->gen, ns->gen + 1);
}

static int exa_iface_event(struct notifier_block *block, unsigned long event, void *info)
{
	struct net_device *dev = netdev_notifier_info_to_dev(info);
	struct exa_port *port;

	switch (event) {
	case NETDEV_UP:
	case NETDEV_GOING_DOWN:
	case NETDEV_UNREGISTER:
	case NETDEV_CHANGEADDR:
		break;
	default:
		return NOTIFY_DONE;
	}
	mutex_lock(&exa_mutex);
	if (list_empty(&exa_namespaces))
		goto out;
	if (event == NETDEV_UP) {
		port = port_find(dev);
		if (port)
			exa_txqs_alloc(port);
		ifaces_gain(dev);
	} else {
		/*
		 * What was received is delivered while the device still belongs where it
		 * does; nothing more is held for it, for it is down for us (rule N8). With
		 * its last device a port gives its transmit memory back.
		 */
		exa_streams_losing(true);
		if (ifaces_lose(dev, event == NETDEV_CHANGEADDR)) {
			exa_flush_all();
			exa_streams_device_gone();
		}
		exa_streams_losing(false);
		if (event == NETDEV_CHANGEADDR && dev->flags & IFF_UP)
			ifaces_gain(dev);
	}
	if (netif_is_macvlan(dev))
		macvlans_changed();
out:
	mutex_unlock(&exa_mutex);
	return NOTIFY_DONE;
}

static struct notifier_block exa_iface_notifier = {
	.notifier_call = exa_iface_event,
};

int exa_iface_register(void)
{
	exa_iface_seed = get_random_u32();
	return register_netdevice_notifier(&exa_iface_notifier);
}

void exa_iface_unregister(void)
{
	unregister_netdevice_notifier(&exa_iface_notifier);
	cancel_delayed_work_sync(&exa_ports_work);
}
