// SPDX-License-Identifier: GPL-2.0-only
/* A program as the vendor's users build them: it prints what the interface answers */

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <exasock/extensions.h>
#include <exasock/socket.h>

/* The headers and the payload are hexadecimal; the headers are printed with length and checksums */
static int prepare(const char *headers, const char *payload)
{
	unsigned char bytes[2][4096];
	const char *text[2] = { headers, payload };
	size_t length[2], i, part;

	for (part = 0; part < 2; part++) {
		length[part] = strlen(text[part]) / 2;
		for (i = 0; i < length[part]; i++) {
			char digits[3] = { text[part][2 * i], text[part][2 * i + 1], 0 };

			bytes[part][i] = (unsigned char)strtoul(digits, NULL, 16);
		}
	}
	if (exasock_tcp_set_length(bytes[0], length[0], length[1]) ||
	    exasock_tcp_calc_checksum(bytes[0], length[0], bytes[1], length[1])) {
		printf("error %s\n", strerror(errno));
		return 0;
	}
	for (i = 0; i < length[0]; i++)
		printf("%02x", bytes[0][i]);
	printf("\n");
	return 0;
}

static void result(const char *what, int failed)
{
	printf("%s %s\n", what, failed ? strerror(errno) : "0");
}

int main(int argc, char **argv)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(9) };
	int fd = socket(AF_INET, SOCK_STREAM, 0), port;
	char device[16], room[64];

	if (argc == 3)
		return prepare(argv[1], argv[2]);
	printf("loaded %d\n", exasock_loaded());
	printf("recent %d\n", exasock_version_code() >= EXASOCK_VERSION(2, 2, 0));
	printf("text %d\n", !!exasock_version_text());
	result("device", exasock_tcp_get_device(fd, device, sizeof(device), &port));
	result("header", exasock_tcp_build_header(fd, room, sizeof(room), 0, 0) < 0);
	result("advance", exasock_tcp_send_advance(fd, room, 1));
	result("too long", exasock_tcp_set_length(room, sizeof(room), 1 << 20));
	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	result("no engine", exasock_ate_connect(fd, -1, (struct sockaddr *)&to, sizeof(to)));
	result("engine", exasock_ate_connect(fd, 0, (struct sockaddr *)&to, sizeof(to)));
	result("bad engine", exasock_ate_connect(fd, -2, (struct sockaddr *)&to, sizeof(to)));
	result("off", exasock_disable_acceleration(fd));
	print_exasock_latencies();
	clear_latencies();
	return 0;
}
