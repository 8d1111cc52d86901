/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Register access. A card that was pulled out answers all ones, so that value is
 * a question: is the interface version, which can never read so, all ones too?
 */
#ifndef EXANIC_ACCESSORS_H
#define EXANIC_ACCESSORS_H

#include <linux/io.h>

#include "exanic.h"

static inline bool exanic_gone(const struct exanic *card)
{
	return READ_ONCE(card->gone);
}

static inline u32 exanic_read(struct exanic *card, u32 reg)
{
	u32 value;

	if (exanic_gone(card))
		return ~0U;
	value = readl(card->regs + reg);
	if (unlikely(value == ~0U) && readl(card->regs + EXANIC_REG_PCIE_IF_VER) == ~0U)
		exanic_mark_gone(card, "registers read all ones");
	return value;
}

static inline void exanic_write(struct exanic *card, u32 reg, u32 value)
{
	if (likely(!exanic_gone(card)))
		writel(value, card->regs + reg);
}

/* Registers of a port, given as offsets in its block */
static inline u32 exanic_read_port(struct exanic_port *port, u32 offset)
{
	return exanic_read(port->card, EXANIC_PORT_BLOCK(port->number) + offset);
}

static inline void exanic_write_port(struct exanic_port *port, u32 offset, u32 value)
{
	exanic_write(port->card, EXANIC_PORT_BLOCK(port->number) + offset, value);
}

#define EXANIC_PORT_OFFSET(REG)		(EXANIC_REG_PORT_##REG(0) - EXANIC_PORT_BLOCK(0))
#define exanic_port_read(port, REG)	exanic_read_port(port, EXANIC_PORT_OFFSET(REG))
#define exanic_port_write(port, REG, value) \
	exanic_write_port(port, EXANIC_PORT_OFFSET(REG), value)

#endif /* EXANIC_ACCESSORS_H */
