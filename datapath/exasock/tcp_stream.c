// SPDX-License-Identifier: GPL-2.0-only
/*
 * Streams: attached TCP connections, what of an attachment (attachment.c) is their own, and
 * how one goes home from where nothing may sleep. As with UDP (sock.c) nothing here holds
 * the socket while its connection is at home; while it is taken there is one reference,
 * which every way to close the socket gives back first (tcp_proto.c).
 */

#include <linux/net.h>
#include <linux/slab.h>
#include <net/inet_common.h>

#include "tcp.h"

#define RETRY	(HZ / 100 ?: 1)	/* until there is memory, perhaps */

static struct workqueue_struct *exa_stream_wq;

/* What every untouched connection has */
void (*exa_stream_data_ready)(struct sock *sk) __ro_after_init;
static void (*exa_stream_destruct)(struct sock *sk) __ro_after_init;

static struct exa_stream *stream_of(struct exa_attachment *attachment)
{
	return container_of(attachment, struct exa_stream, attachment);
}

/* As exa_attachment_find() */
struct exa_stream *exa_stream_find(const struct sock *sk)
{
	struct exa_attachment *attachment = exa_attachment_find(&exa_stream_kind, sk);

	return attachment ? stream_of(attachment) : NULL;
}

/* As exa_attachment_of() */
struct exa_stream *exa_stream_of(const struct sock *sk)
{
	struct exa_attachment *attachment = exa_attachment_of(&exa_stream_kind, sk);

	return attachment ? stream_of(attachment) : NULL;
}

/* May sleep */
void exa_stream_put(struct exa_stream *es)
{
	exa_attachment_put(&es->attachment);
}

/* --- going home from where nothing may sleep --------------------------------------------- */

static void home_work(struct work_struct *work)
{
	struct exa_stream *es = container_of(to_delayed_work(work), struct exa_stream,
					     home);

	exa_stream_give_leaving(es);
	exa_stream_arrived_unseen(es);
	exa_stream_put(es);
}

static void home_queue(struct exa_stream *es, unsigned long delay)
{
	kref_get(&es->ref);
	if (!queue_delayed_work(exa_stream_wq, &es->home, delay))
		exa_stream_put(es);	/* never the last one */
}

/* Locked: from here on arriving segments wait until it is at home */
void exa_stream_send_home(struct exa_stream *es, u32 reason)
{
	if (es->place != EXA_TAKEN)
		return;
	es->place = EXA_LEAVING;
	es->reason = reason;
	exa_stream_unindex(es);
	home_queue(es, 0);
}

/* It could not be given all of it. With the socket locked. */
void exa_stream_home_retry(struct exa_stream *es)
{
	home_queue(es, RETRY);
}

/* --- what is a connection's own in an attachment ------------------------------------------ */

static int stream_suits(const struct sock *sk)
{
	if (!READ_ONCE(exa_stream_enabled) || sk->sk_family != AF_INET ||
	    sk->sk_type != SOCK_STREAM || sk->sk_protocol != IPPROTO_TCP)
		return -EOPNOTSUPP;
	return READ_ONCE(sk->sk_state) == TCP_ESTABLISHED ? 0 : -ENOTCONN;
}

static void stream_destruct(struct sock *sk)
{
	exa_attachment_gone(&exa_stream_kind, sk);
	exa_stream_destruct(sk);
}

static struct exa_attachment *stream_alloc_attachment(const struct sock *sk)
{
	struct exa_stream *es = exa_stream_alloc(READ_ONCE(tcp_sk(sk)->mss_cache));

	if (!es)
		return NULL;
	mutex_init(&es->sending);
	__skb_queue_head_init(&es->held);
	INIT_DELAYED_WORK(&es->home, home_work);
	exa_stream_timer_setup(es);
	es->since = ktime_get_ns();
	return &es->attachment;
}

static void stream_free_attachment(struct exa_attachment *attachment)
{
	struct exa_stream *es = stream_of(attachment);

	hrtimer_cancel(&es->timer);
	__skb_queue_purge(&es->held);
	exa_stream_free(es);
}

