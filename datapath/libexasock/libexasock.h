/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The preload library: what its files share.
 *
 * A descriptor of the application is always the kernel's own socket. A table keyed by
 * descriptor says which of them have an attachment, here called an entry: memory in
 * which the kernel module puts received datagrams, and a handle to send past the stack
 * with. Whatever is not certain is left to the C library's function, with the caller's
 * own arguments.
 *
 * Nothing here allocates with malloc or needs a constructor to have run: the functions
 * are called from signal handlers and from other libraries' constructors.
 */
#ifndef LIBEXASOCK_H
#define LIBEXASOCK_H

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>

#include "../include/exasock_stream.h"
#include "extensions/exasock/socket.h"
#include "libc.h"

typedef __u8 u8;
typedef __u32 u32;
typedef __u64 u64;

#define EXPORT		EXA_ATTRIBUTE(visibility("default"))
#define __alias(of)	EXA_ATTRIBUTE(alias(#of))
#define likely(x)	__builtin_expect(!!(x), 1)
#define unlikely(x)	__builtin_expect(!!(x), 0)

#define load(at)		__atomic_load_n(at, __ATOMIC_RELAXED)
#define load_acquire(at)	__atomic_load_n(at, __ATOMIC_ACQUIRE)
#define store(at, value)	__atomic_store_n(at, value, __ATOMIC_RELAXED)
#define store_release(at, value) __atomic_store_n(at, value, __ATOMIC_RELEASE)
#define exchange(at, value)	__atomic_exchange_n(at, value, __ATOMIC_ACQ_REL)
#define swap_if(at, old, value) \
	__atomic_compare_exchange_n(at, old, value, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)

/*
 * Where no memory can be, in any process: there the kernel says EFAULT. Whoever reads a
 * caller's memory asks first; what else is not mapped is found by trying.
 */
static inline bool exa_nowhere(const void *at)
{
	return unlikely((uintptr_t)at - 4096 >= (1UL << 47) - 2 * 4096);
}

/* environment.c: what the variables say */
struct exa_environment {
	u64 spin_ns;
	bool debug;
	bool trace;
	bool nowarn;
	bool default_disable;
};

const struct exa_environment *exa_environment(void);

/* message.c: lines on standard error; errno survives */
void exa_say(const char *prefix, const char *format, ...) EXA_ATTRIBUTE(format(printf, 2, 3));

#define exa_debug(...) \
	do { \
		if (unlikely(exa_environment()->debug)) \
			exa_say("exasock: ", __VA_ARGS__); \
	} while (0)
#define exa_warn(...) \
	do { \
		if (!exa_environment()->nowarn) \
			exa_say("exasock warning: ", __VA_ARGS__); \
	} while (0)
#ifdef EXASOCK_TRACING
#define EXA_TRACING	1
#else
#define EXA_TRACING	0
#endif
#define exa_trace(format, ...) \
	do { \
		if (EXA_TRACING && exa_environment()->trace) \
			exa_say("exasock trace: ", "%s" format, __func__, __VA_ARGS__); \
	} while (0)

/* device.c: the kernel module, or the tests' stand-in for it */
int exa_device_open(void);
int exa_device_ioctl(int fd, unsigned long request, void *argument);
void *exa_device_map(void *at, size_t length, int protection, int fd, u64 offset);

/* context.c: the process's open device */
struct exa_context {
	int fd;			/* -1: not open */
	u32 slots;
};

extern struct exa_context exa_context;

int exa_context_open(void);
void exa_context_move(void);
bool exa_context_lost(void);
void exa_context_forget(void);

static inline int exa_context_ioctl(unsigned long request, void *argument)
{
	return exa_device_ioctl(load(&exa_context.fd), request, argument);
}

/*
 * A point at which the thread may be cancelled. Where older C libraries keep it, in a library
 * of threads, a program without any has none.
 */
