// SPDX-License-Identifier: GPL-2.0-only
/*
 * Receiving one datagram: a look, then spinning for a while, then sleeping in the
 * kernel. The caller's own call is what the kernel gets to see, in every case.
 */

#include <limits.h>
#include <pthread.h>
#include <sys/time.h>

#include "libexasock.h"

#define LOOKS_PER_CLOCK	32
/* A sleep that begins this much late is not noticed: the kernel counts in ticks */
#define UNNOTICED_NS	1000000ULL

/* The call as it was made, with other flags */
ssize_t exa_receive_native(const struct exa_receive *receive, int flags)
{
	void *buffer = receive->iov->iov_base;
	size_t length = receive->iov->iov_len;
	struct msghdr msg = {
		.msg_iov = (struct iovec *)receive->iov,
		.msg_iovlen = receive->iovs,
	};

	switch (receive->call) {
	case EXA_RECVFROM:
		return real(recvfrom)(receive->fd, buffer, length, flags, receive->name,
				      receive->namelen);
	case EXA_RECVMSG:
		return real(recvmsg)(receive->fd, receive->msg, flags);
	case EXA_READ:
		if (!flags)
			return real(read)(receive->fd, buffer, length);
		break;
	case EXA_READV:
		if (!flags)
			return real(readv)(receive->fd, receive->iov, (int)receive->iovs);
		return real(recvmsg)(receive->fd, &msg, flags);
	case EXA_RECV:
		break;
	}
	return real(recv)(receive->fd, buffer, length, flags);
}

/* SO_RCVTIMEO */
static u64 timeout_of(int fd)
{
	struct timeval timeout = {};
	socklen_t size = sizeof(timeout);

	if (real(getsockopt)(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, &size) ||
	    (!timeout.tv_sec && !timeout.tv_usec))
		return EXA_FOREVER;
	return (u64)timeout.tv_sec * 1000000000 + (u64)timeout.tv_usec * 1000;
}

/* Asleep, with a timeout of which a good part is over */
static ssize_t sleep_rest(const struct exa_receive *receive, u64 until)
{
	struct pollfd waiting = { .fd = receive->fd, .events = POLLIN | POLLRDHUP };
	ssize_t got;

	for (;;) {
		u64 now = exa_now(), left = now < until ? until - now : 0;
		struct timespec timeout = {
			.tv_sec = (time_t)(left / 1000000000),
			.tv_nsec = (long)(left % 1000000000),
		};
		int ready = real(ppoll)(&waiting, 1, &timeout, NULL);

		if (ready < 0)
			return -1;
		/* shut down: the call itself returns at once, with what it has to say */
		if (waiting.revents & POLLRDHUP)
			return exa_receive_native(receive, receive->flags);
		got = exa_receive_native(receive, receive->flags | MSG_DONTWAIT);
		if (got >= 0 || errno != EAGAIN || !ready)
			return got;
	}
}

/* The attachment is over: the kernel's call, of what was kept for us when it was closed */
static ssize_t go_on(const struct exa_entry *entry, const struct exa_receive *receive)
{
	struct exa_receive again = *receive;
	int ghost = load_acquire(&entry->ghost);

	if (ghost)
		again.fd = ghost;
	return exa_receive_native(&again, receive->flags);
}

/* A call that waits; @before: signals handled until it began; @asleep: among the sleepers */
struct waiting {
	struct exa_entry *entry;
	const struct exa_receive *receive;
	struct exa_signals before;
	u32 generation;
	u64 timeout;
	bool all;
	bool asleep;
};

