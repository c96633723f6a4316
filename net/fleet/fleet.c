/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fleet.c - what this process is in its fleet: settings, incarnation, masters, and the node's file.
 *
 * DATA/node.NAME is locked as long as the process lives, so that no second one works on this folder under the same name, and holds
 * the machine's boot id and the incarnation that was last tried.  Who gets the lock on the same boot of the same machine knows that
 * the process which wrote it is dead, and need not wait for its lease to expire.  On another machine (a shared folder, a pod that moved) the
 * lock proves nothing of the kind: a machine that is cut off from its file server may lose the lock and live.
 */
#include "net/fleet/fleet_private.h"

#include "core/base/hash.h"
#include "core/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#define BOOT_ID_BYTES 36

struct fleet fleet = { .lock = PTHREAD_MUTEX_INITIALIZER, .lock_fd = -1 };

void fleet_config_default(struct fleet_config *config_out)
{
	*config_out = (struct fleet_config){
		.node = "n1",
		.placement = PLACEMENT_HOME,
		.ttl_ms = FLEET_TTL_MS,
		.renew_ms = FLEET_RENEW_MS,
		.margin_ms = FLEET_MARGIN_MS,
		.idle_ms = FLEET_IDLE_MS,
		.take_wait_ms = FLEET_TAKE_WAIT_MS,
	};
}

bool fleet_on(void) { return fleet.on; }

enum placement fleet_placement(void) { return fleet.config.placement; }

/* ---- the node's file ---- */

static bool boot_id(char out[BOOT_ID_BYTES + 1])
{
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, out, BOOT_ID_BYTES);
	if (fd >= 0)
		close(fd);
	out[BOOT_ID_BYTES] = 0;
	return n == BOOT_ID_BYTES;
}

/* "BOOT_ID INCARNATION\n" of a process that is dead, if that was on this boot of this machine. */
static void read_predecessor(void)
{
	char text[BOOT_ID_BYTES + 1 + FLEET_INCARNATION_BYTES + 1], boot[BOOT_ID_BYTES + 1];
	ssize_t n = pread(fleet.lock_fd, text, sizeof(text) - 1, 0);
	fleet.dead[0] = 0;
	if (n != (ssize_t)sizeof(text) - 1 || !boot_id(boot) || memcmp(text, boot, BOOT_ID_BYTES) != 0)
		return;
	memcpy(fleet.dead, text + BOOT_ID_BYTES + 1, FLEET_INCARNATION_BYTES);
	fleet.dead[FLEET_INCARNATION_BYTES] = 0;
}

static enum err lock_node(const char *folder)
{
	char path[4096];
	snprintf(path, sizeof(path), "%s/node.%s", folder, fleet.config.node);
	fleet.lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fleet.lock_fd >= 0 && flock(fleet.lock_fd, LOCK_EX | LOCK_NB) == 0) {
		read_predecessor();
		return OK;
	}
	enum err e = errno == EWOULDBLOCK ? ERR_IN_USE : ERR_IO;
	log_event(LOG_ERROR, "fleet.node_file", LOG_Z("path", path), LOG_ERRNO(errno),
		  LOG_Z("hint", e == ERR_IN_USE ? "another process has this node's name" : "the data folder must be writable"));
	return e;
}

struct note {
	char text[BOOT_ID_BYTES + 1 + FLEET_INCARNATION_BYTES + 1];
};

static void note_run(void *arg)
{
	struct note *n = arg;
	/* in place and unsynced: only who has this lock reads it, and only on this boot */
	if (pwrite(fleet.lock_fd, n->text, sizeof(n->text), 0) != (ssize_t)sizeof(n->text))
		log_event(LOG_WARN, "fleet.node_file", LOG_ERRNO(errno), LOG_Z("effect", "a restart waits for the lease to expire"));
}

void fleet_note_incarnation(const char *incarnation)
{
	struct note n;
	char boot[BOOT_ID_BYTES + 1];
	if (fleet.lock_fd < 0 || !boot_id(boot))
		return;
	memcpy(n.text, boot, BOOT_ID_BYTES);
	n.text[BOOT_ID_BYTES] = ' ';
	memcpy(n.text + BOOT_ID_BYTES + 1, incarnation, FLEET_INCARNATION_BYTES);
	n.text[sizeof(n.text) - 1] = '\n';
	(void)offload_call(note_run, &n, 1000);
}

/* ---- open and close ---- */

static void name_keys(void)
{
	int n = snprintf(fleet.lease_key_text, sizeof(fleet.lease_key_text), "pf:n:{%s}", fleet.config.node);
	ASSERT(n > 0 && (size_t)n < sizeof(fleet.lease_key_text));
	fleet.lease_key = slice_of(fleet.lease_key_text, (size_t)n);
	snprintf(fleet.wish_key_text, sizeof(fleet.wish_key_text), "pf:w:{%s}", fleet.config.node);
}

static void connected(void *arg, const char *run_id)
{
	struct owners *w = owners_here();
	(void)arg;
	(void)run_id;
	if (w && w->link)
		owners_tell_pops(w); /* each compares `own`: at a master that does not know us yet they do nothing */
	lease_look();
}

