// SPDX-License-Identifier: GPL-2.0-only
/*
 * The interface for other modules, declared in ../include/exanic_kernel.h: first
 * look at every frame, and the way from a net device to card, port and memory.
 */

#include <linux/jump_label.h>
#include <linux/module.h>
#include <linux/rcupdate.h>

#include "exanic.h"
#include "regs.h"

DEFINE_STATIC_KEY_FALSE(exanic_hook_key);
static struct exanic_rx_client __rcu *exanic_client;
static DEFINE_MUTEX(exanic_client_lock);

/* In NAPI. True: the client has taken the frame. */
bool exanic_hook_receive(const struct exanic_rx_frame *frame)
{
	struct exanic_rx_client *client;
	bool taken = false;

	rcu_read_lock();
	client = rcu_dereference(exanic_client);
	if (client)
		taken = client->receive(client, frame) == EXANIC_RX_CONSUMED;
	rcu_read_unlock();
	return taken;
}

int exanic_rx_hook_register(struct exanic_rx_client *client)
{
	int err = 0;

	mutex_lock(&exanic_client_lock);
	if (rcu_access_pointer(exanic_client)) {
		err = -EBUSY;
	} else {
		rcu_assign_pointer(exanic_client, client);
		static_branch_enable(&exanic_hook_key);
	}
	mutex_unlock(&exanic_client_lock);
	return err;
}
EXPORT_SYMBOL_GPL(exanic_rx_hook_register);

void exanic_rx_hook_unregister(struct exanic_rx_client *client)
{
	mutex_lock(&exanic_client_lock);
	if (rcu_access_pointer(exanic_client) == client) {
		static_branch_disable(&exanic_hook_key);
		RCU_INIT_POINTER(exanic_client, NULL);
	}
	mutex_unlock(&exanic_client_lock);
}
EXPORT_SYMBOL_GPL(exanic_rx_hook_unregister);

struct sk_buff *exanic_rx_frame_to_skb(const struct exanic_rx_frame *frame)
{
	struct sk_buff *skb = exanic_rx_skb(exanic_port(frame->dev), frame, false, false);

	if (skb && !exanic_rx_frame_intact(frame)) {
		kfree_skb(skb);
		return NULL;
	}
	return skb;
}
EXPORT_SYMBOL_GPL(exanic_rx_frame_to_skb);

bool exanic_rx_stamping(const struct net_device *dev)
{
	return READ_ONCE(exanic_port(dev)->rx_stamping);
}
EXPORT_SYMBOL_GPL(exanic_rx_stamping);

bool exanic_is_port(const struct net_device *dev)
{
	return dev->netdev_ops == &exanic_netdev_ops;
}
EXPORT_SYMBOL_GPL(exanic_is_port);

int exanic_port_info(const struct net_device *dev, struct exanic_port_info *info)
{
	const struct exanic_port *port;

	if (!exanic_is_port(dev))
		return -EINVAL;
	port = exanic_port(dev);
	info->card = port->card->id;
	info->port = port->number;
	info->ring_page = READ_ONCE(port->ring_page);
	info->ring = info->ring_page ? page_address(info->ring_page) : NULL;
	info->clock_hz = port->card->clock.hz;
	return 0;
}
EXPORT_SYMBOL_GPL(exanic_port_info);

ktime_t exanic_timestamp_to_ktime(const struct net_device *dev, u32 timestamp)
{
	const struct exanic *card = exanic_port(dev)->card;

	return exanic_ticks_to_ktime(card, exanic_clock_extend(card, timestamp));
}
EXPORT_SYMBOL_GPL(exanic_timestamp_to_ktime);

struct exanic_txbuf *exanic_txbuf_alloc(struct net_device *dev, u32 size)
{
	struct exanic_txbuf *buf;
	struct exanic_port *port;
	struct exanic *card;
	int err;

	if (!exanic_is_port(dev) || !size || size > EXANIC_TX_PAGES_MAX * PAGE_SIZE)
		return ERR_PTR(-EINVAL);
	port = exanic_port(dev);
	card = port->card;
	if (!port->tx_region_size)
		return ERR_PTR(-EINVAL);
	if (exanic_fail(EXANIC_STEP_TXBUF))
		return ERR_PTR(-ENOMEM);
	buf = kzalloc(sizeof(*buf), GFP_KERNEL);
	if (!buf)
		return ERR_PTR(-ENOMEM);
	buf->dev = dev;
	buf->size = PAGE_ALIGN(size);

	mutex_lock(&card->map_lock);
	err = exanic_gone(card) ? -ENODEV : exanic_slot_alloc(port, NULL, &buf->slot);
	if (!err) {
		err = exanic_txmem_alloc(port, NULL, buf->size, &buf->offset);
		if (err)
			exanic_txmem_release(port, 0, 0, buf->slot, 0);
	}
	mutex_unlock(&card->map_lock);
	if (err) {
		kfree(buf);
		return ERR_PTR(err);
	}
	buf->mem = card->tx + buf->offset;
	buf->phys = pci_resource_start(card->pdev, 2) + buf->offset;
	buf->feedback = exanic_slot(card, buf->slot);
	return buf;
}
EXPORT_SYMBOL_GPL(exanic_txbuf_alloc);

void exanic_txbuf_free(struct exanic_txbuf *buf, u16 last)
{
	struct exanic_port *port = exanic_port(buf->dev);

	mutex_lock(&port->card->map_lock);
	exanic_txmem_release(port, buf->offset, buf->size, buf->slot, last);
	mutex_unlock(&port->card->map_lock);
	kfree(buf);
}
EXPORT_SYMBOL_GPL(exanic_txbuf_free);

int exanic_txbuf_send(const struct exanic_txbuf *buf, u32 offset, u32 bytes)
{
	struct exanic_port *port = exanic_port(buf->dev);
	struct exanic_direct_stats *stats;

	if (offset % EXANIC_TX_CHUNK_ALIGN || offset >= buf->size)
		return -EINVAL;
	if (exanic_gone(port->card))
		return -ENODEV;
	wmb();	/* write-combined chunk before the doorbell (8.5) */
	exanic_port_write(port, TX_COMMAND, buf->offset + offset);
	stats = this_cpu_ptr(port->direct);
	u64_stats_update_begin(&stats->sync);
	u64_stats_inc(&stats->packets);
	u64_stats_add(&stats->bytes, bytes);
	u64_stats_update_end(&stats->sync);
	return 0;
}
EXPORT_SYMBOL_GPL(exanic_txbuf_send);
