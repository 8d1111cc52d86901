/* SPDX-License-Identifier: GPL-2.0-only */
/* What the core's files share. */
#ifndef EXA_INTERNAL_H
#define EXA_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "core_api.h"

#define EXA_CHUNK_SIZE		128
#define EXA_CHUNK_DATA		120
#define EXA_RING_CHUNKS		16384U
#define EXA_POSITIONS		(EXA_RING_CHUNKS * 256U)
#define EXA_TX_HEADER		8
#define EXA_TX_PADDING		2
#define EXA_TX_NO_FEEDBACK	0x8000
#define EXA_TX_COMMAND_BYTES	512
#define EXA_FEEDBACK_SLOTS	2048
#define EXA_TYPE_RAW		1
#define EXA_MIN_FRAME		60
#define EXA_FCS_SIZE		4
#define EXA_RUNT		18
#define EXA_MAX_FRAME		9216
#define EXA_LOOP_LIMIT		8
#define EXA_IRQ_ARM		0x80000000U
#define EXA_PORTS		16
#define EXA_REGISTERS		(0x2000 / 4)
#define EXA_SWITCH_TABLE	16384
#define EXA_SWITCH_SLOTS	(2 * EXA_SWITCH_TABLE)
#define EXA_VLANS		4096

/* prot of a mapping, as in lab/vfio_user/device.py */
#define EXA_DMA_READ		1
#define EXA_DMA_WRITE		2

enum { EXA_GOOD, EXA_ABORTED, EXA_BAD_CRC, EXA_OVERFLOW };
enum { EXA_INBOUND = 1, EXA_OUTBOUND = 2 };

struct exa_capture {
	struct exa_core *core;
	char *path;
	char *previous;
	uint8_t *preamble;
	uint8_t *buffer;
	uint32_t preamble_length;
	uint32_t used;
	uint64_t size;
	uint64_t limit;
	int fd;
};

struct exa_port {
	struct exa_card *card;
	struct exa_capture *capture;
	struct exa_port_settings settings;
	uint64_t ring;
	uint64_t counters[EXA_PORT_COUNTERS];
	uint32_t position;
	uint32_t irq_config;
	uint32_t last_time;
	uint32_t region_offset;
	uint32_t region_size;
	uint32_t *commands;	/* of a stalled port, in order; room for those of 8.1 */
	uint32_t commands_room;
	uint32_t commands_used;
	uint32_t spoil_count;
	int spoil_status;
	int end;
	bool running;
	bool stalled;
};

struct exa_range {
	uint64_t iova;
	uint64_t size;
	uint8_t *memory;
	int prot;
};

struct exa_card {
	struct exa_core *core;
	struct exa_range *ranges;
	uint32_t range_count;
	uint32_t range_room;
	uint32_t range_last;
	uint64_t dma_faults;
	uint64_t faulted_interrupts;
	uint8_t *tx_memory;
	uint32_t tx_size;
	uint64_t feedback;
	uint64_t clock_base;
	uint64_t clock_fraction;
	uint64_t clock_origin;
	uint64_t clock_step;
	int number;
	int ports;
	int depth;
	int msi;
	int mirror_output;
	int fault_repeat;
	bool fault_lose;
	bool fault_later;
	bool bridge;
	bool present;
	bool undelivered;
	uint32_t held_signals;	/* to be raised by exa_core_release_signals() */
	struct exa_port port[EXA_PORTS];
	uint32_t values[EXA_REGISTERS];
	uint8_t live[EXA_REGISTERS];
	uint8_t live_port[EXA_REGISTERS];
};

struct exa_end {
	struct exa_port *port;	/* NULL: outside the core */
	uint64_t sent;
	uint64_t received;
	uint64_t no_link;
	uint64_t looped;
	uint64_t refused;
	int peer;
	int bridge;		/* number of its switch */
	int slot;		/* its port there */
	bool used;
	bool carrier;
	bool rules_tx;
	bool rules_rx;
};

struct exa_station {
	uint64_t key;		/* VLAN << 48 | address, 0 when free */
	int slot;
};

struct exa_switch_port {
	int end;
	int pvid;
	bool all;
	uint8_t tagged[EXA_VLANS / 8];
};

struct exa_switch {
	struct exa_switch_port *ports;
	int count;
	uint32_t stations;
	uint64_t bad_fcs;
	uint64_t vlan_refused;
	uint64_t forgotten;
	struct exa_station table[EXA_SWITCH_SLOTS];
};

struct exa_outbox {
	uint8_t *data;
	uint32_t head;
	uint32_t tail;
	uint64_t dropped;
};

struct exa_core {
	struct exa_card **cards;
	struct exa_end *ends;
	struct exa_switch **switches;
	struct exa_outbox outbox;
	uint64_t fixed_monotonic;
	uint64_t fixed_wall;
	int card_count;
	int end_count;
	int switch_count;
	int depth;
	int wake_fd;
	bool fixed_time;
	bool dirty;
	bool hold_signals;
};

/* core.c */
uint64_t exa_monotonic_ns(const struct exa_core *core);
uint64_t exa_wall_ns(const struct exa_core *core);

/* card.c */
uint64_t exa_ticks(const struct exa_card *card);
void exa_card_feed_back(struct exa_card *card, uint16_t slot, uint16_t id);
void exa_card_interrupt(struct exa_card *card);
void exa_core_release_signals(struct exa_core *core);
void exa_card_mirror(struct exa_card *card, const struct exa_port *source, const uint8_t *frame,
		     uint32_t length);
void exa_card_pass_on(struct exa_card *card, const struct exa_port *source, const uint8_t *frame,
		      uint32_t length);

/* dma.c */
uint8_t *exa_dma_find(struct exa_card *card, uint64_t iova, uint64_t size, int prot);

/* port.c */
void exa_port_count(struct exa_port *port, enum exa_counter counter);
void exa_port_check_interrupt(struct exa_port *port);

/* ring.c */
void exa_ring_write(struct exa_port *port, const uint8_t *frame, uint32_t length, uint32_t stamp,
		    int status);
bool exa_ring_written(const struct exa_port *port, uint32_t position);

/* transmit.c */
bool exa_port_emit(struct exa_port *port, const uint8_t *frame, uint32_t length);

/* receive.c */
void exa_receive(struct exa_port *port, const uint8_t *frame, uint32_t length, int status);

/* capture.c */
void exa_capture_write(struct exa_capture *capture, const uint8_t *frame, uint32_t length,
		       uint32_t direction, bool bad_fcs);
void exa_capture_close(struct exa_capture *capture);

/* switch.c */
void exa_switch_forward(struct exa_core *core, int end, const uint8_t *frame, uint32_t length);
void exa_switch_free(struct exa_switch *item);

/* wire.c */
void exa_wire_reach(struct exa_core *core, int end, const uint8_t *frame, uint32_t length);

/* outbox.c */
void exa_outbox_put(struct exa_core *core, uint32_t kind, int end, const uint8_t *frame,
		    uint32_t length);

/* fcs.c */
bool exa_intact(const uint8_t *frame, uint32_t length);
void exa_seal(uint8_t *frame, uint32_t length);

#endif /* EXA_INTERNAL_H */
