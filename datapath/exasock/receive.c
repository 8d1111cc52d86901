// SPDX-License-Identifier: GPL-2.0-only
/*
 * First look at every frame of every port: is it for an accelerated socket, and may it
 * overtake the stack? A frame belongs to the device that its port, tag and destination
 * address name, and through it to a namespace (rule N3); what follows is looked up there.
 */

#include "exasock.h"

/* Why the datagram cannot be held, as far as the attachment does not say; cheapest first */
static enum exasock_reason receive_obstacle(struct exa_sock *es, const struct exa_iface *iface,
					    struct sock *sk, const struct exa_packet *packet,
					    u16 *cmsg, __be32 *spec_dst)
{
	enum exasock_reason reason;

	if (!exa_fresh(READ_ONCE(es->control->heartbeat)))
		return EXASOCK_R_IDLE;
	reason = exa_rx_obstacle(iface->ns, iface, sk);
	if (!reason)
		reason = exa_rx_options(sk, packet, cmsg);
	if (!reason && !exa_flow_local(iface->ns, iface, packet, spec_dst))
		reason = EXASOCK_R_ROUTE;
	return reason;
}

/* Under RCU. False: it is none of ours. */
static bool receive(const struct exanic_rx_frame *frame)
{
	enum exasock_reason reason = EXASOCK_R_NONE;
	struct exa_packet packet;
	struct exa_iface *iface;
	enum exa_parse parsed;
	struct exa_sock *es;
	__be32 spec_dst = 0;
	struct sock *sk;
	u16 cmsg = 0;
	bool shared;

	parsed = exa_parse(frame, &packet);
	if (parsed == EXA_PARSE_OTHER)
		return false;
	iface = exa_iface_of_frame(frame->dev, packet.vid, packet.dmac, packet.multicast);
	if (!iface || !READ_ONCE(iface->up))
		return false;
	if (parsed == EXA_PARSE_UNSEEN)
		return exa_pass_unseen(iface->ns, frame);
	sk = exa_lookup(iface->ns->net, &packet, iface->ifindex, &shared);
	if (!sk)
		return false;
	es = exa_sock_find(sk);
	if (!es)
		return false;

	if (shared)
		reason = EXASOCK_R_SHARED;
	else if (parsed == EXA_PARSE_ODD)
		reason = EXASOCK_R_HEADER;
	else
		reason = receive_obstacle(es, iface, sk, &packet, &cmsg, &spec_dst);
	if (!reason)
		reason = exa_hold(es, iface, &packet, cmsg, spec_dst);
	return !reason || exa_pass(es, frame, reason);
}

static enum exanic_rx_verdict exa_receive(struct exanic_rx_client *client,
					  const struct exanic_rx_frame *frame)
{
	return receive(frame) ? EXANIC_RX_CONSUMED : EXANIC_RX_PASS;
}

static struct exanic_rx_client exa_client = {
	.receive = exa_receive,
};

/* The first namespace has got its state, or the last one lost it: else it costs nothing (N12) */
int exa_receive_start(void)
{
	return exanic_rx_hook_register(&exa_client);
}

void exa_receive_stop(void)
{
	exanic_rx_hook_unregister(&exa_client);
}
