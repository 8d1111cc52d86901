// SPDX-License-Identifier: GPL-2.0-only
/*
 * The kernel's side of the boundary against a process that writes anything at any moment.
 *
 * An input is a sequence of bytes: operations, and what the process writes when the kernel is
 * about to look. What must hold (rules N6, B1, B2): whatever reaches the stack is a frame that
 * came, whole, by its own port, with its own time, at most once, and never one whose
 * checksum was wrong unless it was passed as it is; nothing but the attachment's own memory
 * is touched (sanitizers); and while the process is an honest reader, every frame is read
 * or reaches the stack. At the end of a run each of the things named in `reached` must have
 * happened.
 */

#include <time.h>
#include <unistd.h>

#include "exasock.h"

#define SLOTS		16U
#define PORTS		3
#define FRAMES		4096
#define FRAME_MOST	1514

static struct {
	u64 runs;
	u64 held;
	u64 claimed;			/* by an honest reader */
	u64 taken;
	u64 flushed_scribbling;		/* kernel took something while words were written */
	u64 forged_inner;
	u64 forged_padding;
	u64 forged_stale;
	u64 vacated;			/* written over, found bad */
	u64 timed_out;
	u64 full;
	u64 flushed_by_others;		/* a frame that may be anybody's, a device that is going */
	u64 detached;
	u64 stream_reads;
} reached;

static const u8 *input;
static size_t left;

static u8 draw(void)
{
	if (!left)
		return 0;
	left--;
	return *input++;
}

static u32 draw_word(void)
{
	u32 word = draw();

	return word << 24 | (u32)draw() << 16 | (u32)draw() << 8 | draw();
}

/* --- what came --------------------------------------------------------------------------- */

struct came {
	u32 size;
	int port;
	u64 hardware_ns;
	bool bad;			/* its checksum */
	bool passed;			/* not held: it goes as it is */
	bool read;
	u32 delivered;
	u8 data[FRAME_MOST];
};

static struct came frames[FRAMES];
static u32 count;
static struct came *current;		/* the one that is being received */
static bool overwritten;		/* the card has overtaken the copy */
static struct net_device ports[PORTS];
static struct exa_iface ifaces[PORTS];
static struct sock native;
static struct exa_ns ns;
static struct exa_sock *es;
static bool honest, scribbling, wrote;
static u64 now;
static bool fresh, stamping;
static u32 order;			/* of what was delivered last */
static u32 reading;			/* number that a reader copies, 0: none */
static struct came *being_read;

unsigned int exa_slots = SLOTS;

u64 exa_hold_ns(void)
{
	return 1000;
}

bool exa_fresh(u64 heartbeat)
{
	return fresh && heartbeat;
}

u64 ktime_get_ns(void)
{
	return now;
}

u64 ktime_get_real_ns(void)
{
	return now + 1;
}

/* --- the process -------------------------------------------------------------------------- */

static void scribble(void)
{
	struct exasock_control *control = (void *)es->shared.control;
	u32 back = 1 + draw() % (2 * SLOTS), number, at;
	u8 kind = draw();

	number = (es->head - back) & EXASOCK_NUMBER_MASK;
	at = number % SLOTS;
	wrote = true;
	switch (kind % 8) {
	case 0:
		control->claim[draw() % SLOTS] = draw_word();
		return;
	case 1:
		control->tail = draw_word();
		control->heartbeat = draw_word();
		return;
	case 2:
		number = (number + SLOTS) & EXASOCK_NUMBER_MASK;
		break;
	default:
		break;
	}
	if (back <= SLOTS && kind % 8 != 2) {
		const struct exa_held *held = &es->held[at];

		if (held->owner != number)
			reached.forged_inner++;
		else if (!held->begins)
			reached.forged_padding++;
	} else {
		reached.forged_stale++;
	}
	control->claim[at] = EXASOCK_CLAIM(number, kind >> 3 & 1 ? EXASOCK_STATE_HELD :
							kind >> 4 & EXASOCK_STATE_MASK);
}

