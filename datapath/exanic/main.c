// SPDX-License-Identifier: GPL-2.0-only
/*
 * ExaNIC driver: modules, probing and removal.
 *
 * Probing has two halves. The first finds the card and gives it a character
 * device: when it fails, so does the probe. The second brings up everything else:
 * when it fails, the card stays in minimal mode (section 3), a character device
 * with no ports, through which its firmware can still be replaced.
 */

#include <linux/idr.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/rtnetlink.h>

#include "exanic.h"
#include "regs.h"

static unsigned int fail_step;
module_param(fail_step, uint, 0644);
MODULE_PARM_DESC(fail_step, "fail this step of bringing a card up (to test the unwinding)");

/* Fault injection: the error that @step should fail with, usually none */
int exanic_fail(enum exanic_step step)
{
	return unlikely(READ_ONCE(fail_step) == step) ? -EIO : 0;
}

/* N of exanicN: the lowest that is free */
static DEFINE_IDA(exanic_ids);

static void exanic_release(struct kref *ref)
{
	struct exanic *card = container_of(ref, struct exanic, ref);

	if (card->info_page)
		__free_page(card->info_page);
	if (card->dead_page)
		__free_page(card->dead_page);
	pci_dev_put(card->pdev);
	kfree(card);
}

void exanic_put(struct exanic *card)
{
	kref_put(&card->ref, exanic_release);
}

/* The card no longer answers: stop using it now, tell the stack when we may sleep */
void exanic_mark_gone(struct exanic *card, const char *why)
{
	if (xchg(&card->gone, true))
		return;
	dev_err(exanic_dev(card), "card is gone: %s\n", why);
	schedule_work(&card->gone_work);
}

static void exanic_gone_work(struct work_struct *work)
{
	struct exanic *card = container_of(work, struct exanic, gone_work);
	unsigned int p;

	rtnl_lock();
	for (p = 0; p < card->ports; p++) {
		struct exanic_port *port = card->port[p];

		if (!port->registered)
			continue;
		netif_carrier_off(port->dev);
		netif_device_detach(port->dev);
	}
	rtnl_unlock();
	exanic_zap_all(card);
}

static struct exanic *exanic_create(struct pci_dev *pdev)
{
	struct exanic *card = kzalloc(sizeof(*card), GFP_KERNEL);

	if (!card)
		return NULL;
	card->pdev = pci_dev_get(pdev);
	kref_init(&card->ref);
	spin_lock_init(&card->reg_lock);
	mutex_init(&card->i2c_lock);
	mutex_init(&card->map_lock);
	INIT_LIST_HEAD(&card->files);
	INIT_WORK(&card->gone_work, exanic_gone_work);
	exanic_link_setup(card);

	card->info_page = alloc_page(GFP_KERNEL | __GFP_ZERO);
	card->dead_page = alloc_page(GFP_KERNEL);
	if (!card->info_page || !card->dead_page) {
		exanic_put(card);
		return NULL;
	}
	memset(page_address(card->dead_page), 0xff, PAGE_SIZE);
	return card;
}

static int exanic_pci_setup(struct exanic *card)
{
	struct pci_dev *pdev = card->pdev;
	int err = exanic_fail(EXANIC_STEP_PCI);

	if (err)
		return err;
	pci_disable_link_state(pdev, PCIE_LINK_STATE_L0S | PCIE_LINK_STATE_L1 |
				     PCIE_LINK_STATE_CLKPM);
	err = pci_enable_device_mem(pdev);
	if (err)
		return err;
	err = pci_request_mem_regions(pdev, EXANIC_DRV_NAME);
	if (err)
		goto err_disable;
	card->regs_len = pci_resource_len(pdev, 0);
	if (!(pci_resource_flags(pdev, 0) & IORESOURCE_MEM) || card->regs_len < 2 * PAGE_SIZE) {
		dev_err(&pdev->dev, "BAR 0 is missing or too small\n");
		err = -ENODEV;
		goto err_regions;
	}
	err = exanic_fail(EXANIC_STEP_REGS);
	if (err)
		goto err_regions;
	card->regs = pci_ioremap_bar(pdev, 0);
	if (!card->regs) {
		err = -ENOMEM;
		goto err_regions;
	}
	pci_set_master(pdev);
	return 0;

err_regions:
	pci_release_mem_regions(pdev);
err_disable:
	pci_disable_device(pdev);
	return err;
}

