/* SPDX-License-Identifier: Apache-2.0 */
/*
 * imap_cmd_append.c - APPEND (RFC 9051 section 6.3.12) with MULTIAPPEND (RFC 3502), APPENDUID, literal8 and UTF8 (RFC 6855).
 *
 * A message's octets go to the store's body writer as they come and are never gathered.  What is wrong before them (no such mailbox, too
 * large, over quota) is told instead of "+"; a client that does not wait for that has its octets thrown away, so that they are never
 * taken for commands, and is told then.  All messages of a command are one commit (invariant 13).
 */
#include "net/imap/imap_append.h"

#include <stdlib.h>

static void drop(struct imap_session *p)
{
	struct appending *ap = p->cmd->state;
	if (ap->writer)
		body_abort(ap->writer);
	for (size_t i = 0; i < ap->count; i++)
		if (ap->items[i].body)
			body_unref(ap->items[i].body);
	free(ap->items);
}

void imap_append_refuse(struct appending *ap, enum imap_status status, const char *code, const char *text)
{
	if (ap->status != IMAP_S_OK)
		return; /* the first reason counts */
	ap->status = status;
	ap->code = code;
	ap->text = text;
}

static enum step end(struct imap_session *p, const struct appending *ap) { return imap_end_with(p, ap->status, ap->code, ap->text); }

static void refuse_err(struct appending *ap, enum err e)
{
	if (e == ERR_SYNTAX)
		imap_append_refuse(ap, IMAP_S_NO, "CANNOT", "a message cannot hold NUL");
	else if (e == ERR_LIMIT)
		imap_append_refuse(ap, IMAP_S_NO, "TOOBIG", "the message is too large");
	else if (e == ERR_FULL)
		imap_append_refuse(ap, IMAP_S_NO, "UNAVAILABLE", "the server's disk is full, please try again later");
	else
		imap_append_refuse(ap, IMAP_S_NO, "UNAVAILABLE", "the server's storage failed, please try again later");
}

/* ---- one message ---- */

/* "[(flags) ][date ]" up to the end; with "UTF8 (" behind them. */
static bool read_options(struct imap_session *p, struct appending *ap, struct append_item *item)
{
	struct imap_args *a = &p->cmd->args;
	if (imap_peek(a, '(') && (!imap_flag_list(p, false, &item->flags) || !imap_sp(a)))
		return false;
	if (imap_peek(a, '"') && (!imap_date_time(a, &item->date_s, &item->zone_min) || !imap_sp(a)))
		return false;
	if (imap_word(a, "UTF8")) {
		if (!imap_sp(a) || !imap_open(a))
			return false;
		ap->utf8 = true;
	}
	return imap_end(a);
}

static void judge_first(struct imap_session *p, struct appending *ap)
{
	struct folder_info info;
	if (folder_find(p->account, ap->name, &info) != OK || info.noselect)
		imap_append_refuse(ap, IMAP_S_NO, "TRYCREATE", "no such mailbox");
	else
		ap->folder = info.id;
}

static void judge_size(struct imap_session *p, struct appending *ap, uint64_t bytes)
{
	struct account_usage usage;
	uint64_t freed = imap_replaced_bytes(p, ap);
	account_usage(p->account, &usage);
	if (!bytes)
		imap_append_refuse(ap, IMAP_S_NO, "CANNOT", "a message of no octets");
	else if (bytes > imap_settings.message_bytes_max)
		imap_append_refuse(ap, IMAP_S_NO, "TOOBIG", "the message is too large");
	else if (p->subject->quota_bytes && bytes > freed && usage.bytes + ap->bytes + bytes > p->subject->quota_bytes + freed)
		imap_append_refuse(ap, IMAP_S_NO, "OVERQUOTA", "over quota");
	else if (ap->count >= IMAP_APPEND_MESSAGES_MAX)
		imap_append_refuse(ap, IMAP_S_NO, "LIMIT", "too many messages in one command");
	ap->bytes += bytes;
}

