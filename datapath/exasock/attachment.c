// SPDX-License-Identifier: GPL-2.0-only
/*
 * Attaching a socket, finding it, and how it ends: what is the same for every kind (rules
 * N1, N4, N6).
 *
 * Memory is allocated before the socket or exa_mutex is locked, and freed after a grace
 * period that nobody waits for (rule B5): exa_mutex is held for changing lists only.
 */

#include <linux/module.h>
#include <linux/net.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "exasock.h"

static struct workqueue_struct *attachment_wq;

static struct xarray *attachment_handles(const struct exa_attachment_kind *kind,
					 struct exa_context *context)
{
	return &context->handles[kind->index];
}

/* --- references -------------------------------------------------------------------------- */

static void attachment_last_put(struct kref *ref)
{
	struct exa_attachment *attachment = container_of(ref, struct exa_attachment, ref);

	exa_ns_forget(attachment->ns);
	attachment->kind->free(attachment);
}

/* May sleep */
void exa_attachment_put(struct exa_attachment *attachment)
{
	kref_put(&attachment->ref, attachment_last_put);
}

/* A grace period after it was detached: nobody finds it any more. Unmapping may sleep. */
static void attachment_free_work(struct work_struct *work)
{
	exa_attachment_put(container_of(to_rcu_work(work), struct exa_attachment, free));
}

/* NULL: no such handle */
struct exa_attachment *exa_attachment_get(const struct exa_attachment_kind *kind,
					  struct exa_context *context, u32 handle)
{
	struct exa_attachment *attachment;

	rcu_read_lock();
	attachment = xa_load(attachment_handles(kind, context), handle);
	if (attachment && !kref_get_unless_zero(&attachment->ref))
		attachment = NULL;
	rcu_read_unlock();
	return attachment;
}

/* The attachment of a socket that the caller holds, with a reference, or NULL */
struct exa_attachment *exa_attachment_of(const struct exa_attachment_kind *kind,
					 const struct sock *sk)
{
	struct exa_attachment *attachment;

	rcu_read_lock();
	attachment = exa_attachment_find(kind, sk);
	if (attachment && !kref_get_unless_zero(&attachment->ref))
		attachment = NULL;
	rcu_read_unlock();
	return attachment;
}

/* Its socket, with a reference, or NULL: it is gone, or its last reference is */
struct sock *exa_attachment_sock(struct exa_attachment *attachment)
{
	struct sock *sk;

	spin_lock_bh(&attachment->lock);
	sk = attachment->sk;
	if (sk && !refcount_inc_not_zero(&sk->sk_refcnt))
		sk = NULL;
	spin_unlock_bh(&attachment->lock);
	return sk;
}

/* --- to be found, and not any more ------------------------------------------------------- */

/* By kind->hook, when nothing can fail any more. Bottom halves may be on. */
void exa_attachment_hash(struct exa_attachment *attachment)
{
	struct exa_attachment_kind *kind = attachment->kind;

	spin_lock_bh(&kind->lock);
	hash_add_rcu(kind->table, &attachment->node, exa_attachment_key(attachment->sk));
	hlist_add_head_rcu(&attachment->sibling, &attachment->ns->attached[kind->index]);
	spin_unlock_bh(&kind->lock);
}

/* Once or twice */
static void attachment_unhash(struct exa_attachment *attachment)
{
	spin_lock_bh(&attachment->kind->lock);
	hlist_del_init_rcu(&attachment->node);
	hlist_del_init_rcu(&attachment->sibling);
	spin_unlock_bh(&attachment->kind->lock);
}

/*
 * Give the socket's functions back, whether it still lives or only its memory does:
 * somebody may still have buffers of a socket without a reference, and its destructor
 * comes then, perhaps when this module is gone. Not @referenced: the socket may vanish as
 * soon as it has its own destructor again, so it is forgotten at once.
 *
 * Functions that somebody else has put his own on top of cannot be taken out from under
 * them: then this module's reference stays. It is never the last one that is put here: who
 * detaches has /dev/exasock open, who is in a native call has another.
 */
