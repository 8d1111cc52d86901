// SPDX-License-Identifier: GPL-2.0-only
/*
 * Transmit (section 8): each frame is copied into a buffer in BAR 2 behind a chunk
 * header, and its offset is written to TX_COMMAND. The socket buffer is free at
 * once; what is tracked is space. The card reports the id of the last chunk it has
 * finished in our feedback slot, in memory, without an interrupt, so the slot is
 * read on every transmit, on every poll of the receive side, and from a timer while
 * the queue is stopped.
 *
 * The doorbell is the dear part, so large TCP segments are cut here, straight into
 * BAR 2, with their checksums: one trip through the stack for many doorbells.
 */

#include <linux/ip.h>
#include <linux/skbuff.h>
#include <linux/slab.h>
#include <linux/tcp.h>
#include <net/checksum.h>
#include <net/ip6_checksum.h>
#include <net/tso.h>

#include "compat.h"
#include "exanic.h"
#include "regs.h"

#define TX_FRAME_HEADER		(EXANIC_TX_CHUNK_HEADER + EXANIC_TX_CHUNK_PADDING)
#define TX_SIZE_DEFAULT		65536
#define TX_TIMER_FAST		(50 * NSEC_PER_USEC)
#define TX_TIMER_SLOW		NSEC_PER_MSEC
#define TX_STAMP_POLLS		64	/* about as many us of a card, with bottom halves off */

static unsigned int txbuf_size_min = 4;
module_param(txbuf_size_min, uint, 0444);
MODULE_PARM_DESC(txbuf_size_min, "least transmit buffer of a net device, KiB");

/* Bytes go out as 8-byte stores; what does not fill one waits in @word */
struct tx_writer {
	void __iomem *to;
	u64 word;
	unsigned int fill;
};

static void tx_write(struct tx_writer *w, const void *from, u32 len)
{
	const u8 *p = from;

	if (w->fill) {
		while (len && w->fill < 8) {
			w->word |= (u64)*p++ << (8 * w->fill++);
			len--;
		}
		if (w->fill < 8)
			return;
		__raw_writeq(w->word, w->to);
		w->to += 8;
		w->word = 0;
		w->fill = 0;
	}
	for (; len >= 32; len -= 32, p += 32, w->to += 32) {
		__raw_writeq(get_unaligned((const u64 *)p), w->to);
		__raw_writeq(get_unaligned((const u64 *)(p + 8)), w->to + 8);
		__raw_writeq(get_unaligned((const u64 *)(p + 16)), w->to + 16);
		__raw_writeq(get_unaligned((const u64 *)(p + 24)), w->to + 24);
	}
	for (; len >= 8; len -= 8, p += 8, w->to += 8)
		__raw_writeq(get_unaligned((const u64 *)p), w->to);
	while (len--)
		w->word |= (u64)*p++ << (8 * w->fill++);
}

static void tx_write_end(struct tx_writer *w)
{
	if (w->fill)
		__raw_writeq(w->word, w->to);
}

static u32 tx_chunk_space(u32 frame)
{
	return ALIGN(TX_FRAME_HEADER + frame, EXANIC_TX_CHUNK_ALIGN);
}

static u16 tx_next_index(const struct exanic_tx *tx, u16 index)
{
	return index + 1 == tx->queue_len ? 0 : index + 1;
}

/* Commands outstanding; ids count modulo 65536 */
static u16 tx_outstanding(const struct exanic_tx *tx)
{
	return tx->sent - tx->done;
}

/*
 * Read the feedback and free what it confirms. An id that was never sent means
 * that somebody wrote our slot: go on as if all were done (8.4).
 */
