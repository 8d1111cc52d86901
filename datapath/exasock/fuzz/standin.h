/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * As much of the kernel as hold.c and shared.c need to run in a process, by one thread. The
 * headers that they name are empty files (see Makefile), and this is included before.
 *
 * A look at a word that others may write goes through turn(): there the process, which is
 * the fuzzer's (boundary.c), has its turn. So every order of both is one of the inputs.
 */
#ifndef STANDIN_H
#define STANDIN_H

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int32_t s32;
typedef int64_t s64;
typedef u8 __u8;
typedef u16 __u16, __be16, __le16, __sum16;
typedef u32 __u32, __be32, __le32, __wsum;
typedef s32 __s32;
typedef u64 __u64, __be64, __le64;
typedef s64 ktime_t;
typedef u64 phys_addr_t;

#define _IOC_NUMBER(nr)		(nr)
#define _IOR(type, nr, size)	_IOC_NUMBER(nr)
#define _IOW(type, nr, size)	_IOC_NUMBER(nr)
#define _IOWR(type, nr, size)	_IOC_NUMBER(nr)

#define __iomem
#define __percpu
#define __rcu
#define __user
#define __aligned(bytes)	__attribute__((aligned(bytes)))
#define BIT(n)			(1UL << (n))
#define BIT_ULL(n)		(1ULL << (n))
#define GENMASK(high, low)	(((1ULL << ((high) - (low) + 1)) - 1) << (low))
#define GENMASK_ULL(high, low)	GENMASK(high, low)
#define likely(what)		(what)
#define unlikely(what)		(what)
#define min(a, b)		((a) < (b) ? (a) : (b))
#define max(a, b)		((a) > (b) ? (a) : (b))
#define container_of(at, type, member) \
	((type *)((u8 *)(at) - offsetof(type, member)))

/* --- memory that others may write --------------------------------------------------------- */

void turn(const volatile void *word);

#define READ_ONCE(word) \
	(turn(&(word)), *(const volatile __typeof__(word) *)&(word))
#define WRITE_ONCE(word, value) \
	(turn(&(word)), *(volatile __typeof__(word) *)&(word) = (value))
#define smp_load_acquire(at)		READ_ONCE(*(at))
#define smp_store_release(at, value)	WRITE_ONCE(*(at), value)
#define cmpxchg(at, old, new) \
	(turn(at), __sync_val_compare_and_swap(at, old, new))
#define xchg(at, value) \
	(turn(at), __atomic_exchange_n(at, value, __ATOMIC_SEQ_CST))
#define dma_rmb()			((void)0)
#define le64_to_cpu(value)		(value)

typedef struct {
	int counter;
} atomic_t;

typedef struct {
	s64 counter;
} atomic64_t;

/* --- what is only a member of something --------------------------------------------------- */

struct list_head {
	struct list_head *next, *prev;
};

#define LIST_HEAD_INIT(name)	{ &(name), &(name) }
#define LIST_HEAD(name)		struct list_head name = LIST_HEAD_INIT(name)

static inline void INIT_LIST_HEAD(struct list_head *head)
{
	head->next = head;
	head->prev = head;
}

static inline bool list_empty(const struct list_head *head)
{
	return head->next == head;
}

static inline void list_add_tail(struct list_head *one, struct list_head *head)
{
	assert(list_empty(one));
	one->next = head;
	one->prev = head->prev;
	head->prev->next = one;
	head->prev = one;
}

static inline void list_del_init(struct list_head *one)
{
	one->prev->next = one->next;
	one->next->prev = one->prev;
	INIT_LIST_HEAD(one);
}

static inline void list_splice_init(struct list_head *from, struct list_head *to)
{
	assert(list_empty(to));
	if (list_empty(from))
		return;
	*to = *from;
	to->next->prev = to;
	to->prev->next = to;
	INIT_LIST_HEAD(from);
}

#define list_first_entry(head, type, member)	container_of((head)->next, type, member)

struct hlist_node {
	struct hlist_node *next;
};

struct hlist_head {
	struct hlist_node *first;
};

struct rcu_head {
	void *next;
};

struct kref {
	int count;
};

struct lock_class_key {
	int unused;
};

struct mutex {
	int unused;
};

struct rcu_work {
	int unused;
};

struct xarray {
	int unused;
};

typedef struct {
	int count;
} refcount_t;

typedef struct {
	bool held;
} spinlock_t;

typedef struct {
	u32 sequence;
} seqcount_t;

#define DECLARE_HASHTABLE(name, bits)	struct hlist_head name[1 << (bits)]
#define L1_CACHE_SHIFT			6
#define hash_for_each_possible_rcu(table, at, member, key) \
	for (at = NULL; at; at = NULL)
#define hlist_for_each_entry_rcu(at, head, member) \
	for (at = (__typeof__(at))((head)->first ?					\
		   (u8 *)(head)->first - offsetof(__typeof__(*at), member) : NULL); at;	\
	     at = NULL)

struct dst_entry {
	int unused;
};

struct rtable {
	struct dst_entry dst;
	u32 rt_pmtu;
};

u32 dst_mtu(const struct dst_entry *dst);

#define TASK_COMM_LEN	16
#define ETH_ALEN	6
#define ETH_HLEN	14
#define VLAN_ETH_HLEN	18
#define IPPROTO_UDP	17
#define PAGE_SIZE	4096UL
#define NSEC_PER_USEC	1000ULL
#define NSEC_PER_MSEC	1000000ULL

