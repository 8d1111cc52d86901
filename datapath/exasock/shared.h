/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The boundary: memory that a process maps (rules B1, B2, N6). This and shared.c are all
 * that allocates it, maps it and knows its layout, for sockets and streams alike.
 *
 * The control page is written by the process, at any time and with anything. Its words have
 * types that are no numbers: each is read once, by one of the readers below, and says only
 * "I look", "I took that" or "I have read up to here". No reader's answer can be more than
 * wrong about the process's own datagrams and bytes.
 *
 * The ring is written by the kernel, and the process cannot write it: it is mapped shared,
 * without VM_MAYWRITE, so that mprotect() is refused, no fault or forced access may write it
 * (it is no copy-on-write mapping), it can be had neither privately nor through a file that
 * was opened for reading only, and single pages are nothing that could be merged or
 * collapsed. Even so its header is written only: words that are published cannot be read
 * back, whoever counts keeps his own count. What is read back is payload: the bytes of a
 * datagram or stream, as bytes.
 */
#ifndef EXASOCK_SHARED_H
#define EXASOCK_SHARED_H

#include <linux/atomic.h>
#include <linux/cache.h>
#include <linux/compiler.h>
#include <linux/mm_types.h>
#include <linux/stddef.h>
#include <linux/types.h>

#include "../include/exasock_abi.h"
#include "../include/exasock_stream.h"

/* Written by the process */
struct exa_untrusted_u32 {
	u32 word;
};

struct exa_untrusted_u64 {
	u64 word;
};

/* Written for the process */
struct exa_published_u32 {
	u32 word;
};

struct exa_published_u64 {
	u64 word;
};

/* struct exasock_control, struct exasock_stream_control */
struct exa_control {
	struct exa_untrusted_u64 heartbeat;
	struct exa_untrusted_u64 tx_skipped;
	u8 pad0[48];
	union {
		struct exa_untrusted_u32 tail;
		struct exa_untrusted_u64 stream_tail;
	};
	u8 pad1[56];
	struct exa_untrusted_u32 claim[EXASOCK_SLOTS_MAX];
};

static_assert(offsetof(struct exa_control, heartbeat) ==
	      offsetof(struct exasock_control, heartbeat));
static_assert(offsetof(struct exa_control, tx_skipped) ==
	      offsetof(struct exasock_control, tx_skipped));
static_assert(offsetof(struct exa_control, tail) == offsetof(struct exasock_control, tail));
static_assert(offsetof(struct exa_control, claim) == offsetof(struct exasock_control, claim));
static_assert(offsetof(struct exa_control, heartbeat) ==
	      offsetof(struct exasock_stream_control, heartbeat));
static_assert(offsetof(struct exa_control, stream_tail) ==
	      offsetof(struct exasock_stream_control, tail));
static_assert(sizeof(struct exa_control) <= EXASOCK_CONTROL_SIZE);

/* struct exasock_ring */
struct exa_ring {
	struct exa_published_u32 abi;
	struct exa_published_u32 slots;
	struct exa_published_u32 dead;
	struct exa_published_u32 handle;
	struct exa_published_u64 netns;
	u8 pad0[40];
	struct exa_published_u32 head;
	u8 pad1[60];
	struct exa_published_u32 native;
	u8 pad2[60];
	struct exa_published_u64 rx_held;
	struct exa_published_u64 rx_taken;
	u8 pad3[16];
	struct exa_published_u64 rx_kernel[32];
	struct exa_published_u64 tx_kernel[32];
};

#define EXA_RING_ASSERT(field) \
	static_assert(offsetof(struct exa_ring, field) == offsetof(struct exasock_ring, field))
EXA_RING_ASSERT(slots);
EXA_RING_ASSERT(dead);
EXA_RING_ASSERT(handle);
EXA_RING_ASSERT(netns);
EXA_RING_ASSERT(head);
EXA_RING_ASSERT(native);
EXA_RING_ASSERT(rx_held);
EXA_RING_ASSERT(rx_taken);
EXA_RING_ASSERT(rx_kernel);
EXA_RING_ASSERT(tx_kernel);
static_assert(sizeof(struct exa_ring) == sizeof(struct exasock_ring));

