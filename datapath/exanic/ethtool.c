// SPDX-License-Identifier: GPL-2.0-only
/*
 * ethtool (9.4): who we are, link settings, coalescing, EEPROM, modules.
 */

#include <linux/ethtool.h>
#include <linux/netdevice.h>
#include <linux/rtnetlink.h>

#include "compat.h"
#include "exanic.h"
#include "regs.h"

#define EEPROM_SIZE		256
#define EEPROM_SPEED		0x50
#define EEPROM_AUTONEG		0x54
#define EEPROM_SPEED_1G		1
#define EEPROM_SPEED_OTHER	2
#define RX_USECS_MAX		100000
#define IDENTIFY_FOREVER	0xffffffffU

enum {
	PRIV_BYPASS_ONLY,
	PRIV_MIRROR_RX,
	PRIV_MIRROR_TX,
	PRIV_BRIDGING,
	PRIV_FLAGS,
};

static const char priv_names[PRIV_FLAGS][ETH_GSTRING_LEN] = {
	[PRIV_BYPASS_ONLY] = "bypass_only",
	[PRIV_MIRROR_RX] = "mirror_rx",
	[PRIV_MIRROR_TX] = "mirror_tx",
	[PRIV_BRIDGING] = "bridging",
};

static void get_drvinfo(struct net_device *dev, struct ethtool_drvinfo *info)
{
	struct exanic *card = exanic_port(dev)->card;

	strscpy(info->driver, EXANIC_DRV_NAME, sizeof(info->driver));
	strscpy(info->version, EXANIC_DRV_VERSION, sizeof(info->version));
	strscpy(info->bus_info, pci_name(card->pdev), sizeof(info->bus_info));
	snprintf(info->fw_version, sizeof(info->fw_version), "%u",
		 exanic_read(card, EXANIC_REG_HW_REV_DATE));
}

static int sset_count(struct net_device *dev, int sset)
{
	switch (sset) {
	case ETH_SS_STATS:
		return exanic_get_sset_count(dev, sset);
	case ETH_SS_PRIV_FLAGS:
		return PRIV_FLAGS;
	default:
		return -EOPNOTSUPP;
	}
}

static void get_strings(struct net_device *dev, u32 sset, u8 *data)
{
	if (sset == ETH_SS_STATS)
		exanic_get_strings(dev, sset, data);
	else if (sset == ETH_SS_PRIV_FLAGS)
		memcpy(data, priv_names, sizeof(priv_names));
}

/* Speeds the card can have, by capability bit */
static const struct {
	u32 cap;
	u32 speed;
	enum ethtool_link_mode_bit_indices mode;
} link_modes[] = {
	{ EXANIC_CAPS_100M, SPEED_100, ETHTOOL_LINK_MODE_100baseT_Full_BIT },
	{ EXANIC_CAPS_1G, SPEED_1000, ETHTOOL_LINK_MODE_1000baseX_Full_BIT },
	{ EXANIC_CAPS_10G, SPEED_10000, ETHTOOL_LINK_MODE_10000baseSR_Full_BIT },
	{ EXANIC_CAPS_25G, SPEED_25000, ETHTOOL_LINK_MODE_25000baseSR_Full_BIT },
	{ EXANIC_CAPS_40G, SPEED_40000, ETHTOOL_LINK_MODE_40000baseSR4_Full_BIT },
	{ EXANIC_CAPS_100G, SPEED_100000, ETHTOOL_LINK_MODE_100000baseSR4_Full_BIT },
};

static bool has_autoneg(const struct exanic *card)
{
	return card->caps & (EXANIC_CAPS_25G | EXANIC_CAPS_25G_S);
}

