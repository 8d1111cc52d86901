// SPDX-License-Identifier: GPL-2.0-only
/*
 * Streams: attaching a TCP connection, and how it ends. As with UDP (sock.c) nothing here
 * holds the socket while its connection is at home; while it is taken there is one
 * reference, which every way to close the socket gives back first (tcp_proto.c).
 */

#include <linux/hashtable.h>
#include <linux/module.h>
#include <linux/net.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "tcp.h"

#define STREAM_BITS	12

static DEFINE_HASHTABLE(exa_streams, STREAM_BITS);
static DEFINE_SPINLOCK(exa_stream_lock);	/* exa_streams */
static LIST_HEAD(exa_streams_all);		/* under exa_mutex, read under RCU */
unsigned int exa_stream_count;			/* under exa_mutex */
atomic_t exa_strays = ATOMIC_INIT(0);
static struct workqueue_struct *exa_stream_wq;
static void (*exa_native_destruct)(struct sock *sk);

static unsigned long stream_key(const struct sock *sk)
{
	return (unsigned long)sk >> L1_CACHE_SHIFT;
}

/* Under RCU */
struct exa_stream *exa_stream_find(const struct sock *sk)
{
	struct exa_stream *es;

	hash_for_each_possible_rcu(exa_streams, es, node, stream_key(sk))
		if (READ_ONCE(es->sk) == sk)
			return es;
	return NULL;
}

static void stream_last_put(struct kref *ref)
{
	struct exa_stream *es = container_of(ref, struct exa_stream, ref);

	hrtimer_cancel(&es->timer);
	__skb_queue_purge(&es->held);
	exa_ns_forget(es->ns);
	exa_stream_free(es);
}

/* May sleep */
void exa_stream_put(struct exa_stream *es)
{
	kref_put(&es->ref, stream_last_put);
}

static void stream_free_work(struct work_struct *work)
{
	exa_stream_put(container_of(to_rcu_work(work), struct exa_stream, free));
}

struct exa_stream *exa_stream_get(struct exa_context *context, u32 handle)
{
	struct exa_stream *es;

	rcu_read_lock();
	es = xa_load(&context->streams, handle);
	if (es && !kref_get_unless_zero(&es->ref))
		es = NULL;
	rcu_read_unlock();
	return es;
}

/* The stream of a socket that the caller holds, with a reference, or NULL */
struct exa_stream *exa_stream_of(const struct sock *sk)
{
	struct exa_stream *es;

	rcu_read_lock();
	es = exa_stream_find(sk);
	if (es && !kref_get_unless_zero(&es->ref))
		es = NULL;
	rcu_read_unlock();
	return es;
}

/* Its socket, with a reference, or NULL: it is gone */
struct sock *exa_stream_sock(struct exa_stream *es)
{
	struct sock *sk;

	spin_lock_bh(&es->lock);
	sk = es->sk;
	if (sk && !refcount_inc_not_zero(&sk->sk_refcnt))
		sk = NULL;
	spin_unlock_bh(&es->lock);
	return sk;
}

static void stream_unhash(struct exa_stream *es)
{
	spin_lock_bh(&exa_stream_lock);
	hlist_del_init_rcu(&es->node);
	spin_unlock_bh(&exa_stream_lock);
}

/* The socket is over: nobody refers to it any more but we */
static void exa_stream_destruct(struct sock *sk)
{
	struct exa_stream *es;

	rcu_read_lock();
	es = exa_stream_find(sk);
	if (es) {
		spin_lock_bh(&es->lock);
		WRITE_ONCE(es->sk, NULL);
		WRITE_ONCE(es->ring->dead, 1);
		spin_unlock_bh(&es->lock);
		stream_unhash(es);
	}
	rcu_read_unlock();
	exa_native_destruct(sk);
}

/* --- going home from where nothing may sleep --------------------------------------------- */

static void home_work(struct work_struct *work)
{
	struct exa_stream *es = container_of(work, struct exa_stream, home);

	exa_stream_give_leaving(es);
	exa_stream_put(es);
}