static inline void exa_testcancel(void)
{
	void (*const test)(void) = real(pthread_testcancel);

	if (likely(test))
		test();
}

/* process.c: which process the shared state is about */
struct exa_life {
	pid_t pid;		/* 0 in a child: its copy of this page is empty */
};

extern struct exa_life *exa_life;

/* What the holder of the lock had before */
struct exa_kept {
	sigset_t mask;
	int cancel;
};

void exa_life_start(void);
bool exa_mine(void);
void exa_lock(struct exa_kept *kept);
void exa_unlock(const struct exa_kept *kept);
void exa_disable(const char *why);
bool exa_disabled(void);

/* confine.c */
bool exa_confined(void);

/* Destination that was refused lately: that many sends go to the kernel without asking */
struct exa_refusal {
	u64 destination;
	u32 skip;
	u32 period;
};

#define EXA_REFUSALS	8

/*
 * An attachment. Never freed, only used again, and its memory stays mapped to something:
 * a thread that is reading while another one closes the descriptor reads emptiness.
 */
struct exa_entry {
	struct exasock_control *control;
	const struct exasock_ring *ring;
	const u8 *slots;
	const struct exasock_stream *stream;	/* @ring again, of TCP; NULL: UDP */
	u32 mask;
	u32 handle;
	u32 generation;	/* grows when the attachment ends */

	u64 mode;		/* see mode.c */
	u32 seen;		/* ring->native when the native socket last had nothing */
	bool looking;		/* on the list of those that may have a heartbeat */
	u32 sleepers;		/* threads that sleep in the kernel until it has something */
	struct exa_entry *looking_next;

	unsigned int fds;	/* descriptors that name it; 0: unused */
	unsigned int waiters;	/* threads that look, in a call that waits */
	int ghost;		/* 0, or its last descriptor's copy, for them: it is closed */
	struct exa_entry *next;	/* all entries ever made */
	u64 ended;		/* in what order they became unused */
	void *memory;
	size_t room;		/* of it */
	struct exa_refusal refused[EXA_REFUSALS];
} EXA_ATTRIBUTE(aligned(64));

/*
 * table.c: what is known of a descriptor: one word, an entry's address or one of these.
 * ENABLED is UNKNOWN that EXASOCK_DEFAULT_DISABLE does not concern.
 */
enum exa_cell {
	EXA_UNKNOWN = 0,
	EXA_NATIVE = 1,
	EXA_RETRY = 2,		/* native now; counters above the tag */
	EXA_DISABLED = 3,
	EXA_ENABLED = 4,
	EXA_SET = 5,		/* an epoll set; its address above the tag */
	EXA_WAITED = 6,		/* ENABLED, and in a set; above the tag calls, a serial number */
};

/* In the word of one that is WAITED: calls until it is attached, and what wishes know it by */
#define EXA_WAITED_CALL		8UL
#define EXA_WAITED_CALLS	0x1f8UL
#define EXA_WAITED_SERIAL	9

#define EXA_CELL_TAG	7UL
#define EXA_TABLE_BITS	12
#define EXA_TABLE_SIZE	4096UL

extern uintptr_t *exa_table[EXA_TABLE_SIZE];

static inline uintptr_t *exa_cell(int fd)
{
	uintptr_t *chunk;

	if (unlikely((unsigned int)fd >> (2 * EXA_TABLE_BITS)))
		return NULL;
	chunk = load_acquire(&exa_table[(unsigned int)fd >> EXA_TABLE_BITS]);
	return chunk ? &chunk[fd & (EXA_TABLE_SIZE - 1)] : NULL;
}

static inline bool exa_cell_is_entry(uintptr_t cell)
{
	return cell && !(cell & EXA_CELL_TAG);
}

/* Does it refer to something that counts its descriptors? */
static inline bool exa_cell_counts(uintptr_t cell)
{
	return exa_cell_is_entry(cell) || (cell & EXA_CELL_TAG) == EXA_SET;
}

