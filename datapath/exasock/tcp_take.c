// SPDX-License-Identifier: GPL-2.0-only
/*
 * Taking a connection: only when nothing of it is in anybody's hands. All its segments
 * come through receive.c, which passes them to the stack under the stream's lock while
 * the connection is at home; so with that lock and the socket's there is none under way.
 */

#include <net/inet_connection_sock.h>
#include <net/ip.h>

#include "tcp.h"

#define REFUSED_NS_FIRST	(50ULL * NSEC_PER_USEC)
#define REFUSED_NS_MOST		(16ULL * NSEC_PER_MSEC)

/* Has it anything that the kernel would have to serve? */
static bool has_options(const struct sock *sk)
{
	const struct inet_connection_sock *icsk = inet_csk(sk);
	const struct inet_sock *inet = inet_sk(sk);
	const struct tcp_sock *tp = tcp_sk(sk);

	if (rcu_access_pointer(inet->inet_opt) || inet->min_ttl || inet_cmsg_flags(inet) ||
	    rcu_access_pointer(sk->sk_filter) || exa_stream_has_options(sk))
		return true;
	/*
	 * Errors would come for segments that the kernel does not know; and more may wait in our
	 * buffer than the program wants to have unsent.
	 */
	if (exa_recverr(sk) || tcp_notsent_lowat(tp) < exa_stream_room)
		return true;
	if ((u64)jiffies_to_usecs(icsk->icsk_delack_max) * NSEC_PER_USEC < EXA_ACK_NS)
		return true;
	if (tp->recvmsg_inq || tp->nonagle & TCP_NAGLE_CORK || tp->repair ||
	    exa_tcp_ecn(tp) || tp->tcp_tx_delay || tp->bpf_sock_ops_cb_flags ||
	    rcu_access_pointer(tp->fastopen_rsk) || tp->fastopen_req || sk->sk_user_data)
		return true;
#ifdef CONFIG_TCP_MD5SIG
	if (rcu_access_pointer(tp->md5sig_info))
		return true;
#endif
#ifdef CONFIG_TCP_AO
	if (rcu_access_pointer(tp->ao_info))
		return true;
#endif
	return icsk->icsk_ulp_ops || icsk->icsk_ext_hdr_len;
}

/* Is it anywhere on its way, in or out? */
static bool is_busy(const struct sock *sk)
{
	const struct inet_connection_sock *icsk = inet_csk(sk);
	const struct tcp_sock *tp = tcp_sk(sk);

	return !skb_queue_empty(&sk->sk_receive_queue) || sk->sk_backlog.tail ||
	       !RB_EMPTY_ROOT(&tp->out_of_order_queue) || tp->rcv_nxt != tp->copied_seq ||
	       !skb_queue_empty(&sk->sk_write_queue) || !RB_EMPTY_ROOT(&sk->tcp_rtx_queue) ||
	       tp->packets_out || tp->snd_una != tp->snd_nxt || tp->snd_nxt != tp->write_seq ||
	       sk_wmem_alloc_get(sk) || sk->sk_write_pending || tp->urg_data ||
	       tp->snd_up != tp->snd_una || tp->compressed_ack || icsk->icsk_pending ||
	       icsk->icsk_ca_state != TCP_CA_Open;
}

static u32 path_obstacle(struct exa_stream *es, struct sock *sk)
{
	struct exa_dst *dst;
	u32 reason;

	reason = exa_stream_path(es, sk, &dst);
	if (reason)
		return reason;
	if (dst->iface->ifindex != es->seen)
		return EXASOCK_S_UNSEEN;
	return exa_rx_obstacle(es->ns, dst->iface) ?: exa_rx_sock_obstacle(sk);
}

/* Socket and stream locked, under RCU */
static u32 obstacle(struct exa_stream *es, struct sock *sk)
{
	const struct tcp_sock *tp = tcp_sk(sk);

	if (es->gone || !READ_ONCE(exa_stream_enabled) ||
	    sk->sk_state != TCP_ESTABLISHED || sk->sk_shutdown || sk->sk_err)
		return EXASOCK_S_STATE;
	if (ktime_get_ns() < es->rested_at)
		return EXASOCK_S_REST;
	if (!exa_settled(&es->settling))
		return EXASOCK_S_UNSEEN;
	if (atomic_read(&es->callers))
		return EXASOCK_S_CALLERS;
	if (has_options(sk))
		return EXASOCK_R_OPTION;
	if (is_busy(sk))
		return EXASOCK_S_QUEUED;
	if (tp->snd_wnd < tp->mss_cache || tcp_receive_window(tp) < 2 * tp->advmss)
		return EXASOCK_S_WINDOW;
	return path_obstacle(es, sk);
}

