// SPDX-License-Identifier: GPL-2.0-only
/*
 * Sending past the stack. The headers are made here, from the socket's own settings and
 * the kernel's route and neighbour, so a process can send nothing that its socket could
 * not; only the payload is the process's. In every doubt the answer is: send it through
 * the kernel, and nothing has happened.
 */

#include <linux/file.h>
#include <linux/net.h>
#include <linux/slab.h>
#include <linux/uio.h>
#include <net/inet_sock.h>
#include <net/ip.h>
#include <net/udp.h>

#include "exasock.h"

#define SEND_CHUNK	(EXANIC_TX_CHUNK_HEADER + EXANIC_TX_CHUNK_PADDING)
#define SEND_PAYLOAD	(SEND_CHUNK + EXA_HEADERS)	/* where it lies in an image */
#define SEND_SMALL	512				/* payloads that need no allocation */
#define SEND_LARGEST	9000

/* One datagram on its way */
struct exa_datagram {
	struct exa_sock *es;
	struct sock *sk;
	struct exa_dst key;
	u8 *image;
	u32 length;		/* of the payload */
	__wsum csum;		/* and its sum */
};

/* Counted, and left to the kernel */
static long refuse(struct exa_sock *es, enum exasock_reason reason)
{
	atomic64_inc((atomic64_t *)&es->ring->tx_kernel[reason]);
	return -EOPNOTSUPP;
}

/* Is the socket in a state that needs the kernel? */
static enum exasock_reason socket_obstacle(struct sock *sk)
{
	const struct inet_sock *inet = inet_sk(sk);
	const struct udp_sock *up = udp_sk(sk);

	if (!inet->inet_num)
		return EXASOCK_R_UNBOUND;
	if (READ_ONCE(sk->sk_err) || READ_ONCE(sk->sk_shutdown) & SEND_SHUTDOWN)
		return EXASOCK_R_ERROR;
	if (READ_ONCE(up->pending) || exa_udp_corked(sk) || READ_ONCE(up->gso_size) ||
	    READ_ONCE(up->encap_type) || rcu_access_pointer(inet->inet_opt) ||
	    sock_flag(sk, SOCK_TXTIME) || sock_flag(sk, SOCK_WIFI_STATUS) ||
	    READ_ONCE(sk->sk_tsflags) & SOF_TIMESTAMPING_TX_RECORD_MASK)
		return EXASOCK_R_OPTION;
	if (sk_wmem_alloc_get(sk))
		return EXASOCK_R_BEHIND;
	return EXASOCK_R_NONE;
}

/* What the route lookup is asked with; as udp_sendmsg() does */
static enum exasock_reason make_key(struct sock *sk, const struct exasock_send *send,
				    struct exa_dst *key)
{
	const struct inet_sock *inet = inet_sk(sk);

	memset(key, 0, sizeof(*key));
	key->daddr = send->daddr;
	key->dport = send->dport;
	if (send->flags & EXASOCK_SEND_CONNECTED) {
		if (READ_ONCE(sk->sk_state) != TCP_ESTABLISHED)
			return EXASOCK_R_ERROR;
		key->daddr = READ_ONCE(inet->inet_daddr);
		key->dport = READ_ONCE(inet->inet_dport);
	}
	if (!key->daddr || !key->dport || ipv4_is_lbcast(key->daddr))
		return EXASOCK_R_LOOP;
	key->saddr = READ_ONCE(inet->inet_saddr);
	key->oif = READ_ONCE(sk->sk_bound_dev_if);
	if (send->flags & EXASOCK_SEND_PKTINFO) {
		if (send->saddr)
			key->saddr = send->saddr;
		if (send->ifindex) {
			/* bound to another device: the kernel says what comes of it */
			if (key->oif && key->oif != send->ifindex)
				return EXASOCK_R_OPTION;
			key->oif = send->ifindex;
		}
	}
	if (ipv4_is_multicast(key->daddr)) {
		if (!key->oif)
			key->oif = READ_ONCE(inet->mc_index);
		if (!key->saddr)
			key->saddr = READ_ONCE(inet->mc_addr);
	} else if (!key->oif) {
		key->oif = READ_ONCE(inet->uc_index);
	}
	key->sport = inet->inet_sport;
	key->mark = READ_ONCE(sk->sk_mark);
	key->uid = from_kuid(&init_user_ns, sk->sk_uid);
	key->tos = READ_ONCE(inet->tos);
	key->local = sock_flag(sk, SOCK_LOCALROUTE);
	return EXASOCK_R_NONE;
}