/* Locked: from here on arriving segments wait until it is at home */
void exa_stream_send_home(struct exa_stream *es, u32 reason)
{
	if (es->place != EXA_TAKEN)
		return;
	es->place = EXA_LEAVING;
	es->reason = reason;
	kref_get(&es->ref);
	if (!queue_work(exa_stream_wq, &es->home))
		kref_put(&es->ref, stream_last_put);	/* never the last one */
}

/*
 * A device's frames are not told apart any more as soon as it is not among ours, and the
 * stack would show them to the kernel's copy of a connection that is not at home yet: it
 * would answer by what it knew when it was taken. Until these connections are at home
 * what comes for them is lost, as on any wire.
 */
void exa_streams_losing(bool losing)
{
	if (losing)
		atomic_inc(&exa_strays);
	else
		atomic_dec(&exa_strays);
	smp_mb__after_atomic();	/* counted before the device is gone; see exa_stream_is_stray() */
}

/* At home. Locked. */
void exa_stream_arrived(struct exa_stream *es)
{
	if (es->stray)
		atomic_dec(&exa_strays);
	es->stray = false;
}

/* A frame of no device of ours: is it for a connection that is on its way home? Under RCU. */
bool exa_stream_is_stray(const struct exanic_rx_frame *frame, const struct exa_packet *packet)
{
	struct exa_stream *es;
	bool found = false;

	smp_rmb();		/* the device was looked for first */
	if (!atomic_read(&exa_strays))
		return false;
	list_for_each_entry_rcu(es, &exa_streams_all, list) {
		if (READ_ONCE(es->port) != frame->dev || READ_ONCE(es->place) == EXA_HOME)
			continue;
		spin_lock_bh(&es->lock);
		found = es->sk && es->place != EXA_HOME && es->vid == packet->vid &&
			ether_addr_equal(es->mac, packet->dmac) &&
			inet_sk(es->sk)->inet_daddr == packet->saddr &&
			inet_sk(es->sk)->inet_rcv_saddr == packet->daddr &&
			inet_sk(es->sk)->inet_dport == packet->sport &&
			inet_sk(es->sk)->inet_sport == packet->dport;
		spin_unlock_bh(&es->lock);
		if (found)
			break;
	}
	return found;
}

/*
 * A device is going. What waits came by it perhaps: it was never acknowledged, so its
 * sender has it. Under exa_mutex.
 */
void exa_streams_device_gone(void)
{
	struct exa_stream *es;

	lockdep_assert_held(&exa_mutex);
	list_for_each_entry(es, &exa_streams_all, list) {
		spin_lock_bh(&es->lock);
		exa_stream_send_home(es, EXASOCK_R_DEVICE);
		if (es->place == EXA_LEAVING && !es->stray) {
			es->stray = true;
			atomic_inc(&exa_strays);
		}
		__skb_queue_purge(&es->held);
		spin_unlock_bh(&es->lock);
	}
}

/* A fragment, or IP options: which connection's it is cannot be told. Under RCU. */
void exa_streams_unseen(struct exa_ns *ns, const struct exa_packet *packet)
{
	struct exa_stream *es;

	list_for_each_entry_rcu(es, &exa_streams_all, list) {
		if (es->ns != ns || READ_ONCE(es->place) != EXA_TAKEN)
			continue;
		spin_lock_bh(&es->lock);
		if (es->place == EXA_TAKEN && inet_sk(es->sk)->inet_daddr == packet->saddr &&
		    inet_sk(es->sk)->inet_rcv_saddr == packet->daddr)
			exa_stream_send_home(es, EXASOCK_R_HEADER);
		spin_unlock_bh(&es->lock);
	}
}

/* --- attach and detach ------------------------------------------------------------------- */

static int stream_suits(const struct sock *sk)
{
	if (sk->sk_family != AF_INET || sk->sk_type != SOCK_STREAM ||
	    sk->sk_protocol != IPPROTO_TCP)
		return -EOPNOTSUPP;
	return READ_ONCE(sk->sk_state) == TCP_ESTABLISHED ? 0 : -ENOTCONN;
}

