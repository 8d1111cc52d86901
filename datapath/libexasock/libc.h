/* SPDX-License-Identifier: GPL-2.0-only */
/* The C library's own functions, behind ours of the same names: real(recv)(...) */
#ifndef LIBEXASOCK_LIBC_H
#define LIBEXASOCK_LIBC_H

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define EXA_ATTRIBUTE(x)	__attribute__((x))

/* Younger than the oldest C library we build with */
int close_range(unsigned int first, unsigned int last, int flags);
void closefrom(int low);
int epoll_pwait2(int epfd, struct epoll_event *events, int max, const struct timespec *timeout,
		 const sigset_t *mask);

/* Declared under other conditions than ours, or for compilers only */
int fcntl64(int fd, int command, ...);
int __dup2(int fd, int to);
int __sigaction(int number, const struct sigaction *action, struct sigaction *old);
sighandler_t bsd_signal(int number, sighandler_t handler);
sighandler_t __sysv_signal(int number, sighandler_t handler);
sighandler_t sigset(int number, sighandler_t handler);
EXA_ATTRIBUTE(noreturn) void __chk_fail(void);
ssize_t __recv_chk(int fd, void *buffer, size_t length, size_t size, int flags);
ssize_t __recvfrom_chk(int fd, void *buffer, size_t length, size_t size, int flags,
		       struct sockaddr *name, socklen_t *namelen);
ssize_t __read_chk(int fd, void *buffer, size_t length, size_t size);
int __poll_chk(struct pollfd *fds, nfds_t count, int timeout, size_t size);
int __ppoll_chk(struct pollfd *fds, nfds_t count, const struct timespec *timeout,
		const sigset_t *mask, size_t size);

/* Each use has one, in a section of its own: libc.c finds them all there */
struct exa_real {
	void *function;
	const char *name;
} EXA_ATTRIBUTE(aligned(16));

/* The section's ends, made by the linker */
extern struct exa_real __start_exa_reals[] EXA_ATTRIBUTE(visibility("hidden"));
extern struct exa_real __stop_exa_reals[] EXA_ATTRIBUTE(visibility("hidden"));

void *exa_real_find(struct exa_real *wanted);

static inline void *exa_real(struct exa_real *wanted)
{
	void *function = __atomic_load_n(&wanted->function, __ATOMIC_RELAXED);

	return __builtin_expect(!!function, 1) ? function : exa_real_find(wanted);
}

#define real(name) \
({ \
	static struct exa_real exa_wanted EXA_ATTRIBUTE(section("exa_reals")) = { \
		NULL, #name, \
	}; \
	(__typeof__(name) *)exa_real(&exa_wanted); \
})

#endif /* LIBEXASOCK_LIBC_H */
