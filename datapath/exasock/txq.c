// SPDX-License-Identifier: GPL-2.0-only
/*
 * Transmit memory of a port for all its accelerated sockets: a few buffers, picked by
 * processor, each with a feedback slot (hardware reference, section 8). The frames are
 * made by the kernel, so a process needs no buffer and no slot of its own, and none can
 * run out of them.
 */

#include <linux/io.h>
#include <linux/slab.h>
#include <linux/smp.h>

#include "exasock.h"

#define TXQ_SIZE	16384U
#define TXQ_SIZE_LEAST	4096U
#define TXQ_COMMAND	512U		/* bytes of buffer for each command under way (8.1) */

/* the port's own queue and one to come have theirs beside (exanic_kernel.h) */
static_assert(EXA_TXQS + 2 <= EXANIC_TX_KERNEL_SLOTS);

struct exa_txq {
	spinlock_t lock;		/* all of it */
	struct exanic_txbuf *buf;
	u32 put;			/* next chunk goes here */
	u32 used;
	u16 queue_len;			/* at most queue_len - 1 commands are under way */
	u16 head;
	u16 tail;
	u16 sent;			/* id of the last command */
	u16 done;			/* and of the last one confirmed */
	u32 space[];			/* of each command, the gap at the end included */
};

static struct exa_txq *txq_create(struct net_device *dev)
{
	struct exanic_txbuf *buf;
	struct exa_txq *q;
	u32 size;

	for (size = TXQ_SIZE; size >= TXQ_SIZE_LEAST; size /= 2) {
		buf = exanic_txbuf_alloc(dev, size);
		if (!IS_ERR(buf))
			break;
	}
	if (IS_ERR(buf))
		return NULL;
	q = kzalloc(struct_size(q, space, size / TXQ_COMMAND), GFP_KERNEL);
	if (!q) {
		exanic_txbuf_free(buf, 0);
		return NULL;
	}
	spin_lock_init(&q->lock);
	q->buf = buf;
	q->queue_len = size / TXQ_COMMAND;
	return q;
}

static unsigned int txqs_wanted(void)
{
	return min_t(unsigned int, EXA_TXQS, num_possible_cpus());
}

/* Under exa_mutex: only who equips ports adds one, and it is freed when nobody asks any more */
bool exa_txqs_complete(const struct exa_port *port)
{
	return rcu_access_pointer(port->txq[txqs_wanted() - 1]);
}

/*
 * As many as there is memory for; none: sockets of this port send through the kernel, and
 * it is tried again while they do. One caller at a time, without exa_mutex (rule B5); what it
 * allocates is the port's, a few hundred bytes whatever the number of tenants, and not charged.
 */
void exa_txqs_alloc(struct exa_port *port)
{
	struct exa_txq *q;
	unsigned int i;

	for (i = 0; i < txqs_wanted(); i++) {
		if (rcu_access_pointer(port->txq[i]))
			continue;
		q = txq_create(port->dev);
		if (!q)
			break;
		rcu_assign_pointer(port->txq[i], q);
	}
}

/*
 * A grace period after the port could be found: nobody sends by it any more. Before the net device
 * is gone (exanic_kernel.h).
 */
void exa_txqs_free(struct exa_port *port)
{
	unsigned int i;

	for (i = 0; i < EXA_TXQS; i++) {
		struct exa_txq *q = rcu_dereference_protected(port->txq[i], true);

		if (!q)
			continue;
		exanic_txbuf_free(q->buf, q->sent);
		kfree(q);
	}
}

static u16 txq_next(const struct exa_txq *q, u16 index)
{
	return index + 1 == q->queue_len ? 0 : index + 1;
}

/* An id that was never sent says that the card lost its mind: go on as if all were done */
static void txq_reclaim(struct exa_txq *q)
{
	u16 finished = le16_to_cpu(READ_ONCE(*q->buf->feedback)) - q->done;
	u16 outstanding = q->sent - q->done;

	if (finished > outstanding)
		finished = outstanding;
	q->done += finished;
	while (finished--) {
		q->used -= q->space[q->tail];
		q->tail = txq_next(q, q->tail);
	}
	if (!q->used)
		q->put = 0;	/* so that the largest chunk fits */
}

static bool txq_room(const struct exa_txq *q, u32 space)
{
	u32 gap = q->put + space > q->buf->size ? q->buf->size - q->put : 0;

	return (u16)(q->sent - q->done) + 1 < q->queue_len &&
	       q->used + gap + space <= q->buf->size;
}

