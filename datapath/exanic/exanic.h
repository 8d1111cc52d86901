/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * ExaNIC driver: the structures its files share.
 *
 * A card (struct exanic) has ports (struct exanic_port); a port that carries
 * traffic is the private part of a net device. Section numbers in comments are
 * those of the hardware reference.
 */
#ifndef EXANIC_H
#define EXANIC_H

#include <linux/bitmap.h>
#include <linux/ethtool.h>
#include <linux/hrtimer.h>
#include <linux/kref.h>
#include <linux/miscdevice.h>
#include <linux/mutex.h>
#include <linux/net_tstamp.h>
#include <linux/netdevice.h>
#include <linux/pci.h>
#include <linux/ptp_clock_kernel.h>
#include <linux/u64_stats_sync.h>
#include <linux/workqueue.h>

#include "../include/exanic_kernel.h"
#include "../include/exanic_regs.h"

#ifdef __BIG_ENDIAN
#error "the card is little endian and so are the layouts shared with user space"
#endif

#define EXANIC_DRV_NAME			"exanic"
#define EXANIC_DRV_VERSION		"1.0.0"

#define EXANIC_MAX_PORTS		16
#define EXANIC_MAX_MTU			9000
#define EXANIC_RX_OVERHEAD		26	/* Ethernet, two VLAN tags, FCS (7.3) */
#define EXANIC_TX_PAGES_MAX		512	/* 2 MiB of BAR2 (8.1) */
#define EXANIC_TX_COMMAND_BYTES		512	/* of buffer per FIFO entry (8.1) */
#define EXANIC_TX_SLOTS			256	/* feedback slots that are handed out (8.4) */

struct exanic_filters;
struct exanic_file;

/* What a filter rule compares: 13 bytes for an IP rule, 10 for a MAC rule (12) */
#define EXANIC_KEY_BYTES		13

struct exanic_key {
	u8 value[EXANIC_KEY_BYTES];
	u8 mask[EXANIC_KEY_BYTES];
};

/* Steps of bringing a card up, for the fail_step parameter */
enum exanic_step {
	EXANIC_STEP_PCI = 1,
	EXANIC_STEP_REGS,
	EXANIC_STEP_CHARDEV,
	EXANIC_STEP_DMA,
	EXANIC_STEP_TXMEM,
	EXANIC_STEP_IRQ,
	EXANIC_STEP_FILTERS,
	EXANIC_STEP_PTP,
	EXANIC_STEP_NETDEV_FIRST,
	EXANIC_STEP_NETDEV_SECOND,
	EXANIC_STEP_SYSFS,
	EXANIC_STEP_TXBUF,	/* not of bringing up: no transmit memory for other modules */
};

/* What HW_ID says (1) */
struct exanic_model {
	u32 hw_id;
	const char *name;
	u8 cages;
	u8 ports_per_cage;	/* most there can be */
	u8 eeprom_bus;
	bool qsfp;
};

struct exanic_rx_stats {
	u64_stats_t packets;
	u64_stats_t bytes;
	u64_stats_t consumed;		/* taken by the hook's client */
	u64_stats_t aborted;		/* by the sender, status 1 */
	u64_stats_t crc;		/* status 2 */
	u64_stats_t hw_lost;		/* status 3: the card lost frames */
	u64_stats_t lapped;		/* the card overtook us */
	u64_stats_t length;		/* runts and giants */
	u64_stats_t no_memory;
	u64_stats_t polls;
	struct u64_stats_sync sync;
};

/* Reader of one RX ring: NAPI only */
struct exanic_rx {
	struct exanic_chunk *ring;
	u32 next;			/* chunk to look at */
	u8 generation;			/* that makes it new */
	u8 first_generation;
	u32 first;			/* of the frame being received */
	u32 chunks;			/* seen of it; 0 between frames */
	u32 timestamp;
	struct exanic_rx_stats stats;
};

struct exanic_tx_stats {
	u64_stats_t packets;
	u64_stats_t bytes;
	u64_stats_t dropped;
	u64_stats_t tso;
	u64_stats_t stops;
	u64_stats_t wakes;
	u64_stats_t bad_feedback;
	u64_stats_t timestamps;
	u64_stats_t timestamps_lost;
	struct u64_stats_sync sync;
};

/* What exasock sent past the stack, by processor */
struct exanic_direct_stats {
	u64_stats_t packets;
	u64_stats_t bytes;
	struct u64_stats_sync sync;
};

