/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * exasock: the structures its files share.
 *
 * A context (an open /dev/exasock) has attachments, one for each accelerated
 * socket. An attachment belongs to its socket's namespace; a namespace has state
 * only while it has attachments, and a moment longer: its ExaNIC devices, the
 * destinations its sockets send to, the flows they receive. Ports are what those devices stand on.
 *
 * Nothing here keeps a socket, a device or a namespace alive.
 *
 * Lock order: RTNL, exa_mutex, struct exa_attachment.lock, sk_callback_lock,
 * struct exa_attachment_kind.lock. exa_port_equipping is outside exa_mutex, and never together with
 * RTNL.
 * With exa_mutex held nothing is allocated and no grace period is waited for (rule B5): whoever
 * holds RTNL may wait for it.
 */
#ifndef EXASOCK_H
#define EXASOCK_H

#include <linux/etherdevice.h>
#include <linux/hrtimer.h>
#include <linux/if_vlan.h>
#include <linux/kref.h>
#include <linux/mutex.h>
#include <linux/netdevice.h>
#include <linux/rcupdate.h>
#include <linux/seqlock.h>
#include <linux/spinlock.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>
#include <net/route.h>
#include <net/sock.h>

#include "../include/exanic_kernel.h"
#include "../include/exasock_abi.h"
#include "attachment.h"
#include "compat.h"
#include "shared.h"

/* Devices between a namespace's device and the card, itself and the port included */
#define EXA_CHAIN		3
#define EXA_DST_SLOTS		512
#define EXA_FLOW_SLOTS		256
#define EXA_TXQS		4
#define EXA_GATHERINGS		16	/* ports that a namespace tells apart */

/* Bytes before the payload: Ethernet, VLAN tag, IPv4, UDP */
#define EXA_HEADERS		(VLAN_ETH_HLEN + 20 + 8)

struct exa_txq;

/* A port of a card that some namespace's device stands on */
struct exa_port {
	struct net_device *dev;
	struct list_head list;		/* exa_ports, under exa_mutex */
	struct list_head existing;	/* until its transmit memory is given back */
	struct list_head ifaces;	/* on it, of all namespaces; under exa_mutex */
	unsigned int users;		/* the same */
	bool leaving;			/* its net device goes; the same */
	unsigned int round;		/* when transmit queues were tried for it; the same */
	u32 gathering;			/* in NAPI: the poll that gathers for some namespace */
	u16 number;			/* from 1, no other has it: see struct exa_ns.gathering */
	struct exa_txq __rcu *txq[EXA_TXQS];
	struct rcu_work free;
};

/*
 * A device of a namespace with attachments: the port itself, a VLAN or a macvlan.
 * Found by what frames carry: port, VLAN tag, destination address (rule N3).
 */
struct exa_iface {
	struct hlist_node node;		/* by port, tag and address */
	struct hlist_node group;	/* by port and tag: takes multicast */
	struct list_head list;		/* in its namespace */
	struct list_head beside;	/* on its port, or where it is under way */
	struct exa_ns *ns;
	struct exa_port *port;
	struct net_device *dev;
	struct net_device *chain[EXA_CHAIN];	/* dev first, the port last */
	unsigned int depth;
	int ifindex;
	u16 vid;			/* 0: untagged */
	u8 mac[ETH_ALEN];
	bool macvlan;
	bool up;			/* cleared before it goes */
	u16 siblings;			/* of a macvlan: grows when those beside it change */
	struct exa_settling settling;
	struct rcu_head rcu;
};

/*
 * May the datagrams of one flow be delivered here? Written under struct exa_ns.lock, read by the
 * sequence count; see flow.c.
 */
struct exa_flow {
	seqcount_t sequence;
	__be32 saddr;
	__be32 daddr;
	int ifindex;
	int rp_filter;
	int genid;			/* of the namespace's routes */
	unsigned int gen;		/* of its devices */
	__be32 spec_dst;
	u32 used;			/* when, about: see flow_now() */
	u8 tos;
	bool local;
	bool known;			/* it says something */
};

