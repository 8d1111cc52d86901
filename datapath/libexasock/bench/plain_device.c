// SPDX-License-Identifier: GPL-2.0-only
/* /dev/exasock in plain memory; see plain_device.h */

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../libexasock.h"
#include "plain_device.h"

#define SLOTS		64U
#define HEADERS		42U
#define ATTACHMENTS	1024U

EXPORT unsigned long plain_sends;

static struct {
	struct exasock_control *control;
	struct exasock_ring *ring;
} attachments[ATTACHMENTS];
static u32 attached;

int exa_device_open(void)
{
	return memfd_create("exasock", MFD_CLOEXEC);
}

void *exa_device_map(void *at, size_t length, int protection, int fd, u64 offset)
{
	u32 handle = (u32)(offset / EXASOCK_MAP_STRIDE);

	(void)protection;
	(void)fd;
	at = mmap(at, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
		  0);
	if (at == MAP_FAILED)
		return at;
	if (offset == EXASOCK_MAP_CONTROL_AT(handle)) {
		attachments[handle].control = at;
		attachments[handle].control->tail = 1;
	} else {
		attachments[handle].ring = at;
		attachments[handle].ring->abi = EXASOCK_ABI_VERSION;
		attachments[handle].ring->slots = SLOTS;
		attachments[handle].ring->handle = handle;
		attachments[handle].ring->head = 1;
	}
	return at;
}

int exa_device_ioctl(int fd, unsigned long request, void *argument)
{
	struct exasock_send *send = argument;

	(void)fd;
	switch (request) {
	case EXASOCK_IOC_SEND:
		plain_sends++;
		return send->flags & EXASOCK_SEND_BUFFER ? (int)send->iovs :
		       (int)((struct iovec *)(uintptr_t)send->iov)->iov_len;
	case EXASOCK_IOC_INFO:
		*(struct exasock_info *)argument = (struct exasock_info){
			.abi = EXASOCK_ABI_VERSION, .slots = SLOTS, .netns = 1,
		};
		return 0;
	case EXASOCK_IOC_ATTACH:
		if (attached + 1 == ATTACHMENTS) {
			errno = EMFILE;
			return -1;
		}
		((struct exasock_attach *)argument)->handle = ++attached;
		((struct exasock_attach *)argument)->netns = attached;
		return 0;
	}
	return 0;
}

/* What begins at @number, or that nothing does */
static void mark(struct exasock_control *control, u32 number, u32 slots, u32 state)
{
	for (; slots--; number++)
		store_release(&control->claim[number % SLOTS], EXASOCK_CLAIM(number, state));
}

EXPORT void plain_arrive(unsigned int handle, size_t length)
{
	struct exasock_control *control = attachments[handle].control;
	struct exasock_ring *ring = attachments[handle].ring;
	u32 span = EXASOCK_SPAN(HEADERS + (u32)length), number = ring->head;
	u32 left = SLOTS - number % SLOTS;
	struct exasock_slot *slot;

	if (span > left) {
		mark(control, number, left, EXASOCK_STATE_FREE);
		number += left;
	}
	slot = (void *)ring + EXASOCK_RING_HEADER + number % SLOTS * EXASOCK_SLOT_SIZE;
	memset(slot, 0, sizeof(*slot));
	slot->number = number;
	slot->offset = HEADERS;
	slot->length = (__u16)length;
	slot->frame = HEADERS + (u32)length;
	mark(control, number + 1, span - 1, EXASOCK_STATE_FREE);
	mark(control, number, 1, EXASOCK_STATE_HELD);
	store_release(&ring->head, number + span);
}
