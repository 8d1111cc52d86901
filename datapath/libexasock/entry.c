// SPDX-License-Identifier: GPL-2.0-only
/*
 * Attaching and detaching. A socket is attached with the first data that goes through
 * it, not when it is bound: a parent that binds and leaves the rest to its children
 * would hold what they need. Refused for now, it is asked for again after a while.
 */

#include <netinet/in.h>
#include <sys/mman.h>

#include "libexasock.h"

#define CONTROL_AT	0UL
#define RING_AT		EXASOCK_MAP_RING
#define ENTRIES_AT_ONCE	64
/* Ended ones that rest before they are used again: threads may still look at them */
#define RESTING		64
/* Copies of closed descriptors are from here on, out of the application's way */
#define GHOSTS_FROM	1000

/* Calls until the next attempt, and the last distance, in the cell of a refused socket */
#define RETRY_FIRST	64UL
#define RETRY_MOST	65536UL
#define RETRY_LEFT_BITS	24
/*
 * And those of a TCP connection that may be a short one, or is not established yet: what
 * is saved in so many is about what attaching costs
 */
#define CONNECT_CALLS	16UL

static struct exa_entry *entries;	/* all, only ever added to */
static unsigned int used;
static unsigned int resting;
static u64 ends;
static size_t stream_size;	/* 0: not known yet */

static uintptr_t retry(unsigned long left, unsigned long distance)
{
	return (distance << RETRY_LEFT_BITS | left) << 3 | EXA_RETRY;
}

static unsigned long retry_left(uintptr_t cell)
{
	return cell >> 3 & ((1UL << RETRY_LEFT_BITS) - 1);
}

static unsigned long retry_distance(uintptr_t cell)
{
	return cell >> (3 + RETRY_LEFT_BITS);
}

static uintptr_t retry_later(uintptr_t cell)
{
	unsigned long distance = RETRY_FIRST;

	if ((cell & EXA_CELL_TAG) == EXA_RETRY)
		distance = retry_distance(cell) * 2;
	if (distance > RETRY_MOST)
		distance = RETRY_MOST;
	return retry(distance, distance);
}

static bool option_is(int fd, int option, int value)
{
	socklen_t size = sizeof(int);
	int is;

	return !real(getsockopt)(fd, SOL_SOCKET, option, &is, &size) && is == value;
}

static bool is_plain_udp(int fd)
{
	return option_is(fd, SO_TYPE, SOCK_DGRAM) && option_is(fd, SO_DOMAIN, AF_INET) &&
	       option_is(fd, SO_PROTOCOL, IPPROTO_UDP);
}

static bool is_plain_tcp(int fd)
{
	return option_is(fd, SO_TYPE, SOCK_STREAM) && option_is(fd, SO_DOMAIN, AF_INET) &&
	       option_is(fd, SO_PROTOCOL, IPPROTO_TCP);
}

static size_t ring_size(bool stream)
{
	if (stream)
		return EXASOCK_RING_HEADER + stream_size;
	return EXASOCK_RING_HEADER + (size_t)exa_context.slots * EXASOCK_SLOT_SIZE;
}

/* How large a stream's ring is: what the first one's header says, as far as it makes sense */
static bool learn_stream_size(u32 handle)
{
	size_t most = EXASOCK_STREAM_SIZE_MOST;
	const struct exasock_stream *stream;

	if (stream_size)
		return true;
	stream = mmap(NULL, EXASOCK_RING_HEADER, PROT_READ, MAP_SHARED, exa_context.fd,
		      (off_t)EXASOCK_MAP_STREAM_RING_AT(handle));
	if (stream == MAP_FAILED)
		return false;
	if (stream->size <= most && !(stream->size & (stream->size - 1)))
		stream_size = stream->size;
	munmap((void *)stream, EXASOCK_RING_HEADER);
	return stream_size;
}

/* Memory that reads as "nothing there", in place of whatever was */
static void *blank(void *at, size_t room)
{
	return mmap(at, room, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | (at ? MAP_FIXED : 0), -1, 0);
}

/* An unused entry, the one that has rested longest, or a new one. NULL: no memory. */
static struct exa_entry *entry_alloc(size_t room)
{
	struct exa_entry *entry, *best = NULL;
	unsigned int i;

