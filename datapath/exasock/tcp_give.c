// SPDX-License-Identifier: GPL-2.0-only
/*
 * Bringing a connection home: the kernel's state becomes what it would be had the kernel
 * itself received what the process has read and sent what the peer has acknowledged.
 * The rest goes through the kernel's own path for restoring connections (TCP_REPAIR):
 * received and unread bytes become readable, unacknowledged ones count as sent, and what
 * was not sent yet is sent as usual.
 *
 * The kernel may have no memory for these bytes. Then the connection is still leaving: ring
 * and buffer keep the rest, arriving segments wait, and it is tried again until it is done
 * (exa_stream_home_retry()). Nobody gets at the socket meanwhile: native calls wait too.
 */

#include <linux/bpf.h>
#include <linux/uio.h>
#include <linux/wait_bit.h>
#include <net/inet_connection_sock.h>

#include "tcp.h"

#define PIECE		16384U
#define REST_DOUBLINGS	10
#define PRODUCTIVE	16	/* segments, past the stack, that were worth the taking */

/* What the kernel has of its own meanwhile, and gets back */
struct saved {
	int sndbuf;
	int rcvbuf;
	int err;
	u8 shutdown;
	bool probing;
};

static void save(struct sock *sk, struct saved *saved)
{
	saved->sndbuf = sk->sk_sndbuf;
	saved->rcvbuf = sk->sk_rcvbuf;
	saved->err = sk->sk_err;
	saved->shutdown = sk->sk_shutdown;
	saved->probing = inet_csk(sk)->icsk_mtup.enabled;
	WRITE_ONCE(sk->sk_sndbuf, INT_MAX / 2);
	WRITE_ONCE(sk->sk_rcvbuf, INT_MAX / 2);
	WRITE_ONCE(sk->sk_err, 0);
	WRITE_ONCE(sk->sk_shutdown, 0);
	inet_csk(sk)->icsk_mtup.enabled = 0;
}

static void restore(struct sock *sk, const struct saved *saved)
{
	WRITE_ONCE(sk->sk_sndbuf, saved->sndbuf);
	WRITE_ONCE(sk->sk_rcvbuf, saved->rcvbuf);
	WRITE_ONCE(sk->sk_err, saved->err);
	WRITE_ONCE(sk->sk_shutdown, saved->shutdown);
	inet_csk(sk)->icsk_mtup.enabled = saved->probing;
}

static void refresh_clock(struct tcp_sock *tp)
{
	tp->tcp_clock_cache = tcp_clock_ns();
	tp->tcp_mstamp = div_u64(tp->tcp_clock_cache, NSEC_PER_USEC);
}

/* As much of it as the kernel has memory for: how much */
static u32 give_bytes(struct sock *sk, u8 *from, u32 length)
{
	u32 given = 0;

	while (given < length) {
		struct msghdr msg = { .msg_flags = MSG_DONTWAIT | MSG_NOSIGNAL };
		struct kvec vec = { .iov_base = from + given,
				    .iov_len = min(length - given, PIECE) };
		int done;

		iov_iter_kvec(&msg.msg_iter, ITER_SOURCE, &vec, 1, vec.iov_len);
		done = tcp_sendmsg_locked(sk, &msg, vec.iov_len);
		if (done <= 0)
			break;
		given += done;
	}
	return given;
}

/* True: all that is unread lies in the receive queue */
static bool give_unread(struct exa_stream *es, struct sock *sk)
{
	while (es->unread) {
		u32 part = es->unread, given;
		u8 *from = exa_stream_at(es, es->head - es->unread, &part);

		given = give_bytes(sk, from, part);
		es->unread -= given;
		if (given < part)
			return false;
	}
	return true;
}

/* True: all before @to lies in the kernel's send queue */
static bool give_sent(struct exa_stream *es, struct sock *sk, u32 to)
{
	while (before(es->given, to)) {
		u32 at = es->given & (exa_stream_room - 1);
		u32 part = min(to - es->given, exa_stream_room - at), given;

		given = give_bytes(sk, es->buffer + at, part);
		es->given += given;
		if (given < part)
			return false;
	}
	return true;
}

static void write_sent(const struct exa_stream *es, struct sock *sk)
{
	struct inet_connection_sock *icsk = inet_csk(sk);
	struct tcp_sock *tp = tcp_sk(sk);
	u32 una = es->snd_una;

	tp->bytes_acked += una - tp->snd_una;
	tp->bytes_sent += una - tp->snd_una;
	tp->snd_una = una;
	tp->snd_nxt = una;
	WRITE_ONCE(tp->write_seq, una);
	tp->pushed_seq = una;
	tp->snd_sml = una;
	tp->snd_up = una;
	tp->rtt_seq = una;
	tp->high_seq = una;
	tp->cwnd_usage_seq = una;
	tp->snd_wnd = es->snd_wnd;
	tp->snd_wl1 = es->snd_wl1;
	tp->max_window = max(tp->max_window, es->max_window);
	tp->undo_marker = 0;
	tp->retrans_stamp = 0;
	tp->tlp_high_seq = 0;
	icsk->icsk_probes_out = 0;
	icsk->icsk_backoff = 0;
	icsk->icsk_retransmits = 0;
	WRITE_ONCE(sk->sk_err_soft, 0);
	tp->lsndtime = tcp_jiffies32;
	exa_congestion_give(es, sk);
}

