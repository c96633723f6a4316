/* SPDX-License-Identifier: Apache-2.0 */
/*
 * redis.c - the face of the link: who asks, where it goes, what an error means.
 *
 * A command that was answered by "somewhere else" (MOVED, ASK) or "unknown script" (NOSCRIPT) was not executed, so it may be sent again;
 * nothing else ever is.
 */
#include "core/run/redis_private.h"

#include "core/base/log.h"

#include <nettle/sha1.h>
#include <stdlib.h>

/* ---- open and close ---- */

void redis_script_init(struct redis_script *script)
{
	struct sha1_ctx sha;
	uint8_t digest[SHA1_DIGEST_SIZE];
	sha1_init(&sha);
	sha1_update(&sha, strlen(script->text), (const uint8_t *)script->text);
	sha1_digest(&sha, sizeof(digest), digest);
	for (size_t i = 0; i < sizeof(digest); i++) {
		script->sha[2 * i] = "0123456789abcdef"[digest[i] >> 4];
		script->sha[2 * i + 1] = "0123456789abcdef"[digest[i] & 15];
	}
	script->sha[2 * sizeof(digest)] = 0;
}

static bool addresses_ok(const char *const *addresses, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		if (strlen(addresses[i]) > REDIS_HOST_BYTES_MAX || !redis_address_ok(slice_str(addresses[i])))
			return false;
	return count > 0 && count < REDIS_SERVERS_MAX;
}

struct redis_conn *redis_conn_to(struct redis *r, struct slice at)
{
	for (uint32_t i = 0; i < r->conn_count; i++)
		if (slice_eq(slice_str(r->conns[i]->at), at))
			return r->conns[i];
	if (r->conn_count == REDIS_SERVERS_MAX || at.len > REDIS_HOST_BYTES_MAX)
		return NULL;
	struct redis_conn *c = xcalloc(1, sizeof(*c));
	redis_conn_init(c, r, at);
	r->conns[r->conn_count++] = c;
	redis_conn_begin(c);
	return c;
}

enum err redis_open(const struct redis_settings *settings, struct redis **redis_out)
{
	const struct redis_settings *s = settings;
	*redis_out = NULL;
	if (s->sentinel.master ? !addresses_ok(s->sentinel.addresses, s->sentinel.address_count) : !addresses_ok(s->addresses, s->address_count))
		return ERR_CONFIG;
	struct redis *r = xcalloc(1, sizeof(*r));
	r->settings = *settings;
	r->connect_ms_max = s->connect_ms_max ? s->connect_ms_max : REDIS_CONNECT_MS_MAX;
	r->answer_ms_max = s->answer_ms_max ? s->answer_ms_max : REDIS_ANSWER_MS_MAX;
	if (s->cluster) {
		r->slots = xmalloc(REDIS_SLOTS);
		memset(r->slots, 255, REDIS_SLOTS);
	}
	if (s->sentinel.master)
		(void)redis_conn_to(r, slice_of("", 0));
	for (unsigned i = 0; !s->sentinel.master && i < (s->cluster ? s->address_count : 1); i++)
		(void)redis_conn_to(r, slice_str(s->addresses[i]));
	*redis_out = r;
	return OK;
}

void redis_close(struct redis *redis)
{
	if (!redis)
		return;
	redis->closing = true;
	if (redis->sentinel_conn)
		redis_conn_break(redis->sentinel_conn, "closed");
	for (uint32_t i = 0; i < redis->conn_count; i++)
		redis_conn_break(redis->conns[i], "closed");
	for (uint32_t i = 0; i < redis->conn_count; i++)
		while (!redis_conn_at_rest(redis->conns[i]))
			(void)waitq_wait(&redis->conns[i]->changed, 0);
	while (redis->refreshing)
		fiber_yield();
	fiber_yield(); /* who was told of the end looks at his connection once more */
	for (uint32_t i = 0; i < redis->conn_count; i++) {
		redis_conn_release(redis->conns[i]);
		free(redis->conns[i]);
	}
	free(redis->slots);
	free(redis);
}

/* ---- answers ---- */

void redis_answer_release(struct redis_answer *answer)
{
	if (answer->memory.chunk)
		arena_release(&answer->memory);
	answer->value = (struct redis_value){ .kind = REDIS_NIL };
}

struct slice redis_item_text(const struct redis_value *array, size_t index)
{
	return array->kind == REDIS_ARRAY && index < array->count ? array->items[index].text : slice_of(NULL, 0);
}

