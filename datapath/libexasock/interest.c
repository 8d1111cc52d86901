// SPDX-License-Identifier: GPL-2.0-only
/*
 * What epoll sets wait for, as far as it concerns us: the wish to read a socket. The
 * kernel's set stays the truth about everything else; a set that we have not seen made, or
 * that another process shares, is not known here at all.
 *
 * A wish is often older than the socket's attachment. Then the socket's word in the table
 * carries a number that the wish has too, by which they find each other later. As in the
 * kernel a wish is about the socket, not the descriptor: it ends with the attachment.
 *
 * Changed under the lock, with an odd version meanwhile; read without it.
 *
 * An edge is told once, to one of the threads that wait: to the one that moves the wish's
 * mark to where the ring ends. The mark carries a number of its own, so that no wish that
 * has taken another's place is taken for it.
 */

#include <string.h>
#include <sys/mman.h>

#include "libexasock.h"

#define SETS_AT_ONCE	64

static struct exa_set *sets;		/* all, only ever added to */
static bool strange;
static unsigned long last_serial;
static u32 last_mark;

static void change(struct exa_set *set)
{
	__atomic_add_fetch(&set->version, 1, __ATOMIC_ACQ_REL);
}

static struct exa_set *set_alloc(void)
{
	struct exa_set *set;
	unsigned int i;

	for (set = sets; set; set = set->next)
		if (!set->fds)
			return set;
	set = mmap(NULL, SETS_AT_ONCE * sizeof(*set), PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (set == MAP_FAILED)
		return NULL;
	for (i = 0; i < SETS_AT_ONCE; i++) {
		set[i].next = sets;
		sets = &set[i];
	}
	return sets;
}

/* @epfd is a new set */
void exa_set_start(int epfd)
{
	int error = errno;
	struct exa_set *set;
	uintptr_t *cell;
	struct exa_kept kept;

	exa_forget(epfd);
	cell = exa_cell_make(epfd);
	if (!cell || !exa_mine())
		return;
	exa_life_start();
	exa_lock(&kept);
	set = set_alloc();
	if (set) {
		change(set);
		set->fds = 1;
		set->shared = false;
		set->nested = false;
		set->count = 0;
		change(set);
		store_release(cell, (uintptr_t)set | EXA_SET);
	}
	exa_unlock(&kept);
	errno = error;
}

/* One descriptor less. Locked. */
void exa_set_put(struct exa_set *set)
{
	if (--set->fds)
		return;
	change(set);
	set->count = 0;
	change(set);
}

/* There are sets that we have not seen made: then any file may be one */
void exa_sets_strange(void)
{
	if (!load(&strange))
		store(&strange, true);
}

bool exa_may_be_set(int fd)
{
	return exa_set_of(fd) || (load(&strange) && !exa_known(fd));
}

/* For good */
bool exa_set_is_shared(const struct exa_set *set)
{
	return load(&set->shared);
}

/* May it be about sockets that are in another set? */
bool exa_set_holds_set(const struct exa_set *set)
{
	return load(&set->nested);
}

struct exa_set *exa_set_of(int epfd)
{
	const uintptr_t *cell = exa_cell(epfd);
	uintptr_t is = cell ? load_acquire(cell) : EXA_UNKNOWN;

