// SPDX-License-Identifier: GPL-2.0-only
/*
 * Receive: following the card round the ring (section 7).
 *
 * The card writes chunks and never waits; a chunk is new when its generation is
 * the one we expect. A frame is looked at where it lies: its chunks are scanned
 * until the last one, then the hook's client and then the stack get it, the stack
 * as a copy. Only after copying do we know that the copy is good: the generation
 * of the chunk before the first one must not have changed.
 */

#include <linux/etherdevice.h>
#include <linux/module.h>
#include <linux/skbuff.h>
#include <linux/vmalloc.h>
#include <net/checksum.h>

#include "exanic.h"
#include "regs.h"

#define CHUNK_LIMIT		1024	/* per poll: frames of any size share the CPU */

enum rx_scan {
	RX_EMPTY,
	RX_FRAME,
	RX_LAPPED,
};

static u64 rx_meta(const struct exanic_chunk *chunk)
{
	return le64_to_cpu(READ_ONCE(chunk->meta));
}

static void rx_count(struct exanic_rx *rx, u64_stats_t *counter)
{
	u64_stats_update_begin(&rx->stats.sync);
	u64_stats_inc(counter);
	u64_stats_update_end(&rx->stats.sync);
}

/* For the stack or for the hook's client: received all the same */
static void rx_received(struct exanic_rx *rx, u32 bytes)
{
	u64_stats_update_begin(&rx->stats.sync);
	u64_stats_inc(&rx->stats.packets);
	u64_stats_add(&rx->stats.bytes, bytes);
	u64_stats_update_end(&rx->stats.sync);
}

/*
 * Is there anything to do: a new chunk, or the card has overtaken us. Also asked beside
 * a running poll (interrupt, timer): a position torn between two laps gives a wrong
 * answer only while that poll goes on, which looks itself before it arms.
 */
bool exanic_rx_pending(const struct exanic_rx *rx)
{
	u8 generation = EXANIC_META_GENERATION(rx_meta(&rx->ring[READ_ONCE(rx->next)]));

	return generation != (u8)(READ_ONCE(rx->generation) - 1);
}

static void rx_restart(struct exanic_rx *rx, u32 next, u8 generation)
{
	WRITE_ONCE(rx->next, next);
	WRITE_ONCE(rx->generation, generation);
	rx->chunks = 0;
}

/*
 * Lapped: find where the card is now (7.3). Down from the end of the ring the
 * generation first changes where the card is writing; the newest end of a frame is
 * the first one below that, or, with none there, the first one seen at all.
 */
static void rx_catch_up(struct exanic_rx *rx)
{
	const u32 last = EXANIC_RX_RING_CHUNKS - 1;
	u8 generation = EXANIC_META_GENERATION(rx_meta(&rx->ring[last]));
	u8 previous = generation, end_generation = 0, break_generation = generation;
	u32 end = U32_MAX, break_at = last;
	bool below = false;
	u32 i;

	for (i = last + 1; i-- > 0;) {
		u64 meta = rx_meta(&rx->ring[i]);
		u8 this = EXANIC_META_GENERATION(meta);

		if (this != previous) {
			break_at = i;
			break_generation = this;
		}
		previous = this;
		if (this != generation)
			below = true;
		if (!EXANIC_META_LENGTH(meta))
			continue;
		if (below) {
			end = i;
			end_generation = this;
			break;
		}
		if (end == U32_MAX) {
			end = i;
			end_generation = this;
		}
	}
	if (end == U32_MAX) {
		end = break_at;
		end_generation = break_generation;
	}
	if (end == last)
		rx_restart(rx, 0, end_generation + 1);
	else
		rx_restart(rx, end + 1, end_generation);
}