	for (entry = resting > RESTING ? entries : NULL; entry; entry = entry->next)
		if (!entry->fds && !load(&entry->waiters) && entry->room >= room &&
		    (!best || entry->ended < best->ended))
			best = entry;
	for (entry = best ? NULL : entries; entry && !best; entry = entry->next)
		if (!entry->fds && !entry->memory)
			best = entry;
	if (!best) {
		entry = mmap(NULL, ENTRIES_AT_ONCE * sizeof(*entry), PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (entry == MAP_FAILED)
			return NULL;
		for (i = 0; i < ENTRIES_AT_ONCE; i++) {
			entry[i].next = entries;
			entries = &entry[i];
		}
		best = entries;
	}
	if (best->memory) {
		resting--;
		return best;
	}
	best->memory = blank(NULL, room);
	if (best->memory == MAP_FAILED) {
		best->memory = NULL;
		return NULL;
	}
	best->room = room;
	return best;
}

static bool map(struct exa_entry *entry, u32 handle, bool stream)
{
	u64 control = stream ? EXASOCK_MAP_STREAM_AT(handle) : EXASOCK_MAP_CONTROL_AT(handle);
	int fd = exa_context.fd;

	return exa_device_map(entry->memory + CONTROL_AT, EXASOCK_CONTROL_SIZE,
			      PROT_READ | PROT_WRITE, fd,
			      control) != MAP_FAILED &&
	       exa_device_map(entry->memory + RING_AT, ring_size(stream), PROT_READ, fd,
			      control + EXASOCK_MAP_RING) != MAP_FAILED;
}

/* The entry that has this attachment already: another descriptor of the same socket. Locked. */
struct exa_entry *exa_entry_of_handle(u32 handle, bool stream)
{
	struct exa_entry *entry;

	for (entry = entries; entry; entry = entry->next)
		if (entry->fds && entry->handle == handle && !entry->stream == !stream &&
		    !load(&entry->ring->dead))
			return entry;
	return NULL;
}

/* Without a descriptor yet. NULL: no memory; the attachment is over again. Locked. */
struct exa_entry *exa_entry_start(const struct exasock_attach *attach, bool stream)
{
	struct exa_entry *entry = NULL;
	u32 handle = attach->handle;
	unsigned int i;

