// SPDX-License-Identifier: GPL-2.0-only
/*
 * The library's part of a datagram, for valgrind to count: sends that the stand-in answers,
 * datagrams that it holds.
 *
 *	hot_path WAY LENGTH SOCKETS COUNT
 *	WAY	send or receive
 *
 * With COUNT datagrams on the last of SOCKETS attached sockets. Each is between two stores
 * to @mark, whose address is printed.
 */

#include "bench.h"
#include "plain_device.h"

static u64 mark;
static char buffer[2048];

static int attached(void)
{
	struct sockaddr_in name = {
		.sin_family = AF_INET, .sin_port = htons(9),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	if (fd < 0 || connect(fd, (struct sockaddr *)&name, sizeof(name)))
		err(1, "socket");
	/* twice: at first the native socket is asked */
	if (recv(fd, buffer, 1, MSG_DONTWAIT) >= 0 || recv(fd, buffer, 1, MSG_DONTWAIT) >= 0)
		errx(1, "something is there");
	return fd;
}

int main(int argc, char **argv)
{
	unsigned int sockets, count, i;
	size_t length;
	bool sending;
	int fd = -1;

	if (argc != 5)
		errx(1, "usage: WAY LENGTH SOCKETS COUNT");
	sending = !strcmp(argv[1], "send");
	length = (size_t)atol(argv[2]);
	sockets = (unsigned int)atol(argv[3]);
	count = (unsigned int)atol(argv[4]);
	printf("%p\n", (void *)&mark);
	fflush(stdout);
	for (i = 0; i < sockets; i++)
		fd = attached();
	for (i = 0; i < count; i++) {
		ssize_t done;

		if (!sending)
			plain_arrive(sockets, length);
		__atomic_store_n(&mark, 1, __ATOMIC_RELAXED);
		done = sending ? send(fd, buffer, length, 0) :
				 recv(fd, buffer, sizeof(buffer), 0);
		__atomic_store_n(&mark, 0, __ATOMIC_RELAXED);
		if (done != (ssize_t)length)
			err(1, "%zd of %zu", done, length);
	}
	if (sending && plain_sends != count)
		errx(1, "%lu sends of %u", plain_sends, count);
	return 0;
}