void exa_attachment_unhook(struct exa_attachment *attachment, bool referenced)
{
	bool stays = false, hooked;

	spin_lock_bh(&attachment->lock);
	hooked = attachment->hooked;
	attachment->hooked = false;
	if (attachment->sk && hooked)
		stays = !attachment->kind->unhook(attachment->sk);
	if (attachment->sk && !referenced) {
		attachment->kind->gone(attachment);
		WRITE_ONCE(attachment->sk, NULL);
	}
	spin_unlock_bh(&attachment->lock);
	if (stays)
		pr_warn_once("exasock: a socket's functions were changed by others: cannot be unloaded any more\n");
	else if (hooked)
		module_put(THIS_MODULE);
}

/*
 * The socket is freed: by its destructor, which may run where another attachment's lock is
 * held (a queueing discipline drops a buffer below netif_receive_skb()). Who holds that
 * lock while the stack runs has a reference to that socket, so its destructor is not one
 * that waits for this lock.
 */
void exa_attachment_gone(const struct exa_attachment_kind *kind, const struct sock *sk)
{
	struct exa_attachment *attachment;

	rcu_read_lock();
	attachment = exa_attachment_find(kind, sk);
	if (attachment) {
		local_bh_disable();
		spin_lock_nested(&attachment->lock, SINGLE_DEPTH_NESTING);
		if (attachment->sk == sk) {
			kind->gone(attachment);
			WRITE_ONCE(attachment->sk, NULL);
		}
		spin_unlock(&attachment->lock);
		local_bh_enable();
		attachment_unhash(attachment);
	}
	rcu_read_unlock();
}

/* --- attach and detach ------------------------------------------------------------------- */

/* Room for one more, and the namespace's state, before anything is allocated */
static struct exa_ns *attachment_reserve(struct exa_attachment_kind *kind,
					 struct exa_context *context, struct net *net)
{
	struct exa_ns *ns = exa_ns_get(net);
	int err;

	if (IS_ERR(ns))
		return ns;
	mutex_lock(&exa_mutex);
	err = exa_share_take(kind, context, ns);
	if (err)
		exa_ns_put(ns);
	mutex_unlock(&exa_mutex);
	return err ? ERR_PTR(err) : ns;
}

static void attachment_release(struct exa_attachment_kind *kind, struct exa_context *context,
			       struct exa_ns *ns)
{
	exa_share_give(kind, context, ns);
	exa_ns_put(ns);
}

static struct exa_attachment *attachment_make(struct exa_attachment_kind *kind,
					      struct exa_context *context, struct exa_ns *ns,
					      const struct sock *sk)
{
	struct exa_attachment *attachment = kind->alloc(sk);
	int err;

	if (!attachment)
		return ERR_PTR(-ENOMEM);
	kref_init(&attachment->ref);
	spin_lock_init(&attachment->lock);
	lockdep_set_class(&attachment->lock, &kind->lock_key);
	INIT_RCU_WORK(&attachment->free, attachment_free_work);
	attachment->kind = kind;
	attachment->context = context;
	attachment->ns = ns;
	err = xa_alloc(attachment_handles(kind, context), &attachment->handle, NULL,
		       xa_limit_31b, GFP_KERNEL_ACCOUNT);
	if (err) {
		kind->free(attachment);
		return ERR_PTR(err);
	}
	return attachment;
}

static void attachment_discard(struct exa_attachment *attachment)
{
	xa_erase(attachment_handles(attachment->kind, attachment->context), attachment->handle);
	attachment->kind->free(attachment);
}

/* 1: this context has it, and told which; -EBUSY: another one has; 0: nobody */
static int attachment_known(const struct exa_attachment_kind *kind,
			    const struct exa_context *context, const struct sock *sk,
			    struct exasock_attach *attach)
{
	struct exa_attachment *attachment;
	int known = 0;

	rcu_read_lock();
	attachment = exa_attachment_find(kind, sk);
	if (attachment && attachment->context == context) {
		attach->handle = attachment->handle;
		attach->netns = attachment->ns->cookie;
		known = 1;
	} else if (attachment) {
		known = -EBUSY;
	}
	rcu_read_unlock();
	return known;
}

