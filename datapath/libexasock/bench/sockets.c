// SPDX-License-Identifier: GPL-2.0-only
/* Sockets of any namespace, accelerated or left to the kernel */

#include <arpa/inet.h>
#include <errno.h>

#include "bench.h"

static int home = -1;

/* The thread goes to a namespace; "-" leads back to where it began */
void visit(const char *netns)
{
	char path[256];
	int fd;

	if (home < 0)
		home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	snprintf(path, sizeof(path), "/run/netns/%s", netns);
	fd = strcmp(netns, "-") ? open(path, O_RDONLY | O_CLOEXEC) : home;
	if (fd < 0 || setns(fd, CLONE_NEWNET))
		err(1, "namespace %s", netns);
	if (fd != home)
		close(fd);
}

struct sockaddr_in address_of(const char *address, const char *port)
{
	struct sockaddr_in name = {
		.sin_family = AF_INET, .sin_port = htons((u16)atoi(port)),
	};

	if (inet_pton(AF_INET, address, &name.sin_addr) != 1)
		errx(1, "%s is no address", address);
	return name;
}

int socket_of(const char *netns, int type)
{
	int fd;

	visit(netns);
	fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
	if (fd < 0)
		err(1, "socket");
	visit("-");
	return fd;
}

int bound_socket(const char *netns, const char *address, const char *port)
{
	struct sockaddr_in name = address_of(address, port);
	int fd = socket_of(netns, SOCK_DGRAM);

	if (bind(fd, (struct sockaddr *)&name, sizeof(name)))
		err(1, "bind to %s", address);
	return fd;
}

int connected_socket(const char *netns, const char *address, const char *port)
{
	struct sockaddr_in name = address_of(address, port);
	int fd = socket_of(netns, SOCK_DGRAM);

	if (connect(fd, (struct sockaddr *)&name, sizeof(name)))
		err(1, "connect to %s", address);
	return fd;
}

/* The library attaches a socket with the first call that could use it */
void make_accelerated(int fd)
{
	char byte;

	if (recv(fd, &byte, 1, MSG_DONTWAIT) >= 0)
		errx(1, "a socket that nobody knows has received something");
}

void send_one(int fd, bool accelerated, const void *payload, size_t length)
{
	ssize_t sent = accelerated ? send(fd, payload, length, 0) :
			syscall(SYS_sendto, fd, payload, length, 0, NULL, 0);

	if (sent != (ssize_t)length)
		err(1, "send");
}

/* -1: nothing there */
ssize_t take_one(int fd, bool accelerated, void *buffer, size_t room)
{
	ssize_t got = accelerated ? recv(fd, buffer, room, MSG_DONTWAIT) :
			syscall(SYS_recvfrom, fd, buffer, room, MSG_DONTWAIT, NULL, NULL);

	if (got < 0 && errno != EAGAIN)
		err(1, "recv");
	return got;
}