static int get_link_ksettings(struct net_device *dev, struct ethtool_link_ksettings *set)
{
	struct exanic_port *port = exanic_port(dev);
	struct exanic *card = port->card;
	bool autoneg = false;
	unsigned int i;

	ethtool_link_ksettings_zero_link_mode(set, supported);
	ethtool_link_ksettings_zero_link_mode(set, advertising);
	for (i = 0; i < ARRAY_SIZE(link_modes); i++)
		if (card->caps & link_modes[i].cap)
			__set_bit(link_modes[i].mode, set->link_modes.supported);
	ethtool_link_ksettings_add_link_mode(set, supported, FIBRE);
	if (has_autoneg(card)) {
		ethtool_link_ksettings_add_link_mode(set, supported, Autoneg);
		autoneg = exanic_port_read(port, FLAGS) & EXANIC_PORT_FLAGS_AUTONEG;
	}
	if (autoneg)
		ethtool_link_ksettings_add_link_mode(set, advertising, Autoneg);
	set->base.port = PORT_FIBRE;
	set->base.autoneg = autoneg ? AUTONEG_ENABLE : AUTONEG_DISABLE;
	set->base.duplex = DUPLEX_FULL;
	set->base.speed = exanic_port_read(port, SPEED);
	return exanic_gone(card) ? -ENODEV : 0;
}

/*
 * Saved so that the port comes up the same way after a power cycle (11): for the host's
 * owner. A tenant's settings last as long as the driver does.
 */
static void save_settings(struct exanic_port *port, u32 speed, bool autoneg)
{
	struct exanic *card = port->card;
	u8 code = speed == SPEED_1000 ? EEPROM_SPEED_1G : EEPROM_SPEED_OTHER;
	int err;

	if (port->number >= EEPROM_AUTONEG - EEPROM_SPEED)
		return;		/* the bytes of further ports overlap */
	err = exanic_eeprom_write(card, EEPROM_SPEED + port->number, code);
	if (!err)
		err = exanic_eeprom_write(card, EEPROM_AUTONEG + port->number, autoneg);
	if (err)
		netdev_warn(port->dev, "settings are not saved in the EEPROM: %d\n", err);
}

static int set_link_ksettings(struct net_device *dev, const struct ethtool_link_ksettings *set)
{
	struct exanic_port *port = exanic_port(dev);
	struct exanic *card = port->card;
	bool autoneg = set->base.autoneg == AUTONEG_ENABLE;
	unsigned long flags;
	unsigned int i;
	u32 value;

	if (autoneg && !has_autoneg(card))
		return -EINVAL;
	for (i = 0; i < ARRAY_SIZE(link_modes); i++)
		if (card->caps & link_modes[i].cap && link_modes[i].speed == set->base.speed)
			break;
	if (i == ARRAY_SIZE(link_modes) || set->base.duplex == DUPLEX_HALF)
		return -EINVAL;

	spin_lock_irqsave(&port->flags_lock, flags);
	value = exanic_port_read(port, FLAGS) & ~EXANIC_PORT_FLAGS_AUTONEG;
	exanic_port_write(port, FLAGS, value | (autoneg ? EXANIC_PORT_FLAGS_AUTONEG : 0));
	spin_unlock_irqrestore(&port->flags_lock, flags);
	exanic_port_write(port, SPEED, set->base.speed);
	if (autoneg) {
		exanic_write(card, EXANIC_REG_EXT_AN_CONTROL(port->number),
			     EXANIC_EXT_AN_CONTROL_RESTART);
		exanic_write(card, EXANIC_REG_EXT_AN_CONTROL(port->number), 0);
	}
	port->speed = set->base.speed;
	if (exanic_may_card())
		save_settings(port, set->base.speed, autoneg);
	return exanic_gone(card) ? -ENODEV : 0;
}

static int get_coalesce(struct net_device *dev, struct ethtool_coalesce *set,
			struct kernel_ethtool_coalesce *kernel, struct netlink_ext_ack *extack)
{
	set->rx_coalesce_usecs = exanic_port(dev)->rx_usecs;
	return 0;
}

