// SPDX-License-Identifier: GPL-2.0-only
/*
 * Attachments: an accelerated socket, its namespace, its memory (rules N1, N4, N6).
 *
 * The native socket is not touched but for four callbacks that tell us when something
 * happens to it: data or an error came, it was shut down, it is freed. No reference to
 * it is held, so whatever frees it in an unaccelerated program frees it here. What
 * follows its address is valid because its last callback, before the memory goes,
 * forgets it; and while a lookup under RCU or a descriptor holds it anyway.
 */

#include <linux/hashtable.h>
#include <linux/module.h>
#include <linux/net.h>
#include <linux/percpu.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <net/inet_sock.h>
#include <net/udp.h>

#include "exasock.h"

#define SOCK_BITS	12

static DEFINE_HASHTABLE(exa_socks, SOCK_BITS);
static DEFINE_SPINLOCK(exa_sock_lock);		/* exa_socks */
static LIST_HEAD(exa_all);			/* under exa_mutex */
static unsigned int exa_count;			/* under exa_mutex */
static struct workqueue_struct *exa_wq;

/* What every untouched UDP socket has; a socket with others is somebody else's already */
static struct {
	void (*data_ready)(struct sock *sk);
	void (*error_report)(struct sock *sk);
	void (*state_change)(struct sock *sk);
	void (*destruct)(struct sock *sk);
} exa_native;

static unsigned long sock_key(const struct sock *sk)
{
	return (unsigned long)sk >> L1_CACHE_SHIFT;
}

/* Under RCU. The attachment lives for a grace period, its socket as long as the caller's. */
struct exa_sock *exa_sock_find(const struct sock *sk)
{
	struct exa_sock *es;

	hash_for_each_possible_rcu(exa_socks, es, node, sock_key(sk))
		if (READ_ONCE(es->sk) == sk)
			return es;
	return NULL;
}

static void sock_last_put(struct kref *ref)
{
	struct exa_sock *es = container_of(ref, struct exa_sock, ref);

	hrtimer_cancel(&es->timer);
	exa_ns_forget(es->ns);
	exa_sock_free(es);
}

void exa_sock_put(struct exa_sock *es)
{
	kref_put(&es->ref, sock_last_put);
}

/* A grace period after it was detached: nobody finds it any more. Unmapping may sleep. */
static void sock_free_work(struct work_struct *work)
{
	exa_sock_put(container_of(to_rcu_work(work), struct exa_sock, free));
}

/* NULL: no such handle. May be called without any lock. */
struct exa_sock *exa_sock_get(struct exa_context *context, u32 handle)
{
	struct exa_sock *es;

	rcu_read_lock();
	es = xa_load(&context->socks, handle);
	if (es && !kref_get_unless_zero(&es->ref))
		es = NULL;
	rcu_read_unlock();
	return es;
}

/* Once or twice */
static void sock_unhash(struct exa_sock *es)
{
	spin_lock_bh(&exa_sock_lock);
	hlist_del_init_rcu(&es->node);
	hlist_del_init_rcu(&es->sibling);
	spin_unlock_bh(&exa_sock_lock);
}

/* --- what the native socket tells ------------------------------------------------------- */

static void sock_event(const struct sock *sk)
{
	struct exa_sock *es;

	rcu_read_lock();
	es = exa_sock_find(sk);
	if (es)
		atomic_inc_return_release((atomic_t *)&es->ring->native);
	rcu_read_unlock();
}

static void exa_data_ready(struct sock *sk)
{
	sock_event(sk);
	exa_native.data_ready(sk);
}

static void exa_error_report(struct sock *sk)
{
	sock_event(sk);
	exa_native.error_report(sk);
}

static void exa_state_change(struct sock *sk)
{
	sock_event(sk);
	exa_native.state_change(sk);
}

