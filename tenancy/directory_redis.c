/* SPDX-License-Identifier: Apache-2.0 */
/*
 * directory_redis.c - accounts in Redis hashes.
 *
 *     pf:u:ann@demo.example    password        {SCHEME}hash; empty, "*" or "!...": takes mail, nobody logs in
 *                              quota_bytes     octets, and ...
 *                              quota_messages  ... messages; 0 = no limit. Missing: as the account or its tenant has it
 *
 * The name is folded (name.h).  In a key every octet but a-z 0-9 . _ - + = @ is written %XX (upper-case hex), so that no name can be a pattern, a
 * Redis Cluster's hash tag or another name's key; on the wire arguments bear their length, so that nothing in them is read as a command.
 * A name without such a hash, or with none of these fields, is not there.  A hash that cannot be understood is reported and
 * counts as "cannot be known now": it may well be somebody's.
 *
 * Each shard has a link of its own; a question takes one HMGET and has the deadline of the look-up.
 */
#include "tenancy/backend.h"

#include "core/base/log.h"
#include "core/base/metrics.h"
#include "core/run/clock.h"
#include "core/run/shard.h"

#include <stdlib.h>

METRIC_COUNTER(broken, "directory_redis_broken_total", "hashes of the Redis directory that could not be understood");
METRIC_COUNTER(failed, "directory_redis_failed_total", "questions that the Redis directory did not answer in time or at all");

static struct redis *links[SHARDS_MAX]; /* each shard its own */

enum err directory_redis_start(const struct redis_settings *settings)
{
	ASSERT(settings && !links[shard_index()]);
	return redis_open(settings, &links[shard_index()]);
}

void directory_redis_stop(void)
{
	struct redis *link = links[shard_index()];
	links[shard_index()] = NULL; /* who asks from now on hears that it cannot be known */
	redis_close(link);
}

static char *put_escaped(char *at, struct slice text)
{
	static const char hex[] = "0123456789ABCDEF";
	for (size_t i = 0; i < text.len; i++) {
		unsigned char c = (unsigned char)text.ptr[i];
		bool plain = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (c && strchr("._-+=", c));
		if (plain) {
			*at++ = (char)c;
			continue;
		}
		*at++ = '%';
		*at++ = hex[c >> 4];
		*at++ = hex[c & 15];
	}
	return at;
}

/* An '@' inside a local part is escaped: the last one of a key is the only one. */
struct slice directory_redis_key(struct slice local, struct slice domain, char out[DIRECTORY_REDIS_KEY_BYTES_MAX])
{
	ASSERT(local.len <= LOCAL_PART_BYTES_MAX && domain.len <= DOMAIN_BYTES_MAX);
	memcpy(out, "pf:u:", 5);
	char *at = put_escaped(out + 5, local);
	*at++ = '@';
	at = put_escaped(at, domain);
	return slice_of(out, (size_t)(at - out));
}

static bool quota(const struct redis_value *v, bool *has_out, uint64_t *out)
{
	*has_out = v->kind == REDIS_STRING;
	return v->kind == REDIS_NIL || (v->kind == REDIS_STRING && slice_u64(v->text, INT64_MAX, out));
}

static enum err take(const struct redis_value *v, struct directory_fetched *f)
{
	if (v->kind != REDIS_ARRAY || v->count != 3)
		return ERR_CORRUPT;
	const struct redis_value *password = &v->items[0];
	if (password->kind == REDIS_NIL && v->items[1].kind == REDIS_NIL && v->items[2].kind == REDIS_NIL)
		return ERR_NOT_FOUND;
	if (!quota(&v->items[1], &f->guest.has_quota_bytes, &f->guest.quota_bytes) ||
	    !quota(&v->items[2], &f->guest.has_quota_messages, &f->guest.quota_messages) || password->text.len >= sizeof(f->stored))
		return ERR_CORRUPT;
	struct slice stored = password->text;
	if (!stored.len || stored.ptr[0] == '*' || stored.ptr[0] == '!')
		return OK;
	memcpy(f->stored, stored.ptr, stored.len);
	f->guest.stored = slice_of(f->stored, stored.len);
	return OK;
}

struct directory_fetched *directory_redis_fetch(struct slice local, struct slice domain, uint64_t deadline_ms)
{
	char key[DIRECTORY_REDIS_KEY_BYTES_MAX];
	struct directory_fetched *f = xcalloc(1, sizeof(*f));
	struct redis *link = links[shard_index()];
	uint64_t now_ms = clock_now_ms();
	f->err = ERR_TEMP;
	if (!link || now_ms >= deadline_ms) {
		metric_inc(&failed);
		return f;
	}
	const struct slice args[] = { SLICE_LIT("HMGET"), directory_redis_key(local, domain, key), SLICE_LIT("password"), SLICE_LIT("quota_bytes"),
				      SLICE_LIT("quota_messages") };
	struct redis_answer answer = { .run_id = "" };
	enum err e = redis_ask(link, &(struct redis_command){ .args = args, .count = ARRAY_LEN(args), .key = 1, .ms_max = (uint32_t)(deadline_ms - now_ms) },
			       &answer);
	f->err = e == OK ? take(&answer.value, f) : ERR_TEMP;
	if (e != OK && e != ERR_SYNTAX)
		metric_inc(&failed);
	if (f->err == ERR_CORRUPT || e == ERR_SYNTAX) { /* a key of another type, among others */
		metric_inc(&broken);
		log_event(LOG_WARN, "directory.redis_broken", LOG_STR("key", args[1]));
		f->err = ERR_TEMP;
	}
	redis_answer_release(&answer);
	return f;
}
