/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What Python (through cffi) and the message pump may call. Read by the C
 * compiler and by cffi alike, so: declarations only, no preprocessor.
 *
 * One thread uses a core at a time. Frames are Ethernet frames with their
 * FCS. Nothing here fails for what a guest did: that is counted.
 */

struct exa_core;
struct exa_card;

/* What the core leaves for Python to do. */
enum exa_note_kind {
	EXA_NOTE_TX_RULES = 1,	/* apply the rules of the sending end */
	EXA_NOTE_RX_RULES = 2,	/* apply the rules of the receiving end */
	EXA_NOTE_DELIVER = 3,	/* an end outside the core receives it */
	EXA_NOTE_INTERRUPT = 4,	/* raise it later; end is the card's number */
};

struct exa_note {
	uint32_t kind;
	uint32_t end;
	uint32_t length;
};

/* Order of the values that exa_port_counters() gives. */
enum exa_counter {
	EXA_TX,
	EXA_RX,
	EXA_RX_IGNORED,
	EXA_RX_ERROR,
	EXA_RX_DROPPED,
	EXA_TX_BAD_COMMAND,
	EXA_TX_BAD_CHUNK,
	EXA_TX_NO_LINK,
	EXA_RX_NO_LINK,
	EXA_INTERRUPTS,
	EXA_PORT_COUNTERS,
};

struct exa_port_settings {
	uint8_t mac[6];
	uint8_t promiscuous;
	uint8_t loopback;
	uint8_t pad;
	uint8_t crc;
	uint8_t link;
	uint8_t mirror_rx;
	uint8_t mirror_tx;
};

/* What a read of a register that lives in the core gives. */
enum exa_live {
	EXA_LIVE_PYTHON,	/* not here: ask Python */
	EXA_LIVE_PLAIN,		/* the published value */
	EXA_LIVE_TIME_LOW,
	EXA_LIVE_TIME_HIGH,
	EXA_LIVE_TX_COMMAND,	/* written: send; read: Python's */
	EXA_LIVE_IRQ_CONFIG,
	EXA_LIVE_LAST_TIME,
	EXA_LIVE_COUNTER,	/* + enum exa_counter, the first five */
};

/* core.c */
struct exa_core *exa_core_new(int wake_fd);
void exa_core_free(struct exa_core *core);
void exa_core_set_time(struct exa_core *core, uint64_t monotonic_ns, uint64_t wall_ns);

/* outbox.c */
int exa_outbox_take(struct exa_core *core, struct exa_note *note, uint8_t *frame, uint32_t room);
uint64_t exa_outbox_dropped(struct exa_core *core);
void exa_core_wake(struct exa_core *core);

/* wire.c */
int exa_end_add(struct exa_core *core);
void exa_end_remove(struct exa_core *core, int end);
void exa_end_set_carrier(struct exa_core *core, int end, int up);
void exa_end_set_rules(struct exa_core *core, int end, int tx, int rx);
void exa_end_counters(struct exa_core *core, int end, uint64_t values[5]);
void exa_wire_clear(struct exa_core *core);
void exa_wire_cable(struct exa_core *core, int first, int second);
void exa_wire_send(struct exa_core *core, int end, const uint8_t *frame, uint32_t length);
void exa_wire_forward(struct exa_core *core, int end, const uint8_t *frame, uint32_t length);
void exa_wire_arrive(struct exa_core *core, int end, const uint8_t *frame, uint32_t length);

/* switch.c */
int exa_switch_add(struct exa_core *core);
int exa_switch_plug(struct exa_core *core, int number, int end, int pvid, const uint8_t *tagged);
void exa_switch_forget(struct exa_core *core, int number);
void exa_switch_counters(struct exa_core *core, int number, uint64_t values[3]);

/* capture.c */
int exa_capture_open(struct exa_card *card, int port, const char *path, const char *previous,
		     const uint8_t *preamble, uint32_t preamble_length, uint64_t limit);
int exa_captures_lost(struct exa_core *core);
int exa_capture_dirty(struct exa_core *core);
void exa_capture_flush(struct exa_core *core);

/* card.c */
struct exa_card *exa_card_new(struct exa_core *core, int ports, uint8_t *tx_memory,
			      uint32_t tx_size);
int exa_card_number(struct exa_card *card);
void exa_card_set_present(struct exa_card *card, int present);
void exa_card_set_feedback(struct exa_card *card, uint64_t base);
void exa_card_set_clock(struct exa_card *card, uint64_t base, uint64_t fraction, uint64_t origin_ns,
			uint64_t step);
void exa_card_set_mirror(struct exa_card *card, int output, int bridge);
void exa_card_set_msi(struct exa_card *card, int fd);
void exa_card_set_interrupt_fault(struct exa_card *card, int lose, int later, int repeat);
void exa_card_signal(struct exa_card *card);
void exa_card_withdraw_interrupt(struct exa_card *card);
uint64_t exa_card_faulted_interrupts(struct exa_card *card);

/* dma.c */
int exa_dma_map(struct exa_card *card, uint64_t iova, uint64_t size, uint8_t *memory, int prot);
void exa_dma_unmap(struct exa_card *card, uint64_t iova, uint64_t size);
void exa_dma_unmap_all(struct exa_card *card);
uint64_t exa_dma_faults(struct exa_card *card);

/* port.c */
void exa_port_attach(struct exa_card *card, int port, int end, uint32_t region_offset,
		     uint32_t region_size);
void exa_port_configure(struct exa_card *card, int port, const struct exa_port_settings *settings);
void exa_port_start(struct exa_card *card, int port, uint64_t ring);
void exa_port_stop(struct exa_card *card, int port);
void exa_port_arm(struct exa_card *card, int port, uint32_t value);
uint32_t exa_port_armed(struct exa_card *card, int port);
uint32_t exa_port_last_sent(struct exa_card *card, int port);
void exa_port_spoil(struct exa_card *card, int port, int status, uint32_t count);
void exa_port_counters(struct exa_card *card, int port, uint64_t *values);
void exa_port_reset_counters(struct exa_card *card, int port);

/* transmit.c */
void exa_port_transmit(struct exa_card *card, int port, uint32_t offset);
int exa_port_stall(struct exa_card *card, int port, int stalled);
void exa_port_forget(struct exa_card *card, int port);

/* receive.c */
void exa_port_receive(struct exa_card *card, int port, const uint8_t *frame, uint32_t length,
		      int status);

/* registers.c */
void exa_register_live(struct exa_card *card, uint32_t offset, int live, int port);
void exa_register_publish(struct exa_card *card, uint32_t offset, uint32_t value);
int exa_register_read(struct exa_card *card, uint32_t offset, uint32_t *value);
int exa_register_write(struct exa_card *card, uint32_t offset, uint32_t value);

/* fcs.c */
uint32_t exa_fcs(const uint8_t *data, uint32_t length);