static void tx_reclaim(struct exanic_tx *tx, struct netdev_queue *queue)
{
	unsigned int packets = 0, bytes = 0;
	u16 finished = le16_to_cpu(READ_ONCE(*tx->feedback)) - tx->done;

	if (!finished)
		return;
	if (unlikely(finished > tx_outstanding(tx))) {
		finished = tx_outstanding(tx);
		if (!finished)
			return;
		u64_stats_update_begin(&tx->stats.sync);
		u64_stats_inc(&tx->stats.bad_feedback);
		u64_stats_update_end(&tx->stats.sync);
	} else {
		/* those that were given up before are behind this one */
		WRITE_ONCE(tx->confirmed, tx->issued - (tx_outstanding(tx) - finished));
	}
	tx->done += finished;
	while (finished--) {
		struct exanic_tx_entry *entry = &tx->entry[tx->tail];

		tx->used -= entry->space;
		bytes += entry->bytes;
		packets++;
		tx->tail = tx_next_index(tx, tx->tail);
	}
	netdev_tx_completed_queue(queue, packets, bytes);
}

/* Room for @commands chunks of @space bytes in all, none longer than @longest */
static bool tx_room(const struct exanic_tx *tx, u32 commands, u32 space, u32 longest)
{
	return tx_outstanding(tx) + commands < tx->queue_len &&
	       tx->used + space + longest <= tx->size;
}

static bool tx_room_reserve(const struct exanic_tx *tx)
{
	return tx->size - tx->used >= tx->reserve &&
	       tx->queue_len - 1 - tx_outstanding(tx) >= tx->queue_len / 2;
}

/* Stop the queue unless room appeared at the last moment. True: it is stopped. */
static bool tx_stop(struct exanic_tx *tx, struct netdev_queue *queue)
{
	netif_tx_stop_queue(queue);
	smp_mb();	/* stopped before the feedback is read for the last time */
	tx_reclaim(tx, queue);
	if (tx_room_reserve(tx)) {
		netif_tx_start_queue(queue);
		return false;
	}
	u64_stats_update_begin(&tx->stats.sync);
	u64_stats_inc(&tx->stats.stops);
	u64_stats_update_end(&tx->stats.sync);
	return true;
}

static void tx_wake(struct exanic_tx *tx, struct netdev_queue *queue)
{
	if (!netif_tx_queue_stopped(queue) || !tx_room_reserve(tx))
		return;
	u64_stats_update_begin(&tx->stats.sync);
	u64_stats_inc(&tx->stats.wakes);
	u64_stats_update_end(&tx->stats.sync);
	netif_tx_wake_queue(queue);
}

/* Under the queue's lock, as the timer's own decision to go on is */
static void tx_timer_start(struct exanic_tx *tx)
{
	tx->retries = 0;
	if (!hrtimer_is_queued(&tx->timer))
		hrtimer_start(&tx->timer, ns_to_ktime(TX_TIMER_FAST), HRTIMER_MODE_REL_SOFT);
}

enum hrtimer_restart exanic_tx_timer(struct hrtimer *timer)
{
	struct exanic_tx *tx = container_of(timer, struct exanic_tx, timer);
	struct exanic_port *port = container_of(tx, struct exanic_port, tx);
	struct netdev_queue *queue = netdev_get_tx_queue(port->dev, 0);
	bool again;

	__netif_tx_lock(queue, smp_processor_id());
	again = tx->ready && !exanic_gone(port->card);
	if (again) {
		tx_reclaim(tx, queue);
		tx_wake(tx, queue);
		again = netif_xmit_stopped(queue) && tx_outstanding(tx);
	}
	if (again)	/* a card that is held up is asked less often */
		hrtimer_forward_now(timer, ns_to_ktime(tx->retries++ < 20 ? TX_TIMER_FAST :
								    TX_TIMER_SLOW));
	__netif_tx_unlock(queue);
	return again ? HRTIMER_RESTART : HRTIMER_NORESTART;
}