/* Somebody else's functions on it: not ours */
static int stream_hook(struct exa_attachment *attachment, struct sock *sk)
{
	struct exa_stream *es = stream_of(attachment);

	if (sk->sk_prot != &tcp_prot || sk->sk_destruct != exa_stream_destruct ||
	    sk->sk_data_ready != exa_stream_data_ready || sk->sk_user_data || !sk->sk_socket ||
	    sk->sk_socket->ops != &inet_stream_ops)
		return -EOPNOTSUPP;
	exa_publish_u32(&es->shared.stream_ring->handle, es->handle);
	exa_publish_u64(&es->shared.stream_ring->netns, es->ns->cookie);
	exa_attachment_hash(attachment);
	sk->sk_destruct = stream_destruct;
	WRITE_ONCE(sk->sk_prot, &exa_stream_proto);
	exa_stream_ops_install(sk);
	return 0;
}

static bool stream_unhook(struct sock *sk)
{
	if (sk->sk_prot != &exa_stream_proto || sk->sk_destruct != stream_destruct)
		return false;
	WRITE_ONCE(sk->sk_prot, &tcp_prot);
	sk->sk_destruct = exa_stream_destruct;
	return true;
}

static void stream_end(struct exa_attachment *attachment, struct sock *sk)
{
	struct exa_stream *es = stream_of(attachment);

	if (sk) {
		lock_sock(sk);
		es->gone = true;
		exa_native_hand_back(es, sk, EXASOCK_S_OVER,
				     time_before(jiffies, attachment->context->patience) ?
				     EXA_NATIVE_END : EXA_NATIVE_NOW);
		/* what was to try again is not needed any more; it had a reference */
		if (cancel_delayed_work(&es->home))
			exa_stream_put(es);
		exa_stream_ops_restore(sk);
	}
	exa_attachment_unhook(attachment, sk);
	if (sk)
		release_sock(sk);
	exa_publish_u32(&es->shared.stream_ring->dead, 1);
}

static void stream_gone(struct exa_attachment *attachment)
{
	exa_publish_u32(&stream_of(attachment)->shared.stream_ring->dead, 1);
}

static int stream_mmap(struct exa_attachment *attachment, struct vm_area_struct *vma, u64 offset)
{
	return exa_shared_mmap(&stream_of(attachment)->shared, vma, offset);
}

static void stream_stat(struct exa_attachment *attachment, void *to)
{
	struct exa_stream *es = stream_of(attachment);
	struct exasock_stream_stat *stat = to;

	spin_lock_bh(&es->lock);
	stat->taken = es->place == EXA_TAKEN;
	stat->last = es->reason;
	stat->since_us = div_u64(ktime_get_ns() - es->since, NSEC_PER_USEC);
	stat->takes = es->takes;
	stat->rx_segments = es->rx_segments;
	stat->rx_bytes = es->rx_bytes;
	stat->rx_home = es->rx_home;
	stat->tx_segments = es->tx_segments;
	stat->tx_bytes = es->tx_bytes;
	stat->acks = es->acks;
	memcpy(stat->gives, es->gives, sizeof(es->gives));
	memcpy(stat->refused, es->refused, sizeof(es->refused));
	spin_unlock_bh(&es->lock);
}

/* What is told of all kinds lies at the same places */
static_assert(offsetof(struct exasock_stream_stat, comm) == offsetof(struct exasock_stat, comm));
static_assert(offsetof(struct exasock_stream_stat, pid) == offsetof(struct exasock_stat, pid));
static_assert(offsetof(struct exasock_stream_stat, rport) == offsetof(struct exasock_stat, rport));

struct exa_attachment_kind exa_stream_kind = {
	.index = EXA_STREAMS,
	.stat_size = sizeof(struct exasock_stream_stat),
	.suits = stream_suits,
	.alloc = stream_alloc_attachment,
	.hook = stream_hook,
	.unhook = stream_unhook,
	.end = stream_end,
	.gone = stream_gone,
	.free = stream_free_attachment,
	.mmap = stream_mmap,
	.stat = stream_stat,
};

/* --- life of the module ------------------------------------------------------------------ */

int exa_streams_setup(void)
{
	struct socket *sock;
	int err = sock_create_kern(&init_net, AF_INET, SOCK_STREAM, IPPROTO_TCP, &sock);

	if (err)
		return err;
	exa_stream_data_ready = sock->sk->sk_data_ready;
	exa_stream_destruct = sock->sk->sk_destruct;
	sock_release(sock);
	exa_stream_hooks_setup();
	exa_attachment_kind_setup(&exa_stream_kind);
	exa_stream_index_setup();
	exa_stream_wq = alloc_workqueue("exasock_tcp", WQ_HIGHPRI | WQ_UNBOUND, 0);
	return exa_stream_wq ? 0 : -ENOMEM;
}

void exa_streams_teardown(void)
{
	destroy_workqueue(exa_stream_wq);
}