static void exanic_pci_teardown(struct exanic *card)
{
	pci_clear_master(card->pdev);
	iounmap(card->regs);
	card->regs = NULL;
	pci_release_mem_regions(card->pdev);
	pci_disable_device(card->pdev);
}

/* Everything beyond minimal mode */
static int exanic_bring_up(struct exanic *card)
{
	int err;

	err = exanic_card_setup(card);
	if (err)
		return err;
	err = exanic_txmem_setup(card);
	if (err)
		goto err_card;
	err = exanic_ports_create(card);
	if (err)
		goto err_txmem;
	exanic_read_eeprom(card);
	err = exanic_irq_setup(card);
	if (err)
		goto err_ports;
	err = exanic_filters_setup(card);
	if (err)
		goto err_irq;
	err = exanic_clock_setup(card);
	if (err)
		goto err_filters;
	err = exanic_netdevs_register(card);
	if (err)
		goto err_clock;
	err = exanic_fail(EXANIC_STEP_SYSFS);
	if (!err)
		err = device_add_groups(exanic_dev(card), exanic_groups);
	if (err)
		goto err_netdevs;
	card->full = true;
	return 0;

err_netdevs:
	exanic_netdevs_unregister(card);
err_clock:
	exanic_link_stop(card);
	exanic_clock_teardown(card);
err_filters:
	exanic_filters_teardown(card);
err_irq:
	exanic_irq_teardown(card);
err_ports:
	exanic_ports_destroy(card);
err_txmem:
	exanic_txmem_teardown(card);
err_card:
	exanic_card_teardown(card);
	return err;
}

static void exanic_bring_down(struct exanic *card)
{
	card->full = false;
	device_remove_groups(exanic_dev(card), exanic_groups);
	exanic_netdevs_unregister(card);
	exanic_link_stop(card);
	exanic_clock_teardown(card);
	exanic_filters_teardown(card);
	exanic_irq_teardown(card);
	exanic_ports_destroy(card);
	exanic_txmem_teardown(card);
	exanic_card_teardown(card);
}

static int exanic_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct exanic *card;
	int err;

	card = exanic_create(pdev);
	if (!card)
		return -ENOMEM;
	err = ida_alloc(&exanic_ids, GFP_KERNEL);
	if (err < 0)
		goto err_put;
	card->id = err;
	snprintf(card->name, sizeof(card->name), "exanic%u", card->id);
	err = exanic_pci_setup(card);
	if (err)
		goto err_id;
	err = exanic_card_identify(card);
	if (err == -ENODEV)
		goto err_pci;
	pci_set_drvdata(pdev, card);

	if (!err)
		err = exanic_bring_up(card);
	if (err && exanic_gone(card))
		goto err_drvdata;
	if (err)
		dev_warn(&pdev->dev, "minimal mode, no ports: error %d\n", err);

	err = exanic_chardev_register(card);
	if (err)
		goto err_down;
	dev_info(&pdev->dev, "%s: %s, %u ports, serial %s\n", card->name,
		 card->model ? card->model->name : "unknown model", card->ports,
		 card->full ? card->serial : "unknown");
	return 0;

err_down:
	if (card->full)
		exanic_bring_down(card);
err_drvdata:
	pci_set_drvdata(pdev, NULL);
err_pci:
	exanic_pci_teardown(card);
	cancel_work_sync(&card->gone_work);
err_id:
	ida_free(&exanic_ids, card->id);
err_put:
	exanic_put(card);
	return err;
}

