// SPDX-License-Identifier: GPL-2.0-only
/*
 * A plugin for QEMU that counts the instructions which the guest executes, on all its
 * processors: what a thing costs, whatever else the host does meanwhile. Who connects to
 * the socket named by the argument socket=PATH is told the count, as one decimal line.
 *
 * QEMU's interface for plugins, version 7 (QEMU 11.1), as far as it is needed here. Debian
 * packages no header of it. QEMU refuses a plugin of a version that it does not offer.
 */

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct qemu_plugin_tb;		/* a block of the guest's code that is translated as a whole */

enum { CB_NO_REGS };		/* a callback does not look at the processor's registers */

size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id,
					   void (*translated)(struct qemu_plugin_tb *, void *),
					   void *data);
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *tb,
					  void (*executed)(unsigned int cpu, void *data),
					  int flags, void *data);

int qemu_plugin_version = 7;

#define CPUS_MOST	64		/* as lab/config.py allows */

/* Each processor's in a cache line of its own, for it may have a thread of its own */
static struct {
	uint64_t instructions;
	uint64_t apart[7];
} counts[CPUS_MOST];
static int listening;

static uint64_t sum(void)
{
	uint64_t sum = 0;
	unsigned int cpu;

	for (cpu = 0; cpu < CPUS_MOST; cpu++)
		sum += __atomic_load_n(&counts[cpu].instructions, __ATOMIC_RELAXED);
	return sum;
}

static void *tell(void *unused)
{
	for (;;) {
		int fd = accept(listening, NULL, NULL);

		if (fd < 0)
			continue;
		dprintf(fd, "%llu\n", (unsigned long long)sum());
		close(fd);
	}
	return unused;
}

/*
 * QEMU could add without calling (its "inline" operations): with these a Linux guest dies
 * of garbled stacks within seconds of its boot (QEMU 11.1.3).
 */
static void executed(unsigned int cpu, void *instructions)
{
	uint64_t *count = &counts[cpu % CPUS_MOST].instructions;

	__atomic_store_n(count, *count + (uintptr_t)instructions, __ATOMIC_RELAXED);
}

static void translated(struct qemu_plugin_tb *tb, void *unused)
{
	(void)unused;
	qemu_plugin_register_vcpu_tb_exec_cb(tb, executed, CB_NO_REGS,
					     (void *)(uintptr_t)qemu_plugin_tb_n_insns(tb));
}

static int listen_at(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	if (strlen(path) >= sizeof(address.sun_path))
		return -1;
	memcpy(address.sun_path, path, strlen(path));
	listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (listening < 0 || bind(listening, (struct sockaddr *)&address, sizeof(address)))
		return -1;
	return listen(listening, 4);
}

int qemu_plugin_install(uint64_t id, const void *qemu, int argc, char **argv)
{
	static const char name[] = "socket=";
	pthread_t thread;

	(void)qemu;
	if (argc != 1 || strncmp(argv[0], name, strlen(name))) {
		fputs("counting.c: one argument is needed: socket=PATH\n", stderr);
		return -1;
	}
	if (listen_at(argv[0] + strlen(name)) || pthread_create(&thread, NULL, tell, NULL)) {
		fprintf(stderr, "counting.c: cannot listen at %s\n", argv[0] + strlen(name));
		return -1;
	}
	qemu_plugin_register_vcpu_tb_trans_cb(id, translated, NULL);
	return 0;
}
