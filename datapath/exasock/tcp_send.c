// SPDX-License-Identifier: GPL-2.0-only
/*
 * Sending on a taken connection: bytes go into the send buffer, and from there in
 * segments as far as the peer's window, the congestion window (tcp_congestion.c) and
 * Nagle's rule allow; acknowledgments make room for more. Where the buffer's room ends,
 * the connection goes home, and waiting is the kernel's.
 */

#include <linux/file.h>
#include <linux/net.h>
#include <linux/slab.h>
#include <linux/uio.h>

#include "tcp.h"

/* How much of what waits may be sent now; 0: it waits for an acknowledgment */
static u32 sendable(struct exa_stream *es)
{
	u32 length = min(es->write_seq - es->snd_nxt, es->mss);
	u32 window = es->snd_una + es->snd_wnd - es->snd_nxt;

	es->limited = es->flight >= es->cwnd;
	if (es->limited || (s32)window < (s32)length)
		return 0;
	if (length < es->mss && !es->nodelay && es->flight && after(es->snd_sml, es->snd_una))
		return 0;
	return length;
}

/*
 * The card's memory has no room, which others may have taken. The next acknowledgment tries again;
 * where none is to come a timer does, for as long as one might take.
 */
static void push_later(struct exa_stream *es)
{
	if (es->flight)
		return;
	if (!es->loss_at)
		exa_stream_timer(es, &es->loss_at, exa_stream_loss_ns(es));
	exa_stream_timer(es, &es->push_at, EXA_BUSY_NS);
}

/* Send what may be sent. Locked, bottom halves off; the connection may leave by it. */
void exa_stream_push(struct exa_stream *es)
{
	if (!es->flight && es->snd_nxt != es->write_seq)
		exa_congestion_idle(es);
	while (es->place == EXA_TAKEN && es->snd_nxt != es->write_seq) {
		u32 length = sendable(es), reason;
		u8 flags = TCPHDR_ACK;

		if (!length && es->flight)
			return;
		if (!length) {
			exa_stream_send_home(es, EXASOCK_S_WINDOW);
			return;
		}
		if (es->snd_nxt + length == es->write_seq)
			flags |= TCPHDR_PSH;
		reason = exa_stream_transmit(es, es->snd_nxt, length, flags);
		if (reason == EXASOCK_R_BUSY) {
			push_later(es);
			return;
		}
		if (reason) {
			exa_stream_send_home(es, reason);
			return;
		}
		if (!es->flight)
			es->loss_at = 0;	/* that of push_later() */
		es->push_at = 0;
		es->snd_nxt += length;
		if (length < es->mss)
			es->snd_sml = es->snd_nxt;
		es->ends[(es->first + es->flight++) & (EXA_FLIGHT - 1)] = es->snd_nxt;
		if (!es->loss_at)
			exa_stream_timer(es, &es->loss_at, exa_stream_loss_ns(es));
	}
}

/* Taken, with room for @length bytes: 0 and where they begin. It is taken if need be. */
static u32 prepare(struct exa_stream *es, struct sock *sk, size_t length, u32 *from)
{
	u32 reason = 0;

	if (READ_ONCE(es->place) == EXA_HOME) {
		lock_sock(sk);
		reason = exa_stream_take(es, sk);
		release_sock(sk);
		if (reason)
			return reason;
	}
	spin_lock_bh(&es->lock);
	*from = es->write_seq;
	if (es->place != EXA_TAKEN)
		reason = EXASOCK_S_REST;
	else if (length > es->room - (es->write_seq - es->snd_una))
		reason = EXASOCK_S_ROOM;
	spin_unlock_bh(&es->lock);
	if (reason == EXASOCK_S_ROOM) {
		lock_sock(sk);
		exa_stream_give(es, sk, reason, true);
		release_sock(sk);
	}
	return reason;
}

static bool copy(struct exa_stream *es, u32 seq, struct iov_iter *from)
{
	while (iov_iter_count(from)) {
		u32 at = seq & (exa_stream_room - 1);
		size_t part = min_t(size_t, iov_iter_count(from), exa_stream_room - at);

		if (!copy_from_iter_full(es->buffer + at, part, from))
			return false;
		seq += part;
	}
	return true;
}

/* What was copied counts only if the connection is still where it was */
static long commit(struct exa_stream *es, struct sock *sk, u32 from, size_t length)
{
	long ret = length;
	bool leaving;

	spin_lock_bh(&es->lock);
	if (es->place == EXA_TAKEN && es->write_seq == from) {
		es->last = ktime_get_ns();
		es->write_seq += length;
		exa_stream_push(es);
	} else {
		ret = -EOPNOTSUPP;
	}
	leaving = es->place == EXA_LEAVING;
	spin_unlock_bh(&es->lock);
	if (leaving) {
		lock_sock(sk);
		if (READ_ONCE(es->place) == EXA_LEAVING)
			exa_stream_give(es, sk, es->reason, true);
		release_sock(sk);
	}
	return ret;
}

static long send_on(struct exa_stream *es, struct sock *sk, struct iov_iter *from)
{
	size_t length = iov_iter_count(from);
	long ret = -EOPNOTSUPP;
	u32 at;

	if (mutex_lock_killable(&es->sending))
		return -ERESTARTSYS;
	if (!prepare(es, sk, length, &at))
		ret = copy(es, at, from) ? commit(es, sk, at, length) : -EFAULT;
	mutex_unlock(&es->sending);
	return ret;
}

/* What is to be sent, whole: its length, or why not */
static long import(const struct exasock_stream_send *send, struct iovec **iov,
		   struct iov_iter *from)
{
	void __user *base = u64_to_user_ptr(send->iov);

	if (send->flags & EXASOCK_STREAM_BUFFER) {
		/* copying looks at the address */
		iov_iter_ubuf(from, ITER_SOURCE, base, send->iovs);
		return send->iovs;
	}
	return import_iovec(ITER_SOURCE, base, send->iovs, UIO_FASTIOV, iov, from);
}

static long send_all(struct exa_stream *es, struct sock *sk,
		     const struct exasock_stream_send *send)
{
	struct iovec fast[UIO_FASTIOV], *iov = fast;
	struct iov_iter from;
	long ret;

	ret = import(send, &iov, &from);
	if (ret > 0)
		ret = send_on(es, sk, &from);
	else if (!ret)
		ret = -EOPNOTSUPP;	/* of nothing: whatever the kernel makes of it */
	if (!(send->flags & EXASOCK_STREAM_BUFFER))
		kfree(iov);
	return ret;
}

long exa_stream_send(struct exa_context *context, const struct exasock_stream_send *send)
{
	struct exa_stream *es = NULL;
	struct socket *sock;
	long ret = -ESTALE;
	struct fd file;

	if (send->flags & ~EXASOCK_STREAM_BUFFER ||
	    (!(send->flags & EXASOCK_STREAM_BUFFER) && send->iovs > UIO_MAXIOV))
		return -EINVAL;
	/* the descriptor holds the socket while we are at it */
	file = fdget(send->fd);
	if (!fd_file(file))
		return -ESTALE;
	sock = sock_from_file(fd_file(file));
	if (sock && sock->sk)
		es = exa_stream_of(sock->sk);
	if (es) {
		if (es->context == context && es->handle == send->handle)
			ret = send_all(es, sock->sk, send);
		exa_stream_put(es);
	}
	fdput(file);
	return ret;
}
