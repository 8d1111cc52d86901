/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Streams: attached TCP connections, in turns the kernel's and ours.
 *
 * Lock order: RTNL, the context's lock, socket lock, exa_mutex or struct exa_stream.sending,
 * struct exa_stream.lock, the socket's spinlock (which the stack takes when a segment is
 * passed on with a stream locked: never the other way round).
 */
#ifndef EXASOCK_TCP_H
#define EXASOCK_TCP_H

#include <linux/skbuff.h>
#include <net/tcp.h>

#include "../include/exasock_stream.h"
#include "exasock.h"
#include "options.h"

/* Explicit congestion notification has modes */
#ifdef EXASOCK_HAVE_ECN_MODE
#define exa_tcp_ecn(tp)		tcp_ecn_mode_any(tp)
#else
#define exa_tcp_ecn(tp)		((tp)->ecn_flags & TCP_ECN_OK)
#endif

#define EXA_FLIGHT	64	/* segments that may be unacknowledged, a power of two */
#define EXA_ACK_NS	(40ULL * NSEC_PER_MSEC)	/* an acknowledgment's delay, the kernel's own */
#define EXA_NARROW_NS	(200ULL * NSEC_PER_USEC)	/* between looks whether it was read */
#define EXA_BUSY_NS	(500ULL * NSEC_PER_USEC)	/* until the card's memory is tried again */
#define EXA_STREAM_HELD	128	/* segments that wait for a connection to be home */

/* Before the payload in an image: chunk header, Ethernet, VLAN tag, IPv4, TCP with time stamp */
#define EXA_STREAM_HEADERS \
	(EXANIC_TX_CHUNK_HEADER + EXANIC_TX_CHUNK_PADDING + VLAN_ETH_HLEN + 20 + 32)

enum exa_place {
	EXA_HOME,		/* the kernel's */
	EXA_TAKEN,
	EXA_LEAVING,		/* going home: what arrives waits, nothing is sent */
};

/* Received segment, as far as it has been looked at */
struct exa_segment {
	struct exa_packet packet;
	u32 seq;
	u32 ack;
	u32 tsval;
	u16 window;
	u8 flags;
	bool reserved;			/* a flag beyond the usual ones */
	bool stamped;			/* time stamp, and no other option */
	bool bare;			/* no option at all */
	__wsum sum;			/* of the TCP header */
};

struct exa_stream {
	EXA_ATTACHMENT;			/* its socket is referenced while it is taken */
	bool gone;			/* under the socket's lock: never taken again */
	atomic_t callers;		/* native calls that may be under way */
	struct mutex sending;		/* who copies into the send buffer */
	struct delayed_work home;
	/* while it is leaving, under the socket's lock: */
	bool giving;			/* its state is the kernel's already */
	u32 unread;			/* bytes before @head that are to be given, */
	u32 readable;			/* as many as there were */
	u32 given;			/* all sent before it has been given */

	/* all that follows under @lock; @settling: since every segment comes through us */
	enum exa_place place;
	u32 reason;			/* to go home */
	int seen;			/* ifindex by which the last one came, and how */
	const struct net_device *port;
	u16 vid;
	u16 dst_at;			/* where its destination was: a hint */
	u8 mac[ETH_ALEN];
	struct sk_buff_head held;	/* each with the device that it came by, in skb_iif */

	/* where it is found without its socket, and by what: tcp_index.c */
	struct hlist_node pair;		/* while it is taken */
	struct hlist_node stray;	/* on its way home, its device none of ours any more */
	__be32 peer;
	__be32 own;
	__be16 peer_port;
	__be16 own_port;
	bool unseen;			/* others between the same addresses follow it home */

	/* received */
	u64 head;			/* offset in the ring of what comes next */
	u64 consumed;			/* as last seen in the tail */
	u32 rcv_nxt;
	u32 rcv_acked;			/* rcv_nxt as last acknowledged, */
	u32 unacked;			/* and segments with data since */
	u32 rcv_edge;			/* right edge of the window, as advertised */
	u32 rcv_window;			/* how far it is from what has been consumed */
	u32 rcv_mss;
	bool narrow;			/* the window, for want of reading */
	u32 ts_recent;

