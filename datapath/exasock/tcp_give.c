// SPDX-License-Identifier: GPL-2.0-only
/*
 * Bringing a connection home: the kernel's state becomes what it would be had the kernel
 * itself received what the process has read and sent what the peer has acknowledged.
 * The rest goes through the kernel's own path for restoring connections (TCP_REPAIR):
 * received and unread bytes become readable, unacknowledged ones count as sent, and what
 * was not sent yet is sent as usual.
 */

#include <linux/uio.h>
#include <net/inet_connection_sock.h>

#include "tcp.h"

#define PIECE		16384U
#define TRIES		8
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

/* All of it, in pieces; -ENOMEM when the kernel refuses again and again */
static int put(struct sock *sk, u8 *from, u32 length)
{
	unsigned int tries = TRIES;

	while (length) {
		struct msghdr msg = { .msg_flags = MSG_DONTWAIT | MSG_NOSIGNAL };
		struct kvec vec = { .iov_base = from, .iov_len = min(length, PIECE) };
		int done;

		iov_iter_kvec(&msg.msg_iter, ITER_SOURCE, &vec, 1, vec.iov_len);
		done = tcp_sendmsg_locked(sk, &msg, vec.iov_len);
		if (done <= 0) {
			if (!tries--)
				return done ? done : -ENOMEM;
			cond_resched();
			continue;
		}
		from += done;
		length -= done;
	}
	return 0;
}

static int put_unread(struct exa_stream *es, struct sock *sk, u32 unread)
{
	u64 at = es->head - unread;
	int err = 0;

	while (unread && !err) {
		u32 part = unread;
		u8 *from = exa_stream_at(es, at, &part);

		err = put(sk, from, part);
		at += part;
		unread -= part;
	}
	return err;
}

static int put_sent(struct exa_stream *es, struct sock *sk, u32 from, u32 to)
{
	int err = 0;

	while (from != to && !err) {
		u32 at = from & (exa_stream_room - 1);
		u32 part = min(to - from, exa_stream_room - at);

		err = put(sk, es->buffer + at, part);
		from += part;
	}
	return err;
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

static void write_received(const struct exa_stream *es, struct sock *sk, u32 unread)
{
	struct tcp_sock *tp = tcp_sk(sk);
	u32 consumed = es->rcv_nxt - unread;

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

/* As it would be, but for what is unread and unacknowledged; then that */
static int write_back(struct exa_stream *es, struct sock *sk, u32 unread)
{
	struct tcp_sock *tp = tcp_sk(sk);
	struct saved saved;
	int err;

	refresh_clock(tp);
	write_sent(es, sk);
	write_received(es, sk, unread);
	save(sk, &saved);
	tp->repair = 1;
	tp->repair_queue = TCP_RECV_QUEUE;
	err = put_unread(es, sk, unread);
	tp->rcv_wup = es->rcv_acked;
	tp->rcv_wnd = es->rcv_edge - es->rcv_acked;
#ifdef EXASOCK_HAVE_RCV_MWND_SEQ
	tp->rcv_mwnd_seq = es->rcv_edge;
#endif
	tp->repair_queue = TCP_SEND_QUEUE;
	if (!err)
		err = put_sent(es, sk, es->snd_una, es->snd_nxt);
	tp->repair_queue = TCP_NO_QUEUE;
	tp->repair = 0;
	if (!err)
		err = put_sent(es, sk, es->snd_nxt, es->write_seq);
	restore(sk, &saved);
	return err;
}

static void wake(struct sock *sk, u32 unread)
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

/* The kernel refuses the bytes, or has others: no honest end but this one */
static void fail(struct sock *sk, int err)
{
	net_warn_ratelimited("exasock: a TCP connection could not be brought home: %d\n", err);
	tcp_prot.disconnect(sk, 0);
	WRITE_ONCE(sk->sk_err, ECONNRESET);
	sk_error_report(sk);
}

/* Nobody reads the ring any more. What is unread. Locked. */
static u32 close_ring(struct exa_stream *es)
{
	u64 tail = xchg(&es->control->tail, 0) >> 1;

	if (tail > es->consumed && tail <= es->head)
		es->consumed = tail;
	WRITE_ONCE(es->control->tail, es->consumed << 1);
	return es->head - es->consumed;
}

/* When it may be taken again: later each time, unless it was worth it. Locked. */
static void rest(struct exa_stream *es)
{
	u64 first = READ_ONCE(exa_stream_rest_us) * NSEC_PER_USEC;
	u64 now = ktime_get_ns();

	if (es->ring->rx_segments + es->ring->tx_segments - es->moved >= PRODUCTIVE)
		es->rest_ns = first;
	else
		es->rest_ns = clamp(es->rest_ns * 2, first, first << REST_DOUBLINGS);
	es->rested_at = now + es->rest_ns;
	es->since = now;
	WRITE_ONCE(es->ring->after,
		   get_cycles() + div_u64(es->rest_ns * tsc_khz, USEC_PER_SEC));
}

/* With the socket locked, in process context */
void exa_stream_give(struct exa_stream *es, struct sock *sk, u32 reason)
{
	struct sk_buff *skb;
	u32 unread;
	int err = 0;

	sock_owned_by_me(sk);
	spin_lock_bh(&es->lock);
	if (es->place == EXA_HOME) {
		spin_unlock_bh(&es->lock);
		return;
	}
	if (es->place == EXA_TAKEN) {
		es->reason = reason;
		exa_stream_unindex(es);
	}
	es->place = EXA_LEAVING;
	es->ring->gives[es->reason]++;
	unread = close_ring(es);
	es->ring->rx_home += unread;
	spin_unlock_bh(&es->lock);

	/* from here on arriving segments wait, and nobody else changes anything */
	if (sk->sk_state == TCP_ESTABLISHED && tcp_sk(sk)->snd_una == es->kernel_una &&
	    tcp_sk(sk)->rcv_nxt == es->kernel_rcv_nxt) {
		err = write_back(es, sk, unread);
	} else if (sk->sk_state != TCP_CLOSE) {
		es->ring->gives[EXASOCK_S_FOREIGN]++;
		err = -ECONNRESET;
	}
	if (!err && es->reason == EXASOCK_S_LOSS)
		exa_stream_lost(es, sk);
	if (err)
		fail(sk, err);
	else if (sk->sk_state == TCP_ESTABLISHED)
		wake(sk, unread);

	spin_lock_bh(&es->lock);
	while ((skb = __skb_dequeue(&es->held)))
		netif_receive_skb(skb);		/* into the backlog: the socket is ours */
	es->place = EXA_HOME;
	exa_stream_arrived(es);
	rest(es);
	spin_unlock_bh(&es->lock);
	sock_put(sk);				/* of exa_stream_take(); the caller has its own */
}

/* If it still has to, for the reason it was sent */
void exa_stream_give_leaving(struct exa_stream *es)
{
	struct sock *sk = exa_attachment_sock(&es->attachment);

	if (!sk)
		return;
	lock_sock(sk);
	if (READ_ONCE(es->place) == EXA_LEAVING)
		exa_stream_give(es, sk, es->reason);
	release_sock(sk);
	sock_put(sk);
}

long exa_stream_ioctl_home(struct exa_stream *es)
{
	struct sock *sk = exa_attachment_sock(&es->attachment);

	if (!sk)
		return -ESTALE;
	lock_sock(sk);
	exa_stream_give(es, sk, EXASOCK_R_SLEEP);
	release_sock(sk);
	sock_put(sk);
	return 0;
}