/* With the context and the socket locked; as attachment_known(), but 0: it is attached */
static int attachment_hook(struct exa_attachment *attachment, struct sock *sk,
			   struct exasock_attach *attach)
{
	struct exa_attachment_kind *kind = attachment->kind;
	struct exa_context *context = attachment->context;
	int err;

	err = kind->suits(sk);
	if (!err)
		err = attachment_known(kind, context, sk, attach);
	if (err)
		return err;
	__module_get(THIS_MODULE);
	attachment->hooked = true;
	attachment->sk = sk;
	refcount_inc(&attachment->ns->refs);
	err = kind->hook(attachment, sk);
	if (err) {
		refcount_dec(&attachment->ns->refs);
		module_put(THIS_MODULE);
		return err;
	}
	/* only now: who did not find the socket before may still be at it when this is over */
	exa_settle(&attachment->settling);
	xa_store(attachment_handles(kind, context), attachment->handle, attachment,
		 GFP_KERNEL_ACCOUNT);
	attach->handle = attachment->handle;
	attach->netns = attachment->ns->cookie;
	return 0;
}

static int attachment_attach(struct exa_attachment_kind *kind, struct exa_context *context,
			     struct sock *sk, struct exasock_attach *attach)
{
	struct exa_attachment *attachment;
	struct exa_ns *ns;
	int err;

	err = kind->suits(sk);
	if (!err)
		err = attachment_known(kind, context, sk, attach);
	if (err)
		return err;
	ns = attachment_reserve(kind, context, sock_net(sk));
	if (IS_ERR(ns))
		return PTR_ERR(ns);
	attachment = attachment_make(kind, context, ns, sk);
	if (IS_ERR(attachment)) {
		err = PTR_ERR(attachment);
		goto release;
	}
	mutex_lock(&context->lock);
	lock_sock(sk);
	err = attachment_hook(attachment, sk, attach);
	release_sock(sk);
	if (!err) {
		mutex_lock(&exa_mutex);
		list_add_rcu(&attachment->list, &kind->list);
		mutex_unlock(&exa_mutex);
	}
	mutex_unlock(&context->lock);
	if (!err)
		return 0;
	attachment_discard(attachment);
release:
	mutex_lock(&exa_mutex);
	attachment_release(kind, context, ns);
	mutex_unlock(&exa_mutex);
	return err;
}

int exa_attach(struct exa_attachment_kind *kind, struct exa_context *context,
	       struct exasock_attach *attach)
{
	struct socket *sock;
	int err;

	sock = sockfd_lookup(attach->fd, &err);
	if (!sock)
		return err;
	err = attachment_attach(kind, context, sock->sk, attach);
	if (err < 0)
		exa_refused(kind, sock_net(sock->sk), err);
	sockfd_put(sock);
	return err < 0 ? err : 0;
}

/* Over: everything goes through the kernel, and the socket is as it was. Context locked. */
static void attachment_detach(struct exa_attachment *attachment)
{
	struct exa_attachment_kind *kind = attachment->kind;
	struct sock *sk = exa_attachment_sock(attachment);

	xa_erase(attachment_handles(kind, attachment->context), attachment->handle);
	kind->end(attachment, sk);
	spin_lock_bh(&attachment->lock);
	WRITE_ONCE(attachment->sk, NULL);
	spin_unlock_bh(&attachment->lock);
	attachment_unhash(attachment);
	mutex_lock(&exa_mutex);
	list_del_rcu(&attachment->list);
	attachment_release(kind, attachment->context, attachment->ns);
	mutex_unlock(&exa_mutex);
	if (sk)
		sock_put(sk);
	queue_rcu_work(attachment_wq, &attachment->free);
}

int exa_detach(struct exa_attachment_kind *kind, struct exa_context *context, u32 handle)
{
	struct exa_attachment *attachment;

	mutex_lock(&context->lock);
	attachment = xa_load(attachment_handles(kind, context), handle);
	context->patience = jiffies + HZ;
	if (attachment)
		attachment_detach(attachment);
	mutex_unlock(&context->lock);
	return attachment ? 0 : -ESTALE;
}

