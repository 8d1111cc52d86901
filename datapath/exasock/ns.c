// SPDX-License-Identifier: GPL-2.0-only
/*
 * State of network namespaces: made when the first socket of one is attached, gone a
 * moment after the last (rules N5, N7, N12), for a server whose connections come and go
 * would pay for it with each. It holds no reference to its namespace: when that ends, the
 * state does.
 */

#include <linux/rtnetlink.h>
#include <linux/slab.h>
#include <net/net_namespace.h>
#include <net/netns/generic.h>

#include "exasock.h"

#define IDLE	(HZ / 4)	/* how long a namespace keeps its state without attachments */

static void exa_ns_sweep(struct work_struct *work);

static DECLARE_DELAYED_WORK(exa_ns_sweeping, exa_ns_sweep);
static unsigned int exa_net_id;
LIST_HEAD(exa_namespaces);	/* with state, under exa_mutex */

struct exa_pernet *exa_pernet(const struct net *net)
{
	return net_generic(net, exa_net_id);
}

/* Charged to who attaches the first socket. May sleep; called without exa_mutex and RTNL. */
static struct exa_ns *exa_ns_create(struct net *net)
{
	struct exa_ns *ns = kvzalloc(sizeof(*ns), GFP_KERNEL_ACCOUNT);

	if (!ns)
		return ERR_PTR(-ENOMEM);
	ns->net = net;
	ns->cookie = net->net_cookie;
	ns->seed = get_random_u32();
	refcount_set(&ns->refs, 1);
	INIT_LIST_HEAD(&ns->ifaces);
	spin_lock_init(&ns->lock);
	spin_lock_init(&ns->holding_lock);
	INIT_LIST_HEAD(&ns->holding);
	exa_flows_init(ns);
	return ns;
}

/* After a grace period: who was in it when it was left may have added something since */
static void exa_ns_free(struct rcu_head *head)
{
	struct exa_ns *ns = container_of(head, struct exa_ns, rcu);

	exa_dsts_drop(ns);
	kvfree(ns);
}

/* One reference to its memory less */
void exa_ns_forget(struct exa_ns *ns)
{
	if (refcount_dec_and_test(&ns->refs))
		call_rcu(&ns->rcu, exa_ns_free);
}

/*
 * @ns is that of its namespace now, and @fresh its devices. -EPERM: nobody has given this namespace
 * a card. Under RTNL and exa_mutex.
 */
static int exa_ns_begin(struct exa_ns *ns, struct list_head *fresh)
{
	struct exa_pernet *pernet = exa_pernet(ns->net);
	int err = 0;

	if (list_empty(fresh))
		return -EPERM;
	if (list_empty(&exa_namespaces))
		err = exa_receive_start();
	if (err)
		return err;
	ns->bypass = READ_ONCE(pernet->bypass);
	list_add(&ns->list, &exa_namespaces);
	WRITE_ONCE(pernet->ns, ns);
	exa_ifaces_publish(fresh);
	return 0;
}

/* One more attachment, or NULL: the namespace has no state. Under exa_mutex. */
static struct exa_ns *exa_ns_use(struct exa_pernet *pernet)
{
	if (pernet->ns)
		pernet->ns->users++;
	return pernet->ns;
}

/*
 * State for one more attachment. May sleep. The caller holds a reference to @net. What is allocated
 * is so before exa_mutex is taken, and what is charged before RTNL is.
 */
struct exa_ns *exa_ns_get(struct net *net)
{
	struct exa_pernet *pernet = exa_pernet(net);
	struct exa_ns *ns, *made;
	LIST_HEAD(fresh);
	int err = 0;

	mutex_lock(&exa_mutex);
	ns = exa_ns_use(pernet);
	mutex_unlock(&exa_mutex);
	if (ns)
		return ns;
	if (!exa_ifaces_exist(net))
		return ERR_PTR(-EPERM);

	made = exa_ns_create(net);
	if (IS_ERR(made))
		return made;
	rtnl_lock();
	exa_ifaces_find(net, &fresh);
	mutex_lock(&exa_mutex);
	if (!pernet->ns) {
		err = exa_ns_begin(made, &fresh);
		if (!err)
			made = NULL;
	}
	ns = err ? ERR_PTR(err) : exa_ns_use(pernet);
	mutex_unlock(&exa_mutex);
	rtnl_unlock();
	exa_ports_equip();
	exa_ifaces_discard(&fresh);
	kvfree(made);
	return ns;
}

