// SPDX-License-Identifier: GPL-2.0-only
/*
 * Ports of cards that namespaces' devices stand on, with the transmit memory that their sockets
 * share. A port stays a moment after its last device, for a device that only goes down and comes
 * up again would pay for its transmit memory each time.
 *
 * Nothing here allocates or waits for a grace period with exa_mutex held (rule B5): memory for a
 * port is allocated before, transmit queues after, and what a port had is freed by a work item.
 */

#include <linux/rtnetlink.h>
#include <linux/slab.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include "exasock.h"

#define PORT_IDLE	(HZ / 4)	/* how long a port stays without devices */

static LIST_HEAD(exa_ports);			/* under exa_mutex */
static DEFINE_MUTEX(exa_port_equipping);	/* outside exa_mutex; never with RTNL */
static DEFINE_SPINLOCK(exa_port_lock);		/* exa_ports_existing */
static LIST_HEAD(exa_ports_existing);		/* those whose transmit memory is still theirs */
static DECLARE_WAIT_QUEUE_HEAD(exa_port_freed);
static struct workqueue_struct *exa_port_wq;

static struct exa_port *port_find(const struct net_device *dev)
{
	struct exa_port *port;

	list_for_each_entry(port, &exa_ports, list)
		if (port->dev == dev)
			return port;
	return NULL;
}

/* A grace period after nobody found it any more, and nobody equips it: its queues have no user */
static void port_free_work(struct work_struct *work)
{
	struct exa_port *port = container_of(to_rcu_work(work), struct exa_port, free);

	exa_txqs_free(port);
	spin_lock(&exa_port_lock);
	list_del(&port->existing);
	spin_unlock(&exa_port_lock);
	kfree(port);
	wake_up_all(&exa_port_freed);
}

/* The least that no port has: each of few has a place of its own in struct exa_ns.gathering */
static u16 port_number(void)
{
	struct exa_port *port;
	u16 number = 1;

again:
	list_for_each_entry(port, &exa_ports, list) {
		if (port->number == number) {
			number++;
			goto again;
		}
	}
	return number;
}

/* Not found by anybody yet. May sleep; called without exa_mutex. */
struct exa_port *exa_port_alloc(struct net_device *dev)
{
	struct exa_port *port = kzalloc(sizeof(*port), GFP_KERNEL);

	if (!port)
		return NULL;
	port->dev = dev;
	INIT_LIST_HEAD(&port->ifaces);
	INIT_RCU_WORK(&port->free, port_free_work);
	return port;
}

/* The port of @fresh's device: the one that is known, and @fresh is freed, or @fresh itself */
struct exa_port *exa_port_join(struct exa_port *fresh)
{
	struct exa_port *port;

	lockdep_assert_held(&exa_mutex);
	port = port_find(fresh->dev);
	if (port) {
		kfree(fresh);
	} else {
		port = fresh;
		port->number = port_number();
		list_add(&port->list, &exa_ports);
		spin_lock(&exa_port_lock);
		list_add(&port->existing, &exa_ports_existing);
		spin_unlock(&exa_port_lock);
	}
	port->users++;
	return port;
}

struct exa_port *exa_port_find(const struct net_device *dev)
{
	lockdep_assert_held(&exa_mutex);
	return port_find(dev);
}

static void ports_sweep(struct work_struct *work);
static void ports_retry(struct work_struct *work);

static DECLARE_DELAYED_WORK(exa_ports_sweeping, ports_sweep);
static DECLARE_DELAYED_WORK(exa_ports_retrying, ports_retry);

static void port_retire(struct exa_port *port)
{
	lockdep_assert_held(&exa_mutex);
	list_del(&port->list);
	queue_rcu_work(exa_port_wq, &port->free);
}

void exa_port_put(struct exa_port *port)
{
	lockdep_assert_held(&exa_mutex);
	if (--port->users)
		return;
	if (port->leaving)
		port_retire(port);
	else
		mod_delayed_work(exa_port_wq, &exa_ports_sweeping, PORT_IDLE);
}