/* Read on until a frame is complete. *meta is its last chunk's; *chunks counts those read. */
static enum rx_scan rx_scan(struct exanic_rx *rx, u64 *meta, u32 *chunks)
{
	for (;;) {
		u64 this = rx_meta(&rx->ring[rx->next]);
		u8 generation = EXANIC_META_GENERATION(this);

		if (generation != rx->generation)
			return generation == (u8)(rx->generation - 1) ? RX_EMPTY : RX_LAPPED;
		++*chunks;
		if (!rx->chunks++) {
			rx->first = rx->next;
			rx->first_generation = generation;
			rx->timestamp = EXANIC_META_TIME(this);
		}
		if (rx->next + 1 == EXANIC_RX_RING_CHUNKS) {
			WRITE_ONCE(rx->next, 0);
			WRITE_ONCE(rx->generation, rx->generation + 1);
		} else {
			WRITE_ONCE(rx->next, rx->next + 1);
		}
		if (EXANIC_META_LENGTH(this) ||
		    EXANIC_META_STATUS(this) & EXANIC_RX_STATUS_MASK) {
			*meta = this;
			return RX_FRAME;
		}
	}
}

void exanic_rx_frame_copy(const struct exanic_rx_frame *frame, u8 *to, u32 len, __wsum *sum)
{
	u32 i = 0;

	dma_rmb();	/* the generation was read; now what it vouches for */
	while (len) {
		const struct exanic_chunk *chunk = exanic_rx_frame_chunk(frame, i++);
		u32 n = min(len, EXANIC_RX_CHUNK_DATA);

		if (sum)	/* 120 is even: partial sums simply add */
			*sum = csum_add(*sum, csum_partial_copy_nocheck(chunk->data, to, n));
		else
			memcpy(to, chunk->data, n);
		to += n;
		len -= n;
	}
}
EXPORT_SYMBOL_GPL(exanic_rx_frame_copy);

/*
 * A copy for the stack, or NULL without memory. The caller checks afterwards that
 * the frame was still there.
 */
struct sk_buff *exanic_rx_skb(struct exanic_port *port, const struct exanic_rx_frame *frame,
			      bool keep_fcs, bool napi)
{
	struct net_device *dev = port->dev;
	u32 len = frame->length - (keep_fcs ? 0 : ETH_FCS_LEN);
	bool sum = dev->features & NETIF_F_RXCSUM && !keep_fcs;
	struct sk_buff *skb;
	__wsum csum = 0;

	if (napi)
		skb = napi_alloc_skb(&port->napi, len);
	else
		skb = netdev_alloc_skb_ip_align(dev, len);
	if (unlikely(!skb))
		return NULL;
	exanic_rx_frame_copy(frame, skb_put(skb, len), len, sum ? &csum : NULL);
	if (READ_ONCE(port->rx_stamping))
		skb_hwtstamps(skb)->hwtstamp =
			exanic_ticks_to_ktime(port->card,
					      exanic_clock_extend(port->card, frame->timestamp));
	skb->protocol = eth_type_trans(skb, dev);
	if (sum) {
		skb->csum = csum;
		skb->ip_summed = CHECKSUM_COMPLETE;
		skb_postpull_rcsum(skb, skb_mac_header(skb), ETH_HLEN);
	}
	return skb;
}