static void exanic_remove(struct pci_dev *pdev)
{
	struct exanic *card = pci_get_drvdata(pdev);

	if (!pci_device_is_present(pdev))
		exanic_mark_gone(card, "removed");
	exanic_chardev_unregister(card);
	if (card->full)
		exanic_bring_down(card);
	if (card->reset_on_remove)
		exanic_write(card, EXANIC_REG_RELOAD_RESET, EXANIC_RELOAD_RESET_RELOAD);
	/* files that are still open: no register access from here on */
	mutex_lock(&card->map_lock);
	WRITE_ONCE(card->gone, true);
	mutex_unlock(&card->map_lock);
	cancel_work_sync(&card->gone_work);
	exanic_zap_all(card);
	pci_set_drvdata(pdev, NULL);
	exanic_pci_teardown(card);
	ida_free(&exanic_ids, card->id);
	exanic_put(card);
}

/* Section 6.3: stop DMA and interrupts, nothing else */
static void exanic_shutdown(struct pci_dev *pdev)
{
	struct exanic *card = pci_get_drvdata(pdev);
	unsigned int p;

	for (p = 0; p < card->ports; p++) {
		exanic_port_write(card->port[p], ENABLED, 0);
		exanic_port_write(card->port[p], IRQ_CONFIG, 0);
	}
	pci_clear_master(pdev);
}

static pci_ers_result_t exanic_error_detected(struct pci_dev *pdev, pci_channel_state_t state)
{
	struct exanic *card = pci_get_drvdata(pdev);

	if (card)
		exanic_mark_gone(card, "PCI error");
	return PCI_ERS_RESULT_DISCONNECT;
}

static const struct pci_error_handlers exanic_error_handlers = {
	.error_detected = exanic_error_detected,
};

static const struct pci_device_id exanic_pci_ids[] = {
	{ PCI_DEVICE(EXANIC_PCI_VENDOR_ID, EXANIC_PCI_DEVICE_X4) },
	{ PCI_DEVICE(EXANIC_PCI_VENDOR_ID, EXANIC_PCI_DEVICE_X2) },
	{ PCI_DEVICE(EXANIC_PCI_VENDOR_ID, EXANIC_PCI_DEVICE_X10) },
	{ PCI_DEVICE(EXANIC_PCI_VENDOR_ID, EXANIC_PCI_DEVICE_X10_GM) },
	{ PCI_DEVICE(EXANIC_PCI_VENDOR_ID, EXANIC_PCI_DEVICE_X40) },
	{ PCI_DEVICE(EXANIC_PCI_VENDOR_ID, EXANIC_PCI_DEVICE_X10_HPT) },
	{ PCI_DEVICE(EXANIC_PCI_VENDOR_ID, EXANIC_PCI_DEVICE_X40_40G) },
	{ PCI_DEVICE(EXANIC_PCI_VENDOR_ID, EXANIC_PCI_DEVICE_V5P) },
	{ PCI_DEVICE(EXANIC_PCI_VENDOR_ID, EXANIC_PCI_DEVICE_X25) },
	{ PCI_DEVICE(EXANIC_PCI_VENDOR_ID, EXANIC_PCI_DEVICE_X100) },
	{ PCI_DEVICE(EXANIC_PCI_VENDOR_ID, EXANIC_PCI_DEVICE_V9P) },
	{ PCI_DEVICE(EXANIC_PCI_VENDOR_ID, EXANIC_PCI_DEVICE_V9P_3) },
	{ }
};
MODULE_DEVICE_TABLE(pci, exanic_pci_ids);

static struct pci_driver exanic_pci_driver = {
	.name = EXANIC_DRV_NAME,
	.id_table = exanic_pci_ids,
	.probe = exanic_probe,
	.remove = exanic_remove,
	.shutdown = exanic_shutdown,
	.err_handler = &exanic_error_handlers,
};

static int __init exanic_init(void)
{
	int err = exanic_netdev_notifier_register();

	if (err)
		return err;
	err = pci_register_driver(&exanic_pci_driver);
	if (err)
		exanic_netdev_notifier_unregister();
	return err;
}
module_init(exanic_init);

static void __exit exanic_exit(void)
{
	pci_unregister_driver(&exanic_pci_driver);
	exanic_netdev_notifier_unregister();
}
module_exit(exanic_exit);

MODULE_DESCRIPTION("ExaNIC network driver");
MODULE_AUTHOR("exalab");
MODULE_LICENSE("GPL");
MODULE_VERSION(EXANIC_DRV_VERSION);