/* struct exasock_stream */
struct exa_stream_ring {
	struct exa_published_u32 abi;
	struct exa_published_u32 size;
	struct exa_published_u32 dead;
	struct exa_published_u32 handle;
	struct exa_published_u64 netns;
	u8 pad0[40];
	struct exa_published_u64 head;
	u8 pad1[56];
	struct exa_published_u64 after;
	u8 pad2[56];
	struct exa_published_u64 takes;
	struct exa_published_u64 rx_segments;
	struct exa_published_u64 rx_bytes;
	struct exa_published_u64 rx_home;
	struct exa_published_u64 tx_segments;
	struct exa_published_u64 tx_bytes;
	struct exa_published_u64 acks;
	u64 pad3;
	struct exa_published_u64 gives[EXASOCK_S_ROOM_FOR];
	struct exa_published_u64 refused[EXASOCK_S_ROOM_FOR];
};

#define EXA_STREAM_RING_ASSERT(field)					\
	static_assert(offsetof(struct exa_stream_ring, field) ==	\
		      offsetof(struct exasock_stream, field))
EXA_STREAM_RING_ASSERT(size);
EXA_STREAM_RING_ASSERT(dead);
EXA_STREAM_RING_ASSERT(handle);
EXA_STREAM_RING_ASSERT(netns);
EXA_STREAM_RING_ASSERT(head);
EXA_STREAM_RING_ASSERT(after);
EXA_STREAM_RING_ASSERT(takes);
EXA_STREAM_RING_ASSERT(rx_home);
EXA_STREAM_RING_ASSERT(acks);
EXA_STREAM_RING_ASSERT(gives);
EXA_STREAM_RING_ASSERT(refused);
static_assert(sizeof(struct exa_stream_ring) == sizeof(struct exasock_stream));

/*
 * An attachment's: @control, @ring as the kernel has them, @data behind the ring's header.
 * Single pages, so that a mapping keeps them by itself: what a process still has mapped when
 * its attachment is over is memory that nobody else looks at.
 */
struct exa_shared {
	struct exa_control *control;
	union {
		void *header;
		struct exa_ring *ring;
		struct exa_stream_ring *stream_ring;
	};
	u8 *data;
	struct page *control_page;
	struct page **pages;
	unsigned int nr_pages;
};

int exa_shared_alloc(struct exa_shared *shared, size_t size);
void exa_shared_free(struct exa_shared *shared);
int exa_shared_mmap(const struct exa_shared *shared, struct vm_area_struct *vma, u64 offset);

/* --- what the process says ---------------------------------------------------------------- */

/* When it last looked, whatever that is: exa_fresh(), exa_looked() and 0 are all that asks */
static inline u64 exa_shared_heartbeat(const struct exa_shared *shared)
{
	return READ_ONCE(shared->control->heartbeat.word);
}

/* For statistics, which tell it to who may see the process's own */
static inline u64 exa_shared_skipped(const struct exa_shared *shared)
{
	return READ_ONCE(shared->control->tx_skipped.word);
}

/* Where readers begin */
static inline void exa_shared_begin(const struct exa_shared *shared, u32 number)
{
	WRITE_ONCE(shared->control->tail.word, number);
}

/* What became of a number, as far as the process says */
enum exa_claimed {
	EXA_CLAIMED_NOT,		/* no reader took it */
	EXA_CLAIMED_READING,		/* one copies it */
	EXA_CLAIMED_DONE,		/* it is done with, or the word is of something else */
};

static inline struct exa_untrusted_u32 *
exa_shared_claim_at(const struct exa_shared *shared, u32 at)
{
	return &shared->control->claim[at & (EXASOCK_SLOTS_MAX - 1)];
}