/* The identification and fragment bits that the stack would have chosen (ip_select_ident) */
static void make_ident(struct net *net, struct sock *sk, const struct rtable *rt,
		       struct iphdr *ip)
{
	u8 discover = READ_ONCE(inet_sk(sk)->pmtudisc);
	bool ignore = discover < IP_PMTUDISC_DO || discover == IP_PMTUDISC_OMIT;

	if (discover == IP_PMTUDISC_DO || discover == IP_PMTUDISC_PROBE ||
	    ip_dont_fragment(sk, &rt->dst))
		ip->frag_off = htons(IP_DF);
	if (READ_ONCE(inet_sk(sk)->inet_daddr))
		ip->id = htons(atomic_inc_return(&inet_sk(sk)->inet_id));
	else if (!ip->frag_off || ignore)
		__ip_select_ident(net, ip, 1);
}

static u8 select_ttl(const struct inet_sock *inet, const struct rtable *rt)
{
	int ttl = READ_ONCE(inet->uc_ttl);

	if (rt->rt_type == RTN_MULTICAST)
		return READ_ONCE(inet->mc_ttl);
	return ttl < 0 ? ip4_dst_hoplimit(&rt->dst) : ttl;
}

/* Everything before the payload; returns where the frame begins */
static u8 *make_headers(const struct exa_datagram *datagram, const struct exa_dst *dst,
			const u8 *mac)
{
	const struct exa_iface *iface = dst->iface;
	struct sock *sk = datagram->sk;
	u32 length = datagram->length + sizeof(struct udphdr);
	u8 *payload = datagram->image + SEND_PAYLOAD;
	struct udphdr *udp = (struct udphdr *)(payload - sizeof(*udp));
	struct iphdr *ip = (struct iphdr *)udp - 1;
	struct ethhdr *eth;
	__sum16 check = 0;

	udp->source = dst->sport;
	udp->dest = dst->dport;
	udp->len = htons(length);
	udp->check = 0;
	if (!sk->sk_no_check_tx) {
		check = csum_tcpudp_magic(dst->source, dst->daddr, length, IPPROTO_UDP,
					  csum_partial(udp, sizeof(*udp), datagram->csum));
		udp->check = check ?: CSUM_MANGLED_0;
	}

	memset(ip, 0, sizeof(*ip));
	ip->version = 4;
	ip->ihl = sizeof(*ip) / 4;
	ip->tos = dst->tos;
	ip->tot_len = htons(length + sizeof(*ip));
	ip->ttl = select_ttl(inet_sk(sk), dst->rt);
	ip->protocol = IPPROTO_UDP;
	ip->saddr = dst->source;
	ip->daddr = dst->daddr;
	make_ident(sock_net(sk), sk, dst->rt, ip);
	ip_send_check(ip);

	if (iface->vid) {
		struct vlan_ethhdr *vlan = (struct vlan_ethhdr *)ip - 1;

		vlan->h_vlan_proto = htons(ETH_P_8021Q);
		vlan->h_vlan_TCI = htons(iface->vid);
		vlan->h_vlan_encapsulated_proto = htons(ETH_P_IP);
		eth = (struct ethhdr *)vlan;
	} else {
		eth = (struct ethhdr *)ip - 1;
		eth->h_proto = htons(ETH_P_IP);
	}
	ether_addr_copy(eth->h_dest, mac);
	ether_addr_copy(eth->h_source, iface->dev->dev_addr);
	return (u8 *)eth;
}

/* Under RCU with bottom halves off */
static enum exasock_reason send_past(struct exa_datagram *datagram)
{
	struct exa_ns *ns = datagram->es->ns;
	enum exasock_reason reason;
	struct exa_dst *dst;
	u8 mac[ETH_ALEN];
	u8 *frame;

