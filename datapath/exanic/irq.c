// SPDX-License-Identifier: GPL-2.0-only
/*
 * When to look at the rings (7.5).
 *
 * One MSI serves all ports and says nothing: the handler looks at every ring.
 * IRQ_CONFIG asks for one interrupt, at one ring position. Arming it and being
 * interrupted are the dearest things a receiver does, so after a poll that found
 * frames a timer looks once more, and only an empty ring is armed. The looks are
 * rx-usecs apart at most: while they go on finding frames they are made less often.
 *
 * Nothing may be lost whether or not a card raises an interrupt for a position it
 * has already written: the ring is looked at again after arming, and once a second
 * by the link timer.
 */

#include <linux/interrupt.h>

#include "compat.h"
#include "exanic.h"
#include "regs.h"

#define RX_USECS_DEFAULT	10U
#define RX_USECS_SLOW		2000U
#define RX_USECS_STEPS		16U	/* the first look comes after this part of rx-usecs */
#define POLL_USECS		(USEC_PER_SEC / HZ)	/* cards without interrupts */

static irqreturn_t exanic_interrupt(int irq, void *data)
{
	struct exanic *card = data;
	unsigned int p;

	for (p = 0; p < card->ports; p++) {
		struct exanic_port *port = card->port[p];

		/* pairs with the release in exanic_open: the reader is set up */
		if (smp_load_acquire(&port->rx_running) && exanic_rx_pending(&port->rx))
			napi_schedule_irqoff(&port->napi);
	}
	return IRQ_HANDLED;
}

static void rx_timer_start(struct exanic_port *port, u32 usecs)
{
	hrtimer_start(&port->rx_timer, ns_to_ktime((u64)usecs * NSEC_PER_USEC), HRTIMER_MODE_REL);
}

/* Ask for the interrupt at the next chunk; frames that came meanwhile are seen now */
void exanic_rx_arm(struct exanic_port *port)
{
	struct exanic_rx *rx = &port->rx;

	if (!READ_ONCE(port->rx_running))
		return;
	if (!port->card->irq) {
		if (exanic_rx_pending(rx))
			napi_schedule(&port->napi);
		else
			rx_timer_start(port, POLL_USECS);
		return;
	}
	WRITE_ONCE(port->rx_wait, 0);
	exanic_port_write(port, IRQ_CONFIG,
			  EXANIC_PORT_IRQ_CONFIG_ARM |
			  EXANIC_POSITION(READ_ONCE(rx->generation), READ_ONCE(rx->next)));
	if (exanic_rx_pending(rx))
		napi_schedule(&port->napi);
}

/*
 * How long until the next look. A reply to what was just received is seen soon, a
 * stream wakes its reader once for many frames: to a guest without KVM a wake-up costs
 * as much as several frames.
 */
static u32 rx_next_wait(const struct exanic_port *port, u32 usecs)
{
	u32 last = READ_ONCE(port->rx_wait);

	if (last)
		return min(2 * last, usecs);
	return min(max(usecs / RX_USECS_STEPS, RX_USECS_DEFAULT), usecs);
}

/* NAPI is done for now */
void exanic_rx_idle(struct exanic_port *port, bool worked)
{
	u32 usecs = READ_ONCE(port->rx_usecs), wait = 0;

	if (worked && usecs && READ_ONCE(port->rx_running))
		wait = rx_next_wait(port, usecs);
	if (wait) {
		WRITE_ONCE(port->rx_wait, wait);
		rx_timer_start(port, wait);
	} else {
		exanic_rx_arm(port);
	}
}

enum hrtimer_restart exanic_rx_timer(struct hrtimer *timer)
{
	struct exanic_port *port = container_of(timer, struct exanic_port, rx_timer);

	if (!READ_ONCE(port->rx_running))
		return HRTIMER_NORESTART;
	if (exanic_rx_pending(&port->rx)) {
		napi_schedule(&port->napi);
		return HRTIMER_NORESTART;
	}
	if (!port->card->irq) {
		hrtimer_forward_now(timer, ns_to_ktime(POLL_USECS * NSEC_PER_USEC));
		return HRTIMER_RESTART;
	}
	exanic_rx_arm(port);
	return HRTIMER_NORESTART;
}

/*
 * What a register write costs, by the one that has no effect (3): 0.1 us to a card, 30 us
 * and more to an emulated one. To look again sooner than arming would take gains nothing.
 */
static u32 write_cost_usecs(struct exanic *card)
{
	u64 best = U64_MAX;
	int i;

	for (i = 0; i < 4; i++) {
		u64 start = ktime_get_ns();

		exanic_write(card, EXANIC_REG_PCIE_IF_VER, 0xdeadbeef);
		best = min(best, ktime_get_ns() - start);
	}
	return div_u64(best, NSEC_PER_USEC);
}

int exanic_irq_setup(struct exanic *card)
{
	struct pci_dev *pdev = card->pdev;
	unsigned int p;
	int err = exanic_fail(EXANIC_STEP_IRQ);

	if (err)
		return err;
	for (p = 0; p < card->ports; p++) {
		exanic_port_write(card->port[p], IRQ_CONFIG, 0);
		exanic_port_write(card->port[p], ENABLED, 0);
	}
	card->rx_usecs = clamp(2 * RX_USECS_STEPS * write_cost_usecs(card), RX_USECS_DEFAULT,
			       RX_USECS_SLOW);
	if (!(card->caps & EXANIC_CAPS_RX_MSI)) {
		dev_info(&pdev->dev, "no RX interrupts: polling\n");
		return 0;
	}
	err = pci_alloc_irq_vectors(pdev, 1, 1, PCI_IRQ_MSI);
	if (err < 0) {
		dev_err(&pdev->dev, "no MSI vector: %d\n", err);
		return err;
	}
	err = request_irq(pci_irq_vector(pdev, 0), exanic_interrupt, 0, card->name, card);
	if (err) {
		pci_free_irq_vectors(pdev);
		return err;
	}
	card->irq = pci_irq_vector(pdev, 0);
	return 0;
}

void exanic_irq_teardown(struct exanic *card)
{
	if (!card->irq)
		return;
	free_irq(card->irq, card);
	pci_free_irq_vectors(card->pdev);
	card->irq = 0;
}
