// SPDX-License-Identifier: GPL-2.0-only
/*
 * The devices of namespaces that have attachments, as frames name them: port of a
 * card, VLAN tag, destination address (rule N3). Kept by the kernel's own news of
 * net devices: one is here while it is up and all below it is.
 *
 * News of other devices cost nobody anything, and news of one concern only what stands on it: the
 * devices of one port are linked, and a change is told to the namespaces of those it takes away.
 *
 * What others keep by a generation (destinations, flows) is made in the order: read the generation,
 * then look a device up. So here it is the other way round: a device is published, or can be found
 * no more, and then the generation grows (iface_generation_grow). Who has read the new one cannot
 * have found what is gone.
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

/*
 * What stands between @dev and a card, from the top: a macvlan, a VLAN, a port, each of
 * the first two at most once. Other orders exist; the stack's own rules for them are
 * intricate, so their traffic is left to it. The number of devices; 0: not on a card. Under RTNL.
 */
static unsigned int chain_build(struct net_device *dev, struct net_device **chain)
{
	unsigned int depth = 0;

	if (netif_is_macvlan(dev)) {
		chain[depth++] = dev;
		dev = ((const struct macvlan_dev *)netdev_priv(dev))->lowerdev;
	}
	if (is_vlan_dev(dev)) {
		chain[depth++] = dev;
		dev = vlan_dev_priv(dev)->real_dev;
	}
	if (!exanic_is_port(dev))
		return 0;
	chain[depth++] = dev;
	return depth;
}

/* The port that @dev is or stands on, or NULL. Under RTNL. */
static struct net_device *device_port(struct net_device *dev)
{
	struct net_device *chain[EXA_CHAIN];
	unsigned int depth = chain_build(dev, chain);

	return depth ? chain[depth - 1] : NULL;
}

