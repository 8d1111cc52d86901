// SPDX-License-Identifier: GPL-2.0-only
/*
 * The card as a whole: which model it is, what it can do, its ports, its names.
 */

#include <linux/delay.h>
#include <linux/dma-mapping.h>
#include <linux/etherdevice.h>
#include <linux/moduleparam.h>
#include <linux/rtnetlink.h>

#include "compat.h"
#include "exanic.h"
#include "regs.h"

#define EEPROM_MAC		0x00
#define EEPROM_SERIAL		0x10
#define EEPROM_SERIAL_LEN	16

static char *macaddr;
module_param(macaddr, charp, 0444);
MODULE_PARM_DESC(macaddr, "first MAC address for cards whose own cannot be read");

/* Section 1 */
static const struct exanic_model exanic_models[] = {
	{ EXANIC_HW_ID_X4, "ExaNIC X4", 4, 1, 5, false },
	{ EXANIC_HW_ID_X2, "ExaNIC X2", 2, 1, 4, false },
	{ EXANIC_HW_ID_X10, "ExaNIC X10", 2, 1, 4, false },
	{ EXANIC_HW_ID_X10_GM, "ExaNIC X10-GM", 2, 1, 4, false },
	{ EXANIC_HW_ID_X40, "ExaNIC X40", 2, 4, 4, true },
	{ EXANIC_HW_ID_X10_HPT, "ExaNIC X10-HPT", 2, 1, 4, false },
	{ EXANIC_HW_ID_V5P, "ExaNIC V5P", 2, 4, 4, true },
	{ EXANIC_HW_ID_X25, "ExaNIC X25", 2, 1, 4, false },
	{ EXANIC_HW_ID_X100, "ExaNIC X100", 2, 4, 4, true },
	{ EXANIC_HW_ID_V9P, "ExaNIC V9P", 2, 8, 4, true },
	{ EXANIC_HW_ID_V9P_3, "ExaNIC V9P-3", 2, 8, 4, true },
};

/*
 * First look at the registers. -ENODEV: nothing answers; another error: minimal
 * mode.
 */
int exanic_card_identify(struct exanic *card)
{
	struct device *dev = exanic_dev(card);
	u32 version, hw_id;
	unsigned int i;

	version = exanic_read(card, EXANIC_REG_PCIE_IF_VER);
	if (exanic_gone(card)) {
		dev_err(dev, "the card does not answer\n");
		return -ENODEV;
	}
	if (version != 1) {
		dev_warn(dev, "interface version %u is not known\n", version);
		return -EPROTO;
	}
	hw_id = exanic_read(card, EXANIC_REG_HW_ID);
	for (i = 0; i < ARRAY_SIZE(exanic_models); i++)
		if (exanic_models[i].hw_id == hw_id)
			card->model = &exanic_models[i];
	if (!card->model) {
		dev_warn(dev, "hardware %u is not known\n", hw_id);
		return -EPROTO;
	}
	card->function = exanic_read(card, EXANIC_REG_FUNCTION_ID);
	card->caps = exanic_read(card, EXANIC_REG_CAPS);
	switch (card->function) {
	case EXANIC_FUNCTION_NIC:
	case EXANIC_FUNCTION_FIREWALL:
	case EXANIC_FUNCTION_FORWARDER:
	case EXANIC_FUNCTION_DEVKIT:
	case EXANIC_FUNCTION_PTP_GRANDMASTER:
		return 0;
	default:
		dev_warn(dev, "function %#x is not known\n", card->function);
		return -EPROTO;
	}
}

/* FEATURE_CFG: wait for start-up, then take over from the auxiliary source (3) */
static void exanic_feature_setup(struct exanic *card)
{
	u32 value = exanic_read(card, EXANIC_REG_FEATURE_CFG);
	int tries;

	for (tries = 0; tries < 5 && value & EXANIC_FEATURE_CFG_BUSY; tries++) {
		msleep(100);
		value = exanic_read(card, EXANIC_REG_FEATURE_CFG);
	}
	if (value & EXANIC_FEATURE_CFG_BUSY)
		dev_warn(exanic_dev(card), "the card is still starting up; going on\n");
	if (value & EXANIC_FEATURE_CFG_AUX_ENABLE) {
		value &= ~0x7fU;
		value |= (value & EXANIC_FEATURE_CFG_AUX_STRAP) >>
			 EXANIC_FEATURE_CFG_AUX_STRAP_SHIFT;
		exanic_write(card, EXANIC_REG_FEATURE_CFG, value);
		exanic_write(card, EXANIC_REG_FEATURE_CFG,
			     value & ~EXANIC_FEATURE_CFG_AUX_ENABLE);
	}
}

