/* SPDX-License-Identifier: Apache-2.0 */
/*
 * imap_cmd_sort.c - SORT (RFC 5256), with display names (RFC 5957), as ESEARCH where RETURN is said (RFC 5267).
 *
 * What is compared is read once for each message that matches: a number, or a string that lies in one pool.  So much memory belongs to
 * a budget of the shard (imap_keys.h); what would lead above it is NO [LIMIT].
 */
#include "net/imap/imap_keys.h"
#include "net/imap/imap_thread.h"

#include "core/run/fiber.h"

#include <stdlib.h>

enum sort_by { SORT_ARRIVAL, SORT_CC, SORT_DATE, SORT_DISPLAYFROM, SORT_DISPLAYTO, SORT_FROM, SORT_SIZE, SORT_SUBJECT, SORT_TO };
static const struct criterion {
	const char *name, *field; /* field: of an address */
	bool text, display;
} criteria[] = {
	[SORT_ARRIVAL] = { "ARRIVAL", NULL, false, false },
	[SORT_CC] = { "CC", "Cc", true, false },
	[SORT_DATE] = { "DATE", NULL, false, false },
	[SORT_DISPLAYFROM] = { "DISPLAYFROM", "From", true, true },
	[SORT_DISPLAYTO] = { "DISPLAYTO", "To", true, true },
	[SORT_FROM] = { "FROM", "From", true, false },
	[SORT_SIZE] = { "SIZE", NULL, false, false },
	[SORT_SUBJECT] = { "SUBJECT", NULL, true, false },
	[SORT_TO] = { "TO", "To", true, false },
};

struct sort {
	struct search_program program;
	struct search_answer answer;
	struct bits found;
	struct keys_budget budget;
	struct {
		uint8_t by;
		bool reverse;
	} keys[IMAP_SORT_KEYS_MAX];
	size_t key_count;
	uint32_t *index;  /* of the n-th message that is sorted */
	int64_t *values;  /* key_count for each: a number, or where in the pool the string is, behind its length */
	uint32_t *order, *spare;
	uint32_t count, cap;
	struct buf pool;
	bool not_saved;
};

static void drop(struct imap_session *p)
{
	struct sort *s = p->cmd->state;
	search_release(&s->program);
	bits_release(&s->found);
	keys_budget_release(&s->budget);
	free(s->index);
	free(s->values);
	free(s->order);
	free(s->spare);
	buf_release(&s->pool);
}

/* ---- what is compared ---- */

static enum err put_text(struct sort *s, struct slice text, int64_t *value_out)
{
	uint32_t len = (uint32_t)text.len;
	*value_out = (int64_t)s->pool.len;
	return buf_put(&s->pool, &len, sizeof len) && (!len || buf_put(&s->pool, text.ptr, len)) ? OK : ERR_LIMIT;
}

static struct slice get_text(const struct sort *s, int64_t value)
{
	return slice_of(s->pool.ptr + value + 4, get_le32(s->pool.ptr + value));
}

static enum err read_value(struct sort *s, const struct imap_source *source, const struct message *m, uint8_t by, int64_t *out)
{
	struct slice text;
	bool reply;
	enum err e;
	switch ((enum sort_by)by) {
	case SORT_ARRIVAL:
		*out = source->m.internal_date_s;
		return OK;
	case SORT_DATE:
		*out = keys_sent(&s->program, source);
		return OK;
	case SORT_SIZE:
		*out = (int64_t)m->size;
		return OK;
	case SORT_SUBJECT:
		e = keys_subject(&s->program, source, &text, &reply);
		break;
	default:
		e = keys_address(&s->program, source, criteria[by].field, criteria[by].display, &text);
	}
	return e == OK ? put_text(s, text, out) : e;
}

static void grow(struct sort *s)
{
	if (s->count < s->cap)
		return;
	s->cap = s->cap ? 2 * s->cap : 64;
	s->index = xrealloc(s->index, s->cap * sizeof *s->index);
	s->values = xrealloc(s->values, s->cap * s->key_count * sizeof *s->values);
}

static size_t memory_bytes(const struct sort *s)
{
	return s->cap * (3 * sizeof *s->index + s->key_count * sizeof *s->values) + s->pool.cap;
}

static enum err add(struct imap_session *p, struct sort *s, uint32_t index)
{
	struct imap_source *source;
	struct message m;
	enum err e = keys_open(p, &s->program, index, &source);
	if (e == ERR_NOT_FOUND) { /* damaged: left out */
		bits_clear(&s->found, index);
		return OK;
	}
	if (e != OK)
		return e;
	view_message(p->view, index, &m);
	grow(s);
	s->index[s->count] = index;
	for (size_t k = 0; k < s->key_count && e == OK; k++)
		e = read_value(s, source, &m, s->keys[k].by, &s->values[s->count * s->key_count + k]);
	s->count++;
	imap_source_unref(source);
	return e == OK ? keys_budget_take(&s->budget, memory_bytes(s)) : e;
}

