// SPDX-License-Identifier: GPL-2.0-only
/* A received TCP segment, looked at where it lies in the card's ring; as packet.c */

#include <linux/if_ether.h>
#include <linux/if_vlan.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <net/ip.h>

#include "tcp.h"

/* Ethernet, VLAN tag, IPv4 and TCP with all the options it can have */
#define SEGMENT_HEADERS	(VLAN_ETH_HLEN + 20 + 60)

static_assert(SEGMENT_HEADERS <= EXANIC_RX_CHUNK_DATA);

/* The one option a segment has in the middle of a connection, as everybody writes it */
static void parse_options(const struct tcphdr *tcp, struct exa_segment *segment)
{
	const __be32 *words = (const __be32 *)(tcp + 1);

	segment->bare = tcp->doff == 5;
	segment->stamped = tcp->doff == 8 &&
			   words[0] == htonl(TCPOPT_NOP << 24 | TCPOPT_NOP << 16 |
					     TCPOPT_TIMESTAMP << 8 | TCPOLEN_TIMESTAMP);
	segment->tsval = segment->stamped ? ntohl(words[1]) : 0;
}

static enum exa_parse parse_tcp(const struct iphdr *ip, u32 readable, struct exa_segment *segment)
{
	const struct tcphdr *tcp = (const struct tcphdr *)(ip + 1);
	struct exa_packet *packet = &segment->packet;
	u32 total = ntohs(ip->tot_len), header = tcp->doff * 4;

	packet->sport = tcp->source;
	packet->dport = tcp->dest;
	if (ip_fast_csum(ip, 5) || total > packet->bytes - packet->network || header < 20 ||
	    total < sizeof(*ip) + header || sizeof(*ip) + header > readable)
		return EXA_PARSE_ODD;
	packet->payload = packet->network + sizeof(*ip) + header;
	packet->length = total - sizeof(*ip) - header;
	segment->seq = ntohl(tcp->seq);
	segment->ack = ntohl(tcp->ack_seq);
	segment->window = ntohs(tcp->window);
	segment->flags = tcp_flag_byte(tcp);
	segment->reserved = tcp_flag_word(tcp) & TCP_RESERVED_BITS;
	segment->sum = csum_partial(tcp, header, 0);
	parse_options(tcp, segment);
	return EXA_PARSE_GOOD;
}

/* EXA_PARSE_UNSEEN: only the addresses are known; EXA_PARSE_ODD: and the ports */
enum exa_parse exa_segment_parse(const struct exanic_rx_frame *frame, struct exa_segment *segment)
{
	u8 head[SEGMENT_HEADERS + 2] __aligned(8);
	const struct vlan_ethhdr *vlan = (const struct vlan_ethhdr *)(head + 2);
	u32 bytes = frame->length - ETH_FCS_LEN, copied;
	struct exa_packet *packet = &segment->packet;
	__be16 protocol;
	const struct iphdr *ip;

	if (bytes < ETH_ZLEN)
		return EXA_PARSE_OTHER;
	copied = min_t(u32, bytes, SEGMENT_HEADERS);
	exanic_rx_frame_copy(frame, head + 2, copied, NULL);
	memset(packet, 0, sizeof(*packet));
	packet->frame = frame;
	packet->bytes = bytes;
	packet->network = ETH_HLEN;
	protocol = vlan->h_vlan_proto;
	if (protocol == htons(ETH_P_8021Q)) {
		packet->vid = ntohs(vlan->h_vlan_TCI) & VLAN_VID_MASK;
		packet->network = VLAN_ETH_HLEN;
		protocol = vlan->h_vlan_encapsulated_proto;
		if (!packet->vid)
			return EXA_PARSE_OTHER;
	}
	if (protocol != htons(ETH_P_IP) || is_multicast_ether_addr(vlan->h_dest))
		return EXA_PARSE_OTHER;
	ether_addr_copy(packet->dmac, vlan->h_dest);

	ip = (const struct iphdr *)(head + 2 + packet->network);
	if (ip->version != 4 || ip->protocol != IPPROTO_TCP)
		return EXA_PARSE_OTHER;
	packet->saddr = ip->saddr;
	packet->daddr = ip->daddr;
	packet->tos = ip->tos;
	packet->ttl = ip->ttl;
	if (ip_is_fragment(ip) || ip->ihl != 5)
		return EXA_PARSE_UNSEEN;
	return parse_tcp(ip, copied - packet->network, segment);
}
