// SPDX-License-Identifier: GPL-2.0-only
/*
 * Counters: software's own, each with one writer (NAPI, or the queue's lock).
 */

#include <linux/ethtool.h>
#include <linux/netdevice.h>

#include "exanic.h"

struct stat_name {
	char name[ETH_GSTRING_LEN];
	size_t offset;
};

#define RX_STAT(field)	{ "rx_" #field, offsetof(struct exanic_rx_stats, field) }
#define TX_STAT(field)	{ "tx_" #field, offsetof(struct exanic_tx_stats, field) }

static const struct stat_name rx_names[] = {
	RX_STAT(packets), RX_STAT(bytes), RX_STAT(consumed), RX_STAT(aborted), RX_STAT(crc),
	RX_STAT(hw_lost), RX_STAT(lapped), RX_STAT(length), RX_STAT(no_memory), RX_STAT(polls),
};

static const struct stat_name tx_names[] = {
	TX_STAT(packets), TX_STAT(bytes), TX_STAT(dropped), TX_STAT(tso), TX_STAT(stops),
	TX_STAT(wakes), TX_STAT(bad_feedback), TX_STAT(timestamps), TX_STAT(timestamps_lost),
};

static void stats_copy(const struct stat_name *names, unsigned int count, const void *stats,
		       const struct u64_stats_sync *sync, u64 *to)
{
	unsigned int start, i;

	do {
		start = u64_stats_fetch_begin(sync);
		for (i = 0; i < count; i++)
			to[i] = u64_stats_read(stats + names[i].offset);
	} while (u64_stats_fetch_retry(sync, start));
}

/* In no structure of one writer: sums over processors, and what waits for the card (txmem.c) */
static const char more_names[][ETH_GSTRING_LEN] = {
	"tx_direct_packets", "tx_direct_bytes", "tx_direct_buffers",
	"tx_waiting_pages", "tx_waiting_slots",
};

/* What was sent past the stack */
static void stats_direct(const struct exanic_port *port, u64 *packets, u64 *bytes)
{
	int cpu;

	*packets = 0;
	*bytes = 0;
	for_each_possible_cpu(cpu) {
		const struct exanic_direct_stats *stats = per_cpu_ptr(port->direct, cpu);
		unsigned int start;
		u64 these, of;

		do {
			start = u64_stats_fetch_begin(&stats->sync);
			these = u64_stats_read(&stats->packets);
			of = u64_stats_read(&stats->bytes);
		} while (u64_stats_fetch_retry(&stats->sync, start));
		*packets += these;
		*bytes += of;
	}
}

/* As received frames count whoever takes them, so do sent ones, whoever made them */
void exanic_get_stats64(struct net_device *dev, struct rtnl_link_stats64 *to)
{
	struct exanic_port *port = exanic_port(dev);
	const struct exanic_rx_stats *rx = &port->rx.stats;
	const struct exanic_tx_stats *tx = &port->tx.stats;
	unsigned int start;
	u64 packets, bytes;

	do {
		start = u64_stats_fetch_begin(&rx->sync);
		to->rx_packets = u64_stats_read(&rx->packets);
		to->rx_bytes = u64_stats_read(&rx->bytes);
		to->rx_crc_errors = u64_stats_read(&rx->crc);
		to->rx_frame_errors = u64_stats_read(&rx->aborted);
		to->rx_missed_errors = u64_stats_read(&rx->hw_lost);
		to->rx_over_errors = u64_stats_read(&rx->lapped);
		to->rx_length_errors = u64_stats_read(&rx->length);
		to->rx_dropped = u64_stats_read(&rx->no_memory);
	} while (u64_stats_fetch_retry(&rx->sync, start));
	to->rx_errors = to->rx_crc_errors + to->rx_frame_errors + to->rx_over_errors +
			to->rx_length_errors;
	do {
		start = u64_stats_fetch_begin(&tx->sync);
		to->tx_packets = u64_stats_read(&tx->packets);
		to->tx_bytes = u64_stats_read(&tx->bytes);
		to->tx_dropped = u64_stats_read(&tx->dropped);
	} while (u64_stats_fetch_retry(&tx->sync, start));
	stats_direct(port, &packets, &bytes);
	to->tx_packets += packets;
	to->tx_bytes += bytes;
}

int exanic_get_sset_count(struct net_device *dev, int sset)
{
	return ARRAY_SIZE(rx_names) + ARRAY_SIZE(tx_names) + ARRAY_SIZE(more_names);
}

void exanic_get_strings(struct net_device *dev, u32 sset, u8 *data)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(rx_names); i++, data += ETH_GSTRING_LEN)
		memcpy(data, rx_names[i].name, ETH_GSTRING_LEN);
	for (i = 0; i < ARRAY_SIZE(tx_names); i++, data += ETH_GSTRING_LEN)
		memcpy(data, tx_names[i].name, ETH_GSTRING_LEN);
	memcpy(data, more_names, sizeof(more_names));
}

void exanic_get_ethtool_stats(struct net_device *dev, struct ethtool_stats *stats, u64 *data)
{
	struct exanic_port *port = exanic_port(dev);
	u64 packets, bytes;

	stats_copy(rx_names, ARRAY_SIZE(rx_names), &port->rx.stats, &port->rx.stats.sync, data);
	data += ARRAY_SIZE(rx_names);
	stats_copy(tx_names, ARRAY_SIZE(tx_names), &port->tx.stats, &port->tx.stats.sync, data);
	stats_direct(port, &packets, &bytes);
	data[0] += packets;	/* the first two are the net device's */
	data[1] += bytes;
	data += ARRAY_SIZE(tx_names);
	data[0] = packets;
	data[1] = bytes;
	mutex_lock(&port->card->map_lock);
	exanic_txmem_count(port, &data[2], &data[3], &data[4]);
	mutex_unlock(&port->card->map_lock);
}