int exanic_card_setup(struct exanic *card)
{
	struct pci_dev *pdev = card->pdev;
	u32 width;
	int err = exanic_fail(EXANIC_STEP_DMA);

	if (err)
		return err;
	exanic_feature_setup(card);
	width = exanic_read(card, EXANIC_REG_DMA_ADDR_WIDTH);
	if (width < 32 || width > 64)
		width = 64;
	err = dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(width));
	if (err) {
		dev_err(&pdev->dev, "no %u-bit DMA\n", width);
		return err;
	}
	if (pci_resource_flags(pdev, 2) & IORESOURCE_MEM && pci_resource_len(pdev, 2)) {
		card->tx_len = pci_resource_len(pdev, 2);
		card->tx = ioremap_wc(pci_resource_start(pdev, 2), card->tx_len);
		if (!card->tx)
			return -ENOMEM;
	}
	return 0;
}

void exanic_card_teardown(struct exanic *card)
{
	if (card->tx)
		iounmap(card->tx);
	card->tx = NULL;
	card->tx_len = 0;
}

/* SFP cards have one port a cage; others are asked, port by port (1) */
static unsigned int exanic_count_ports(struct exanic *card)
{
	unsigned int most = card->model->cages * card->model->ports_per_cage;
	unsigned int p;

	if (!card->model->qsfp)
		return card->model->cages;
	for (p = 0; p < most; p++)
		if (exanic_read(card, EXANIC_REG_PORT_STATUS(p)) & EXANIC_PORT_STATUS_ABSENT)
			break;
	return p;
}

static void exanic_port_regions(struct exanic_port *port)
{
	struct exanic *card = port->card;
	u32 offset, size;

	if (!card->tx)
		return;
	offset = exanic_port_read(port, TX_REGION_OFFSET);
	size = exanic_port_read(port, TX_REGION_SIZE);
	if (!size)
		return;
	if ((u64)offset + size > card->tx_len || offset % PAGE_SIZE || size % PAGE_SIZE) {
		dev_warn(exanic_dev(card), "port %u: TX region %#x+%#x is not in BAR 2; no TX\n",
			 port->number, offset, size);
		return;
	}
	port->tx_region = offset;
	port->tx_region_size = size;
}

static int exanic_port_memory(struct exanic_port *port)
{
	port->direct = alloc_percpu(struct exanic_direct_stats);
	if (!port->direct)
		return -ENOMEM;
	return exanic_tx_create(port);
}

int exanic_ports_create(struct exanic *card)
{
	unsigned int p, ports = exanic_count_ports(card);
	int err;

	for (p = 0; p < ports; p++) {
		struct exanic_port *port = kzalloc(sizeof(*port), GFP_KERNEL);

		if (!port) {
			exanic_ports_destroy(card);
			return -ENOMEM;
		}
		port->card = card;
		port->number = p;
		port->regs = card->regs + EXANIC_PORT_BLOCK(p);
		spin_lock_init(&port->flags_lock);
		exanic_port_regions(port);
		card->port[p] = port;
		mutex_lock(&card->map_lock);
		card->ports = p + 1;
		mutex_unlock(&card->map_lock);
		err = exanic_port_memory(port);
		if (err) {
			exanic_ports_destroy(card);
			return err;
		}
	}
	return exanic_gone(card) ? -ENODEV : 0;
}

void exanic_ports_destroy(struct exanic *card)
{
	unsigned int ports = card->ports, p;

	/* neither open files nor the gone work see a port from here on */
	rtnl_lock();
	mutex_lock(&card->map_lock);
	card->ports = 0;
	mutex_unlock(&card->map_lock);
	rtnl_unlock();
	exanic_zap_all(card);
	for (p = 0; p < ports; p++) {
		struct exanic_port *port = card->port[p];

		if (port->ring_page)
			exanic_ring_free(card, port->ring_page, port->ring_dma);
		exanic_tx_destroy(port);
		free_percpu(port->direct);
		card->port[p] = NULL;
		kfree(port);
	}
}

