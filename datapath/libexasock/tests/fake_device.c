// SPDX-License-Identifier: GPL-2.0-only
/* The kernel module's side of exasock_abi.h, without a kernel; see fake.h */

#include <netinet/in.h>
#include <pthread.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <linux/errqueue.h>

#include "../libexasock.h"
#include "fake.h"

#define SLOTS		16U
#define LENGTH_MOST	2048U
#define SOCKETS		256U
#define HEADERS		42U

/* An attachment: a socket, by its inode, and its memory as the kernel sees it */
struct fake {
	ino_t inode;
	struct exasock_control *control;
	struct exasock_ring *ring;
	u32 oldest;
	u32 owner[SLOTS];	/* number of what a slot is a part of */
};

EXPORT struct fake_calls fake_calls;
EXPORT int fake_open_error;
EXPORT int fake_attach_error;
EXPORT int fake_send_error;

static struct fake fakes[SOCKETS];	/* by handle, from 1 */
static pthread_mutex_t big_lock = PTHREAD_MUTEX_INITIALIZER;
static int sender = -1;
static int context = -1;

static int fail(int error)
{
	errno = error;
	return -1;
}

static ino_t inode_of(int fd)
{
	struct stat is;

	return fstat(fd, &is) ? 0 : is.st_ino;
}

static struct fake *fake_of(int fd)
{
	ino_t inode = inode_of(fd);
	unsigned int i;

	for (i = 1; inode && i < SOCKETS; i++)
		if (fakes[i].inode == inode)
			return &fakes[i];
	return NULL;
}

static struct exasock_slot *slot_of(struct fake *fake, u32 number)
{
	void *slots = (void *)fake->ring + EXASOCK_RING_HEADER;

	return slots + number % SLOTS * EXASOCK_SLOT_SIZE;
}

static u32 *claim_of(struct fake *fake, u32 number)
{
	return &fake->control->claim[number % SLOTS];
}

static u32 after(u32 number, u32 slots)
{
	return (number + slots) & EXASOCK_NUMBER_MASK;
}

int exa_device_open(void)
{
	int fd;

	fake_calls.open++;
	if (fake_open_error)
		return fail(fake_open_error);
	fd = memfd_create("exasock", MFD_CLOEXEC);
	if (fd < 0 || ftruncate(fd, SOCKETS * EXASOCK_MAP_STRIDE))
		return -1;
	context = fd;
	return fd;
}

void *exa_device_map(void *at, size_t length, int protection, int fd, u64 offset)
{
	return mmap(at, length, protection, MAP_SHARED | MAP_FIXED, fd, (off_t)offset);
}

static int attach(int fd, struct exasock_attach *attach)
{
	struct fake *fake;
	unsigned int i;
	u64 at;

	fake_calls.attach++;
	if (fake_attach_error)
		return fail(fake_attach_error);
	fake = fake_of(attach->fd);
	if (fake) {
		attach->handle = (u32)(fake - fakes);
		return 0;
	}
	for (i = 1; i < SOCKETS && fakes[i].inode; i++)
		;
	if (i == SOCKETS)
		return fail(EMFILE);
	fake = &fakes[i];
	at = EXASOCK_MAP_CONTROL_AT(i);
	/* new memory for each attachment: what an old mapping has must not be seen again */
	fallocate(fd, 3 /* PUNCH_HOLE | KEEP_SIZE */, (off_t)at, EXASOCK_MAP_STRIDE);
	fake->control = mmap(NULL, EXASOCK_CONTROL_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
			     (off_t)at);
	fake->ring = mmap(NULL, EXASOCK_RING_HEADER + SLOTS * EXASOCK_SLOT_SIZE,
			  PROT_READ | PROT_WRITE, MAP_SHARED, fd,
			  (off_t)EXASOCK_MAP_RING_AT(i));
	if (fake->control == MAP_FAILED || fake->ring == MAP_FAILED)
		return fail(ENOMEM);
	fake->inode = inode_of(attach->fd);
	fake->ring->abi = EXASOCK_ABI_VERSION;
	fake->ring->slots = SLOTS;
	fake->ring->handle = i;
	fake->ring->head = 1;
	fake->control->tail = 1;
	fake->oldest = 1;
	attach->handle = i;
	attach->netns = 1;
	return 0;
}