/* The tag that the VLAN device would put on what the socket sends: its tag and a priority */
static inline u16 exa_iface_tci(const struct exa_iface *iface, const struct sock *sk)
{
	unsigned int i;

	for (i = 0; iface->vid && i < iface->depth; i++) {
		struct net_device *dev = iface->chain[i];

		if (is_vlan_dev(dev) && vlan_dev_priv(dev)->nr_egress_mappings)
			return iface->vid |
			       vlan_dev_get_egress_qos_mask(dev, READ_ONCE(sk->sk_priority));
	}
	return iface->vid;
}

/* State of a namespace that has attachments, or had them a moment ago */
struct exa_ns {
	struct net *net;		/* not referenced: who gets here by a socket has it */
	unsigned int gen;		/* of its devices: grows after one has come or gone */
	u32 seed;			/* of its tables: not known outside */
	bool bypass;			/* EXASOCK_SET_BYPASS_FILTERS */
	bool left;			/* no more devices, no more users */
	u64 cookie;
	struct list_head list;		/* exa_namespaces, under exa_mutex */
	refcount_t refs;		/* to this memory */
	unsigned int users;		/* attachments, made or being made; under exa_mutex, */
	unsigned int count[EXA_KINDS];	/* and those that count against its share */
	unsigned long idle_since;	/* jiffies, when there are none; the same */
	struct list_head ifaces;
	struct hlist_head attached[EXA_KINDS];	/* their kind's lock, read under RCU */
	spinlock_t holding_lock;	/* inside struct exa_attachment.lock */
	struct list_head holding;	/* those that have held something: see exa_flush_ns() */
	u64 gathering[EXA_GATHERINGS];	/* by port: see gather() */
	spinlock_t lock;		/* replacing what follows */
	struct exa_dst __rcu *dst[EXA_DST_SLOTS];
	struct exa_flow flow[EXA_FLOW_SLOTS];
	struct rcu_head rcu;
};

/* Of every namespace, with attachments or without */
struct exa_pernet {
	struct exa_ns *ns;		/* under exa_mutex */
	bool bypass;
	atomic64_t refused[EXA_KINDS][EXASOCK_N_REFUSALS];
};

/* Received datagram, as far as it has been looked at */
struct exa_packet {
	const struct exanic_rx_frame *frame;
	u32 bytes;			/* of the frame, without FCS */
	u32 network;			/* offset of the IP header */
	u32 payload;			/* offset and */
	u32 length;			/* length of the payload */
	u16 vid;
	bool group;			/* to a multicast or broadcast MAC address */
	u8 ttl;
	u8 tos;
	__be32 saddr;
	__be32 daddr;
	__be16 sport;
	__be16 dport;
	__sum16 check;
	u8 dmac[ETH_ALEN];
};

struct exa_context {
	struct mutex lock;		/* attach and detach of this context */
	struct xarray handles[EXA_KINDS];	/* attachments */
	struct exa_share *share;	/* its user's */
	bool host;			/* opened by who may configure the host's network */
	unsigned long patience;		/* jiffies: until when connections may wait for memory */
	struct pid *pid;
	char comm[TASK_COMM_LEN];
};

/*
 * A slot, and the datagram that begins there. All that the kernel acts on is here, in memory
 * that nobody maps; the same in the ring is for readers (rules B1, B2).
 */
struct exa_held {
	u32 owner;			/* number of what it is a part of */
	bool begins;			/* a datagram, whole and checked; its number is @owner */
	bool alone;			/* others have theirs: this socket's only */
	u32 frame;			/* bytes, from the Ethernet header on, no FCS */
	struct net_device *port;	/* it came by; not referenced: see iface.c */
	u64 since;			/* ktime, ns */
	u64 software_ns;		/* wall clock, and */
	u64 hardware_ns;		/* the card's, when it came; 0: not taken */
};

/* Sent past the stack; of each processor, for what two write together costs each of them */
struct exa_sent {
	u64 datagrams;
	u64 bytes;
};

