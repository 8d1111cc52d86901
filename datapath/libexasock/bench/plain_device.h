/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A stand-in for the kernel module with nothing behind it: rings and control pages in plain
 * memory, sends that are answered at once. What is counted is then the library's own.
 */
#ifndef PLAIN_DEVICE_H
#define PLAIN_DEVICE_H

#include <stddef.h>

/* A datagram of @length bytes is held for the attachment of this number, from 1 */
void plain_arrive(unsigned int handle, size_t length);

/* Sends that were answered */
extern unsigned long plain_sends;

#endif /* PLAIN_DEVICE_H */