static ssize_t look_and_sleep(struct waiting *waiting)
{
	const struct exa_signals before = waiting->before;
	const struct exa_receive *receive = waiting->receive;
	u64 spin = exa_environment()->spin_ns, timeout = waiting->timeout, start, spun = 0;
	struct exa_entry *entry = waiting->entry;
	bool all = waiting->all;
	int kept = errno, i;
	ssize_t got;

	if (spin > timeout)
		spin = timeout;
	start = exa_now();
	while (spun < spin) {
		for (i = 0; i < LOOKS_PER_CLOCK; i++) {
			if (load_acquire(&entry->generation) != waiting->generation)
				return go_on(entry, receive);
			switch (exa_look(entry, receive, &got)) {
			case EXA_LOOK_GOT:
				if (got < 0 && errno == EBADF && load_acquire(&entry->ghost))
					return go_on(entry, receive);
				if (got >= 0)
					errno = kept;
				return got;
			case EXA_LOOK_OVER:
				return go_on(entry, receive);
			case EXA_LOOK_NOTHING:
				break;
			}
			/* with a timeout a sleep is not restarted whatever the handler's flags */
			if (timeout != EXA_FOREVER ? exa_signals.handled != before.handled :
			    exa_signals.interrupting != before.interrupting) {
				errno = EINTR;
				if (!all)
					return -1;
				got = exa_receive_native(receive, receive->flags | MSG_DONTWAIT);
				if (got < 0 && errno == EAGAIN)
					errno = EINTR;
				return got;
			}
			__builtin_ia32_pause();
		}
		exa_testcancel();
		spun = exa_now() - start;
	}
	if (spin < timeout) {
		__atomic_add_fetch(&entry->sleepers, 1, __ATOMIC_SEQ_CST);
		waiting->asleep = true;
	}
	exa_hand_over(entry);
	if (spin == timeout)
		return exa_receive_native(receive, receive->flags | MSG_DONTWAIT);
	if (timeout != EXA_FOREVER && spun > UNNOTICED_NS)
		return sleep_rest(receive, start + timeout);
	return exa_receive_native(receive, receive->flags);
}

static void goes(void *of)
{
	struct waiting *waiting = of;

	if (waiting->asleep)
		__atomic_sub_fetch(&waiting->entry->sleepers, 1, __ATOMIC_SEQ_CST);
	exa_waiter_goes(waiting->entry);
}

/* There was nothing, and the call does not wait */
static EXA_ATTRIBUTE(noinline) ssize_t receive_nothing(struct exa_entry *entry)
{
	exa_look_ends(entry);
	errno = EAGAIN;
	return -1;
}

/* There was nothing */
static ssize_t wait_for(struct exa_entry *entry, const struct exa_receive *receive,
			struct exa_signals before, u32 generation)
{
	struct waiting waiting = { entry, receive, before, generation, EXA_FOREVER, false, false };
	bool all = entry->stream && receive->flags & MSG_WAITALL;
	ssize_t got;
	int mode;

	mode = exa_nonblocking(entry, receive->fd);
	if (mode < 0)
		return exa_receive_native(receive, receive->flags);
	if (mode && !all)
		return receive_nothing(entry);
	waiting.timeout = timeout_of(receive->fd);
	waiting.all = all;
	/* what is there is not all of it: how long to wait for the rest the kernel knows */
	if (all && (mode || waiting.timeout != EXA_FOREVER))
		return exa_receive_native(receive, receive->flags);
	exa_waiter_comes(entry);	/* for who closes the descriptor meanwhile */
	pthread_cleanup_push(goes, &waiting);
	got = look_and_sleep(&waiting);
	pthread_cleanup_pop(1);
	return got;
}

ssize_t exa_receive(struct exa_entry *entry, const struct exa_receive *receive)
{
	u32 generation = load_acquire(&entry->generation);
	struct exa_signals before = exa_signals;
	ssize_t got;

	exa_testcancel();
	switch (exa_look(entry, receive, &got)) {
	case EXA_LOOK_GOT:
		return got;
	case EXA_LOOK_OVER:
		return exa_receive_native(receive, receive->flags);
	case EXA_LOOK_NOTHING:
		break;
	}
	if (receive->flags & MSG_DONTWAIT)
		return receive_nothing(entry);
	return wait_for(entry, receive, before, generation);
}

/* The entry through which this call can be served, or NULL: the kernel's alone */
static struct exa_entry *receiver(int fd, int flags, bool plain)
{
	struct exa_entry *entry = exa_find(fd);
	int known;

	if (!entry)
		return NULL;
	known = entry->stream ? EXA_STREAM_FLAGS : EXA_RECEIVE_FLAGS;
	if (likely(plain && !(flags & ~known)))
		return entry;
	exa_hand_over(entry);
	return NULL;
}