static int set_coalesce(struct net_device *dev, struct ethtool_coalesce *set,
			struct kernel_ethtool_coalesce *kernel, struct netlink_ext_ack *extack)
{
	if (set->rx_coalesce_usecs > RX_USECS_MAX) {
		NL_SET_ERR_MSG(extack, "rx-usecs is at most 100000");
		return -ERANGE;
	}
	WRITE_ONCE(exanic_port(dev)->rx_usecs, set->rx_coalesce_usecs);
	return 0;
}

static int get_ts_info(struct net_device *dev, struct exanic_ts_info *info)
{
	struct exanic *card = exanic_port(dev)->card;

	info->so_timestamping = SOF_TIMESTAMPING_TX_SOFTWARE | SOF_TIMESTAMPING_RX_SOFTWARE |
				SOF_TIMESTAMPING_SOFTWARE;
	info->phc_index = -1;
	if (!card->clock.hz)
		return 0;
	info->so_timestamping |= SOF_TIMESTAMPING_TX_HARDWARE | SOF_TIMESTAMPING_RX_HARDWARE |
				 SOF_TIMESTAMPING_RAW_HARDWARE;
	if (card->clock.ptp)
		info->phc_index = ptp_clock_index(card->clock.ptp);
	info->tx_types = BIT(HWTSTAMP_TX_OFF) | BIT(HWTSTAMP_TX_ON);
	info->rx_filters = BIT(HWTSTAMP_FILTER_NONE) | BIT(HWTSTAMP_FILTER_ALL);
	return 0;
}

static int get_eeprom_len(struct net_device *dev)
{
	return EEPROM_SIZE;
}

static u32 eeprom_magic(const struct exanic *card)
{
	return card->pdev->vendor | (u32)card->pdev->device << 16;
}

static int get_eeprom(struct net_device *dev, struct ethtool_eeprom *eeprom, u8 *data)
{
	struct exanic *card = exanic_port(dev)->card;

	/* the bus is slow, and RTNL is held: no tenant may do so over and over (rule B5) */
	if (!exanic_may_card())
		return -EPERM;
	eeprom->magic = eeprom_magic(card);
	return exanic_eeprom_read(card, eeprom->offset, data, eeprom->len);
}

static int set_eeprom(struct net_device *dev, struct ethtool_eeprom *eeprom, u8 *data)
{
	struct exanic *card = exanic_port(dev)->card;
	int err = 0;
	u32 i;

	if (!exanic_may_card())
		return -EPERM;
	if (eeprom->magic != eeprom_magic(card))
		return -EINVAL;
	for (i = 0; i < eeprom->len && !err; i++)
		err = exanic_eeprom_write(card, eeprom->offset + i, data[i]);
	return err;
}

#define SFP_ADDRESS		0xa0
#define SFP_DIAG_ADDRESS	0xa2
#define SFP_PAGE		256
#define MODULE_QSFP		0x0c
#define MODULE_QSFP_PLUS	0x0d
#define MODULE_QSFP28		0x11
#define MODULE_QSFP_DD		0x18
#define SFP_DIAG_TYPE		92
#define SFP_DIAG_PRESENT	BIT(6)
#define QSFP_STATUS		2
#define QSFP_FLAT		BIT(2)