/* From NAPI: free what is done, unless a transmit is at it already */
void exanic_tx_poll(struct exanic_port *port)
{
	struct exanic_tx *tx = &port->tx;
	struct netdev_queue *queue = netdev_get_tx_queue(port->dev, 0);

	if (!READ_ONCE(tx->ready) || READ_ONCE(tx->sent) == READ_ONCE(tx->done))
		return;
	if (!__netif_tx_trylock(queue))
		return;
	if (tx->ready) {
		tx_reclaim(tx, queue);
		tx_wake(tx, queue);
	}
	__netif_tx_unlock(queue);
}

/* Place a chunk of @frame bytes: account for it, write its header, set up @w */
static u32 tx_begin(struct exanic_tx *tx, struct tx_writer *w, u32 frame)
{
	u32 space = tx_chunk_space(frame), gap = 0, at;

	if (tx->put + space > tx->size) {	/* a chunk never wraps */
		gap = tx->size - tx->put;
		tx->put = 0;
	}
	at = tx->put;
	tx->put += space;
	tx->used += gap + space;
	tx->entry[tx->head].space = gap + space;
	tx->entry[tx->head].bytes = frame;
	tx->head = tx_next_index(tx, tx->head);
	tx->sent++;
	WRITE_ONCE(tx->issued, tx->issued + 1);

	w->to = tx->mem + at;
	__raw_writeq((u64)tx->sent | (u64)tx->slot << 16 |
		     (u64)(EXANIC_TX_CHUNK_PADDING + frame) << 32 |
		     (u64)EXANIC_TX_TYPE_RAW << 48, w->to);
	w->to += EXANIC_TX_CHUNK_HEADER;
	w->word = 0;
	w->fill = EXANIC_TX_CHUNK_PADDING;
	return tx->offset + at;
}

static void tx_doorbell(struct exanic_tx *tx, u32 offset)
{
	wmb();	/* write-combined chunk before the doorbell (8.5) */
	__raw_writel(offset, tx->doorbell);
}

static void tx_write_skb(struct tx_writer *w, const struct sk_buff *skb)
{
	u32 headlen = skb_headlen(skb);
	int i;

	if (skb->ip_summed == CHECKSUM_PARTIAL) {
		u32 start = skb_checksum_start_offset(skb), at = start + skb->csum_offset;
		__sum16 sum = csum_fold(skb_checksum(skb, start, skb->len - start, 0));

		if (!sum)
			sum = CSUM_MANGLED_0;
		tx_write(w, skb->data, at);
		tx_write(w, &sum, sizeof(sum));
		tx_write(w, skb->data + at + sizeof(sum), headlen - at - sizeof(sum));
	} else {
		tx_write(w, skb->data, headlen);
	}
	for (i = 0; i < skb_shinfo(skb)->nr_frags; i++) {
		const skb_frag_t *frag = &skb_shinfo(skb)->frags[i];
		u32 offset, len, copied;
		struct page *page;

		skb_frag_foreach_page(frag, skb_frag_off(frag), skb_frag_size(frag),
				      page, offset, len, copied) {
			void *at = kmap_local_page(page);

			tx_write(w, at + offset, len);
			kunmap_local(at);
		}
	}
	tx_write_end(w);
}

/*
 * Send and find out when (8.6): the port's counter of frames must go up by exactly
 * one around a stable TX_LAST_TIME. Other senders on the port defeat it, and so does a
 * queue before it or a held-up link: nobody may keep this processor for longer than
 * TX_STAMP_POLLS reads. What is lost is counted.
 */
static void tx_doorbell_stamped(struct exanic_port *port, u32 offset, struct sk_buff *skb)
{
	struct exanic *card = port->card;
	u32 counter = EXANIC_REG_STATS_TX(port->number);
	u32 before = exanic_read(card, counter), after = before, time;
	struct skb_shared_hwtstamps stamps = {};
	bool good;
	int polls;

	tx_doorbell(&port->tx, offset);
	for (polls = 0; polls < TX_STAMP_POLLS && after == before && !exanic_gone(card); polls++)
		after = exanic_read(card, counter);
	time = exanic_port_read(port, TX_LAST_TIME);
	good = after == before + 1 && exanic_read(card, counter) == after && !exanic_gone(card);
	u64_stats_update_begin(&port->tx.stats.sync);
	if (good)
		u64_stats_inc(&port->tx.stats.timestamps);
	else
		u64_stats_inc(&port->tx.stats.timestamps_lost);
	u64_stats_update_end(&port->tx.stats.sync);
	if (!good)
		return;
	stamps.hwtstamp = exanic_ticks_to_ktime(card, exanic_clock_extend(card, time));
	skb_tstamp_tx(skb, &stamps);
}

