/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The message pump: the vfio-user messages of the hot path (a register that
 * lives in the core is read or written) straight between socket and core.
 * Every other message is handed to Python as far as it was read. Declarations
 * only, as in core_api.h.
 */

struct exa_card;

enum exa_pump_result {
	EXA_PUMP_IDLE,		/* nothing more to read now */
	EXA_PUMP_BUSY,		/* the budget is used up */
	EXA_PUMP_HANDED,	/* a message for Python: data, used, fds */
	EXA_PUMP_STALLED,	/* the reply found no room: reply, reply_sent */
	EXA_PUMP_END,		/* end of the stream */
	EXA_PUMP_BROKEN,	/* error says why; fds were closed */
};

/* One access that the pump served; ns is CLOCK_MONOTONIC. */
struct exa_pump_access {
	uint64_t ns;
	uint32_t offset;
	uint32_t value;
	uint32_t write;
	uint32_t reserved;
};

struct exa_pump {
	struct exa_card *card;
	int fd;
	uint32_t window;	/* bytes of BAR0 */
	uint32_t spin_ns;	/* look for the next message that long */
	uint32_t paused;	/* Python is at work on the socket */
	uint32_t result;	/* enum exa_pump_result, of the last run */
	int error;
	uint32_t used;
	uint8_t data[36];
	uint32_t fd_count;
	int fds[8];
	uint32_t reply_size;
	uint32_t reply_sent;
	uint8_t reply[36];
	struct exa_pump_access *log;	/* ring of the last accesses, or NULL */
	uint32_t log_room;
	uint64_t logged;
	uint64_t reads;
	uint64_t writes;
	uint64_t handed;
	uint64_t caught;	/* messages that spinning saw in time */
};

struct exa_pump_event {
	int fd;
	uint32_t events;
};

int exa_pump_run(struct exa_pump *pump, uint32_t budget);
int exa_pump_wait(struct exa_pump **pumps, uint32_t count, int epoll_fd, int timeout_ms,
		  struct exa_pump_event *events, uint32_t room);
