// SPDX-License-Identifier: GPL-2.0-only
/*
 * Who may do what through /dev/exanicN (rule N6; ACCESS.md has the reasons).
 *
 * A file has its opener's rights, wherever it travels: the credentials and the
 * network namespace of the time it was opened. The namespace is remembered by its
 * cookie, so a file keeps no namespace alive.
 */

#include <linux/capability.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/nsproxy.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/sched/user.h>
#include <net/net_namespace.h>

#include "access.h"
#include "exanic.h"

u64 exanic_current_netns(void)
{
	return current->nsproxy->net_ns->net_cookie;
}

/* Registers can point DMA anywhere: only who may do that anyway */
bool exanic_may_hardware(const struct exanic_file *ctx)
{
	return file_ns_capable(ctx->file, &init_user_ns, CAP_SYS_RAWIO);
}

/*
 * The port's frames, both ways. Under map_lock: while the port has an owner its net
 * device is registered there, so that namespace exists.
 */
bool exanic_may_port(const struct exanic_file *ctx, const struct exanic_port *port)
{
	return port->owner && port->owner == ctx->netns &&
	       file_ns_capable(ctx->file, dev_net(port->dev)->user_ns, CAP_NET_RAW);
}

/* What concerns a whole card, whosever the ports are: the host's owner only (B8) */
bool exanic_may_card(void)
{
	return capable(CAP_NET_ADMIN);
}

/*
 * Bridging reaches nobody else when every port belongs to the caller's namespace. The
 * caller has proved CAP_NET_ADMIN there; under RTNL, so that no port changes hands.
 */
bool exanic_may_bridge(const struct exanic_port *port)
{
	const struct exanic *card = port->card;
	unsigned int p;

	if (exanic_may_card())
		return true;
	for (p = 0; p < card->ports; p++)
		if (card->port[p]->registered && card->port[p]->owner != port->owner)
			return false;
	return port->owner;
}

struct other_owner {
	const struct net *net;
	bool found;
};

static int other_owner_look(struct net_device *upper, struct netdev_nested_priv *priv)
{
	struct other_owner *other = priv->data;

	other->found = !net_eq(dev_net(upper), other->net);
	return other->found;
}

/*
 * Does a device of another namespace (VLAN, macvlan, ipvlan) stand on the port? What is
 * steered away from the stack is taken from it as well. Under map_lock, for a port with
 * an owner; a device that comes later is told of by a notifier (netdev.c).
 */
bool exanic_carries_others(const struct exanic_port *port)
{
	struct other_owner other = { .net = dev_net(port->dev) };
	struct netdev_nested_priv priv = { .data = &other };

	rcu_read_lock();
	netdev_walk_all_upper_dev_rcu(port->dev, other_owner_look, &priv);
	rcu_read_unlock();
	return other.found;
}

/*
 * Memory that a file holds, against its opener's RLIMIT_MEMLOCK, as for the rings of other
 * sockets that take frames past the stack. Under map_lock.
 */
int exanic_file_charge(struct exanic_file *ctx, unsigned long pages)
{
	unsigned long limit = rlimit(RLIMIT_MEMLOCK) >> PAGE_SHIFT, old, new;

	if (file_ns_capable(ctx->file, &init_user_ns, CAP_IPC_LOCK))
		limit = LONG_MAX;
	old = atomic_long_read(&ctx->user->locked_vm);
	do {
		new = old + pages;
		if (new > limit)
			return -ENOBUFS;
	} while (!atomic_long_try_cmpxchg(&ctx->user->locked_vm, &old, new));
	return 0;
}

void exanic_file_uncharge(struct exanic_file *ctx, unsigned long pages)
{
	atomic_long_sub(pages, &ctx->user->locked_vm);
}

/* Take pages out of all processes; the next access is checked anew. Under map_lock. */
void exanic_zap(struct exanic *card, enum exanic_area area, unsigned long first,
		unsigned long pages)
{
	loff_t start = (loff_t)(exanic_area_pgoff(area) + first) << PAGE_SHIFT;
	struct exanic_file *ctx;

	list_for_each_entry(ctx, &card->files, list)
		unmap_mapping_range(ctx->file->f_mapping, start, (loff_t)pages << PAGE_SHIFT, 1);
}

/* Everything that shows the card; the clock's page and dead pages do no harm */
void exanic_zap_all(struct exanic *card)
{
	enum exanic_area area;

	mutex_lock(&card->map_lock);
	for (area = EXANIC_AREA_FIRST; area <= EXANIC_AREA_LAST; area++)
		exanic_zap(card, area, 0, EXANIC_AREA_PAGES);
	mutex_unlock(&card->map_lock);
}

/* Devices of another namespace stand on the port now */
void exanic_port_unsteer(struct exanic_port *port)
{
	mutex_lock(&port->card->map_lock);
	exanic_filters_revoke(port);
	mutex_unlock(&port->card->map_lock);
}

/*
 * The port changes hands. What the old namespace's processes set up in the card stops
 * working now: rules would go on stealing the new owner's frames, rings show them.
 */
void exanic_port_set_owner(struct exanic_port *port, u64 cookie)
{
	struct exanic *card = port->card;

	mutex_lock(&card->map_lock);
	port->owner = cookie;
	if (!cookie)
		exanic_filters_revoke(port);
	exanic_bridge_revoke(card, cookie);
	exanic_zap(card, EXANIC_AREA_RING, port->number * EXANIC_RING_PAGES, EXANIC_RING_PAGES);
	exanic_zap(card, EXANIC_AREA_FILTER_RING,
		   port->number * EXANIC_FILTER_BUFFERS_MAX * EXANIC_RING_PAGES,
		   EXANIC_FILTER_BUFFERS_MAX * EXANIC_RING_PAGES);
	exanic_zap(card, EXANIC_AREA_TX, port->tx_region >> PAGE_SHIFT,
		   port->tx_region_size >> PAGE_SHIFT);
	mutex_unlock(&card->map_lock);
}
