// SPDX-License-Identifier: GPL-2.0-only
/*
 * One net device per port. It may move between namespaces like any other: nothing
 * here knows the initial one, and the port's owner (see access.c) follows it.
 */

#include <linux/etherdevice.h>
#include <linux/module.h>
#include <linux/rtnetlink.h>
#include <linux/uaccess.h>

#include "../include/exanic_abi.h"
#include "compat.h"
#include "exanic.h"
#include "regs.h"

static int exanic_open(struct net_device *dev)
{
	struct exanic_port *port = exanic_port(dev);
	int err;

	if (exanic_gone(port->card))
		return -ENODEV;
	if (port->bypass) {
		exanic_power(port, true);
		return exanic_rx_start(port);
	}
	exanic_tx_start(port);
	exanic_power(port, true);
	err = exanic_rx_start(port);
	if (err)
		goto err_tx;
	napi_enable(&port->napi);
	/* pairs with the acquire in the interrupt handler */
	smp_store_release(&port->rx_running, true);
	netif_start_queue(dev);
	exanic_link_update(port);
	exanic_link_hurry(port->card);
	exanic_rx_arm(port);
	return 0;

err_tx:
	exanic_power(port, false);
	exanic_tx_stop(port);
	return err;
}

static int exanic_stop(struct net_device *dev)
{
	struct exanic_port *port = exanic_port(dev);

	netif_tx_disable(dev);
	netif_carrier_off(dev);
	port->link = false;
	if (port->rx_running) {
		WRITE_ONCE(port->rx_running, false);
		if (port->card->irq)
			synchronize_irq(port->card->irq);
		napi_disable(&port->napi);
		hrtimer_cancel(&port->rx_timer);
		exanic_port_write(port, IRQ_CONFIG, 0);
	}
	exanic_tx_stop(port);
	exanic_rx_stop(port);
	exanic_power(port, false);
	return 0;
}

/* First three octets in MAC_ADDR_OUI, then the others; the second write makes it so (5) */
static void exanic_write_mac(struct exanic_port *port, const u8 *mac)
{
	exanic_port_write(port, MAC_ADDR_OUI, mac[0] | mac[1] << 8 | mac[2] << 16);
	exanic_port_write(port, MAC_ADDR_NIC, mac[3] | mac[4] << 8 | mac[5] << 16);
}

static int exanic_set_mac(struct net_device *dev, void *addr)
{
	int err = eth_prepare_mac_addr_change(dev, addr);

	if (err)
		return err;
	exanic_write_mac(exanic_port(dev), ((struct sockaddr *)addr)->sa_data);
	eth_commit_mac_addr_change(dev, addr);
	return 0;
}

void exanic_set_promisc(struct exanic_port *port, bool on)
{
	unsigned long flags;
	u32 value;

	spin_lock_irqsave(&port->flags_lock, flags);
	value = exanic_port_read(port, FLAGS);
	if (!!(value & EXANIC_PORT_FLAGS_PROMISC) != on)
		exanic_port_write(port, FLAGS, value ^ EXANIC_PORT_FLAGS_PROMISC);
	spin_unlock_irqrestore(&port->flags_lock, flags);
}

/*
 * The filter knows our own address, broadcast and all multicast (5). Without
 * IFF_UNICAST_FLT the core asks for promiscuous mode when a macvlan needs more.
 */
static void exanic_set_rx_mode(struct net_device *dev)
{
	struct exanic_port *port = exanic_port(dev);
	bool promisc = dev->flags & IFF_PROMISC || dev->uc_promisc;

	if (promisc != port->promisc) {
		port->promisc = promisc;
		exanic_set_promisc(port, promisc);
	}
}

/* Ring and TX buffer hold any frame as they are: nothing to restart */
static int exanic_change_mtu(struct net_device *dev, int mtu)
{
	WRITE_ONCE(dev->mtu, mtu);
	return 0;
}

#ifdef EXANIC_HAVE_NDO_HWTSTAMP
static int exanic_get_hwtstamp(struct net_device *dev, struct kernel_hwtstamp_config *config)
{
	struct exanic_port *port = exanic_port(dev);

	if (!port->card->clock.hz)
		return -EOPNOTSUPP;
	hwtstamp_config_to_kernel(config, &port->hwtstamp);
	return 0;
}

static int exanic_set_hwtstamp(struct net_device *dev, struct kernel_hwtstamp_config *config,
			       struct netlink_ext_ack *extack)
{
	struct exanic_port *port = exanic_port(dev);
	int err = exanic_hwtstamp_set(port, config->tx_type, config->rx_filter);

