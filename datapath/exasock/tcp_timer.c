// SPDX-License-Identifier: GPL-2.0-only
/*
 * What becomes due while a connection is taken: an acknowledgment we owe, one that we
 * wait for, bytes that nobody reads, a connection that nobody uses. One timer for all.
 */

#include <net/inet_connection_sock.h>

#include "tcp.h"

#define UNUSED_NS	NSEC_PER_SEC
#define LOSS_LEAST_NS	(2ULL * NSEC_PER_MSEC)	/* TCP_TIMEOUT_MIN_US */

/* *@at, one of the times of @es, is @ns after the last segment, which is now. Locked. */
void exa_stream_timer(struct exa_stream *es, u64 *at, u64 ns)
{
	*at = es->last + ns;
	if (es->armed && es->armed <= *at)
		return;
	es->armed = *at;
	hrtimer_start(&es->timer, ns_to_ktime(*at), HRTIMER_MODE_ABS_SOFT);
}

/*
 * How long an acknowledgment may take until the kernel would probe for a lost tail
 * (tcp_schedule_loss_probe): twice the round trip, and of a single segment as long as its
 * receiver may delay it; never longer than until it would send again.
 */
u64 exa_stream_loss_ns(const struct exa_stream *es)
{
	u64 delay = es->flight == 1 ? es->rto_min_ns : LOSS_LEAST_NS;

	return min(es->probe_ns + delay, es->rto_ns);
}

/*
 * A connection that was handed back for the lack of an acknowledgment: the kernel has waited
 * long enough, as long as exa_stream_loss_ns() says. With the socket locked, after its
 * state was written back, with which the kernel began to wait anew.
 */
void exa_stream_lost(const struct exa_stream *es, struct sock *sk)
{
	struct inet_connection_sock *icsk = inet_csk(sk);
	u64 waited = exa_stream_loss_ns(es), left;

	if (!tcp_sk(sk)->packets_out)
		return;
	if (icsk->icsk_pending == ICSK_TIME_LOSS_PROBE) {
		inet_csk_reset_xmit_timer(sk, ICSK_TIME_LOSS_PROBE, 1, icsk->icsk_rto);
	} else if (icsk->icsk_pending == ICSK_TIME_RETRANS) {
		left = es->rto_ns > waited ? es->rto_ns - waited : 0;
		inet_csk_reset_xmit_timer(sk, ICSK_TIME_RETRANS, max(nsecs_to_jiffies(left), 1UL),
					  icsk->icsk_rto);
	}
}

/*
 * When the timer fires next. While segments come and go, not later than the next
 * acknowledgment could be due: setting it for one then costs a comparison, not the timer.
 */
static u64 next(const struct exa_stream *es, u64 now)
{
	u64 first = es->last + EXA_ACK_NS > now ? now + EXA_ACK_NS : es->unused_at;

	if (es->ack_at)
		first = min(first, es->ack_at);
	if (es->loss_at)
		first = min(first, es->loss_at);
	if (es->push_at)
		first = min(first, es->push_at);
	if (es->look_at)
		first = min(first, es->look_at);
	return first;
}

static void acknowledge(struct exa_stream *es, u64 now)
{
	es->last = now;
	exa_stream_acknowledge(es);
}

/* What found no room in the card's memory */
static void push(struct exa_stream *es, u64 now)
{
	es->push_at = 0;
	es->last = now;
	exa_stream_push(es);
}

/* Bytes lie in the ring. Does somebody look? */
static void look(struct exa_stream *es, u64 now)
{
	u64 hold = exa_stream_hold_ns();
	u64 unread = exa_stream_unread(es);

	es->look_at = 0;
	if (es->narrow && unread <= es->rcv_window / 4) {
		es->narrow = false;
		acknowledge(es, now);
	}
	if (!unread || es->place != EXA_TAKEN)
		return;
	if (exa_looked(exa_shared_heartbeat(&es->shared), hold))
		es->look_at = now + (es->narrow ? EXA_NARROW_NS : hold);
	else
		exa_stream_send_home(es, EXASOCK_R_TIMEOUT);
}

/* Keepalive is the kernel's; and who does not look does not need us */
static void unused(struct exa_stream *es, u64 now)
{
	if (es->last + UNUSED_NS > now)
		es->unused_at = es->last + UNUSED_NS;
	else if (es->keepalive || !exa_looked(exa_shared_heartbeat(&es->shared), UNUSED_NS))
		exa_stream_send_home(es, EXASOCK_S_UNUSED);
	else
		es->unused_at = now + UNUSED_NS;
}

static enum hrtimer_restart fire(struct hrtimer *timer)
{
	struct exa_stream *es = container_of(timer, struct exa_stream, timer);
	enum hrtimer_restart restart = HRTIMER_NORESTART;
	u64 now;

	spin_lock_bh(&es->lock);
	if (hrtimer_is_queued(timer))	/* started again while this waited for the lock */
		goto unlock;
	now = ktime_get_ns();
	es->armed = now;	/* what is due later is set below, nobody starts the timer */
	if (es->place == EXA_TAKEN && es->loss_at && es->loss_at <= now)
		exa_stream_send_home(es, es->flight ? EXASOCK_S_LOSS : EXASOCK_R_BUSY);
	if (es->place == EXA_TAKEN && es->push_at && es->push_at <= now)
		push(es, now);
	if (es->place == EXA_TAKEN && es->ack_at && es->ack_at <= now)
		acknowledge(es, now);
	if (es->place == EXA_TAKEN && es->look_at && es->look_at <= now)
		look(es, now);
	if (es->place == EXA_TAKEN && es->unused_at <= now)
		unused(es, now);
	if (es->place == EXA_TAKEN) {
		es->armed = next(es, now);
		hrtimer_set_expires(timer, ns_to_ktime(es->armed));
		restart = HRTIMER_RESTART;
	} else {
		es->armed = 0;
	}
unlock:
	spin_unlock_bh(&es->lock);
	return restart;
}

void exa_stream_timer_setup(struct exa_stream *es)
{
	hrtimer_setup(&es->timer, fire, CLOCK_MONOTONIC, HRTIMER_MODE_ABS_SOFT);
}
