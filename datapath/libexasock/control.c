// SPDX-License-Identifier: GPL-2.0-only
/*
 * Control messages: the same ones in the same order as the kernel writes for a UDP
 * datagram (sock_recv_timestamp, then ip_cmsg_recv_offset), cut off in the same way
 * where there is no room (put_cmsg).
 */

#include <netinet/in.h>
#include <string.h>
#include <sys/time.h>
#include <linux/errqueue.h>

#include "libexasock.h"

/* Room that is left */
struct space {
	u8 *at;
	size_t left;
	bool cut;
};

static void put(struct space *space, int level, int type, const void *data, size_t length)
{
	struct cmsghdr header = {
		.cmsg_len = CMSG_LEN(length), .cmsg_level = level, .cmsg_type = type,
	};
	size_t step = CMSG_SPACE(length);

	if (!space->at || space->left < sizeof(header)) {
		space->cut = true;
		return;
	}
	if (space->left < header.cmsg_len) {
		space->cut = true;
		header.cmsg_len = space->left;
	}
	memcpy(space->at, &header, sizeof(header));
	memcpy(space->at + sizeof(header), data, header.cmsg_len - sizeof(header));
	if (step > space->left)
		step = space->left;
	space->at += step;
	space->left -= step;
}

static struct timespec timespec_of(u64 ns)
{
	return (struct timespec){
		.tv_sec = (time_t)(ns / 1000000000),
		.tv_nsec = (long)(ns % 1000000000),
	};
}

/* A socket that wants the time always gets one, if need be that of reading */
static void put_time(struct space *space, const struct exasock_slot *slot)
{
	struct timespec when = timespec_of(slot->software_ns);
	struct timeval micro;

	if (!slot->software_ns)
		clock_gettime(CLOCK_REALTIME, &when);
	micro.tv_sec = when.tv_sec;
	micro.tv_usec = when.tv_nsec / 1000;
	if (slot->cmsg & EXASOCK_CMSG_TIMESTAMP)
		put(space, SOL_SOCKET, SO_TIMESTAMP_OLD, &micro, sizeof(micro));
	if (slot->cmsg & EXASOCK_CMSG_TIMESTAMPNS)
		put(space, SOL_SOCKET, SO_TIMESTAMPNS_OLD, &when, sizeof(when));
}

static void put_timestamping(struct space *space, const struct exasock_slot *slot)
{
	struct scm_timestamping stamps = {};
	bool any = false;

	if (slot->cmsg & EXASOCK_CMSG_TIMESTAMPING_SW && slot->software_ns) {
		stamps.ts[0] = timespec_of(slot->software_ns);
		any = true;
	}
	if (slot->cmsg & EXASOCK_CMSG_TIMESTAMPING_HW && slot->hardware_ns) {
		stamps.ts[2] = timespec_of(slot->hardware_ns);
		any = true;
	}
	if (any)
		put(space, SOL_SOCKET, SO_TIMESTAMPING_OLD, &stamps, sizeof(stamps));
}

static void put_ip(struct space *space, const struct exasock_slot *slot)
{
	struct in_pktinfo info = {
		.ipi_ifindex = slot->ifindex,
		.ipi_spec_dst.s_addr = slot->spec_dst,
		.ipi_addr.s_addr = slot->daddr,
	};
	int ttl = slot->ttl;

	if (slot->cmsg & EXASOCK_CMSG_PKTINFO)
		put(space, SOL_IP, IP_PKTINFO, &info, sizeof(info));
	if (slot->cmsg & EXASOCK_CMSG_TTL)
		put(space, SOL_IP, IP_TTL, &ttl, sizeof(ttl));
	if (slot->cmsg & EXASOCK_CMSG_TOS)
		put(space, SOL_IP, IP_TOS, &slot->tos, sizeof(slot->tos));
}

/* Fill the caller's control buffer; msg_controllen becomes what was used */
void exa_control(const struct exasock_slot *slot, struct msghdr *msg)
{
	struct space space = { .at = msg->msg_control, .left = msg->msg_controllen };

	if (slot->cmsg & (EXASOCK_CMSG_TIMESTAMP | EXASOCK_CMSG_TIMESTAMPNS))
		put_time(&space, slot);
	if (slot->cmsg & (EXASOCK_CMSG_TIMESTAMPING_SW | EXASOCK_CMSG_TIMESTAMPING_HW))
		put_timestamping(&space, slot);
	if (slot->cmsg & (EXASOCK_CMSG_PKTINFO | EXASOCK_CMSG_TTL | EXASOCK_CMSG_TOS))
		put_ip(&space, slot);
	if (space.cut)
		msg->msg_flags |= MSG_CTRUNC;
	msg->msg_controllen = space.at ? (size_t)(space.at - (u8 *)msg->msg_control) : 0;
}
