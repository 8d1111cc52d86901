// SPDX-License-Identifier: GPL-2.0-only
/*
 * What an attached connection's socket does in native calls: it comes home first, and
 * then they are the kernel's own. So whoever has the socket (another process, io_uring,
 * sendfile, ss -K, the end of its last descriptor) finds an ordinary connection.
 *
 * Calls that do the kernel's work under the lock under which the connection came home
 * need no more; during others it is not taken again (exa_stream.callers).
 */

#include <linux/module.h>
#include <net/tcp.h>

#include "tcp.h"

struct proto exa_stream_proto;

/* The stream, at home until leave(); NULL: it has none any more */
static struct exa_stream *enter(struct sock *sk)
{
	struct exa_stream *es = exa_stream_of(sk);

	__module_get(THIS_MODULE);	/* the socket's owner is under way in here */
	if (!es)
		return NULL;
	atomic_inc(&es->callers);
	lock_sock(sk);
	exa_stream_give(es, sk, EXASOCK_S_CALL);
	release_sock(sk);
	return es;
}

static void leave(struct exa_stream *es)
{
	if (es) {
		atomic_dec(&es->callers);
		exa_stream_put(es);
	}
	module_put(THIS_MODULE);
}

/* With the socket locked by the caller */
static void come_home(struct sock *sk)
{
	struct exa_stream *es = exa_stream_of(sk);

	if (!es)
		return;
	exa_stream_give(es, sk, EXASOCK_S_CALL);
	exa_stream_put(es);
}

static int stream_sendmsg(struct sock *sk, struct msghdr *msg, size_t size)
{
	struct exa_stream *es = enter(sk);
	int ret;

	ret = tcp_prot.sendmsg(sk, msg, size);
	leave(es);
	return ret;
}

#ifdef EXASOCK_HAVE_RECVMSG_ADDR_LEN
static int stream_recvmsg(struct sock *sk, struct msghdr *msg, size_t size, int flags,
			  int *addr_len)
{
	struct exa_stream *es = enter(sk);
	int ret;

	ret = tcp_prot.recvmsg(sk, msg, size, flags, addr_len);
	leave(es);
	return ret;
}
#else
static int stream_recvmsg(struct sock *sk, struct msghdr *msg, size_t size, int flags)
{
	struct exa_stream *es = enter(sk);
	int ret;

	ret = tcp_prot.recvmsg(sk, msg, size, flags);
	leave(es);
	return ret;
}
#endif

/* The last descriptor is gone. The socket may be gone when this returns. */
static void stream_close(struct sock *sk, long timeout)
{
	struct exa_stream *es = enter(sk);

	tcp_prot.close(sk, timeout);
	leave(es);
}

static void stream_shutdown(struct sock *sk, int how)
{
	come_home(sk);
	tcp_prot.shutdown(sk, how);
}

static int stream_disconnect(struct sock *sk, int flags)
{
	come_home(sk);
	return tcp_prot.disconnect(sk, flags);
}

static void stream_keepalive(struct sock *sk, int on)
{
	come_home(sk);
	tcp_prot.keepalive(sk, on);
}

/* Another protocol on top of it keeps what it finds below: that must not be ours */
static void leave_for_good(struct exa_stream *es, struct sock *sk)
{
	lock_sock(sk);
	es->gone = true;
	WRITE_ONCE(es->ring->dead, 1);
	if (sk->sk_prot == &exa_stream_proto)
		WRITE_ONCE(sk->sk_prot, &tcp_prot);
	release_sock(sk);
}

static int stream_setsockopt(struct sock *sk, int level, int name, sockptr_t value,
			     unsigned int size)
{
	struct exa_stream *es = enter(sk);
	int ret;

	if (es && level == SOL_TCP && name == TCP_ULP)
		leave_for_good(es, sk);
	ret = tcp_prot.setsockopt(sk, level, name, value, size);
	leave(es);
	return ret;
}

static int stream_getsockopt(struct sock *sk, int level, int name, char __user *value,
			     int __user *size)
{
	struct exa_stream *es = enter(sk);
	int ret;

	ret = tcp_prot.getsockopt(sk, level, name, value, size);
	leave(es);
	return ret;
}

#ifdef EXASOCK_HAVE_IOCTL_POINTER
static int stream_ioctl(struct sock *sk, int command, int *argument)
{
	struct exa_stream *es = enter(sk);
	int ret;

	ret = tcp_prot.ioctl(sk, command, argument);
	leave(es);
	return ret;
}
#else
static int stream_ioctl(struct sock *sk, int command, unsigned long argument)
{
	struct exa_stream *es = enter(sk);
	int ret;

	ret = tcp_prot.ioctl(sk, command, argument);
	leave(es);
	return ret;
}
#endif

static int stream_abort(struct sock *sk, int err)
{
	struct exa_stream *es = enter(sk);
	int ret;

	ret = tcp_prot.diag_destroy(sk, err);
	leave(es);
	return ret;
}

void exa_stream_proto_setup(void)
{
	exa_stream_proto = tcp_prot;
	exa_stream_proto.sendmsg = stream_sendmsg;
	exa_stream_proto.recvmsg = stream_recvmsg;
	exa_stream_proto.close = stream_close;
	exa_stream_proto.shutdown = stream_shutdown;
	exa_stream_proto.disconnect = stream_disconnect;
	exa_stream_proto.keepalive = stream_keepalive;
	exa_stream_proto.setsockopt = stream_setsockopt;
	exa_stream_proto.getsockopt = stream_getsockopt;
	exa_stream_proto.ioctl = stream_ioctl;
	exa_stream_proto.diag_destroy = stream_abort;
}
