// SPDX-License-Identifier: GPL-2.0-only
/*
 * What becomes due while a connection is taken: an acknowledgment we owe, one that we
 * wait for, bytes that nobody reads, a connection that nobody uses. One timer for all.
 */

#include "tcp.h"

#define UNUSED_NS	NSEC_PER_SEC

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
	if (es->look_at)
		first = min(first, es->look_at);
	return first;
}

static void acknowledge(struct exa_stream *es, u64 now)
{
	es->last = now;
	exa_stream_acknowledge(es);
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
	if (exa_looked(READ_ONCE(es->control->heartbeat), hold))
		es->look_at = now + (es->narrow ? EXA_NARROW_NS : hold);
	else
		exa_stream_send_home(es, EXASOCK_R_TIMEOUT);
}

/* Keepalive is the kernel's; and who does not look does not need us */
static void unused(struct exa_stream *es, u64 now)
{
	if (es->last + UNUSED_NS > now)
		es->unused_at = es->last + UNUSED_NS;
	else if (es->keepalive || !exa_looked(READ_ONCE(es->control->heartbeat), UNUSED_NS))
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
	es->armed = 0;
	if (es->place == EXA_TAKEN && es->loss_at && es->loss_at <= now)
		exa_stream_send_home(es, EXASOCK_S_LOSS);
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
	}
unlock:
	spin_unlock_bh(&es->lock);
	return restart;
}

void exa_stream_timer_setup(struct exa_stream *es)
{
	hrtimer_setup(&es->timer, fire, CLOCK_MONOTONIC, HRTIMER_MODE_ABS_SOFT);
}