/* An attached UDP socket */
struct exa_sock {
	EXA_ATTACHMENT;
	u16 dst_at;			/* where its last destination was: a hint */
	struct exa_sent __percpu *sent;

	/* all that follows under @lock */
	bool over;			/* nothing is held any more */
	u32 head;			/* number that comes next */
	u32 oldest;			/* first one that may still be held */
	struct list_head holding;	/* in its namespace, under its holding_lock */
	struct exa_held *held;		/* by slot */
	struct hrtimer timer;
	u64 rx_held;			/* as in struct exasock_ring */
	u64 rx_taken;
	u64 rx_kernel[EXASOCK_R_REASONS];

	/* not under @lock */
	struct exa_shared shared;
	atomic_t native;		/* as in struct exasock_ring */
	atomic64_t tx_kernel[EXASOCK_R_REASONS];
};

/* main.c */
extern struct mutex exa_mutex;
extern struct list_head exa_namespaces;
extern unsigned int exa_slots;
extern unsigned int exa_max_sockets;
extern unsigned int exa_max_sockets_share;
u64 exa_hold_ns(void);
bool exa_fresh(u64 heartbeat);

/* chardev.c */
int exa_chardev_register(void);
void exa_chardev_unregister(void);

/* ns.c */
int exa_pernet_register(void);
void exa_pernet_unregister(void);
struct exa_pernet *exa_pernet(const struct net *net);
struct exa_ns *exa_ns_get(struct net *net);
void exa_ns_put(struct exa_ns *ns);
void exa_ns_forget(struct exa_ns *ns);
void exa_ns_stop(void);
int exa_setting(struct exasock_setting *setting);
void exa_refused(const struct exa_attachment_kind *kind, const struct net *net, int err);

/* port.c */
struct exa_port *exa_port_alloc(struct net_device *dev);
struct exa_port *exa_port_join(struct exa_port *fresh);
struct exa_port *exa_port_find(const struct net_device *dev);
void exa_port_put(struct exa_port *port);
void exa_port_unregistered(const struct net_device *dev);
void exa_ports_equip(void);
void exa_ports_equip_soon(void);
void exa_ports_retry(void);
int exa_ports_setup(void);
void exa_ports_teardown(void);

/* iface.c */
int exa_iface_register(void);
void exa_iface_unregister(void);
bool exa_ifaces_exist(struct net *net);
void exa_ifaces_find(struct net *net, struct list_head *fresh);
void exa_ifaces_publish(struct list_head *fresh);
void exa_ifaces_discard(struct list_head *fresh);
void exa_ifaces_drop(struct exa_ns *ns);
struct exa_iface *exa_iface_of_frame(const struct net_device *port, u16 vid, const u8 *mac,
				     bool group);
struct exa_iface *exa_iface_of_dev(struct exa_ns *ns, const struct net_device *dev);

/* memory.c */
struct exa_sock *exa_sock_alloc(void);
void exa_sock_free(struct exa_sock *es);
struct exasock_slot *exa_slot(const struct exa_sock *es, u32 number);

/* share.c */
int exa_share_open(struct exa_context *context);
void exa_share_close(struct exa_context *context);
int exa_share_take(struct exa_attachment_kind *kind, struct exa_context *context,
		   struct exa_ns *ns);
void exa_share_give(struct exa_attachment_kind *kind, struct exa_context *context,
		    struct exa_ns *ns);

/* sock.c */
extern struct exa_attachment_kind exa_sock_kind;
int exa_socks_setup(void);
struct exa_sock *exa_sock_find(const struct sock *sk);
void exa_sock_data_ready(struct sock *sk);

/* hold.c */
void exa_hold_start(struct exa_sock *es);

/* How a datagram is told of, and to whom */
struct exa_telling {
	__be32 spec_dst;
	u16 cmsg;
	bool alone;			/* there are other receivers */
};

enum exasock_reason exa_hold(struct exa_sock *es, const struct exa_iface *iface,
			     const struct exa_packet *packet, const struct exa_telling *telling);
bool exa_pass(struct exa_sock *es, const struct exanic_rx_frame *frame,
	      enum exasock_reason reason, bool alone);
