// SPDX-License-Identifier: GPL-2.0-only
/*
 * What is known of each descriptor. Read without a lock; words that are entries change
 * under it. Chunks come when needed and stay.
 */

#include <sys/mman.h>

#include "libexasock.h"

uintptr_t *exa_table[EXA_TABLE_SIZE];

/* The word of a descriptor, or NULL: beyond all bounds, or no memory */
uintptr_t *exa_cell_make(int fd)
{
	uintptr_t *chunk, *none = NULL;
	uintptr_t *cell = exa_cell(fd);

	if (cell || (unsigned int)fd >> (2 * EXA_TABLE_BITS))
		return cell;
	chunk = mmap(NULL, EXA_TABLE_SIZE * sizeof(*chunk), PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (chunk == MAP_FAILED)
		return NULL;
	if (!swap_if(&exa_table[(unsigned int)fd >> EXA_TABLE_BITS], &none, chunk))
		munmap(chunk, EXA_TABLE_SIZE * sizeof(*chunk));
	return exa_cell(fd);
}

/* Call @visit for every word from @first to @last that says something */
void exa_table_each(unsigned int first, unsigned int last, void (*visit)(int fd, uintptr_t *cell))
{
	unsigned int at = first;

	while (at <= last && !(at >> (2 * EXA_TABLE_BITS))) {
		uintptr_t *chunk = load_acquire(&exa_table[at >> EXA_TABLE_BITS]);
		unsigned int end = at | (EXA_TABLE_SIZE - 1);

		for (; chunk && at <= last && at <= end; at++)
			if (load(&chunk[at & (EXA_TABLE_SIZE - 1)]))
				visit((int)at, &chunk[at & (EXA_TABLE_SIZE - 1)]);
		at = end + 1;
	}
}

static void clear_visited(int fd, uintptr_t *cell)
{
	(void)fd;
	switch (*cell & EXA_CELL_TAG) {
	case EXA_SET:
		*cell = EXA_UNKNOWN;
		break;
	case EXA_NATIVE:
	case EXA_DISABLED:
		break;
	default:
		*cell = EXA_ENABLED;
	}
}

/* In a child: the same files, but no attachments */
void exa_table_clear(void)
{
	exa_table_each(0, UINT32_MAX, clear_visited);
}

/* Locked */
static void put(uintptr_t is)
{
	if (exa_cell_is_entry(is))
		exa_entry_put((struct exa_entry *)is);
	else if ((is & EXA_CELL_TAG) == EXA_SET)
		exa_set_put((struct exa_set *)(is & ~EXA_CELL_TAG));
}

/* Locked */
static void get(uintptr_t is)
{
	if (exa_cell_is_entry(is))
		((struct exa_entry *)is)->fds++;
	else if ((is & EXA_CELL_TAG) == EXA_SET)
		((struct exa_set *)(is & ~EXA_CELL_TAG))->fds++;
}

/* The number is being closed, or names something new */
void exa_forget(int fd)
{
	uintptr_t *cell = exa_cell(fd), is;
	struct exa_kept kept;

	if (!cell)
		return;
	is = load(cell);
	/*
	 * A vfork child closes numbers of its own, the words are its parent's. Of a native file
	 * that is all the same: its parent finds out once more.
	 */
	if (!is || (is != EXA_NATIVE && !exa_mine()))
		return;
	if (!exa_cell_counts(is)) {
		swap_if(cell, &is, (uintptr_t)EXA_UNKNOWN);
		return;
	}
	exa_lock(&kept);
	is = exchange(cell, EXA_UNKNOWN);
	if (exa_cell_is_entry(is))
		exa_entry_closing((struct exa_entry *)is, fd);
	put(is);
	exa_unlock(&kept);
}

static void forget_visited(int fd, uintptr_t *cell)
{
	(void)cell;
	exa_forget(fd);
}

void exa_forget_range(unsigned int first, unsigned int last)
{
	exa_table_each(first, last, forget_visited);
}

/* @to has become another number of @from */
void exa_copy_cell(int from, int to)
{
	uintptr_t *source = exa_cell(from), *target, is;
	int error = errno;
	struct exa_kept kept;

	exa_forget(to);
	if (!source || !load(source) || !exa_mine())
		return;
	target = exa_cell_make(to);
	if (target) {
		exa_lock(&kept);
		is = load(source);
		get(is);
		store_release(target, is);
		exa_unlock(&kept);
	}
	errno = error;
}
