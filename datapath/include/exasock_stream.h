/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * /dev/exasock, TCP: what the kernel module and the preload library share of a stream.
 *
 * STREAM_ATTACH takes an established native TCP socket. From then on its connection is
 * in turns the kernel's ("at home") and taken: then received bytes lie in a ring that
 * the process maps and reads without a system call, and STREAM_SEND sends past the
 * stack. Sequence numbers, windows and what is unacknowledged are the module's alone;
 * any native call on the socket, by whomever, brings the connection home first.
 *
 * The ring is a stream of bytes with offsets from 0 up; byte n lies at n % size. The
 * kernel writes up to stream->head. control->tail is the offset of the next byte to
 * read, shifted left by one, with OPEN as its lowest bit while the connection is taken.
 * A reader copies what it wants from there on, and then compares and swaps the tail
 * forward: only if that succeeds are the bytes its own. The kernel brings the connection
 * home by exchanging the tail: what was not consumed by then becomes readable by the
 * native socket. While OPEN is not set there is nothing in the ring.
 */
#ifndef EXASOCK_STREAM_H
#define EXASOCK_STREAM_H

#include "exasock_abi.h"

/* mmap offset of what belongs to a stream's handle, in bytes: control page, then ring */
#define EXASOCK_MAP_STREAMS	0x1000000000000000ULL
#define EXASOCK_MAP_STREAM_AT(handle) \
	(EXASOCK_MAP_STREAMS + (__u64)(handle) * EXASOCK_MAP_STRIDE)
#define EXASOCK_MAP_STREAM_RING_AT(handle) (EXASOCK_MAP_STREAM_AT(handle) + EXASOCK_MAP_RING)

#define EXASOCK_STREAM_SIZE_MOST	0x100000U
#define EXASOCK_STREAM_OPEN		1ULL

/*
 * Why a connection went home, or was not taken: an exasock_reason, or one of these;
 * counted for each connection.
 */
enum exasock_stream_reason {
	EXASOCK_S_CALL = 32,	/* a native call on the socket */
	EXASOCK_S_ORDER,	/* not the next segment: lost, repeated or out of order */
	EXASOCK_S_FLAGS,	/* SYN, FIN, RST or urgent data */
	EXASOCK_S_TCPOPTION,	/* options other than the time stamp, or none where one was due */
	EXASOCK_S_PAWS,		/* a time stamp from the past */
	EXASOCK_S_DUPACK,	/* the peer repeats an acknowledgment */
	EXASOCK_S_BADACK,	/* it acknowledges what is not outstanding */
	EXASOCK_S_WINDOW,	/* a window is closed, or overrun */
	EXASOCK_S_LOSS,		/* no acknowledgment in time */
	EXASOCK_S_ECN,		/* a congestion mark */
	EXASOCK_S_ROOM,		/* more than the send buffer has room for */
	EXASOCK_S_STATE,	/* not established, or an error or shutdown is pending */
	EXASOCK_S_QUEUED,	/* the kernel still has bytes of it to send or to read */
	EXASOCK_S_CALLERS,	/* a thread is waiting in a native call */
	EXASOCK_S_REST,		/* it went home a moment ago */
	EXASOCK_S_UNSEEN,	/* no segment of it has come by the card yet */
	EXASOCK_S_OVER,		/* detached, or its process ended */
	EXASOCK_S_UNUSED,	/* nothing happened for long */
	EXASOCK_S_FOREIGN,	/* segments of it came to the stack by another way */
	EXASOCK_S_REASONS,
};

#define EXASOCK_S_ROOM_FOR	64

/**
 * struct exasock_stream_control - written by the process
 * @heartbeat: as in exasock_control
 * @tail: see above
 */
struct exasock_stream_control {
	__u64 heartbeat;
	__u8 pad0[56];
	__u64 tail;
};

/**
 * struct exasock_stream - written by the kernel, read only for the process; the ring of
 *	bytes lies EXASOCK_RING_HEADER behind
 * @abi, @dead, @handle, @netns: as in exasock_ring, at the same places
 * @size: of the ring, a power of two
 * @head: bytes before it have been written
 * @after: time stamp counter before which taking it would be refused
 * @takes: how often it was taken
 * @rx_segments, @rx_bytes: received past the stack; @rx_home: of these bytes, those that
 *	went home unread
 * @tx_segments, @tx_bytes: sent past the stack
 * @acks: segments without data sent past the stack
 * @gives: how often it went home, @refused: how often it was not taken, by reason
 */
struct exasock_stream {
	__u32 abi;
	__u32 size;
	__u32 dead;
	__u32 handle;
	__u64 netns;
	__u8 pad0[40];
	__u64 head;
	__u8 pad1[56];
	__u64 after;
	__u8 pad2[56];
	__u64 takes;
	__u64 rx_segments;
	__u64 rx_bytes;
	__u64 rx_home;
	__u64 tx_segments;
	__u64 tx_bytes;
	__u64 acks;
	__u64 pad3;
	__u64 gives[EXASOCK_S_ROOM_FOR];
	__u64 refused[EXASOCK_S_ROOM_FOR];
};

