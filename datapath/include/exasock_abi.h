/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * /dev/exasock: what the kernel module and the preload library share.
 *
 * An open file is one process's context. ATTACH takes a native UDP socket and
 * gives it two mappings: a control page, which the process writes and the
 * kernel never trusts, and a ring of received datagrams, which only the kernel
 * writes. Nothing here replaces the socket: detaching, at any moment and for
 * any reason, only means that everything goes through the kernel again.
 *
 * Slots are numbered 1, 2, 3, ... modulo 2^30; number n is slot n % slots of the
 * ring, and control->claim[n % slots] says who has what begins there:
 *
 *	HELD(n)		the kernel has written it and waits a moment
 *	USER(n)		a reader has it (compare-and-swap from HELD), is copying
 *	FREE(n)		the reader is done: the slot may be written again; or nothing
 *			begins here
 *	KERNEL(n)	the kernel gave it to the stack (compare-and-swap from HELD)
 *
 * A datagram takes as many slots, one after the other, as it needs, is known by
 * the first one's number, and never wraps: what is left at the end of the ring
 * is passed over. Numbers at which nothing begins are FREE from the start.
 *
 * A reader goes through the numbers in order, from control->tail on, which is
 * 1 at first like ring->head. A datagram that is KERNEL has gone into the
 * socket's own queue, and everything held after it follows it there: a reader
 * that meets one calls FLUSH, which waits for a delivery that is under way,
 * moves the tail past it only then (another reader would take the next one
 * before it is in the queue), and reads the native socket until that has
 * nothing. The slot of a KERNEL number may be written again like a FREE one, so
 * a reader that lags may find another number's word at the tail: the same
 * remedy, and the tail goes to the head as it was before the FLUSH.
 *
 * The kernel holds a datagram only while the socket's own queue is empty, and
 * before it queues one by this card it gives up all that are held. So what is
 * HELD at the tail is older than all that is queued, and what is KERNEL there is
 * the first that is. ring->native grows whenever the socket's own queue gets
 * something or an error arrives, so a reader need not ask the native socket
 * before that.
 */
#ifndef EXASOCK_ABI_H
#define EXASOCK_ABI_H

#include <linux/ioctl.h>
#include <linux/types.h>

#ifndef __KERNEL__
#include <stddef.h>
#endif

#define EXASOCK_ABI_VERSION	4
#define EXASOCK_DEVICE		"/dev/exasock"

/* Geometry; the kernel says how many slots there are */
#define EXASOCK_SLOT_SIZE	512
#define EXASOCK_SLOT_HEADER	64
#define EXASOCK_SLOTS_MAX	512
/* Slots that a frame of so many bytes takes, and the largest frame that may be held */
#define EXASOCK_SPAN(bytes) \
	((EXASOCK_SLOT_HEADER + (bytes) + EXASOCK_SLOT_SIZE - 1) / EXASOCK_SLOT_SIZE)
#define EXASOCK_FRAME_MOST(slots)	((slots) / 2 * EXASOCK_SLOT_SIZE - EXASOCK_SLOT_HEADER)
#define EXASOCK_RING_HEADER	4096
#define EXASOCK_CONTROL_SIZE	4096

/* mmap offset of what belongs to a handle, in bytes */
#define EXASOCK_MAP_STRIDE	0x200000ULL
#define EXASOCK_MAP_RING	0x10000ULL
#define EXASOCK_MAP_CONTROL_AT(handle)	((__u64)(handle) * EXASOCK_MAP_STRIDE)
#define EXASOCK_MAP_RING_AT(handle)	(EXASOCK_MAP_CONTROL_AT(handle) + EXASOCK_MAP_RING)

/* Claim words */
#define EXASOCK_STATE_MASK	3U
#define EXASOCK_STATE_FREE	0U
#define EXASOCK_STATE_HELD	1U
#define EXASOCK_STATE_USER	2U
#define EXASOCK_STATE_KERNEL	3U
#define EXASOCK_NUMBER_MASK	0x3fffffffU
#define EXASOCK_CLAIM(number, state)	(((__u32)(number) << 2) | (state))

/**
 * struct exasock_control - written by the process
 * @heartbeat: time stamp counter (rdtsc) when the process last looked for a
 *	datagram, 0 when it has stopped looking; without a fresh one nothing is held
 * @tx_skipped: datagrams that the process sent through the kernel without asking,
 *	for the destination was refused a moment ago (counted as EXASOCK_R_SKIPPED)
 * @tail: number to look at next; shared by the process's threads
 * @claim: see above
 */