/* The socket is over: nobody refers to it any more but we */
static void exa_destruct(struct sock *sk)
{
	struct exa_sock *es;

	rcu_read_lock();
	es = exa_sock_find(sk);
	if (es) {
		spin_lock_bh(&es->lock);
		WRITE_ONCE(es->sk, NULL);
		WRITE_ONCE(es->ring->dead, 1);
		es->oldest = es->head;	/* what is held goes with its queue */
		spin_unlock_bh(&es->lock);
		sock_unhash(es);
	}
	rcu_read_unlock();
	exa_native.destruct(sk);
}

/* -EOPNOTSUPP: its callbacks are not the usual ones. With the socket locked. */
static int sock_hook(struct sock *sk, struct exa_sock *es)
{
	int err = 0;

	write_lock_bh(&sk->sk_callback_lock);
	if (sk->sk_data_ready != exa_native.data_ready ||
	    sk->sk_error_report != exa_native.error_report ||
	    sk->sk_state_change != exa_native.state_change ||
	    sk->sk_destruct != exa_native.destruct || sk->sk_user_data) {
		err = -EOPNOTSUPP;
		goto unlock;
	}
	es->sk = sk;
	spin_lock(&exa_sock_lock);
	hash_add_rcu(exa_socks, &es->node, sock_key(sk));
	hlist_add_head_rcu(&es->sibling, &es->ns->socks);
	spin_unlock(&exa_sock_lock);
	/* its memory outlives lookups under RCU even if it was never bound */
	sock_set_flag(sk, SOCK_RCU_FREE);
	sk->sk_destruct = exa_destruct;
	WRITE_ONCE(sk->sk_data_ready, exa_data_ready);
	WRITE_ONCE(sk->sk_error_report, exa_error_report);
	WRITE_ONCE(sk->sk_state_change, exa_state_change);
unlock:
	write_unlock_bh(&sk->sk_callback_lock);
	return err;
}

/*
 * Give the callbacks back. Somebody else's on top of ours cannot be taken out from
 * under them: then this module stays.
 */
static void sock_unhook(struct sock *sk)
{
	bool stays;

	write_lock_bh(&sk->sk_callback_lock);
	stays = sk->sk_data_ready != exa_data_ready || sk->sk_error_report != exa_error_report ||
		sk->sk_state_change != exa_state_change || sk->sk_destruct != exa_destruct;
	if (!stays) {
		WRITE_ONCE(sk->sk_data_ready, exa_native.data_ready);
		WRITE_ONCE(sk->sk_error_report, exa_native.error_report);
		WRITE_ONCE(sk->sk_state_change, exa_native.state_change);
		sk->sk_destruct = exa_native.destruct;
	}
	write_unlock_bh(&sk->sk_callback_lock);
	if (stays) {
		__module_get(THIS_MODULE);
		pr_warn_once("exasock: a socket's callbacks were changed by others: cannot be unloaded any more\n");
	}
}

/* --- attach and detach ------------------------------------------------------------------ */

static int sock_suits(const struct sock *sk)
{
	if (sk->sk_family != AF_INET || sk->sk_type != SOCK_DGRAM ||
	    sk->sk_protocol != IPPROTO_UDP || sk->sk_prot != &udp_prot)
		return -EOPNOTSUPP;
	return 0;
}

/* The namespace has its state; the socket is locked */
static int sock_attach(struct exa_context *context, struct exa_ns *ns, struct sock *sk,
		       struct exasock_attach *attach)
{
	struct exa_sock *es;
	int err;

	if (exa_count >= READ_ONCE(exa_max_sockets))
		return -EMFILE;
	es = exa_sock_alloc();
	if (!es)
		return -ENOMEM;
	kref_init(&es->ref);
	spin_lock_init(&es->lock);
	exa_hold_start(es);
	INIT_RCU_WORK(&es->free, sock_free_work);
	es->context = context;
	es->ring->netns = ns->cookie;
	err = xa_alloc(&context->socks, &es->handle, NULL, xa_limit_31b, GFP_KERNEL_ACCOUNT);
	if (err)
		goto free;
	es->ring->handle = es->handle;
	es->ns = ns;
	err = sock_hook(sk, es);
	if (err)
		goto erase;
	/* only now: who did not find the socket before may still be at it when this is over */
	exa_settle(&es->settling);
	refcount_inc(&ns->refs);
	xa_store(&context->socks, es->handle, es, GFP_KERNEL_ACCOUNT);
	list_add(&es->list, &exa_all);
	exa_count++;
	attach->handle = es->handle;
	attach->netns = ns->cookie;
	return 0;

erase:
	xa_erase(&context->socks, es->handle);
free:
	exa_sock_free(es);
	return err;
}