/* @flags of exasock_stream_send */
#define EXASOCK_STREAM_BUFFER	0x1	/* @iov is the bytes themselves, @iovs their number */

/**
 * struct exasock_stream_send - STREAM_SEND: bytes past the stack, taking the connection
 *	if need be
 * @handle: attachment
 * @fd: the descriptor the caller used: must still be that socket
 * @iov: struct iovec[], @iovs of them, at most 1024; or the bytes, @iovs of them
 * @flags: EXASOCK_STREAM_*
 *
 * Returns how many bytes were accepted: all. EOPNOTSUPP: none, send them through the
 * kernel. ESTALE: @fd is another file now, or the attachment is over. EFAULT as send(2).
 */
struct exasock_stream_send {
	__u32 handle;
	__s32 fd;
	__u64 iov;
	__u32 iovs;
	__u32 flags;
};

/**
 * struct exasock_stream_stat - one attached connection, as STREAM_LIST gives it
 * @netns, @laddr, @raddr, @lport, @rport, @pid, @comm: as in exasock_stat
 * @taken: it is, at this moment
 * @since_us: how long since it was last taken or went home
 * @last: why it last went home
 * The rest as in exasock_stream.
 */
struct exasock_stream_stat {
	__u64 netns;
	__be32 laddr;
	__be32 raddr;
	__be16 lport;
	__be16 rport;
	__s32 pid;
	__u8 comm[16];
	__u32 taken;
	__u32 last;
	__u64 since_us;
	__u64 takes;
	__u64 rx_segments;
	__u64 rx_bytes;
	__u64 rx_home;
	__u64 tx_segments;
	__u64 tx_bytes;
	__u64 acks;
	__u64 gives[EXASOCK_S_ROOM_FOR];
	__u64 refused[EXASOCK_S_ROOM_FOR];
};

/*
 * STREAM_ATTACH as ATTACH, with an established IPv4 TCP socket; besides: ENOTCONN it is
 * not established. STREAM_TAKE: EOPNOTSUPP it was not taken. STREAM_LIST as LIST, with
 * struct exasock_stream_stat.
 */
#define EXASOCK_IOC_STREAM_ATTACH	_IOWR('E', 0x50, struct exasock_attach)
#define EXASOCK_IOC_STREAM_DETACH	_IOW('E', 0x51, __u32)	/* handle */
#define EXASOCK_IOC_STREAM_HOME		_IOW('E', 0x52, __u32)	/* handle; now */
#define EXASOCK_IOC_STREAM_TAKE		_IOW('E', 0x53, __u32)	/* handle */
#define EXASOCK_IOC_STREAM_SEND		_IOW('E', 0x54, struct exasock_stream_send)
#define EXASOCK_IOC_STREAM_LIST		_IOWR('E', 0x55, struct exasock_list)

EXASOCK_ASSERT(stream_control, tail, 64);
EXASOCK_ASSERT(stream, dead, 8);
EXASOCK_ASSERT(stream, netns, 16);
EXASOCK_ASSERT(stream, head, 64);
EXASOCK_ASSERT(stream, after, 128);
EXASOCK_ASSERT(stream, takes, 192);
EXASOCK_ASSERT(stream, gives, 256);
EXASOCK_ASSERT(stream, refused, 768);
EXASOCK_ASSERT(stream_send, iov, 8);
EXASOCK_ASSERT(stream_stat, comm, 24);
EXASOCK_ASSERT(stream_stat, gives, 112);
_Static_assert(offsetof(struct exasock_stream, dead) == offsetof(struct exasock_ring, dead),
	       "both begin alike");
_Static_assert(offsetof(struct exasock_stream, netns) == offsetof(struct exasock_ring, netns),
	       "both begin alike");
_Static_assert(sizeof(struct exasock_stream_control) <= EXASOCK_CONTROL_SIZE, "control page");
_Static_assert(sizeof(struct exasock_stream) <= EXASOCK_RING_HEADER, "stream header");
_Static_assert(sizeof(struct exasock_stream_send) == 24, "stream_send");
_Static_assert(sizeof(struct exasock_stream_stat) == 1136, "stream_stat");
_Static_assert(EXASOCK_S_REASONS <= EXASOCK_S_ROOM_FOR, "room for the reasons");
_Static_assert(EXASOCK_MAP_RING + EXASOCK_RING_HEADER + EXASOCK_STREAM_SIZE_MOST <=
	       EXASOCK_MAP_STRIDE, "mmap stride");

#endif /* EXASOCK_STREAM_H */
