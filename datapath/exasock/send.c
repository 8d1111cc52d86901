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
#include <linux/uaccess.h>
#include <linux/uio.h>
#include <net/inet_sock.h>
#include <net/ip.h>
#include <net/udp.h>

#include "exasock.h"
#include "foreign.h"
#include "options.h"

#define SEND_CHUNK	(EXANIC_TX_CHUNK_HEADER + EXANIC_TX_CHUNK_PADDING)
#define SEND_PAYLOAD	(SEND_CHUNK + EXA_HEADERS)	/* where it lies in an image */
#define SEND_ZEROS	16				/* at most, after it: see zero_end() */
#define SEND_SMALL	1472				/* payloads that need no allocation */
#define SEND_LARGEST	9000

static_assert(SEND_PAYLOAD % sizeof(u64) == 0);

/* One datagram on its way */
struct exa_datagram {
	struct sock *sk;
	u8 *image;
	u32 length;		/* of the payload */
	__wsum csum;		/* and its sum */
};

/* Counted, and left to the kernel */
static long refuse(struct exa_sock *es, enum exasock_reason reason)
{
	exa_publish_u64(&es->shared.ring->tx_kernel[reason],
			atomic64_inc_return(&es->tx_kernel[reason]));
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
	if (exa_sock_is_foreign(sk))
		return EXASOCK_R_FOREIGN;
	if (READ_ONCE(up->pending) || exa_udp_corked(sk) || READ_ONCE(up->gso_size) ||
	    READ_ONCE(up->encap_type) || rcu_access_pointer(inet->inet_opt) ||
	    sk->sk_flags & ~EXA_FLAGS_TX ||
	    READ_ONCE(sk->sk_tsflags) & SOF_TIMESTAMPING_TX_RECORD_MASK)
		return EXASOCK_R_OPTION;
	if (sk_wmem_alloc_get(sk))
		return EXASOCK_R_BEHIND;
	return EXASOCK_R_NONE;
}