static int sock_attach_or_find(struct exa_context *context, struct exa_ns *ns, struct sock *sk,
			       struct exasock_attach *attach, bool *found)
{
	struct exa_sock *es;
	int err = -EBUSY;

	rcu_read_lock();
	es = exa_sock_find(sk);
	if (es && es->context == context) {
		attach->handle = es->handle;
		attach->netns = es->ring->netns;
		*found = true;
		err = 0;
	}
	rcu_read_unlock();
	if (es)
		return err;
	return sock_attach(context, ns, sk, attach);
}

int exa_attach(struct exa_context *context, struct exasock_attach *attach)
{
	struct socket *sock;
	bool found = false;
	struct exa_ns *ns;
	int err;

	sock = sockfd_lookup(attach->fd, &err);
	if (!sock)
		return err;
	err = sock_suits(sock->sk);
	if (err)
		goto put;
	ns = exa_ns_get(sock_net(sock->sk));
	if (IS_ERR(ns)) {
		err = PTR_ERR(ns);
		goto put;
	}
	mutex_lock(&context->lock);
	lock_sock(sock->sk);
	mutex_lock(&exa_mutex);
	err = sock_attach_or_find(context, ns, sock->sk, attach, &found);
	if (err || found)
		exa_ns_put(ns);
	mutex_unlock(&exa_mutex);
	release_sock(sock->sk);
	mutex_unlock(&context->lock);
put:
	if (err)
		exa_refused(sock_net(sock->sk), err);
	sockfd_put(sock);
	return err;
}

/*
 * Over: what is held goes into the stack, and the socket is as it was. Under the
 * context's lock. A socket that is being freed at this moment keeps its callbacks: the
 * last of them will find nothing.
 */
static void sock_detach(struct exa_context *context, struct exa_sock *es)
{
	struct sock *sk;

	xa_erase(&context->socks, es->handle);
	spin_lock_bh(&es->lock);
	sk = es->sk;
	if (sk && !refcount_inc_not_zero(&sk->sk_refcnt))
		sk = NULL;
	spin_unlock_bh(&es->lock);
	if (sk)
		sock_unhook(sk);
	WRITE_ONCE(es->ring->dead, 1);
	spin_lock_bh(&es->lock);
	es->over = true;
	spin_unlock_bh(&es->lock);
	exa_flush(es, EXASOCK_R_SLEEP);
	spin_lock_bh(&es->lock);
	WRITE_ONCE(es->sk, NULL);
	spin_unlock_bh(&es->lock);
	sock_unhash(es);
	mutex_lock(&exa_mutex);
	list_del(&es->list);
	exa_count--;
	exa_ns_put(es->ns);
	mutex_unlock(&exa_mutex);
	if (sk)
		sock_put(sk);
	queue_rcu_work(exa_wq, &es->free);
}

int exa_detach(struct exa_context *context, u32 handle)
{
	struct exa_sock *es;
	int err = -ESTALE;

	mutex_lock(&context->lock);
	es = xa_load(&context->socks, handle);
	if (es) {
		sock_detach(context, es);
		err = 0;
	}
	mutex_unlock(&context->lock);
	return err;
}

void exa_detach_all(struct exa_context *context)
{
	struct exa_sock *es;
	unsigned long handle;

	mutex_lock(&context->lock);
	xa_for_each(&context->socks, handle, es)
		sock_detach(context, es);
	mutex_unlock(&context->lock);
}

/* A device is going: what came by it is delivered now. Under exa_mutex. */
void exa_flush_all(void)
{
	struct exa_sock *es;

	lockdep_assert_held(&exa_mutex);
	list_for_each_entry(es, &exa_all, list)
		exa_flush(es, EXASOCK_R_DEVICE);
}