/* One datagram back into the socket, from where it came from; the kernel marks the event */
static void give_back(struct fake *fake, const struct sockaddr_in *to, const void *data,
		      size_t length)
{
	syscall(SYS_sendto, sender, data, length, 0, to, sizeof(*to));
	__atomic_add_fetch(&fake->ring->native, 1, __ATOMIC_RELEASE);
}

static void give_slot_back(struct fake *fake, const struct exasock_slot *slot)
{
	struct sockaddr_in to = {
		.sin_family = AF_INET, .sin_port = slot->dport, .sin_addr.s_addr = slot->daddr,
	};

	give_back(fake, &to, slot->data + slot->offset, slot->length);
}

static void take_all(struct fake *fake)
{
	u32 number;

	for (number = fake->oldest; number != fake->ring->head; number = after(number, 1)) {
		u32 held = EXASOCK_CLAIM(number, EXASOCK_STATE_HELD);

		if (swap_if(claim_of(fake, number), &held,
			    EXASOCK_CLAIM(number, EXASOCK_STATE_KERNEL)))
			give_slot_back(fake, slot_of(fake, number));
	}
	fake->oldest = fake->ring->head;
}

static int detach(struct fake *fake)
{
	fake_calls.detach++;
	if (!fake->inode)
		return fail(ESTALE);
	store(&fake->ring->dead, 1);
	take_all(fake);
	munmap(fake->control, EXASOCK_CONTROL_SIZE);
	munmap(fake->ring, EXASOCK_RING_HEADER + SLOTS * EXASOCK_SLOT_SIZE);
	*fake = (struct fake){};
	return 0;
}

static int send_one(const struct exasock_send *send)
{
	struct sockaddr_in to = {
		.sin_family = AF_INET, .sin_port = send->dport, .sin_addr.s_addr = send->daddr,
	};
	struct iovec buffer = { (void *)(uintptr_t)send->iov, send->iovs };
	struct msghdr msg = {
		.msg_iov = (struct iovec *)(uintptr_t)send->iov, .msg_iovlen = send->iovs,
	};
	long sent;

	fake_calls.send++;
	if (send->flags & EXASOCK_SEND_BUFFER) {
		msg.msg_iov = &buffer;
		msg.msg_iovlen = 1;
	}
	if (fake_send_error)
		return fail(fake_send_error);
	if (fake_of(send->fd) != &fakes[send->handle])
		return fail(ESTALE);
	if (!(send->flags & EXASOCK_SEND_CONNECTED)) {
		msg.msg_name = &to;
		msg.msg_namelen = sizeof(to);
	}
	/* what the kernel would refuse, the module leaves to it */
	sent = syscall(SYS_sendmsg, send->fd, &msg, MSG_DONTWAIT);
	return sent < 0 ? fail(EOPNOTSUPP) : (int)sent;
}

static int serve(int fd, unsigned long request, void *argument)
{
	u32 handle = *(u32 *)argument;

	switch (request) {
	case EXASOCK_IOC_INFO:
		*(struct exasock_info *)argument = (struct exasock_info){
			.abi = EXASOCK_ABI_VERSION, .slots = SLOTS, .netns = 1,
		};
		return 0;
	case EXASOCK_IOC_ATTACH:
		return attach(fd, argument);
	case EXASOCK_IOC_SEND:
		return send_one(argument);
	case EXASOCK_IOC_FLUSH:
		fake_calls.flush++;
		if (!handle || handle >= SOCKETS || !fakes[handle].inode)
			return fail(ESTALE);
		take_all(&fakes[handle]);
		return 0;
	case EXASOCK_IOC_DETACH:
		return handle && handle < SOCKETS ? detach(&fakes[handle]) : fail(ESTALE);
	default:
		return fail(ENOTTY);
	}
}

int exa_device_ioctl(int fd, unsigned long request, void *argument)
{
	int result;

	if (syscall(SYS_fcntl, fd, F_GETFD) < 0)
		return -1;
	context = fd;
	pthread_mutex_lock(&big_lock);
	result = serve(fd, request, argument);
	pthread_mutex_unlock(&big_lock);
	return result;
}

/* --- what a test makes the kernel do ------------------------------------------------------ */

