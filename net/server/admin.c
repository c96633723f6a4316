/* SPDX-License-Identifier: Apache-2.0 */
/* admin.c - see admin.h. */
#include "net/server/admin.h"

#include "core/base/limits.h"
#include "core/base/metrics.h"
#include "core/run/fiber.h"
#include "core/run/shard.h"
#include "net/listen.h"
#include "net/server/admin_verbs.h"
#include "net/server/why.h"
#include "tenancy/source.h"

#include <errno.h>
#include <jansson.h>
#ifdef PENFOLD_JEMALLOC
#include <jemalloc/jemalloc.h>
#endif
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

struct admin_session {
	struct session session;
	char *text; /* the answer */
	size_t at, len;
	bool of_node; /* another node asks (admin_fleet.h) */
};

/* ---- stats ---- */

static void add_metric(void *arg, const struct metric_value *v)
{
	json_t *metrics = arg, *value = NULL;
	if (v->metric->kind == METRIC_KIND_HISTOGRAM)
		value = json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "count", (json_int_t)v->count, "sum", (json_int_t)v->sum, "p50",
				  (json_int_t)v->p50, "p90", (json_int_t)v->p90, "p99", (json_int_t)v->p99, "p999",
				  (json_int_t)v->p999, "max", (json_int_t)v->max);
	else
		value = json_integer((json_int_t)v->value);
	json_object_set_new(metrics, v->metric->name, value);
}

static json_t *shard_json(unsigned index)
{
	struct shard_stats run;
	struct net_stats net;
	shard_stats(index, &run);
	net_stats(index, &net);
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "loops", (json_int_t)run.loops,
			 "completions", (json_int_t)run.completions, "cq_overflows", (json_int_t)run.cq_overflows, "lag_max_ns",
			 (json_int_t)run.lag_max_ns, "sent_memory_bytes", (json_int_t)run.sent_memory_bytes, "sent_read_bytes",
			 (json_int_t)run.sent_read_bytes, "sent_splice_bytes", (json_int_t)run.sent_splice_bytes, "accepted",
			 (json_int_t)net.accepted, "open", (json_int_t)net.open, "moved", (json_int_t)net.moved, "lines",
			 (json_int_t)net.lines, "bytes_in", (json_int_t)net.bytes_in, "bytes_out", (json_int_t)net.bytes_out);
}

#ifdef PENFOLD_JEMALLOC
static json_int_t jemalloc_bytes(const char *name)
{
	size_t value = 0, bytes = sizeof value;
	return mallctl(name, &value, &bytes, NULL, 0) == 0 ? (json_int_t)value : -1;
}
#endif

/* What the allocator says: in use by us, in pages that hold some of it, and resident. */
static json_t *memory_json(void)
{
#ifdef PENFOLD_JEMALLOC
	uint64_t epoch = 1;
	size_t bytes = sizeof epoch;
	(void)mallctl("epoch", &epoch, &bytes, &epoch, bytes); /* else the figures are those of the last time */
	return json_pack("{s:s, s:I, s:I, s:I, s:I}", "allocator", "jemalloc", "allocated_bytes", jemalloc_bytes("stats.allocated"), "active_bytes",
			 jemalloc_bytes("stats.active"), "metadata_bytes", jemalloc_bytes("stats.metadata"), "resident_bytes",
			 jemalloc_bytes("stats.resident"));
#else
	return json_pack("{s:s}", "allocator", "libc");
#endif
}

/* How full, and how often each limit was reached. */
static json_t *limits_json(void)
{
	struct source_stats s;
	source_stats(&s);
	json_t *refused = json_object();
	for (unsigned i = LIMIT_NONE + 1; i < LIMIT_COUNT; i++)
		json_object_set_new(refused, limit_word((enum limit)i), json_integer((json_int_t)s.refused[i]));
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:o}", "unauthenticated", (json_int_t)s.waiting, "entries_held", (json_int_t)s.held, "entries_idle",
			 (json_int_t)s.idle, "entries_idle_max", (json_int_t)s.idle_max, "entries_forgotten", (json_int_t)s.forgotten, "refused", refused);
}

json_t *admin_stats(void)
{
	json_t *metrics = json_object(), *shards = json_array();
	metrics_walk(add_metric, metrics);
	for (unsigned i = 0; i < shard_count(); i++)
		json_array_append_new(shards, shard_json(i));
	return json_pack("{s:s, s:o, s:o, s:o, s:o}", "backend", shard_backend(), "metrics", metrics, "shards", shards, "memory", memory_json(), "limits", limits_json());
}

/* ---- the server's side ---- */

static enum step admin_open(struct session *s)
{
	(void)s;
	return STEP_NEXT;
}