	if (!err)
		hwtstamp_config_to_kernel(config, &port->hwtstamp);
	return err;
}
#else
static int exanic_eth_ioctl(struct net_device *dev, struct ifreq *ifr, int cmd)
{
	struct exanic_port *port = exanic_port(dev);
	struct hwtstamp_config config;
	int err;

	if (cmd != SIOCSHWTSTAMP && cmd != SIOCGHWTSTAMP)
		return -EOPNOTSUPP;
	if (cmd == SIOCSHWTSTAMP) {
		if (copy_from_user(&config, ifr->ifr_data, sizeof(config)))
			return -EFAULT;
		err = exanic_hwtstamp_set(port, config.tx_type, config.rx_filter);
		if (err)
			return err;
	}
	config = port->hwtstamp;
	return copy_to_user(ifr->ifr_data, &config, sizeof(config)) ? -EFAULT : 0;
}
#endif

/* EXAIOCGIFINFO and EXAIOCGHWTSTAMP (9.3) */
static int exanic_private_ioctl(struct net_device *dev, struct ifreq *ifr, void __user *data,
				int cmd)
{
	struct exanic_port *port = exanic_port(dev);
	struct exanic_ifr_info info = {};

	if (in_compat_syscall())
		return -EOPNOTSUPP;
	switch (cmd - SIOCDEVPRIVATE) {
	case EXANIC_SIOC_IFINFO:
		strscpy(info.card, port->card->name, sizeof(info.card));
		info.port = port->number;
		return copy_to_user(data, &info, sizeof(info)) ? -EFAULT : 0;
	case EXANIC_SIOC_HWTSTAMP:
		return copy_to_user(data, &port->hwtstamp, sizeof(port->hwtstamp)) ? -EFAULT : 0;
	default:
		return -EOPNOTSUPP;
	}
}

const struct net_device_ops exanic_netdev_ops = {
	.ndo_open = exanic_open,
	.ndo_stop = exanic_stop,
	.ndo_start_xmit = exanic_xmit,
	.ndo_tx_timeout = exanic_tx_timeout,
	.ndo_set_rx_mode = exanic_set_rx_mode,
	.ndo_set_mac_address = exanic_set_mac,
	.ndo_validate_addr = eth_validate_addr,
	.ndo_change_mtu = exanic_change_mtu,
	.ndo_get_stats64 = exanic_get_stats64,
#ifdef EXANIC_HAVE_NDO_HWTSTAMP
	.ndo_hwtstamp_get = exanic_get_hwtstamp,
	.ndo_hwtstamp_set = exanic_set_hwtstamp,
#else
	.ndo_eth_ioctl = exanic_eth_ioctl,
#endif
	.ndo_siocdevprivate = exanic_private_ioctl,
};

static void exanic_features(struct exanic_port *port)
{
	struct net_device *dev = port->dev;

	dev->hw_features = NETIF_F_RXCSUM | NETIF_F_RXALL | NETIF_F_RXFCS;
	dev->features = NETIF_F_RXCSUM;
	if (port->tx_region_size) {
		netdev_features_t tx = NETIF_F_SG | NETIF_F_HW_CSUM | NETIF_F_TSO | NETIF_F_TSO6;

		dev->hw_features |= tx;
		dev->features |= tx;
		dev->vlan_features = tx;
	}
	/* copying by page, wherever it is */
	dev->features |= NETIF_F_HIGHDMA;
	dev->vlan_features |= NETIF_F_HIGHDMA;
	dev->priv_flags |= IFF_LIVE_ADDR_CHANGE;
}

static void exanic_netdev_free(struct exanic_port *port)
{
	netif_napi_del(&port->napi);
	free_netdev(port->dev);
	port->dev = NULL;
}

