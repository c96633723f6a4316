/* SPDX-License-Identifier: Apache-2.0 */
/* upgrade.c - see upgrade.h: the two processes' ways. */
#include "net/server/upgrade_private.h"

#include "core/base/log.h"
#include "core/run/clock.h"
#include "core/run/fiber.h"
#include "core/run/io.h"
#include "core/run/shard.h"
#include "net/fleet/fleet.h"
#include "net/listen.h"
#include "net/roster.h"
#include "net/server/probe.h"
#include "storage/gate.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

enum state { SERVING, STARTING, LEAVING };

/* Shard 0's, but for what is told to be atomic. */
static struct {
	const struct config *config;
	struct http *http;
	char program[4096]; /* what we were started from */
	uint32_t state;     /* atomic: enum state */
	uint32_t over_ms;
	char last[256];     /* how the last attempt ended; empty: there was none */
	int64_t child;
	int control;
	unsigned fibers;
} up;

static enum state state_now(void) { return (enum state)__atomic_load_n(&up.state, __ATOMIC_SEQ_CST); }
static void become(enum state s) { __atomic_store_n(&up.state, (uint32_t)s, __ATOMIC_SEQ_CST); }

void upgrade_configure(const struct config *config, struct http *http)
{
	ssize_t n = readlink("/proc/self/exe", up.program, sizeof up.program - 1);
	up.program[n > 0 ? n : 0] = 0;
	up.config = config;
	up.http = http;
	up.last[0] = 0;
	become(SERVING);
}

/* ---- starting the newer: on an offload thread ---- */

struct start {
	struct upgrade_parcel parcel;
	int error; /* errno */
	char text[512];
};

/* The arguments that we were started with, a NULL behind them; *bytes_out is what they point into. */
static char **own_arguments(char **bytes_out)
{
	size_t len = 0, room = KIB(256), count = 0;
	char *bytes = xmalloc(room);
	int fd = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
	ssize_t n = 0;
	while (fd >= 0 && len < room - 1 && (n = read(fd, bytes + len, room - 1 - len)) > 0)
		len += (size_t)n;
	if (fd >= 0)
		close(fd);
	bytes[len] = 0;
	for (size_t i = 0; i < len; i++)
		count += bytes[i] == 0;
	char **argv = xcalloc(count + 2, sizeof *argv);
	size_t k = 0;
	for (size_t i = 0; i < len && k <= count; i += strlen(bytes + i) + 1)
		argv[k++] = bytes + i;
	*bytes_out = bytes;
	return argv;
}

static int spawn(const struct upgrade_parcel *p, int control, pid_t *pid_out)
{
	char variable[64], *bytes, **argv = own_arguments(&bytes);
	size_t count = 0;
	while (environ[count])
		count++;
	char **env = xcalloc(count + 2, sizeof *env);
	memcpy(env, environ, count * sizeof *env);
	snprintf(variable, sizeof variable, UPGRADE_VARIABLE "=%d", control);
	env[count] = variable;

	sigset_t none;
	posix_spawnattr_t attr;
	posix_spawn_file_actions_t actions;
	sigemptyset(&none);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setsigmask(&attr, &none); /* ours are blocked on every thread */
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK);
	posix_spawn_file_actions_init(&actions);
	int error = posix_spawn_file_actions_adddup2(&actions, control, control); /* onto itself: it survives the exec */
	for (size_t i = 0; i < p->count && !error; i++)
		error = posix_spawn_file_actions_adddup2(&actions, p->fds[i], p->fds[i]);
	if (!error)
		error = argv[0] ? posix_spawn(pid_out, up.program, &actions, &attr, argv, env) : EIO;
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attr);
	free(env);
	free(argv);
	free(bytes);
	return error;
}

/* The file is checked whole first, by this version: what it refuses the newer may know, but it is better asked before. */
static void start_job(void *arg)
{
	struct start *s = arg;
	int pair[2] = { -1, -1 };
	pid_t pid = 0;
	s->error = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0 ? errno : 0;
	if (!s->error && send(pair[0], s->parcel.text.ptr, s->parcel.text.len, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)s->parcel.text.len)
		s->error = EMSGSIZE;
	if (!s->error)
		s->error = spawn(&s->parcel, pair[1], &pid);
	if (pair[1] >= 0)
		close(pair[1]);
	if (s->error && pair[0] >= 0)
		close(pair[0]);
	up.child = s->error ? 0 : pid;
	up.control = s->error ? -1 : pair[0];
}