/* Checksums of one segment: IPv4 header, then TCP over its header and @data */
static void tx_segment_checksum(const struct sk_buff *skb, u8 *header, u32 payload, __wsum data)
{
	u32 network = skb_network_offset(skb), transport = skb_transport_offset(skb);
	struct tcphdr *tcp = (struct tcphdr *)(header + transport);
	u32 tcp_len = tcp_hdrlen(skb) + payload;

	tcp->check = 0;
	data = csum_partial(tcp, tcp_hdrlen(skb), data);
	if (skb_shinfo(skb)->gso_type & SKB_GSO_TCPV6) {
		const struct ipv6hdr *ip = (struct ipv6hdr *)(header + network);

		tcp->check = csum_ipv6_magic(&ip->saddr, &ip->daddr, tcp_len, IPPROTO_TCP, data);
	} else {
		struct iphdr *ip = (struct iphdr *)(header + network);

		ip_send_check(ip);
		tcp->check = csum_tcpudp_magic(ip->saddr, ip->daddr, tcp_len, IPPROTO_TCP, data);
	}
}

/* Cut a large TCP segment and send the pieces. Returns bytes on the wire. */
static u32 tx_segments(struct exanic_tx *tx, struct sk_buff *skb)
{
	u32 header_len = skb_tcp_all_headers(skb);
	u32 left = skb->len - header_len, total = 0;
	u8 header[TSO_HEADER_SIZE] __aligned(8);
	struct tso_t tso;

	tso_start(skb, &tso);
	while (left) {
		u32 payload = min_t(u32, skb_shinfo(skb)->gso_size, left);
		u32 todo = payload, offset, summed = 0;
		struct tso_t sum = tso;
		struct tx_writer w;
		__wsum csum = 0;

		left -= payload;
		tso_build_hdr(skb, header, &tso, payload, !left);
		while (summed < payload) {
			u32 n = min_t(u32, sum.size, payload - summed);

			csum = csum_block_add(csum, csum_partial(sum.data, n, 0), summed);
			summed += n;
			tso_build_data(skb, &sum, n);
		}
		tx_segment_checksum(skb, header, payload, csum);

		offset = tx_begin(tx, &w, header_len + payload);
		tx_write(&w, header, header_len);
		while (todo) {
			u32 n = min_t(u32, tso.size, todo);

			tx_write(&w, tso.data, n);
			todo -= n;
			tso_build_data(skb, &tso, n);
		}
		tx_write_end(&w);
		tx_doorbell(tx, offset);
		total += header_len + payload;
	}
	return total;
}