uintptr_t *exa_cell_make(int fd);
void exa_table_each(unsigned int first, unsigned int last, void (*visit)(int fd, uintptr_t *cell));
void exa_table_clear(void);
void exa_forget(int fd);
void exa_forget_range(unsigned int first, unsigned int last);
void exa_copy_cell(int from, int to);

/* entry.c */
struct exa_entry *exa_find_slow(int fd);
struct exa_entry *exa_entry_of_handle(u32 handle, bool stream);
struct exa_entry *exa_entry_start(const struct exasock_attach *attach, bool stream);
void exa_entry_put(struct exa_entry *entry);
void exa_entry_closing(struct exa_entry *entry, int fd);
void exa_waiter_comes(struct exa_entry *entry);
void exa_waiter_goes(struct exa_entry *entry);
void exa_entry_drop(struct exa_entry *entry, uintptr_t to);
void exa_entries_share(void);
void exa_entries_forget(void);
bool exa_entries_any(void);
void exa_ask_again(int fd);
bool exa_may_attach(int fd);
uintptr_t exa_waited(int fd, unsigned long serial);

/* The entry of a descriptor that data is about to go through, attaching it if need be */
static inline struct exa_entry *exa_find(int fd)
{
	const uintptr_t *cell = exa_cell(fd);
	uintptr_t is = cell ? load_acquire(cell) : EXA_UNKNOWN;

	if (is == EXA_NATIVE)
		return NULL;
	if (likely(exa_cell_is_entry(is)) && likely(load(&exa_life->pid)))
		return (struct exa_entry *)is;
	return exa_find_slow(fd);
}

/* The entry it has, or none */
static inline struct exa_entry *exa_known(int fd)
{
	const uintptr_t *cell = exa_cell(fd);
	uintptr_t is = cell ? load_acquire(cell) : EXA_UNKNOWN;

	return exa_cell_is_entry(is) && load(&exa_life->pid) ? (struct exa_entry *)is : NULL;
}

/* hold.c: the heartbeat, and giving back what is held because of it */
void exa_looking_add(struct exa_entry *entry);
void exa_flush(struct exa_entry *entry);
void exa_hand_over(struct exa_entry *entry);
struct exa_wait;

void exa_hand_over_all(const struct exa_wait *but);
void exa_looking_forget(void);

extern u32 exa_sleepers_of_all;	/* threads in a wait that may be about any socket */

/* Somebody sleeps in the kernel until @entry has something: what is held wakes nobody */
static inline bool exa_slept_on(const struct exa_entry *entry)
{
	return unlikely(load(&entry->sleepers) | load(&exa_sleepers_of_all));
}

/*
 * The caller has found nothing there, and goes away. A thread that begins to sleep at this
 * moment may be missed: what comes then is held for the kernel's limit, not more.
 */
static inline void exa_look_ends(struct exa_entry *entry)
{
	if (exa_slept_on(entry))
		exa_hand_over(entry);
}

static inline void exa_heartbeat(struct exa_entry *entry)
{
	store(&entry->control->heartbeat, __builtin_ia32_rdtsc());
	if (unlikely(!load(&entry->looking)))
		exa_looking_add(entry);
}

/* Where what has this number begins */
static inline const struct exasock_slot *exa_slot(const struct exa_entry *entry, u32 number)
{
	return (const void *)(entry->slots + (number & entry->mask) * EXASOCK_SLOT_SIZE);
}

/* claim.c: whose turn it is in the ring */
enum exa_claim {
	EXA_CLAIM_NONE,		/* nothing there */
	EXA_CLAIM_MINE,		/* the caller has it, and must release it */
	EXA_CLAIM_KERNEL,	/* it went into the socket's own queue */
	EXA_CLAIM_LOST,		/* the tail is where nothing is: flush */
};

enum exa_claim exa_claim(struct exa_entry *entry, u32 *number);
void exa_release(struct exa_entry *entry, u32 number);
void exa_settle(struct exa_entry *entry, u32 head);
bool exa_held(struct exa_entry *entry);

