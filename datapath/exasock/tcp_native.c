// SPDX-License-Identifier: GPL-2.0-only
/*
 * Native calls on an attached connection's socket: the connection is handed back first, and
 * then they are the kernel's own. So whoever has the socket (another process, io_uring,
 * splice, ss -K, the end of its last descriptor) finds an ordinary connection. hooks.h
 * says of each call what becomes of it.
 *
 * A thread in one of these functions came by a socket that had them, which has a reference
 * to this module; they may be given back while it is in here. Until it has left it is
 * inside native_inside, which unloading waits for, and while it may sleep it has a
 * reference of its own, so that unloading is refused.
 */

#include <linux/file.h>
#include <linux/module.h>
#include <linux/net.h>
#include <linux/srcu.h>
#include <linux/wait_bit.h>
#include <net/inet_common.h>

#include "tcp.h"

#define NATIVE_END	HZ	/* how long the end of a socket waits for memory */

DEFINE_STATIC_SRCU(native_inside);

/*
 * With the socket locked, which is let go of while there is no memory to hand back, where
 * @wait says so. 0, or why the connection is still leaving.
 */
int exa_native_hand_back(struct exa_stream *es, struct sock *sk, u32 reason,
			 enum exa_native_wait wait)
{
	bool patient = wait != EXA_NATIVE_NOW;
	int err = 0;

	while (!exa_stream_give(es, sk, reason, patient)) {
		if (wait == EXA_NATIVE_NOWAIT)
			return -EAGAIN;
		release_sock(sk);
		if (wait == EXA_NATIVE_END) {
			patient = wait_var_event_timeout(&es->place,
							 READ_ONCE(es->place) != EXA_LEAVING,
							 NATIVE_END);
		} else {
			err = wait_var_event_killable(&es->place,
						      READ_ONCE(es->place) != EXA_LEAVING);
		}
		lock_sock(sk);
		if (err)
			return err;
	}
	return 0;
}

/* A call begins: until its end nothing is unloaded and its connection is not taken */
static struct exa_stream *native_begin(const struct sock *sk, struct exa_native *native)
	__acquires(native)
{
	native->inside = srcu_read_lock(&native_inside);
	__module_get(THIS_MODULE);
	native->es = exa_stream_of(sk);
	if (native->es)
		atomic_inc(&native->es->callers);
	return native->es;
}

/*
 * For a call that locks the socket itself: the connection is at home, and is not taken
 * again before exa_native_leave(). Otherwise why not, and the call is not made; but
 * exa_native_leave() always is.
 */
int exa_native_enter(struct sock *sk, struct exa_native *native, enum exa_native_wait wait)
	__acquires(native)
{
	struct exa_stream *es = native_begin(sk, native);
	int err;

	if (!es)
		return 0;
	lock_sock(sk);
	err = exa_native_hand_back(es, sk, EXASOCK_S_CALL, wait);
	release_sock(sk);
	return err;
}

/* The socket may be gone */
void exa_native_leave(const struct exa_native *native) __releases(native)
{
	if (native->es) {
		atomic_dec(&native->es->callers);
		exa_stream_put(native->es);
	}
	module_put(THIS_MODULE);
	srcu_read_unlock(&native_inside, native->inside);
}

/*
 * For a call with the socket locked by the caller, whose lock keeps the connection at home.
 * A BPF program may call without having locked it: then the connection goes home soon. And
 * it must not sleep.
 */
int exa_native_enter_locked(struct sock *sk, struct exa_native *native,
			    enum exa_native_wait wait) __acquires(native)
{
	struct exa_stream *es = native_begin(sk, native);
	int err = 0;

	if (!es)
		return 0;
	if (sock_owned_by_user_nocheck(sk)) {
		err = exa_native_hand_back(es, sk, EXASOCK_S_CALL, wait);
	} else {
		spin_lock_bh(&es->lock);
		exa_stream_send_home(es, EXASOCK_S_CALL);
		if (es->place != EXA_HOME)
			err = -EAGAIN;
		spin_unlock_bh(&es->lock);
	}
	return err;
}

/*
 * At home for good, and the socket has all of its own functions again: what the call makes
 * of it keeps, or copies, what it finds. With the socket locked.
 */
void exa_native_give_up(struct exa_stream *es, struct sock *sk)
{
	if (!es)
		return;
	es->gone = true;
	exa_stream_ops_restore(sk);
	exa_attachment_unhook(&es->attachment, false);
}

/* With the socket locked, or nobody else has it; its descriptor is held */
void exa_stream_ops_install(struct sock *sk)
{
	struct socket *sock = sk->sk_socket;

	__module_get(THIS_MODULE);
#ifdef SOCK_CUSTOM_SOCKOPT
	set_bit(SOCK_CUSTOM_SOCKOPT, &sock->flags);
#endif
	WRITE_ONCE(sock->ops, &exa_stream_ops);
}

/* NULL: the last reference to it is gone */
static struct file *native_file(struct socket *sock)
{
	struct file *file;

#ifdef EXASOCK_HAVE_GET_FILE_ACTIVE
	file = get_file_active(&sock->file);
#else
	rcu_read_lock();
	file = READ_ONCE(sock->file);
	if (file && !get_file_rcu(file))
		file = NULL;
	rcu_read_unlock();
#endif
	return file;
}

/*
 * With the socket locked. A struct socket that is being released has read our operations
 * perhaps, and puts the reference to their owner itself; before that, its file is held
 * here. False: there are somebody else's on top of ours.
 */
bool exa_stream_ops_restore(struct sock *sk)
{
	struct socket *sock = sk->sk_socket;
	struct file *file;

	if (!sock || READ_ONCE(sock->ops) == &inet_stream_ops)
		return true;
	file = native_file(sock);
	if (!file)
		return true;
	if (READ_ONCE(sock->ops) != &exa_stream_ops) {
		fput(file);
		return false;
	}
	WRITE_ONCE(sock->ops, &inet_stream_ops);
#ifdef SOCK_CUSTOM_SOCKOPT
	clear_bit(SOCK_CUSTOM_SOCKOPT, &sock->flags);
#endif
	module_put(THIS_MODULE);	/* not the last one: see exa_attachment_unhook() */
	fput(file);
	return true;
}

/*
 * Nobody has a function of these tables any more. Who has loaded one without having been
 * counted yet is counted after the first wait, and who has been uncounted has left after
 * that in exa_attachments_teardown().
 */
void exa_native_teardown(void)
{
	synchronize_rcu_tasks();
	synchronize_srcu(&native_inside);
}