netdev_tx_t exanic_xmit(struct sk_buff *skb, struct net_device *dev)
{
	struct exanic_port *port = exanic_port(dev);
	struct exanic_tx *tx = &port->tx;
	struct netdev_queue *queue = netdev_get_tx_queue(dev, 0);
	u32 segments = 1, space, longest, bytes;
	bool gso = skb_is_gso(skb), stamp;

	if (unlikely(!tx->ready || exanic_gone(port->card)))
		goto drop;
	if (gso) {
		u32 header = skb_tcp_all_headers(skb);

		segments = DIV_ROUND_UP(skb->len - header, skb_shinfo(skb)->gso_size);
		longest = tx_chunk_space(header + skb_shinfo(skb)->gso_size);
		space = segments * longest;
		if (unlikely(header > TSO_HEADER_SIZE))
			goto drop;
	} else {
		longest = tx_chunk_space(skb->len);
		space = longest;
	}
	/* a frame that could never go would stop the queue for good */
	if (unlikely(space + longest > tx->size || segments >= tx->queue_len))
		goto drop;
	if (unlikely(!tx_room(tx, segments, space, longest))) {
		tx_reclaim(tx, queue);
		if (!tx_room(tx, segments, space, longest)) {
			tx_stop(tx, queue);
			if (!tx_room(tx, segments, space, longest)) {
				netif_tx_stop_queue(queue);
				tx_timer_start(tx);
				return NETDEV_TX_BUSY;
			}
		}
	}

	/* the time of the card comes instead of the software's, not after it */
	stamp = !gso && unlikely(skb_shinfo(skb)->tx_flags & SKBTX_HW_TSTAMP) && tx->stamping;
	if (stamp)
		skb_shinfo(skb)->tx_flags |= SKBTX_IN_PROGRESS;
	skb_tx_timestamp(skb);
	if (gso) {
		bytes = tx_segments(tx, skb);
	} else {
		struct tx_writer w;
		u32 offset = tx_begin(tx, &w, skb->len);

		tx_write_skb(&w, skb);
		bytes = skb->len;
		if (unlikely(stamp))
			tx_doorbell_stamped(port, offset, skb);
		else
			tx_doorbell(tx, offset);
	}
	netdev_tx_sent_queue(queue, bytes);
	u64_stats_update_begin(&tx->stats.sync);
	u64_stats_add(&tx->stats.packets, segments);
	u64_stats_add(&tx->stats.bytes, bytes);
	if (gso)
		u64_stats_inc(&tx->stats.tso);
	u64_stats_update_end(&tx->stats.sync);
	dev_consume_skb_any(skb);

	tx_reclaim(tx, queue);
	if (unlikely(!tx_room_reserve(tx)))
		tx_stop(tx, queue);
	if (unlikely(netif_xmit_stopped(queue)))
		tx_timer_start(tx);
	return NETDEV_TX_OK;

drop:
	u64_stats_update_begin(&tx->stats.sync);
	u64_stats_inc(&tx->stats.dropped);
	u64_stats_update_end(&tx->stats.sync);
	dev_kfree_skb_any(skb);
	return NETDEV_TX_OK;
}

/* The queue has been stopped for seconds: the card no longer confirms */
void exanic_tx_timeout(struct net_device *dev, unsigned int queue)
{
	struct exanic_port *port = exanic_port(dev);
	struct exanic_tx *tx = &port->tx;

	netdev_warn(dev, "no transmit feedback: id %u sent, %u confirmed, slot says %u\n",
		    tx->sent, tx->done, le16_to_cpu(READ_ONCE(*tx->feedback)));
	exanic_read(port->card, EXANIC_REG_PCIE_IF_VER);	/* notices a card that is gone */
}

/* Two frames of any MTU at least; 64 KiB at most; half of the region is the processes' */
static u32 tx_buffer_size(const struct exanic_port *port)
{
	u32 least = 2 * (ALIGN(EXANIC_MAX_MTU + EXANIC_RX_OVERHEAD + TX_FRAME_HEADER, 8) + 512);
	u32 size = min_t(u32, TX_SIZE_DEFAULT, port->tx_region_size / 2);

	least = max_t(u32, least, txbuf_size_min * 1024);
	return min_t(u32, PAGE_ALIGN(max(size, least)), port->tx_region_size);
}