struct exasock_control {
	__u64 heartbeat;
	__u64 tx_skipped;
	__u8 pad0[48];
	__u32 tail;
	__u8 pad1[60];
	__u32 claim[EXASOCK_SLOTS_MAX];
};

/* Why a datagram went, or must go, through the kernel; counted for each socket */
enum exasock_reason {
	EXASOCK_R_NONE,
	/* both ways */
	EXASOCK_R_DEVICE,	/* not an ExaNIC device of this namespace, or it is down */
	EXASOCK_R_FILTER,	/* netfilter, tc, XDP or BPF hooks would see it */
	EXASOCK_R_TAP,		/* a packet capture is running */
	EXASOCK_R_STACKED,	/* bridge, bond, VRF or another device above or between */
	EXASOCK_R_OPTION,	/* the socket has an option that only the kernel serves */
	EXASOCK_R_SIZE,		/* too large for the ring, the MTU or the transmit memory */
	EXASOCK_R_MEMORY,	/* no memory, no transmit memory, no feedback slot */
	/* received */
	EXASOCK_R_IDLE,		/* the process is not looking */
	EXASOCK_R_QUEUE,	/* the socket's own queue must be read first */
	EXASOCK_R_FULL,		/* no free slot */
	EXASOCK_R_TIMEOUT,	/* held, but not claimed in time */
	EXASOCK_R_SLEEP,	/* held, then flushed: the process went to the kernel */
	EXASOCK_R_SHARED,	/* other receivers, not all of them accelerated */
	EXASOCK_R_HEADER,	/* options, fragment, checksum or length: the kernel judges */
	EXASOCK_R_ROUTE,	/* not routed to this host through that device */
	/* sent */
	EXASOCK_R_UNBOUND,	/* no local port yet */
	EXASOCK_R_ERROR,	/* a pending error or a shut down socket */
	EXASOCK_R_BEHIND,	/* earlier datagrams are still in the kernel's hands */
	EXASOCK_R_NEIGHBOUR,	/* its MAC address is not known yet */
	EXASOCK_R_LOOP,		/* a copy, or all of it, stays on this host */
	EXASOCK_R_BUSY,		/* no room in the transmit memory */
	EXASOCK_R_SKIPPED,	/* refused a moment ago: not asked again */
	/* both ways; at the end, for numbers do not change */
	EXASOCK_R_POLICY,	/* a security module (LSM) judges or labels it */
	EXASOCK_R_QDISC,	/* a queueing discipline may delay, drop or mark it (sent only) */
	EXASOCK_R_FOREIGN,	/* others put functions of their own on the socket (sockmap) */
	EXASOCK_R_REASONS,
};

/**
 * struct exasock_ring - written by the kernel, read only for the process
 * @abi: EXASOCK_ABI_VERSION
 * @slots: how many there are, a power of two
 * @dead: set when this attachment is over: unmap it, go on natively
 * @netns: cookie of the socket's namespace
 * @head: number that comes next; numbers before it have been written
 * @native: grows with each event of the native socket (data, error, shutdown)
 * @rx_held: datagrams written to slots
 * @rx_taken: of these, given to the stack by the kernel
 * @rx_kernel: datagrams passed to the stack, by reason
 * @tx_kernel: refused to be sent past the stack, by reason
 */
struct exasock_ring {
	__u32 abi;
	__u32 slots;
	__u32 dead;
	__u32 handle;
	__u64 netns;
	__u8 pad0[40];
	__u32 head;
	__u8 pad1[60];
	__u32 native;
	__u8 pad2[60];
	__u64 rx_held;
	__u64 rx_taken;
	__u8 pad3[16];
	__u64 rx_kernel[32];
	__u64 tx_kernel[32];
};

/* What the socket wants told of its datagrams; what is not here is never held */
#define EXASOCK_CMSG_PKTINFO		0x0001	/* IP_PKTINFO */
#define EXASOCK_CMSG_TTL		0x0002	/* IP_RECVTTL */
#define EXASOCK_CMSG_TOS		0x0004	/* IP_RECVTOS */
#define EXASOCK_CMSG_TIMESTAMP		0x0010	/* SO_TIMESTAMP_OLD: struct timeval */
#define EXASOCK_CMSG_TIMESTAMPNS	0x0020	/* SO_TIMESTAMPNS_OLD: struct timespec */
#define EXASOCK_CMSG_TIMESTAMPING_SW	0x0040	/* SO_TIMESTAMPING_OLD, software */
#define EXASOCK_CMSG_TIMESTAMPING_HW	0x0080	/* the same, raw hardware */