/* All without a user */
static void ports_retire(void)
{
	struct exa_port *port, *next;

	list_for_each_entry_safe(port, next, &exa_ports, list)
		if (!port->users)
			port_retire(port);
}

static void ports_sweep(struct work_struct *work)
{
	mutex_lock(&exa_mutex);
	ports_retire();
	mutex_unlock(&exa_mutex);
}

static bool port_exists(const struct net_device *dev)
{
	struct exa_port *port;
	bool found = false;

	spin_lock(&exa_port_lock);
	list_for_each_entry(port, &exa_ports_existing, existing)
		found |= port->dev == dev;
	spin_unlock(&exa_port_lock);
	return found;
}

/*
 * The net device is unregistered: its transmit memory must be given back before (see
 * exanic_kernel.h). No device stands on it any more, so its only user is who equips it just now,
 * and retires it then: that of other ports is not waited for. Under RTNL, without exa_mutex.
 */
void exa_port_unregistered(const struct net_device *dev)
{
	struct exa_port *port;

	mutex_lock(&exa_mutex);
	port = port_find(dev);
	if (port) {
		port->leaving = true;
		if (!port->users)
			port_retire(port);
	}
	mutex_unlock(&exa_mutex);
	wait_event(exa_port_freed, !port_exists(dev));
}

/* One that lacks a transmit queue and was not tried yet, with a user more */
static struct exa_port *port_to_equip(unsigned int round)
{
	struct exa_port *port;

	mutex_lock(&exa_mutex);
	list_for_each_entry(port, &exa_ports, list) {
		if (port->round != round && !port->leaving && !exa_txqs_complete(port)) {
			port->round = round;
			port->users++;
			goto found;
		}
	}
	port = NULL;
found:
	mutex_unlock(&exa_mutex);
	return port;
}

/*
 * Transmit queues for ports that have none, as far as there is memory. Without exa_mutex, and
 * without RTNL: there is exa_ports_equip_soon().
 */
void exa_ports_equip(void)
{
	static unsigned int round;	/* under exa_port_equipping; 0: never */
	struct exa_port *port;

#ifdef CONFIG_PROVE_LOCKING
	WARN_ON_ONCE(lockdep_rtnl_is_held());
#endif
	mutex_lock(&exa_port_equipping);
	round = round + 1 ?: 1;
	while ((port = port_to_equip(round))) {
		exa_txqs_alloc(port);
		mutex_lock(&exa_mutex);
		exa_port_put(port);
		mutex_unlock(&exa_mutex);
	}
	mutex_unlock(&exa_port_equipping);
}

static void ports_retry(struct work_struct *work)
{
	exa_ports_equip();
}

/* At once, by a work item: the caller has RTNL */
void exa_ports_equip_soon(void)
{
	mod_delayed_work(exa_port_wq, &exa_ports_retrying, 0);
}

/*
 * Soon, however often it is said: somebody may have given transmit memory back meanwhile.
 * Any context.
 */
void exa_ports_retry(void)
{
	queue_delayed_work(exa_port_wq, &exa_ports_retrying, HZ / 10);
}

int exa_ports_setup(void)
{
	exa_port_wq = alloc_workqueue("exasock_ports", WQ_UNBOUND, 0);
	return exa_port_wq ? 0 : -ENOMEM;
}

/* No port has a user, and no socket can send any more */
void exa_ports_teardown(void)
{
	cancel_delayed_work_sync(&exa_ports_retrying);
	cancel_delayed_work_sync(&exa_ports_sweeping);
	mutex_lock(&exa_mutex);
	ports_retire();
	mutex_unlock(&exa_mutex);
	rcu_barrier();		/* then its work is queued, and is done before the queue goes */
	destroy_workqueue(exa_port_wq);
}