static void note(struct exasock_slot *slot, struct msghdr *msg)
{
	struct cmsghdr *cmsg;

	for (cmsg = CMSG_FIRSTHDR(msg); cmsg; cmsg = CMSG_NXTHDR(msg, cmsg)) {
		if (cmsg->cmsg_level == SOL_IP && cmsg->cmsg_type == IP_PKTINFO) {
			struct in_pktinfo info;

			memcpy(&info, CMSG_DATA(cmsg), sizeof(info));
			slot->cmsg |= EXASOCK_CMSG_PKTINFO;
			slot->ifindex = info.ipi_ifindex;
			slot->spec_dst = info.ipi_spec_dst.s_addr;
			slot->daddr = info.ipi_addr.s_addr;
		} else if (cmsg->cmsg_level == SOL_IP && cmsg->cmsg_type == IP_TTL) {
			slot->cmsg |= EXASOCK_CMSG_TTL;
			slot->ttl = *(int *)CMSG_DATA(cmsg);
		} else if (cmsg->cmsg_level == SOL_IP && cmsg->cmsg_type == IP_TOS) {
			slot->cmsg |= EXASOCK_CMSG_TOS;
			slot->tos = *CMSG_DATA(cmsg);
		} else if (cmsg->cmsg_type == SO_TIMESTAMP_OLD) {
			struct timeval when;

			memcpy(&when, CMSG_DATA(cmsg), sizeof(when));
			slot->cmsg |= EXASOCK_CMSG_TIMESTAMP;
			slot->software_ns = when.tv_sec * 1000000000ULL + when.tv_usec * 1000ULL;
		} else {
			struct timespec when;	/* both begin with it */

			memcpy(&when, CMSG_DATA(cmsg), sizeof(when));
			slot->cmsg |= cmsg->cmsg_type == SO_TIMESTAMPNS_OLD ?
				      EXASOCK_CMSG_TIMESTAMPNS : EXASOCK_CMSG_TIMESTAMPING_SW;
			slot->software_ns = when.tv_sec * 1000000000ULL + when.tv_nsec;
		}
	}
}

/* No room: it goes to the stack after all that is held, as the module has it */
static void pass_one(struct fake *fake, int from, int fd)
{
	u8 data[LENGTH_MOST];
	struct sockaddr_in self;
	socklen_t size = sizeof(self);
	long got = syscall(SYS_recvfrom, from, data, sizeof(data), MSG_DONTWAIT, NULL, NULL);

	if (got < 0)
		return;
	getsockname(fd, (struct sockaddr *)&self, &size);
	take_all(fake);
	give_back(fake, &self, data, (size_t)got);
}

static bool slots_free(struct fake *fake, u32 number, u32 slots)
{
	for (; slots; slots--, number = after(number, 1)) {
		u32 owner = fake->owner[number % SLOTS];
		u32 claim = load_acquire(claim_of(fake, owner));

		if (claim == EXASOCK_CLAIM(owner, EXASOCK_STATE_HELD) ||
		    claim == EXASOCK_CLAIM(owner, EXASOCK_STATE_USER))
			return false;
	}
	return true;
}

/* Nothing begins there */
static void pass_over(struct fake *fake, u32 number, u32 slots, u32 owner)
{
	for (; slots; slots--, number = after(number, 1)) {
		fake->owner[number % SLOTS] = owner;
		store(claim_of(fake, number), EXASOCK_CLAIM(number, EXASOCK_STATE_FREE));
	}
}

