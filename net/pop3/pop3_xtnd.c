/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pop3_xtnd.c - XTND (RFC 1082), where a tenant allows it: XLST, which lists one header field of all messages; XMIT is in pop3_xmit.c.
 *
 *     C: XTND XLST Message-Id            (or: XTND XLST Subject 5)
 *     S: +OK xlst command accepted; headers coming.
 *     S: 1 Message-ID: <3117E4DC.2699@example>
 *     S: 2 Message-Id: <1996...@example>
 *     S: .
 *
 * The field is given with or without its colon and is a whole name in any case; its first occurrence is shown as it is stored,
 * folded lines and all, behind the message's number.  A message that has no such field, or is deleted or damaged, has no line: clients
 * fall back to this when UIDL fails, and take a line without a third word for an empty id.
 */
#include "net/pop3/pop3_private.h"

#include "core/run/fiber.h"
#include "core/run/file.h"

#include <stdlib.h>

/* ---- one field of a header ---- */

/* Length of the field that the header begins with, its folded lines and their CRLFs included; 0 at its end. */
static size_t field_len(struct slice header)
{
	size_t len = 0;
	do {
		const char *lf = memchr(header.ptr + len, '\n', header.len - len);
		len = lf ? (size_t)(lf - header.ptr) + 1 : header.len;
	} while (len < header.len && (header.ptr[len] == ' ' || header.ptr[len] == '\t'));
	return len;
}

static bool has_name(struct slice field, struct slice name)
{
	if (!slice_starts_nocase(field, name))
		return false;
	size_t at = name.len;
	while (at < field.len && (field.ptr[at] == ' ' || field.ptr[at] == '\t')) /* RFC 5322 section 4.5 */
		at++;
	return at < field.len && field.ptr[at] == ':';
}

static struct slice find_field(struct slice header, struct slice name)
{
	while (header.len && header.ptr[0] != '\r' && header.ptr[0] != '\n') {
		size_t len = field_len(header);
		if (has_name(slice_upto(header, len), name))
			return slice_upto(header, len);
		header = slice_from(header, len);
	}
	return slice_of(NULL, 0);
}

/* Cut at a line's end if one fits; without its last CRLF. */
static struct slice bounded(struct slice field)
{
	if (field.len > POP3_XLST_FIELD_BYTES_MAX) {
		field.len = POP3_XLST_FIELD_BYTES_MAX;
		size_t lf = slice_rfind(field, '\n');
		field = slice_upto(field, lf == SIZE_MAX ? field.len : lf + 1);
	}
	while (field.len && (field.ptr[field.len - 1] == '\n' || field.ptr[field.len - 1] == '\r'))
		field.len--;
	return field;
}

static void put_field(struct pop3_session *p, uint32_t index, struct slice field, bool smtputf8)
{
	field = bounded(field);
	if (!field.len || (smtputf8 && !p->utf8 && pop3_eight_bit(field))) /* RFC 6856 */
		return;
	reply_u64(&p->s.reply, (uint64_t)index + 1);
	REPLY_LIT(&p->s.reply, " ");
	reply_put(&p->s.reply, field); /* no line of it begins with a dot: a number, then blanks */
	REPLY_LIT(&p->s.reply, "\r\n");
}

/* ---- one message ---- */

static void search(struct pop3_session *p, uint32_t index, const struct message_source *m, struct slice header)
{
	struct slice field = find_field(m->prefix, p->name);
	if (!field.len)
		field = find_field(header, p->name);
	put_field(p, index, field, pop3_is_smtputf8(m));
}

static void search_file(struct pop3_session *p, uint32_t index, const struct message_source *m)
{
	size_t want = (size_t)min_u64(m->header_bytes, POP3_XLST_HEADER_BYTES_MAX);
	char *header = xmalloc(want + 1);
	int64_t got = file_read(m->fd, header, want, m->offset);
	search(p, index, m, slice_of(header, got < 0 ? 0 : (size_t)got));
	free(header);
}

static enum err list_message(struct pop3_session *p, uint32_t index)
{
	struct message_source m;
	enum err e = message_open(p->view, index, &m);
	if (e != OK)
		return e;
	if (m.body)
		search(p, index, &m, slice_of(m.body, (size_t)m.header_bytes));
	else
		search_file(p, index, &m);
	message_close(&m);
	return OK;
}

/* ---- the listing ---- */

static enum step end(struct pop3_session *p)
{
	p->cursor = POP3_NOTHING;
	p->name = slice_of(NULL, 0);
	arena_release(&p->s.arena);
	REPLY_LIT(&p->s.reply, ".\r\n");
	return STEP_NEXT;
}

enum step pop3_xlst_on(struct pop3_session *p)
{
	for (; p->at < p->until; p->at++) {
		if (reply_full(&p->s.reply))
			return STEP_RESUME;
		if (p->deleted.words && bits_get(&p->deleted, p->at))
			continue;
		enum err e = list_message(p, p->at);
		if (session_dying(&p->s) || (e != OK && e != ERR_CORRUPT))
			return STEP_ABORT; /* half a listing would be taken for a whole one */
		fiber_breathe();
	}
	return end(p);
}

/* RFC 5322 section 2.2: printable ASCII without the colon; one at the end is let go. */
static bool is_field_name(struct slice *name_io)
{
	if (name_io->len && name_io->ptr[name_io->len - 1] == ':')
		name_io->len--;
	for (size_t i = 0; i < name_io->len; i++)
		if ((unsigned char)name_io->ptr[i] < 33 || (unsigned char)name_io->ptr[i] > 126 || name_io->ptr[i] == ':')
			return false;
	return name_io->len > 0;
}

static enum step xlst(struct pop3_session *p, struct slice args)
{
	size_t space = slice_find(args, ' ');
	struct slice name = slice_upto(args, space), number = space == SIZE_MAX ? slice_of(NULL, 0) : slice_trim(slice_from(args, space));
	uint32_t index = 0;
	if (!args.len)
		return pop3_bad(p, POP3_W_XLST_FEW);
	if (slice_find(number, ' ') != SIZE_MAX)
		return pop3_bad(p, POP3_W_XLST_MANY);
	if (!is_field_name(&name))
		return pop3_bad(p, POP3_W_SYNTAX);
	if (number.len && !pop3_message_or_reply(p, number, &index))
		return STEP_NEXT;
	p->name = arena_slice(&p->s.arena, name);
	if (!p->name.ptr)
		return pop3_bad(p, POP3_W_TOO_BIG);
	pop3_word(p, POP3_W_XLST);
	p->cursor = POP3_XLISTING;
	p->at = index;
	p->until = number.len ? index + 1 : view_count(p->view);
	return pop3_xlst_on(p);
}

enum step pop3_xtnd(struct pop3_session *p, const struct pop3_line *l)
{
	size_t space = slice_find(l->words, ' ');
	struct slice word = slice_upto(l->words, space), args = space == SIZE_MAX ? slice_of(NULL, 0) : slice_trim(slice_from(l->words, space));
	if (!p->subject->xtnd)
		return pop3_bad(p, POP3_W_UNKNOWN);
	if (p->subject->xtnd & XTND_XLST && slice_eq_nocase(word, SLICE_LIT("XLST")))
		return xlst(p, args);
	if (!(p->subject->xtnd & XTND_XMIT) || !slice_eq_nocase(word, SLICE_LIT("XMIT")))
		return pop3_bad(p, POP3_W_XTND_UNKNOWN);
	return args.len ? pop3_bad(p, POP3_W_XMIT_MANY) : pop3_xmit(p);
}