struct exanic_tx_entry {
	u32 space;			/* bytes of the buffer, gap at its end included */
	u32 bytes;			/* on the wire, for byte queue limits */
};

/*
 * The port's own TX buffer, for life as its ring is: the card may still be reading it
 * when the port goes down. Under the queue's xmit lock.
 */
struct exanic_tx {
	void __iomem *doorbell;
	void __iomem *mem;
	__le16 *feedback;
	struct exanic_tx_entry *entry;
	u32 offset;			/* of the buffer in BAR2 */
	u32 size;
	u32 put;			/* next chunk goes here */
	u32 used;
	u32 reserve;			/* bytes that must be free for the queue to run */
	u16 queue_len;			/* commands; at most queue_len - 1 outstanding */
	u16 head;			/* index into entry[] of the next command */
	u16 tail;			/* and of the oldest outstanding one */
	u16 sent;			/* id of the last command */
	u16 done;			/* id of the last one confirmed */
	u16 slot;
	u64 issued;			/* commands ever given */
	u64 confirmed;			/* and those that the card has said it is done with */
	bool ready;
	bool stamping;
	unsigned int retries;
	struct hrtimer timer;
	struct exanic_tx_stats stats;
};

struct exanic_port {
	struct exanic *card;
	struct net_device *dev;
	void __iomem *regs;
	unsigned int number;

	/* set up once */
	u32 tx_region;			/* start in BAR2 */
	u32 tx_region_size;		/* 0: cannot send */
	struct page *ring_page;
	dma_addr_t ring_dma;

	/* hot */
	struct napi_struct napi;
	struct hrtimer rx_timer;
	u32 rx_usecs;			/* longest wait between two looks at the ring */
	u32 rx_wait;			/* the one that goes on, 0 when armed */
	bool rx_running;
	bool rx_stamping;
	struct exanic_rx rx ____cacheline_aligned_in_smp;
	struct exanic_tx tx ____cacheline_aligned_in_smp;
	struct exanic_direct_stats __percpu *direct;

	spinlock_t flags_lock;		/* read-modify-write of FLAGS */
	struct hwtstamp_config hwtstamp;
	u32 speed;
	bool link;
	bool promisc;
	bool registered;		/* under RTNL */
	bool bypass;			/* no kernel RX or TX */

	/* under card->map_lock */
	u64 owner;			/* cookie of the namespace, 0 while between two */
	u32 hash_config;
};

/* How a page or a slot that was released waits for the card; see txmem.c */
struct exanic_tx_wait {
	u64 fence;		/* the port's tx.confirmed that is enough */
	u16 last;		/* of a slot: the id that is enough, if known */
	u16 slot;		/* of a page: the slot that answers for it, if known */
	u8 port;
	bool known;
	bool file;		/* of a slot: a file has it, not the kernel */
};

/* Transmit memory of a card, under its map_lock */
struct exanic_txmem {
	DECLARE_BITMAP(pages, EXANIC_TX_PAGES_MAX);		/* owned, or waiting */
	DECLARE_BITMAP(slots, EXANIC_TX_SLOTS);
	DECLARE_BITMAP(waiting_pages, EXANIC_TX_PAGES_MAX);
	DECLARE_BITMAP(waiting_slots, EXANIC_TX_SLOTS);
	struct exanic_tx_wait page_wait[EXANIC_TX_PAGES_MAX];
	struct exanic_tx_wait slot_wait[EXANIC_TX_SLOTS];
	bool doorbells;		/* a process has mapped the registers at some time */
};

/* Clock of the card (10) */
struct exanic_clock {
	struct ptp_clock_info info;
	struct ptp_clock *ptp;
	struct mutex lock;		/* set and adjust */
	spinlock_t read_lock;		/* a sample and the base that goes with it */
	u32 hz;
	bool wide;			/* 64-bit counter */
	bool fine;			/* CLK_ADJ_EXT */
	u64 base;			/* recent full time, in ticks: extends timestamps */
	struct hrtimer timer;		/* keeps it recent */
};