void exa_hold_end(struct exa_sock *es);
void exa_flush_ns(struct exa_ns *ns);
void exa_flush_device(struct exa_ns *ns);
void exa_flush(struct exa_sock *es, enum exasock_reason reason);
void exa_flush_for(struct exa_sock *es, enum exasock_reason reason);

/* receive.c */
void exa_settle(struct exa_settling *settling);
bool exa_settled(struct exa_settling *settling);
int exa_receive_start(void);
void exa_receive_stop(void);

/* packet.c */
enum exa_parse {
	EXA_PARSE_GOOD,
	EXA_PARSE_OTHER,	/* no UDP over IPv4 */
	EXA_PARSE_UNSEEN,	/* it is, but whose cannot be told: a fragment, or IP options */
	EXA_PARSE_ODD,		/* it is, but the kernel should judge it; addresses are set */
};

enum exa_parse exa_parse(const struct exanic_rx_frame *frame, struct exa_packet *packet);

/* lookup.c */
#define EXA_RECEIVERS		16

struct exa_receivers {
	unsigned int count;
	bool kernel;			/* there may be others, or it is not certain which */
	struct sock *sk[EXA_RECEIVERS];
};

void exa_lookup(struct net *net, const struct exa_packet *packet, int ifindex,
		struct exa_receivers *receivers);
enum exasock_reason exa_rx_options(struct sock *sk, const struct exa_packet *packet, u16 *cmsg);

/* flow.c */
bool exa_flow_local(struct exa_ns *ns, const struct exa_iface *iface,
		    const struct exa_packet *packet, __be32 *spec_dst);
void exa_flows_init(struct exa_ns *ns);

/* obstacle.c */
enum exasock_reason exa_rx_obstacle(const struct exa_ns *ns, const struct exa_iface *iface);
enum exasock_reason exa_rx_sock_obstacle(struct sock *sk);
enum exasock_reason exa_tx_obstacle(const struct exa_ns *ns, const struct exa_iface *iface,
				    struct sock *sk);
bool exa_tracked(const struct net *net);

/* security.c */
void exa_security_setup(void);

/* dst.c */
struct exa_dst_key {
	__be32 daddr;
	__be32 saddr;
	__be16 dport;
	__be16 sport;
	int oif;
	u32 mark;
	u32 uid;
	u8 tos;
	bool local;			/* SO_DONTROUTE */
	bool stream;			/* TCP, else UDP */
};

struct exa_dst {
	struct exa_dst_key key;
	unsigned int gen;		/* of the namespace's devices */
	u8 flags;			/* of the lookup, that the socket's options made */
	struct rtable *rt;
	bool plain;			/* the route is the kernel's own, nothing transforms it */
	__be32 source;			/* what the route chose */
	u32 mtu;			/* without what path MTU discovery found */
	enum exasock_reason reason;	/* nothing can be sent there past the stack */
	struct exa_iface *iface;	/* valid while gen is */
	u64 mac;			/* last one seen not to be on this host; see dst.c */
	struct rcu_head rcu;
};

/* Of the route, whatever becomes known while it is current */
static inline u32 exa_dst_mtu(const struct exa_dst *dst)
{
	return dst->rt->rt_pmtu ? dst_mtu(&dst->rt->dst) : dst->mtu;
}

struct exa_dst *exa_dst_find(struct exa_ns *ns, struct sock *sk, const struct exa_dst_key *key,
			     u16 *at);
enum exasock_reason exa_dst_mac(struct exa_dst *dst, struct sock *sk, u8 *mac);
void exa_dsts_drop(struct exa_ns *ns);

/* send.c */
long exa_send(const struct exa_context *context, const struct exasock_send *send);

/* txq.c */
bool exa_txqs_complete(const struct exa_port *port);
void exa_txqs_alloc(struct exa_port *port);
void exa_txqs_free(struct exa_port *port);
enum exasock_reason exa_txq_send(struct exa_port *port, u8 *image, u32 bytes);

#endif /* EXASOCK_H */