/* --- statistics ------------------------------------------------------------------------- */

static void stat_fill(struct exa_sock *es, struct exasock_stat *stat)
{
	const struct exasock_ring *ring = es->ring;
	unsigned int cpu;

	memset(stat, 0, sizeof(*stat));
	stat->netns = ring->netns;
	stat->pid = pid_vnr(es->context->pid);
	memcpy(stat->comm, es->context->comm, sizeof(stat->comm));
	spin_lock_bh(&es->lock);
	if (es->sk) {
		const struct inet_sock *inet = inet_sk(es->sk);

		stat->laddr = inet->inet_rcv_saddr;
		stat->lport = htons(inet->inet_num);
		stat->raddr = inet->inet_daddr;
		stat->rport = inet->inet_dport;
	}
	spin_unlock_bh(&es->lock);
	stat->rx_held = READ_ONCE(ring->rx_held);
	stat->rx_taken = READ_ONCE(ring->rx_taken);
	for_each_possible_cpu(cpu) {
		const struct exa_sent *sent = per_cpu_ptr(es->sent, cpu);

		stat->tx_fast += READ_ONCE(sent->datagrams);
		stat->tx_fast_bytes += READ_ONCE(sent->bytes);
	}
	memcpy(stat->rx_kernel, ring->rx_kernel, sizeof(stat->rx_kernel));
	memcpy(stat->tx_kernel, ring->tx_kernel, sizeof(stat->tx_kernel));
	stat->tx_kernel[EXASOCK_R_SKIPPED] = READ_ONCE(es->control->tx_skipped);
}

int exa_list(struct exasock_list *list)
{
	struct net *net = current->nsproxy->net_ns;
	struct exasock_stat __user *to = u64_to_user_ptr(list->stats);
	struct exasock_stat *stats;
	struct exa_sock *es;
	u32 room, count = 0, i;
	int err = 0;

	if (list->flags & ~EXASOCK_LIST_ALL || list->reserved)
		return -EINVAL;
	if (list->flags & EXASOCK_LIST_ALL && !capable(CAP_NET_ADMIN))
		return -EPERM;
	room = min(list->room, READ_ONCE(exa_count));
	stats = kvcalloc(max(room, 1U), sizeof(*stats), GFP_KERNEL_ACCOUNT);
	if (!stats)
		return -ENOMEM;
	mutex_lock(&exa_mutex);
	list_for_each_entry(es, &exa_all, list) {
		if (!(list->flags & EXASOCK_LIST_ALL) && es->ns->cookie != net->net_cookie)
			continue;
		if (count < room)
			stat_fill(es, &stats[count]);
		count++;
	}
	mutex_unlock(&exa_mutex);
	if (copy_to_user(to, stats, (size_t)min(count, room) * sizeof(*stats)))
		err = -EFAULT;
	list->count = count;
	memset(list->refused, 0, sizeof(list->refused));
	for (i = 0; i < EXASOCK_N_REFUSALS; i++)
		list->refused[i] = atomic64_read(&exa_pernet(net)->refused[i]);
	kvfree(stats);
	return err;
}

/* --- life of the module ----------------------------------------------------------------- */

/* What an untouched socket looks like is asked of one */
int exa_socks_setup(void)
{
	struct socket *sock;
	int err = sock_create_kern(&init_net, AF_INET, SOCK_DGRAM, IPPROTO_UDP, &sock);

	if (err)
		return err;
	exa_native.data_ready = sock->sk->sk_data_ready;
	exa_native.error_report = sock->sk->sk_error_report;
	exa_native.state_change = sock->sk->sk_state_change;
	exa_native.destruct = sock->sk->sk_destruct;
	sock_release(sock);
	exa_wq = alloc_workqueue("exasock", 0, 0);
	return exa_wq ? 0 : -ENOMEM;
}

void exa_socks_teardown(void)
{
	synchronize_rcu();	/* callbacks of sockets that were detached last */
	rcu_barrier();		/* and work that waits for a grace period */
	destroy_workqueue(exa_wq);
}