/* False: nothing is there, or no room */
static bool hold_one(struct fake *fake, int from, int fd)
{
	u32 head = fake->ring->head, left = SLOTS - head % SLOTS, pad, span, number;
	u8 data[LENGTH_MOST];
	struct exasock_slot *slot;
	struct sockaddr_in source, self;
	socklen_t size = sizeof(self);
	char space[512];
	struct iovec iov = { data, sizeof(data) };
	struct msghdr msg = {
		.msg_name = &source, .msg_namelen = sizeof(source),
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = space, .msg_controllen = sizeof(space),
	};
	long got = syscall(SYS_recvfrom, from, NULL, 0, MSG_DONTWAIT | MSG_PEEK | MSG_TRUNC, NULL,
			   NULL);

	if (got < 0)
		return false;
	span = EXASOCK_SPAN(HEADERS + (u32)got);
	pad = span > left ? left : 0;
	number = after(head, pad);
	if (HEADERS + got > EXASOCK_FRAME_MOST(SLOTS) || !slots_free(fake, head, pad + span)) {
		pass_one(fake, from, fd);
		return false;
	}
	got = syscall(SYS_recvmsg, from, &msg, MSG_DONTWAIT);
	if (got < 0)
		return false;
	getsockname(fd, (struct sockaddr *)&self, &size);
	slot = slot_of(fake, number);
	memset(slot, 0, sizeof(*slot));
	memcpy(slot->data + HEADERS, data, (size_t)got);
	slot->number = number;
	slot->offset = HEADERS;
	slot->length = (__u16)got;
	slot->frame = HEADERS + (u32)got;
	slot->saddr = source.sin_addr.s_addr;
	slot->sport = source.sin_port;
	slot->daddr = self.sin_addr.s_addr;
	slot->dport = self.sin_port;
	note(slot, &msg);
	pass_over(fake, head, pad, head);
	pass_over(fake, after(number, 1), span - 1, number);
	fake->owner[number % SLOTS] = number;
	store_release(claim_of(fake, number), EXASOCK_CLAIM(number, EXASOCK_STATE_HELD));
	if (((after(number, span) - fake->oldest) & EXASOCK_NUMBER_MASK) > SLOTS)
		fake->oldest = (after(number, span) - SLOTS) & EXASOCK_NUMBER_MASK;
	store_release(&fake->ring->head, after(number, span));
	return true;
}

EXPORT int fake_hold(int fd)
{
	int count = 0;
	struct fake *fake;

	pthread_mutex_lock(&big_lock);
	fake = fake_of(fd);
	while (fake && hold_one(fake, fd, fd))
		count++;
	pthread_mutex_unlock(&big_lock);
	return count;
}

EXPORT void fake_arrive(int from, int fd)
{
	struct fake *fake;
	int bytes = 0;

	pthread_mutex_lock(&big_lock);
	fake = fake_of(fd);
	syscall(SYS_ioctl, fd, FIONREAD, &bytes);
	if (bytes || !load(&fake->control->heartbeat))
		pass_one(fake, from, fd);
	else
		hold_one(fake, from, fd);
	pthread_mutex_unlock(&big_lock);
}

EXPORT void fake_take(int fd)
{
	pthread_mutex_lock(&big_lock);
	take_all(fake_of(fd));
	pthread_mutex_unlock(&big_lock);
}

EXPORT void fake_event(int fd)
{
	__atomic_add_fetch(&fake_of(fd)->ring->native, 1, __ATOMIC_RELEASE);
}

EXPORT void fake_dead(int fd)
{
	struct fake *fake = fake_of(fd);

	pthread_mutex_lock(&big_lock);
	store_release(&fake->ring->dead, 1);
	take_all(fake);
	fake->inode = (ino_t)-1;	/* its handle is not given again */
	pthread_mutex_unlock(&big_lock);
}

EXPORT void fake_number(int fd, u32 number)
{
	struct fake *fake = fake_of(fd);

	fake->control->tail = number;
	fake->oldest = number;
	fake->ring->head = number;
}

EXPORT bool fake_attached(int fd)
{
	return fake_of(fd);
}

EXPORT bool fake_looking(int fd)
{
	struct fake *fake = fake_of(fd);

	return fake && load(&fake->control->heartbeat);
}

EXPORT void fake_beat(int fd, __u64 heartbeat)
{
	store(&fake_of(fd)->control->heartbeat, heartbeat);
}

EXPORT unsigned int fake_held(int fd)
{
	struct fake *fake = fake_of(fd);
	unsigned int count = 0;
	u32 number;

	for (number = fake->oldest; number != fake->ring->head; number = after(number, 1))
		count += load(claim_of(fake, number)) == EXASOCK_CLAIM(number, EXASOCK_STATE_HELD);
	return count;
}

EXPORT void fake_sender(int fd)
{
	sender = fd;
}

EXPORT unsigned int fake_slots(void)
{
	return SLOTS;
}

EXPORT int fake_context(void)
{
	return context;
}