/* False: its frames are not told by port, tag and destination address */
static bool chain_suits(struct exa_iface *iface)
{
	unsigned int i;

	for (i = 0; i < iface->depth; i++) {
		struct net_device *dev = iface->chain[i];

		if (netif_is_macvlan(dev)) {
			/* a source mode one is not found by destination */
			if (((const struct macvlan_dev *)netdev_priv(dev))->mode ==
			    MACVLAN_MODE_SOURCE)
				return false;
			iface->macvlan = true;
		} else if (is_vlan_dev(dev)) {
			if (vlan_dev_vlan_proto(dev) != htons(ETH_P_8021Q))
				return false;
			iface->vid = vlan_dev_vlan_id(dev);
		}
	}
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

/* After a device of the namespace was published, or can be found no more. Under exa_mutex. */
static void iface_generation_grow(struct exa_ns *ns)
{
	/* with the acquiring reads of whoever looks a device up after it */
	smp_store_release(&ns->gen, ns->gen + 1);
}

/*
 * What @dev would be among ours. False: its traffic goes through the kernel. Under RTNL; under RCU
 * alone the answer may be old.
 */
static bool iface_describe(struct exa_iface *iface, struct net_device *dev)
{
	iface->dev = dev;
	iface->depth = chain_build(dev, iface->chain);
	iface->ifindex = dev->ifindex;
	return iface->depth && chain_suits(iface) && chain_up(iface);
}

/*
 * With the port that it may be the first on; NULL: its traffic goes through the kernel. Under RTNL,
 * without exa_mutex.
 */
static struct exa_iface *iface_alloc(struct net_device *dev)
{
	struct exa_iface *iface;

	if (!device_port(dev))
		return NULL;
	iface = kzalloc(sizeof(*iface), GFP_KERNEL);
	if (!iface)
		return NULL;
	if (!iface_describe(iface, dev))
		goto free;
	iface->port = exa_port_alloc(iface->chain[iface->depth - 1]);
	if (!iface->port)
		goto free;
	ether_addr_copy(iface->mac, dev->dev_addr);
	return iface;
free:
	kfree(iface);
	return NULL;
}

/*
 * Has the namespace a device of a card that is up? Without RTNL, for whoever has none may ask
 * over and over (rule B5). A device has those it stands on until a grace period after it can be
 * found no more.
 */
bool exa_ifaces_exist(struct net *net)
{
	struct net_device *dev;
	bool found = false;

	rcu_read_lock();
	for_each_netdev_rcu(net, dev) {
		struct exa_iface iface = { };

		found = dev->flags & IFF_UP && iface_describe(&iface, dev);
		if (found)
			break;
	}
	rcu_read_unlock();
	return found;
}

static int iface_find(struct net_device *dev, struct netdev_nested_priv *fresh)
{
	struct exa_iface *iface;

	/* only under RTNL does a namespace get its state */
	if (!(dev->flags & IFF_UP) || !READ_ONCE(exa_pernet(dev_net(dev))->ns))
		return 0;
	iface = iface_alloc(dev);
	if (iface)
		list_add_tail(&iface->beside, (struct list_head *)fresh->data);
	return 0;
}

/* All of a namespace that are up, for exa_ifaces_publish(). Under RTNL, without exa_mutex. */
void exa_ifaces_find(struct net *net, struct list_head *fresh)
{
	struct exa_iface *iface;
	struct net_device *dev;

	ASSERT_RTNL();
	for_each_netdev(net, dev) {
		iface = dev->flags & IFF_UP ? iface_alloc(dev) : NULL;
		if (iface)
			list_add_tail(&iface->beside, fresh);
	}
}

/* From now on frames find it, unless it is known or its namespace has no state any more */
static bool iface_publish(struct exa_iface *iface)
{
	struct exa_ns *ns = exa_pernet(dev_net(iface->dev))->ns;

	if (!ns || exa_iface_of_dev(ns, iface->dev))
		return false;
	iface->ns = ns;
	iface->port = exa_port_join(iface->port);
	iface->up = true;
	list_move(&iface->beside, &iface->port->ifaces);
	list_add_rcu(&iface->list, &ns->ifaces);
	hash_add_rcu(exa_ifaces, &iface->node,
		     iface_hash(iface->port->dev, iface->vid, iface->mac));
	if (!iface->macvlan)
		hash_add_rcu(exa_groups, &iface->group,
			     iface_hash(iface->port->dev, iface->vid, NULL));
	exa_settle(&iface->settling);
	iface_generation_grow(ns);
	return true;
}

/* Those that cannot be used stay in the list, for exa_ifaces_discard(). Under exa_mutex. */
void exa_ifaces_publish(struct list_head *fresh)
{
	struct exa_iface *iface, *next;

	lockdep_assert_held(&exa_mutex);
	list_for_each_entry_safe(iface, next, fresh, beside)
		iface_publish(iface);
}

void exa_ifaces_discard(struct list_head *fresh)
{
	struct exa_iface *iface, *next;

	list_for_each_entry_safe(iface, next, fresh, beside) {
		kfree(iface->port);
		kfree(iface);
	}
}

/*
 * It is down for us already. Who found it before may still use it until a grace period is over,
 * but sees that.
 */
static void iface_remove(struct exa_iface *iface)
{
	hash_del_rcu(&iface->node);
	if (!iface->macvlan)
		hash_del_rcu(&iface->group);
	list_del_rcu(&iface->list);
	iface_generation_grow(iface->ns);
	list_del(&iface->beside);
	exa_port_put(iface->port);
	kfree_rcu(iface, rcu);
}

/* Of a namespace that ends: its sockets are gone */
void exa_ifaces_drop(struct exa_ns *ns)
{
	struct exa_iface *iface, *next;

	list_for_each_entry_safe(iface, next, &ns->ifaces, list) {
		WRITE_ONCE(iface->up, false);
		iface_remove(iface);
	}
}

/*
 * What was received by it is delivered while the device still belongs where it does; nothing more
 * is held for it, for it is down for us (rule N8), and no connection is taken by it. Connections
 * by it are known as strays before its frames are not told apart any more (tcp_index.c). Nobody
 * else's sockets are touched.
 */
static void iface_lose(struct exa_iface *iface)
{
	WRITE_ONCE(iface->up, false);
	exa_streams_device_gone(iface);
	exa_flush_device(iface->ns);
	iface_remove(iface);
}

/* @dev and, unless @alone, all that stands on it */
static void ifaces_lose(const struct exa_port *port, const struct net_device *dev, bool alone)
{
	struct exa_iface *iface, *next;

	list_for_each_entry_safe(iface, next, &port->ifaces, beside)
		if (alone ? iface->dev == dev : chain_has(iface, dev))
			iface_lose(iface);
}

/*
 * Where a macvlan's address is on this host has changed: destinations of those beside it look
 * again (dst.c).
 */
static void macvlan_changed(const struct exa_port *port, const struct net_device *dev)
{
	const struct net_device *lower = ((struct macvlan_dev *)netdev_priv(dev))->lowerdev;
	struct exa_iface *iface;

	list_for_each_entry(iface, &port->ifaces, beside) {
		if (!iface->macvlan || iface->chain[1] != lower)
			continue;
		/* what was found before it came round again is not to be taken for new */
		if (iface->siblings == U16_MAX)
			iface_generation_grow(iface->ns);
		/* after the macvlan's own change */
		smp_store_release(&iface->siblings, iface->siblings + 1);
	}
}

/* A device came up, or has another address: it, and those above it that are up already */
static void device_gained(struct net_device *dev)
{
	LIST_HEAD(fresh);
	struct netdev_nested_priv found = { .data = &fresh };

	iface_find(dev, &found);
	netdev_walk_all_upper_dev_rcu(dev, iface_find, &found);
	if (list_empty(&fresh))
		return;
	mutex_lock(&exa_mutex);
	exa_ifaces_publish(&fresh);
	mutex_unlock(&exa_mutex);
	exa_ifaces_discard(&fresh);
	exa_ports_equip_soon();
}

/* A device went, or its address did: with its last one a port gives its transmit memory back */
static void device_lost(const struct net_device *below, const struct net_device *dev, bool alone)
{
	struct exa_port *port;

	mutex_lock(&exa_mutex);
	port = exa_port_find(below);
	if (port)
		ifaces_lose(port, dev, alone);
	mutex_unlock(&exa_mutex);
}

static void device_changed(const struct net_device *below, const struct net_device *dev)
{
	struct exa_port *port;

	mutex_lock(&exa_mutex);
	port = exa_port_find(below);
	if (port)
		macvlan_changed(port, dev);
	mutex_unlock(&exa_mutex);
}

static void device_event(struct net_device *below, struct net_device *dev, unsigned long event)
{
	switch (event) {
	case NETDEV_UP:
		device_gained(dev);
		break;
	case NETDEV_GOING_DOWN:
	case NETDEV_UNREGISTER:
		device_lost(below, dev, false);
		break;
	case NETDEV_CHANGEADDR:
		device_lost(below, dev, true);
		if (dev->flags & IFF_UP)
			device_gained(dev);
		break;
	}
	if (event == NETDEV_UNREGISTER && dev == below)
		exa_port_unregistered(dev);
	if (netif_is_macvlan(dev))
		device_changed(below, dev);
}

/* Under RTNL. News of a device that is on no card end here, before any lock of ours (rule B5). */
static int exa_iface_event(struct notifier_block *block, unsigned long event, void *info)
{
	struct net_device *dev = netdev_notifier_info_to_dev(info), *below;

	switch (event) {
	case NETDEV_UP:
	case NETDEV_GOING_DOWN:
	case NETDEV_UNREGISTER:
	case NETDEV_CHANGEADDR:
		below = device_port(dev);
		if (below)
			device_event(below, dev, event);
	}
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
}