/* The kernel is about to look at that word: is it one that the process may write? */
void turn(const volatile void *word)
{
	const u8 *control = es ? (const u8 *)es->shared.control : NULL;

	if (!scribbling || !control || (const u8 *)word < control ||
	    (const u8 *)word >= control + EXASOCK_CONTROL_SIZE)
		return;
	if (draw() & 1)
		scribble();
}

static struct came *came_like(const struct exasock_slot *slot)
{
	u32 i;

	for (i = 0; i < count; i++)
		if (frames[i].size == slot->frame &&
		    !memcmp(frames[i].data, slot->data, slot->frame))
			return &frames[i];
	return NULL;
}

/* What a reader began to copy is still there; then it is done with it */
static void read_end(void)
{
	struct exasock_control *control = (void *)es->shared.control;

	if (!reading)
		return;
	assert(came_like(exa_slot(es, reading)) == being_read);
	control->claim[reading % SLOTS] = EXASOCK_CLAIM(reading, EXASOCK_STATE_FREE);
	reading = 0;
	reached.claimed++;
}

/* The next datagram, as the library takes it: claims, copies for a while, is done */
static void read_next(void)
{
	struct exasock_control *control = (void *)es->shared.control;
	struct exasock_ring *ring = (void *)es->shared.ring;
	u32 at;

	for (at = control->tail; at != ring->head; at = (at + 1) & EXASOCK_NUMBER_MASK) {
		u32 *word = &control->claim[at % SLOTS];
		struct exasock_slot *slot = exa_slot(es, at);

		if (*word != EXASOCK_CLAIM(at, EXASOCK_STATE_HELD))
			continue;
		*word = EXASOCK_CLAIM(at, EXASOCK_STATE_USER);
		control->tail = (at + EXASOCK_SPAN(slot->frame)) & EXASOCK_NUMBER_MASK;
		being_read = came_like(slot);
		reading = at;
		assert(being_read && !being_read->bad && !being_read->delivered &&
		       !being_read->read);
		being_read->read = true;
		return;
	}
	control->tail = ring->head;
}

/* Whatever is held is said to be read, so that the kernel goes round the ring */
static void take_everything(void)
{
	struct exasock_control *control = (void *)es->shared.control;
	u32 at;

	for (at = 0; at < SLOTS; at++)
		control->claim[at] &= ~EXASOCK_STATE_MASK;
}

/* --- the driver and the stack ------------------------------------------------------------- */

void exanic_rx_frame_copy(const struct exanic_rx_frame *frame, u8 *to, u32 length, __wsum *sum)
{
	assert(!sum && length == current->size);
	memcpy(to, current->data, length);
	if (overwritten)
		memset(to, 0xee, length / 2);
}

bool exanic_rx_stamping(const struct net_device *dev)
{
	return stamping;
}

ktime_t exanic_timestamp_to_ktime(const struct net_device *dev, u32 timestamp)
{
	return (ktime_t)current->hardware_ns;
}

__wsum csum_partial(const void *from, int size, __wsum sum)
{
	return 0;
}

__sum16 csum_tcpudp_magic(__be32 from, __be32 to, u32 size, u8 protocol, __wsum sum)
{
	return current->bad;
}

struct sk_buff *exanic_rx_frame_to_skb(const struct exanic_rx_frame *frame)
{
	struct sk_buff *skb = netdev_alloc_skb_ip_align(frame->dev, current->size);

	skb_put_data(skb, current->data, current->size);
	skb->dev = frame->dev;
	current->passed = true;
	return skb;
}

struct sk_buff *netdev_alloc_skb_ip_align(struct net_device *dev, u32 size)
{
	struct sk_buff *skb = calloc(1, sizeof(*skb));

	/* as in the kernel: the sum of both is 32 bits */
	skb->room = size + 64;
	skb->data = malloc(skb->room);
	assert(skb->data);
	return skb;
}

