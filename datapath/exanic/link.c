// SPDX-License-Identifier: GPL-2.0-only
/*
 * Link state, by polling: there is no link interrupt (section 11). Once a second, and
 * more often while a port that is up waits for its link, which is what people wait for.
 * At the same time a look at each ring, in case an interrupt got lost.
 */

#include <linux/netdevice.h>
#include <linux/rtnetlink.h>

#include "exanic.h"
#include "regs.h"

#define POLL_LINKED		HZ
#define POLL_WAITING		(HZ / 10)

void exanic_link_update(struct exanic_port *port)
{
	u32 status = exanic_port_read(port, STATUS);
	bool link;

	if (exanic_gone(port->card))
		return;
	link = status & EXANIC_PORT_STATUS_LINK;
	if (link == port->link)
		return;
	port->link = link;
	if (link) {
		port->speed = exanic_port_read(port, SPEED);
		netif_carrier_on(port->dev);
		netdev_info(port->dev, "link is up, %u Mb/s\n", port->speed);
	} else {
		netif_carrier_off(port->dev);
		netdev_info(port->dev, "link is down\n");
	}
}

static void exanic_link_work(struct work_struct *work)
{
	struct exanic *card = container_of(work, struct exanic, link_work.work);
	unsigned long delay = POLL_LINKED;
	bool running = false;
	unsigned int p;

	/* open and close set the link too; a busy RTNL just means later */
	if (!rtnl_trylock()) {
		running = true;
		delay = POLL_WAITING;
	} else {
		for (p = 0; p < card->ports; p++) {
			struct exanic_port *port = card->port[p];

			if (!port->registered || !netif_running(port->dev))
				continue;
			running = true;
			exanic_link_update(port);
			if (!port->link)
				delay = POLL_WAITING;
			local_bh_disable();
			if (READ_ONCE(port->rx_running) && exanic_rx_pending(&port->rx))
				napi_schedule(&port->napi);
			local_bh_enable();
		}
		rtnl_unlock();
	}
	if (running && !exanic_gone(card))
		schedule_delayed_work(&card->link_work, delay);
}

/* A port was opened: from now on there is something to poll, and soon */
void exanic_link_hurry(struct exanic *card)
{
	mod_delayed_work(system_wq, &card->link_work, POLL_WAITING);
}

void exanic_link_setup(struct exanic *card)
{
	INIT_DELAYED_WORK(&card->link_work, exanic_link_work);
}

/* After the net devices are gone: nobody opens one any more */
void exanic_link_stop(struct exanic *card)
{
	cancel_delayed_work_sync(&card->link_work);
}