	/* sent; byte of sequence number s lies at s % exa_stream_room in @buffer */
	u32 snd_una;
	u32 snd_nxt;
	u32 write_seq;
	u32 snd_wnd;
	u32 snd_wl1;
	u32 snd_sml;			/* end of the last segment smaller than mss */
	u32 max_window;
	u32 mss;
	u32 cwnd;			/* congestion window, segments */
	u32 cwnd_taken;			/* as it was when taken */
	u32 ssthresh;
	u32 grown;			/* acknowledged towards the next segment of cwnd */
	bool limited;			/* something waits for the congestion window */
	u32 room;			/* most that may be in @buffer */
	u32 ends[EXA_FLIGHT];		/* of the segments that are unacknowledged */
	u32 flight;			/* how many, and */
	u32 first;			/* the oldest of them */
	u64 probe_ns;			/* twice the round trip: see exa_stream_loss_ns() */
	u64 rto_ns;			/* the kernel's, when it was taken, */
	u64 rto_min_ns;			/* and the least it may be */
	bool nodelay;

	/* both ways */
	bool stamps;
	bool usec_stamps;
	u32 tsoffset;
	u8 snd_wscale;
	u8 rcv_wscale;
	bool keepalive;
	u32 kernel_una;			/* what the kernel's own state says meanwhile */
	u32 kernel_rcv_nxt;
	u64 moved;			/* segments when it was taken */

	/* times: ktime, ns */
	u64 ack_at;
	u64 loss_at;
	u64 push_at;			/* the card's memory had no room */
	u64 look_at;
	u64 unused_at;
	u64 last;			/* segment, either way; now, where one is sent */
	u64 sent_at;			/* the last one with data */
	u64 since;
	u64 armed;			/* when the timer fires; 0: it does not */
	u64 rest_ns;
	u64 rested_at;
	u64 refused_ns;
	struct hrtimer timer;

	/* counted, as in struct exasock_stream */
	u64 takes;
	u64 rx_segments;
	u64 rx_bytes;
	u64 rx_home;
	u64 tx_segments;
	u64 tx_bytes;
	u64 acks;
	u64 gives[EXASOCK_S_REASONS];
	u64 refused[EXASOCK_S_REASONS];

	/* not under @lock */
	struct exa_shared shared;
	u8 *buffer;
	u8 *image;
	u32 image_room;			/* payload that it has room for */
};

/* A taken one: does it have an option that the kernel has to serve, set since then? */
static inline bool exa_stream_options_changed(const struct exa_stream *es)
{
	return exa_stream_has_options(es->sk) ||
	       sock_flag(es->sk, SOCK_KEEPOPEN) != es->keepalive;
}

/* main.c */
extern unsigned int exa_stream_room;
extern unsigned int exa_stream_rest_us;
extern bool exa_stream_enabled;
bool exa_looked(u64 heartbeat, u64 ns);
u64 exa_stream_hold_ns(void);

/* tcp_stream.c */
extern struct exa_attachment_kind exa_stream_kind;
extern void (*exa_stream_data_ready)(struct sock *sk);
int exa_streams_setup(void);
void exa_streams_teardown(void);
struct exa_stream *exa_stream_find(const struct sock *sk);
struct exa_stream *exa_stream_of(const struct sock *sk);
void exa_stream_put(struct exa_stream *es);
void exa_stream_send_home(struct exa_stream *es, u32 reason);
void exa_stream_home_retry(struct exa_stream *es);

/* tcp_index.c */
void exa_stream_index_setup(void);
void exa_stream_index(struct exa_stream *es, const struct sock *sk);
void exa_stream_unindex(struct exa_stream *es);
void exa_stream_arrived(struct exa_stream *es);
void exa_stream_arrived_unseen(struct exa_stream *es);
void exa_streams_unseen(const struct exa_ns *ns, __be32 peer, __be32 own);
bool exa_stream_is_stray(const struct exanic_rx_frame *frame, const struct exa_packet *packet);
void exa_streams_device_gone(const struct exa_iface *iface);