static void reap_job(void *arg)
{
	int status = 0, *status_out = arg;
	(void)kill((pid_t)up.child, SIGKILL);
	while (waitpid((pid_t)up.child, &status, 0) < 0 && errno == EINTR)
		;
	*status_out = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* ---- leaving ---- */

struct leave {
	bool all; /* the time is over */
	uint64_t end_ms;
	uint64_t sessions, accounts;
};

static void leave_here(void *arg)
{
	struct leave *l = arg;
	uint64_t sessions, ending, now_ms = clock_now_ms();
	if (shard_stopping())
		return;
	listeners_hand_over();
	roster_count_here(&sessions, &ending);
	uint64_t ticks = now_ms < l->end_ms ? (l->end_ms - now_ms) / 2 / DRAIN_TICK_MS + 1 : 1;
	/* spread, so that they do not all come back at once: half of the time suffices for those at rest */
	size_t some = (size_t)max_u64(UPGRADE_ENDS_MIN, (sessions + ticks - 1) / ticks);
	if (l->all)
		(void)roster_end_oldest(SIZE_MAX, "upgrade");
	else
		(void)roster_end_at_rest(some, UPGRADE_REST_MS, "upgrade");
	gate_leave_here();
	l->sessions += sessions;
	l->accounts += gate_accounts_here();
}

static enum err leave_once(struct leave *l)
{
	enum err e = OK;
	l->sessions = l->accounts = 0;
	for (unsigned i = 0; e == OK && i < shard_count(); i++)
		e = shard_call(i, "upgrade", leave_here, l);
	return e;
}

static void leave(void)
{
	struct leave l = { .end_ms = clock_now_ms() + up.over_ms };
	uint64_t last_ms = l.end_ms + UPGRADE_LAST_MS;
	http_hand_over(up.http);
	become(LEAVING);
	log_event(LOG_INFO, "server.upgrade", LOG_Z("step", "leaving"), LOG_U64("successor", (uint64_t)up.child), LOG_U64("over_ms", up.over_ms));
	/* twice: who moved from a shard that was not yet asked to one that was is seen the second time */
	for (unsigned empty = 0; !shard_stopping();) {
		l.all = clock_now_ms() >= l.end_ms;
		empty = leave_once(&l) == OK && !l.sessions && !l.accounts && !listeners_moving() ? empty + 1 : 0;
		if (empty == 2)
			break;
		if (clock_now_ms() >= last_ms)
			break; /* what is left is ended by the stop, within its own grace */
		fiber_sleep(DRAIN_TICK_MS);
	}
	log_event(LOG_INFO, "server.upgrade", LOG_Z("step", "left"), LOG_U64("sessions", l.sessions), LOG_U64("accounts", l.accounts));
	shards_stop();
}

/* ---- the older ---- */

static void look_here(void *arg)
{
	(void)arg;
	if (!shard_stopping())
		listeners_look_again();
}

static void look_again(void)
{
	for (unsigned i = 0; i < shard_count(); i++)
		(void)shard_call(i, "upgrade", look_here, NULL);
}

static void give_up(const char *why)
{
	int status = 0;
	gate_close();
	if (up.child)
		(void)offload_call(reap_job, &status, UPGRADE_START_MS_MAX);
	look_again();
	if (up.control >= 0)
		io_close(up.control);
	up.control = -1;
	snprintf(up.last, sizeof up.last, "%s%s", why, status > 0 ? "; its last line in the log says why" : "");
	log_event(LOG_ERROR, "server.upgrade_failed", LOG_Z("reason", up.last), LOG_Z("effect", "this process serves on"));
	become(SERVING);
}

static bool gets_ready(void)
{
	char word[sizeof(UPGRADE_READY)] = "";
	struct io_op op;
	io_await_prepare(&op);
	io_read_fd(&op, up.control, word, sizeof(UPGRADE_READY) - 1);
	int64_t r = io_await(&op, clock_now_ms() + UPGRADE_START_MS_MAX);
	return r == (int64_t)sizeof(UPGRADE_READY) - 1 && !memcmp(word, UPGRADE_READY, sizeof(UPGRADE_READY) - 1);
}

static void older(void *arg)
{
	(void)arg;
	if (gets_ready())
		leave();
	else if (!shard_stopping())
		give_up("the new process did not get ready");
	else
		(void)kill((pid_t)up.child, SIGTERM); /* who stops us means both */
	up.fibers--;
}

static void claim_here(void *arg)
{
	enum err *result = arg, e = gate_claim_here();
	if (e != OK)
		*result = e;
}

static enum err claim_all(void)
{
	enum err result = OK, e = gate_open(up.config->data);
	for (unsigned i = 0; e == OK && i < shard_count(); i++)
		e = shard_call(i, "upgrade", claim_here, &result);
	return e != OK ? e : result;
}

static enum err start_newer(struct start *s)
{
	up.child = 0;
	up.control = -1;
	upgrade_parcel_fill(&s->parcel, http_fd(up.http));
	enum err e = offload_call(start_job, s, UPGRADE_START_MS_MAX);
	upgrade_parcel_release(&s->parcel);
	return e != OK ? e : s->error ? err_from_errno(s->error) : OK;
}

static void check_job(void *arg)
{
	struct start *s = arg;
	struct config *fresh = NULL;
	if (config_load(up.config->path, &fresh, s->text, sizeof s->text) != OK) {
		s->error = EINVAL;
	} else if (strcmp(fresh->data, up.config->data) != 0 || fresh->placement_any || fresh->redis.addresses_count || fresh->redis.sentinel.master) {
		s->error = EINVAL; /* two processes could not tell each other what they have */
		snprintf(s->text, sizeof s->text, "%s: another data folder, placement any or Redis need a restart", up.config->path);
	}
	config_release(fresh);
}

static json_t *refusal(const char *code, const char *words) { return json_pack("{s:s, s:s}", "code", code, "error", words); }

/* The end of such a process is the end of all. */
static bool is_watched(void)
{
	const char *pid = getenv("SYSTEMD_EXEC_PID"); /* systemd.exec(5) */
	uint64_t n = 0;
	return getpid() == 1 || (pid && slice_u64(slice_str(pid), INT32_MAX, &n) && n == (uint64_t)getpid());
}

static json_t *refuse_begin(struct start *s)
{
	if (is_watched())
		return refusal("denied", "this process is the first of its container or unit, which would end with it: restart the unit, whose sockets "
					 "wait meanwhile, or replace the container");
	if (fleet_on())
		return refusal("denied", "with Redis a node is replaced by drain and restart: other nodes serve meanwhile");
	if (state_now() != SERVING || gate_is_open())
		return refusal("in_use", "an upgrade is under way");
	become(STARTING);
	enum err e = offload_call(check_job, s, RELOAD_MS_MAX);
	json_t *no = e != OK ? refusal(err_name(e), "the server is too busy now") : s->error ? refusal("config", s->text) : NULL;
	if (no)
		become(SERVING);
	return no;
}

struct begin {
	uint32_t over_ms;
	json_t *answer;
};

/* On shard 0. */
static void begin_here(void *arg)
{
	struct begin *b = arg;
	struct start s = { .error = 0 };
	b->answer = refuse_begin(&s);
	if (b->answer)
		return;
	up.over_ms = b->over_ms;
	enum err e = claim_all();
	if (e == OK)
		e = start_newer(&s);
	up.fibers++;
	if (e == OK && fiber_start("upgrade", older, NULL) == OK) {
		log_event(LOG_INFO, "server.upgrade", LOG_Z("step", "started"), LOG_Z("program", up.program), LOG_U64("successor", (uint64_t)up.child));
		b->answer = json_pack("{s:I, s:s}", "pid", (json_int_t)up.child, "state", "starting");
		return;
	}
	up.fibers--;
	give_up("the new process could not be started");
	b->answer = refusal("temporary", up.last);
}

json_t *upgrade_begin(uint32_t over_ms)
{
	struct begin b = { .over_ms = over_ms };
	enum err e = shard_call(0, "upgrade", begin_here, &b);
	return e == OK ? b.answer : refusal(err_name(e), "the server is too busy now");
}

json_t *upgrade_status(void)
{
	static const char *const words[] = { [SERVING] = "serving", [STARTING] = "starting", [LEAVING] = "leaving" };
	json_t *o = json_pack("{s:I, s:s, s:b}", "pid", (json_int_t)getpid(), "state", words[state_now()], "older_is_there",
			      upgrade_takes_over() && gate_is_open());
	json_object_set_new(o, "last", up.last[0] ? json_string(up.last) : json_null());
	return o;
}

/* ---- the newer ---- */

/* Says that we are ready when all shards are, then waits for the older's end. */
static int control_here = -1; /* while `newer` waits */

static void newer(void *arg)
{
	char byte;
	int fd = control_here = upgrade_control_fd();
	(void)arg;
	while (!probe_started() && !shard_stopping())
		fiber_sleep(UPGRADE_LOOK_MS);
	if (probe_started() && send(fd, UPGRADE_READY, sizeof(UPGRADE_READY) - 1, MSG_DONTWAIT | MSG_NOSIGNAL) > 0) {
		int64_t r;
		do {
			struct io_op op;
			io_await_prepare(&op);
			io_read_fd(&op, fd, &byte, 1);
			r = io_await(&op, clock_now_ms() + UPGRADE_WATCH_MS); /* nothing is ever sent: its end, or upgrade_stop */
			look_again();
		} while (r == -ETIME && !shard_stopping());
	}
	if (!shard_stopping()) { /* else what we have stays claimed until we are gone */
		gate_close();
		log_event(LOG_INFO, "server.upgrade", LOG_Z("step", "alone"), LOG_U64("pid", (uint64_t)getpid()));
	}
	/* the kernel takes the older's accepts back a little after its end */
	for (unsigned i = 0; i < UPGRADE_LOOKS && !shard_stopping(); i++) {
		fiber_sleep(UPGRADE_WATCH_MS);
		look_again();
	}
	control_here = -1;
	io_close(fd);
	up.fibers--;
}

void upgrade_start(void)
{
	if (shard_index() != 0)
		return;
	up.fibers = 0;
	if (!upgrade_takes_over())
		return;
	up.fibers++;
	if (fiber_start("upgrade", newer, NULL) != OK)
		up.fibers--;
}

/* Ends what waits for the other process. */
void upgrade_stop(void)
{
	if (shard_index() != 0)
		return;
	if (state_now() == STARTING && up.control >= 0)
		io_shutdown(up.control);
	if (control_here >= 0)
		io_shutdown(control_here);
	while (up.fibers)
		fiber_sleep(UPGRADE_LOOK_MS);
}