static void write_received(const struct exa_stream *es, struct sock *sk)
{
	struct tcp_sock *tp = tcp_sk(sk);
	u32 consumed = es->rcv_nxt - es->unread;

	tp->bytes_received += consumed - tp->rcv_nxt;
	WRITE_ONCE(tp->rcv_nxt, consumed);
	WRITE_ONCE(tp->copied_seq, consumed);
	tp->rcvq_space.seq = consumed;
	tp->rcvq_space.time = tp->tcp_mstamp;
	tp->rcv_rtt_est.time = 0;
	tp->rx_opt.num_sacks = 0;
	tp->rx_opt.dsack = 0;
	if (es->stamps) {
		tp->rx_opt.ts_recent = es->ts_recent;
		tp->rx_opt.ts_recent_stamp = ktime_get_seconds();
	}
	tp->pred_flags = 0;
	tp->rcv_tstamp = tcp_jiffies32;
	inet_csk(sk)->icsk_ack.lrcvtime = tcp_jiffies32;
}

/*
 * What is unread and unacknowledged, by the kernel's own means, on from where it was left.
 * A window is told only when all that is unread is there. True: all of it.
 */
static bool give_all(struct exa_stream *es, struct sock *sk)
{
	struct tcp_sock *tp = tcp_sk(sk);
	gfp_t allocation = sk->sk_allocation;
	struct saved saved;
	bool done;

	save(sk, &saved);
	/* a BPF program that walks the sockets has locked this one, and must not sleep */
	if (has_current_bpf_ctx())
		sk->sk_allocation = GFP_ATOMIC;
	tp->repair = 1;
	tp->repair_queue = TCP_RECV_QUEUE;
	done = give_unread(es, sk);
	if (done) {
		tp->rcv_wup = es->rcv_acked;
		tp->rcv_wnd = es->rcv_edge - es->rcv_acked;
#ifdef EXASOCK_HAVE_RCV_MWND_SEQ
		tp->rcv_mwnd_seq = es->rcv_edge;
#endif
	} else {
		tp->rcv_wup = tp->rcv_nxt;
		tp->rcv_wnd = 0;
	}
	tp->repair_queue = TCP_SEND_QUEUE;
	done = done && give_sent(es, sk, es->snd_nxt);
	tp->repair_queue = TCP_NO_QUEUE;
	tp->repair = 0;
	done = done && give_sent(es, sk, es->write_seq);
	sk->sk_allocation = allocation;
	restore(sk, &saved);
	return done;
}

static void wake(struct sock *sk, bool unread)
{
	struct tcp_sock *tp = tcp_sk(sk);

	if (sock_flag(sk, SOCK_KEEPOPEN)) {
		sock_reset_flag(sk, SOCK_KEEPOPEN);
		tcp_prot.keepalive(sk, 1);
		sock_set_flag(sk, SOCK_KEEPOPEN);
	}
	if (tp->rcv_nxt != tp->rcv_wup)
#ifdef EXASOCK_HAVE_SEND_ACK_FLAGS
		__tcp_send_ack(sk, tp->rcv_nxt, 0);
#else
		__tcp_send_ack(sk, tp->rcv_nxt);
#endif
	if (unread)
		sk->sk_data_ready(sk);
	sk->sk_write_space(sk);
}

/*
 * The kernel has other bytes, or its end cannot wait for memory: no honest end but this one. What
 * the socket becomes next, a listener perhaps, is not built on our functions.
 */
static void give_failed(struct exa_stream *es, struct sock *sk, int err)
{
	int left = tcp_prot.disconnect(sk, 0);

	net_warn_ratelimited("exasock: a TCP connection could not be handed back: %d, %d\n", err,
			     left);
	WRITE_ONCE(sk->sk_err, ECONNRESET);
	sk_error_report(sk);
	if (!exa_stream_is_foreign(sk))
		exa_native_give_up(es, sk);
}

/* Nobody reads the ring any more. What is unread. Locked. */
static u32 close_ring(struct exa_stream *es)
{
	es->consumed = exa_shared_stream_close(&es->shared, es->consumed, es->head);
	return es->head - es->consumed;
}

/* When it may be taken again: later each time, unless it was worth it. Locked. */
static void rest(struct exa_stream *es)
{
	u64 first = READ_ONCE(exa_stream_rest_us) * NSEC_PER_USEC;
	u64 now = ktime_get_ns();

	if (es->rx_segments + es->tx_segments - es->moved >= PRODUCTIVE)
		es->rest_ns = first;
	else
		es->rest_ns = clamp(es->rest_ns * 2, first, first << REST_DOUBLINGS);
	es->rested_at = now + es->rest_ns;
	es->since = now;
	exa_publish_u64(&es->shared.stream_ring->after,
			get_cycles() + div_u64(es->rest_ns * tsc_khz, USEC_PER_SEC));
}