/* Nobody finds it any more */
static void exa_ns_leave(struct exa_ns *ns)
{
	WRITE_ONCE(exa_pernet(ns->net)->ns, NULL);
	WRITE_ONCE(ns->left, true);
	list_del(&ns->list);
	if (list_empty(&exa_namespaces))
		exa_receive_stop();
	exa_ifaces_drop(ns);
	exa_dsts_drop(ns);
	exa_ns_forget(ns);
}

/* One attachment less. Under exa_mutex. */
void exa_ns_put(struct exa_ns *ns)
{
	lockdep_assert_held(&exa_mutex);
	if (--ns->users || ns->left)
		return;
	ns->idle_since = jiffies;
	schedule_delayed_work(&exa_ns_sweeping, IDLE);
}

/* Those without an attachment for @idle jiffies end. True: some have been for less. */
static bool exa_ns_leave_idle(unsigned long idle)
{
	struct exa_ns *ns, *next;
	bool some = false;

	mutex_lock(&exa_mutex);
	list_for_each_entry_safe(ns, next, &exa_namespaces, list) {
		if (ns->users)
			continue;
		if (time_before(jiffies, ns->idle_since + idle))
			some = true;
		else
			exa_ns_leave(ns);
	}
	mutex_unlock(&exa_mutex);
	return some;
}

static void exa_ns_sweep(struct work_struct *work)
{
	if (exa_ns_leave_idle(IDLE))
		schedule_delayed_work(&exa_ns_sweeping, IDLE);
}

/* No attachment can be made any more, and there is none */
void exa_ns_stop(void)
{
	cancel_delayed_work_sync(&exa_ns_sweeping);
	exa_ns_leave_idle(0);
}

/* The namespace ends: its sockets are gone, though their attachments may not know it yet */
static void __net_exit exa_pernet_exit(struct net *net)
{
	mutex_lock(&exa_mutex);
	if (exa_pernet(net)->ns)
		exa_ns_leave(exa_pernet(net)->ns);
	mutex_unlock(&exa_mutex);
}

/* An attachment to a socket of that namespace failed: that it did, and why, is shown (rule N9) */
void exa_refused(const struct exa_attachment_kind *kind, const struct net *net, int err)
{
	enum exasock_refusal why;

	switch (err) {
	case -EOPNOTSUPP:
	case -ENOTCONN:
		why = EXASOCK_N_KIND;
		break;
	case -EPERM:
		why = EXASOCK_N_CARD;
		break;
	case -EBUSY:
		why = EXASOCK_N_TAKEN;
		break;
	case -EMFILE:
		why = EXASOCK_N_LIMIT;
		break;
	default:
		why = EXASOCK_N_MEMORY;
	}
	atomic64_inc(&exa_pernet(net)->refused[kind->index][why]);
}

int exa_setting(struct exasock_setting *setting)
{
	struct net *net = current->nsproxy->net_ns;
	struct exa_pernet *pernet = exa_pernet(net);

	if (setting->name != EXASOCK_SET_BYPASS_FILTERS)
		return -EINVAL;
	if (!setting->write) {
		setting->value = READ_ONCE(pernet->bypass);
		return 0;
	}
	if (setting->write != 1 || setting->value > 1)
		return -EINVAL;
	if (!ns_capable(net->user_ns, CAP_NET_ADMIN))
		return -EPERM;
	mutex_lock(&exa_mutex);
	WRITE_ONCE(pernet->bypass, setting->value);
	if (pernet->ns)
		WRITE_ONCE(pernet->ns->bypass, setting->value);
	mutex_unlock(&exa_mutex);
	return 0;
}

static struct pernet_operations exa_pernet_ops = {
	.exit = exa_pernet_exit,
	.id = &exa_net_id,
	.size = sizeof(struct exa_pernet),
};

int exa_pernet_register(void)
{
	return register_pernet_subsys(&exa_pernet_ops);
}

void exa_pernet_unregister(void)
{
	unregister_pernet_subsys(&exa_pernet_ops);
	rcu_barrier();	/* exa_ns_free() is ours */
}