/* Invariant 7: an answer is bounded by what its verb lists; it goes out in pieces as the tool takes them. */
static enum step admin_resume(struct session *s)
{
	struct admin_session *a = CONTAINER_OF(s, struct admin_session, session);
	while (a->at < a->len) {
		if (reply_full(&s->reply))
			return STEP_RESUME;
		size_t n = min_size(a->len - a->at, a->of_node ? ADMIN_PIECE_BYTES : REPLY_ROOM_BYTES);
		reply_put(&s->reply, slice_of(a->text + a->at, n));
		if (a->of_node)
			REPLY_LIT(&s->reply, "\r\n");
		a->at += n;
	}
	return STEP_CLOSE;
}

static struct admin_asker asker(const struct session *s)
{
	struct admin_asker who = { .uid = UINT32_MAX, .of_node = CONTAINER_OF(s, const struct admin_session, session)->of_node };
	if (!who.of_node && session_peer_user(s, &who.uid))
		who.may_change = who.uid == 0 || who.uid == geteuid();
	return who;
}

struct dump {
	const json_t *json;
	char *text;
};

/* Megabytes of it would hold the shard (invariant 8). */
static void dump(void *arg)
{
	struct dump *d = arg;
	d->text = json_dumps(d->json, JSON_COMPACT | JSON_SORT_KEYS);
}

static enum step admin_line(struct session *s, struct slice line)
{
	struct admin_session *a = CONTAINER_OF(s, struct admin_session, session);
	struct admin_asker who = asker(s);
	json_t *answer = slice_eq(line, SLICE_LIT("stats"))		? admin_stats()
			 : slice_starts_nocase(line, SLICE_LIT("why ")) ? why_json(slice_from(line, 4))
									: admin_answer(&who, line);
	struct dump d = { .json = answer };
	if (offload_call(dump, &d, ADMIN_FLEET_MS_MAX) != OK)
		dump(&d); /* the pool is full: better late than not */
	json_decref(answer);
	a->text = d.text;
	if (!a->text)
		return STEP_ABORT;
	a->len = strlen(a->text);
	if (a->of_node)
		reply_printf(&s->reply, "%zu\r\n", a->len);
	return admin_resume(s);
}

static enum step admin_end(struct session *s)
{
	(void)s;
	return STEP_CLOSE;
}

static bool admin_handed(struct session *s, struct subject *subject)
{
	(void)subject; /* none: a node asks */
	CONTAINER_OF(s, struct admin_session, session)->of_node = true;
	return true;
}

static enum step admin_moved(struct session *s)
{
	(void)s;
	return STEP_NEXT;
}

static void admin_closed(struct session *s, enum session_end how)
{
	(void)how;
	free(CONTAINER_OF(s, struct admin_session, session)->text);
}

const struct proto admin_proto = {
	.name = "admin",
	.session_bytes = sizeof(struct admin_session),
	.line_bytes_max = ADMIN_LINE_BYTES_MAX,
	.idle_ms_max = ADMIN_IDLE_MS_MAX,
	.lf_ends_line = true,
	.open = admin_open,
	.line = admin_line,
	.resume = admin_resume,
	.too_long = admin_end,
	.timeout = admin_end,
	.stop = admin_end,
	.closed = admin_closed,
	.handed = admin_handed,
	.moved = admin_moved,
};

/* ---- the tools' side ---- */

static int admin_connect(const char *socket_path)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	struct timeval tv = { .tv_sec = ADMIN_ANSWER_MS_MAX / 1000 };
	if (strlen(socket_path) >= sizeof sun.sun_path) {
		errno = ENAMETOOLONG;
		return -1;
	}
	strcpy(sun.sun_path, socket_path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv);
	if (connect(fd, (struct sockaddr *)&sun, sizeof sun) != 0) {
		int saved = errno;
		close(fd);
		errno = saved;
		return -1;
	}
	return fd;
}

enum err admin_ask(const char *socket_path, const char *line, char **answer_out)
{
	*answer_out = NULL;
	int fd = admin_connect(socket_path);
	if (fd < 0)
		return errno == EACCES || errno == EPERM ? ERR_DENIED : ERR_CLOSED;
	struct buf answer;
	buf_init(&answer, ADMIN_ANSWER_BYTES_MAX);
	enum err e = OK;
	char chunk[4096];
	if (dprintf(fd, "%s\n", line) < 0)
		e = ERR_CLOSED;
	while (e == OK) {
		ssize_t n = read(fd, chunk, sizeof chunk);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			e = errno == EAGAIN ? ERR_TIMEOUT : ERR_IO;
		if (n <= 0)
			break;
		if (!buf_put(&answer, chunk, (size_t)n))
			e = ERR_LIMIT;
	}
	close(fd);
	if (e == OK)
		*answer_out = slice_dup(buf_slice(&answer));
	buf_release(&answer);
	return e;
}
