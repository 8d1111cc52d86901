// SPDX-License-Identifier: GPL-2.0-only
/*
 * A received frame, looked at where it lies in the card's ring. The card does not wait:
 * what is needed is copied once, and the copy that counts is confirmed afterwards.
 */

#include <linux/if_ether.h>
#include <linux/if_vlan.h>
#include <linux/ip.h>
#include <linux/udp.h>
#include <net/ip.h>

#include "exasock.h"

/* Headers of every datagram we take lie in the first chunk */
static_assert(EXA_HEADERS <= EXANIC_RX_CHUNK_DATA);

enum exa_parse exa_parse(const struct exanic_rx_frame *frame, struct exa_packet *packet)
{
	u8 head[EXA_HEADERS] __aligned(8);
	const struct ethhdr *eth = (const struct ethhdr *)head;
	u32 bytes = frame->length - ETH_FCS_LEN, udp_length, total;
	__be16 protocol;
	const struct iphdr *ip;
	const struct udphdr *udp;

	if (bytes < ETH_ZLEN)
		return EXA_PARSE_OTHER;
	exanic_rx_frame_copy(frame, head, EXA_HEADERS, NULL);
	packet->frame = frame;
	packet->bytes = bytes;
	packet->network = ETH_HLEN;
	packet->vid = 0;
	protocol = eth->h_proto;
	if (protocol == htons(ETH_P_8021Q)) {
		const struct vlan_ethhdr *vlan = (const struct vlan_ethhdr *)head;

		packet->vid = ntohs(vlan->h_vlan_TCI) & VLAN_VID_MASK;
		packet->network = VLAN_ETH_HLEN;
		protocol = vlan->h_vlan_encapsulated_proto;
		if (!packet->vid)	/* a priority tag: the stack takes it off */
			return EXA_PARSE_OTHER;
	}
	if (protocol != htons(ETH_P_IP))
		return EXA_PARSE_OTHER;
	ether_addr_copy(packet->dmac, eth->h_dest);
	packet->group = is_multicast_ether_addr(eth->h_dest);

	ip = (const struct iphdr *)(head + packet->network);
	if (ip->version != 4 || ip->protocol != IPPROTO_UDP)
		return EXA_PARSE_OTHER;
	if (ip_is_fragment(ip) || ip->ihl != 5)
		return EXA_PARSE_UNSEEN;
	udp = (const struct udphdr *)(ip + 1);
	total = ntohs(ip->tot_len);
	udp_length = ntohs(udp->len);
	packet->saddr = ip->saddr;
	packet->daddr = ip->daddr;
	packet->sport = udp->source;
	packet->dport = udp->dest;
	packet->check = udp->check;
	packet->ttl = ip->ttl;
	packet->tos = ip->tos;
	if (!is_broadcast_ether_addr(eth->h_dest) &&
	    (packet->group != ipv4_is_multicast(ip->daddr) || ipv4_is_lbcast(ip->daddr)))
		return EXA_PARSE_OTHER;
	if (ip_fast_csum(ip, 5) || total > bytes - packet->network ||
	    total < sizeof(*ip) + sizeof(*udp) || udp_length != total - sizeof(*ip) || !udp->dest)
		return EXA_PARSE_ODD;
	packet->payload = packet->network + sizeof(*ip) + sizeof(*udp);
	packet->length = udp_length - sizeof(*udp);
	return EXA_PARSE_GOOD;
}
