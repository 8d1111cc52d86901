/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What becomes of a native call on an attached connection: a row for each member of the
 * kernel's struct proto and struct proto_ops. Kbuild compares the rows with the kernel's
 * own declarations (hooks-check.sh) and refuses to compile where it has a member that no
 * row decides on. Rows that this kernel lacks are allowed. It is included where the rows are
 * made something of: see exa_stream_hooks_setup().
 *
 *	HAND_BACK	the connection is handed back to the kernel first, and then the call
 *			is the kernel's own: proto_NAME() or ops_NAME() here
 *	GIVE_UP		the same, and the socket's functions are given back for good: what
 *			the call makes of the socket must not be built on ours
 *	PASS		the kernel's own function. It calls one of those above, or neither
 *			reads nor writes what differs while a connection is taken
 *	DATA		no function
 */
PROTO(close, HAND_BACK);
PROTO(pre_connect, PASS);		/* of a closed socket */
PROTO(connect, PASS);			/* the same */
PROTO(disconnect, GIVE_UP);		/* it may listen next */
PROTO(accept, PASS);			/* of a listening socket */
PROTO(ioctl, HAND_BACK);
PROTO(init, PASS);			/* of a new socket */
PROTO(destroy, PASS);			/* after close */
PROTO(shutdown, HAND_BACK);
PROTO(setsockopt, HAND_BACK);
PROTO(getsockopt, HAND_BACK);
PROTO(keepalive, HAND_BACK);
PROTO(compat_ioctl, PASS);		/* TCP has none */
PROTO(sendmsg, HAND_BACK);
PROTO(recvmsg, HAND_BACK);
#ifdef EXASOCK_HAVE_SENDPAGE
PROTO(sendpage, HAND_BACK);
#endif
#ifdef EXASOCK_HAVE_SPLICE_EOF
PROTO(splice_eof, HAND_BACK);
#endif
PROTO(bind, PASS);			/* of a closed socket */
PROTO(bind_add, PASS);			/* TCP has none */
PROTO(backlog_rcv, PASS);		/* window closed: it drops */
PROTO(bpf_bypass_getsockopt, PASS);	/* asks about a number */
PROTO(release_cb, PASS);		/* deferred timers; none run */
PROTO(hash, PASS);			/* of a new connection */
PROTO(unhash, PASS);			/* at its end */
PROTO(rehash, PASS);			/* of UDP */
PROTO(get_port, PASS);			/* of a closed socket */
PROTO(put_port, PASS);			/* at its end */
#ifdef CONFIG_BPF_SYSCALL
PROTO(psock_update_sk_prot, GIVE_UP);
#endif
PROTO(inuse_idx, DATA);
PROTO(forward_alloc_get, PASS);		/* of MPTCP */
PROTO(stream_memory_free, PASS);	/* what the kernel has queued */
PROTO(sock_is_readable, PASS);		/* what a psock has queued */
PROTO(enter_memory_pressure, PASS);	/* of the protocol */
PROTO(leave_memory_pressure, PASS);	/* the same */
PROTO(memory_allocated, DATA);
PROTO(per_cpu_fw_alloc, DATA);
PROTO(sockets_allocated, DATA);
PROTO(socks, DATA);
PROTO(memory_pressure, DATA);
PROTO(sysctl_mem, DATA);
PROTO(sysctl_wmem, DATA);
PROTO(sysctl_rmem, DATA);
PROTO(sysctl_wmem_offset, DATA);
PROTO(sysctl_rmem_offset, DATA);
PROTO(max_header, DATA);
PROTO(no_autobind, DATA);
PROTO(slab, DATA);
PROTO(obj_size, DATA);
PROTO(ipv6_pinfo_offset, DATA);
PROTO(freeptr_offset, DATA);
PROTO(slab_flags, DATA);
PROTO(useroffset, DATA);
PROTO(usersize, DATA);
PROTO(orphan_count, DATA);
PROTO(rsk_prot, DATA);
PROTO(twsk_prot, DATA);
PROTO(h, DATA);
PROTO(owner, DATA);			/* ours, as long as it is used */
PROTO(name, DATA);
PROTO(node, DATA);
PROTO(diag_destroy, HAND_BACK);

OPS(family, DATA);
OPS(owner, DATA);			/* ours, as long as it is used */
OPS(release, PASS);			/* close of struct proto */
OPS(bind, PASS);			/* of a closed socket */
OPS(connect, PASS);			/* disconnect, or an error */
OPS(socketpair, PASS);			/* an error */
OPS(accept, PASS);			/* of a listening socket */
OPS(getname, PASS);			/* addresses */
OPS(poll, PASS);			/* who sleeps in it, see DESIGN.md */
OPS(ioctl, PASS);			/* ioctl of struct proto */
OPS(compat_ioctl, PASS);		/* the same */
OPS(gettstamp, PASS);			/* TCP keeps none */
OPS(listen, PASS);			/* of a closed socket */
OPS(shutdown, PASS);			/* shutdown of struct proto */
OPS(setsockopt, HAND_BACK);		/* those of SOL_SOCKET too */
OPS(getsockopt, PASS);			/* getsockopt of struct proto */
OPS(getsockopt_iter, PASS);		/* TCP has none */
OPS(show_fdinfo, PASS);			/* TCP has none */
OPS(sendmsg, PASS);			/* sendmsg of struct proto */
OPS(recvmsg, PASS);			/* recvmsg of struct proto */
OPS(mmap, PASS);			/* maps nothing yet */
OPS(sendpage, PASS);			/* sendpage of struct proto */
OPS(splice_read, HAND_BACK);
OPS(splice_eof, PASS);			/* splice_eof of struct proto */
OPS(set_peek_off, PASS);		/* after setsockopt */
OPS(peek_len, PASS);			/* nobody asks TCP for it */
OPS(read_sock, HAND_BACK);
OPS(read_skb, PASS);			/* a psock's, after GIVE_UP */
OPS(sendmsg_locked, HAND_BACK);
OPS(sendpage_locked, PASS);		/* a psock's, after GIVE_UP */
OPS(set_rcvlowat, PASS);		/* after setsockopt */
OPS(set_rcvbuf, PASS);			/* the same */