void skb_put_data(struct sk_buff *skb, const void *from, u32 size)
{
	memcpy(skb->data + 64, from, size);
	skb->len = size;
}

struct skb_shared_hwtstamps *skb_hwtstamps(struct sk_buff *skb)
{
	return &skb->hwtstamps;
}

__be16 eth_type_trans(struct sk_buff *skb, struct net_device *dev)
{
	assert(dev && dev->number < PORTS);
	skb->dev = dev;
	return 8;
}

void skb_record_rx_queue(struct sk_buff *skb, u16 queue)
{
}

void sock_pfree(struct sk_buff *skb)
{
}

void kfree_skb(struct sk_buff *skb)
{
	if (!skb)
		return;
	free(skb->data);
	free(skb);
}

/* Whatever arrives came, whole, once, in order */
int netif_receive_skb(struct sk_buff *skb)
{
	u32 number;
	struct came *one;

	assert(skb->len >= ETH_HLEN + 32 && skb->len <= FRAME_MOST);
	memcpy(&number, skb->data + 64 + ETH_HLEN, sizeof(number));
	assert(number < count);
	one = &frames[number];
	assert(one->size == skb->len && !memcmp(one->data, skb->data + 64, skb->len));
	assert(one->port == skb->dev->number && !one->delivered);
	assert(one->passed || (!one->bad && skb->ip_summed == CHECKSUM_UNNECESSARY));
	assert(one->passed || !skb->hwtstamps.hwtstamp ||
	       skb->hwtstamps.hwtstamp == (ktime_t)one->hardware_ns);
	assert(!skb->sk || skb->sk == &native);
	assert(number >= order);
	order = number;
	one->delivered++;
	native.sk_receive_queue.filled = true;
	if (!one->passed) {
		reached.taken++;
		if (wrote)
			reached.flushed_scribbling++;
	}
	kfree_skb(skb);
	return 0;
}

struct page *alloc_page(int flags)
{
	struct page *page = malloc(sizeof(*page));

	page->memory = calloc(1, PAGE_SIZE);
	return page;
}

void put_page(struct page *page)
{
	free(page->memory);
	free(page);
}

void *page_address(const struct page *page)
{
	return page->memory;
}

void *vmap(struct page **pages, unsigned int number, int flags, int protection)
{
	return calloc(number, PAGE_SIZE);
}

void vunmap(void *memory)
{
	free(memory);
}

int vm_map_pages_zero(struct vm_area_struct *vma, struct page **pages, unsigned long number)
{
	return 0;
}

u32 dst_mtu(const struct dst_entry *dst)
{
	return 1500;
}

bool is_vlan_dev(const struct net_device *dev)
{
	return false;
}

struct vlan_dev_priv *vlan_dev_priv(const struct net_device *dev)
{
	return NULL;
}

u16 vlan_dev_get_egress_qos_mask(struct net_device *dev, u32 priority)
{
	return 0;
}

/* --- operations --------------------------------------------------------------------------- */

/* Slot headers wherever a slot could begin, of frames of lengths that do harm */
static void compose(struct came *one)
{
	static const u32 lengths[] = { 0, 60, 2000, 0xffffffe0, 1514 };
	u32 at, length = lengths[draw() % 5];

	memset(one->data, 0x55, one->size);
	for (at = EXASOCK_SLOT_SIZE - EXASOCK_SLOT_HEADER; at + 64 < one->size;
	     at += EXASOCK_SLOT_SIZE)
		memcpy(one->data + at + offsetof(struct exasock_slot, frame), &length, 4);
	memcpy(one->data + ETH_HLEN, &count, sizeof(count));
}

