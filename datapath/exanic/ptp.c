// SPDX-License-Identifier: GPL-2.0-only
/*
 * The card's clock (section 10): a counter of CLK_HZ ticks a second, 64 or 32 bits
 * wide, as a PTP hardware clock; and times from its 32-bit timestamps.
 *
 * A timestamp is extended with a base, a recent full time in ticks that a timer
 * keeps within a quarter of the counter's half range, so no register is read for it.
 * A timer, because a work may be late: at 4 GHz half the range is half a second.
 *
 * The clock is the whole card's: setting and steering it take CAP_SYS_TIME in the initial
 * user namespace, whoever was handed /dev/ptpN.
 */

#include <linux/capability.h>
#include <linux/math64.h>
#include <linux/ptp_clock_kernel.h>

#include "compat.h"
#include "exanic.h"
#include "regs.h"

#define FINE_LIMIT_PPB		1953124		/* CLK_ADJ_EXT */
#define COARSE_LIMIT_PPB	100000000	/* CLK_ADJ */

static struct exanic *clock_card(struct ptp_clock_info *info)
{
	return container_of(info, struct exanic, clock.info);
}

ktime_t exanic_ticks_to_ktime(const struct exanic *card, u64 ticks)
{
	u32 hz = card->clock.hz, rest;
	u64 seconds;

	if (!hz)
		return 0;
	seconds = div_u64_rem(ticks, hz, &rest);
	return ktime_set(seconds, div_u64((u64)rest * NSEC_PER_SEC, hz));
}

static u64 clock_ns_to_ticks(const struct exanic *card, u64 ns)
{
	u32 rest;
	u64 seconds = div_u64_rem(ns, NSEC_PER_SEC, &rest);

	return seconds * card->clock.hz + div_u64((u64)rest * card->clock.hz, NSEC_PER_SEC);
}

u64 exanic_clock_extend(const struct exanic *card, u32 timestamp)
{
	u64 base = READ_ONCE(card->clock.base);

	return base + (s32)(timestamp - (u32)base);
}

static void clock_publish(struct exanic *card, u64 ticks)
{
	u64 *page = page_address(card->info_page);

	WRITE_ONCE(card->clock.base, ticks);
	WRITE_ONCE(*page, ticks);
}

/*
 * The full counter, under read_lock. The halves are read high, low, high; when the high
 * one changed, the low one tells on which side of the carry it was read.
 */
static u64 clock_sample(struct exanic *card, struct ptp_system_timestamp *sts)
{
	u32 before, low, after;

	if (!card->clock.wide) {
		ptp_read_system_prets(sts);
		low = exanic_read(card, EXANIC_REG_HW_TIME);
		ptp_read_system_postts(sts);
		return exanic_clock_extend(card, low);
	}
	before = exanic_read(card, EXANIC_REG_HW_TIME_HI);
	ptp_read_system_prets(sts);
	low = exanic_read(card, EXANIC_REG_HW_TIME);
	ptp_read_system_postts(sts);
	after = exanic_read(card, EXANIC_REG_HW_TIME_HI);
	if (before != after && low < 0x80000000U)
		before = after;
	return (u64)before << 32 | low;
}

static u64 clock_read(struct exanic *card, struct ptp_system_timestamp *sts)
{
	unsigned long flags;
	u64 ticks;

	spin_lock_irqsave(&card->clock.read_lock, flags);
	ticks = clock_sample(card, sts);
	spin_unlock_irqrestore(&card->clock.read_lock, flags);
	return ticks;
}

static void clock_write(struct exanic *card, u64 ticks)
{
	unsigned long flags;

	spin_lock_irqsave(&card->clock.read_lock, flags);
	if (card->clock.wide)
		exanic_write(card, EXANIC_REG_CLK_SET_HI, upper_32_bits(ticks));
	exanic_write(card, EXANIC_REG_CLK_SET, lower_32_bits(ticks));
	clock_publish(card, ticks);
	spin_unlock_irqrestore(&card->clock.read_lock, flags);
}

/* A quarter of the 2^31 ticks that a timestamp may be away from the base; at most a second */
static ktime_t clock_refresh_every(const struct exanic *card)
{
	return ns_to_ktime(min_t(u64, NSEC_PER_SEC,
				 div_u64((1ULL << 29) * NSEC_PER_SEC, card->clock.hz)));
}

/* Sampled and published under one lock: a time that is set meanwhile is not overwritten */
static enum hrtimer_restart clock_refresh(struct hrtimer *timer)
{
	struct exanic *card = container_of(timer, struct exanic, clock.timer);
	unsigned long flags;

	if (exanic_gone(card))
		return HRTIMER_NORESTART;
	spin_lock_irqsave(&card->clock.read_lock, flags);
	clock_publish(card, clock_sample(card, NULL));
	spin_unlock_irqrestore(&card->clock.read_lock, flags);
	hrtimer_forward_now(timer, clock_refresh_every(card));
	return HRTIMER_RESTART;
}

/* For programs; within the kernel nobody sets this clock */
static int clock_may_set(const struct exanic *card)
{
	if (!capable(CAP_SYS_TIME))
		return -EPERM;
	return exanic_gone(card) ? -ENODEV : 0;
}

