// SPDX-License-Identifier: GPL-2.0-only
/*
 * Attributes of the PCI device: its serial number, and whether it should reload its
 * firmware when the driver lets go of it (6.1).
 */

#include <linux/sysfs.h>

#include "exanic.h"

static struct exanic *device_card(struct device *dev)
{
	return dev_get_drvdata(dev);
}

static ssize_t serial_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%s\n", device_card(dev)->serial);
}
static DEVICE_ATTR_RO(serial);

static ssize_t reset_on_remove_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%d\n", device_card(dev)->reset_on_remove);
}

static ssize_t reset_on_remove_store(struct device *dev, struct device_attribute *attr,
				     const char *buf, size_t len)
{
	int err;

	if (!exanic_may_card())
		return -EPERM;
	err = kstrtobool(buf, &device_card(dev)->reset_on_remove);
	return err ? err : len;
}
static DEVICE_ATTR_ADMIN_RW(reset_on_remove);

static struct attribute *exanic_attrs[] = {
	&dev_attr_serial.attr,
	&dev_attr_reset_on_remove.attr,
	NULL
};

static const struct attribute_group exanic_group = {
	.attrs = exanic_attrs,
};

const struct attribute_group *exanic_groups[] = {
	&exanic_group,
	NULL
};