enum err fleet_open(const struct fleet_config *config)
{
	enum err e = OK;
	ASSERT(strlen(config->node) <= FLEET_NODE_BYTES_MAX && config->margin_ms < config->ttl_ms);
	fleet.config = *config;
	fleet.master_count = fleet.master_next = 0;
	fleet.epoch = fleet.deadline_ns = 0;
	fleet.incarnation[0] = 0;
	name_keys();
	if (config->redis_on) {
		for (unsigned i = 0; i < fleet_script_count; i++)
			redis_script_init((struct redis_script *)(uintptr_t)fleet_scripts[i]);
		fleet.config.redis.scripts = fleet_scripts;
		fleet.config.redis.script_count = fleet_script_count;
		fleet.config.redis.connected = connected;
		e = lock_node(config->run_path);
	}
	fleet.on = e == OK && config->redis_on;
	return e;
}

void fleet_close(void)
{
	fleet.on = false;
	if (fleet.lock_fd >= 0)
		close(fleet.lock_fd);
	fleet.lock_fd = -1;
}

enum err fleet_start(void)
{
	struct redis *link = NULL;
	if (!fleet.on && !fleet.config.node_count)
		return OK;
	enum err e = fleet.on ? redis_open(&fleet.config.redis, &link) : OK;
	if (e == OK)
		e = owners_start(link);
	if (e != OK) {
		redis_close(link);
		return e;
	}
	__atomic_add_fetch(&fleet.shards_here, 1, __ATOMIC_SEQ_CST);
	if (link && shard_index() == 0)
		lease_start(link);
	return OK;
}

/* The lease goes last, when no shard has anything left. */
static void wait_for_others(void)
{
	uint64_t until_ms = clock_now_ms() + STORE_STOP_MS_MAX;
	while (__atomic_load_n(&fleet.shards_here, __ATOMIC_SEQ_CST) > 1 && clock_now_ms() < until_ms)
		fiber_sleep(5);
}

void fleet_stop(void)
{
	struct owners *w = owners_here();
	if (!w)
		return;
	struct redis *link = w->link;
	if (link && shard_index() == 0)
		lease_stop();
	owners_stop();
	if (link && shard_index() == 0) {
		wait_for_others();
		lease_give_up(link);
	}
	if (owners_here())
		owners_here()->link = NULL; /* somebody still refers to it */
	redis_close(link);
	__atomic_sub_fetch(&fleet.shards_here, 1, __ATOMIC_SEQ_CST);
}

/* ---- who we are ---- */

bool fleet_proxies(void) { return fleet.config.proxies; }

bool fleet_incarnation(char out[FLEET_INCARNATION_BYTES + 1], uint64_t *epoch_out)
{
	pthread_mutex_lock(&fleet.lock);
	memcpy(out, fleet.incarnation, sizeof(fleet.incarnation));
	*epoch_out = fleet_epoch();
	pthread_mutex_unlock(&fleet.lock);
	return *epoch_out != 0;
}

bool fleet_may_take_at(const char *run_id)
{
	bool may = false;
	uint64_t now = clock_fresh_ns();
	if (!run_id[0])
		return false;
	pthread_mutex_lock(&fleet.lock);
	for (unsigned i = 0; i < fleet.master_count; i++) {
		const struct fleet_master *m = &fleet.masters[i];
		if (strcmp(m->run_id, run_id) == 0)
			may = m->claimed && now >= m->wait_until_ns;
	}
	pthread_mutex_unlock(&fleet.lock);
	return may;
}

void fleet_facts(struct fleet_facts *out)
{
	struct owners *w = owners_here();
	uint64_t epoch, now = clock_fresh_ns(), deadline = __atomic_load_n(&fleet.deadline_ns, __ATOMIC_SEQ_CST);
	*out = (struct fleet_facts){ .redis_up = w && w->link && redis_is_up(w->link) };
	snprintf(out->node, sizeof(out->node), "%s", fleet.config.node ? fleet.config.node : "");
	(void)fleet_incarnation(out->incarnation, &epoch);
	out->lease_ms = ((int64_t)deadline - (int64_t)now) / 1000000;
	pthread_mutex_lock(&fleet.lock);
	for (unsigned i = 0; i < fleet.master_count; i++)
		if (fleet.masters[i].claimed && fleet.masters[i].wait_until_ns > now)
			out->wait_ms = max_i64(out->wait_ms, (int64_t)(fleet.masters[i].wait_until_ns - now) / 1000000);
	pthread_mutex_unlock(&fleet.lock);
}

uint64_t fleet_lease_left_ms(uint64_t boot_ns)
{
	uint64_t deadline = __atomic_load_n(&fleet.deadline_ns, __ATOMIC_SEQ_CST);
	return deadline > boot_ns ? (deadline - boot_ns) / 1000000 : 0;
}

/* ---- homes ---- */

/* Rendezvous hashing: each node's claim is a hash of both, the highest wins; a node that comes or goes moves only its own accounts. */
unsigned fleet_home(uint64_t account_id, const struct fleet_node *nodes, unsigned node_count)
{
	unsigned best = 0;
	uint64_t best_claim = 0;
	for (unsigned i = 0; i < node_count; i++) {
		uint64_t claim = hash64(slice_str(nodes[i].name), account_id);
		if (i == 0 || claim > best_claim || (claim == best_claim && strcmp(nodes[i].name, nodes[best].name) < 0)) {
			best = i;
			best_claim = claim;
		}
	}
	return best;
}
