// SPDX-License-Identifier: GPL-2.0-only
/*
 * First look at every frame of every port: is it for an accelerated socket, and may it
 * overtake the stack? A frame belongs to the device that its port, tag and destination
 * address name, and through it to a namespace (rule N3); what follows is looked up there.
 */

#include "tcp.h"

/* A datagram, and those of its receivers that are accelerated */
struct exa_arrival {
	const struct exanic_rx_frame *frame;
	struct exa_packet packet;
	struct exa_iface *iface;
	struct exa_receivers receivers;
	unsigned int count;
	struct exa_sock *es[EXA_RECEIVERS];
	enum exasock_reason reasons[EXA_RECEIVERS];
	struct exa_telling telling[EXA_RECEIVERS];
};

/* Who of its receivers is ours. True: all of them. */
static bool find_ours(struct exa_arrival *arrival)
{
	const struct exa_receivers *receivers = &arrival->receivers;
	unsigned int i;

	arrival->count = 0;
	for (i = 0; i < receivers->count; i++) {
		struct exa_sock *es = exa_sock_find(receivers->sk[i]);

		if (es)
			arrival->es[arrival->count++] = es;
	}
	return arrival->count == receivers->count && !receivers->kernel;
}

/*
 * After it can be found: from now on, or soon, nobody does not find it. Again only while
 * nobody can ask.
 */
void exa_settle(struct exa_settling *settling)
{
	WRITE_ONCE(settling->over, false);
	settling->grace = start_poll_synchronize_rcu();
	/* exa_settled() reads the other one after this one */
	smp_store_release(&settling->begun, true);
}

/*
 * Is all delivered that the driver had gathered before it could be found? Under RCU.
 * Until then what comes must go the same way, after that.
 */
bool exa_settled(struct exa_settling *settling)
{
	if (likely(READ_ONCE(settling->over)))
		return true;
	/* after exa_settle() has written the other one */
	if (!smp_load_acquire(&settling->begun) || !poll_state_synchronize_rcu(settling->grace))
		return false;
	WRITE_ONCE(settling->over, true);
	return true;
}

static bool all_settled(struct exa_arrival *arrival)
{
	unsigned int i;

	for (i = 0; i < arrival->count; i++)
		if (!exa_settled(&arrival->es[i]->settling))
			return false;
	return exa_settled(&arrival->iface->settling);
}

/* Why one receiver's cannot be held, as far as its attachment does not say */
static enum exasock_reason receiver_obstacle(struct exa_arrival *arrival, unsigned int i)
{
	struct sock *sk = arrival->receivers.sk[i];
	enum exasock_reason reason;

	if (!exa_fresh(exa_shared_heartbeat(&arrival->es[i]->shared)))
		return EXASOCK_R_IDLE;
	reason = exa_rx_sock_obstacle(sk);
	if (!reason)
		reason = exa_rx_options(sk, &arrival->packet, &arrival->telling[i].cmsg);
	return reason;
}

/*
 * Look for obstacles, cheapest first. NONE: the stack need not see it as a whole; each
 * receiver has a reason of its own, or none, and one at least has none.
 */
static enum exasock_reason judge(struct exa_arrival *arrival)
{
	const struct exa_receivers *receivers = &arrival->receivers;
	struct exa_iface *iface = arrival->iface;
	bool alone = receivers->count > 1, any = false;
	enum exasock_reason reason;
	__be32 spec_dst;
	unsigned int i;

	for (i = 0; i < receivers->count; i++) {
		/* one of these cannot be given a copy of its own (inet_steal_sock) */
		if (alone && receivers->sk[i]->sk_reuseport)
			return EXASOCK_R_SHARED;
		arrival->reasons[i] = receiver_obstacle(arrival, i);
		any |= !arrival->reasons[i];
	}
	if (!any)
		return arrival->reasons[0];
	reason = exa_rx_obstacle(iface->ns, iface);
	if (reason)
		return reason;
	if (!exa_flow_local(iface->ns, iface, &arrival->packet, &spec_dst))
		return EXASOCK_R_ROUTE;
	for (i = 0; i < receivers->count; i++) {
		arrival->telling[i].spec_dst = spec_dst;
		arrival->telling[i].alone = alone;
	}
	return EXASOCK_R_NONE;
}

/* To the stack, once, after what any of its receivers has held */
static bool pass(struct exa_arrival *arrival, enum exasock_reason reason)
{
	unsigned int i;

	for (i = 1; i < arrival->count; i++)
		exa_flush_for(arrival->es[i], reason);
	return exa_pass(arrival->es[0], arrival->frame, reason, false);
}