static enum step take(struct imap_session *p, struct slice bytes)
{
	struct appending *ap = p->cmd->state;
	if (!ap->writer)
		return STEP_DATA;
	enum err e = body_write(ap->writer, bytes);
	if (e != OK) {
		body_abort(ap->writer);
		ap->writer = NULL;
		refuse_err(ap, e);
	}
	return STEP_DATA;
}

static enum step taken(struct imap_session *p)
{
	struct appending *ap = p->cmd->state;
	if (!ap->writer)
		return STEP_NEXT;
	enum err e = body_end(ap->writer, &ap->items[ap->count - 1].body);
	ap->writer = NULL;
	if (e != OK)
		refuse_err(ap, e);
	return STEP_NEXT;
}

static enum step rest(struct imap_session *p, struct slice line);

static enum step begin_message(struct imap_session *p, struct appending *ap, const struct imap_literal *literal, const struct append_item *item)
{
	struct imap_command *c = p->cmd;
	judge_size(p, ap, literal->bytes);
	if (ap->status != IMAP_S_OK && literal->sync)
		return end(p, ap);
	if (ap->status != IMAP_S_OK && literal->bytes > imap_settings.message_bytes_max) {
		REPLY_LIT(&p->s.reply, "* BYE [TOOBIG] the literal is far too large\r\n");
		return STEP_CLOSE;
	}
	if (ap->status == IMAP_S_OK) {
		if (ap->count == ap->cap) {
			ap->cap = ap->cap ? 2 * ap->cap : 1;
			ap->items = xrealloc(ap->items, ap->cap * sizeof *ap->items);
		}
		ap->items[ap->count++] = *item;
		enum err e = body_begin(BODY_MEND, &ap->writer);
		if (e != OK) {
			ap->writer = NULL;
			refuse_err(ap, e);
		}
	}
	c->gathering = IMAP_STREAMED;
	c->literal_left = literal->bytes;
	c->data = take;
	c->data_end = taken;
	c->rest = rest;
	if (literal->sync)
		REPLY_LIT(&p->s.reply, "+ OK\r\n");
	return literal->bytes ? STEP_DATA : STEP_NEXT;
}

/* ---- the end ---- */

static enum step stored(struct imap_session *p, const struct appended *out, size_t count)
{
	struct buf code;
	buf_init(&code, IMAP_CODE_BYTES_MAX);
	/* UIDs of one commit ascend, but others may have taken some between */
	bool fits = buf_printf(&code, "APPENDUID %u ", out[0].uidvalidity);
	for (size_t i = 0; i < count && fits;) {
		size_t last = i;
		while (last + 1 < count && out[last + 1].uid == out[last].uid + 1)
			last++;
		fits = buf_printf(&code, last > i ? "%s%u:%u" : "%s%u", i ? "," : "", out[i].uid, out[last].uid);
		i = last + 1;
	}
	fits = fits && buf_put(&code, "", 1);
	enum step step = p->cmd->verb->run == imap_cmd_replace ? imap_replaced(p, code.ptr)
			 : fits				       ? imap_ok_code(p, code.ptr, "appended")
							       : imap_ok(p, "appended");
	buf_release(&code);
	return step;
}

static enum step store(struct imap_session *p, struct appending *ap)
{
	struct append *items = xcalloc(ap->count, sizeof *items);
	struct appended *out = xcalloc(ap->count, sizeof *out);
	for (size_t i = 0; i < ap->count; i++)
		items[i] = (struct append){ .folder = ap->folder,
					    .body = ap->items[i].body,
					    .keywords = ap->items[i].flags.keywords,
					    .keyword_count = ap->items[i].flags.keyword_count,
					    .flags = ap->items[i].flags.flags,
					    .internal_date_s = ap->items[i].date_s,
					    .internal_date_zone_min = ap->items[i].zone_min,
					    .quota_bytes = p->subject->quota_bytes,
					    .quota_messages = p->subject->quota_messages,
					    .replaces_folder = ap->replaces ? p->folder : 0,
					    .replaces_uid = ap->replaces_uid };
	enum err e = account_append(p->account, items, ap->count, out);
	enum step step;
	if (e == ERR_NOT_FOUND)
		step = imap_no(p, "TRYCREATE", "no such mailbox");
	else if (e == ERR_DENIED)
		step = imap_no(p, "EXPUNGEISSUED", "the message to be replaced is gone");
	else
		step = e == OK ? stored(p, out, ap->count) : imap_fail(p, e);
	free(items);
	free(out);
	return step;
}