/* ERR_AGAIN: it was not executed here and may be sent again. */
enum err redis_error_means(struct slice text)
{
	static const struct {
		const char *word;
		enum err means;
	} words[] = {
		{ "MOVED", ERR_AGAIN }, { "ASK", ERR_AGAIN }, { "NOSCRIPT", ERR_AGAIN },
		{ "NOAUTH", ERR_DENIED }, { "WRONGPASS", ERR_DENIED }, { "NOPERM", ERR_DENIED },
		{ "LOADING", ERR_TEMP }, { "MASTERDOWN", ERR_TEMP }, { "READONLY", ERR_TEMP }, { "CLUSTERDOWN", ERR_TEMP }, { "TRYAGAIN", ERR_TEMP },
		{ "BUSY", ERR_TEMP }, { "OOM", ERR_TEMP }, { "MISCONF", ERR_TEMP }, { "NOREPLICAS", ERR_TEMP },
	};
	struct slice word = slice_upto(text, min_size(slice_find(text, ' '), text.len));
	for (size_t i = 0; i < ARRAY_LEN(words); i++)
		if (slice_eq(word, slice_str(words[i].word)))
			return words[i].means;
	return ERR_SYNTAX;
}

/* ---- where a command goes ---- */

static struct redis_conn *conn_of(struct redis *r, struct slice key)
{
	return r->settings.cluster ? redis_cluster_conn(r, key) : r->conns[0];
}

/* The very first attempt is waited for; afterwards a connection is there or it is not. */
static bool ready(struct redis_conn *c, uint64_t deadline_ms)
{
	while (c && c->state != REDIS_UP && !c->tried && !c->redis->closing)
		if (waitq_wait(&c->changed, deadline_ms) != OK)
			return false;
	return c && c->state == REDIS_UP;
}

static struct slice key_of(const struct redis_command *c) { return c->key ? c->args[c->key] : slice_of(NULL, 0); }

static uint64_t deadline_of(const struct redis *r, const struct redis_command *c)
{
	return clock_now_ms() + (c->ms_max ? c->ms_max : r->answer_ms_max);
}

/* ---- asking ---- */

static bool says(const struct redis_answer *a, const char *word)
{
	return a->value.kind == REDIS_ERROR && slice_starts_nocase(a->value.text, slice_str(word));
}

/* What is left to try for a command that was not executed where it went. */
struct again {
	const struct redis_command *command;
	struct slice args[REDIS_ARGS_MAX]; /* with EVAL in the place of EVALSHA */
	const struct redis_script *script;
	uint64_t deadline_ms;
};

static enum err ask_on(struct redis_conn *c, const struct again *a, bool asking, struct redis_answer *answer)
{
	const struct slice word[] = { SLICE_LIT("ASKING") };
	if (!ready(c, a->deadline_ms))
		return ERR_TEMP;
	if (asking && redis_conn_put(c, word, 1, NULL) != OK)
		return ERR_TEMP;
	return redis_conn_ask(c, a->args, a->command->count, a->deadline_ms, answer);
}

/* The first answer was ERR_AGAIN. */
static enum err try_again(struct redis *r, struct again *a, struct redis_answer *answer)
{
	enum err e = ERR_AGAIN;
	for (unsigned hop = 0; e == ERR_AGAIN && hop < REDIS_HOPS_MAX; hop++) {
		bool asking = says(answer, "ASK ");
		struct redis_conn *c;
		if (says(answer, "NOSCRIPT")) {
			if (!a->script)
				break;
			a->args[0] = SLICE_LIT("EVAL");
			a->args[1] = slice_str(a->script->text);
			c = conn_of(r, key_of(a->command));
		} else {
			c = redis_cluster_redirect(r, answer->value.text);
		}
		redis_answer_release(answer);
		e = ask_on(c, a, asking, answer);
	}
	return e == ERR_AGAIN ? ERR_TEMP : e;
}

static enum err again(struct redis *r, const struct redis_command *command, const struct redis_script *script, uint64_t deadline_ms,
		      struct redis_answer *answer)
{
	struct again *a = xcalloc(1, sizeof(*a));
	a->command = command;
	a->script = script;
	a->deadline_ms = deadline_ms;
	memcpy(a->args, command->args, command->count * sizeof(*command->args));
	enum err e = try_again(r, a, answer);
	free(a);
	return e;
}

static enum err ask(struct redis *r, const struct redis_command *command, const struct redis_script *script, struct redis_answer *answer_out)
{
	uint64_t deadline_ms = deadline_of(r, command);
	*answer_out = (struct redis_answer){ .value = { .kind = REDIS_NIL } };
	struct redis_conn *c = conn_of(r, key_of(command));
	if (!ready(c, deadline_ms))
		return ERR_TEMP;
	enum err e = redis_conn_ask(c, command->args, command->count, deadline_ms, answer_out);
	return e == ERR_AGAIN ? again(r, command, script, deadline_ms, answer_out) : e;
}

