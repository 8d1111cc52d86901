// SPDX-License-Identifier: GPL-2.0-only
/* TCP connections between two namespaces, and what the module counted for them */

#include <netinet/tcp.h>
#include <sys/ioctl.h>

#include "../../include/exasock_stream.h"
#include "bench.h"

#define STREAMS_MOST	2048
/* Messages by turns, after which a connection that can be taken has been */
#define TURNS		12
#define TRIES		200
#define SETTLE_US	2000
#define HOME_US		100000

int listening_socket(const char *netns, const char *address, const char *port)
{
	struct sockaddr_in name = address_of(address, port);
	int fd = socket_of(netns, SOCK_STREAM), on = 1;

	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) ||
	    bind(fd, (struct sockaddr *)&name, sizeof(name)) || listen(fd, 64))
		err(1, "listen at %s", address);
	return fd;
}

static void without_nagle(int fd)
{
	int on = 1;

	if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)))
		err(1, "TCP_NODELAY");
}

/* From one namespace to an address in the other; no Nagle */
struct connection connection_of(const char *from, const char *to, const char *address,
				const char *port, bool accelerated)
{
	struct connection connection = { .accelerated = accelerated };
	struct sockaddr_in name = address_of(address, port);
	int listener = listening_socket(to, address, port);
	int fd = socket_of(from, SOCK_STREAM);

	if (connect(fd, (struct sockaddr *)&name, sizeof(name)))
		err(1, "connect to %s", address);
	connection.end[0] = fd;
	connection.end[1] = accept(listener, NULL, NULL);
	if (connection.end[1] < 0)
		err(1, "accept");
	close(listener);
	without_nagle(connection.end[0]);
	without_nagle(connection.end[1]);
	return connection;
}

void close_connection(struct connection *connection)
{
	close(connection->end[0]);
	close(connection->end[1]);
}

void pause_us(unsigned int us)
{
	const struct timespec time = { .tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000L };

	nanosleep(&time, NULL);
}

static void turn(const struct connection *connection, unsigned int from)
{
	unsigned int tries = 0;
	char byte = 'x';

	send_one(connection->end[from], connection->accelerated, &byte, 1);
	while (take_one(connection->end[!from], connection->accelerated, &byte, 1) < 0) {
		if (++tries == TRIES)
			errx(1, "a byte does not come");
		pause_us(SETTLE_US);
	}
}

/* Messages by turns until the library has attached it, and the module taken it, if it will */
void have_taken(const struct connection *connection)
{
	unsigned int i;

	for (i = 0; i < TURNS; i++) {
		turn(connection, 0);
		turn(connection, 1);
	}
	pause_us(SETTLE_US);
	turn(connection, 0);
	turn(connection, 1);
}

/*
 * Until the module has taken both ends of all of these at least once, besides the @before
 * that it had taken of this process when they were not there yet: it takes none
 * before a grace period has passed since it was attached, and how long one lasts is the
 * machine's affair.
 */
void have_ever_taken(const struct connection *connections, unsigned int count, unsigned int before)
{
	unsigned int ends = before + 2 * count, tries = 0, i, ever;

	while ((ever = stream_counters_of_own().ever) < ends) {
		if (++tries == TRIES)
			errx(1, "%u of %u ends were ever taken", ever, ends);
		pause_us(SETTLE_US);
		for (i = 0; i < count; i++) {
			turn(&connections[i], 0);
			turn(&connections[i], 1);
		}
	}
}

/* Until each of this process's connections is the kernel's, for want of use */
void all_at_home(void)
{
	unsigned int tries = 0, taken;

	while ((taken = stream_counters_of_own().taken)) {
		if (++tries == TRIES)
			errx(1, "%u ends are still taken", taken);
		pause_us(HOME_US);
	}
}

struct stream_counters stream_counters_of_own(void)
{
	static struct exasock_stream_stat stats[STREAMS_MOST];
	struct exasock_list list = {
		.stats = (uintptr_t)stats, .room = STREAMS_MOST, .flags = EXASOCK_LIST_ALL,
	};
	struct stream_counters sum = {};
	int fd = open(EXASOCK_DEVICE, O_RDWR | O_CLOEXEC);
	unsigned int i;

	if (fd < 0 || ioctl(fd, EXASOCK_IOC_STREAM_LIST, &list))
		err(1, "%s", EXASOCK_DEVICE);
	close(fd);
	for (i = 0; i < list.count && i < list.room; i++) {
		if (stats[i].pid != getpid())
			continue;
		sum.attached++;
		sum.taken += stats[i].taken;
		sum.ever += !!stats[i].takes;
		sum.sent += stats[i].tx_bytes;
		sum.received += stats[i].rx_bytes - stats[i].rx_home;
	}
	return sum;
}
