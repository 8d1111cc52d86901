/* SPDX-License-Identifier: GPL-2.0-only */
/* What the parts of exasock-stat share */
#ifndef EXASOCK_STAT_H
#define EXASOCK_STAT_H

#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>

#include "../include/exasock_stream.h"

struct options {
	bool all;
	bool json;
	bool reasons;
	bool filters;
	const char *filters_to;
};

/* exasock-stat.c */
_Noreturn void fail(const char *format, ...);
void *list(int fd, unsigned long request, bool all, size_t size, struct exasock_list *asked);
const char *address(char *to, size_t size, __be32 host, __be16 port);
void put_name(const __u8 *name);

/* Of sockets that have no line, for they were never accelerated */
void show_refusals(bool json, const char *what, const __u64 *counts);

/* streams.c: TCP */
void show_streams(int fd, const struct options *options);

#endif /* EXASOCK_STAT_H */
