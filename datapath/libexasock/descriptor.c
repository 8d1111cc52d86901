// SPDX-License-Identifier: GPL-2.0-only
/*
 * Descriptors that come, go and are copied. The number our own context has is not the
 * application's: it is closed to it, and makes way where the application wants it.
 */

#include <linux/close_range.h>
#include <stdarg.h>
#include <sys/syscall.h>

#include "libexasock.h"

static bool is_context(int fd)
{
	return unlikely(fd >= 0 && fd == load(&exa_context.fd));
}

static int bad(void)
{
	errno = EBADF;
	return -1;
}

/* The application puts a file on this number, which it believes to be free */
static void make_way(int fd)
{
	int error = errno;
	struct exa_kept kept;

	if (!is_context(fd) || !exa_mine())
		return;
	exa_lock(&kept);
	if (is_context(fd))
		exa_context_move();
	exa_unlock(&kept);
	errno = error;
}

EXPORT int close(int fd)
{
	if (is_context(fd))
		return bad();
	exa_forget(fd);
	return real(close)(fd);
}

EXPORT int fclose(FILE *file)
{
	int kept = errno;

	/* the C library closes it without asking us; a stream in memory has none */
	exa_forget(fileno(file));
	errno = kept;
	return real(fclose)(file);
}

EXPORT int dup(int fd)
{
	int copy;

	if (is_context(fd))
		return bad();
	copy = real(dup)(fd);
	if (copy >= 0)
		exa_copy_cell(fd, copy);
	return copy;
}

EXPORT int dup2(int fd, int to)
{
	int copy;

	if (is_context(fd))
		return bad();
	if (fd == to)
		return real(dup2)(fd, to);
	make_way(to);
	copy = real(dup2)(fd, to);
	if (copy >= 0)
		exa_copy_cell(fd, copy);
	return copy;
}

EXPORT int dup3(int fd, int to, int flags)
{
	int copy;

	if (is_context(fd))
		return bad();
	make_way(to);
	copy = real(dup3)(fd, to, flags);
	if (copy >= 0)
		exa_copy_cell(fd, copy);
	return copy;
}

static int control(int fd, int command, void *argument)
{
	int result;

	if (is_context(fd))
		return bad();
	result = real(fcntl64)(fd, command, argument);
	if ((command == F_DUPFD || command == F_DUPFD_CLOEXEC) && result >= 0)
		exa_copy_cell(fd, result);
	if (command == F_SETFL)
		exa_mode_changed(fd);
	return result;
}

EXPORT int fcntl64(int fd, int command, ...)
{
	void *argument;
	va_list list;

	va_start(list, command);
	argument = va_arg(list, void *);
	va_end(list);
	return control(fd, command, argument);
}

/* A C library that has no such function may still run on a kernel that has the call */
static int kernel_close_range(unsigned int first, unsigned int last, int flags)
{
	if (real(close_range))
		return real(close_range)(first, last, flags);
	return (int)syscall(SYS_close_range, first, last, flags);
}

EXPORT int close_range(unsigned int first, unsigned int last, int flags)
{
	const int allowed = CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC;
	unsigned int context = (unsigned int)load(&exa_context.fd);
	int result = 0;

	if (first > last || flags & ~allowed || !exa_mine())
		return kernel_close_range(first, last, flags);
	if (flags & CLOSE_RANGE_UNSHARE)
		exa_disable("threads with descriptors of their own");
	if (flags & CLOSE_RANGE_CLOEXEC)
		return kernel_close_range(first, last, flags);
	exa_forget_range(first, last);
	if ((int)context < 0 || context < first || context > last)
		return kernel_close_range(first, last, flags);
	if (first < context)
		result = kernel_close_range(first, context - 1, flags);
	if (!result && last > context)
		result = kernel_close_range(context + 1, last, flags);
	return result;
}

EXPORT void closefrom(int low)
{
	unsigned int first = low < 0 ? 0 : (unsigned int)low;
	int context = load(&exa_context.fd);

	if (exa_mine()) {
		exa_forget_range(first, UINT32_MAX);
		for (; context >= (int)first; first++) {
			if (!close_range(first, (unsigned int)context, 0))
				first = (unsigned int)context;
			else if ((int)first != context)
				real(close)((int)first);
		}
	}
	if (real(closefrom))
		real(closefrom)((int)first);
	else
		kernel_close_range(first, UINT32_MAX, 0);
}

EXPORT int unshare(int flags)
{
	if (flags & CLONE_FILES && exa_mine())
		exa_disable("threads with descriptors of their own");
	return real(unshare)(flags);
}

EXPORT __alias(close) int __close(int fd);
EXPORT __alias(dup2) int __dup2(int fd, int to);
EXPORT __alias(fcntl64) int fcntl(int fd, int command, ...);
EXPORT __alias(fcntl64) int __fcntl(int fd, int command, ...);