void exa_detach_all(struct exa_attachment_kind *kind, struct exa_context *context)
{
	struct exa_attachment *attachment;
	unsigned long handle;

	mutex_lock(&context->lock);
	/* all of them together: who ends under memory pressure ends soon */
	context->patience = jiffies + HZ;
	xa_for_each(attachment_handles(kind, context), handle, attachment)
		attachment_detach(attachment);
	mutex_unlock(&context->lock);
}

/* --- LIST -------------------------------------------------------------------------------- */

/* All kinds' stats begin alike: see the asserts in exasock_stream.h */
static void attachment_stat(struct exa_attachment *attachment, struct exasock_stat *stat)
{
	const struct exa_context *context = attachment->context;

	stat->netns = attachment->ns->cookie;
	stat->pid = pid_vnr(context->pid);
	if (stat->pid)		/* else its process is none of the caller's business */
		memcpy(stat->comm, context->comm, sizeof(stat->comm));
	spin_lock_bh(&attachment->lock);
	if (attachment->sk) {
		const struct inet_sock *inet = inet_sk(attachment->sk);

		stat->laddr = inet->inet_rcv_saddr;
		stat->lport = htons(inet->inet_num);
		stat->raddr = inet->inet_daddr;
		stat->rport = inet->inet_dport;
	}
	spin_unlock_bh(&attachment->lock);
}

/* How many there are; @room of them are told of */
static u32 attachments_stat(struct exa_attachment_kind *kind, const struct net *net, bool all,
			    void *stats, u32 room)
{
	struct exa_attachment *attachment;
	u32 count = 0;

	mutex_lock(&exa_mutex);
	list_for_each_entry(attachment, &kind->list, list) {
		if (!all && attachment->ns->cookie != net->net_cookie)
			continue;
		if (count < room) {
			void *stat = stats + count * kind->stat_size;

			attachment_stat(attachment, stat);
			kind->stat(attachment, stat);
		}
		count++;
	}
	mutex_unlock(&exa_mutex);
	return count;
}

int exa_list(struct exa_attachment_kind *kind, struct exasock_list *list)
{
	struct net *net = current->nsproxy->net_ns;
	void *stats;
	int err = 0;
	u32 room, i;

	if (list->flags & ~EXASOCK_LIST_ALL || list->reserved)
		return -EINVAL;
	if (list->flags & EXASOCK_LIST_ALL && !capable(CAP_NET_ADMIN))
		return -EPERM;
	room = min(list->room, READ_ONCE(kind->count));
	stats = kvcalloc(max(room, 1U), kind->stat_size, GFP_KERNEL_ACCOUNT);
	if (!stats)
		return -ENOMEM;
	list->count = attachments_stat(kind, net, list->flags & EXASOCK_LIST_ALL, stats, room);
	if (copy_to_user(u64_to_user_ptr(list->stats), stats,
			 min(list->count, room) * kind->stat_size))
		err = -EFAULT;
	memset(list->refused, 0, sizeof(list->refused));
	for (i = 0; i < EXASOCK_N_REFUSALS; i++)
		list->refused[i] = atomic64_read(&exa_pernet(net)->refused[kind->index][i]);
	kvfree(stats);
	return err;
}

/* --- life of the module ------------------------------------------------------------------ */

void exa_attachment_kind_setup(struct exa_attachment_kind *kind)
{
	hash_init(kind->table);
	spin_lock_init(&kind->lock);
	INIT_LIST_HEAD(&kind->list);
}

int exa_attachments_setup(void)
{
	attachment_wq = alloc_workqueue("exasock", WQ_UNBOUND, 0);
	return attachment_wq ? 0 : -ENOMEM;
}

/*
 * No socket has a function of this module any more, for each of them had a reference to it.
 * What remains are threads that came by one before it was given back: nothing in here
 * sleeps outside of such a reference, so each of them has left after a grace period of
 * tasks; callbacks of RCU and work that waits for them.
 */
void exa_attachments_teardown(void)
{
	synchronize_rcu_tasks();
	synchronize_rcu();
	rcu_barrier();
	destroy_workqueue(attachment_wq);
}