/* Which port gathers in which of its polls, and why: what is kept is never 0 */
static u64 gathering(const struct exa_port *port, u32 poll, enum exasock_reason reason)
{
	return (u64)port->number << 48 | (u64)reason << 32 | poll;
}

static u64 *gathering_of(const struct exa_iface *iface)
{
	return &iface->ns->gathering[iface->port->number % EXA_GATHERINGS];
}

/*
 * It keeps its place among what the driver gathers for the stack, and nothing that comes
 * after it in this poll for the same namespace may overtake it: sockets of the kernel's get
 * it too, or may, or something of the same socket may be among what has been gathered. Other
 * namespaces on the port have nothing to do with it (rule B3).
 */
static void gather(struct exa_arrival *arrival, enum exasock_reason reason)
{
	struct exa_port *port = arrival->iface->port;
	u32 poll = arrival->frame->poll;
	unsigned int i;

	for (i = 0; i < arrival->count; i++)
		exa_flush_for(arrival->es[i], reason);
	WRITE_ONCE(*gathering_of(arrival->iface), gathering(port, poll, reason));
	port->gathering = poll;
}

/*
 * Why the stack must get it after what was gathered in this poll for its namespace; NONE: nothing
 * was. If another port has the same place there, written by its own poll at any time, something
 * may have been.
 */
static enum exasock_reason gathered(const struct exa_arrival *arrival)
{
	const struct exa_port *port = arrival->iface->port;
	u32 poll = arrival->frame->poll;
	u64 last;

	if (likely(port->gathering != poll))
		return EXASOCK_R_NONE;
	last = READ_ONCE(*gathering_of(arrival->iface));
	if (!last || (last >> 48 == port->number && (u32)last != poll))
		return EXASOCK_R_NONE;
	return (u16)(last >> 32);
}

/* To each of its receivers: held, or by the stack for it alone */
static bool hold(struct exa_arrival *arrival)
{
	bool alone = arrival->count > 1, done = true;
	enum exasock_reason reason;
	unsigned int i;

	for (i = 0; i < arrival->count; i++) {
		reason = arrival->reasons[i];
		if (!reason)
			reason = exa_hold(arrival->es[i], arrival->iface, &arrival->packet,
					  &arrival->telling[i]);
		if (reason)
			done = exa_pass(arrival->es[i], arrival->frame, reason, alone);
	}
	/* of several, one that has it must not get it again */
	return alone || done;
}

/* Under RCU. False: it is none of ours. */
static bool receive(const struct exanic_rx_frame *frame)
{
	struct exa_arrival arrival;	/* not cleared: it is large */
	struct exa_packet *packet = &arrival.packet;
	enum exasock_reason reason;
	enum exa_parse parsed;
	bool all;

	arrival.frame = frame;
	parsed = exa_parse(frame, packet);
	if (parsed == EXA_PARSE_OTHER)
		return false;
	arrival.iface = exa_iface_of_frame(frame->dev, packet->vid, packet->dmac, packet->group);
	if (!arrival.iface || !READ_ONCE(arrival.iface->up))
		return false;
	if (parsed == EXA_PARSE_UNSEEN) {
		exa_flush_ns(arrival.iface->ns);
		arrival.count = 0;
		gather(&arrival, EXASOCK_R_HEADER);
		return false;
	}
	exa_lookup(arrival.iface->ns->net, packet, arrival.iface->ifindex, &arrival.receivers);
	all = find_ours(&arrival);
	if (!arrival.count)
		return false;
	if (!all) {
		gather(&arrival, EXASOCK_R_SHARED);
		return false;
	}
	if (!all_settled(&arrival)) {
		gather(&arrival, EXASOCK_R_IDLE);
		return false;
	}
	reason = gathered(&arrival);
	if (reason) {
		gather(&arrival, reason);
		return false;
	}
	if (parsed == EXA_PARSE_ODD)
		reason = EXASOCK_R_HEADER;
	else
		reason = judge(&arrival);
	return reason ? pass(&arrival, reason) : hold(&arrival);
}

static enum exanic_rx_verdict exa_receive(struct exanic_rx_client *client,
					  const struct exanic_rx_frame *frame)
{
	return receive(frame) || exa_stream_receive(frame) ? EXANIC_RX_CONSUMED : EXANIC_RX_PASS;
}

static struct exanic_rx_client exa_client = {
	.receive = exa_receive,
};

/* The first namespace has got its state, or the last one lost it: else it costs nothing (N12) */
int exa_receive_start(void)
{
	return exanic_rx_hook_register(&exa_client);
}

/* Frames that are being looked at go on: no waiting, for RTNL may wait for who stops it */
void exa_receive_stop(void)
{
	exanic_rx_hook_unregister(&exa_client);
}