static int clock_adjfine(struct ptp_clock_info *info, long scaled_ppm)
{
	struct exanic *card = clock_card(info);
	long ppb = scaled_ppm_to_ppb(scaled_ppm);
	int err = clock_may_set(card);

	if (err)
		return err;
	if (abs(ppb) > info->max_adj)
		return -ERANGE;
	if (card->clock.fine) {
		/* parts per 2^40; 2^40 / 10^6 / 2^16 of scaled_ppm is 2^18 / 15625 */
		s64 parts = div_s64((s64)scaled_ppm << 18, 15625);

		exanic_write(card, EXANIC_REG_CLK_ADJ_EXT, (u32)(s32)parts);
	} else {
		u32 every = ppb ? NSEC_PER_SEC / abs(ppb) : 0;

		if (every > EXANIC_CLK_ADJ_TICKS)
			every = 0;
		if (every && ppb > 0)
			every |= EXANIC_CLK_ADJ_ADD;
		exanic_write(card, EXANIC_REG_CLK_ADJ, every);
	}
	return 0;
}

static int clock_adjtime(struct ptp_clock_info *info, s64 delta)
{
	struct exanic *card = clock_card(info);
	u64 ticks = clock_ns_to_ticks(card, abs(delta));
	int err = clock_may_set(card);

	if (err)
		return err;
	mutex_lock(&card->clock.lock);
	if (delta < 0)
		ticks = -ticks;
	clock_write(card, clock_read(card, NULL) + ticks);
	mutex_unlock(&card->clock.lock);
	return exanic_gone(card) ? -ENODEV : 0;
}

static int clock_gettime(struct ptp_clock_info *info, struct timespec64 *ts,
			 struct ptp_system_timestamp *sts)
{
	struct exanic *card = clock_card(info);
	u64 ticks;

	mutex_lock(&card->clock.lock);
	ticks = clock_read(card, sts);
	mutex_unlock(&card->clock.lock);
	if (exanic_gone(card))
		return -ENODEV;
	*ts = ktime_to_timespec64(exanic_ticks_to_ktime(card, ticks));
	return 0;
}

static int clock_settime(struct ptp_clock_info *info, const struct timespec64 *ts)
{
	struct exanic *card = clock_card(info);
	int err = clock_may_set(card);

	if (err)
		return err;
	if (ts->tv_sec < 0)
		return -EINVAL;
	mutex_lock(&card->clock.lock);
	clock_write(card, clock_ns_to_ticks(card, timespec64_to_ns(ts)));
	mutex_unlock(&card->clock.lock);
	return exanic_gone(card) ? -ENODEV : 0;
}

static int clock_enable(struct ptp_clock_info *info, struct ptp_clock_request *request, int on)
{
	return -EOPNOTSUPP;
}

/*
 * At load the counter starts from the system's time, uncorrected, with no pulses, so
 * that timestamps make sense before anything has disciplined it.
 */
int exanic_clock_setup(struct exanic *card)
{
	struct exanic_clock *clock = &card->clock;
	int err = exanic_fail(EXANIC_STEP_PTP);

	if (err)
		return err;
	mutex_init(&clock->lock);
	spin_lock_init(&clock->read_lock);
	clock->hz = exanic_read(card, EXANIC_REG_CLK_HZ);
	if (exanic_gone(card))
		return -ENODEV;
	if (!clock->hz)
		return 0;
	clock->wide = card->caps & EXANIC_CAPS_CLK_64;
	clock->fine = card->caps & EXANIC_CAPS_CLK_ADJ_EXT;
	exanic_write(card, EXANIC_REG_CLK_ADJ, 0);
	if (clock->fine)
		exanic_write(card, EXANIC_REG_CLK_ADJ_EXT, 0);
	exanic_write(card, EXANIC_REG_PER_OUT_CONFIG, 0);
	exanic_write(card, EXANIC_REG_PER_OUT_WIDTH, 0);
	clock_write(card, clock_ns_to_ticks(card, ktime_get_real_ns()));
	hrtimer_setup(&clock->timer, clock_refresh, CLOCK_MONOTONIC, HRTIMER_MODE_REL_SOFT);

	clock->info = (struct ptp_clock_info) {
		.owner = THIS_MODULE,
		.max_adj = clock->fine ? FINE_LIMIT_PPB : COARSE_LIMIT_PPB,
		.adjfine = clock_adjfine,
		.adjtime = clock_adjtime,
		.gettimex64 = clock_gettime,
		.settime64 = clock_settime,
		.enable = clock_enable,
	};
	strscpy(clock->info.name, card->name, sizeof(clock->info.name));
	clock->ptp = ptp_clock_register(&clock->info, exanic_dev(card));
	if (IS_ERR(clock->ptp)) {
		err = PTR_ERR(clock->ptp);
		clock->ptp = NULL;
		return err;
	}
	hrtimer_start(&clock->timer, clock_refresh_every(card), HRTIMER_MODE_REL_SOFT);
	return 0;
}

void exanic_clock_teardown(struct exanic *card)
{
	struct exanic_clock *clock = &card->clock;

	if (!clock->hz)
		return;
	if (clock->ptp)
		ptp_clock_unregister(clock->ptp);
	clock->ptp = NULL;
	hrtimer_cancel(&clock->timer);
	clock->hz = 0;
}

/* Timestamps are for all received frames or none; any filter becomes "all" (9.4) */
int exanic_hwtstamp_set(struct exanic_port *port, int tx_type, int rx_filter)
{
	if (!port->card->clock.hz)
		return -EOPNOTSUPP;
	if (tx_type != HWTSTAMP_TX_OFF && tx_type != HWTSTAMP_TX_ON)
		return -ERANGE;
	port->hwtstamp.flags = 0;
	port->hwtstamp.tx_type = tx_type;
	port->hwtstamp.rx_filter = rx_filter == HWTSTAMP_FILTER_NONE ? HWTSTAMP_FILTER_NONE :
								       HWTSTAMP_FILTER_ALL;
	WRITE_ONCE(port->rx_stamping, rx_filter != HWTSTAMP_FILTER_NONE);
	WRITE_ONCE(port->tx.stamping, tx_type == HWTSTAMP_TX_ON);
	return 0;
}