struct exanic {
	struct pci_dev *pdev;
	struct kref ref;		/* the probe, and every open file */
	void __iomem *regs;		/* BAR0 */
	resource_size_t regs_len;
	void __iomem *tx;		/* BAR2, write combining */
	resource_size_t tx_len;
	const struct exanic_model *model;
	u32 caps;
	u32 function;
	unsigned int id;		/* N of exanicN */
	char name[16];
	unsigned int ports;
	struct exanic_port *port[EXANIC_MAX_PORTS];
	bool full;			/* not in minimal mode */
	bool gone;			/* reads give all ones, or removed */
	struct work_struct gone_work;
	struct delayed_work link_work;
	int irq;			/* 0: polled */
	u32 rx_usecs;			/* where ports start from */
	u8 mac[ETH_ALEN];
	char serial[17];
	bool reset_on_remove;
	spinlock_t reg_lock;		/* read-modify-write of shared registers */
	struct mutex i2c_lock;
	u32 i2c_modsel;
	struct exanic_clock clock;
	struct page *info_page;
	struct page *dead_page;		/* looks like a ring that is never written */

	struct page *feedback_page;
	dma_addr_t feedback_dma;

	struct miscdevice misc;
	bool misc_registered;
	struct mutex map_lock;		/* everything below; taken inside page faults */
	struct list_head files;
	atomic_t usage;			/* DEVICE_USAGE */
	u64 bridge_tenant;		/* cookie of the namespace that bridged, 0: the host */
	struct exanic_txmem txmem;
	u32 filter_buffers;		/* per port */
	struct exanic_filters *filters;
};

/* Private part of a net device: a pointer, so that the port outlives it */
struct exanic_netdev {
	struct exanic_port *port;
};

static inline struct exanic_port *exanic_port(const struct net_device *dev)
{
	const struct exanic_netdev *priv = netdev_priv(dev);

	return priv->port;
}

#define exanic_dev(card)	(&(card)->pdev->dev)

/* main.c */
int exanic_fail(enum exanic_step step);
void exanic_put(struct exanic *card);
void exanic_mark_gone(struct exanic *card, const char *why);

/* card.c */
int exanic_card_identify(struct exanic *card);
int exanic_card_setup(struct exanic *card);
void exanic_card_teardown(struct exanic *card);
int exanic_ports_create(struct exanic *card);
void exanic_ports_destroy(struct exanic *card);
void exanic_read_eeprom(struct exanic *card);
void exanic_power(struct exanic_port *port, bool on);
void exanic_update_bits(struct exanic *card, u32 reg, u32 clear, u32 set);
void exanic_bridge_set(struct exanic *card, bool on, u64 tenant);
void exanic_bridge_revoke(struct exanic *card, u64 owner);

/* ring.c */
struct page *exanic_dma_alloc(struct exanic *card, size_t size, dma_addr_t *dma);
void exanic_dma_free(struct exanic *card, size_t size, struct page *page, dma_addr_t dma);
struct page *exanic_ring_alloc(struct exanic *card, dma_addr_t *dma);
void exanic_ring_free(struct exanic *card, struct page *page, dma_addr_t dma);
void exanic_ring_reset(struct page *page);
void exanic_write_base(struct exanic *card, u32 hi, u32 lo, dma_addr_t dma);

/* rx.c */
int exanic_rx_start(struct exanic_port *port);
void exanic_rx_stop(struct exanic_port *port);
bool exanic_rx_pending(const struct exanic_rx *rx);
int exanic_poll(struct napi_struct *napi, int budget);
struct sk_buff *exanic_rx_skb(struct exanic_port *port, const struct exanic_rx_frame *frame,
			      bool keep_fcs, bool napi);

/* hook.c */
DECLARE_STATIC_KEY_FALSE(exanic_hook_key);
bool exanic_hook_receive(const struct exanic_rx_frame *frame);

/* irq.c */
int exanic_irq_setup(struct exanic *card);
void exanic_irq_teardown(struct exanic *card);
void exanic_rx_arm(struct exanic_port *port);
void exanic_rx_idle(struct exanic_port *port, bool worked);
enum hrtimer_restart exanic_rx_timer(struct hrtimer *timer);

/* tx.c */
int exanic_tx_create(struct exanic_port *port);
void exanic_tx_destroy(struct exanic_port *port);
void exanic_tx_start(struct exanic_port *port);
void exanic_tx_stop(struct exanic_port *port);
void exanic_tx_poll(struct exanic_port *port);
netdev_tx_t exanic_xmit(struct sk_buff *skb, struct net_device *dev);
void exanic_tx_timeout(struct net_device *dev, unsigned int queue);
enum hrtimer_restart exanic_tx_timer(struct hrtimer *timer);