/* The line behind a message: nothing, or the next message's options and literal. */
static enum step rest(struct imap_session *p, struct slice line)
{
	struct imap_command *c = p->cmd;
	struct appending *ap = c->state;
	struct imap_literal literal;
	struct append_item item = { .body = NULL };
	if (ap->utf8 && line.len && line.ptr[0] == ')') {
		ap->utf8 = false;
		line = slice_from(line, 1);
	} else if (ap->utf8) {
		imap_append_refuse(ap, IMAP_S_BAD, NULL, "expected )");
	}
	bool more = imap_literal_at_end(line, &literal);
	if (!line.len)
		return ap->status == IMAP_S_OK ? store(p, ap) : end(p, ap);
	if (ap->replaces)
		imap_append_refuse(ap, IMAP_S_BAD, NULL, "one message takes one's place");
	struct slice kept = arena_slice(&c->arena, slice_upto(line, more ? literal.begin : line.len));
	if (!kept.ptr)
		return STEP_ABORT;
	imap_args_init(&c->args, kept, &c->arena, c->args.utf8);
	if (!more || !imap_sp(&c->args) || !read_options(p, ap, &item))
		imap_append_refuse(ap, IMAP_S_BAD, NULL, c->args.why);
	if (!more)
		return end(p, ap);
	return begin_message(p, ap, &literal, &item);
}

/* Is what has come so far "tag APPEND mailbox [flags] [date]", so that the literal is a message? A mailbox that is itself a literal is not. */
bool imap_append_literal(struct imap_session *p, const struct imap_literal *literal, enum step *step_out)
{
	struct imap_command *c = p->cmd;
	struct append_item item = { .body = NULL };
	struct slice name;
	c->args.utf8 = imap_utf8_names(p);
	if (c->gathering == IMAP_STREAMED || !imap_read_verb(c) || !c->verb ||
	    (c->verb->run != imap_cmd_append && c->verb->run != imap_cmd_replace) || !(c->verb->states & p->state))
		return false;
	/* the line's own part of the text ends with the literal's announcement and CRLF */
	struct imap_literal again;
	struct slice text = slice_upto(buf_slice(&c->text), c->text.len - 2);
	if (!imap_literal_at_end(text, &again))
		return false;
	c->args.end = text.ptr + again.begin;
	struct appending *ap = arena_zalloc(&c->arena, sizeof *ap);
	if (!ap || c->args.end < c->args.at || (c->verb->run == imap_cmd_replace && !imap_replace_read(p, ap)))
		return false; /* out of form: gathered, and refused as a whole */
	bool name_is_next = c->args.end - c->args.at == 1;
	if (name_is_next || !imap_sp(&c->args))
		return false;
	c->state = ap;
	c->drop = drop;
	if (!imap_mailbox(&c->args, &name)) {
		imap_append_refuse(ap, c->args.bad_name ? IMAP_S_NO : IMAP_S_BAD, c->args.bad_name ? "CANNOT" : NULL, c->args.why);
	} else {
		ap->name = name;
		if (!imap_sp(&c->args) || !read_options(p, ap, &item))
			imap_append_refuse(ap, IMAP_S_BAD, NULL, c->args.why);
		else
			judge_first(p, ap);
	}
	*step_out = begin_message(p, ap, literal, &item);
	return true;
}

/* A whole APPEND without a message. */
enum step imap_cmd_append(struct imap_session *p) { return imap_bad(p, "expected a message, as a literal"); }
