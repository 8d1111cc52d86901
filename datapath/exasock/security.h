/* SPDX-License-Identifier: GPL-2.0-only */
/* Does a security module judge or label what is sent or received? One load each; see security.c */
#ifndef EXASOCK_SECURITY_H
#define EXASOCK_SECURITY_H

#include <linux/jump_label.h>
#include <linux/types.h>

/* The first four bytes of the no-op that a call of a program replaces, as one number */
#define EXA_SECURITY_NOP	0x00441f0fU

/* Where programs for these hooks are called from; NULL: there can be none. Set once. */
struct exa_security {
	const u32 *send;
	const u32 *receive;
	const u32 *packet;
};

extern struct exa_security exa_security;
DECLARE_STATIC_KEY_FALSE(exa_security_labels);

static inline bool exa_security_hooked(const u32 *at)
{
	return at && READ_ONCE(*at) != EXA_SECURITY_NOP;
}

static inline bool exa_security_sends(void)
{
	return static_branch_unlikely(&exa_security_labels) ||
	       exa_security_hooked(exa_security.send);
}

static inline bool exa_security_receives(void)
{
	return static_branch_unlikely(&exa_security_labels) ||
	       exa_security_hooked(exa_security.receive) ||
	       exa_security_hooked(exa_security.packet);
}

#endif /* EXASOCK_SECURITY_H */
