// SPDX-License-Identifier: GPL-2.0-only
/*
 * The congestion window while a connection is taken. Nothing is ever lost meanwhile: at
 * the first sign of it the connection is at home, and what becomes of the window is for
 * the kernel's congestion control to say. So it only grows, when it is what sending waits
 * for (RFC 5681, 3.1), and is begun anew after a pause (RFC 2861 as the kernel does it).
 */

#include <net/inet_connection_sock.h>
#include <net/tcp.h>

#include "tcp.h"

void exa_congestion_take(struct exa_stream *es, const struct sock *sk)
{
	const struct tcp_sock *tp = tcp_sk(sk);

	es->cwnd = clamp_t(u32, tcp_snd_cwnd(tp), 1, EXA_FLIGHT);
	es->cwnd_taken = es->cwnd;
	es->ssthresh = tp->snd_ssthresh;
	es->grown = 0;
	es->limited = false;
	es->rto_ns = (u64)jiffies_to_usecs(inet_csk(sk)->icsk_rto) * NSEC_PER_USEC;
	es->sent_at = es->last;
}

/* Something is to be sent and nothing is under way: what was learnt may be long ago */
void exa_congestion_idle(struct exa_stream *es)
{
	u32 least = min_t(u32, es->cwnd, TCP_INIT_CWND), cwnd = es->cwnd;
	u64 pause;

	if (cwnd == least || !READ_ONCE(es->ns->net->ipv4.sysctl_tcp_slow_start_after_idle))
		return;
	pause = es->last - es->sent_at;
	if (pause <= es->rto_ns)
		return;
	es->ssthresh = max(es->ssthresh, (cwnd >> 1) + (cwnd >> 2));
	for (; pause > es->rto_ns && cwnd > least; pause -= es->rto_ns)
		cwnd >>= 1;
	es->cwnd = max(cwnd, least);
	es->grown = 0;
}

/* So many segments were acknowledged */
void exa_congestion_acked(struct exa_stream *es, u32 segments)
{
	if (!es->limited)
		return;
	if (es->cwnd < es->ssthresh) {
		es->cwnd += min(segments, es->ssthresh - es->cwnd);
	} else {
		es->grown += segments;
		if (es->grown >= es->cwnd) {
			es->grown -= es->cwnd;
			es->cwnd++;
		}
	}
	es->cwnd = min_t(u32, es->cwnd, EXA_FLIGHT);
}

/* The kernel goes on with what was learnt */
void exa_congestion_give(const struct exa_stream *es, struct sock *sk)
{
	struct tcp_sock *tp = tcp_sk(sk);
	u32 cwnd = tcp_snd_cwnd(tp);

	if (es->cwnd == es->cwnd_taken)
		return;
	if (es->cwnd > es->cwnd_taken)
		cwnd = max(cwnd, min(es->cwnd, tp->snd_cwnd_clamp));
	else
		cwnd = min(cwnd, es->cwnd);
	tcp_snd_cwnd_set(tp, cwnd);
	tp->snd_ssthresh = max(tp->snd_ssthresh, es->ssthresh);
	tp->snd_cwnd_cnt = 0;
	tp->snd_cwnd_stamp = tcp_jiffies32;
}