/*
 * Is the kernel's copy as it was left when the connection was taken? Segments may have come
 * by another way, and somebody else may have put functions on the socket that do not know
 * that it sleeps; what they have queued is not overwritten.
 */
static bool is_untouched(const struct exa_stream *es, const struct sock *sk)
{
	const struct tcp_sock *tp = tcp_sk(sk);

	return tp->snd_una == es->kernel_una && tp->snd_nxt == es->kernel_una &&
	       tp->write_seq == es->kernel_una && tp->rcv_nxt == es->kernel_rcv_nxt &&
	       tp->copied_seq == es->kernel_rcv_nxt && !tp->packets_out &&
	       skb_queue_empty(&sk->sk_receive_queue) && skb_queue_empty(&sk->sk_write_queue) &&
	       RB_EMPTY_ROOT(&sk->tcp_rtx_queue) && RB_EMPTY_ROOT(&tp->out_of_order_queue);
}

/* Leaving: from here on arriving segments wait, and nobody else changes anything. Locked. */
static void give_begin(struct exa_stream *es, u32 reason)
{
	if (es->place == EXA_TAKEN) {
		es->reason = reason;
		exa_stream_unindex(es);
	}
	es->place = EXA_LEAVING;
	es->giving = true;
	exa_publish_more(&es->shared.stream_ring->gives[es->reason], &es->gives[es->reason], 1);
	es->unread = close_ring(es);
	es->readable = es->unread;
	es->given = es->snd_una;
	exa_publish_more(&es->shared.stream_ring->rx_home, &es->rx_home, es->unread);
}

/* What the process has read and the peer has acknowledged */
static int give_state(struct exa_stream *es, struct sock *sk)
{
	if (sk->sk_state != TCP_ESTABLISHED)
		return 0;
	if (!is_untouched(es, sk)) {
		exa_publish_more(&es->shared.stream_ring->gives[EXASOCK_S_FOREIGN],
				 &es->gives[EXASOCK_S_FOREIGN], 1);
		return -ECONNRESET;
	}
	refresh_clock(tcp_sk(sk));
	write_sent(es, sk);
	write_received(es, sk);
	return 0;
}

static void give_end(struct exa_stream *es, struct sock *sk)
{
	struct sk_buff *skb;

	spin_lock_bh(&es->lock);
	while ((skb = __skb_dequeue(&es->held)))
		netif_receive_skb(skb);		/* into the backlog: the socket is ours */
	WRITE_ONCE(es->place, EXA_HOME);
	es->giving = false;
	exa_stream_arrived(es);
	rest(es);
	spin_unlock_bh(&es->lock);
	smp_mb();		/* with who waits in exa_native_hand_back() */
	wake_up_var(&es->place);
	sock_put(sk);				/* of exa_stream_take(); the caller has its own */
}

/*
 * With the socket locked, in process context or a BPF program's. True: it is at home. False:
 * the kernel has no memory for it now, and it comes home later; not @patient: it is reset
 * instead, as the kernel does with what it cannot finish.
 */
bool exa_stream_give(struct exa_stream *es, struct sock *sk, u32 reason, bool patient)
{
	bool first;
	int err = 0;

	sock_owned_by_me(sk);
	spin_lock_bh(&es->lock);
	if (es->place == EXA_HOME) {
		spin_unlock_bh(&es->lock);
		return true;
	}
	first = !es->giving;
	if (first)
		give_begin(es, reason);
	spin_unlock_bh(&es->lock);

	if (first)
		err = give_state(es, sk);
	if (!err && sk->sk_state == TCP_ESTABLISHED && !give_all(es, sk)) {
		if (patient) {
			exa_stream_home_retry(es);
			return false;
		}
		err = -ENOMEM;
	}
	if (!err && es->reason == EXASOCK_S_LOSS)
		exa_stream_lost(es, sk);
	if (err)
		give_failed(es, sk, err);
	else if (sk->sk_state == TCP_ESTABLISHED)
		wake(sk, es->readable);
	give_end(es, sk);
	return true;
}

/* If it still has to, for the reason it was sent */
void exa_stream_give_leaving(struct exa_stream *es)
{
	struct sock *sk = exa_attachment_sock(&es->attachment);

	if (!sk)
		return;
	lock_sock(sk);
	if (READ_ONCE(es->place) == EXA_LEAVING)
		exa_stream_give(es, sk, es->reason, true);
	release_sock(sk);
	sock_put(sk);
}

long exa_stream_ioctl_home(struct exa_stream *es)
{
	struct sock *sk = exa_attachment_sock(&es->attachment);

	if (!sk)
		return -ESTALE;
	lock_sock(sk);
	exa_stream_give(es, sk, EXASOCK_R_SLEEP, true);
	release_sock(sk);
	sock_put(sk);
	return 0;
}
