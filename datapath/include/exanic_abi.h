/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * /dev/exanicN: ioctls, mmap offsets and structures shared with user space.
 *
 * The numbers and layouts are those that existing programs use (hardware
 * reference, section 9); every offset is asserted below. Who may call what is
 * written in datapath/exanic/ACCESS.md.
 */
#ifndef EXANIC_ABI_H
#define EXANIC_ABI_H

#include <linux/ioctl.h>
#include <linux/types.h>

#ifndef __KERNEL__
#include <stddef.h>
#endif

/* mmap offsets, in pages of 4096 bytes (9.1) */
#define EXANIC_PGOFF_REGISTERS		0
#define EXANIC_PGOFF_INFO		3
#define EXANIC_PGOFF_FILTERS		4
#define EXANIC_PGOFF_TX			8
#define EXANIC_PGOFF_FEEDBACK		256
#define EXANIC_PGOFF_RX			512
#define EXANIC_PGOFF_RX_PORTS		4
#define EXANIC_PGOFF_FILTER_RX		2560
#define EXANIC_PGOFF_DEVKIT_REGS	262144
#define EXANIC_PGOFF_DEVKIT_MEM		262148
#define EXANIC_PGOFF_TX_ALIAS		524288
#define EXANIC_PGOFF_RX_EXT		557056
#define EXANIC_PGOFF_DEVKIT_REGS_EXT	1048576
#define EXANIC_PGOFF_DEVKIT_MEM_EXT	1114112
#define EXANIC_RING_PAGES		512

struct exanic_ioc_info {
	__u64 tx_size;
	__u64 filters_size;
	__s32 ifindex[4];
};

struct exanic_ioc_info_ex {
	__u64 tx_size;
	__u64 filters_size;
	__s32 ifindex[4];
	__u32 filter_buffers;
	__u32 reserved;
};

struct exanic_ioc_info_ex2 {
	__u64 tx_size;
	__u64 filters_size;
	__u32 filter_buffers;
	__u32 ports;
	__u8 reserved[8];
	__s32 ifindex[32];
};

struct exanic_ioc_tx_buffer {
	__u32 port;
	__u32 reserved;
	__u64 size;
	__u64 offset;
};

struct exanic_ioc_feedback {
	__u32 port;
	__u32 slot;
};

struct exanic_ioc_ip_rule {
	__u32 port;
	__u32 id;
	__u32 buffer;
	__u32 src;
	__u32 dst;
	__u16 sport;
	__u16 dport;
	__u8 proto;
	__u8 reserved[3];
};

struct exanic_ioc_mac_rule {
	__u32 port;
	__u32 id;
	__u32 buffer;
	__u8 dst[6];
	__u16 ethertype;
	__u16 vlan;
	__u16 vlan_method;
};

/* vlan_method */
#define EXANIC_VLAN_ANY			0
#define EXANIC_VLAN_ONE			1
#define EXANIC_VLAN_UNTAGGED		2
#define EXANIC_VLAN_TAGGED		3

struct exanic_ioc_rule_id {
	__u32 port;
	__u32 id;
};

struct exanic_ioc_filter_buffer {
	__u32 port;
	__u32 buffer;
};

#define EXANIC_FILTER_BUFFER_ANY	0xffffffffU

struct exanic_ioc_hash {
	__u32 port;
	__u32 enable;
	__u32 mask;
	__u32 function;
};

struct exanic_ioc_devkit {
	__u32 regs_size;
	__u32 mem_size;
};

#define EXANIC_IOC_MAGIC		'x'
#define EXANIC_IOR(nr, type)		_IOR(EXANIC_IOC_MAGIC, nr, type)
#define EXANIC_IOW(nr, type)		_IOW(EXANIC_IOC_MAGIC, nr, type)
#define EXANIC_IOWR(nr, type)		_IOWR(EXANIC_IOC_MAGIC, nr, type)
#define EXANIC_IOC_INFO			EXANIC_IOR(0xe0, struct exanic_ioc_info)
#define EXANIC_IOC_INFO_EX		EXANIC_IOR(0xe0, struct exanic_ioc_info_ex)
#define EXANIC_IOC_INFO_EX2		EXANIC_IOR(0xe0, struct exanic_ioc_info_ex2)
#define EXANIC_IOC_TX_BUFFER_ALLOC	EXANIC_IOWR(0xe2, struct exanic_ioc_tx_buffer)
#define EXANIC_IOC_TX_BUFFER_FREE	EXANIC_IOW(0xe3, struct exanic_ioc_tx_buffer)
#define EXANIC_IOC_FEEDBACK_ALLOC	EXANIC_IOWR(0xe4, struct exanic_ioc_feedback)
#define EXANIC_IOC_FEEDBACK_FREE	EXANIC_IOW(0xe5, struct exanic_ioc_feedback)
#define EXANIC_IOC_FILTER_ADD_IP	EXANIC_IOWR(0xe6, struct exanic_ioc_ip_rule)
#define EXANIC_IOC_FILTER_ADD_MAC	EXANIC_IOWR(0xe7, struct exanic_ioc_mac_rule)
#define EXANIC_IOC_FILTER_REMOVE_IP	EXANIC_IOW(0xe8, struct exanic_ioc_rule_id)
#define EXANIC_IOC_FILTER_REMOVE_MAC	EXANIC_IOW(0xe9, struct exanic_ioc_rule_id)
#define EXANIC_IOC_BUFFER_ALLOC		EXANIC_IOW(0xea, struct exanic_ioc_filter_buffer)
#define EXANIC_IOC_BUFFER_ALLOC_EX	EXANIC_IOWR(0xea, struct exanic_ioc_filter_buffer)
#define EXANIC_IOC_BUFFER_FREE		EXANIC_IOW(0xeb, struct exanic_ioc_filter_buffer)
#define EXANIC_IOC_HASH_CONFIGURE	EXANIC_IOW(0xec, struct exanic_ioc_hash)
#define EXANIC_IOC_DEVKIT_INFO		EXANIC_IOR(0xed, struct exanic_ioc_devkit)
#define EXANIC_IOC_DEVICE_USAGE		EXANIC_IOR(0xee, __s32)
#define EXANIC_IOC_DEVKIT_INFO_EX	EXANIC_IOR(0xef, struct exanic_ioc_devkit)