/* tcp_memory.c */
struct exa_stream *exa_stream_alloc(u32 mss);
void exa_stream_free(struct exa_stream *es);
u8 *exa_stream_at(const struct exa_stream *es, u64 offset, u32 *length);

/* tcp_native.c */
enum exa_native_wait {
	EXA_NATIVE_WAIT,		/* until there is memory, or a fatal signal */
	EXA_NATIVE_NOWAIT,		/* -EAGAIN */
	EXA_NATIVE_END,			/* the same, but after a while it is reset */
	EXA_NATIVE_NOW,			/* it is reset at once */
};

struct exa_native {
	struct exa_stream *es;		/* NULL: it has none any more */
	int inside;
};

int exa_native_enter(struct sock *sk, struct exa_native *native, enum exa_native_wait wait)
	__acquires(native);
int exa_native_enter_locked(struct sock *sk, struct exa_native *native,
			    enum exa_native_wait wait) __acquires(native);
int exa_native_hand_back(struct exa_stream *es, struct sock *sk, u32 reason,
			 enum exa_native_wait wait);
void exa_native_leave(const struct exa_native *native) __releases(native);
void exa_native_give_up(struct exa_stream *es, struct sock *sk);
void exa_stream_ops_install(struct sock *sk);
bool exa_stream_ops_restore(struct sock *sk);
void exa_native_teardown(void);

/* tcp_proto.c */
extern struct proto exa_stream_proto;
extern struct proto_ops exa_stream_ops;
void exa_stream_hooks_setup(void);

/* tcp_take.c */
u32 exa_stream_take(struct exa_stream *es, struct sock *sk);
long exa_stream_ioctl_take(struct exa_stream *es);

/* tcp_give.c */
bool exa_stream_give(struct exa_stream *es, struct sock *sk, u32 reason, bool patient);
void exa_stream_give_leaving(struct exa_stream *es);
long exa_stream_ioctl_home(struct exa_stream *es);

/* tcp_receive.c */
bool exa_stream_receive(const struct exanic_rx_frame *frame);
u64 exa_stream_unread(struct exa_stream *es);

/* tcp_packet.c */
enum exa_parse exa_segment_parse(const struct exanic_rx_frame *frame, struct exa_segment *segment);

/* tcp_congestion.c */
void exa_congestion_take(struct exa_stream *es, const struct sock *sk);
void exa_congestion_idle(struct exa_stream *es);
void exa_congestion_acked(struct exa_stream *es, u32 segments);
void exa_congestion_give(const struct exa_stream *es, struct sock *sk);

/* tcp_send.c */
long exa_stream_send(struct exa_context *context, const struct exasock_stream_send *send);
void exa_stream_push(struct exa_stream *es);

/* tcp_transmit.c */
u32 exa_stream_transmit(struct exa_stream *es, u32 seq, u32 length, u8 flags);
u32 exa_stream_path(struct exa_stream *es, struct sock *sk, struct exa_dst **dst);
void exa_stream_acknowledge(struct exa_stream *es);

/* tcp_timer.c */
void exa_stream_timer_setup(struct exa_stream *es);
void exa_stream_timer(struct exa_stream *es, u64 *at, u64 ns);
u64 exa_stream_loss_ns(const struct exa_stream *es);
void exa_stream_lost(const struct exa_stream *es, struct sock *sk);

/*
 * Has somebody else put functions of his own on an attached socket? Whatever they do, they
 * do it to a copy of the connection that sleeps.
 */
static inline bool exa_stream_is_foreign(const struct sock *sk)
{
	return READ_ONCE(sk->sk_prot) != &exa_stream_proto ||
	       READ_ONCE(sk->sk_data_ready) != exa_stream_data_ready;
}

#endif /* EXASOCK_TCP_H */