/* txmem.c */
int exanic_txmem_setup(struct exanic *card);
void exanic_txmem_teardown(struct exanic *card);
bool exanic_txmem_was_reset(struct exanic *card);
int exanic_txmem_alloc(struct exanic_port *port, const struct exanic_file *ctx, u32 size,
		       u32 *offset);
void exanic_txmem_release(struct exanic_port *port, u32 offset, u32 size, u16 slot, u16 last);
void exanic_txmem_release_page(struct exanic *card, unsigned long page);
int exanic_slot_alloc(struct exanic_port *port, const struct exanic_file *ctx, u16 *slot);
void exanic_slot_release(struct exanic *card, u16 slot);
struct exanic_port *exanic_txmem_port(struct exanic *card, unsigned long page);
void exanic_txmem_count(struct exanic_port *port, u64 *buffers, u64 *waiting_pages,
			u64 *waiting_slots);
__le16 *exanic_slot(struct exanic *card, u16 slot);

/* netdev.c */
extern const struct net_device_ops exanic_netdev_ops;
int exanic_netdevs_register(struct exanic *card);
void exanic_netdevs_unregister(struct exanic *card);
void exanic_set_promisc(struct exanic_port *port, bool on);
int exanic_netdev_notifier_register(void);
void exanic_netdev_notifier_unregister(void);

/* link.c */
void exanic_link_setup(struct exanic *card);
void exanic_link_stop(struct exanic *card);
void exanic_link_hurry(struct exanic *card);
void exanic_link_update(struct exanic_port *port);

/* stats.c */
void exanic_get_stats64(struct net_device *dev, struct rtnl_link_stats64 *to);
int exanic_get_sset_count(struct net_device *dev, int sset);
void exanic_get_strings(struct net_device *dev, u32 sset, u8 *data);
void exanic_get_ethtool_stats(struct net_device *dev, struct ethtool_stats *stats, u64 *data);

/* ethtool.c */
extern const struct ethtool_ops exanic_ethtool_ops;

/* i2c.c */
int exanic_eeprom_read(struct exanic *card, u8 reg, void *buf, size_t len);
int exanic_eeprom_write(struct exanic *card, u8 reg, u8 value);
int exanic_module_read(struct exanic_port *port, u8 addr, u8 page, u8 reg, void *buf, size_t len);

/* ptp.c */
int exanic_clock_setup(struct exanic *card);
void exanic_clock_teardown(struct exanic *card);
u64 exanic_clock_extend(const struct exanic *card, u32 timestamp);
ktime_t exanic_ticks_to_ktime(const struct exanic *card, u64 ticks);
int exanic_hwtstamp_set(struct exanic_port *port, int tx_type, int rx_filter);

/* filter.c: all but the first two under card->map_lock */
void exanic_key_put(struct exanic_key *key, unsigned int at, u64 value, unsigned int bytes);
int exanic_filters_setup(struct exanic *card);
void exanic_filters_teardown(struct exanic *card);
void exanic_filters_revoke(struct exanic_port *port);
int exanic_buffer_get(struct exanic_port *port, u32 *buffer);
void exanic_buffer_put(struct exanic_port *port, u32 buffer);
struct page *exanic_buffer_page(struct exanic_port *port, u32 buffer);
int exanic_hash_configure(struct exanic_port *port, bool enable, u32 mask, u32 function);
int exanic_rule_add(struct exanic_port *port, bool ip, const struct exanic_key *key,
		    u32 buffer, const void *owner, u32 *id);
int exanic_rule_remove(struct exanic_port *port, bool ip, u32 id, const void *owner);
void exanic_rules_release(struct exanic_port *port, const void *owner);

/* chardev.c */
int exanic_chardev_register(struct exanic *card);
void exanic_chardev_unregister(struct exanic *card);

/* access.c; more in access.h */
void exanic_port_set_owner(struct exanic_port *port, u64 cookie);
void exanic_port_unsteer(struct exanic_port *port);
void exanic_zap_all(struct exanic *card);
bool exanic_may_card(void);
bool exanic_may_bridge(const struct exanic_port *port);

/* mmap.c */
int exanic_mmap(struct file *file, struct vm_area_struct *vma);

/* sysfs.c */
extern const struct attribute_group *exanic_groups[];

#endif /* EXANIC_H */