/* Private ioctls of the net device (9.3): ifr_data points to the argument */
#define EXANIC_SIOC_IFINFO		0	/* SIOCDEVPRIVATE + 0 */
#define EXANIC_SIOC_HWTSTAMP		1	/* SIOCDEVPRIVATE + 1, struct hwtstamp_config */

struct exanic_ifr_info {
	char card[16];
	__u16 port;
	__u8 reserved[14];
};

#ifdef __cplusplus
#define EXANIC_ABI_ASSERT(x)		static_assert(x, #x)
#else
#define EXANIC_ABI_ASSERT(x)		_Static_assert(x, #x)
#endif

EXANIC_ABI_ASSERT(EXANIC_IOC_INFO == 0x802078e0);
EXANIC_ABI_ASSERT(EXANIC_IOC_INFO_EX == 0x802878e0);
EXANIC_ABI_ASSERT(EXANIC_IOC_INFO_EX2 == 0x80a078e0);
EXANIC_ABI_ASSERT(EXANIC_IOC_TX_BUFFER_ALLOC == 0xc01878e2);
EXANIC_ABI_ASSERT(EXANIC_IOC_TX_BUFFER_FREE == 0x401878e3);
EXANIC_ABI_ASSERT(EXANIC_IOC_FEEDBACK_ALLOC == 0xc00878e4);
EXANIC_ABI_ASSERT(EXANIC_IOC_FEEDBACK_FREE == 0x400878e5);
EXANIC_ABI_ASSERT(EXANIC_IOC_FILTER_ADD_IP == 0xc01c78e6);
EXANIC_ABI_ASSERT(EXANIC_IOC_FILTER_ADD_MAC == 0xc01878e7);
EXANIC_ABI_ASSERT(EXANIC_IOC_FILTER_REMOVE_IP == 0x400878e8);
EXANIC_ABI_ASSERT(EXANIC_IOC_FILTER_REMOVE_MAC == 0x400878e9);
EXANIC_ABI_ASSERT(EXANIC_IOC_BUFFER_ALLOC == 0x400878ea);
EXANIC_ABI_ASSERT(EXANIC_IOC_BUFFER_ALLOC_EX == 0xc00878ea);
EXANIC_ABI_ASSERT(EXANIC_IOC_BUFFER_FREE == 0x400878eb);
EXANIC_ABI_ASSERT(EXANIC_IOC_HASH_CONFIGURE == 0x401078ec);
EXANIC_ABI_ASSERT(EXANIC_IOC_DEVKIT_INFO == 0x800878ed);
EXANIC_ABI_ASSERT(EXANIC_IOC_DEVICE_USAGE == 0x800478ee);
EXANIC_ABI_ASSERT(EXANIC_IOC_DEVKIT_INFO_EX == 0x800878ef);
EXANIC_ABI_ASSERT(offsetof(struct exanic_ioc_info, ifindex) == 16);
EXANIC_ABI_ASSERT(offsetof(struct exanic_ioc_info_ex, filter_buffers) == 32);
EXANIC_ABI_ASSERT(offsetof(struct exanic_ioc_info_ex2, filter_buffers) == 16);
EXANIC_ABI_ASSERT(offsetof(struct exanic_ioc_info_ex2, ports) == 20);
EXANIC_ABI_ASSERT(offsetof(struct exanic_ioc_info_ex2, ifindex) == 32);
EXANIC_ABI_ASSERT(offsetof(struct exanic_ioc_tx_buffer, size) == 8);
EXANIC_ABI_ASSERT(offsetof(struct exanic_ioc_tx_buffer, offset) == 16);
EXANIC_ABI_ASSERT(offsetof(struct exanic_ioc_ip_rule, sport) == 20);
EXANIC_ABI_ASSERT(offsetof(struct exanic_ioc_ip_rule, dport) == 22);
EXANIC_ABI_ASSERT(offsetof(struct exanic_ioc_ip_rule, proto) == 24);
EXANIC_ABI_ASSERT(offsetof(struct exanic_ioc_mac_rule, dst) == 12);
EXANIC_ABI_ASSERT(offsetof(struct exanic_ioc_mac_rule, ethertype) == 18);
EXANIC_ABI_ASSERT(offsetof(struct exanic_ioc_mac_rule, vlan) == 20);
EXANIC_ABI_ASSERT(offsetof(struct exanic_ioc_mac_rule, vlan_method) == 22);
EXANIC_ABI_ASSERT(offsetof(struct exanic_ifr_info, port) == 16);
EXANIC_ABI_ASSERT(sizeof(struct exanic_ifr_info) == 32);

#endif /* EXANIC_ABI_H */