	return (is & EXA_CELL_TAG) == EXA_SET ? (struct exa_set *)(is & ~EXA_CELL_TAG) : NULL;
}

/* Is this wish about what @is, the word of a descriptor, says? */
static bool about(const struct exa_interest *interest, uintptr_t is)
{
	const struct exa_entry *entry = (const struct exa_entry *)is;

	if (exa_cell_is_entry(is))
		return interest->entry == entry && interest->generation == entry->generation;
	return (is & EXA_CELL_TAG) == EXA_WAITED && !interest->entry &&
	       interest->serial == is >> EXA_WAITED_SERIAL;
}

static void drop(struct exa_set *set, unsigned int i)
{
	store(&set->interests[i].mark, 0);	/* whoever has just read it tells nobody */
	set->interests[i] = set->interests[--set->count];
	store(&set->interests[set->count].mark, 0);
}

static void take_out(struct exa_set *set, int fd, uintptr_t is)
{
	unsigned int i;

	for (i = 0; i < set->count; i++) {
		if (set->interests[i].fd != fd || !about(&set->interests[i], is))
			continue;
		drop(set, i);
		return;
	}
}

/* Of attachments that are over: their places may be used again */
static void tidy_up(struct exa_set *set)
{
	unsigned int i = 0;

	while (i < set->count) {
		const struct exa_interest *interest = &set->interests[i];

		if (interest->entry && interest->entry->generation != interest->generation)
			drop(set, i);
		else
			i++;
	}
}

static void put_in(struct exa_set *set, int fd, uintptr_t is, const struct epoll_event *event)
{
	struct exa_interest *interest;

	if (set->count == EXA_WATCHED)
		tidy_up(set);
	if (set->count == EXA_WATCHED) {
		set->shared = true;	/* too many to look at one by one: the kernel's alone */
		return;
	}
	last_mark++;
	interest = &set->interests[set->count++];
	*interest = (struct exa_interest){
		.fd = fd, .event = *event, .mark = (u64)last_mark << 32 | EXA_NEVER_TOLD,
	};
	if (exa_cell_is_entry(is)) {
		interest->entry = (struct exa_entry *)is;
		interest->generation = interest->entry->generation;
	} else {
		interest->serial = is >> EXA_WAITED_SERIAL;
	}
}

/* One-shots and exclusive wishes are the kernel's: it ends them, or chooses who is told */
bool exa_interest_is_kernels(const struct exa_interest *interest)
{
	return interest->event.events & (EPOLLONESHOT | EPOLLEXCLUSIVE);
}

/* The kernel has done it; @event as the caller gave it */
void exa_set_control(int epfd, int operation, int fd, const struct epoll_event *event)
{
	struct exa_set *set = exa_set_of(epfd);
	uintptr_t *cell = set ? exa_cell_make(fd) : NULL, is;
	struct exa_kept kept;

	if (!cell || !exa_mine())
		return;
	if (exa_may_be_set(fd))
		store(&set->nested, true);	/* the sockets in that one are not its own wishes */
	if (!exa_may_attach(fd))
		return;
	exa_lock(&kept);
	is = load(cell);
	if (is == EXA_UNKNOWN || is == EXA_ENABLED) {
		is = exa_waited(fd, ++last_serial);
		store_release(cell, is);
	}
	change(set);
	take_out(set, fd, is);
	if (operation != EPOLL_CTL_DEL && event->events & EPOLLIN &&
	    (exa_cell_is_entry(is) || (is & EXA_CELL_TAG) == EXA_WAITED))
		put_in(set, fd, is, event);
	change(set);
	exa_unlock(&kept);
}

/* A socket whose word said @is has been attached: wishes that waited for it. Locked. */
void exa_sets_attached(uintptr_t is, struct exa_entry *entry)
{
	struct exa_set *set;
	unsigned int i;

	if ((is & EXA_CELL_TAG) != EXA_WAITED)
		return;
	for (set = sets; set; set = set->next) {
		for (i = 0; set->fds && i < set->count; i++) {
			struct exa_interest *interest = &set->interests[i];

			if (!about(interest, is))
				continue;
			change(set);
			interest->entry = entry;
			interest->generation = entry->generation;
			change(set);
		}
	}
}

/* Before a fork: from now on another process may change the sets there are */
void exa_sets_share(void)
{
	struct exa_set *set;

	for (set = load_acquire(&sets); set; set = set->next)
		store(&set->shared, true);
}

/* In a child: the sets are its parent's */
void exa_sets_forget(void)
{
	struct exa_set *set;

	for (set = sets; set; set = set->next) {
		strange |= set->fds;
		set->fds = 0;
		set->count = 0;
		set->version = 0;
	}
}

/*
 * What the set wants of sockets that are attached, and the version that is true of.
 * False: not known, or changing.
 */
bool exa_set_read(struct exa_set *set, struct exa_interest *interests, unsigned int *count,
		  u32 *version)
{
	unsigned int i, all;

	*version = load_acquire(&set->version);
	if (*version & 1 || load(&set->shared))
		return false;
	all = load(&set->count);
	*count = 0;
	for (i = 0; i < all && i < EXA_WATCHED; i++)
		if (load(&set->interests[i].entry))
			memcpy(&interests[(*count)++], &set->interests[i], sizeof(*interests));
	return exa_set_is(set, *version);
}

bool exa_set_is(const struct exa_set *set, u32 version)
{
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	return load(&set->version) == version && !load(&set->shared);
}

/*
 * The edge at @head is the caller's to tell: false if another thread had it, or the wish
 * is not what it was.
 */
bool exa_set_tell(struct exa_set *set, const struct exa_interest *interest, u32 head)
{
	u64 mark = interest->mark, told = (mark & ~(u64)UINT32_MAX) | head;
	unsigned int i;

	for (i = 0; mark && i < EXA_WATCHED; i++)
		if (load(&set->interests[i].mark) == mark)
			return swap_if(&set->interests[i].mark, &mark, told);
	return false;
}
