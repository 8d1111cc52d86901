// SPDX-License-Identifier: GPL-2.0-only
/*
 * I2C by hand (section 11): EEPROM and modules. Open drain: a 1 in I2C_GPIO pulls a
 * line low. Reading the register is as dear as half a bit, so SDA is sensed only
 * where the answer matters and SCL never (no device here stretches it).
 */

#include <linux/delay.h>

#include "exanic.h"
#include "regs.h"

#define HALF_BIT_USECS		20
#define RECOVERY_CLOCKS		100
#define EEPROM_ADDRESS		0xa0
#define EEPROM_WRITE_MSECS	1000

/* A transfer on one bus; the lines as we drive them */
struct i2c_bus {
	struct exanic *card;
	u32 sda;		/* bit that pulls this bus's SDA low */
	u32 sense;		/* bit that shows its level */
	u32 idle;		/* the register with all lines released */
	bool data;		/* SDA released */
};

static void i2c_set(struct i2c_bus *bus, bool scl, bool sda)
{
	exanic_write(bus->card, EXANIC_REG_I2C_GPIO,
		     bus->idle | (sda ? 0 : bus->sda) | (scl ? 0 : EXANIC_I2C_GPIO_SCL_LOW));
	bus->data = sda;
	usleep_range(HALF_BIT_USECS / 2, HALF_BIT_USECS);
}

static bool i2c_sense(struct i2c_bus *bus)
{
	return exanic_read(bus->card, EXANIC_REG_I2C_GPIO) & bus->sense;
}

/* One clock with @out on the line; what was on it meanwhile, if @sense */
static bool i2c_clock(struct i2c_bus *bus, bool out, bool sense)
{
	bool in = false;

	if (out != bus->data)
		i2c_set(bus, false, out);
	i2c_set(bus, true, out);
	if (sense)
		in = i2c_sense(bus);
	i2c_set(bus, false, out);
	return in;
}

/* From SCL low, SDA anything */
static void i2c_start(struct i2c_bus *bus)
{
	i2c_set(bus, false, true);
	i2c_set(bus, true, true);
	i2c_set(bus, true, false);
	i2c_set(bus, false, false);
}

static void i2c_stop(struct i2c_bus *bus)
{
	i2c_set(bus, false, false);
	i2c_set(bus, true, false);
	i2c_set(bus, true, true);
}

/* True when acknowledged */
static bool i2c_put(struct i2c_bus *bus, u8 byte)
{
	int i;

	for (i = 7; i >= 0; i--)
		i2c_clock(bus, byte & BIT(i), false);
	return !i2c_clock(bus, true, true);
}

static u8 i2c_get(struct i2c_bus *bus, bool last)
{
	u8 byte = 0;
	int i;

	for (i = 0; i < 8; i++)
		byte = byte << 1 | i2c_clock(bus, true, true);
	i2c_clock(bus, last, false);
	return byte;
}

/* Under i2c_lock. The bus is usable when SDA can be made to rest high. */
static int i2c_begin(struct exanic *card, unsigned int number, struct i2c_bus *bus)
{
	int i;

	bus->card = card;
	bus->sda = BIT(number);
	bus->sense = BIT(8 + number);
	bus->idle = card->i2c_modsel;
	i2c_set(bus, true, true);
	for (i = 0; i < RECOVERY_CLOCKS && !exanic_gone(card); i++) {
		if (i2c_sense(bus))
			return exanic_gone(card) ? -ENODEV : 0;
		i2c_set(bus, false, true);
		i2c_set(bus, true, true);
	}
	return exanic_gone(card) ? -ENODEV : -EBUSY;
}