	if (!stream || learn_stream_size(handle))
		entry = entry_alloc(RING_AT + ring_size(stream));
	if (!entry || !map(entry, handle, stream))
		goto detach;
	entry->control = entry->memory + CONTROL_AT;
	entry->ring = entry->memory + RING_AT;
	entry->slots = entry->memory + RING_AT + EXASOCK_RING_HEADER;
	entry->stream = stream ? entry->memory + RING_AT : NULL;
	/* in a stream the same word is its size */
	entry->mask = (stream ? (u32)stream_size : exa_context.slots) - 1;
	if (entry->ring->abi != EXASOCK_ABI_VERSION || entry->ring->slots != entry->mask + 1)
		goto detach;
	entry->handle = handle;
	/* what the native socket has from before: it is asked first */
	if (!stream)
		store(&entry->seen, load(&entry->ring->native) - 1);
	store(&entry->mode, 0);
	for (i = 0; i < EXA_REFUSALS; i++)
		entry->refused[i] = (struct exa_refusal){};
	used++;
	return entry;

detach:
	exa_context_ioctl(stream ? EXASOCK_IOC_STREAM_DETACH : EXASOCK_IOC_DETACH, &handle);
	if (entry) {
		blank(entry->memory, entry->room);
		entry->ended = ++ends;
		resting++;
	}
	return NULL;
}

/*
 * @fd is about to be closed. A call that waits keeps its socket, as one does that waits in
 * the kernel: whoever looks meanwhile goes on with a copy. Locked.
 */
void exa_entry_closing(struct exa_entry *entry, int fd)
{
	int kept = errno, ghost;

	if (entry->fds != 1 || !load(&entry->waiters))
		return;
	ghost = real(fcntl)(fd, F_DUPFD_CLOEXEC, GHOSTS_FROM);
	if (ghost < 0)		/* its limit is lower */
		ghost = real(fcntl)(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	if (ghost >= 0)
		store_release(&entry->ghost, ghost);
	errno = kept;
}

void exa_waiter_comes(struct exa_entry *entry)
{
	__atomic_add_fetch(&entry->waiters, 1, __ATOMIC_SEQ_CST);
}

/* The last one closes what was kept for them */
void exa_waiter_goes(struct exa_entry *entry)
{
	int kept = errno, ghost;

	if (__atomic_sub_fetch(&entry->waiters, 1, __ATOMIC_SEQ_CST))
		return;
	ghost = exchange(&entry->ghost, 0);
	if (ghost)
		real(close)(ghost);
	errno = kept;
}

/* One descriptor less; with the last one the attachment ends. Locked. */
void exa_entry_put(struct exa_entry *entry)
{
	int kept = errno;

	if (--entry->fds)
		return;
	store_release(&entry->generation, entry->generation + 1);
	exa_context_ioctl(entry->stream ? EXASOCK_IOC_STREAM_DETACH : EXASOCK_IOC_DETACH,
			  &entry->handle);
	blank(entry->memory, entry->room);
	entry->ended = ++ends;
	resting++;
	used--;
	errno = kept;
}

static struct exa_entry *dropped;	/* under the lock */
static uintptr_t dropped_to;

static void drop_visited(int fd, uintptr_t *cell)
{
	(void)fd;
	if (load(cell) != (uintptr_t)dropped)
		return;
	store_release(cell, dropped_to);
	exa_entry_put(dropped);
}

/* The attachment is over, or unwanted: its descriptors' words become @to */
void exa_entry_drop(struct exa_entry *entry, uintptr_t to)
{
	struct exa_kept kept;

	if (!exa_mine())
		return;
	exa_lock(&kept);
	dropped = entry;
	dropped_to = to;
	exa_table_each(0, UINT32_MAX, drop_visited);
	exa_unlock(&kept);
}

/* Before a fork: another process has the sockets too */
void exa_entries_share(void)
{
	struct exa_entry *entry;

	for (entry = load_acquire(&entries); entry; entry = entry->next)
		exa_mode_shared(entry);
}

/* In a child: the attachments are the parent's, and so is what is mapped */
void exa_entries_forget(void)
{
	struct exa_entry *entry;

	for (entry = entries; entry; entry = entry->next) {
		if (entry->ghost)
			real(close)(entry->ghost);	/* of threads that are not here */
		entry->ghost = 0;
		entry->waiters = 0;
		entry->sleepers = 0;
		if (!entry->fds)
			continue;
		entry->generation++;
		entry->looking = false;
		blank(entry->memory, entry->room);
		entry->fds = 0;
		entry->ended = ++ends;
		resting++;
	}
	used = 0;
}

bool exa_entries_any(void)
{
	return load(&used) && load(&exa_life->pid);
}

/* Something changed that may have been why it was refused */
void exa_ask_again(int fd)
{
	uintptr_t *cell = exa_cell(fd), is = cell ? load(cell) : EXA_UNKNOWN;

	if ((is & EXA_CELL_TAG) == EXA_RETRY)
		swap_if(cell, &is, (uintptr_t)EXA_ENABLED);
}

/* The word of a socket that a set waits for: a connection may be a short one */
uintptr_t exa_waited(int fd, unsigned long serial)
{
	unsigned long calls = is_plain_tcp(fd) ? CONNECT_CALLS : 0;

	return serial << EXA_WAITED_SERIAL | calls * EXA_WAITED_CALL | EXA_WAITED;
}

/* What becomes of a descriptor whose socket could not be attached */
static uintptr_t refused(int error, uintptr_t was)
{
	switch (error) {
	case EBUSY:
	case EPERM:
	case EMFILE:
	case ENOMEM:
		return retry_later(was);
	case ENOTCONN:
		if ((was & EXA_CELL_TAG) == EXA_WAITED)
			return was | CONNECT_CALLS * EXA_WAITED_CALL;
		return retry(CONNECT_CALLS, RETRY_FIRST);
	default:
		return EXA_NATIVE;
	}
}

/* Locked; @was: what its word said */
static uintptr_t attach(int fd, uintptr_t was, bool stream)
{
	struct exasock_attach attach = { .fd = fd };
	struct exa_entry *entry;
	int error;

	if (exa_disabled())
		return EXA_NATIVE;
	error = -exa_context_open();
	if (error)
		return refused(error, was);
	if (exa_context_ioctl(stream ? EXASOCK_IOC_STREAM_ATTACH : EXASOCK_IOC_ATTACH, &attach)) {
		error = errno;
		if (error == EBADF && exa_context_lost())
			return retry_later(was);
		return refused(error, was);
	}
	entry = exa_entry_of_handle(attach.handle, stream);
	if (!entry)
		entry = exa_entry_start(&attach, stream);
	if (!entry)
		return refused(ENOMEM, was);
	entry->fds++;
	exa_sets_attached(was, entry);
	exa_debug("descriptor %d is accelerated: attachment %u, namespace %llu", fd, attach.handle,
		  (unsigned long long)attach.netns);
	return (uintptr_t)entry;
}

/* Is @fd a socket that has an entry, or may get one? */
bool exa_may_attach(int fd)
{
	uintptr_t *cell = exa_confined() ? NULL : exa_cell_make(fd);
	uintptr_t is = cell ? load(cell) : EXA_NATIVE;
	int error = errno;

	if (is == EXA_UNKNOWN && exa_environment()->default_disable)
		return false;
	if (is == EXA_UNKNOWN && !is_plain_udp(fd) && !is_plain_tcp(fd)) {
		swap_if(cell, &is, (uintptr_t)EXA_NATIVE);
		is = EXA_NATIVE;
	}
	errno = error;
	return is != EXA_NATIVE && is != EXA_DISABLED && (is & EXA_CELL_TAG) != EXA_SET;
}

/* Count this call; true: it is time to ask again */
static bool retry_now(uintptr_t *cell, uintptr_t is)
{
	unsigned long left = retry_left(is);

	if (left)
		swap_if(cell, &is, retry(left - 1, retry_distance(is)));
	return !left;
}

/* A descriptor that has no entry (yet), or whose entry may be another process's */
struct exa_entry *exa_find_slow(int fd)
{
	uintptr_t *cell = exa_confined() ? NULL : exa_cell_make(fd), is, becomes;
	int error = errno;
	struct exa_kept kept;
	bool stream;

	if (!cell)
		goto none;
	is = load(cell);
	/* calls of a vfork child are counted too: its parent only asks a little sooner */
	if (exa_cell_is_entry(is) && exa_mine())
		is = load(cell);
	if (exa_cell_is_entry(is))
		return (struct exa_entry *)is;	/* of the process whose memory we share */
	if (is == EXA_NATIVE || is == EXA_DISABLED || exa_cell_counts(is))
		goto none;
	if (is == EXA_UNKNOWN && exa_environment()->default_disable)
		goto none;
	if ((is & EXA_CELL_TAG) == EXA_RETRY && !retry_now(cell, is))
		goto none;
	if ((is & EXA_CELL_TAG) == EXA_WAITED && is & EXA_WAITED_CALLS) {
		swap_if(cell, &is, is - EXA_WAITED_CALL);
		goto none;
	}
	if (!exa_mine())
		goto none;
	errno = 0;
	stream = is_plain_tcp(fd);
	if (!stream && !is_plain_udp(fd)) {
		/* a number that is nothing may become a socket at this moment */
		if (errno != EBADF)
			swap_if(cell, &is, (uintptr_t)EXA_NATIVE);
		goto none;
	}
	if (stream && (is == EXA_UNKNOWN || is == EXA_ENABLED)) {
		swap_if(cell, &is, retry(CONNECT_CALLS, RETRY_FIRST));
		goto none;
	}
	exa_life_start();
	exa_lock(&kept);
	is = load(cell);
	becomes = is;
	if (!exa_cell_counts(is) && !exa_confined()) {
		becomes = attach(fd, is, stream);
		store_release(cell, becomes);
	}
	exa_unlock(&kept);
	errno = error;
	return exa_cell_is_entry(becomes) ? (struct exa_entry *)becomes : NULL;

none:
	errno = error;
	return NULL;
}
