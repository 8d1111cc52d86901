// SPDX-License-Identifier: GPL-2.0-only
/*
 * exasock: UDP sockets and TCP connections that overtake the kernel's stack on ExaNIC ports, in any
 * number of network namespaces. See DESIGN.md beside this file.
 */

#include <linux/module.h>
#include <linux/moduleparam.h>
#include <asm/tsc.h>

#include "tcp.h"

/* Attachments, namespaces and devices come and go under this */
DEFINE_MUTEX(exa_mutex);

static unsigned int hold_us = 100;
module_param(hold_us, uint, 0644);
MODULE_PARM_DESC(hold_us, "how long a datagram waits for its process before the stack gets it, us");

static unsigned int fresh_us = 100;
module_param(fresh_us, uint, 0644);
MODULE_PARM_DESC(fresh_us, "how long after its last poll a process counts as polling, us");

unsigned int exa_slots = 64;
module_param_named(slots, exa_slots, uint, 0444);
MODULE_PARM_DESC(slots, "datagrams that can be held for a socket, a power of two, 8 to 512");

unsigned int exa_max_sockets = 1024;
module_param_named(max_sockets, exa_max_sockets, uint, 0644);
MODULE_PARM_DESC(max_sockets, "accelerated sockets at a time, on the whole machine, and TCP connections as many");

unsigned int exa_max_sockets_share = 50;
module_param_named(max_sockets_share, exa_max_sockets_share, uint, 0644);
MODULE_PARM_DESC(max_sockets_share, "percent of max_sockets that one network namespace or user may have");

bool exa_stream_enabled = true;
module_param_named(tcp, exa_stream_enabled, bool, 0644);
MODULE_PARM_DESC(tcp, "accelerate TCP connections");

unsigned int exa_stream_room = 0x10000;
module_param_named(tcp_room, exa_stream_room, uint, 0444);
MODULE_PARM_DESC(tcp_room, "bytes of a TCP connection's ring, and of its send buffer, a power of two, 16 KiB to 1 MiB");

unsigned int exa_stream_rest_us = 1000;
module_param_named(tcp_rest_us, exa_stream_rest_us, uint, 0644);
MODULE_PARM_DESC(tcp_rest_us, "how soon after it was handed back a TCP connection may be taken again, us; doubles while it is not worth it");

static unsigned int tcp_hold_us = 1000;
module_param(tcp_hold_us, uint, 0644);
MODULE_PARM_DESC(tcp_hold_us, "how long bytes of a TCP connection wait for a busy process before the kernel gets them, us; at least hold_us");

/* Bounded whatever the parameter says: a held datagram is a delayed one */
u64 exa_hold_ns(void)
{
	return min(READ_ONCE(hold_us), 100U * USEC_PER_MSEC) * NSEC_PER_USEC;
}

/*
 * A process that is busy with one message for longer than a datagram would wait shall not
 * lose its connection for the next: going home and being taken again cost more than that.
 */
u64 exa_stream_hold_ns(void)
{
	u64 hold = min(READ_ONCE(tcp_hold_us), 100U * USEC_PER_MSEC) * NSEC_PER_USEC;

	return max3(hold, exa_hold_ns(), 10ULL * NSEC_PER_USEC);
}

/* Has the process looked just now? @heartbeat is whatever it likes: the future is not fresh. */
bool exa_fresh(u64 heartbeat)
{
	u64 cycles = div_u64((u64)READ_ONCE(fresh_us) * tsc_khz, USEC_PER_MSEC);

	return heartbeat && get_cycles() - heartbeat <= cycles;
}

/* The same, within so many ns */
bool exa_looked(u64 heartbeat, u64 ns)
{
	return heartbeat && get_cycles() - heartbeat <= div_u64(ns * tsc_khz, USEC_PER_SEC);
}

static int __init exa_init(void)
{
	int err;

	exa_slots = clamp_t(unsigned int, rounddown_pow_of_two(max(exa_slots, 8U)), 8,
			    EXASOCK_SLOTS_MAX);
	exa_stream_room = clamp_t(unsigned int, rounddown_pow_of_two(max(exa_stream_room, 0x4000U)),
				  0x4000, EXASOCK_STREAM_SIZE_MOST);
	exa_security_setup();
	err = exa_attachments_setup();
	if (err)
		return err;
	err = exa_socks_setup();
	if (err)
		goto err_attachments;
	err = exa_streams_setup();
	if (err)
		goto err_attachments;
	err = exa_pernet_register();
	if (err)
		goto err_streams;
	err = exa_ports_setup();
	if (err)
		goto err_pernet;
	err = exa_iface_register();
	if (err)
		goto err_ports;
	err = exa_chardev_register();
	if (err)
		goto err_iface;
	return 0;

err_iface:
	exa_iface_unregister();
err_ports:
	exa_ports_teardown();
err_pernet:
	exa_pernet_unregister();
err_streams:
	exa_streams_teardown();
err_attachments:
	exa_attachments_teardown();
	return err;
}

/* No context is open any more, so there is no attachment */
static void __exit exa_exit(void)
{
	exa_chardev_unregister();
	exa_ns_stop();
	exa_iface_unregister();
	exa_ports_teardown();
	exa_native_teardown();
	exa_streams_teardown();
	exa_attachments_teardown();
	exa_pernet_unregister();
}

module_init(exa_init);
module_exit(exa_exit);

MODULE_AUTHOR("exalab");
MODULE_DESCRIPTION("Sockets past the stack on ExaNIC ports, in every network namespace");
MODULE_LICENSE("GPL");
MODULE_VERSION("1.0.0");