static int get_module_info(struct net_device *dev, struct ethtool_modinfo *info)
{
	struct exanic_port *port = exanic_port(dev);
	u8 id, value;
	int err;

	err = exanic_module_read(port, SFP_ADDRESS, 0, 0, &id, 1);
	if (err)
		return err;
	switch (id) {
	case MODULE_QSFP:
	case MODULE_QSFP_PLUS:
	case MODULE_QSFP28:
		err = exanic_module_read(port, SFP_ADDRESS, 0, QSFP_STATUS, &value, 1);
		if (err)
			return err;
		info->type = id == MODULE_QSFP28 ? ETH_MODULE_SFF_8636 : ETH_MODULE_SFF_8436;
		info->eeprom_len = value & QSFP_FLAT ? ETH_MODULE_SFF_8636_LEN :
						       ETH_MODULE_SFF_8636_MAX_LEN;
		return 0;
	case MODULE_QSFP_DD:
		return -EOPNOTSUPP;	/* by page only */
	default:
		err = exanic_module_read(port, SFP_ADDRESS, 0, SFP_DIAG_TYPE, &value, 1);
		if (err)
			return err;
		info->type = value & SFP_DIAG_PRESENT ? ETH_MODULE_SFF_8472 : ETH_MODULE_SFF_8079;
		info->eeprom_len = value & SFP_DIAG_PRESENT ? ETH_MODULE_SFF_8472_LEN :
							      ETH_MODULE_SFF_8079_LEN;
		return 0;
	}
}

/* The legacy, flat view: SFP diagnostics, or the upper pages of a QSFP, after byte 255 */
static int get_module_eeprom(struct net_device *dev, struct ethtool_eeprom *eeprom, u8 *data)
{
	struct exanic_port *port = exanic_port(dev);
	bool qsfp = port->card->model->qsfp;
	u32 offset = eeprom->offset, left = eeprom->len;

	while (left) {
		u32 reg = offset, page = 0, n;
		u8 address = SFP_ADDRESS;
		int err;

		if (offset >= SFP_PAGE && qsfp) {
			page = (offset - 128) / 128;
			reg = 128 + offset % 128;
		} else if (offset >= SFP_PAGE) {
			address = SFP_DIAG_ADDRESS;
			reg = offset - SFP_PAGE;
		}
		n = min(left, (reg < 128 && qsfp ? 128 : SFP_PAGE) - reg);
		err = exanic_module_read(port, address, page, reg, data, n);
		if (err)
			return err;
		data += n;
		offset += n;
		left -= n;
	}
	return 0;
}

static int get_module_page(struct net_device *dev, const struct ethtool_module_eeprom *page,
			   struct netlink_ext_ack *extack)
{
	int err;

	if (page->bank) {
		NL_SET_ERR_MSG(extack, "banks are not supported");
		return -EOPNOTSUPP;
	}
	err = exanic_module_read(exanic_port(dev), page->i2c_address << 1, page->page,
				 page->offset, page->data, page->length);
	return err ? err : page->length;
}

static int set_phys_id(struct net_device *dev, enum ethtool_phys_id_state state)
{
	struct exanic *card = exanic_port(dev)->card;

	if (!(card->caps & EXANIC_CAPS_IDENTIFY))
		return -EOPNOTSUPP;
	if (!exanic_may_card())		/* the lights of all ports */
		return -EPERM;
	switch (state) {
	case ETHTOOL_ID_ACTIVE:
		exanic_write(card, EXANIC_REG_IDENTIFY_TIMER, IDENTIFY_FOREVER);
		return 0;
	case ETHTOOL_ID_INACTIVE:
		exanic_write(card, EXANIC_REG_IDENTIFY_TIMER, 0);
		return 0;
	default:
		return -EINVAL;
	}
}

/* The mirroring bits of a port, of the two registers that may have them (3) */
static u32 mirror_register(const struct exanic *card)
{
	return card->caps & EXANIC_CAPS_MIRROR_EXT ? EXANIC_REG_MIRROR_ENABLE_EXT :
						     EXANIC_REG_FEATURE_CFG;
}

static bool can_mirror(const struct exanic_port *port)
{
	const struct exanic *card = port->card;

	if (card->caps & EXANIC_CAPS_MIRROR_EXT)
		return true;
	return port->number < 3 && (card->caps & EXANIC_CAPS_MIRRORING ||
				    card->model->hw_id == EXANIC_HW_ID_X4);
}

static bool can_bridge(const struct exanic_port *port)
{
	const struct exanic *card = port->card;

	return port->number < 2 && (card->caps & EXANIC_CAPS_BRIDGING ||
				    card->model->hw_id == EXANIC_HW_ID_X4 ||
				    card->model->hw_id == EXANIC_HW_ID_X2);
}

