// SPDX-License-Identifier: GPL-2.0-only
/*
 * Steering frames to rings of their own, by rule or by hash (section 12).
 *
 * The match memory is bit-sliced: for every key byte and every value it can have,
 * one bit per rule says whether the rule accepts it. It cannot be read back, so each
 * bank of 32 rules has a shadow, written out whole before its first rule; after that
 * only the words that change are.
 */

#include <linux/delay.h>
#include <linux/log2.h>
#include <linux/nospec.h>
#include <linux/sched.h>
#include <linux/vmalloc.h>

#include "access.h"
#include "exanic.h"
#include "regs.h"

#define TABLES(p)		(0x400000U + 0x100000U * (p))
#define TABLE_BUFFERS		0x00000U
#define TABLE_TARGETS		0x20000U
#define TABLE_MAC		0x40000U
#define TABLE_IP		0x60000U
#define TARGETS_IP		256U		/* MAC rules' targets come first */
#define RULES_MAX		256U
#define BANK_RULES		32U
#define BANKS			(RULES_MAX / BANK_RULES)
#define IP_KEY_BYTES		13U
#define MAC_KEY_BYTES		10U

struct filter_rule {
	const void *owner;	/* open file; NULL: free */
	u32 buffer;
};

struct filter_bank {
	u32 accept[EXANIC_KEY_BYTES][256];
};

/* The rules of one kind on one port */
struct filter_table {
	u32 base;		/* of the match memory */
	u32 targets;		/* of the buffer numbers */
	u32 key_bytes;
	u32 rules;		/* the card has */
	u32 used;
	struct filter_rule rule[RULES_MAX];
	struct filter_bank *bank[BANKS];
};

struct filter_buffer {
	struct page *page;
	dma_addr_t dma;
	unsigned int refs;
};

struct filter_port {
	struct filter_table ip;
	struct filter_table mac;
	u32 hash_functions;
	struct filter_buffer buffer[EXANIC_FILTER_BUFFERS_MAX];
};

struct exanic_filters {
	struct filter_port port[EXANIC_MAX_PORTS];
};

static struct filter_port *filter_port(struct exanic_port *port)
{
	return &port->card->filters->port[port->number];
}

/* A field of a key, low byte first; zero accepts everything */
void exanic_key_put(struct exanic_key *key, unsigned int at, u64 value, unsigned int bytes)
{
	unsigned int i;

	if (!value)
		return;
	for (i = 0; i < bytes; i++) {
		key->value[at + i] = value >> (8 * i);
		key->mask[at + i] = 0xff;
	}
}

static void bank_write(struct exanic *card, const struct filter_table *table, u32 bank, u32 byte,
		       u32 value)
{
	u32 word = byte << 11 | value << 3 | bank;

	exanic_write(card, table->base + 4 * word, table->bank[bank]->accept[byte][value]);
}

static int bank_prepare(struct exanic *card, struct filter_table *table, u32 bank)
{
	u32 byte, value;

	if (table->bank[bank])
		return 0;
	table->bank[bank] = kvzalloc(sizeof(*table->bank[bank]), GFP_KERNEL);
	if (!table->bank[bank])
		return -ENOMEM;
	for (byte = 0; byte < table->key_bytes; byte++) {
		for (value = 0; value < 256; value++)
			bank_write(card, table, bank, byte, value);
		cond_resched();
	}
	return 0;
}

/* Let rule @id accept what @key says, or nothing when @key is NULL */
static void rule_write(struct exanic *card, struct filter_table *table, u32 id,
		       const struct exanic_key *key)
{
	u32 bank = id / BANK_RULES, bit = BIT(id % BANK_RULES), byte, value;

	/* a rule hits only when all bytes accept: it appears, or is gone, in one write */
	for (byte = 0; byte < table->key_bytes; byte++) {
		for (value = 0; value < 256; value++) {
			u32 *word = &table->bank[bank]->accept[byte][value];
			bool want = key && !((value ^ key->value[byte]) & key->mask[byte]);

			if (want == !!(*word & bit))
				continue;
			*word ^= bit;
			bank_write(card, table, bank, byte, value);
		}
		cond_resched();
	}
}

static void rule_drop(struct exanic *card, struct filter_table *table, u32 id)
{
	rule_write(card, table, id, NULL);
	table->rule[id].owner = NULL;
	table->used--;
}

