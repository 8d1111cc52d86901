// SPDX-License-Identifier: GPL-2.0-only
/*
 * Lengths and checksums of a prepared TCP segment. Nothing is asked of a socket or the accelerator,
 * so the library that programs are linked with and the preloaded one have the same functions.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <linux/types.h>
#include <net/ethernet.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <string.h>

#include "extensions/exasock/extensions.h"
#include "extensions/segment.h"

#define VLAN_TAG	4
#define PACKET_MOST	65535

/* Where the headers are that are in a frame's first bytes */
struct segment {
	struct iphdr *ip;
	struct tcphdr *tcp;
	size_t lower;		/* bytes before the IP header */
	size_t tcp_length;	/* of the TCP header with its options */
};

static int segment_invalid(void)
{
	errno = EINVAL;
	return -1;
}

/* False: these are other headers, or they do not end where the frame's headers do */
static bool segment_find(void *hdr, size_t hdr_len, struct segment *found)
{
	const size_t least = sizeof(struct iphdr) + sizeof(struct tcphdr);
	__u8 *at = hdr;
	__u16 protocol;
	size_t ip_length;

	if (!at)
		return false;
	found->lower = ETHER_HDR_LEN;
	if (hdr_len < found->lower + least)
		return false;
	memcpy(&protocol, at + 2 * ETHER_ADDR_LEN, sizeof(protocol));
	if (protocol == htons(ETHERTYPE_VLAN)) {
		found->lower += VLAN_TAG;
		if (hdr_len < found->lower + least)
			return false;
		memcpy(&protocol, at + 2 * ETHER_ADDR_LEN + VLAN_TAG, sizeof(protocol));
	}
	if (protocol != htons(ETHERTYPE_IP))
		return false;
	found->ip = (struct iphdr *)(at + found->lower);
	ip_length = found->ip->ihl * 4U;
	if (found->ip->version != 4 || found->ip->protocol != IPPROTO_TCP ||
	    ip_length < sizeof(struct iphdr) ||
	    hdr_len < found->lower + ip_length + sizeof(struct tcphdr))
		return false;
	found->tcp = (struct tcphdr *)((__u8 *)found->ip + ip_length);
	found->tcp_length = found->tcp->doff * 4U;
	return found->tcp_length >= sizeof(struct tcphdr) &&
	       hdr_len == found->lower + ip_length + found->tcp_length;
}

/* The ones' complement sum of bytes that begin at an even place */
static __u64 segment_sum(__u64 sum, const void *data, size_t length)
{
	const __u8 *at = data;

	for (; length > 1; length -= 2, at += 2)
		sum += (__u64)at[0] << 8 | at[1];
	return length ? sum + ((__u64)at[0] << 8) : sum;
}

static __u16 segment_fold(__u64 sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons((__u16)~sum);
}

int exa_segment_set_length(void *hdr, size_t hdr_len, size_t data_len)
{
	struct segment found;
	size_t total;

	if (!segment_find(hdr, hdr_len, &found))
		return segment_invalid();
	total = hdr_len - found.lower;
	if (data_len > PACKET_MOST - total)
		return segment_invalid();
	found.ip->tot_len = htons((__u16)(total + data_len));
	found.ip->check = 0;
	found.ip->check = segment_fold(segment_sum(0, found.ip, found.ip->ihl * 4U));
	return 0;
}

int exa_segment_calc_checksum(void *hdr, size_t hdr_len, const void *data, size_t data_len)
{
	struct segment found;
	__u64 sum;

	if (!segment_find(hdr, hdr_len, &found) || (data_len && !data) ||
	    data_len > PACKET_MOST - (hdr_len - found.lower))
		return segment_invalid();
	found.tcp->check = 0;
	/* the pseudo header: both addresses, the protocol, the length */
	sum = segment_sum(0, &found.ip->saddr, 2 * sizeof(found.ip->saddr));
	sum += IPPROTO_TCP + found.tcp_length + data_len;
	sum = segment_sum(sum, found.tcp, found.tcp_length);
	found.tcp->check = segment_fold(segment_sum(sum, data, data_len));
	return 0;
}
