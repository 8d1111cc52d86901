// SPDX-License-Identifier: GPL-2.0-only
/*
 * How many attachments of max_sockets one tenant may have (rule B4): a share for each network
 * namespace and a share for each user, so that nobody is refused for what another has taken.
 *
 * A user is whoever opened /dev/exasock: his uid; below the initial user namespace, the uid
 * of who made the first one on the way there. One that the host's root made is a user by
 * itself: its root may take any of its uids, and make as many network namespaces as he
 * likes. Uid 0 of the initial user namespace is everybody's in containers that have no user
 * namespace of their own, so it is nobody's share: such a container cannot make network
 * namespaces.
 *
 * Shares of a half each would leave none to a third tenant. So of what is not the host's the last
 * eighth is for newcomers: a namespace and a user that have hardly any yet.
 *
 * Who may configure the host's network (CAP_NET_ADMIN in the initial user namespace) is not
 * held to shares, and has the last eighth for himself.
 */

#include <linux/cred.h>
#include <linux/slab.h>
#include <linux/user_namespace.h>

#include "exasock.h"

#define RESERVE		8	/* a part of so many, for the host; and one for newcomers */
#define NEWCOMER	256	/* a part of so many, of the latter for each of them */

/* While one of its contexts is open. Its key is valid for so long: their files' credentials. */
struct exa_share {
	struct list_head list;
	const struct user_namespace *below;	/* NULL: @uid of the initial one */
	kuid_t uid;
	unsigned int contexts;
	unsigned int count[EXA_KINDS];
};

static LIST_HEAD(exa_shares);		/* under exa_mutex */

static const struct user_namespace *share_below(const struct cred *cred)
{
	const struct user_namespace *below = cred->user_ns;

	if (below == &init_user_ns)
		return NULL;
	while (below->parent != &init_user_ns)
		below = below->parent;
	return below;
}

static struct exa_share *share_find(const struct exa_share *like)
{
	struct exa_share *share;

	list_for_each_entry(share, &exa_shares, list)
		if (share->below == like->below && (like->below || uid_eq(share->uid, like->uid)))
			return share;
	return NULL;
}

/* A context is opened: whose is it? */
int exa_share_open(struct exa_context *context)
{
	struct exa_share *share, *fresh = kzalloc(sizeof(*fresh), GFP_KERNEL_ACCOUNT);

	if (!fresh)
		return -ENOMEM;
	fresh->below = share_below(current_cred());
	fresh->uid = current_euid();
	/* any user makes as many user namespaces as he likes: they are all his */
	if (fresh->below && !uid_eq(fresh->below->owner, GLOBAL_ROOT_UID)) {
		fresh->uid = fresh->below->owner;
		fresh->below = NULL;
	}
	context->host = ns_capable_noaudit(&init_user_ns, CAP_NET_ADMIN);
	mutex_lock(&exa_mutex);
	share = share_find(fresh);
	if (!share) {
		share = fresh;
		fresh = NULL;
		list_add(&share->list, &exa_shares);
	}
	share->contexts++;
	mutex_unlock(&exa_mutex);
	context->share = share;
	kfree(fresh);
	return 0;
}

/* It has no attachments any more */
void exa_share_close(struct exa_context *context)
{
	struct exa_share *share = context->share;

	mutex_lock(&exa_mutex);
	if (--share->contexts)
		share = NULL;
	else
		list_del(&share->list);
	mutex_unlock(&exa_mutex);
	kfree(share);
}

/* May they have one more, if nobody may have more than @part? A namespace's, and a user's. */
static bool share_allows(const struct exa_attachment_kind *kind, const struct exa_share *share,
			 const struct exa_ns *ns, unsigned int part)
{
	if (ns->count[kind->index] >= part)
		return false;
	if (!share->below && uid_eq(share->uid, GLOBAL_ROOT_UID))
		return true;
	return share->count[kind->index] < part;
}

static bool share_is_used_up(const struct exa_attachment_kind *kind,
			     const struct exa_context *context, const struct exa_ns *ns)
{
	unsigned int most = READ_ONCE(exa_max_sockets);
	unsigned int percent = min(READ_ONCE(exa_max_sockets_share), 100U);
	unsigned int part = max_t(u64, (u64)most * percent / 100, 1);
	unsigned int left = most - min(kind->count, most);

	if (context->host)
		return !left;
	if (left <= most / RESERVE)
		return true;
	if (left <= most / RESERVE * 2)
		part = min(part, max(most / NEWCOMER, 1U));
	return !share_allows(kind, context->share, ns, part);
}

/* One more. -EMFILE: there is no room for it, or not for these. Under exa_mutex. */
int exa_share_take(struct exa_attachment_kind *kind, struct exa_context *context,
		   struct exa_ns *ns)
{
	lockdep_assert_held(&exa_mutex);
	if (share_is_used_up(kind, context, ns))
		return -EMFILE;
	WRITE_ONCE(kind->count, kind->count + 1);
	ns->count[kind->index]++;
	context->share->count[kind->index]++;
	return 0;
}

/* One less. Under exa_mutex. */
void exa_share_give(struct exa_attachment_kind *kind, struct exa_context *context,
		    struct exa_ns *ns)
{
	lockdep_assert_held(&exa_mutex);
	WRITE_ONCE(kind->count, kind->count - 1);
	ns->count[kind->index]--;
	context->share->count[kind->index]--;
}