/* What the route lookup is asked with; as udp_sendmsg() does */
static enum exasock_reason make_key(struct sock *sk, const struct exasock_send *send,
				    struct exa_dst_key *key)
{
	const struct inet_sock *inet = inet_sk(sk);

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
	key->uid = __kuid_val(sk->sk_uid);
	key->tos = READ_ONCE(inet->tos);
	key->local = sock_flag(sk, SOCK_LOCALROUTE);
	key->stream = false;
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

static __sum16 udp_check(const struct exa_datagram *datagram, const struct exa_dst *dst,
			 const struct udphdr *udp, u32 length)
{
	u32 header = (__force u16)udp->source + (__force u16)udp->dest + (__force u16)udp->len;
	__sum16 check;

	if (datagram->sk->sk_no_check_tx)
		return 0;
	check = csum_tcpudp_magic(dst->source, dst->key.daddr, length, IPPROTO_UDP,
				  csum_add(datagram->csum, (__force __wsum)header));
	return check ?: CSUM_MANGLED_0;
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

	udp->source = dst->key.sport;
	udp->dest = dst->key.dport;
	udp->len = htons(length);
	udp->check = udp_check(datagram, dst, udp, length);

	ip->version = 4;
	ip->ihl = sizeof(*ip) / 4;
	ip->tos = dst->key.tos;
	ip->tot_len = htons(length + sizeof(*ip));
	ip->id = 0;
	ip->frag_off = 0;
	ip->ttl = select_ttl(inet_sk(sk), dst->rt);
	ip->protocol = IPPROTO_UDP;
	ip->check = 0;
	ip->saddr = dst->source;
	ip->daddr = dst->key.daddr;
	make_ident(sock_net(sk), sk, dst->rt, ip);
	ip->check = ip_fast_csum(ip, sizeof(*ip) / 4);

	if (iface->vid) {
		struct vlan_ethhdr *vlan = (struct vlan_ethhdr *)ip - 1;

		vlan->h_vlan_proto = htons(ETH_P_8021Q);
		vlan->h_vlan_TCI = htons(exa_iface_tci(iface, sk));
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

static enum exasock_reason send_past(struct exa_sock *es, const struct exa_datagram *datagram,
				     const struct exa_dst_key *key)
{
	struct exa_ns *ns = es->ns;
	enum exasock_reason reason;
	struct exa_dst *dst;
	u8 mac[ETH_ALEN];
	u8 *frame;

	if (READ_ONCE(ns->left))
		return EXASOCK_R_DEVICE;
	dst = exa_dst_find(ns, datagram->sk, key, &es->dst_at);
	if (!dst)
		return EXASOCK_R_ROUTE;
	if (dst->reason)
		return dst->reason;
	if (!READ_ONCE(dst->iface->up))
		return EXASOCK_R_DEVICE;
	if (datagram->length + sizeof(struct iphdr) + sizeof(struct udphdr) > exa_dst_mtu(dst))
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

/* What became of copying the payload, if the socket itself does not say no before */
static enum exasock_reason copy_obstacle(long copied)
{
	switch (copied) {
	case -EMSGSIZE:
		return EXASOCK_R_SIZE;
	case -ENOMEM:
		return EXASOCK_R_MEMORY;
	default:
		return EXASOCK_R_NONE;
	}
}

/* Under RCU with bottom halves off */
static long send_for(struct exa_sock *es, const struct exasock_send *send,
		     struct exa_datagram *datagram, long copied)
{
	enum exasock_reason reason;
	struct exa_dst_key key;
	struct exa_sent *sent;

	reason = socket_obstacle(datagram->sk);
	if (!reason)
		reason = make_key(datagram->sk, send, &key);
	if (!reason && unlikely(copied < 0)) {
		reason = copy_obstacle(copied);
		if (!reason)
			return copied;
	}
	if (!reason) {
		datagram->length = copied;
		reason = send_past(es, datagram, &key);
	}
	if (unlikely(reason))
		return refuse(es, reason);
	sent = this_cpu_ptr(es->sent);
	sent->datagrams++;
	sent->bytes += copied;
	return copied;
}

/*
 * The payload is in our hands, or copying it failed; from here on nothing sleeps, so
 * that RCU is all that keeps the attachment. -ESTALE: it is not this context's.
 */
static long send_copied(const struct exa_context *context, const struct exasock_send *send,
			struct exa_datagram *datagram, long copied)
{
	struct exa_sock *es;
	long ret = -ESTALE;

	rcu_read_lock();
	local_bh_disable();
	es = exa_sock_find(datagram->sk);
	if (likely(es && es->context == context && es->handle == send->handle))
		ret = send_for(es, send, datagram, copied);
	local_bh_enable();
	rcu_read_unlock();
	return ret;
}

/*
 * The card's copy goes by words from the frame's beginning, which a tag shifts by half
 * of one: none of it may be what lay on the stack.
 */
static void zero_end(u8 *payload, u32 length)
{
	u64 *last = (u64 *)(payload + round_down(length, 8));

	last[0] = 0;
	last[1] = 0;
}

static __wsum fold_words(u64 sum)
{
	sum = (u32)sum + (sum >> 32);
	return (__force __wsum)((u32)sum + (u32)(sum >> 32));
}

/*
 * One buffer, copied and summed in one go by words: the kernel's functions that do it are not
 * for modules, or go through an iterator that costs more than a small datagram's copy.
 */
static long copy_buffer(struct exa_datagram *datagram, const u8 __user *from, u32 length)
{
	u8 *to = datagram->image + SEND_PAYLOAD;
	u64 sum = 0, word;
	u32 at, whole = round_down(length, 8);

	zero_end(to, length);
	if (!user_access_begin(from, length))
		return -EFAULT;
#pragma GCC unroll 4
	for (at = 0; at < whole; at += 8) {
		unsafe_get_user(word, (const u64 __user *)(from + at), fault);
		*(u64 *)(to + at) = word;
		sum += word;
		sum += sum < word;
	}
	if (length & 4) {
		unsafe_get_user(*(u32 *)(to + at), (const u32 __user *)(from + at), fault);
		at += 4;
	}
	if (length & 2) {
		unsafe_get_user(*(u16 *)(to + at), (const u16 __user *)(from + at), fault);
		at += 2;
	}
	if (length & 1)
		unsafe_get_user(to[at], from + at, fault);
	user_access_end();
	word = *(u64 *)(to + whole);
	sum += word;
	sum += sum < word;
	datagram->csum = fold_words(sum);
	return length;

fault:
	user_access_end();
	return -EFAULT;
}

static long copy_vector(struct exa_datagram *datagram, struct iov_iter *from)
{
	size_t length = iov_iter_count(from);

	datagram->csum = 0;
	zero_end(datagram->image + SEND_PAYLOAD, length);
	if (!csum_and_copy_from_iter_full(datagram->image + SEND_PAYLOAD, length, &datagram->csum,
					  from))
		return -EFAULT;
	return length;
}

/* In pieces, or one that is more than a small image takes */
static noinline long send_vector(const struct exa_context *context,
				 const struct exasock_send *send, struct exa_datagram *datagram)
{
	struct iovec fast[UIO_FASTIOV] __uninitialized, *iov = fast;
	u8 *small = datagram->image;
	struct iov_iter from;
	long ret;

	if (send->flags & EXASOCK_SEND_BUFFER) {
		iov = NULL;
		ret = send->iovs;
		iov_iter_ubuf(&from, ITER_SOURCE, u64_to_user_ptr(send->iov), send->iovs);
		if (!access_ok(u64_to_user_ptr(send->iov), send->iovs))
			ret = -EFAULT;
	} else {
		ret = import_iovec(ITER_SOURCE, u64_to_user_ptr(send->iov), send->iovs,
				   ARRAY_SIZE(fast), &iov, &from);
	}
	if (ret > SEND_LARGEST) {
		ret = -EMSGSIZE;
	} else if (ret > SEND_SMALL) {
		datagram->image = kmalloc(SEND_PAYLOAD + ret + SEND_ZEROS, GFP_KERNEL);
		if (!datagram->image)
			ret = -ENOMEM;
	}
	if (ret >= 0)
		ret = copy_vector(datagram, &from);
	ret = send_copied(context, send, datagram, ret);
	if (datagram->image != small)
		kfree(datagram->image);
	kfree(iov);
	return ret;
}

/* With room for what most datagrams are on the stack, which is not zeroed for each */
static noinline long send_on(const struct exa_context *context, const struct exasock_send *send,
			     struct sock *sk)
{
	u8 small[SEND_PAYLOAD + SEND_SMALL + SEND_ZEROS] __aligned(8) __uninitialized;
	struct exa_datagram datagram = { .sk = sk, .image = small };
	long copied;

	if (!(send->flags & EXASOCK_SEND_BUFFER) || send->iovs > SEND_SMALL)
		return send_vector(context, send, &datagram);
	copied = copy_buffer(&datagram, u64_to_user_ptr(send->iov), send->iovs);
	return send_copied(context, send, &datagram, copied);
}

#define SEND_FLAGS	(EXASOCK_SEND_PKTINFO | EXASOCK_SEND_CONNECTED | EXASOCK_SEND_BUFFER)

long exa_send(const struct exa_context *context, const struct exasock_send *send)
{
	struct socket *sock;
	long ret = -ESTALE;
	struct fd file;

	if (send->flags & ~SEND_FLAGS || send->reserved ||
	    (!(send->flags & EXASOCK_SEND_BUFFER) && send->iovs > UIO_MAXIOV))
		return -EINVAL;
	/* the descriptor holds the socket, the socket its namespace, while we are at it */
	file = fdget(send->fd);
	if (!fd_file(file))
		return -ESTALE;
	sock = sock_from_file(fd_file(file));
	if (sock && sock->sk)
		ret = send_on(context, send, sock->sk);
	fdput(file);
	return ret;
}