enum err redis_ask(struct redis *redis, const struct redis_command *command, struct redis_answer *answer_out)
{
	return ask(redis, command, NULL, answer_out);
}

enum err redis_ask_all(struct redis *redis, const struct redis_command *commands, size_t count, struct redis_answer *answers_out,
		       enum err *errs_out)
{
	struct redis_wait waits[REDIS_ASK_ALL_MAX];
	uint64_t deadline_ms = 0;
	enum err first = OK;
	ASSERT(count <= REDIS_ASK_ALL_MAX);
	for (size_t i = 0; i < count; i++) {
		const struct redis_command *c = &commands[i];
		struct redis_conn *conn = conn_of(redis, key_of(c));
		deadline_ms = max_u64(deadline_ms, deadline_of(redis, c));
		answers_out[i] = (struct redis_answer){ .value = { .kind = REDIS_NIL } };
		waits[i] = (struct redis_wait){ .fiber = fiber_self(), .answer = &answers_out[i] };
		/* no waiting for a first connection between two of them: the order would be lost */
		errs_out[i] = conn && conn->state == REDIS_UP ? redis_conn_put(conn, c->args, c->count, &waits[i]) : ERR_TEMP;
	}
	for (size_t i = 0; i < count; i++) {
		if (errs_out[i] == OK)
			errs_out[i] = redis_conn_wait(&waits[i], deadline_ms);
	}
	for (size_t i = 0; i < count; i++) {
		if (errs_out[i] == ERR_AGAIN)
			errs_out[i] = again(redis, &commands[i], NULL, deadline_ms, &answers_out[i]);
		first = first == OK ? errs_out[i] : first;
	}
	return first;
}

enum err redis_tell(struct redis *redis, const struct redis_command *command)
{
	struct redis_conn *c = conn_of(redis, key_of(command));
	return c && c->state == REDIS_UP ? redis_conn_put(c, command->args, command->count, NULL) : ERR_TEMP;
}

/* ---- scripts ---- */

#define RUN_FIRST 3 /* EVALSHA, its name, the number of keys */

static struct redis_command run_command(const struct redis_run *run, char number[24], struct slice args[REDIS_ARGS_MAX])
{
	size_t n = 0;
	ASSERT(run->key_count + run->arg_count <= REDIS_ARGS_MAX - RUN_FIRST && run->script->sha[0]);
	args[n++] = SLICE_LIT("EVALSHA");
	args[n++] = slice_of(run->script->sha, 40);
	args[n++] = slice_of(number, put_u64(number, run->key_count));
	for (size_t i = 0; i < run->key_count; i++)
		args[n++] = run->keys[i];
	for (size_t i = 0; i < run->arg_count; i++)
		args[n++] = run->args[i];
	return (struct redis_command){ .args = args, .count = n, .key = run->key_count ? RUN_FIRST : 0, .ms_max = run->ms_max };
}

enum err redis_run(struct redis *redis, const struct redis_run *run, struct redis_answer *answer_out)
{
	char number[24];
	struct slice args[REDIS_ARGS_MAX];
	struct redis_command c = run_command(run, number, args);
	return ask(redis, &c, run->script, answer_out);
}

enum err redis_run_tell(struct redis *redis, const struct redis_run *run)
{
	char number[24];
	struct slice args[REDIS_ARGS_MAX];
	struct redis_command c = run_command(run, number, args);
	return redis_tell(redis, &c);
}

/* ---- servers ---- */

bool redis_run_id(struct redis *redis, struct slice key, char run_id_out[REDIS_RUN_ID_BYTES + 1])
{
	struct redis_conn *c = conn_of(redis, key);
	if (!c || c->state != REDIS_UP || !c->run_id[0])
		return false;
	memcpy(run_id_out, c->run_id, REDIS_RUN_ID_BYTES + 1);
	return true;
}

void redis_distrust(struct redis *redis)
{
	if (!redis->settings.cluster && redis->conns[0]->state == REDIS_UP)
		redis_conn_break(redis->conns[0], "another server is the master");
}

bool redis_is_cluster(const struct redis *redis) { return redis->settings.cluster; }

bool redis_is_up(struct redis *redis)
{
	for (uint32_t i = 0; i < redis->conn_count; i++)
		if (redis->conns[i]->state == REDIS_UP)
			return true;
	return false;
}
