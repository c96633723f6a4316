/* SPDX-License-Identifier: Apache-2.0 */
/* gate.c - see gate.h. */
#include "storage/gate.h"

#include "core/base/limits.h"
#include "core/run/claim.h"
#include "core/run/clock.h"
#include "core/run/fiber.h"
#include "core/run/file.h"
#include "storage/account_private.h"

#include <errno.h>
#include <fcntl.h>

#define GATE_FILE "upgrade.lock" /* in the data folder; empty, its bytes are only locked */

/* The descriptor stays until the process ends: another shard may be about to use it. */
static int gate_fd = -1; /* written before `on` */
static uint32_t on;      /* atomic */

bool gate_is_open(void) { return __atomic_load_n(&on, __ATOMIC_SEQ_CST); }

enum err gate_open(const char *data_path)
{
	if (gate_is_open())
		return ERR_IN_USE;
	if (gate_fd < 0) {
		int folder = file_open(AT_FDCWD, data_path, O_RDONLY | O_DIRECTORY, 0);
		if (folder < 0)
			return err_from_errno(-folder);
		int fd = file_open(folder, GATE_FILE, O_RDWR | O_CREAT, 0600);
		file_close(folder);
		if (fd < 0)
			return err_from_errno(-fd);
		gate_fd = fd;
	}
	claim_give_all(gate_fd); /* what came too late for the last gate_close */
	__atomic_store_n(&on, 1, __ATOMIC_SEQ_CST);
	return OK;
}

enum err gate_claim_here(void)
{
	enum err e = OK;
	LIST_FOREACH(&store_self()->accounts.order, it) {
		const struct account *a = CONTAINER_OF(CONTAINER_OF(it, struct table_node, order), struct account, node);
		if (claim_take(gate_fd, a->id) < 0)
			e = ERR_TEMP;
	}
	return e;
}

void gate_leave_here(void)
{
	struct store_shard *s = store_self();
	s->warm.bytes_max = 0;
	(void)lru_trim(&s->warm);
}

void gate_close(void)
{
	if (__atomic_exchange_n(&on, 0, __ATOMIC_SEQ_CST))
		claim_give_all(gate_fd);
}

size_t gate_accounts_here(void) { return store_self()->accounts.count; }

enum err gate_take(uint64_t account_id)
{
	uint64_t until_ms = clock_now_ms() + GATE_WAIT_MS_MAX;
	while (gate_is_open() && !store_self()->stopping) {
		int r = claim_take(gate_fd, account_id);
		if (r == 0)
			return OK;
		if (r != -EAGAIN)
			return err_from_errno(-r);
		if (clock_now_ms() >= until_ms)
			return ERR_TEMP;
		fiber_sleep(GATE_LOOK_MS);
	}
	return store_self()->stopping ? ERR_TEMP : OK;
}

void gate_give(uint64_t account_id)
{
	if (UNLIKELY(gate_is_open()))
		claim_give(gate_fd, account_id);
}