/**
 * struct exasock_slot - one received datagram, in its first slot and those after it
 * @number: its number
 * @offset: of the payload in @data
 * @length: of the payload, bytes
 * @saddr: source address; @daddr: destination address, both network order
 * @sport: source port; @dport: destination port, both network order
 * @ifindex: of the device it came in by, in the socket's namespace
 * @spec_dst: ipi_spec_dst of IP_PKTINFO, network order
 * @cmsg: EXASOCK_CMSG_*
 * @software_ns: wall clock; @hardware_ns: the card's; 0 when not taken
 * @frame: length of what is in @data, from the Ethernet header on, no FCS
 */
struct exasock_slot {
	__u32 number;
	__u16 offset;
	__u16 length;
	__be32 saddr;
	__be32 daddr;
	__be16 sport;
	__be16 dport;
	__s32 ifindex;
	__be32 spec_dst;
	__u16 cmsg;
	__u8 ttl;
	__u8 tos;
	__u64 software_ns;
	__u64 hardware_ns;
	__u32 frame;
	__u8 pad[12];
	__u8 data[];
};

/**
 * struct exasock_info - INFO
 * @abi: EXASOCK_ABI_VERSION
 * @slots: of each socket's ring
 * @netns: cookie of the caller's namespace
 */
struct exasock_info {
	__u32 abi;
	__u32 slots;
	__u64 netns;
};

/**
 * struct exasock_attach - ATTACH
 * @fd: a native IPv4 UDP socket
 * @handle: out: names the attachment in this context. A socket that this
 *	context has attached already gives the same handle again.
 * @netns: out: cookie of the socket's namespace
 *
 * Errors: EBADF, ENOTSOCK; EOPNOTSUPP not a plain IPv4 UDP socket; EBUSY
 * another context has it; EPERM the namespace has not been given a card (no
 * ExaNIC device); EMFILE, ENOMEM limits.
 */
struct exasock_attach {
	__s32 fd;
	__u32 handle;
	__u64 netns;
};

/* @flags of exasock_send */
#define EXASOCK_SEND_PKTINFO	0x1	/* @saddr and @ifindex are those of an IP_PKTINFO */
#define EXASOCK_SEND_CONNECTED	0x2	/* to the socket's peer; @daddr and @dport unused */
#define EXASOCK_SEND_BUFFER	0x4	/* @iov is the payload itself, @iovs its length */

/**
 * struct exasock_send - SEND: one datagram past the stack
 * @handle: attachment
 * @fd: the descriptor the caller used: must still be that socket
 * @iov: struct iovec[], @iovs of them, at most 1024; or the payload, @iovs bytes
 *
 * Returns the payload's length. EOPNOTSUPP: nothing was sent, send it through
 * the kernel (@reason is not written back: it is counted in the ring). ESTALE:
 * @fd is another file now, or the attachment is over. EFAULT as send(2).
 */
struct exasock_send {
	__u32 handle;
	__s32 fd;
	__be32 daddr;
	__be16 dport;
	__u16 flags;
	__be32 saddr;
	__s32 ifindex;
	__u64 iov;
	__u32 iovs;
	__u32 reserved;
};

/* A setting of the caller's namespace; reading is free, writing needs CAP_NET_ADMIN there */
#define EXASOCK_SET_BYPASS_FILTERS	1	/* 1: overtake although hooks are installed */

struct exasock_setting {
	__u32 name;
	__u32 write;
	__u64 value;
};

/**
 * struct exasock_stat - one attachment, as LIST gives it
 * @netns: cookie of its namespace
 * @laddr: local address, @raddr: peer, 0 when unconnected; network order
 * @lport: local port, @rport: peer's; network order
 * @pid: of the attaching process, in the caller's pid namespace; 0: not visible
 * @comm: its name
 * @tx_fast: datagrams sent past the stack; @tx_fast_bytes: their payload
 * The rest as in struct exasock_ring.
 */
struct exasock_stat {
	__u64 netns;
	__be32 laddr;
	__be32 raddr;
	__be16 lport;
	__be16 rport;
	__s32 pid;
	__u8 comm[16];
	__u64 rx_held;
	__u64 rx_taken;
	__u64 tx_fast;
	__u64 tx_fast_bytes;
	__u64 rx_kernel[32];
	__u64 tx_kernel[32];
};

