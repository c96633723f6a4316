/* SPDX-License-Identifier: Apache-2.0 */
/*
 * imap_cmd_append.c - APPEND (RFC 9051 section 6.3.12) with MULTIAPPEND (RFC 3502), CATENATE (RFC 4469: imap_catenate.c), APPENDUID, literal8
 * and UTF8 (RFC 6855).
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
	buf_release(&ap->url);
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
	if (e == ERR_SYNTAX && ap->binary)
		imap_append_refuse(ap, IMAP_S_NO, "UNKNOWN-CTE", "a message is kept as it is, and none can hold NUL"); /* RFC 3516 section 4.4 */
	else if (e == ERR_SYNTAX)
		imap_append_refuse(ap, IMAP_S_NO, "CANNOT", "a message cannot hold NUL");
	else if (e == ERR_LIMIT)
		imap_append_refuse(ap, IMAP_S_NO, "TOOBIG", "the message is too large");
	else if (e == ERR_FULL)
		imap_append_refuse(ap, IMAP_S_NO, "UNAVAILABLE", "the server's disk is full, please try again later");
	else
		imap_append_refuse(ap, IMAP_S_NO, "UNAVAILABLE", "the server's storage failed, please try again later");
}

/* ---- one message ---- */

/* "[(flags) ][date ]" up to where the message's literal begins, behind "UTF8 (" if that is said, or "CATENATE (". */
static bool read_options(struct imap_session *p, struct appending *ap)
{
	struct imap_args *a = &p->cmd->args;
	ap->next = (struct append_item){ .body = NULL };
	if (imap_peek(a, '(') && (!imap_flag_list(p, false, &ap->next.flags) || !imap_sp(a)))
		return false;
	if (imap_peek(a, '"') && (!imap_date_time(a, &ap->next.date_s, &ap->next.zone_min) || !imap_sp(a)))
		return false;
	if (imap_word(a, "CATENATE")) {
		if (!imap_sp(a) || !imap_open(a))
			return false;
		ap->catenates = true;
		return true;
	}
	if (imap_word(a, "UTF8")) {
		if (!imap_sp(a) || !imap_open(a))
			return false;
		ap->utf8 = true;
	}
	ap->wants = APPEND_WANTS_MESSAGE;
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
	if (!bytes && ap->wants == APPEND_WANTS_MESSAGE)
		imap_append_refuse(ap, IMAP_S_NO, "CANNOT", "a message of no octets");
	else if (bytes > imap_settings.message_bytes_max)
		imap_append_refuse(ap, IMAP_S_NO, "TOOBIG", "the message is too large");
	else if (p->subject->quota_bytes && bytes > freed && usage.bytes + ap->bytes + bytes > p->subject->quota_bytes + freed)
		imap_append_refuse(ap, IMAP_S_NO, "OVERQUOTA", "over quota");
	ap->bytes += bytes;
}

void imap_append_put(struct appending *ap, struct slice bytes)
{
	enum err e = ap->writer ? body_write(ap->writer, bytes) : OK;
	if (e == OK)
		return;
	body_abort(ap->writer);
	ap->writer = NULL;
	refuse_err(ap, e);
}

static enum step take(struct imap_session *p, struct slice bytes)
{
	struct appending *ap = p->cmd->state;
	if (ap->wants != APPEND_WANTS_URL)
		imap_append_put(ap, bytes);
	else if (!buf_put(&ap->url, bytes.ptr, bytes.len))
		imap_append_refuse(ap, IMAP_S_NO, "BADURL long", "a URL too long");
	return STEP_DATA;
}

void imap_append_whole(struct appending *ap)
{
	if (!ap->writer)
		return;
	enum err e = body_end(ap->writer, &ap->items[ap->count - 1].body);
	ap->writer = NULL;
	if (e != OK)
		refuse_err(ap, e);
}

static enum step taken(struct imap_session *p)
{
	struct appending *ap = p->cmd->state;
	if (ap->wants == APPEND_WANTS_MESSAGE)
		imap_append_whole(ap);
	else if (ap->wants == APPEND_WANTS_URL)
		imap_catenate_url(p, ap, buf_slice(&ap->url));
	ap->wants = APPEND_WANTS_NOTHING;
	return STEP_NEXT;
}

/* Another message, with the options that were read. */
static void begin_message(struct appending *ap)
{
	if (ap->count >= IMAP_APPEND_MESSAGES_MAX)
		imap_append_refuse(ap, IMAP_S_NO, "LIMIT", "too many messages in one command");
	if (ap->replaces && ap->count)
		imap_append_refuse(ap, IMAP_S_BAD, NULL, "one message takes one's place");
	if (ap->status != IMAP_S_OK)
		return;
	if (ap->count == ap->cap) {
		ap->cap = ap->cap ? 2 * ap->cap : 1;
		ap->items = xrealloc(ap->items, ap->cap * sizeof *ap->items);
	}
	ap->items[ap->count++] = ap->next;
	enum err e = body_begin(BODY_MEND, &ap->writer);
	if (e != OK) {
		ap->writer = NULL;
		refuse_err(ap, e);
	}
}