static void snapshot(struct exa_stream *es, struct sock *sk)
{
	const struct inet_connection_sock *icsk = inet_csk(sk);
	const struct tcp_sock *tp = tcp_sk(sk);

	es->rcv_nxt = tp->rcv_nxt;
	es->rcv_acked = tp->rcv_wup;
	es->unacked = 0;
	es->rcv_edge = tp->rcv_wup + tp->rcv_wnd;
	es->rcv_window = tp->rcv_wnd;
	es->rcv_mss = max_t(u32, icsk->icsk_ack.rcv_mss, 536);
	es->ts_recent = tp->rx_opt.ts_recent;

	es->snd_una = tp->snd_una;
	es->snd_nxt = tp->snd_nxt;
	es->write_seq = tp->snd_nxt;
	es->snd_sml = tp->snd_una;
	es->snd_wnd = tp->snd_wnd;
	es->snd_wl1 = tp->snd_wl1;
	es->max_window = tp->max_window;
	es->mss = min_t(u32, tp->mss_cache, es->image_room);
	exa_congestion_take(es, sk);
	es->rto_min_ns = (u64)jiffies_to_usecs(icsk->icsk_rto_min) * NSEC_PER_USEC;
	es->room = clamp_t(u32, READ_ONCE(sk->sk_sndbuf) / 2, es->mss, exa_stream_room);
	es->flight = 0;
	es->first = 0;
	es->probe_ns = 2ULL * (tp->srtt_us >> 3) * NSEC_PER_USEC;
	es->nodelay = tp->nonagle & TCP_NAGLE_OFF;

	es->stamps = tp->rx_opt.tstamp_ok;
#ifdef EXASOCK_HAVE_TCP_USEC_TS
	es->usec_stamps = tp->tcp_usec_ts;
#endif
	es->tsoffset = tp->tsoffset;
	es->snd_wscale = tp->rx_opt.snd_wscale;
	es->rcv_wscale = tp->rx_opt.rcv_wscale;
	es->keepalive = sock_flag(sk, SOCK_KEEPOPEN);
	es->kernel_una = tp->snd_una;
	es->kernel_rcv_nxt = tp->rcv_nxt;
}

/* Nothing of it runs in the kernel meanwhile, and nothing is accepted there */
static void put_to_rest(struct sock *sk)
{
	struct tcp_sock *tp = tcp_sk(sk);

	inet_csk(sk)->icsk_ack.pending = 0;
	if (sock_flag(sk, SOCK_KEEPOPEN))
		tcp_prot.keepalive(sk, 0);
	tp->rcv_wup = tp->rcv_nxt;
	tp->rcv_wnd = 0;
	tp->pred_flags = 0;
}

static void take(struct exa_stream *es, struct sock *sk)
{
	u64 now = ktime_get_ns();

	sock_hold(sk);
	es->last = now;
	snapshot(es, sk);
	put_to_rest(sk);
	es->place = EXA_TAKEN;
	exa_stream_index(es, sk);
	es->consumed = es->head;
	es->moved = es->rx_segments + es->tx_segments;
	es->since = now;
	es->ack_at = 0;
	es->loss_at = 0;
	es->push_at = 0;
	es->look_at = 0;
	es->narrow = false;
	exa_publish_more(&es->shared.stream_ring->takes, &es->takes, 1);
	/* with everything else in its place, readers may look */
	exa_shared_stream_open(&es->shared, es->head);
	exa_stream_timer(es, &es->unused_at, NSEC_PER_SEC);
	if (es->rcv_acked != es->rcv_nxt)
		exa_stream_timer(es, &es->ack_at, 10 * NSEC_PER_MSEC);
}

/* Not before then: the process need not ask */
static void refuse(struct exa_stream *es, u32 reason)
{
	u64 now = ktime_get_ns(), until = es->rested_at;

	exa_publish_more(&es->shared.stream_ring->refused[reason], &es->refused[reason], 1);
	if (reason != EXASOCK_S_REST) {
		es->refused_ns = clamp(es->refused_ns * 2, REFUSED_NS_FIRST, REFUSED_NS_MOST);
		until = now + es->refused_ns;
	}
	if (until > now)
		exa_publish_u64(&es->shared.stream_ring->after, get_cycles() +
				div_u64((until - now) * tsc_khz, USEC_PER_SEC));
}

/* 0: it is taken. With the socket locked, in process context. */
u32 exa_stream_take(struct exa_stream *es, struct sock *sk)
{
	u32 reason = 0;

	rcu_read_lock();
	spin_lock_bh(&es->lock);
	if (es->place == EXA_HOME) {
		reason = obstacle(es, sk);
		if (!reason) {
			take(es, sk);
			es->refused_ns = 0;
		} else {
			refuse(es, reason);
		}
	} else if (es->place == EXA_LEAVING) {
		reason = EXASOCK_S_REST;
	}
	spin_unlock_bh(&es->lock);
	rcu_read_unlock();
	return reason;
}

long exa_stream_ioctl_take(struct exa_stream *es)
{
	struct sock *sk = exa_attachment_sock(&es->attachment);
	u32 reason;

	if (!sk)
		return -ESTALE;
	lock_sock(sk);
	reason = exa_stream_take(es, sk);
	release_sock(sk);
	sock_put(sk);
	return reason ? -EOPNOTSUPP : 0;
}