/* Why a socket was not attached: as ATTACH failed, counted for its namespace */
enum exasock_refusal {
	EXASOCK_N_KIND,		/* EOPNOTSUPP */
	EXASOCK_N_CARD,		/* EPERM */
	EXASOCK_N_TAKEN,	/* EBUSY */
	EXASOCK_N_LIMIT,	/* EMFILE */
	EXASOCK_N_MEMORY,	/* ENOMEM */
	EXASOCK_N_REFUSALS,
};

/* LIST everything, not only the caller's namespace: needs CAP_NET_ADMIN in the initial one */
#define EXASOCK_LIST_ALL	0x1

/**
 * struct exasock_list - LIST
 * @stats: struct exasock_stat[]
 * @room: of them
 * @flags: EXASOCK_LIST_*
 * @count: out: how many there are; at most @room were written
 * @refused: out: attachments that were refused since the namespace was made, by
 *	reason; those of the caller's namespace, whatever @flags
 */
struct exasock_list {
	__u64 stats;
	__u32 room;
	__u32 flags;
	__u32 count;
	__u32 reserved;
	__u64 refused[8];
};

#define EXASOCK_IOC_INFO	_IOR('E', 0x40, struct exasock_info)
#define EXASOCK_IOC_ATTACH	_IOWR('E', 0x41, struct exasock_attach)
#define EXASOCK_IOC_DETACH	_IOW('E', 0x42, __u32)	/* handle */
#define EXASOCK_IOC_FLUSH	_IOW('E', 0x43, __u32)	/* handle; to the stack, now */
#define EXASOCK_IOC_SEND	_IOW('E', 0x44, struct exasock_send)
#define EXASOCK_IOC_SETTING	_IOWR('E', 0x45, struct exasock_setting)
#define EXASOCK_IOC_LIST	_IOWR('E', 0x46, struct exasock_list)

#define EXASOCK_ASSERT(type, field, at) \
	_Static_assert(offsetof(struct exasock_##type, field) == (at), #type "." #field)

EXASOCK_ASSERT(control, tx_skipped, 8);
EXASOCK_ASSERT(control, tail, 64);
EXASOCK_ASSERT(control, claim, 128);
EXASOCK_ASSERT(ring, netns, 16);
EXASOCK_ASSERT(ring, head, 64);
EXASOCK_ASSERT(ring, native, 128);
EXASOCK_ASSERT(ring, rx_held, 192);
EXASOCK_ASSERT(ring, rx_kernel, 224);
EXASOCK_ASSERT(ring, tx_kernel, 480);
EXASOCK_ASSERT(slot, saddr, 8);
EXASOCK_ASSERT(slot, ifindex, 20);
EXASOCK_ASSERT(slot, cmsg, 28);
EXASOCK_ASSERT(slot, software_ns, 32);
EXASOCK_ASSERT(slot, frame, 48);
EXASOCK_ASSERT(slot, data, EXASOCK_SLOT_HEADER);
EXASOCK_ASSERT(send, saddr, 16);
EXASOCK_ASSERT(send, iov, 24);
EXASOCK_ASSERT(stat, comm, 24);
EXASOCK_ASSERT(stat, rx_held, 40);
_Static_assert(sizeof(struct exasock_control) <= EXASOCK_CONTROL_SIZE, "control page");
_Static_assert(sizeof(struct exasock_ring) <= EXASOCK_RING_HEADER, "ring header");
_Static_assert(sizeof(struct exasock_slot) == EXASOCK_SLOT_HEADER, "slot");
_Static_assert(sizeof(struct exasock_info) == 16, "info");
_Static_assert(sizeof(struct exasock_attach) == 16, "attach");
_Static_assert(sizeof(struct exasock_send) == 40, "send");
_Static_assert(sizeof(struct exasock_setting) == 16, "setting");
_Static_assert(sizeof(struct exasock_list) == 88, "list");
_Static_assert(sizeof(struct exasock_stat) == 584, "stat");
_Static_assert(EXASOCK_R_REASONS <= 32, "room for the reasons");
_Static_assert(EXASOCK_N_REFUSALS <= 8, "room for the refusals");
_Static_assert(EXASOCK_MAP_RING + EXASOCK_RING_HEADER +
	       EXASOCK_SLOTS_MAX * EXASOCK_SLOT_SIZE <= EXASOCK_MAP_STRIDE, "mmap stride");

#endif /* EXASOCK_ABI_H */