static u32 get_priv_flags(struct net_device *dev)
{
	struct exanic_port *port = exanic_port(dev);
	struct exanic *card = port->card;
	u32 flags = port->bypass ? BIT(PRIV_BYPASS_ONLY) : 0;

	if (can_mirror(port)) {
		u32 bits = exanic_read(card, mirror_register(card)) >> (2 * port->number);

		flags |= bits & 1 ? BIT(PRIV_MIRROR_RX) : 0;
		flags |= bits & 2 ? BIT(PRIV_MIRROR_TX) : 0;
	}
	if (can_bridge(port) &&
	    exanic_read(card, EXANIC_REG_FEATURE_CFG) & EXANIC_FEATURE_CFG_BRIDGE)
		flags |= BIT(PRIV_BRIDGING);
	return flags;
}

static int set_priv_flags(struct net_device *dev, u32 flags)
{
	struct exanic_port *port = exanic_port(dev);
	struct exanic *card = port->card;
	u32 changed = flags ^ get_priv_flags(dev);

	if (exanic_gone(card))
		return -ENODEV;
	if (changed & BIT(PRIV_BYPASS_ONLY)) {
		if (netif_running(dev))
			return -EBUSY;
		if (card->function == EXANIC_FUNCTION_FIREWALL)
			return -EOPNOTSUPP;
	}
	if (changed & (BIT(PRIV_MIRROR_RX) | BIT(PRIV_MIRROR_TX)) && !can_mirror(port))
		return -EOPNOTSUPP;
	if (changed & BIT(PRIV_BRIDGING) && !can_bridge(port))
		return -EOPNOTSUPP;
	/* copies go out of the card's mirror port, whosever that is */
	if (changed & (BIT(PRIV_MIRROR_RX) | BIT(PRIV_MIRROR_TX)) && !exanic_may_card())
		return -EPERM;
	if (changed & BIT(PRIV_BRIDGING) && !exanic_may_bridge(port))
		return -EPERM;

	port->bypass = flags & BIT(PRIV_BYPASS_ONLY);
	if (changed & (BIT(PRIV_MIRROR_RX) | BIT(PRIV_MIRROR_TX))) {
		u32 shift = 2 * port->number;
		u32 bits = (flags & BIT(PRIV_MIRROR_RX) ? 1 : 0) |
			   (flags & BIT(PRIV_MIRROR_TX) ? 2 : 0);

		exanic_update_bits(card, mirror_register(card), 3U << shift, bits << shift);
	}
	if (changed & BIT(PRIV_BRIDGING))
		exanic_bridge_set(card, flags & BIT(PRIV_BRIDGING),
				  exanic_may_card() ? 0 : port->owner);
	return 0;
}

const struct ethtool_ops exanic_ethtool_ops = {
	.supported_coalesce_params = ETHTOOL_COALESCE_RX_USECS,
	.get_drvinfo = get_drvinfo,
	.get_link = ethtool_op_get_link,
	.get_link_ksettings = get_link_ksettings,
	.set_link_ksettings = set_link_ksettings,
	.get_sset_count = sset_count,
	.get_strings = get_strings,
	.get_ethtool_stats = exanic_get_ethtool_stats,
	.get_priv_flags = get_priv_flags,
	.set_priv_flags = set_priv_flags,
	.get_coalesce = get_coalesce,
	.set_coalesce = set_coalesce,
	.get_ts_info = get_ts_info,
	.get_eeprom_len = get_eeprom_len,
	.get_eeprom = get_eeprom,
	.set_eeprom = set_eeprom,
	.get_module_info = get_module_info,
	.get_module_eeprom = get_module_eeprom,
	.get_module_eeprom_by_page = get_module_page,
	.set_phys_id = set_phys_id,
};
