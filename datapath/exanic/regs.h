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

/* Registers of a port are given by a macro that takes the port's number */
#define exanic_port_read(p, REG) \
	exanic_read((p)->card, EXANIC_REG_PORT_##REG((p)->number))
#define exanic_port_write(p, REG, value) \
	exanic_write((p)->card, EXANIC_REG_PORT_##REG((p)->number), value)

#endif /* EXANIC_ACCESSORS_H */
