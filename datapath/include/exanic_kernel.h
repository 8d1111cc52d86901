/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the exanic driver offers to other kernel modules (exasock).
 *
 * One client at a time sees every good frame, with its place in the RX ring,
 * before the stack does; with no client the cost is one patched-out branch.
 * The other calls lead from a net device to its card, port and ring, and hand
 * out transmit memory on behalf of a process.
 */
#ifndef EXANIC_KERNEL_H
#define EXANIC_KERNEL_H

#include <linux/compiler.h>
#include <linux/ktime.h>
#include <linux/netdevice.h>
#include <linux/types.h>
#include <asm/barrier.h>

#include "exanic_regs.h"

/* One slot of an RX ring (hardware reference, 7.1) */
struct exanic_chunk {
	u8 data[EXANIC_RX_CHUNK_DATA];
	__le64 meta;		/* one load: the generation makes the rest valid */
};

static_assert(sizeof(struct exanic_chunk) == EXANIC_RX_CHUNK_SIZE);

#define EXANIC_META_TIME(m)		((u32)(m))
#define EXANIC_META_STATUS(m)		((u8)((m) >> 32))
#define EXANIC_META_LENGTH(m)		((u8)((m) >> 40))
#define EXANIC_META_FILTER(m)		((u8)((m) >> 48))
#define EXANIC_META_GENERATION(m)	((u8)((m) >> 56))

#define EXANIC_POSITION_BITS		14
#define EXANIC_POSITION(gen, chunk)	((u32)(gen) << EXANIC_POSITION_BITS | (chunk))
#define EXANIC_POSITION_CHUNK(pos)	((pos) & (EXANIC_RX_RING_CHUNKS - 1))
#define EXANIC_POSITION_GENERATION(pos)	((u8)((pos) >> EXANIC_POSITION_BITS))

/**
 * struct exanic_rx_frame - one good frame, still in the ring
 * @dev: the port's net device; its namespace is dev_net(@dev)
 * @ring: chunk 0 of the ring, EXANIC_RX_RING_CHUNKS chunks; chunks wrap
 * @position: generation << 14 | chunk of the first chunk (7.2)
 * @chunks: how many chunks the frame occupies
 * @length: bytes, FCS included
 * @timestamp: low 32 bits of the card's clock at the start of the frame
 * @filter: matched filter number (1: echo of the TCP engine)
 * @poll: number of the port's poll: what the driver passes on of one, it gathers, and the
 *	stack has all of it before the next one begins
 *
 * The card does not wait: who copies data out must afterwards confirm with
 * exanic_rx_frame_intact() that the frame was not overwritten meanwhile.
 */
struct exanic_rx_frame {
	struct net_device *dev;
	const struct exanic_chunk *ring;
	u32 position;
	u32 chunks;
	u32 length;
	u32 timestamp;
	u32 poll;
	u8 filter;
};

/* Chunk @i of the frame, counted from 0 */
static inline const struct exanic_chunk *
exanic_rx_frame_chunk(const struct exanic_rx_frame *frame, u32 i)
{
	return &frame->ring[EXANIC_POSITION_CHUNK(frame->position + i)];
}

/*
 * The frame is still what it was. The card writes a chunk's data before its metadata, so
 * the first chunk's own generation would come too late: the chunk before it, which the
 * card completes earlier, must still be of the frame's lap.
 */
static inline bool exanic_rx_frame_intact(const struct exanic_rx_frame *frame)
{
	u64 meta;

	dma_rmb();
	meta = le64_to_cpu(READ_ONCE(exanic_rx_frame_chunk(frame, -1)->meta));
	return EXANIC_META_GENERATION(meta) == EXANIC_POSITION_GENERATION(frame->position - 1);
}

enum exanic_rx_verdict {
	EXANIC_RX_PASS,		/* the driver goes on and gives it to the stack */
	EXANIC_RX_CONSUMED,	/* the client has it; the driver only counts it */
};

/**
 * struct exanic_rx_client - who looks at frames first
 * @receive: called in NAPI context under rcu_read_lock, for every good frame
 *	of every port, in the order of each port's ring
 */
struct exanic_rx_client {
	enum exanic_rx_verdict (*receive)(struct exanic_rx_client *client,
					  const struct exanic_rx_frame *frame);
};

