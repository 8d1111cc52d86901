// SPDX-License-Identifier: GPL-2.0-only
/*
 * Calls that make a socket, or ask or change something about one: the kernel's, but
 * nothing may be held meanwhile that they could concern.
 */

#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>

#include "libexasock.h"

/* What a value of SO_EXA_ATE means that names no engine */
#define ATE_NONE		(-1)

/* Before a call that looks at or changes what the socket has or does */
static void kernels_turn(int fd)
{
	struct exa_entry *entry = exa_known(fd);

	if (!entry)
		return;
	exa_hand_over(entry);
	if (entry->stream)
		exa_flush(entry);
}

/* After a call that may have changed why it was refused */
static void changed(int fd)
{
	struct exa_entry *entry = exa_known(fd);
	unsigned int i;

	if (!entry) {
		exa_ask_again(fd);
		return;
	}
	for (i = 0; i < EXA_REFUSALS; i++)
		store(&entry->refused[i].skip, 0);
}

EXPORT int socket(int domain, int type, int protocol)
{
	int fd = real(socket)(domain, type, protocol);

	/* closed in a way we did not see, its number may still say something */
	if (fd >= 0)
		exa_forget(fd);
	return fd;
}

EXPORT int accept(int fd, struct sockaddr *name, socklen_t *namelen)
{
	int accepted = real(accept)(fd, name, namelen);

	if (accepted >= 0)
		exa_forget(accepted);
	return accepted;
}

EXPORT int accept4(int fd, struct sockaddr *name, socklen_t *namelen, int flags)
{
	int accepted = real(accept4)(fd, name, namelen, flags);

	if (accepted >= 0)
		exa_forget(accepted);
	return accepted;
}

EXPORT int bind(int fd, const struct sockaddr *name, socklen_t namelen)
{
	int result;

	kernels_turn(fd);
	result = real(bind)(fd, name, namelen);
	changed(fd);
	return result;
}

EXPORT int connect(int fd, const struct sockaddr *name, socklen_t namelen)
{
	int result;

	kernels_turn(fd);
	result = real(connect)(fd, name, namelen);
	changed(fd);
	return result;
}

EXPORT int shutdown(int fd, int how)
{
	kernels_turn(fd);
	return real(shutdown)(fd, how);
}

EXPORT int ioctl(int fd, unsigned long request, ...)
{
	void *argument;
	va_list list;
	int result;

	va_start(list, request);
	argument = va_arg(list, void *);
	va_end(list);
	if (unlikely(fd >= 0 && fd == load(&exa_context.fd))) {
		errno = EBADF;
		return -1;
	}
	kernels_turn(fd);
	result = real(ioctl)(fd, request, argument);
	if (request == FIONBIO)
		exa_mode_changed(fd);
	return result;
}

/* Is it a socket at all? errno as the kernel says */
static bool is_socket(int fd)
{
	socklen_t size = sizeof(int);
	int type;

	return !real(getsockopt)(fd, SOL_SOCKET, SO_TYPE, &type, &size);
}

static int refuse(int error)
{
	errno = error;
	return -1;
}

static int no_accel(int fd, bool off)
{
	struct exa_entry *entry = exa_known(fd);
	uintptr_t *cell = exa_cell_make(fd), is, becomes = off ? EXA_DISABLED : EXA_ENABLED;

	if (!cell)
		return 0;	/* beyond the table: native anyway */
	if (!exa_mine())
		return 0;	/* a child that shares our memory, not our descriptors */
	if (entry) {
		if (off)
			exa_entry_drop(entry, EXA_DISABLED);
		return 0;
	}
	is = load(cell);
	if (!off && (is == EXA_NATIVE || (is & EXA_CELL_TAG) == EXA_WAITED))
		return 0;
	if (!exa_cell_counts(is))
		swap_if(cell, &is, becomes);
	return 0;
}

/* No card that is known has such an engine: the connection would be refused where it is made */
static int set_engine(const void *value, socklen_t size)
{
	int engine;

	if (size < sizeof(engine))
		return refuse(EINVAL);
	if (exa_nowhere(value))
		return refuse(EFAULT);
	memcpy(&engine, value, sizeof(engine));
	if (engine == ATE_NONE)
		return 0;
	if (engine < 0)
		return refuse(EINVAL);
	exa_warn("SO_EXA_ATE %d: the card has no TCP engine", engine);
	return refuse(EOPNOTSUPP);
}

static int set_own(int fd, int name, const void *value, socklen_t size)
{
	int on;

	if (!is_socket(fd))
		return -1;
	switch (name) {
	case SO_EXA_NO_ACCEL:
		if (size < sizeof(on))
			return refuse(EINVAL);
		if (exa_nowhere(value))
			return refuse(EFAULT);
		memcpy(&on, value, sizeof(on));
		return no_accel(fd, on);
	case SO_EXA_MCAST_LISTEN:
		exa_warn("SO_EXA_MCAST_LISTEN is not supported: join the group");
		break;
	case SO_EXA_ATE:
		return set_engine(value, size);
	}
	return refuse(ENOPROTOOPT);
}

static int get_own(int fd, int name, void *value, socklen_t *size)
{
	const uintptr_t *cell;
	uintptr_t is;
	int off;

	if (!is_socket(fd))
		return -1;
	if (name != SO_EXA_NO_ACCEL)
		return refuse(ENOPROTOOPT);
	if (exa_nowhere(size) || exa_nowhere(value))
		return refuse(EFAULT);
	if (*size < sizeof(off))
		return refuse(EINVAL);
	cell = exa_cell(fd);
	is = cell ? load(cell) : EXA_UNKNOWN;
	off = is == EXA_DISABLED || (is == EXA_UNKNOWN && exa_environment()->default_disable);
	memcpy(value, &off, sizeof(off));
	*size = sizeof(off);
	return 0;
}

EXPORT int setsockopt(int fd, int level, int name, const void *value, socklen_t size)
{
	int result;

	if (unlikely(level == SOL_EXASOCK))
		return set_own(fd, name, value, size);
	kernels_turn(fd);
	result = real(setsockopt)(fd, level, name, value, size);
	changed(fd);
	return result;
}

EXPORT int getsockopt(int fd, int level, int name, void *value, socklen_t *size)
{
	if (unlikely(level == SOL_EXASOCK))
		return get_own(fd, name, value, size);
	return real(getsockopt)(fd, level, name, value, size);
}

EXPORT __alias(connect) int __connect(int fd, const struct sockaddr *name, socklen_t namelen);