/* Memory, slot and bookkeeping of the port's own queue, before anybody else asks for any */
int exanic_tx_create(struct exanic_port *port)
{
	struct exanic *card = port->card;
	struct exanic_tx *tx = &port->tx;
	u32 size;
	int err;

	if (!port->tx_region_size)
		return 0;
	size = tx_buffer_size(port);
	tx->queue_len = min_t(u32, size / EXANIC_TX_COMMAND_BYTES, U16_MAX);
	tx->entry = kcalloc(tx->queue_len, sizeof(*tx->entry), GFP_KERNEL);
	if (!tx->entry)
		return -ENOMEM;
	mutex_lock(&card->map_lock);
	err = exanic_txmem_alloc(port, NULL, size, &tx->offset);
	if (!err)
		err = exanic_slot_alloc(port, NULL, &tx->slot);
	mutex_unlock(&card->map_lock);
	if (err) {
		exanic_tx_destroy(port);
		return err;
	}
	tx->size = size;
	tx->mem = card->tx + tx->offset;
	tx->doorbell = port->regs + EXANIC_PORT_OFFSET(TX_COMMAND);
	tx->feedback = exanic_slot(card, tx->slot);
	/* half the buffer, or one largest frame wherever the write position is */
	tx->reserve = max_t(u32, size / 2 + 2048,
			    2 * tx_chunk_space(EXANIC_MAX_MTU + EXANIC_RX_OVERHEAD));
	tx->reserve = min(tx->reserve, size);
	return 0;
}

/* Memory and slot go with the card */
void exanic_tx_destroy(struct exanic_port *port)
{
	kfree(port->tx.entry);
	port->tx.entry = NULL;
}

/* The card has been reset since: it has forgotten the commands, and where feedback goes */
static void tx_forget(struct exanic_port *port)
{
	struct exanic *card = port->card;
	struct exanic_tx *tx = &port->tx;

	exanic_write_base(card, EXANIC_REG_TX_FEEDBACK_BASE_HI, EXANIC_REG_TX_FEEDBACK_BASE_LO,
			  card->feedback_dma);
	tx->done = tx->sent;
	WRITE_ONCE(tx->confirmed, tx->issued);
	tx->tail = tx->head;
	tx->put = 0;
	tx->used = 0;
	WRITE_ONCE(*tx->feedback, cpu_to_le16(tx->sent));
}

/* Goes on where it stopped: what the card had not finished then may still be under way */
void exanic_tx_start(struct exanic_port *port)
{
	struct exanic_tx *tx = &port->tx;
	struct netdev_queue *queue = netdev_get_tx_queue(port->dev, 0);

	if (!port->tx_region_size)
		return;
	netif_set_tso_max_size(port->dev, max_t(u32, tx->size / 2 - tx->size / 16, 2048));
	netif_set_tso_max_segs(port->dev, max_t(u32, tx->queue_len / 2, 1));
	netdev_tx_reset_queue(queue);
	if (exanic_txmem_was_reset(port->card))
		tx_forget(port);
	else
		tx_reclaim(tx, queue);
	WRITE_ONCE(tx->ready, true);
}

/*
 * The stack no longer sends. The card is given time to read what it has; what it has not
 * read by then (no link, a paused one) stays where it is.
 */
void exanic_tx_stop(struct exanic_port *port)
{
	struct exanic *card = port->card;
	struct exanic_tx *tx = &port->tx;
	struct netdev_queue *queue = netdev_get_tx_queue(port->dev, 0);
	u16 index;
	int tries;

	if (!tx->ready)
		return;
	for (tries = 0; tries < 100; tries++) {
		__netif_tx_lock_bh(queue);
		tx_reclaim(tx, queue);
		__netif_tx_unlock_bh(queue);
		if (!tx_outstanding(tx) || exanic_gone(card))
			break;
		usleep_range(50, 100);
	}
	__netif_tx_lock_bh(queue);
	WRITE_ONCE(tx->ready, false);
	/* byte queue limits start anew, and are not told of these any more */
	for (index = tx->tail; index != tx->head; index = tx_next_index(tx, index))
		tx->entry[index].bytes = 0;
	__netif_tx_unlock_bh(queue);
	hrtimer_cancel(&tx->timer);
	netdev_tx_reset_queue(queue);
}