static int exanic_netdev_register(struct exanic_port *port)
{
	struct exanic *card = port->card;
	struct exanic_netdev *priv;
	struct net_device *dev;
	u8 mac[ETH_ALEN];
	unsigned int i;
	int err;

	err = exanic_fail(EXANIC_STEP_NETDEV_FIRST + min(port->number, 1U));
	if (err)
		return err;
	dev = alloc_etherdev(sizeof(*priv));
	if (!dev)
		return -ENOMEM;
	priv = netdev_priv(dev);
	priv->port = port;
	port->dev = dev;
	port->rx_usecs = card->rx_usecs;
	port->bypass = card->function == EXANIC_FUNCTION_FIREWALL;

	SET_NETDEV_DEV(dev, exanic_dev(card));
	dev->dev_port = port->number;
	dev->dev_id = port->number;
	dev->netdev_ops = &exanic_netdev_ops;
	dev->ethtool_ops = &exanic_ethtool_ops;
	dev->min_mtu = ETH_MIN_MTU;
	dev->max_mtu = EXANIC_MAX_MTU;
	dev->watchdog_timeo = 5 * HZ;
	dev->irq = card->irq;
	exanic_features(port);

	ether_addr_copy(mac, card->mac);
	for (i = 0; i < port->number; i++)
		eth_addr_inc(mac);
	exanic_write_mac(port, mac);
	eth_hw_addr_set(dev, mac);
	exanic_set_promisc(port, false);

	u64_stats_init(&port->rx.stats.sync);
	u64_stats_init(&port->tx.stats.sync);
	hrtimer_setup(&port->rx_timer, exanic_rx_timer, CLOCK_MONOTONIC, HRTIMER_MODE_REL);
	hrtimer_setup(&port->tx.timer, exanic_tx_timer, CLOCK_MONOTONIC, HRTIMER_MODE_REL_SOFT);
	netif_napi_add(dev, &port->napi, exanic_poll);
	netif_carrier_off(dev);

	rtnl_lock();
	err = register_netdevice(dev);
	port->registered = !err;
	rtnl_unlock();
	if (err)
		exanic_netdev_free(port);
	return err;
}

static void exanic_netdev_unregister(struct exanic_port *port)
{
	if (!port->dev)
		return;
	rtnl_lock();
	port->registered = false;
	unregister_netdevice(port->dev);
	rtnl_unlock();
	exanic_netdev_free(port);
}

static bool exanic_has_netdevs(const struct exanic *card)
{
	return card->function != EXANIC_FUNCTION_FORWARDER;
}

int exanic_netdevs_register(struct exanic *card)
{
	unsigned int p;
	int err;

	for (p = 0; exanic_has_netdevs(card) && p < card->ports; p++) {
		struct exanic_port *port = card->port[p];

		if (exanic_port_read(port, STATUS) & EXANIC_PORT_STATUS_ABSENT) {
			if (exanic_gone(card)) {
				err = -ENODEV;
				goto err_unregister;
			}
			continue;
		}
		err = exanic_netdev_register(port);
		if (err)
			goto err_unregister;
	}
	return 0;

err_unregister:
	exanic_netdevs_unregister(card);
	return err;
}

void exanic_netdevs_unregister(struct exanic *card)
{
	unsigned int p;

	for (p = card->ports; p-- > 0;)
		exanic_netdev_unregister(card->port[p]);
}

/* A device that stands on ports has come, or has come into another namespace */
static int exanic_netdev_below(struct net_device *lower, struct netdev_nested_priv *priv)
{
	const struct net_device *upper = priv->data;

	if (exanic_is_port(lower) && !net_eq(dev_net(lower), dev_net(upper)))
		exanic_port_unsteer(exanic_port(lower));
	return 0;
}

static void exanic_netdev_came(struct net_device *upper)
{
	struct netdev_nested_priv priv = { .data = upper };

	netdev_walk_all_lower_dev(upper, exanic_netdev_below, &priv);
}

/*
 * A port belongs to the namespace its net device is registered in; while it moves,
 * to none.
 */
static int exanic_netdev_event(struct notifier_block *block, unsigned long event, void *info)
{
	struct net_device *dev = netdev_notifier_info_to_dev(info);
	struct netdev_notifier_changeupper_info *change = info;

	if (event == NETDEV_CHANGEUPPER && change->linking)
		exanic_netdev_came(change->upper_dev);
	else if (event == NETDEV_REGISTER)
		exanic_netdev_came(dev);
	if (!exanic_is_port(dev))
		return NOTIFY_DONE;
	switch (event) {
	case NETDEV_REGISTER:
		exanic_port_set_owner(exanic_port(dev), dev_net(dev)->net_cookie);
		break;
	case NETDEV_UNREGISTER:
		exanic_port_set_owner(exanic_port(dev), 0);
		break;
	}
	return NOTIFY_DONE;
}

static struct notifier_block exanic_netdev_notifier = {
	.notifier_call = exanic_netdev_event,
};

int exanic_netdev_notifier_register(void)
{
	return register_netdevice_notifier(&exanic_netdev_notifier);
}

void exanic_netdev_notifier_unregister(void)
{
	unregister_netdevice_notifier(&exanic_netdev_notifier);
}
