// SPDX-License-Identifier: GPL-2.0-only
/*
 * What becomes due while a connection is taken: an acknowledgment we owe, one that we
 * wait for, bytes that nobody reads, a connection that nobody uses. One timer for all.
 */

#include "tcp.h"

#define UNUSED_NS	NSEC_PER_SEC

static void arm(struct exa_stream *es)
{
	const u64 due[] = { es->ack_at, es->loss_at, es->look_at, es->unused_at };
	u64 first = 0;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(due); i++)
		if (due[i] && (!first || due[i] < first))
			first = due[i];
	if (!first || (es->armed && es->armed <= first))
		return;
	es->armed = first;
	hrtimer_start(&es->timer, ns_to_ktime(first), HRTIMER_MODE_ABS_SOFT);
}

/* *@at, one of the times of @es, is @ns from now. Locked. */
void exa_stream_timer(struct exa_stream *es, u64 *at, u64 ns)
{
	*at = ktime_get_ns() + ns;
	arm(es);
}

/* Bytes lie in the ring. Does somebody look? */
static void look(struct exa_stream *es, u64 now)
{
	u64 hold = max(exa_hold_ns(), 10ULL * NSEC_PER_USEC);
	u64 unread = exa_stream_unread(es);

	es->look_at = 0;
	if (es->narrow && unread <= es->rcv_window / 4) {
		es->narrow = false;
		exa_stream_acknowledge(es);
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
	u64 now = ktime_get_ns();

	spin_lock_bh(&es->lock);
	es->armed = 0;
	if (es->place == EXA_TAKEN && es->loss_at && es->loss_at <= now)
		exa_stream_send_home(es, EXASOCK_S_LOSS);
	if (es->place == EXA_TAKEN && es->ack_at && es->ack_at <= now)
		exa_stream_acknowledge(es);
	if (es->place == EXA_TAKEN && es->look_at && es->look_at <= now)
		look(es, now);
	if (es->place == EXA_TAKEN && es->unused_at && es->unused_at <= now)
		unused(es, now);
	if (es->place == EXA_TAKEN)
		arm(es);
	spin_unlock_bh(&es->lock);
	return HRTIMER_NORESTART;
}

void exa_stream_timer_setup(struct exa_stream *es)
{
	hrtimer_setup(&es->timer, fire, CLOCK_MONOTONIC, HRTIMER_MODE_ABS_SOFT);
}