/* receive.c */
enum exa_receiver {
	EXA_RECV,
	EXA_RECVFROM,
	EXA_RECVMSG,
	EXA_READ,
	EXA_READV,
};

/* A receive call as it was made; @iov describes its buffers whichever it was */
struct exa_receive {
	enum exa_receiver call;
	int fd;
	int flags;
	const struct iovec *iov;
	size_t iovs;
	struct sockaddr *name;
	socklen_t *namelen;
	struct msghdr *msg;
};

static inline struct exa_receive exa_receive_of_msg(int fd, struct msghdr *msg, int flags)
{
	return (struct exa_receive){
		.call = EXA_RECVMSG, .fd = fd, .flags = flags, .iov = msg->msg_iov,
		.iovs = msg->msg_iovlen, .name = msg->msg_name, .namelen = &msg->msg_namelen,
		.msg = msg,
	};
}

/* Programs give MSG_NOSIGNAL on receiving too: it means nothing there, to us as to the kernel */
#define EXA_RECEIVE_FLAGS \
	(MSG_DONTWAIT | MSG_TRUNC | MSG_WAITALL | MSG_CMSG_CLOEXEC | MSG_NOSIGNAL)

ssize_t exa_receive_native(const struct exa_receive *receive, int flags);
ssize_t exa_receive(struct exa_entry *entry, const struct exa_receive *receive);
bool exa_receivable_msg(const struct msghdr *msg);

/* look.c: one look at both, without waiting */
enum exa_look {
	EXA_LOOK_GOT,
	EXA_LOOK_NOTHING,
	EXA_LOOK_OVER,		/* the entry is no more */
};

enum exa_look exa_look(struct exa_entry *entry, const struct exa_receive *receive, ssize_t *got);

/* stream.c: TCP, in turns the kernel's and ours */
#define EXA_STREAM_FLAGS	(MSG_DONTWAIT | MSG_PEEK | MSG_WAITALL | MSG_CMSG_CLOEXEC | \
				 MSG_NOSIGNAL)

bool exa_stream_taken(const struct exa_entry *entry);
bool exa_stream_unread(const struct exa_entry *entry);
bool exa_stream_want(struct exa_entry *entry);
bool exa_stream_send(struct exa_entry *entry, int fd, const struct iovec *iov, size_t iovs,
		     ssize_t *sent);
enum exa_look exa_stream_look(struct exa_entry *entry, const struct exa_receive *receive,
			      ssize_t *got);

/* warm.c: sends that are none */
ssize_t exa_warm_buffer(size_t length);
ssize_t exa_warm_msg(const struct msghdr *msg);
int exa_warm_messages(struct mmsghdr *messages, unsigned int count);

/* deliver.c: from the slot to the caller's buffers */
ssize_t exa_deliver(const struct exasock_slot *slot, const struct exa_receive *receive);

/* control.c: control messages as the kernel writes them */
void exa_control(const struct exasock_slot *slot, struct msghdr *msg);

/* mode.c: O_NONBLOCK */
int exa_nonblocking(struct exa_entry *entry, int fd);
void exa_mode_changed(int fd);
void exa_mode_shared(struct exa_entry *entry);

/*
 * wait.c: waiting for one of several descriptors. The kernel is asked, again and again
 * without waiting, and in between the rings of those that have one are looked at.
 */
#define EXA_WATCHED	64

struct exa_watched {
	struct exa_entry *entry;
	u32 generation;
	int at;			/* whatever finds it again in the caller's arguments */
	bool held;		/* a datagram was, before the kernel was asked */
	bool edge;		/* only what came after @told counts */
	bool kernels;		/* not looked at: whether it is told is the kernel's to say */
	bool counted;		/* among its entry's sleepers */
	u32 told, head;		/* where the ring ended: when it was last told, and now */
};