/* One complete frame. False when the card overtook us while we were at it. */
static bool rx_frame(struct exanic_port *port, u64 meta)
{
	struct exanic_rx *rx = &port->rx;
	struct net_device *dev = port->dev;
	struct exanic_rx_frame frame = {
		.dev = dev,
		.ring = rx->ring,
		.position = EXANIC_POSITION(rx->first_generation, rx->first),
		.chunks = rx->chunks,
		.length = (rx->chunks - 1) * EXANIC_RX_CHUNK_DATA + EXANIC_META_LENGTH(meta),
		.timestamp = rx->timestamp,
		.poll = (u32)u64_stats_read(&rx->stats.polls),
		.filter = EXANIC_META_FILTER(meta),
	};
	u32 status = EXANIC_META_STATUS(meta) & EXANIC_RX_STATUS_MASK;
	struct sk_buff *skb;
	u32 bytes;

	rx->chunks = 0;
	if (unlikely(status != EXANIC_RX_STATUS_GOOD)) {
		switch (status) {
		case EXANIC_RX_STATUS_ABORTED:
			rx_count(rx, &rx->stats.aborted);
			break;
		case EXANIC_RX_STATUS_OVERFLOW:
			rx_count(rx, &rx->stats.hw_lost);
			break;
		default:
			rx_count(rx, &rx->stats.crc);
			break;
		}
		if (!(dev->features & NETIF_F_RXALL))
			return true;
	}
	if (unlikely(EXANIC_META_LENGTH(meta) > EXANIC_RX_CHUNK_DATA ||
		     frame.length < ETH_HLEN + ETH_FCS_LEN ||
		     frame.length > READ_ONCE(dev->mtu) + EXANIC_RX_OVERHEAD)) {
		rx_count(rx, &rx->stats.length);
		return true;
	}
	bytes = frame.length - ETH_FCS_LEN;

	if (static_branch_unlikely(&exanic_hook_key) && status == EXANIC_RX_STATUS_GOOD &&
	    exanic_hook_receive(&frame)) {
		rx_received(rx, bytes);
		rx_count(rx, &rx->stats.consumed);
		return true;
	}

	skb = exanic_rx_skb(port, &frame, dev->features & NETIF_F_RXFCS, true);
	if (unlikely(!skb)) {
		rx_count(rx, &rx->stats.no_memory);
		return true;
	}
	if (unlikely(!exanic_rx_frame_intact(&frame))) {
		kfree_skb(skb);
		return false;
	}
	rx_received(rx, bytes);
	skb_record_rx_queue(skb, 0);
	napi_gro_receive(&port->napi, skb);
	return true;
}

int exanic_poll(struct napi_struct *napi, int budget)
{
	struct exanic_port *port = container_of(napi, struct exanic_port, napi);
	struct exanic_rx *rx = &port->rx;
	u64 meta;
	u32 chunks = 0;
	int done = 0;

	exanic_tx_poll(port);
	rx_count(rx, &rx->stats.polls);
	while (done < budget) {
		enum rx_scan found;

		if (chunks >= CHUNK_LIMIT)
			return budget;
		found = rx_scan(rx, &meta, &chunks);
		if (found == RX_EMPTY)
			break;
		if (found == RX_LAPPED || !rx_frame(port, meta)) {
			rx_count(rx, &rx->stats.lapped);
			rx_catch_up(rx);
		}
		done++;
	}
	if (done < budget && napi_complete_done(napi, done))
		exanic_rx_idle(port, done);
	return done;
}

/* A fresh ring and a reader at its start; the card writes when this returns */
int exanic_rx_start(struct exanic_port *port)
{
	struct exanic *card = port->card;

	if (!port->ring_page) {
		dma_addr_t dma;
		struct page *page = exanic_ring_alloc(card, &dma);

		if (!page) {
			netdev_err(port->dev, "no 2 MiB of contiguous memory for the RX ring\n");
			return -ENOMEM;
		}
		mutex_lock(&card->map_lock);
		port->ring_dma = dma;
		port->ring_page = page;
		mutex_unlock(&card->map_lock);
	} else {
		exanic_ring_reset(port->ring_page);
	}
	port->rx.ring = page_address(port->ring_page);
	rx_restart(&port->rx, 0, 0);
	exanic_write_base(card, EXANIC_REG_PORT_RX_DMA_BASE_HI(port->number),
			  EXANIC_REG_PORT_RX_DMA_BASE_LO(port->number), port->ring_dma);
	exanic_port_write(port, ENABLED, 1);
	return exanic_gone(card) ? -ENODEV : 0;
}

/* The card may still be writing one frame for a while (6.3) */
void exanic_rx_stop(struct exanic_port *port)
{
	exanic_port_write(port, ENABLED, 0);
	usleep_range(100, 200);
}