/* What stands between two literals, or behind the last: the rest of CATENATE's parts, the next messages' options. */
static bool read_on(struct imap_session *p, struct appending *ap)
{
	struct imap_args *a = &p->cmd->args;
	ap->wants = APPEND_WANTS_NOTHING;
	if (ap->utf8 && !imap_need(a, ')'))
		return false;
	ap->utf8 = false;
	for (;;) {
		if (ap->catenates && !imap_catenate_read(p, ap))
			return false;
		if (ap->wants != APPEND_WANTS_NOTHING || imap_at_end(a))
			return true;
		if (!imap_sp(a) || !read_options(p, ap))
			return false;
		begin_message(ap);
	}
}

static enum step rest(struct imap_session *p, struct slice line);

static enum step begin_literal(struct imap_session *p, struct appending *ap, const struct imap_literal *literal)
{
	struct imap_command *c = p->cmd;
	if (ap->wants == APPEND_WANTS_URL && literal->bytes > IMAP_URL_BYTES_MAX)
		imap_append_refuse(ap, IMAP_S_NO, "BADURL long", "a URL too long");
	else if (ap->wants != APPEND_WANTS_URL)
		judge_size(p, ap, literal->bytes);
	if (ap->status != IMAP_S_OK && literal->sync)
		return end(p, ap);
	if (ap->status != IMAP_S_OK && literal->bytes > imap_settings.message_bytes_max) {
		REPLY_LIT(&p->s.reply, "* BYE [TOOBIG] the literal is far too large\r\n");
		return STEP_CLOSE;
	}
	buf_release(&ap->url);
	buf_init(&ap->url, IMAP_URL_BYTES_MAX);
	c->gathering = IMAP_STREAMED;
	c->literal_left = literal->bytes;
	ap->binary = literal->binary;
	c->data = take;
	c->data_end = taken;
	c->rest = rest;
	if (literal->sync)
		REPLY_LIT(&p->s.reply, "+ OK\r\n");
	return literal->bytes ? STEP_DATA : taken(p);
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

/* All is said. */
static enum step conclude(struct imap_session *p, struct appending *ap)
{
	if (ap->wants == APPEND_WANTS_MESSAGE)
		imap_append_refuse(ap, IMAP_S_BAD, NULL, "expected a message, as a literal");
	else if (ap->wants != APPEND_WANTS_NOTHING || ap->catenates)
		imap_append_refuse(ap, IMAP_S_BAD, NULL, "CATENATE without its end");
	return ap->status == IMAP_S_OK ? store(p, ap) : end(p, ap);
}

/* The line behind a literal. */
static enum step rest(struct imap_session *p, struct slice line)
{
	struct imap_command *c = p->cmd;
	struct appending *ap = c->state;
	struct imap_literal literal;
	bool more = imap_literal_at_end(line, &literal);
	struct slice kept = arena_slice(&c->arena, slice_upto(line, more ? literal.begin : line.len));
	if (!kept.ptr)
		return STEP_ABORT;
	imap_args_init(&c->args, kept, &c->arena, c->args.utf8);
	if (!read_on(p, ap))
		imap_append_refuse(ap, IMAP_S_BAD, NULL, c->args.why);
	if (more && ap->wants == APPEND_WANTS_NOTHING) {
		imap_append_refuse(ap, IMAP_S_BAD, NULL, "a literal that nothing asks for");
		ap->wants = APPEND_WANTS_TEXT; /* to stay in step */
	}
	return more ? begin_literal(p, ap, &literal) : conclude(p, ap);
}

/* Mailbox and what follows, up to the first literal or the end. */
static void read_first(struct imap_session *p, struct appending *ap)
{
	struct imap_args *a = &p->cmd->args;
	p->cmd->state = ap;
	p->cmd->drop = drop;
	if (!imap_mailbox(a, &ap->name)) {
		imap_append_refuse(ap, a->bad_name ? IMAP_S_NO : IMAP_S_BAD, a->bad_name ? "CANNOT" : NULL, a->why);
		return;
	}
	if (imap_at_end(a)) {
		imap_append_refuse(ap, IMAP_S_BAD, NULL, "expected a message, as a literal");
		return;
	}
	judge_first(p, ap);
	if (!read_on(p, ap)) {
		ap->status = IMAP_S_OK; /* what is out of form is told before anything else */
		imap_append_refuse(ap, IMAP_S_BAD, NULL, a->why);
	}
}

/* Is what has come so far "tag APPEND mailbox [flags] [date]", so that the literal is a message? A mailbox that is itself a literal is not. */
bool imap_append_literal(struct imap_session *p, const struct imap_literal *literal, enum step *step_out)
{
	struct imap_command *c = p->cmd;
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
	read_first(p, ap);
	if (ap->wants == APPEND_WANTS_NOTHING) /* refused: to stay in step */
		ap->wants = APPEND_WANTS_TEXT;
	*step_out = begin_literal(p, ap, literal);
	return true;
}

/* Without a literal: all its parts are URLs, or something is missing. */
static enum step append_whole(struct imap_session *p, bool replaces)
{
	struct imap_args *a = &p->cmd->args;
	struct appending *ap = arena_zalloc(a->arena, sizeof *ap);
	if (!ap)
		return imap_fail(p, ERR_LIMIT);
	if ((replaces && !imap_replace_read(p, ap)) || !imap_sp(a))
		return imap_bad_args(p);
	read_first(p, ap);
	return conclude(p, ap);
}

enum step imap_cmd_append(struct imap_session *p) { return append_whole(p, false); }
enum step imap_cmd_replace(struct imap_session *p) { return append_whole(p, true); }