	if (READ_ONCE(ns->left))
		return EXASOCK_R_DEVICE;
	dst = exa_dst_find(ns, datagram->sk, &datagram->key);
	if (!dst)
		return EXASOCK_R_ROUTE;
	if (dst->rt->rt_type != RTN_UNICAST && dst->rt->rt_type != RTN_MULTICAST)
		return EXASOCK_R_LOOP;
	if (!dst->iface || !READ_ONCE(dst->iface->up))
		return EXASOCK_R_DEVICE;
	if (dst->rt->dst.lwtstate || dst_xfrm(&dst->rt->dst))
		return EXASOCK_R_FILTER;
	if (datagram->length + sizeof(struct iphdr) + sizeof(struct udphdr) >
	    dst_mtu(&dst->rt->dst))
		return EXASOCK_R_SIZE;
	reason = exa_tx_obstacle(ns, dst->iface, datagram->sk);
	if (!reason)
		reason = exa_dst_mac(dst, datagram->sk, mac);
	if (reason)
		return reason;
	frame = make_headers(datagram, dst, mac);
	return exa_txq_send(dst->iface->port, frame - SEND_CHUNK,
			    SEND_CHUNK + (datagram->image + SEND_PAYLOAD - frame) +
			    datagram->length);
}

/* Gather the payload, then send. Returns its length, or an errno. */
static long send_gathered(struct exa_datagram *datagram, struct iov_iter *from)
{
	u8 small[SEND_PAYLOAD + SEND_SMALL + 8] __aligned(8);
	enum exasock_reason reason;
	long ret = -EFAULT;

	datagram->length = iov_iter_count(from);
	datagram->image = small;
	if (datagram->length > SEND_SMALL) {
		datagram->image = kmalloc(SEND_PAYLOAD + datagram->length + 8, GFP_KERNEL);
		if (!datagram->image)
			return refuse(datagram->es, EXASOCK_R_MEMORY);
	}
	datagram->csum = 0;
	if (csum_and_copy_from_iter_full(datagram->image + SEND_PAYLOAD, datagram->length,
					 &datagram->csum, from)) {
		memset(datagram->image + SEND_PAYLOAD + datagram->length, 0, 8);
		rcu_read_lock();
		local_bh_disable();
		reason = send_past(datagram);
		local_bh_enable();
		rcu_read_unlock();
		ret = reason ? refuse(datagram->es, reason) : datagram->length;
	}
	if (datagram->image != small)
		kfree(datagram->image);
	return ret;
}

static long send_on(struct exa_sock *es, struct sock *sk, const struct exasock_send *send)
{
	struct iovec fast[UIO_FASTIOV], *iov = fast;
	struct exa_datagram datagram = { .es = es, .sk = sk };
	enum exasock_reason reason;
	struct iov_iter from;
	long ret;

	reason = socket_obstacle(sk);
	if (!reason)
		reason = make_key(sk, send, &datagram.key);
	if (reason)
		return refuse(es, reason);
	ret = import_iovec(ITER_SOURCE, u64_to_user_ptr(send->iov), send->iovs, ARRAY_SIZE(fast),
			   &iov, &from);
	if (ret < 0)
		return ret;
	if (ret > SEND_LARGEST)
		ret = refuse(es, EXASOCK_R_SIZE);
	else
		ret = send_gathered(&datagram, &from);
	kfree(iov);
	if (ret >= 0) {
		atomic64_inc((atomic64_t *)&es->ring->tx_fast);
		atomic64_add(ret, (atomic64_t *)&es->ring->tx_fast_bytes);
	}
	return ret;
}

long exa_send(struct exa_context *context, const struct exasock_send *send)
{
	struct socket *sock;
	struct exa_sock *es;
	long ret = -ESTALE;
	int err;

	if (send->flags & ~(EXASOCK_SEND_PKTINFO | EXASOCK_SEND_CONNECTED) || send->reserved ||
	    send->iovs > UIO_MAXIOV)
		return -EINVAL;
	es = exa_sock_get(context, send->handle);
	if (!es)
		return -ESTALE;
	/* the descriptor holds the socket, the socket its namespace, while we are at it */
	sock = sockfd_lookup(send->fd, &err);
	if (sock) {
		if (READ_ONCE(es->sk) == sock->sk)
			ret = send_on(es, sock->sk, send);
		sockfd_put(sock);
	}
	exa_sock_put(es);
	return ret;
}