/* With the socket locked. Somebody else's functions on it: not ours. */
static int stream_hook(struct sock *sk, struct exa_stream *es)
{
	if (sk->sk_prot != &tcp_prot || sk->sk_destruct != exa_native_destruct ||
	    sk->sk_user_data)
		return -EOPNOTSUPP;
	es->sk = sk;
	spin_lock_bh(&exa_stream_lock);
	hash_add_rcu(exa_streams, &es->node, stream_key(sk));
	spin_unlock_bh(&exa_stream_lock);
	sk->sk_destruct = exa_stream_destruct;
	WRITE_ONCE(sk->sk_prot, &exa_stream_proto);
	return 0;
}

static void stream_unhook(struct sock *sk)
{
	if (sk->sk_prot != &exa_stream_proto || sk->sk_destruct != exa_stream_destruct) {
		__module_get(THIS_MODULE);
		pr_warn_once("exasock: a socket's functions were changed by others: cannot be unloaded any more\n");
		return;
	}
	WRITE_ONCE(sk->sk_prot, &tcp_prot);
	sk->sk_destruct = exa_native_destruct;
}

static int stream_attach(struct exa_context *context, struct exa_ns *ns, struct sock *sk,
			 struct exasock_attach *attach)
{
	struct exa_stream *es;
	int err;

	if (exa_stream_count >= READ_ONCE(exa_max_sockets))
		return -EMFILE;
	es = exa_stream_alloc(tcp_sk(sk)->mss_cache);
	if (!es)
		return -ENOMEM;
	kref_init(&es->ref);
	spin_lock_init(&es->lock);
	mutex_init(&es->sending);
	__skb_queue_head_init(&es->held);
	INIT_WORK(&es->home, home_work);
	INIT_RCU_WORK(&es->free, stream_free_work);
	exa_stream_timer_setup(es);
	es->context = context;
	es->since = ktime_get_ns();
	es->ring->netns = ns->cookie;
	err = xa_alloc(&context->streams, &es->handle, NULL, xa_limit_31b, GFP_KERNEL_ACCOUNT);
	if (err)
		goto free;
	es->ring->handle = es->handle;
	es->ns = ns;
	err = stream_hook(sk, es);
	if (err)
		goto erase;
	exa_settle(&es->settling);
	refcount_inc(&ns->refs);
	xa_store(&context->streams, es->handle, es, GFP_KERNEL_ACCOUNT);
	list_add_rcu(&es->list, &exa_streams_all);
	WRITE_ONCE(exa_stream_count, exa_stream_count + 1);
	attach->handle = es->handle;
	attach->netns = ns->cookie;
	return 0;

erase:
	xa_erase(&context->streams, es->handle);
free:
	exa_stream_free(es);
	return err;
}

static int stream_attach_or_find(struct exa_context *context, struct exa_ns *ns, struct sock *sk,
				 struct exasock_attach *attach, bool *found)
{
	struct exa_stream *es;
	int err = -EBUSY;

	rcu_read_lock();
	es = exa_stream_find(sk);
	if (es && es->context == context) {
		attach->handle = es->handle;
		attach->netns = es->ring->netns;
		*found = true;
		err = 0;
	}
	rcu_read_unlock();
	return es ? err : stream_attach(context, ns, sk, attach);
}

int exa_stream_attach(struct exa_context *context, struct exasock_attach *attach)
{
	struct socket *sock;
	bool found = false;
	struct exa_ns *ns;
	int err;

	if (!READ_ONCE(exa_stream_enabled))
		return -EOPNOTSUPP;
	sock = sockfd_lookup(attach->fd, &err);
	if (!sock)
		return err;
	err = stream_suits(sock->sk);
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
	err = stream_suits(sock->sk);
	if (!err)
		err = stream_attach_or_find(context, ns, sock->sk, attach, &found);
	if (err || found)
		exa_ns_put(ns);
	mutex_unlock(&exa_mutex);
	release_sock(sock->sk);
	mutex_unlock(&context->lock);
put:
	sockfd_put(sock);
	return err;
}