/* -EBUSY when there is a client already. May sleep. */
int exanic_rx_hook_register(struct exanic_rx_client *client);

/*
 * No call of @client->receive will start when this returns; one may be running until a grace period
 * of RCU is over, for which the client waits before its code goes. May sleep.
 */
void exanic_rx_hook_unregister(struct exanic_rx_client *client);

/*
 * The first @length bytes of the frame to @to, summed on the way into *@sum when @sum is
 * given. The copy is good if the frame is intact afterwards. Any context.
 */
void exanic_rx_frame_copy(const struct exanic_rx_frame *frame, u8 *to, u32 length, __wsum *sum);

/*
 * A socket buffer with the frame's content, FCS removed, timestamp set when the
 * port has receive timestamps on, dev and protocol set: ready for
 * netif_receive_skb(). NULL without memory or when the frame was overwritten.
 */
struct sk_buff *exanic_rx_frame_to_skb(const struct exanic_rx_frame *frame);

/* Does the port stamp what it receives? @dev is a port. Any context. */
bool exanic_rx_stamping(const struct net_device *dev);

/**
 * struct exanic_port_info - where a net device sits
 * @card: N of /dev/exanicN
 * @port: port number on the card
 * @ring: its RX ring; NULL until the port was first up, then valid until the
 *	net device is unregistered
 * @ring_page: first of the EXANIC_RX_RING_SIZE / PAGE_SIZE contiguous pages
 * @clock_hz: ticks per second of the card's clock
 */
struct exanic_port_info {
	unsigned int card;
	unsigned int port;
	const struct exanic_chunk *ring;
	struct page *ring_page;
	u32 clock_hz;
};

/* Is @dev a port of an ExaNIC? Any context. */
bool exanic_is_port(const struct net_device *dev);

/* -EINVAL when @dev is not a port. The caller holds RTNL, RCU or a reference. */
int exanic_port_info(const struct net_device *dev, struct exanic_port_info *info);

/* Card time in ns since the epoch for a frame's 32-bit timestamp. Any context. */
ktime_t exanic_timestamp_to_ktime(const struct net_device *dev, u32 timestamp);

/**
 * struct exanic_txbuf - transmit memory of one user, with its feedback slot
 * @dev: port it belongs to
 * @offset: from the start of BAR2, as TX_COMMAND wants it
 * @size: bytes, whole pages
 * @mem: the memory, write combining
 * @phys: its bus address, for mapping it (write combining) into a process
 * @slot: feedback slot, zeroed
 * @feedback: last feedback id the card wrote there
 */
struct exanic_txbuf {
	struct net_device *dev;
	u32 offset;
	u32 size;
	void __iomem *mem;
	phys_addr_t phys;
	u16 slot;
	const __le16 *feedback;
};

/* Feedback slots of a port that are the kernel's: its own queue's, exasock's, one more */
#define EXANIC_TX_KERNEL_SLOTS	6

/*
 * Allocate transmit memory. May sleep. Returns ERR_PTR: -EINVAL (not a port, cannot
 * send), -ENOMEM (nothing free), -ENODEV (the card is gone).
 */
struct exanic_txbuf *exanic_txbuf_alloc(struct net_device *dev, u32 size);

/*
 * Free it; nobody sends from it any more. May sleep. @last: the feedback id of the last
 * chunk that was sent, each having asked for feedback; 0: none was. Memory and slot get
 * another owner only when the card has come so far. All buffers must be freed before
 * @dev finishes unregistering; a user follows NETDEV_UNREGISTER to do so.
 */
void exanic_txbuf_free(struct exanic_txbuf *buf, u16 last);

/*
 * Order the caller's stores, then ring the doorbell for the chunk whose header is
 * @offset bytes into the buffer. The offset is checked, the chunk is not: the
 * card reads it later, so a caller that lets a process write the header must
 * know that process to be allowed to name any length and slot (rule N6).
 * @bytes are counted as sent by the net device. -EINVAL for a bad offset, -ENODEV when
 * the card is gone. With bottom halves off.
 */
int exanic_txbuf_send(const struct exanic_txbuf *buf, u32 offset, u32 bytes);

#endif /* EXANIC_KERNEL_H */