static int compare(const void *arg, uint32_t a, uint32_t b)
{
	const struct sort *s = arg;
	for (size_t k = 0; k < s->key_count; k++) {
		int64_t x = s->values[a * s->key_count + k], y = s->values[b * s->key_count + k];
		int c = criteria[s->keys[k].by].text ? slice_cmp(get_text(s, x), get_text(s, y)) : x < y ? -1 : x > y;
		if (c)
			return s->keys[k].reverse ? -c : c;
	}
	return 0; /* stable: then by message number */
}

/* ---- the command ---- */

static enum step tell_on(struct imap_session *p)
{
	struct sort *s = p->cmd->state;
	p->cmd->resume = tell_on;
	if (!search_tell(p, &s->answer))
		return STEP_RESUME;
	if (s->not_saved)
		return imap_no(p, "NOTSAVED", "the result is too scattered to be kept");
	return s->program.damaged ? imap_no(p, "CORRUPTION", "some messages could not be read") : imap_ok(p, "sorted");
}

static void sort_all(struct sort *s)
{
	s->order = xmalloc((s->count + 1) * sizeof *s->order);
	s->spare = xmalloc((s->count + 1) * sizeof *s->spare);
	for (uint32_t i = 0; i < s->count; i++)
		s->order[i] = i;
	sort_stable(s->order, s->spare, s->count, compare, s, fiber_breathe);
	for (uint32_t i = 0; i < s->count; i++)
		s->order[i] = s->index[s->order[i]];
}

static enum step run(struct imap_session *p, struct sort *s)
{
	bits_init(&s->found, view_count(p->view));
	if (search_run(p, &s->program, &s->found) != OK)
		return STEP_ABORT;
	for (size_t i = bits_next(&s->found, 0); i != SIZE_MAX; i = bits_next(&s->found, i + 1)) {
		enum err e = add(p, s, (uint32_t)i);
		if (e != OK) {
			if (s->answer.r.wanted & RETURN_SAVE)
				imap_saved_forget(p);
			return imap_fail(p, e);
		}
		fiber_breathe();
		if (session_dying(&p->s))
			return STEP_ABORT;
	}
	sort_all(s);
	s->answer.name = "SORT";
	s->answer.found = &s->found;
	s->answer.order = s->order;
	search_answer_begin(p, &s->answer, s->program.modseq);
	if (s->answer.r.wanted & RETURN_SAVE)
		s->not_saved = !search_save(p, &s->answer);
	return tell_on(p);
}

static bool read_criterion(struct imap_args *a, struct sort *s)
{
	bool reverse = imap_word(a, "REVERSE");
	if (reverse && !imap_sp(a))
		return false;
	for (uint8_t i = 0; i < ARRAY_LEN(criteria); i++) {
		if (!imap_word(a, criteria[i].name))
			continue;
		a->why = "too many sort criteria";
		if (s->key_count == IMAP_SORT_KEYS_MAX)
			return false;
		s->keys[s->key_count].by = i;
		s->keys[s->key_count++].reverse = reverse;
		return true;
	}
	a->why = "no such sort criterion";
	return false;
}

static bool read_criteria(struct imap_args *a, struct sort *s)
{
	if (!imap_open(a))
		return false;
	for (bool first = true; imap_more(a, &first);)
		if (!read_criterion(a, s))
			return false;
	a->why = "no sort criterion is named";
	return s->key_count > 0;
}

enum step imap_cmd_sort(struct imap_session *p)
{
	struct imap_args *a = &p->cmd->args;
	struct sort *s = arena_zalloc(a->arena, sizeof *s);
	if (!s)
		return imap_fail(p, ERR_LIMIT);
	buf_init(&s->pool, IMAP_SORT_SHARD_BYTES_MAX);
	p->cmd->state = s;
	p->cmd->drop = drop;
	if (!imap_sp(a))
		return imap_bad_args(p);
	if (imap_word(a, "RETURN") && (!imap_sp(a) || !search_return_read(p, &s->answer.r) || !imap_sp(a)))
		return imap_bad_args(p);
	if (!read_criteria(a, s) || !imap_sp(a))
		return imap_bad_args(p);
	enum search_read e = search_read(p, &s->program, true);
	if (e == SEARCH_READ_CHARSET && s->answer.r.wanted & RETURN_SAVE)
		imap_saved_forget(p);
	return e == SEARCH_READ ? run(p, s) : search_refuse(p, e);
}