int exanic_rule_add(struct exanic_port *port, bool ip, const struct exanic_key *key, u32 buffer,
		    const void *owner, u32 *id)
{
	struct filter_port *filters = filter_port(port);
	struct filter_table *table = ip ? &filters->ip : &filters->mac;
	int err;
	u32 i;

	if (port->hash_config)
		return -EBUSY;
	for (i = 0; i < table->rules && table->rule[i].owner; i++)
		;
	if (i == table->rules)
		return -ENOMEM;
	err = bank_prepare(port->card, table, i / BANK_RULES);
	if (err)
		return err;
	table->rule[i].owner = owner;
	table->rule[i].buffer = buffer;
	table->used++;
	exanic_write(port->card, table->targets + 4 * i, buffer);
	rule_write(port->card, table, i, key);
	*id = i;
	return 0;
}

int exanic_rule_remove(struct exanic_port *port, bool ip, u32 id, const void *owner)
{
	struct filter_port *filters;
	struct filter_table *table;

	if (!port->card->filters)
		return -EINVAL;
	filters = filter_port(port);
	table = ip ? &filters->ip : &filters->mac;
	if (id >= table->rules)
		return -EINVAL;
	id = array_index_nospec(id, RULES_MAX);
	if (table->rule[id].owner != owner)
		return -EINVAL;
	rule_drop(port->card, table, id);
	return 0;
}

/* Remove rules: of one owner, or to one buffer, or (neither given) all */
static void table_purge(struct exanic *card, struct filter_table *table, const void *owner,
			const u32 *buffer)
{
	u32 i;

	for (i = 0; table->used && i < table->rules; i++) {
		const struct filter_rule *rule = &table->rule[i];

		if (rule->owner && (!owner || rule->owner == owner) &&
		    (!buffer || rule->buffer == *buffer))
			rule_drop(card, table, i);
	}
}

void exanic_rules_release(struct exanic_port *port, const void *owner)
{
	if (!port->card->filters)
		return;
	table_purge(port->card, &filter_port(port)->ip, owner, NULL);
	table_purge(port->card, &filter_port(port)->mac, owner, NULL);
}

static void hash_write(struct exanic_port *port, u32 value)
{
	if (port->hash_config == value)
		return;
	port->hash_config = value;
	exanic_port_write(port, HASH_CONFIG, value);
}

int exanic_hash_configure(struct exanic_port *port, bool enable, u32 mask, u32 function)
{
	struct filter_port *filters;
	u32 i;

	if (!port->card->filters)
		return -EINVAL;
	filters = filter_port(port);
	if (!enable) {
		hash_write(port, 0);
		return 0;
	}
	if (!is_power_of_2(mask + 1ULL) || mask >= port->card->filter_buffers ||
	    function >= filters->hash_functions)
		return -EINVAL;
	if (filters->ip.used || filters->mac.used)
		return -EBUSY;
	for (i = 0; i <= mask; i++)
		if (!filters->buffer[i].page)
			return -EFAULT;
	hash_write(port, EXANIC_PORT_HASH_CONFIG_ENABLE |
			 function << EXANIC_PORT_HASH_CONFIG_FUNCTION_SHIFT | mask);
	return 0;
}

/*
 * The port leaves its namespace, or gets devices of another one on it: nothing that was
 * set up before steers it any more. The rules' owners find them gone.
 */
void exanic_filters_revoke(struct exanic_port *port)
{
	if (!port->card->filters)
		return;
	hash_write(port, 0);
	exanic_rules_release(port, NULL);
}

struct page *exanic_buffer_page(struct exanic_port *port, u32 buffer)
{
	return port->card->filters ? filter_port(port)->buffer[buffer].page : NULL;
}

/* Address high at +0, low at +4, low first (12) */
static void buffer_write(struct exanic_port *port, u32 buffer, dma_addr_t dma)
{
	u32 at = TABLES(port->number) + TABLE_BUFFERS + 8 * buffer;

	if (dma) {
		exanic_write_base(port->card, at, at + 4, dma);
	} else {
		exanic_write(port->card, at + 4, 0);
		exanic_write(port->card, at, 0);
	}
}

int exanic_buffer_get(struct exanic_port *port, u32 *number)
{
	struct exanic *card = port->card;
	struct filter_buffer *buffer;
	u32 i = *number;

	if (!card->filters)
		return -EINVAL;
	if (i == EXANIC_FILTER_BUFFER_ANY) {
		for (i = 0; i < card->filter_buffers; i++)
			if (!filter_port(port)->buffer[i].refs)
				break;
		if (i == card->filter_buffers)
			return -ENOMEM;
	}
	buffer = &filter_port(port)->buffer[i];
	if (!buffer->refs) {
		buffer->page = exanic_ring_alloc(card, &buffer->dma);
		if (!buffer->page)
			return -ENOMEM;
		buffer_write(port, i, buffer->dma);
	}
	buffer->refs++;
	*number = i;
	return 0;
}