struct exa_wait {
	/* ask the kernel, without waiting, and add what the rings have; as the call returns */
	int (*ask)(struct exa_wait *wait);
	/* the call itself, for what remains of the timeout */
	int (*sleep)(struct exa_wait *wait);
	void *call;		/* its arguments */
	u64 timeout;	/* ns, or EXA_FOREVER */
	u64 spent;		/* of it, when there was nothing */
	bool blind;		/* there may be more than we look at: spin all the same */
	bool all;		/* it may be about any socket of the process */
	bool counted;		/* among exa_sleepers_of_all */
	bool asleep;		/* and among the sleepers of all that are watched */
	bool slept;		/* it has come to that */
	bool changed;		/* what it is about, since it was counted */
	unsigned int count;
	struct exa_watched watched[EXA_WATCHED];
};

/* Not all of it: most of what can be watched mostly is not */
static inline void exa_wait_begin(struct exa_wait *wait, u64 timeout)
{
	wait->timeout = timeout;
	wait->spent = 0;
	wait->blind = false;
	wait->all = false;
	wait->counted = false;
	wait->asleep = false;
	wait->slept = false;
	wait->changed = false;
	wait->count = 0;
}

void exa_watch(struct exa_wait *wait, int fd, int at);
struct exa_watched *exa_watch_entry(struct exa_wait *wait, struct exa_entry *entry,
				    u32 generation, int at);
void exa_unwatch_all(struct exa_wait *wait);
bool exa_watched_readable(struct exa_watched *watched);
int exa_wait_for(struct exa_wait *wait);
bool exa_timeout_valid(const struct timespec *timeout);
u64 exa_ns_of(const struct timespec *timeout);
struct timespec exa_rest_of(const struct exa_wait *wait);

/* interest.c: what epoll sets want to read */
struct exa_interest {
	struct exa_entry *entry;	/* NULL: not attached yet */
	u32 generation;
	int fd;
	unsigned long serial;
	struct epoll_event event;
	/* of an edge: a number of its own, and where the ring ended when it was last told */
	u64 mark;
};

#define EXA_NEVER_TOLD	UINT32_MAX	/* nor is it a place in a ring */

struct exa_set {
	u32 version;			/* odd: changing */
	bool shared;			/* others may change it: not known any more */
	bool nested;			/* another set has been in it */
	unsigned int fds;		/* descriptors that name it; 0: unused */
	unsigned int count;
	struct exa_set *next;
	struct exa_interest interests[EXA_WATCHED];
} EXA_ATTRIBUTE(aligned(64));

void exa_set_start(int epfd);
bool exa_interest_is_kernels(const struct exa_interest *interest);
void exa_sets_strange(void);
bool exa_may_be_set(int fd);
bool exa_set_is_shared(const struct exa_set *set);
bool exa_set_holds_set(const struct exa_set *set);
void exa_set_put(struct exa_set *set);
struct exa_set *exa_set_of(int epfd);
void exa_set_control(int epfd, int operation, int fd, const struct epoll_event *event);
void exa_sets_attached(uintptr_t is, struct exa_entry *entry);
void exa_sets_share(void);
void exa_sets_forget(void);
bool exa_set_read(struct exa_set *set, struct exa_interest *interests, unsigned int *count,
		  u32 *version);
bool exa_set_is(const struct exa_set *set, u32 version);
bool exa_set_tell(struct exa_set *set, const struct exa_interest *interest, u32 head);

/* signal.c: what signal handlers have run in this thread */
struct exa_signals {
	u32 handled;
	u32 interrupting;	/* of these, without SA_RESTART */
};

extern __thread struct exa_signals exa_signals;

void exa_signals_watch(void);

/* clock.c */
static inline u64 exa_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (u64)now.tv_sec * 1000000000 + (u64)now.tv_nsec;
}

#define EXA_FOREVER	UINT64_MAX

#endif /* LIBEXASOCK_H */
