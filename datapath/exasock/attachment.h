/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * An attachment: a native socket that a context has attached, whatever its kind. This is
 * what a UDP socket (struct exa_sock) and a TCP connection (struct exa_stream) have in
 * common; each of them begins with it.
 *
 * Nothing here holds the socket. Its address is valid under the attachment's lock while it
 * is not NULL there: the socket's destructor needs that lock to clear it. Under RCU alone
 * it is valid only for a caller that has the socket anyway.
 */
#ifndef EXASOCK_ATTACHMENT_H
#define EXASOCK_ATTACHMENT_H

#include <linux/hashtable.h>
#include <linux/kref.h>
#include <linux/spinlock.h>
#include <linux/workqueue.h>
#include <net/sock.h>

#include "../include/exasock_abi.h"

struct exa_attachment_kind;
struct exa_context;
struct exa_ns;

#define EXA_ATTACHMENT_BITS	12

/* Since whoever looks for something finds it: the grace period of those who may not have */
struct exa_settling {
	unsigned long grace;		/* of RCU */
	bool begun;
	bool over;
};

enum exa_attachment_index {
	EXA_SOCKS,			/* UDP sockets */
	EXA_STREAMS,			/* TCP connections */
	EXA_KINDS,
};

/*
 * @ref: to this memory; one is the context's, until a grace period after detaching
 * @node: in its kind's table, by sk
 * @sibling: among its namespace's, both under the kind's lock and read under RCU
 * @list: of all of its kind, under exa_mutex and read under RCU
 * @hooked: the socket may still have functions of this module, which a module reference
 *	covers. Under @lock.
 * @sk: NULL when the socket is gone, or is not ours any more. Under @lock.
 */
#define EXA_ATTACHMENT_MEMBERS				\
	struct kref ref;				\
	struct exa_attachment_kind *kind;		\
	struct exa_context *context;			\
	struct exa_ns *ns;				\
	struct hlist_node node;				\
	struct hlist_node sibling;			\
	struct list_head list;				\
	u32 handle;					\
	bool hooked;					\
	struct exa_settling settling;			\
	struct rcu_work free;				\
	/* what changes while it is attached */		\
	spinlock_t lock;				\
	struct sock *sk

struct exa_attachment {
	EXA_ATTACHMENT_MEMBERS;
};

/* The first member of each kind's structure; its members are known there by their own names */
#define EXA_ATTACHMENT					\
	union {						\
		struct exa_attachment attachment;	\
		struct {				\
			EXA_ATTACHMENT_MEMBERS;		\
		};					\
	}

/**
 * struct exa_attachment_kind - what sockets and streams do differently
 * @index: names the kind in a context and in a namespace
 * @stat_size: what LIST tells of one
 * @table: attachments by socket
 * @lock: writing @table, and the namespaces' lists of this kind
 * @list: all of them, under exa_mutex and read under RCU
 * @count: of them, under exa_mutex; not zero whenever one can be found
 * @lock_key: their locks' class
 * @suits: may be asked without a lock. Why the socket cannot be attached, or 0.
 * @alloc: sleeps, with no lock held. NULL: no memory.
 * @hook: make the socket tell of itself. With the socket locked and @sk set; on success
 *	the attachment can be found.
 * @unhook: give the functions back. Under the attachment's lock. False: somebody else's
 *	lie on top, they cannot be.
 * @end: before it is detached: everything goes to the kernel and the functions are given
 *	back by exa_attachment_unhook(). The socket is referenced, or NULL: it is gone, or
 *	its last reference is.
 * @gone: the socket is freed. Under the attachment's lock, in any context.
 * @free: may sleep
 * @mmap: -EINVAL: @offset is none of its
 * @stat: what LIST tells, beyond what all kinds have
 */
struct exa_attachment_kind {
	enum exa_attachment_index index;
	size_t stat_size;
	DECLARE_HASHTABLE(table, EXA_ATTACHMENT_BITS);
	spinlock_t lock;		/* @table, and namespaces' lists */
	struct list_head list;
	unsigned int count;
	struct lock_class_key lock_key;

	int (*suits)(const struct sock *sk);
	struct exa_attachment *(*alloc)(const struct sock *sk);
	int (*hook)(struct exa_attachment *attachment, struct sock *sk);
	bool (*unhook)(struct sock *sk);
	void (*end)(struct exa_attachment *attachment, struct sock *sk);
	void (*gone)(struct exa_attachment *attachment);
	void (*free)(struct exa_attachment *attachment);
	int (*mmap)(struct exa_attachment *attachment, struct vm_area_struct *vma, u64 offset);
	void (*stat)(struct exa_attachment *attachment, void *stat);
};

static inline unsigned long exa_attachment_key(const struct sock *sk)
{
	return (unsigned long)sk >> L1_CACHE_SHIFT;
}

/* Under RCU. The attachment lives for a grace period, its socket as long as the caller's. */
static inline struct exa_attachment *
exa_attachment_find(const struct exa_attachment_kind *kind, const struct sock *sk)
{
	struct exa_attachment *attachment;

	hash_for_each_possible_rcu(kind->table, attachment, node, exa_attachment_key(sk))
		if (READ_ONCE(attachment->sk) == sk)
			return attachment;
	return NULL;
}

int exa_attachments_setup(void);
void exa_attachments_teardown(void);
void exa_attachment_kind_setup(struct exa_attachment_kind *kind);

/* All but @find need no lock, and may be NULL in, NULL out where they return an attachment */
struct exa_attachment *exa_attachment_of(const struct exa_attachment_kind *kind,
					 const struct sock *sk);
struct exa_attachment *exa_attachment_get(const struct exa_attachment_kind *kind,
					  struct exa_context *context, u32 handle);
void exa_attachment_put(struct exa_attachment *attachment);
struct sock *exa_attachment_sock(struct exa_attachment *attachment);

/* For the kinds' own hook, end and destructor */
void exa_attachment_hash(struct exa_attachment *attachment);
void exa_attachment_unhook(struct exa_attachment *attachment, bool referenced);
void exa_attachment_gone(const struct exa_attachment_kind *kind, const struct sock *sk);

/* From /dev/exasock */
int exa_attach(struct exa_attachment_kind *kind, struct exa_context *context,
	       struct exasock_attach *attach);
int exa_detach(struct exa_attachment_kind *kind, struct exa_context *context, u32 handle);
void exa_detach_all(struct exa_attachment_kind *kind, struct exa_context *context);
int exa_list(struct exa_attachment_kind *kind, struct exasock_list *list);

#endif /* EXASOCK_ATTACHMENT_H */