void exanic_buffer_put(struct exanic_port *port, u32 number)
{
	struct filter_buffer *buffer = &filter_port(port)->buffer[number];
	struct exanic *card = port->card;
	struct page *page = buffer->page;

	hash_write(port, 0);
	/* the file that lets go must no longer see it, whoever else still does */
	exanic_zap(card, EXANIC_AREA_FILTER_RING,
		   (port->number * EXANIC_FILTER_BUFFERS_MAX + number) * EXANIC_RING_PAGES,
		   EXANIC_RING_PAGES);
	if (--buffer->refs)
		return;
	table_purge(card, &filter_port(port)->ip, NULL, &number);
	table_purge(card, &filter_port(port)->mac, NULL, &number);
	buffer_write(port, number, 0);
	usleep_range(100, 200);		/* a frame may be on its way into it */
	buffer->page = NULL;
	exanic_ring_free(card, page, buffer->dma);
}

static void table_setup(struct filter_table *table, u32 base, u32 targets, u32 key_bytes, u32 rules)
{
	table->base = base;
	table->targets = targets;
	table->key_bytes = key_bytes;
	table->rules = min(rules, RULES_MAX);
}

int exanic_filters_setup(struct exanic *card)
{
	u32 buffers;
	unsigned int p;
	int err = exanic_fail(EXANIC_STEP_FILTERS);

	if (err)
		return err;
	buffers = exanic_read(card, EXANIC_REG_NUM_FILTER_BUFFERS);
	if (exanic_gone(card))
		return -ENODEV;
	if (!buffers)
		return 0;
	if (card->regs_len < TABLES(card->ports)) {
		dev_warn(exanic_dev(card), "steering tables are not in BAR 0: no filters\n");
		return 0;
	}
	card->filters = vzalloc(sizeof(*card->filters));
	if (!card->filters)
		return -ENOMEM;
	card->filter_buffers = min_t(u32, buffers, EXANIC_FILTER_BUFFERS_MAX);
	for (p = 0; p < card->ports; p++) {
		struct filter_port *port = &card->filters->port[p];

		table_setup(&port->ip, TABLES(p) + TABLE_IP, TABLES(p) + TABLE_TARGETS +
			    4 * TARGETS_IP, IP_KEY_BYTES,
			    exanic_read(card, EXANIC_REG_EXT_IP_RULES(p)));
		table_setup(&port->mac, TABLES(p) + TABLE_MAC, TABLES(p) + TABLE_TARGETS,
			    MAC_KEY_BYTES, exanic_read(card, EXANIC_REG_EXT_MAC_RULES(p)));
		port->hash_functions = exanic_read(card, EXANIC_REG_EXT_HASH_FUNCTIONS(p));
	}
	return 0;
}

/* Files may still hold buffers: they find them gone */
void exanic_filters_teardown(struct exanic *card)
{
	struct exanic_file *ctx;
	unsigned int p, i;

	if (!card->filters)
		return;
	mutex_lock(&card->map_lock);
	list_for_each_entry(ctx, &card->files, list) {
		for (p = 0; p < card->ports; p++)
			exanic_file_uncharge(ctx, EXANIC_RING_PAGES *
					     bitmap_weight(ctx->buffers[p],
							   EXANIC_FILTER_BUFFERS_MAX));
		memset(ctx->buffers, 0, sizeof(ctx->buffers));
	}
	for (p = 0; p < card->ports; p++) {
		struct exanic_port *port = card->port[p];
		struct filter_port *filters = filter_port(port);

		exanic_filters_revoke(port);
		for (i = 0; i < card->filter_buffers; i++) {
			if (!filters->buffer[i].refs)
				continue;
			filters->buffer[i].refs = 1;
			exanic_buffer_put(port, i);
		}
		for (i = 0; i < BANKS; i++) {
			kvfree(filters->ip.bank[i]);
			kvfree(filters->mac.bank[i]);
		}
	}
	vfree(card->filters);
	card->filters = NULL;
	card->filter_buffers = 0;
	mutex_unlock(&card->map_lock);
}
