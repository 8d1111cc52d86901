// SPDX-License-Identifier: GPL-2.0-only
/* Of hooks.h: what an attached connection's struct proto and struct proto_ops do themselves */

#include <linux/bpf.h>
#include <linux/module.h>
#include <linux/net.h>
#include <linux/skmsg.h>
#include <linux/splice.h>
#include <net/inet_common.h>
#include <net/tcp.h>

#include "tcp.h"

struct proto exa_stream_proto;
struct proto_ops exa_stream_ops;

static enum exa_native_wait native_wait(int flags)
{
	return flags & MSG_DONTWAIT ? EXA_NATIVE_NOWAIT : EXA_NATIVE_WAIT;
}

/* --- struct proto ------------------------------------------------------------------------ */

static int proto_sendmsg(struct sock *sk, struct msghdr *msg, size_t size)
{
	struct exa_native native;
	int ret;

	ret = exa_native_enter(sk, &native, native_wait(msg->msg_flags));
	if (!ret)
		ret = tcp_prot.sendmsg(sk, msg, size);
	exa_native_leave(&native);
	return ret;
}

#ifdef EXASOCK_HAVE_RECVMSG_ADDR_LEN
static int proto_recvmsg(struct sock *sk, struct msghdr *msg, size_t size, int flags,
			 int *addr_len)
{
	struct exa_native native;
	int ret;

	ret = exa_native_enter(sk, &native, native_wait(flags));
	if (!ret)
		ret = tcp_prot.recvmsg(sk, msg, size, flags, addr_len);
	exa_native_leave(&native);
	return ret;
}
#else
static int proto_recvmsg(struct sock *sk, struct msghdr *msg, size_t size, int flags)
{
	struct exa_native native;
	int ret;

	ret = exa_native_enter(sk, &native, native_wait(flags));
	if (!ret)
		ret = tcp_prot.recvmsg(sk, msg, size, flags);
	exa_native_leave(&native);
	return ret;
}
#endif

#ifdef EXASOCK_HAVE_SENDPAGE
static int proto_sendpage(struct sock *sk, struct page *page, int offset, size_t size, int flags)
{
	struct exa_native native;
	int ret;

	ret = exa_native_enter(sk, &native, native_wait(flags));
	if (!ret)
		ret = tcp_prot.sendpage(sk, page, offset, size, flags);
	exa_native_leave(&native);
	return ret;
}
#endif

#ifdef EXASOCK_HAVE_SPLICE_EOF
static void proto_splice_eof(struct socket *sock)
{
	struct exa_native native;

	if (!exa_native_enter(sock->sk, &native, EXA_NATIVE_WAIT))
		tcp_prot.splice_eof(sock);
	exa_native_leave(&native);
}
#endif

/* The last descriptor is gone. The socket may be gone when this returns. */
static void proto_close(struct sock *sk, long timeout)
{
	struct exa_native native;

	exa_native_enter(sk, &native, EXA_NATIVE_END);
	tcp_prot.close(sk, timeout);
	exa_native_leave(&native);
}

static void proto_shutdown(struct sock *sk, int how)
{
	struct exa_native native;

	exa_native_enter_locked(sk, &native, EXA_NATIVE_END);
	tcp_prot.shutdown(sk, how);
	exa_native_leave(&native);
}

static int proto_disconnect(struct sock *sk, int flags)
{
	struct exa_native native;
	int ret;

	exa_native_enter_locked(sk, &native, EXA_NATIVE_NOW);
	exa_native_give_up(native.es, sk);
	ret = tcp_prot.disconnect(sk, flags);
	exa_native_leave(&native);
	return ret;
}

static void proto_keepalive(struct sock *sk, int on)
{
	struct exa_native native;

	exa_native_enter_locked(sk, &native, EXA_NATIVE_NOWAIT);
	tcp_prot.keepalive(sk, on);
	exa_native_leave(&native);
}

static int proto_setsockopt(struct sock *sk, int level, int name, sockptr_t value,
			    unsigned int size)
{
	struct exa_native native;
	int ret;

	ret = exa_native_enter(sk, &native, EXA_NATIVE_WAIT);
	if (ret)
		goto leave;
	if (level == SOL_TCP && name == TCP_ULP) {
		lock_sock(sk);
		exa_native_give_up(native.es, sk);
		release_sock(sk);
	}
	ret = tcp_prot.setsockopt(sk, level, name, value, size);
leave:
	exa_native_leave(&native);
	return ret;
}

static int proto_getsockopt(struct sock *sk, int level, int name, char __user *value,
			    int __user *size)
{
	struct exa_native native;
	int ret;

	ret = exa_native_enter(sk, &native, EXA_NATIVE_WAIT);
	if (!ret)
		ret = tcp_prot.getsockopt(sk, level, name, value, size);
	exa_native_leave(&native);
	return ret;
}