static void receive(void)
{
	u8 kind = draw();
	static const u32 sizes[] = { 60, 60, 400, 500, 1000, 1514, 1514, 1400 };
	struct exanic_rx_frame frame = { .timestamp = 1 };
	static struct exanic_chunk ring[EXANIC_RX_RING_CHUNKS];
	struct exa_packet packet = { .frame = &frame };
	struct exa_telling telling = { .alone = kind & 8 };
	enum exasock_reason reason;
	struct came *one;

	if (count == FRAMES)
		return;
	one = &frames[count];
	memset(one, 0, offsetof(struct came, data));
	one->size = sizes[kind & 7];
	if (one->size > EXASOCK_FRAME_MOST(SLOTS))
		one->size = EXASOCK_FRAME_MOST(SLOTS);
	one->port = draw() % PORTS;
	one->bad = (kind & 0x30) == 0x30;
	one->hardware_ns = 1000000 + count;
	compose(one);
	count++;
	current = one;
	overwritten = (kind & 0xc0) == 0xc0;
	/* the chunk before the frame says whether the card has overtaken it */
	frame.ring = ring;
	frame.position = EXANIC_POSITION(1, 1);
	frame.dev = &ports[one->port];
	frame.length = one->size;
	ring[0].meta = (u64)(overwritten ? 2 : 1) << 56;
	packet.bytes = one->size;
	packet.payload = ETH_HLEN + 28;
	packet.length = one->size - packet.payload;
	packet.check = 1;
	native.sk_receive_queue.filled &= !honest && (draw() & 1);
	reason = exa_hold(es, &ifaces[one->port], &packet, &telling);
	if (reason)
		exa_pass(es, &frame, reason, telling.alone);
	else
		reached.held++;
	assert(reason || (!one->bad && !overwritten));
	reached.full += reason == EXASOCK_R_FULL;
	reached.vacated += reason == EXASOCK_R_HEADER;
}

static void timer(void)
{
	u64 before = reached.taken;

	if (!es->timer.queued || now < es->timer.at)
		return;
	es->timer.queued = false;
	if (es->timer.function(&es->timer) == HRTIMER_RESTART)
		es->timer.queued = true;
	reached.timed_out += reached.taken != before;
}

static void attach(void)
{
	es = calloc(1, sizeof(*es));
	es->held = calloc(SLOTS, sizeof(*es->held));
	assert(!exa_shared_alloc(&es->shared, SLOTS * EXASOCK_SLOT_SIZE));
	es->head = 1;
	es->oldest = 1;
	es->sk = &native;
	es->ns = &ns;
	ns.attached[EXA_SOCKS].first = &es->sibling;
	exa_shared_begin(&es->shared, 1);
	exa_publish_u32(&es->shared.ring->head, 1);
	exa_hold_start(es);
	((struct exasock_control *)es->shared.control)->heartbeat = 1;
}

/* As sock.c ends one */
static void detach(void)
{
	read_end();
	es->over = true;
	exa_flush(es, EXASOCK_R_SLEEP);
	exa_hold_end(es);
	assert(list_empty(&ns.holding));
	ns.attached[EXA_SOCKS].first = NULL;
	es->sk = NULL;
	exa_shared_free(&es->shared);
	free(es->held);
	free(es);
	es = NULL;
	reached.detached++;
}

struct exasock_slot *exa_slot(const struct exa_sock *sock, u32 number)
{
	u8 *slot = sock->shared.data + (size_t)(number & (exa_slots - 1)) * EXASOCK_SLOT_SIZE;

	return (struct exasock_slot *)slot;
}

/* A stream's tail: whatever it says, the answer lies between what was read and what is there */
static void stream(void)
{
	u64 read = draw(), head = read + draw(), got;
	struct exasock_stream_control *control = (void *)es->shared.control;

	if (!scribbling)
		return;
	control->tail = draw() & 1 ? (u64)draw_word() << 32 | draw_word() : (read + draw()) << 1;
	got = exa_shared_stream_read(&es->shared, read, head);
	assert(got >= read && got <= head);
	got = exa_shared_stream_close(&es->shared, got, head);
	assert(got >= read && got <= head && control->tail >> 1 == got);
	reached.stream_reads++;
}

