// SPDX-License-Identifier: GPL-2.0-only
/*
 * Security modules (LSM) that judge or label each datagram. Their hooks are not for modules
 * to call, so where one of them is active the kernel's path is taken:
 *
 * - SELinux and Smack label what is received and judge each call. Whether one of them is
 *   there is decided at boot. It is told by a hook that only they implement.
 * - A BPF program on a hook of sending or receiving comes and goes. Attaching one patches
 *   the no-op with which the hook's own, empty function begins.
 *
 * AppArmor and TOMOYO judge calls by who makes them, from rules of their own that cannot
 * be seen here: see "Known differences" in DESIGN.md.
 */

#include <linux/kprobes.h>
#include <linux/security.h>

#include "exasock.h"
#include "security.h"

#define SECURITY_CALL	0xe8U

struct exa_security exa_security __ro_after_init;
DEFINE_STATIC_KEY_FALSE(exa_security_labels);

/*
 * The place in a hook's function that changes when a program is attached. Its address is
 * asked of a probe that is never armed: there is no other way to it.
 */
static const u32 * __init security_patched(const char *name)
{
	const u32 *at = NULL;
#if defined(CONFIG_BPF_LSM) && defined(CONFIG_KPROBES) && defined(CONFIG_X86_64)
	struct kprobe probe = { .symbol_name = name, .flags = KPROBE_FLAG_DISABLED };

	int err = register_kprobe(&probe);

	if (err) {
		/* it is there, but cannot be watched: as if there were a program on it */
		if (err != -ENOENT)
			static_branch_enable(&exa_security_labels);
		return NULL;
	}
	at = (const u32 *)probe.addr;
	unregister_kprobe(&probe);
	if (READ_ONCE(*at) != EXA_SECURITY_NOP && (READ_ONCE(*at) & 0xff) != SECURITY_CALL) {
		at = NULL;	/* a kernel that patches it in a way that is not known */
		static_branch_enable(&exa_security_labels);
	}
#endif
	return at;
}

void __init exa_security_setup(void)
{
	u32 secid = 0;

	exa_security.send = security_patched("bpf_lsm_socket_sendmsg");
	exa_security.receive = security_patched("bpf_lsm_socket_recvmsg");
	exa_security.packet = security_patched("bpf_lsm_socket_sock_rcv_skb");
	/* of nothing: a security module that labels says that this is not valid */
	if (security_socket_getpeersec_dgram(NULL, NULL, &secid) != -ENOPROTOOPT)
		static_branch_enable(&exa_security_labels);
}