/* Module TX of a port on or off; bits 4+p of POWERDOWN, 1 is on (4) */
void exanic_power(struct exanic_port *port, bool on)
{
	struct exanic *card = port->card;
	u32 bit = BIT(EXANIC_POWERDOWN_MODULE_TX_SHIFT + port->number);
	unsigned long flags;
	u32 value;

	spin_lock_irqsave(&card->reg_lock, flags);
	value = exanic_read(card, EXANIC_REG_POWERDOWN);
	if (!!(value & bit) != on)
		exanic_write(card, EXANIC_REG_POWERDOWN, value ^ bit);
	spin_unlock_irqrestore(&card->reg_lock, flags);
}

/* Read-modify-write of a register that ports share */
void exanic_update_bits(struct exanic *card, u32 reg, u32 clear, u32 set)
{
	unsigned long flags;

	spin_lock_irqsave(&card->reg_lock, flags);
	exanic_write(card, reg, (exanic_read(card, reg) & ~clear) | set);
	spin_unlock_irqrestore(&card->reg_lock, flags);
}

/* Under RTNL. @tenant: the namespace that may because all ports are its own, 0: the host. */
void exanic_bridge_set(struct exanic *card, bool on, u64 tenant)
{
	mutex_lock(&card->map_lock);
	card->bridge_tenant = on ? tenant : 0;
	exanic_update_bits(card, EXANIC_REG_FEATURE_CFG, EXANIC_FEATURE_CFG_BRIDGE,
			   on ? EXANIC_FEATURE_CFG_BRIDGE : 0);
	mutex_unlock(&card->map_lock);
}

/*
 * A port gets another owner, or none: a bridge that a tenant made between ports that were
 * all its own ends here. What the host's owner set up stays. Under map_lock.
 */
void exanic_bridge_revoke(struct exanic *card, u64 owner)
{
	if (!card->bridge_tenant || card->bridge_tenant == owner)
		return;
	card->bridge_tenant = 0;
	exanic_update_bits(card, EXANIC_REG_FEATURE_CFG, EXANIC_FEATURE_CFG_BRIDGE, 0);
}

/* Cards without a readable address of their own get running ones (6.1) */
static void exanic_default_mac(u8 *mac)
{
	static DEFINE_MUTEX(lock);
	static u8 next[ETH_ALEN] = { 0x64, 0x3f, 0x5f, 0, 0, 0 };
	static bool started;
	int i;

	mutex_lock(&lock);
	if (!started && macaddr && (!mac_pton(macaddr, next) || !is_valid_ether_addr(next)))
		pr_warn("exanic: macaddr=%s is not a usable address\n", macaddr);
	started = true;
	ether_addr_copy(mac, next);
	for (i = 0; i < EXANIC_MAX_PORTS; i++)
		eth_addr_inc(next);
	mutex_unlock(&lock);
}

/*
 * MAC and serial. One sequential read gets both: at the lab's price of a register
 * access two would double the time of the probe.
 */
void exanic_read_eeprom(struct exanic *card)
{
	u8 image[EEPROM_SERIAL + EEPROM_SERIAL_LEN];
	int tries, err = -EIO, i;

	for (tries = 0; tries < 5 && err && !exanic_gone(card); tries++)
		err = exanic_eeprom_read(card, 0, image, sizeof(image));
	if (!err && is_valid_ether_addr(image + EEPROM_MAC)) {
		ether_addr_copy(card->mac, image + EEPROM_MAC);
	} else {
		exanic_default_mac(card->mac);
		dev_warn(exanic_dev(card), "no MAC address in the EEPROM, using %pM\n", card->mac);
	}
	for (i = 0; !err && i < EEPROM_SERIAL_LEN; i++) {
		u8 c = image[EEPROM_SERIAL + i];

		if (c <= ' ' || c > '~')
			break;
		card->serial[i] = c;
	}
	if (!card->serial[0])
		snprintf(card->serial, sizeof(card->serial), "%12phN", card->mac);
}
