// SPDX-License-Identifier: GPL-2.0-only
/*
 * The message pump. A doorbell is a REGION_WRITE that the guest waits for, so
 * its way is the lab's hot path: wait, read, transmit, reply, with no Python
 * in between.
 *
 * A message is read header first, then its payload, never past its end: the
 * kernel gives the descriptors of a later message to whoever reads into it.
 * A message that was not served is left in data, so that Python can go on with
 * it exactly where the pump stopped.
 */
#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"
#include "pump_api.h"

#define MAX_FDS		8
#define READ		9
#define WRITE		10
#define TYPE_MASK	0xfU
#define NO_REPLY	0x10U
#define REPLY		1U
#define BUDGET		64

struct header {
	uint16_t id;
	uint16_t command;
	uint32_t size;
	uint32_t flags;
	uint32_t error;
};

struct access {
	uint64_t offset;
	uint32_t region;
	uint32_t count;
};

/* A message is a header, an access and, if it is a write, the value. */
#define READ_SIZE	(sizeof(struct header) + sizeof(struct access))
#define WRITE_SIZE	(READ_SIZE + sizeof(uint32_t))

_Static_assert(sizeof(struct header) == 16, "the protocol's header");
_Static_assert(sizeof(struct access) == 16, "the protocol's access");
_Static_assert(WRITE_SIZE == sizeof(((struct exa_pump *)0)->data), "room for a write");
_Static_assert(WRITE_SIZE == sizeof(((struct exa_pump *)0)->reply), "room for a read's reply");

static int finish(struct exa_pump *pump, enum exa_pump_result result)
{
	pump->result = result;
	return result;
}

static int broken(struct exa_pump *pump, int error)
{
	while (pump->fd_count)
		close(pump->fds[--pump->fd_count]);
	pump->used = 0;
	pump->error = error;
	return finish(pump, EXA_PUMP_BROKEN);
}

/* Keeps the descriptors of one recvmsg; false when they are too many. */
static bool keep_fds(struct exa_pump *pump, struct msghdr *got)
{
	struct cmsghdr *part;
	bool fit = !(got->msg_flags & MSG_CTRUNC);

	for (part = CMSG_FIRSTHDR(got); part; part = CMSG_NXTHDR(got, part)) {
		size_t count, i;

		if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
			continue;
		count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (i = 0; i < count; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof(fd));
			if (pump->fd_count < MAX_FDS) {
				pump->fds[pump->fd_count++] = fd;
			} else {
				close(fd);
				fit = false;
			}
		}
	}
	return fit;
}