/* Under the context's lock */
static void stream_detach(struct exa_context *context, struct exa_stream *es)
{
	struct sock *sk = exa_stream_sock(es);

	xa_erase(&context->streams, es->handle);
	if (sk) {
		lock_sock(sk);
		es->gone = true;
		exa_stream_give(es, sk, EXASOCK_S_OVER);
		stream_unhook(sk);
		release_sock(sk);
	}
	WRITE_ONCE(es->ring->dead, 1);
	spin_lock_bh(&es->lock);
	WRITE_ONCE(es->sk, NULL);
	spin_unlock_bh(&es->lock);
	stream_unhash(es);
	mutex_lock(&exa_mutex);
	list_del_rcu(&es->list);
	WRITE_ONCE(exa_stream_count, exa_stream_count - 1);
	exa_ns_put(es->ns);
	mutex_unlock(&exa_mutex);
	if (sk)
		sock_put(sk);
	queue_rcu_work(exa_stream_wq, &es->free);
}

int exa_stream_detach(struct exa_context *context, u32 handle)
{
	struct exa_stream *es;
	int err = -ESTALE;

	mutex_lock(&context->lock);
	es = xa_load(&context->streams, handle);
	if (es) {
		stream_detach(context, es);
		err = 0;
	}
	mutex_unlock(&context->lock);
	return err;
}

void exa_stream_detach_all(struct exa_context *context)
{
	struct exa_stream *es;
	unsigned long handle;

	mutex_lock(&context->lock);
	xa_for_each(&context->streams, handle, es)
		stream_detach(context, es);
	mutex_unlock(&context->lock);
	xa_destroy(&context->streams);
}

/* --- statistics -------------------------------------------------------------------------- */

static void stat_fill(struct exa_stream *es, struct exasock_stream_stat *stat)
{
	const struct exasock_stream *ring = es->ring;

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
	stat->taken = es->place == EXA_TAKEN;
	stat->last = es->reason;
	stat->since_us = div_u64(ktime_get_ns() - es->since, NSEC_PER_USEC);
	stat->takes = ring->takes;
	stat->rx_segments = ring->rx_segments;
	stat->rx_bytes = ring->rx_bytes;
	stat->rx_home = ring->rx_home;
	stat->tx_segments = ring->tx_segments;
	stat->tx_bytes = ring->tx_bytes;
	stat->acks = ring->acks;
	memcpy(stat->gives, ring->gives, sizeof(stat->gives));
	memcpy(stat->refused, ring->refused, sizeof(stat->refused));
	spin_unlock_bh(&es->lock);
}

int exa_stream_list(struct exasock_list *list)
{
	u64 cookie = current->nsproxy->net_ns->net_cookie;
	struct exasock_stream_stat __user *to = u64_to_user_ptr(list->stats);
	struct exasock_stream_stat *stats;
	struct exa_stream *es;
	u32 room, count = 0;
	int err = 0;

	if (list->flags & ~EXASOCK_LIST_ALL || list->reserved)
		return -EINVAL;
	if (list->flags & EXASOCK_LIST_ALL && !capable(CAP_NET_ADMIN))
		return -EPERM;
	room = min(list->room, READ_ONCE(exa_stream_count));
	stats = kvcalloc(max(room, 1U), sizeof(*stats), GFP_KERNEL_ACCOUNT);
	if (!stats)
		return -ENOMEM;
	mutex_lock(&exa_mutex);
	list_for_each_entry(es, &exa_streams_all, list) {
		if (!(list->flags & EXASOCK_LIST_ALL) && es->ns->cookie != cookie)
			continue;
		if (count < room)
			stat_fill(es, &stats[count]);
		count++;
	}
	mutex_unlock(&exa_mutex);
	if (copy_to_user(to, stats, (size_t)min(count, room) * sizeof(*stats)))
		err = -EFAULT;
	list->count = count;
	kvfree(stats);
	return err;
}

/* --- life of the module ------------------------------------------------------------------ */

int exa_streams_setup(void)
{
	struct socket *sock;
	int err = sock_create_kern(&init_net, AF_INET, SOCK_STREAM, IPPROTO_TCP, &sock);

	if (err)
		return err;
	exa_native_destruct = sock->sk->sk_destruct;
	sock_release(sock);
	exa_stream_proto_setup();
	exa_stream_wq = alloc_workqueue("exasock_tcp", WQ_HIGHPRI, 0);
	return exa_stream_wq ? 0 : -ENOMEM;
}

void exa_streams_teardown(void)
{
	synchronize_rcu();	/* native calls by our functions that were begun before */
	rcu_barrier();
	destroy_workqueue(exa_stream_wq);
}