#ifdef EXASOCK_HAVE_IOCTL_POINTER
static int proto_ioctl(struct sock *sk, int command, int *argument)
{
	struct exa_native native;
	int ret;

	ret = exa_native_enter(sk, &native, EXA_NATIVE_WAIT);
	if (!ret)
		ret = tcp_prot.ioctl(sk, command, argument);
	exa_native_leave(&native);
	return ret;
}
#else
static int proto_ioctl(struct sock *sk, int command, unsigned long argument)
{
	struct exa_native native;
	int ret;

	ret = exa_native_enter(sk, &native, EXA_NATIVE_WAIT);
	if (!ret)
		ret = tcp_prot.ioctl(sk, command, argument);
	exa_native_leave(&native);
	return ret;
}
#endif

/* ss -K locks nothing; a BPF program that walks the sockets has locked this one */
static int proto_diag_destroy(struct sock *sk, int err)
{
	struct exa_native native;
	int ret;

	if (has_current_bpf_ctx())
		exa_native_enter_locked(sk, &native, EXA_NATIVE_NOW);
	else
		exa_native_enter(sk, &native, EXA_NATIVE_END);
	ret = tcp_prot.diag_destroy(sk, err);
	exa_native_leave(&native);
	return ret;
}

#ifdef CONFIG_BPF_SYSCALL
/*
 * A sockmap puts functions of its own on top of what it finds, and has noted that already.
 * With the socket locked; by a BPF program perhaps without, where nobody can hand it back.
 */
static int proto_psock_update_sk_prot(struct sock *sk, struct sk_psock *psock, bool restore)
{
	gfp_t allocation = sk->sk_allocation;
	struct exa_native native;
	int ret;

	/* of an update that failed: nothing was put on top of ours */
	if (restore)
		return 0;
	/* a BPF program's update locks the socket without owning it, where ours may wait for it */
	if (in_softirq() || !sock_owned_by_user_nocheck(sk))
		return -EBUSY;
	sk->sk_allocation = GFP_ATOMIC;	/* the caller is under RCU */
	ret = exa_native_enter_locked(sk, &native, EXA_NATIVE_NOWAIT);
	sk->sk_allocation = allocation;
	if (!ret) {
		exa_native_give_up(native.es, sk);
		psock->sk_proto = &tcp_prot;
		psock->saved_close = tcp_prot.close;
		psock->psock_update_sk_prot = tcp_prot.psock_update_sk_prot;
		ret = tcp_prot.psock_update_sk_prot(sk, psock, restore);
	}
	exa_native_leave(&native);
	return ret;
}
#endif

/* --- struct proto_ops -------------------------------------------------------------------- */

/* Others come by struct proto; these do not, where the kernel lets a socket have them */
static int ops_setsockopt(struct socket *sock, int level, int name, sockptr_t value,
			  unsigned int size)
{
	struct exa_native native;
	int ret;

	if (level != SOL_SOCKET)
		return inet_stream_ops.setsockopt(sock, level, name, value, size);
	ret = exa_native_enter(sock->sk, &native, EXA_NATIVE_WAIT);
	if (!ret)
		ret = sock_setsockopt(sock, level, name, value, size);
	exa_native_leave(&native);
	return ret;
}

static ssize_t ops_splice_read(struct socket *sock, loff_t *at, struct pipe_inode_info *pipe,
			       size_t size, unsigned int flags)
{
	enum exa_native_wait wait =
		flags & SPLICE_F_NONBLOCK ? EXA_NATIVE_NOWAIT : EXA_NATIVE_WAIT;
	struct exa_native native;
	ssize_t ret;

	ret = exa_native_enter(sock->sk, &native, wait);
	if (!ret)
		ret = inet_stream_ops.splice_read(sock, at, pipe, size, flags);
	exa_native_leave(&native);
	return ret;
}

/* With the socket locked */
static int ops_read_sock(struct sock *sk, read_descriptor_t *to, sk_read_actor_t actor)
{
	struct exa_native native;
	int ret;

	ret = exa_native_enter_locked(sk, &native, EXA_NATIVE_NOWAIT);
	if (!ret)
		ret = inet_stream_ops.read_sock(sk, to, actor);
	exa_native_leave(&native);
	return ret;
}

/* The same */
static int ops_sendmsg_locked(struct sock *sk, struct msghdr *msg, size_t size)
{
	struct exa_native native;
	int ret;

	ret = exa_native_enter_locked(sk, &native, EXA_NATIVE_NOWAIT);
	if (!ret)
		ret = inet_stream_ops.sendmsg_locked(sk, msg, size);
	exa_native_leave(&native);
	return ret;
}

#define HOOK_HAND_BACK(assignment)	(assignment)
#define HOOK_GIVE_UP(assignment)	(assignment)
#define HOOK_PASS(...)			((void)0)
#define HOOK_DATA(...)			((void)0)
#define PROTO(name, decision)		HOOK_##decision(exa_stream_proto.name = proto_##name)
#define OPS(name, decision)		HOOK_##decision(exa_stream_ops.name = ops_##name)

/*
 * Their owner is this module: a socket that is cloned or accepted while its parent has these
 * tables has a reference from the kernel, which puts it when the socket is gone.
 */
void exa_stream_hooks_setup(void)
{
	exa_stream_proto = tcp_prot;
	exa_stream_proto.owner = THIS_MODULE;
	exa_stream_ops = inet_stream_ops;
	exa_stream_ops.owner = THIS_MODULE;
#include "hooks.h"
}