static void all_arrived(void)
{
	u32 i;

	for (i = 0; i < count; i++)
		assert(frames[i].read + frames[i].delivered == 1);
}

/* Of others than the socket: whatever it has held is found, and goes */
static void others(bool device)
{
	u64 before = reached.taken;

	if (device)
		exa_flush_device(&ns);
	else
		exa_flush_ns(&ns);
	assert(es->oldest == es->head && (device || list_empty(&ns.holding)));
	reached.flushed_by_others += reached.taken != before;
}

static void operation(void)
{
	switch (draw() % 26) {
	case 0 ... 7:
		receive();
		break;
	case 8:
		exa_flush(es, EXASOCK_R_SLEEP);
		break;
	case 9:
		exa_flush_for(es, EXASOCK_R_SHARED);
		break;
	case 10:
		now += 300;
		timer();
		break;
	case 11:
		now += 1000;
		timer();
		break;
	case 12:
	case 16 ... 23:
		if (honest && reading)
			read_end();
		else if (honest)
			read_next();
		else if (draw() & 1)
			scribble();
		else
			take_everything();
		break;
	case 13:
		fresh = draw() & 7;
		break;
	case 14:
		stream();
		break;
	case 24:
	case 25:
		others(draw() & 1);
		break;
	default:
		detach();
		attach();
		break;
	}
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	u8 mode;
	u32 i;

	input = data;
	left = size;
	mode = draw();
	honest = !(mode & 3);
	scribbling = !honest;
	stamping = mode & 4;
	fresh = true;
	wrote = false;
	count = 0;
	order = 0;
	reading = 0;
	now = 5000;
	memset(&native, 0, sizeof(native));
	INIT_LIST_HEAD(&ns.holding);
	for (i = 0; i < PORTS; i++) {
		ports[i].number = (int)i;
		ifaces[i].up = true;
	}
	attach();
	while (left)
		operation();
	detach();
	if (honest)
		all_arrived();
	reached.runs++;
	return 0;
}

/* Each must have happened; else nothing was shown */
static int tell(void)
{
	const struct {
		const char *name;
		u64 times;
	} all[] = {
		{ "runs", reached.runs },
		{ "held", reached.held },
		{ "claimed", reached.claimed },
		{ "taken", reached.taken },
		{ "flushed while scribbling", reached.flushed_scribbling },
		{ "forged inner", reached.forged_inner },
		{ "forged padding", reached.forged_padding },
		{ "forged stale", reached.forged_stale },
		{ "vacated", reached.vacated },
		{ "timed out", reached.timed_out },
		{ "full", reached.full },
		{ "flushed by others", reached.flushed_by_others },
		{ "detached", reached.detached },
		{ "stream reads", reached.stream_reads },
	};
	int missing = 0;
	size_t i;

	for (i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		printf("%s: %llu\n", all[i].name, (unsigned long long)all[i].times);
		missing += !all[i].times;
	}
	if (missing)
		printf("%d of these were not reached\n", missing);
	fflush(stdout);
	return missing ? 1 : 0;
}

#ifdef BY_SEED
static u64 seed;

static u8 chance(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (u8)(seed >> 24);
}

int main(int argc, char **argv)
{
	time_t until = time(NULL) + (argc > 2 ? atoi(argv[2]) : 20);
	static u8 data[2048];
	size_t size, i;

	seed = (argc > 1 ? (u64)atoll(argv[1]) : 1) * 0x9e3779b97f4a7c15ULL + 1;
	do {
		size = 16 + ((size_t)chance() << 3 | (chance() & 7)) % (sizeof(data) - 16);
		for (i = 0; i < size; i++)
			data[i] = chance();
		LLVMFuzzerTestOneInput(data, size);
	} while (time(NULL) < until);
	return tell();
}
#else
static void at_end(void)
{
	if (tell())
		_exit(1);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	atexit(at_end);
	return 0;
}
#endif
