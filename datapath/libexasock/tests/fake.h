/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A stand-in for the kernel module, in the process under test. What it "holds" it has
 * taken out of a real socket's queue, and what is flushed goes back there, so that every
 * datagram has passed the kernel and differs in nothing from one that stayed there.
 */
#ifndef FAKE_H
#define FAKE_H

#include <stdbool.h>
#include <linux/types.h>

struct fake_calls {
	unsigned int open;
	unsigned int attach;
	unsigned int detach;
	unsigned int flush;
	unsigned int send;
};

extern struct fake_calls fake_calls;
/* errno that the next calls fail with, 0: none */
extern int fake_open_error;
extern int fake_attach_error;
extern int fake_send_error;

/* The socket that datagrams given back are sent from again: where they came from */
void fake_sender(int fd);
/*
 * Hold what is in the native queue of @fd; returns how many. What finds no free slot goes
 * back, after what is held. 0 as well if it is not attached.
 */
int fake_hold(int fd);
/*
 * What is in the queue of @from arrives for @fd, and is held or passed as the module would
 * do it: seen by nobody else in between.
 */
void fake_arrive(int from, int fd);
/* Give what is held to the stack, as the kernel does by itself after a while */
void fake_take(int fd);
/* Something has happened to the native socket */
void fake_event(int fd);
void fake_dead(int fd);
/* The next datagram's number */
void fake_number(int fd, __u32 number);
bool fake_attached(int fd);
/* Has it a heartbeat? */
bool fake_looking(int fd);
/* Give it one, or take it away */
void fake_beat(int fd, __u64 heartbeat);
unsigned int fake_held(int fd);
unsigned int fake_slots(void);
/* The number the context has */
int fake_context(void);

#endif /* FAKE_H */
