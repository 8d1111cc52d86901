// SPDX-License-Identifier: GPL-2.0-only
/*
 * A port's doorbell, as root: a buffer in the transmit memory with one frame in it, to be
 * sent again and again by nothing but the write that a driver's send ends with.
 */

#include <sys/ioctl.h>
#include <sys/mman.h>

#include "../../include/exanic_abi.h"
#include "../../include/exanic_regs.h"
#include "bench.h"

#define CARD		"/dev/exanic0"
#define PAGE		4096UL
#define FRAME_MOST	1518

static void *map(int fd, unsigned long page, size_t size)
{
	void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)(page * PAGE));

	if (at == MAP_FAILED)
		err(1, "the card's memory");
	return at;
}

/*
 * Of the first card, whose port is @netns's. The frame is for nobody, @frame bytes without
 * its FCS; its feedback has a slot, as a driver's.
 */
struct doorbell doorbell_of(const char *netns, unsigned int port, unsigned int frame)
{
	struct exanic_ioc_tx_buffer buffer = { .port = port, .size = PAGE };
	struct exanic_ioc_feedback slot = { .port = port };
	struct exanic_ioc_info info;
	unsigned char chunk[8 + 2 + FRAME_MOST + 8] = {};
	u16 *header = (u16 *)chunk;
	u64 *to;
	unsigned int i;
	char *memory;
	int fd;

	visit(netns);
	fd = open(CARD, O_RDWR | O_CLOEXEC);
	if (fd < 0 || ioctl(fd, EXANIC_IOC_INFO, &info) ||
	    ioctl(fd, EXANIC_IOC_TX_BUFFER_ALLOC, &buffer) ||
	    ioctl(fd, EXANIC_IOC_FEEDBACK_ALLOC, &slot))
		err(1, CARD);
	if (frame > FRAME_MOST)
		errx(1, "a frame of %u bytes", frame);
	header[0] = 1;
	header[1] = (u16)slot.slot;
	header[2] = (u16)(EXANIC_TX_CHUNK_PADDING + frame);
	header[3] = EXANIC_TX_TYPE_RAW;
	/* to and from locally administered addresses, an Ethertype for experiments */
	memcpy(chunk + 10, "\x02\x00\x00\x00\xee\x02\x02\x00\x00\x00\xee\x01\x88\xb5", 14);
	visit("-");
	memory = map(fd, EXANIC_PGOFF_TX, info.tx_size);
	to = (u64 *)(memory + buffer.offset);
	for (i = 0; i < (10 + frame + 7) / 8; i++)
		__atomic_store_n(&to[i], ((u64 *)chunk)[i], __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return (struct doorbell){
		.command = (u32 *)((char *)map(fd, EXANIC_PGOFF_REGISTERS, PAGE) +
						 EXANIC_REG_PORT_TX_COMMAND(port)),
		.value = (u32)buffer.offset,
	};
}