/* Room of a vector, or SIZE_MAX: the kernel judges */
static size_t room(const struct iovec *iov, size_t iovs)
{
	size_t sum = 0, i;

	if (iovs > IOV_MAX || (iovs && exa_nowhere(iov)))
		return SIZE_MAX;
	for (i = 0; i < iovs; i++) {
		if (iov[i].iov_len > SSIZE_MAX - sum)
			return SIZE_MAX;
		sum += iov[i].iov_len;
	}
	return sum;
}

/* Can @msg be filled here, or has the kernel to say what is wrong with it? */
bool exa_receivable_msg(const struct msghdr *msg)
{
	return !exa_nowhere(msg) && room(msg->msg_iov, msg->msg_iovlen) != SIZE_MAX &&
	       (!msg->msg_name || (!exa_nowhere(msg->msg_name) && (int)msg->msg_namelen >= 0)) &&
	       (!msg->msg_controllen || !msg->msg_control || !exa_nowhere(msg->msg_control));
}

EXPORT ssize_t recv(int fd, void *buffer, size_t length, int flags)
{
	struct exa_entry *entry = receiver(fd, flags, length <= SSIZE_MAX);
	struct iovec iov = { buffer, length };
	struct exa_receive receive = {
		.call = EXA_RECV, .fd = fd, .flags = flags, .iov = &iov, .iovs = 1,
	};
	ssize_t got;

	got = entry ? exa_receive(entry, &receive) : real(recv)(fd, buffer, length, flags);
	exa_trace("(%d, %zu bytes, %#x) = %zd", fd, length, flags, got);
	return got;
}

EXPORT ssize_t recvfrom(int fd, void *buffer, size_t length, int flags, struct sockaddr *name,
			socklen_t *namelen)
{
	bool plain = length <= SSIZE_MAX &&
		     (!name || (!exa_nowhere(name) && !exa_nowhere(namelen) && (int)*namelen >= 0));
	struct exa_entry *entry = receiver(fd, flags, plain);
	struct iovec iov = { buffer, length };
	struct exa_receive receive = {
		.call = EXA_RECVFROM, .fd = fd, .flags = flags, .iov = &iov, .iovs = 1,
		.name = name, .namelen = namelen,
	};
	ssize_t got;

	got = entry ? exa_receive(entry, &receive) :
		      real(recvfrom)(fd, buffer, length, flags, name, namelen);
	exa_trace("(%d, %zu bytes, %#x) = %zd", fd, length, flags, got);
	return got;
}

EXPORT ssize_t recvmsg(int fd, struct msghdr *msg, int flags)
{
	struct exa_entry *entry = exa_find(fd);
	ssize_t got;

	if (entry)
		entry = receiver(fd, flags, exa_receivable_msg(msg));
	if (entry) {
		struct exa_receive receive = exa_receive_of_msg(fd, msg, flags);

		got = exa_receive(entry, &receive);
	} else {
		got = real(recvmsg)(fd, msg, flags);
	}
	exa_trace("(%d, %#x) = %zd", fd, flags, got);
	return got;
}

EXPORT ssize_t read(int fd, void *buffer, size_t length)
{
	struct exa_entry *entry = receiver(fd, 0, length && length <= SSIZE_MAX);
	struct iovec iov = { buffer, length };
	struct exa_receive receive = { .call = EXA_READ, .fd = fd, .iov = &iov, .iovs = 1 };
	ssize_t got;

	if (likely(!entry))
		return real(read)(fd, buffer, length);
	got = exa_receive(entry, &receive);
	exa_trace("(%d, %zu bytes) = %zd", fd, length, got);
	return got;
}

EXPORT ssize_t readv(int fd, const struct iovec *iov, int iovs)
{
	struct exa_entry *entry = exa_find(fd);
	ssize_t got;

	if (entry) {
		/* of no room nothing is read, and of a bad vector neither */
		size_t sum = iovs > 0 ? room(iov, (size_t)iovs) : 0;

		entry = receiver(fd, 0, sum && sum != SIZE_MAX);
	}
	if (likely(!entry))
		return real(readv)(fd, iov, iovs);

	struct exa_receive receive = {
		.call = EXA_READV, .fd = fd, .iov = iov, .iovs = (size_t)iovs,
	};

	got = exa_receive(entry, &receive);
	exa_trace("(%d, %d buffers) = %zd", fd, iovs, got);
	return got;
}

EXPORT __alias(read) ssize_t __read(int fd, void *buffer, size_t length);