/* @at: the slot of @number. DONE is an acquire: nothing of ours is written there before. */
static inline enum exa_claimed exa_shared_claimed(const struct exa_shared *shared, u32 at,
						  u32 number)
{
	/* with the release of a reader that is done: its copy comes before our writing */
	u32 word = smp_load_acquire(&exa_shared_claim_at(shared, at)->word);

	if (word == EXASOCK_CLAIM(number, EXASOCK_STATE_HELD))
		return EXA_CLAIMED_NOT;
	if (word == EXASOCK_CLAIM(number, EXASOCK_STATE_USER))
		return EXA_CLAIMED_READING;
	return EXA_CLAIMED_DONE;
}

/* True: it is the kernel's, no reader took it and none can any more */
static inline bool exa_shared_take(const struct exa_shared *shared, u32 at, u32 number)
{
	u32 held = EXASOCK_CLAIM(number, EXASOCK_STATE_HELD);

	return cmpxchg(&exa_shared_claim_at(shared, at)->word, held,
		       EXASOCK_CLAIM(number, EXASOCK_STATE_KERNEL)) == held;
}

/* What lies there is complete: readers may take it */
static inline void exa_shared_offer(const struct exa_shared *shared, u32 at, u32 number)
{
	/* with a reader's compare-and-swap: the content comes before the word */
	smp_store_release(&exa_shared_claim_at(shared, at)->word,
			  EXASOCK_CLAIM(number, EXASOCK_STATE_HELD));
}

/* Nothing begins there */
static inline void exa_shared_pass_over(const struct exa_shared *shared, u32 at, u32 number)
{
	WRITE_ONCE(exa_shared_claim_at(shared, at)->word,
		   EXASOCK_CLAIM(number, EXASOCK_STATE_FREE));
}

/* Up to which byte a stream was read: between @read, as last said, and @head, or @read */
static inline u64 exa_shared_read_to(u64 tail, u64 read, u64 head)
{
	tail >>= 1;
	return tail > read && tail <= head ? tail : read;
}

static inline u64 exa_shared_stream_read(const struct exa_shared *shared, u64 read, u64 head)
{
	return exa_shared_read_to(READ_ONCE(shared->control->stream_tail.word), read, head);
}

/* The same, and no reader takes more */
static inline u64 exa_shared_stream_close(const struct exa_shared *shared, u64 read, u64 head)
{
	read = exa_shared_read_to(xchg(&shared->control->stream_tail.word, 0), read, head);
	WRITE_ONCE(shared->control->stream_tail.word, read << 1);
	return read;
}

/* With everything else in its place, readers may look */
static inline void exa_shared_stream_open(const struct exa_shared *shared, u64 head)
{
	/* with a reader's look at the tail */
	smp_store_release(&shared->control->stream_tail.word, head << 1 | EXASOCK_STREAM_OPEN);
}

/* --- what the kernel tells ---------------------------------------------------------------- */

static inline void exa_publish_u32(struct exa_published_u32 *to, u32 value)
{
	WRITE_ONCE(to->word, value);
}

static inline void exa_publish_u64(struct exa_published_u64 *to, u64 value)
{
	WRITE_ONCE(to->word, value);
}

/* Our own count, in memory that nobody maps, and what the process sees of it */
static inline void exa_publish_more(struct exa_published_u64 *to, u64 *count, u64 more)
{
	u64 sum = *count + more;

	WRITE_ONCE(*count, sum);
	exa_publish_u64(to, sum);
}

/* After what it speaks of */
static inline void exa_publish_u32_release(struct exa_published_u32 *to, u32 value)
{
	/* with a reader's acquire of the same word */
	smp_store_release(&to->word, value);
}

static inline void exa_publish_u64_release(struct exa_published_u64 *to, u64 value)
{
	/* with a reader's acquire of the same word */
	smp_store_release(&to->word, value);
}

#endif /* EXASOCK_SHARED_H */