/* --- sockets and devices ------------------------------------------------------------------ */

struct sk_buff_head {
	bool filled;
};

struct sock {
	struct sk_buff_head sk_receive_queue;
	struct sk_buff_head reader_queue;
	int sk_err;
	u32 sk_priority;
	u8 sk_shutdown;
};

struct net_device {
	int number;
};

struct vlan_dev_priv {
	u32 nr_egress_mappings;
};

bool is_vlan_dev(const struct net_device *dev);
struct vlan_dev_priv *vlan_dev_priv(const struct net_device *dev);
u16 vlan_dev_get_egress_qos_mask(struct net_device *dev, u32 priority);

struct udphdr {
	u8 unused[8];
};

struct iphdr {
	u8 unused[20];
};

#define RCV_SHUTDOWN	1
#define udp_sk(sk)	(sk)

static inline bool skb_queue_empty_lockless(const struct sk_buff_head *queue)
{
	return !queue->filled;
}

struct skb_shared_hwtstamps {
	ktime_t hwtstamp;
};

struct sk_buff {
	u8 *data;
	u32 room;
	u32 len;
	struct net_device *dev;
	struct sock *sk;
	void (*destructor)(struct sk_buff *skb);
	ktime_t tstamp;
	struct skb_shared_hwtstamps hwtstamps;
	__be16 protocol;
	u8 ip_summed;
};

#define CHECKSUM_UNNECESSARY	1

struct sk_buff *netdev_alloc_skb_ip_align(struct net_device *dev, u32 size);
void skb_put_data(struct sk_buff *skb, const void *from, u32 size);
struct skb_shared_hwtstamps *skb_hwtstamps(struct sk_buff *skb);
__be16 eth_type_trans(struct sk_buff *skb, struct net_device *dev);
void skb_record_rx_queue(struct sk_buff *skb, u16 queue);
void sock_pfree(struct sk_buff *skb);
int netif_receive_skb(struct sk_buff *skb);
void kfree_skb(struct sk_buff *skb);
__wsum csum_partial(const void *from, int size, __wsum sum);
__sum16 csum_tcpudp_magic(__be32 from, __be32 to, u32 size, u8 protocol, __wsum sum);

/* --- time, locks -------------------------------------------------------------------------- */

u64 ktime_get_ns(void);
u64 ktime_get_real_ns(void);

static inline ktime_t ns_to_ktime(u64 ns)
{
	return ns;
}

static inline s64 ktime_to_ns(ktime_t time)
{
	return time;
}

enum hrtimer_restart {
	HRTIMER_NORESTART,
	HRTIMER_RESTART,
};

struct hrtimer {
	enum hrtimer_restart (*function)(struct hrtimer *timer);
	bool queued;
	u64 at;
};

#define CLOCK_MONOTONIC		0
#define HRTIMER_MODE_REL_SOFT	0

static inline void hrtimer_setup(struct hrtimer *timer,
				 enum hrtimer_restart (*function)(struct hrtimer *timer),
				 int clock, int mode)
{
	timer->function = function;
	(void)clock;
	(void)mode;
}

static inline bool hrtimer_is_queued(const struct hrtimer *timer)
{
	return timer->queued;
}

static inline void hrtimer_start(struct hrtimer *timer, ktime_t ns, int mode)
{
	timer->queued = true;
	timer->at = ktime_get_ns() + (u64)ns;
	(void)mode;
}

static inline void hrtimer_forward_now(struct hrtimer *timer, ktime_t ns)
{
	timer->at = ktime_get_ns() + (u64)ns;
}

static inline void spin_lock(spinlock_t *lock)
{
	assert(!lock->held);
	lock->held = true;
}

static inline void spin_unlock(spinlock_t *lock)
{
	assert(lock->held);
	lock->held = false;
}

#define spin_lock_bh(lock)	spin_lock(lock)
#define spin_unlock_bh(lock)	spin_unlock(lock)
#define rcu_read_lock()		((void)0)
#define rcu_read_unlock()	((void)0)

/* --- pages -------------------------------------------------------------------------------- */

struct page {
	void *memory;
};

struct vm_area_struct {
	unsigned long vm_flags;
	unsigned long pages;
};

#define GFP_KERNEL_ACCOUNT	1
#define __GFP_ZERO		2
#define VM_MAP			0
#define PAGE_KERNEL		0
#define VM_WRITE		0x2UL
#define VM_EXEC			0x4UL
#define VM_SHARED		0x8UL
#define VM_MAYWRITE		0x20UL
#define VM_MAYEXEC		0x40UL
#define VM_DONTEXPAND		0x40000UL
#define VM_DONTDUMP		0x4000000UL
#define PFN_UP(size)		(((size) + PAGE_SIZE - 1) / PAGE_SIZE)
#define vma_pages(vma)		((vma)->pages)
#define vm_flags_clear(vma, f)	((vma)->vm_flags &= ~(f))
#define vm_flags_set(vma, f)	((vma)->vm_flags |= (f))

struct page *alloc_page(int flags);
void put_page(struct page *page);
void *page_address(const struct page *page);
void *vmap(struct page **pages, unsigned int count, int flags, int protection);
void vunmap(void *memory);
int vm_map_pages_zero(struct vm_area_struct *vma, struct page **pages, unsigned long count);
#define kvcalloc(count, size, flags)	calloc(count, size)
#define kvfree(memory)			free(memory)

#endif /* STANDIN_H */