/* In order, for the memory is write combining; by fours, for most of it is the loop otherwise */
static void copy_to_card(void __iomem *mem, const u8 *image, u32 bytes)
{
	u32 words = DIV_ROUND_UP(bytes, 8);
	const u64 *from = (const u64 *)image;
	u64 __iomem *to = mem;

	for (; words >= 4; words -= 4, to += 4, from += 4) {
		__raw_writeq(from[0], &to[0]);
		__raw_writeq(from[1], &to[1]);
		__raw_writeq(from[2], &to[2]);
		__raw_writeq(from[3], &to[3]);
	}
	while (words--)
		__raw_writeq(*from++, to++);
}

/* The chunk in @image: @bytes with its header, which is filled in here */
static enum exasock_reason txq_put(struct exa_txq *q, u8 *image, u32 bytes)
{
	u32 space = ALIGN(bytes, 64), gap = 0, at;
	__le64 header;

	if (space > q->buf->size)
		return EXASOCK_R_SIZE;
	txq_reclaim(q);
	if (!txq_room(q, space))
		return EXASOCK_R_BUSY;
	if (q->put + space > q->buf->size) {	/* a chunk never wraps (8.2) */
		gap = q->buf->size - q->put;
		q->put = 0;
	}
	at = q->put;

	header = cpu_to_le64((u64)(u16)(q->sent + 1) | (u64)q->buf->slot << 16 |
			     (u64)(bytes - EXANIC_TX_CHUNK_HEADER) << 32 |
			     (u64)EXANIC_TX_TYPE_RAW << 48);
	memcpy(image, &header, sizeof(header));
	memset(image + EXANIC_TX_CHUNK_HEADER, 0, EXANIC_TX_CHUNK_PADDING);
	copy_to_card(q->buf->mem + at, image, bytes);
	if (exanic_txbuf_send(q->buf, at, bytes - EXANIC_TX_CHUNK_HEADER - EXANIC_TX_CHUNK_PADDING))
		return EXASOCK_R_DEVICE;

	q->sent++;
	q->put += space;
	q->used += gap + space;
	q->space[q->head] = gap + space;
	q->head = txq_next(q, q->head);
	return EXASOCK_R_NONE;
}

/*
 * The next queue after @first that has room takes it. Who holds its lock does so for one frame, for
 * nobody waits for room with it.
 */
static noinline enum exasock_reason txq_send_elsewhere(struct exa_port *port, unsigned int first,
						       u8 *image, u32 bytes)
{
	enum exasock_reason reason = EXASOCK_R_BUSY;
	unsigned int i;

	for (i = 1; i < EXA_TXQS && reason == EXASOCK_R_BUSY; i++) {
		struct exa_txq *q = rcu_dereference(port->txq[(first + i) % EXA_TXQS]);

		if (!q)
			continue;
		spin_lock(&q->lock);
		/* half of it stays for those whose own it is (rule B4) */
		if (q->used + ALIGN(bytes, 64) <= q->buf->size / 2)
			reason = txq_put(q, image, bytes);
		spin_unlock(&q->lock);
	}
	return reason;
}

/*
 * Send the frame that begins EXA_CHUNK bytes into @image, now; @bytes count from
 * @image, which has room for another 7. Under RCU with bottom halves off. The card sends in the
 * order of its doorbells, whatever the queue. Nobody waits for room: a queue is other tenants' too,
 * and one of them may keep it full.
 */
enum exasock_reason exa_txq_send(struct exa_port *port, u8 *image, u32 bytes)
{
	unsigned int first = smp_processor_id() % EXA_TXQS, i;
	enum exasock_reason reason;
	struct exa_txq *q = NULL;

	for (i = 0; i < EXA_TXQS; i++, first = (first + 1) % EXA_TXQS) {
		q = rcu_dereference(port->txq[first]);
		if (q)
			break;
	}
	if (!q) {
		exa_ports_retry();
		return EXASOCK_R_MEMORY;
	}
	spin_lock(&q->lock);
	reason = txq_put(q, image, bytes);
	spin_unlock(&q->lock);
	if (unlikely(reason == EXASOCK_R_BUSY))
		reason = txq_send_elsewhere(port, first, image, bytes);
	return reason;
}