/* Reads `size` bytes of the message: 1 when they are there, 0 not yet, -1 never. */
static int fill(struct exa_pump *pump, uint32_t size)
{
	while (pump->used < size) {
		union {
			struct cmsghdr align;
			char room[CMSG_SPACE(MAX_FDS * sizeof(int))];
		} control;
		struct iovec part = { pump->data + pump->used, size - pump->used };
		struct msghdr got = {
			.msg_iov = &part, .msg_iovlen = 1,
			.msg_control = &control, .msg_controllen = sizeof(control),
		};
		ssize_t count = recvmsg(pump->fd, &got, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

		if (count < 0) {
			if (errno == EINTR)
				continue;
			if (errno == EAGAIN || errno == EWOULDBLOCK)
				return 0;
			broken(pump, errno);
			return -1;
		}
		if (got.msg_controllen && !keep_fds(pump, &got)) {
			broken(pump, EPROTO);
			return -1;
		}
		if (count == 0) {
			broken(pump, 0);
			finish(pump, EXA_PUMP_END);
			return -1;
		}
		pump->used += (uint32_t)count;
	}
	return 1;
}

static int hand_over(struct exa_pump *pump)
{
	pump->handed++;
	return finish(pump, EXA_PUMP_HANDED);
}

/* Whether the header is one that a hot message may have. */
static bool promising(const struct exa_pump *pump, const struct header *header)
{
	if (pump->fd_count || header->flags & TYPE_MASK)
		return false;
	return (header->command == WRITE && header->size == WRITE_SIZE) ||
	       (header->command == READ && header->size == READ_SIZE);
}

/* Sends what is left of the reply: true when all of it went. */
static bool send_reply(struct exa_pump *pump)
{
	while (pump->reply_sent < pump->reply_size) {
		ssize_t count = send(pump->fd, pump->reply + pump->reply_sent,
				     pump->reply_size - pump->reply_sent,
				     MSG_DONTWAIT | MSG_NOSIGNAL);

		if (count >= 0) {
			pump->reply_sent += (uint32_t)count;
		} else if (errno == EAGAIN || errno == EWOULDBLOCK) {
			finish(pump, EXA_PUMP_STALLED);
			return false;
		} else if (errno != EINTR) {
			broken(pump, errno);
			return false;
		}
	}
	return true;
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

static void note_access(struct exa_pump *pump, uint32_t offset, uint32_t value, bool write)
{
	struct exa_pump_access *entry;

	if (!pump->log)
		return;
	entry = &pump->log[pump->logged++ % pump->log_room];
	entry->ns = now_ns();
	entry->offset = offset;
	entry->value = value;
	entry->write = write;
}

/* Serves the whole message in data. False: Python has to, or the reply did not go. */
static bool answer(struct exa_pump *pump)
{
	struct header header;
	struct access access;
	uint32_t value = 0;
	bool write;

	memcpy(&header, pump->data, sizeof(header));
	memcpy(&access, pump->data + sizeof(header), sizeof(access));
	write = header.command == WRITE;
	if (write)
		memcpy(&value, pump->data + READ_SIZE, sizeof(value));
	if (pump->fd_count || access.region || access.count != sizeof(value) ||
	    access.offset > pump->window - sizeof(value)) {
		hand_over(pump);
		return false;
	}
	if (write ? !exa_register_write(pump->card, (uint32_t)access.offset, value) :
		    !exa_register_read(pump->card, (uint32_t)access.offset, &value)) {
		hand_over(pump);
		return false;
	}
	pump->used = 0;
	note_access(pump, (uint32_t)access.offset, value, write);
	if (write)
		pump->writes++;
	else
		pump->reads++;
	if (header.flags & NO_REPLY)
		return true;
	header.flags = REPLY;
	header.error = 0;
	header.size = write ? READ_SIZE : WRITE_SIZE;	/* the value goes the other way */
	memcpy(pump->reply, &header, sizeof(header));
	memcpy(pump->reply + sizeof(header), &access, sizeof(access));
	memcpy(pump->reply + READ_SIZE, &value, sizeof(value));
	pump->reply_size = header.size;
	pump->reply_sent = 0;
	return send_reply(pump);
}

static bool serve(struct exa_pump *pump)
{
	struct exa_core *core = pump->card->core;
	bool done;

	core->hold_signals = true;
	done = answer(pump);
	exa_core_release_signals(core);
	return done;
}

/* After a served message: waits a moment for the next one. Like fill(). */
static int fill_soon(struct exa_pump *pump)
{
	uint64_t end = now_ns() + pump->spin_ns;
	int there;

	do {
		there = fill(pump, sizeof(struct header));
		if (there) {
			pump->caught += there > 0;
			return there;
		}
		__builtin_ia32_pause();
	} while (!pump->used && now_ns() < end);
	return 0;
}

/* Serves up to `budget` messages; the result is in the pump, too. */
int exa_pump_run(struct exa_pump *pump, uint32_t budget)
{
	bool served = false;

	for (; budget; budget--) {
		struct header header;
		int there = fill(pump, sizeof(header));

		if (!there && served && pump->spin_ns && !pump->used)
			there = fill_soon(pump);
		if (there < 0)
			return (int)pump->result;
		if (!there)
			return pump->used ? hand_over(pump) : finish(pump, EXA_PUMP_IDLE);
		memcpy(&header, pump->data, sizeof(header));
		if (!promising(pump, &header))
			return hand_over(pump);
		there = fill(pump, header.size);
		if (there < 0)
			return (int)pump->result;
		if (!there)
			return hand_over(pump);
		if (!serve(pump))
			return (int)pump->result;
		served = true;
	}
	return finish(pump, EXA_PUMP_BUSY);
}

/*
 * Like epoll_wait(), but the pumps' sockets are served here. Returns when
 * anything else is ready, or a pump has something for Python (its result says
 * what), or at the time-out (-1: none), or after a signal (0 events).
 */
int exa_pump_wait(struct exa_pump **pumps, uint32_t count, int epoll_fd, int timeout_ms,
		  struct exa_pump_event *events, uint32_t room)
{
	uint64_t end = timeout_ms > 0 ? now_ns() + (uint64_t)timeout_ms * 1000000U : 0;

	for (;;) {
		struct epoll_event ready[BUDGET];
		int i, got, kept = 0;

		got = epoll_wait(epoll_fd, ready, (int)(room < BUDGET ? room : BUDGET), timeout_ms);
		if (got < 0)
			return errno == EINTR ? 0 : -errno;
		for (i = 0; i < got; i++) {
			struct exa_pump *pump = NULL;
			uint32_t at;

			for (at = 0; at < count; at++)
				if (pumps[at]->fd == ready[i].data.fd)
					pump = pumps[at];
			/*
			 * One message, then epoll again: a guest's next one comes after
			 * the reply, so looking for it here would be in vain.
			 */
			if (pump && !pump->paused && ready[i].events == EPOLLIN &&
			    exa_pump_run(pump, pump->spin_ns ? BUDGET : 1) <= EXA_PUMP_BUSY)
				continue;
			events[kept].fd = ready[i].data.fd;
			events[kept].events = ready[i].events;
			kept++;
		}
		if (kept || !got)
			return kept;
		if (timeout_ms > 0) {
			uint64_t now = now_ns();

			if (now >= end)
				return 0;
			timeout_ms = (int)((end - now + 999999U) / 1000000U);
		} else if (!timeout_ms) {
			return 0;
		}
	}
}