/* Under i2c_lock, as all of one answer is: page and module stay what was chosen for it */
static int i2c_read(struct exanic *card, unsigned int number, u8 addr, u8 reg, void *buf,
		    size_t len)
{
	struct i2c_bus bus;
	u8 *to = buf;
	int err;

	lockdep_assert_held(&card->i2c_lock);
	if (!len)
		return 0;
	err = i2c_begin(card, number, &bus);
	if (err)
		return err;
	err = -ENXIO;
	i2c_start(&bus);
	if (!i2c_put(&bus, addr))
		goto stop;
	err = -EIO;
	if (!i2c_put(&bus, reg))
		goto stop;
	i2c_start(&bus);
	if (!i2c_put(&bus, addr | 1))
		goto stop;
	for (; len && !exanic_gone(card); len--)
		*to++ = i2c_get(&bus, len == 1);
	err = exanic_gone(card) ? -ENODEV : 0;
stop:
	i2c_stop(&bus);
	return err;
}

static int i2c_write(struct exanic *card, unsigned int number, u8 addr, u8 reg, u8 value)
{
	struct i2c_bus bus;
	int err;

	lockdep_assert_held(&card->i2c_lock);
	err = i2c_begin(card, number, &bus);
	if (!err) {
		i2c_start(&bus);
		if (!i2c_put(&bus, addr) || !i2c_put(&bus, reg) || !i2c_put(&bus, value))
			err = exanic_gone(card) ? -ENODEV : -EIO;
		i2c_stop(&bus);
	}
	return err;
}

int exanic_eeprom_read(struct exanic *card, u8 reg, void *buf, size_t len)
{
	int err;

	mutex_lock(&card->i2c_lock);
	err = i2c_read(card, card->model->eeprom_bus, EEPROM_ADDRESS, reg, buf, len);
	mutex_unlock(&card->i2c_lock);
	return err;
}

/* The EEPROM does not answer while it writes: done when it does again */
int exanic_eeprom_write(struct exanic *card, u8 reg, u8 value)
{
	unsigned long deadline = jiffies + msecs_to_jiffies(EEPROM_WRITE_MSECS);
	int err;
	u8 back;

	mutex_lock(&card->i2c_lock);
	err = i2c_write(card, card->model->eeprom_bus, EEPROM_ADDRESS, reg, value);
	mutex_unlock(&card->i2c_lock);
	if (err)
		return err;
	do {
		err = exanic_eeprom_read(card, reg, &back, 1);
		if (!err)
			return back == value ? 0 : -EIO;
	} while (err != -ENODEV && time_before(jiffies, deadline));
	return err;
}

/* Cages share bus 0 on QSFP cards: pull the wanted one's MODSELn low (11) */
static void module_select(struct exanic *card, unsigned int cage)
{
	u32 pins = GENMASK(card->model->cages - 1, 0) << EXANIC_I2C_GPIO_MODSEL_SHIFT;
	u32 want = pins & ~(BIT(cage) << EXANIC_I2C_GPIO_MODSEL_SHIFT);

	if (card->i2c_modsel == want)
		return;
	card->i2c_modsel &= want;
	exanic_write(card, EXANIC_REG_I2C_GPIO, card->i2c_modsel);
	usleep_range(2000, 3000);
	card->i2c_modsel = want;
	exanic_write(card, EXANIC_REG_I2C_GPIO, want);
	usleep_range(18000, 20000);
}

/* A piece of the EEPROM of the module that port is in; @page counts for 128 and up */
int exanic_module_read(struct exanic_port *port, u8 addr, u8 page, u8 reg, void *buf, size_t len)
{
	struct exanic *card = port->card;
	unsigned int bus = port->number;
	int err;

	if (!(exanic_port_read(port, STATUS) & EXANIC_PORT_STATUS_MODULE))
		return -ENODEV;
	mutex_lock(&card->i2c_lock);
	if (card->model->qsfp) {
		unsigned int lanes = max(1U, card->ports / card->model->cages);

		bus = 0;
		module_select(card, min_t(unsigned int, port->number / lanes,
					  card->model->cages - 1));
		if (reg >= 128 || page) {
			err = i2c_write(card, bus, addr, 127, page);
			if (err && page)
				goto out;
		}
	}
	err = i2c_read(card, bus, addr, reg, buf, len);
out:
	mutex_unlock(&card->i2c_lock);
	return err;
}
