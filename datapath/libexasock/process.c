// SPDX-License-Identifier: GPL-2.0-only
/*
 * Whose state this is. A forked child has a copy of everything, and must forget it: the
 * rings are its parent's. It is told by a page that the kernel empties in every child
 * with memory of its own, however it was made. A child that shares our memory (vfork,
 * posix_spawn) has our page, but another pid, and must leave the table alone.
 */

#include <pthread.h>
#include <sys/mman.h>

#include "libexasock.h"

#define PAGE	4096

static struct exa_life nobody;
struct exa_life *exa_life = &nobody;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bool disabled;

/* Everything is the parent's: begin anew. Nobody else runs in this process yet. */
static void child(void)
{
	int kept = errno;

	if (exa_life == &nobody || load(&exa_life->pid))
		return;
	pthread_mutex_init(&lock, NULL);
	exa_table_clear();
	exa_looking_forget();
	exa_entries_forget();
	exa_sets_forget();
	exa_context_forget();
	disabled = false;
	store(&exa_life->pid, getpid());
	errno = kept;
}

/* Before the lock is taken for the first time: a child must be able to tell that it was */
void exa_life_start(void)
{
	struct exa_life *life, *none = &nobody;

	if (likely(load_acquire(&exa_life) != &nobody) || exa_disabled())
		return;
	life = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (life == MAP_FAILED)
		return exa_disable("no memory");
	if (madvise(life, PAGE, MADV_WIPEONFORK)) {
		munmap(life, PAGE);
		return exa_disable("this kernel cannot tell a child");
	}
	life->pid = getpid();
	if (!swap_if(&exa_life, &none, life))
		munmap(life, PAGE);
}

/* What is known only while no other process may change it is not known any more */
static void before(void)
{
	exa_sets_share();
	exa_entries_share();
}

/*
 * Not when first needed, which may be in a signal handler; or in a child that shares our
 * memory, and would leave its own number in the page.
 */
static void __attribute__((constructor)) watch_forks(void)
{
	exa_life_start();
	pthread_atfork(before, NULL, child);
}

/* May this process change the table? Not if it only borrows its memory. */
bool exa_mine(void)
{
	pid_t pid = load(&exa_life->pid);

	if (exa_life == &nobody)
		return true;
	if (!pid) {
		child();
		return true;
	}
	return pid == getpid();
}

/*
 * Signals wait meanwhile: close() may be called by a handler that interrupted the holder
 * of the lock. So does cancellation, which would leave it locked.
 */
void exa_lock(struct exa_kept *kept)
{
	sigset_t all;

	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, &kept->mask);
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &kept->cancel);
	pthread_mutex_lock(&lock);
}

void exa_unlock(const struct exa_kept *kept)
{
	pthread_mutex_unlock(&lock);
	pthread_setcancelstate(kept->cancel, NULL);
	sigprocmask(SIG_SETMASK, &kept->mask, NULL);
}

/* No more new entries in this process */
void exa_disable(const char *why)
{
	if (!exchange(&disabled, true))
		exa_debug("no more sockets are accelerated: %s", why);
}

bool exa_disabled(void)
{
	return load(&disabled);
}
