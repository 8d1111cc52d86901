// SPDX-License-Identifier: GPL-2.0-only
/*
 * UDP sockets, attached: what of an attachment (attachment.c) is their own.
 *
 * The native socket is not touched but for four callbacks that tell us when something
 * happens to it: data or an error came, it was shut down, it is freed. No reference to
 * it is held, so whatever frees it in an unaccelerated program frees it here.
 */

#include <linux/net.h>
#include <linux/percpu.h>
#include <linux/slab.h>
#include <net/inet_sock.h>
#include <net/udp.h>

#include "exasock.h"

/* What every untouched UDP socket has; a socket with others is somebody else's already */
static struct {
	void (*data_ready)(struct sock *sk);
	void (*error_report)(struct sock *sk);
	void (*state_change)(struct sock *sk);
	void (*destruct)(struct sock *sk);
} exa_native;

static struct exa_sock *sock_of(struct exa_attachment *attachment)
{
	return container_of(attachment, struct exa_sock, attachment);
}

/* As exa_attachment_find() */
struct exa_sock *exa_sock_find(const struct sock *sk)
{
	struct exa_attachment *attachment = exa_attachment_find(&exa_sock_kind, sk);

	return attachment ? sock_of(attachment) : NULL;
}

/* --- what the native socket tells ------------------------------------------------------- */

static void sock_event(const struct sock *sk)
{
	struct exa_sock *es;

	rcu_read_lock();
	es = exa_sock_find(sk);
	if (es)
		exa_publish_u32_release(&es->shared.ring->native,
					atomic_inc_return(&es->native));
	rcu_read_unlock();
}

void exa_sock_data_ready(struct sock *sk)
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

static void sock_destruct(struct sock *sk)
{
	exa_attachment_gone(&exa_sock_kind, sk);
	exa_native.destruct(sk);
}

/* --- what is a UDP socket's own in an attachment ------------------------------------------ */

static int sock_suits(const struct sock *sk)
{
	if (sk->sk_family != AF_INET || sk->sk_type != SOCK_DGRAM ||
	    sk->sk_protocol != IPPROTO_UDP || sk->sk_prot != &udp_prot)
		return -EOPNOTSUPP;
	return 0;
}

static struct exa_attachment *sock_alloc_attachment(const struct sock *sk)
{
	struct exa_sock *es = exa_sock_alloc();

	if (!es)
		return NULL;
	exa_hold_start(es);
	return &es->attachment;
}

static void sock_free_attachment(struct exa_attachment *attachment)
{
	struct exa_sock *es = sock_of(attachment);

	hrtimer_cancel(&es->timer);
	exa_sock_free(es);
}

/* -EOPNOTSUPP: its callbacks are not the usual ones */
static int sock_hook(struct exa_attachment *attachment, struct sock *sk)
{
	struct exa_sock *es = sock_of(attachment);
	int err = 0;

	exa_publish_u32(&es->shared.ring->handle, es->handle);
	exa_publish_u64(&es->shared.ring->netns, es->ns->cookie);
	write_lock_bh(&sk->sk_callback_lock);
	if (sk->sk_data_ready != exa_native.data_ready ||
	    sk->sk_error_report != exa_native.error_report ||
	    sk->sk_state_change != exa_native.state_change ||
	    sk->sk_destruct != exa_native.destruct || sk->sk_user_data) {
		err = -EOPNOTSUPP;
		goto unlock;
	}
	exa_attachment_hash(attachment);
	/* its memory outlives lookups under RCU even if it was never bound */
	sock_set_flag(sk, SOCK_RCU_FREE);
	sk->sk_destruct = sock_destruct;
	WRITE_ONCE(sk->sk_data_ready, exa_sock_data_ready);
	WRITE_ONCE(sk->sk_error_report, exa_error_report);
	WRITE_ONCE(sk->sk_state_change, exa_state_change);
unlock:
	write_unlock_bh(&sk->sk_callback_lock);
	return err;
}

/* All of them, or none */
static bool sock_unhook(struct sock *sk)
{
	bool ours;

	write_lock_bh(&sk->sk_callback_lock);
	ours = sk->sk_data_ready == exa_sock_data_ready &&
	       sk->sk_error_report == exa_error_report &&
	       sk->sk_state_change == exa_state_change && sk->sk_destruct == sock_destruct;
	if (ours) {
		WRITE_ONCE(sk->sk_data_ready, exa_native.data_ready);
		WRITE_ONCE(sk->sk_error_report, exa_native.error_report);
		WRITE_ONCE(sk->sk_state_change, exa_native.state_change);
		sk->sk_destruct = exa_native.destruct;
	}
	write_unlock_bh(&sk->sk_callback_lock);
	return ours;
}

/* What is held goes into the stack */
static void sock_end(struct exa_attachment *attachment, struct sock *sk)
{
	struct exa_sock *es = sock_of(attachment);

	exa_attachment_unhook(attachment, sk);
	exa_publish_u32(&es->shared.ring->dead, 1);
	spin_lock_bh(&es->lock);
	es->over = true;
	spin_unlock_bh(&es->lock);
	exa_flush(es, EXASOCK_R_SLEEP);
	exa_hold_end(es);
}

static void sock_gone(struct exa_attachment *attachment)
{
	struct exa_sock *es = sock_of(attachment);

	exa_publish_u32(&es->shared.ring->dead, 1);
	es->oldest = es->head;	/* what is held goes with its queue */
}

static int sock_mmap(struct exa_attachment *attachment, struct vm_area_struct *vma, u64 offset)
{
	return exa_shared_mmap(&sock_of(attachment)->shared, vma, offset);
}

static void sock_stat(struct exa_attachment *attachment, void *to)
{
	struct exa_sock *es = sock_of(attachment);
	struct exasock_stat *stat = to;
	unsigned int cpu, i;

	stat->rx_held = READ_ONCE(es->rx_held);
	stat->rx_taken = READ_ONCE(es->rx_taken);
	for_each_possible_cpu(cpu) {
		const struct exa_sent *sent = per_cpu_ptr(es->sent, cpu);

		stat->tx_fast += READ_ONCE(sent->datagrams);
		stat->tx_fast_bytes += READ_ONCE(sent->bytes);
	}
	for (i = 0; i < EXASOCK_R_REASONS; i++) {
		stat->rx_kernel[i] = READ_ONCE(es->rx_kernel[i]);
		stat->tx_kernel[i] = atomic64_read(&es->tx_kernel[i]);
	}
	stat->tx_kernel[EXASOCK_R_SKIPPED] = exa_shared_skipped(&es->shared);
}

struct exa_attachment_kind exa_sock_kind = {
	.index = EXA_SOCKS,
	.stat_size = sizeof(struct exasock_stat),
	.suits = sock_suits,
	.alloc = sock_alloc_attachment,
	.hook = sock_hook,
	.unhook = sock_unhook,
	.end = sock_end,
	.gone = sock_gone,
	.free = sock_free_attachment,
	.mmap = sock_mmap,
	.stat = sock_stat,
};

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
	exa_attachment_kind_setup(&exa_sock_kind);
	return 0;
}
