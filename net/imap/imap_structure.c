/* SPDX-License-Identifier: Apache-2.0 */
/*
 * imap_structure.c - see imap_structure.h.
 *
 * The tree is walked by its links, without recursion: entering a multipart opens a parenthesis, leaving it says what it was.  Texts
 * stay as they were sent, encoded words too; what is not printable ASCII goes out as a literal, unless the client takes UTF-8.
 */
#include "net/imap/imap_structure.h"

#include "core/base/limits.h"
#include "net/imap/imap_parse.h"

struct out {
	struct buf *b;
	struct arena *scratch;
	bool utf8, extended;
	enum err e;
};

static void put(struct out *o, const char *text)
{
	if (!buf_put(o->b, text, strlen(text)))
		o->e = ERR_LIMIT;
}

static void put_bytes(struct out *o, struct slice s)
{
	if (s.len && !buf_put(o->b, s.ptr, s.len))
		o->e = ERR_LIMIT;
}

static void put_number(struct out *o, uint64_t n)
{
	if (!buf_printf(o->b, "%llu", (unsigned long long)n))
		o->e = ERR_LIMIT;
}

/* ---- strings ---- */

static bool quotable(const struct out *o, struct slice s)
{
	bool eight = false;
	if (s.len > IMAP_QUOTED_BYTES_MAX)
		return false;
	for (size_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.ptr[i];
		if (c == 0 || c == '\r' || c == '\n')
			return false;
		eight |= c > 126;
	}
	return !eight || (o->utf8 && imap_utf8_good(s));
}

/* NUL is in no literal: it becomes 0x80, as RFC 3030's kin do, so that lengths stay. */
static void put_literal(struct out *o, struct slice s)
{
	put(o, "{");
	put_number(o, s.len);
	put(o, "}\r\n");
	char *room = buf_room(o->b, s.len);
	if (!room) {
		o->e = ERR_LIMIT;
		return;
	}
	for (size_t i = 0; i < s.len; i++)
		room[i] = s.ptr[i] ? s.ptr[i] : (char)0x80;
	o->b->len += s.len;
}

static void put_string(struct out *o, struct slice s)
{
	if (!quotable(o, s)) {
		put_literal(o, s);
		return;
	}
	put(o, "\"");
	size_t begin = 0;
	for (size_t i = 0; i < s.len; i++)
		if (s.ptr[i] == '"' || s.ptr[i] == '\\') {
			put_bytes(o, slice_of(s.ptr + begin, i - begin));
			put(o, "\\");
			begin = i;
		}
	put_bytes(o, slice_from(s, begin));
	put(o, "\"");
}

static void put_nstring(struct out *o, struct slice s)
{
	if (s.ptr)
		put_string(o, s);
	else
		put(o, "NIL");
}

/* A field's value without its folding; absent, or empty: NIL. */
static struct slice value_of(struct out *o, struct slice fields, const char *name)
{
	struct slice value;
	if (!mime_field_find(fields, slice_str(name), &value))
		return slice_of(NULL, 0);
	value = mime_unfold(o->scratch, value);
	if (!value.ptr)
		o->e = ERR_LIMIT;
	return value;
}

/* ---- ENVELOPE ---- */

static void put_address(struct out *o, const struct mime_address *a)
{
	const struct slice nil = slice_of(NULL, 0);
	bool person = a->kind == MIME_MAILBOX;
	put(o, "(");
	put_nstring(o, person ? a->name : nil);
	put(o, " ");
	put_nstring(o, person && a->route.len ? a->route : nil);
	put(o, " ");
	put_nstring(o, a->kind == MIME_GROUP_END ? nil : a->mailbox);
	put(o, " ");
	put_nstring(o, person ? a->host : nil);
	put(o, ")");
}

/* The addresses of one field, behind a parenthesis that the first opens. */
static size_t put_list(struct out *o, struct slice value, bool opened)
{
	const struct mime_address *list = NULL;
	size_t count = 0;
	if (mime_addresses(o->scratch, value, &list, &count) != OK)
		o->e = ERR_LIMIT;
	if (count && !opened)
		put(o, " (");
	for (size_t i = 0; i < count && o->e == OK; i++)
		put_address(o, &list[i]);
	return count;
}

/* The fields of an envelope, found in one pass: the first of each name, and how many there are. */
enum envelope_field { E_DATE, E_SUBJECT, E_FROM, E_SENDER, E_REPLY_TO, E_TO, E_CC, E_BCC, E_IN_REPLY_TO, E_MESSAGE_ID, E_COUNT };
#define NAMED(lit) { lit, sizeof(lit) - 1 }
static const struct slice envelope_names[E_COUNT] = {
	[E_DATE] = NAMED("Date"), [E_SUBJECT] = NAMED("Subject"), [E_FROM] = NAMED("From"), [E_SENDER] = NAMED("Sender"), [E_REPLY_TO] = NAMED("Reply-To"),
	[E_TO] = NAMED("To"), [E_CC] = NAMED("Cc"), [E_BCC] = NAMED("Bcc"), [E_IN_REPLY_TO] = NAMED("In-Reply-To"), [E_MESSAGE_ID] = NAMED("Message-ID"),
};
struct envelope {
	struct slice fields;
	struct slice first[E_COUNT];
	uint32_t times[E_COUNT];
	size_t from, from_bytes; /* where its From is in the output */
};

static void collect(struct envelope *e, struct slice fields)
{
	struct slice name, value;
	*e = (struct envelope){ .fields = fields };
	while (mime_field_next(&fields, &name, &value))
		for (size_t i = 0; i < E_COUNT; i++)
			if (name.len == envelope_names[i].len && slice_eq_nocase(name, envelope_names[i])) {
				if (!e->times[i]++)
					e->first[i] = value;
				break;
			}
}

/* " (...)" or " NIL" */
static void put_from(struct out *o, struct envelope *e)
{
	e->from = o->b->len;
	put(o, e->times[E_FROM] && put_list(o, e->first[E_FROM], false) ? ")" : " NIL");
	e->from_bytes = o->b->len - e->from;
}

/* Sender, Reply-To: From counts where they are not there or name nobody. */
static void put_author(struct out *o, const struct envelope *e, enum envelope_field which)
{
	if (e->times[which] && put_list(o, e->first[which], false)) {
		put(o, ")");
		return;
	}
	char *room = buf_room(o->b, e->from_bytes);
	if (!room) {
		o->e = ERR_LIMIT;
		return;
	}
	memcpy(room, o->b->ptr + e->from, e->from_bytes);
	o->b->len += e->from_bytes;
}

/* To, Cc, Bcc: several fields count as one (RFC 5322 section 4.5.3). */
static void put_recipients(struct out *o, const struct envelope *e, enum envelope_field which)
{
	struct slice fields = e->fields, found, value;
	size_t count = 0;
	if (e->times[which] == 1)
		count = put_list(o, e->first[which], false);
	while (o->e == OK && e->times[which] > 1 && mime_field_next(&fields, &found, &value))
		if (slice_eq_nocase(found, envelope_names[which]))
			count += put_list(o, value, count > 0);
	put(o, count ? ")" : " NIL");
}

static void put_value(struct out *o, const struct envelope *e, enum envelope_field which)
{
	struct slice value = e->times[which] ? mime_unfold(o->scratch, e->first[which]) : slice_of(NULL, 0);
	if (e->times[which] && !value.ptr)
		o->e = ERR_LIMIT;
	put_nstring(o, value);
}

static void envelope(struct out *o, struct slice fields)
{
	struct envelope e;
	collect(&e, fields);
	put(o, "(");
	put_value(o, &e, E_DATE);
	put(o, " ");
	put_value(o, &e, E_SUBJECT);
	put_from(o, &e);
	put_author(o, &e, E_SENDER);
	put_author(o, &e, E_REPLY_TO);
	put_recipients(o, &e, E_TO);
	put_recipients(o, &e, E_CC);
	put_recipients(o, &e, E_BCC);
	put(o, " ");
	put_value(o, &e, E_IN_REPLY_TO);
	put(o, " ");
	put_value(o, &e, E_MESSAGE_ID);
	put(o, ")");
}

enum err imap_put_envelope(struct buf *out, struct arena *scratch, struct slice fields, bool utf8)
{
	struct out o = { .b = out, .scratch = scratch, .utf8 = utf8, .e = OK };
	envelope(&o, fields);
	return o.e;
}

enum err imap_put_text(struct buf *out, struct slice text, bool utf8)
{
	struct out o = { .b = out, .utf8 = utf8, .e = OK };
	put_string(&o, text);
	return o.e;
}

/* ---- BODYSTRUCTURE ---- */

static void put_params(struct out *o, const struct mime_value *sent)
{
	struct mime_value v;
	if (!sent->param_count) {
		put(o, "NIL");
		return;
	}
	if (mime_params_join(o->scratch, sent, &v) != OK) {
		o->e = ERR_LIMIT;
		return;
	}
	put(o, "(");
	for (size_t i = 0; i < v.param_count; i++) {
		put(o, i ? " " : "");
		put_string(o, v.params[i].name);
		put(o, " ");
		put_string(o, v.params[i].value);
	}
	put(o, ")");
}

static struct mime_value type_of(struct out *o, const struct mime_part *part)
{
	struct mime_value v = { SLICE_LIT("text"), SLICE_LIT("plain"), NULL, 0 };
	if (mime_part_type(o->scratch, part, &v) == ERR_LIMIT)
		o->e = ERR_LIMIT;
	return v;
}

static void put_disposition(struct out *o, struct slice fields)
{
	struct mime_value v;
	enum err e = mime_disposition(o->scratch, fields, &v);
	if (e != OK) {
		put(o, " NIL");
		return;
	}
	put(o, " (");
	put_string(o, v.type);
	put(o, " ");
	put_params(o, &v);
	put(o, ")");
}

/* "en, de": one is a string, more are a list. */
static void put_language(struct out *o, struct slice fields)
{
	struct slice value = value_of(o, fields, "Content-Language"), word;
	if (!value.len) {
		put(o, " NIL");
		return;
	}
	if (slice_find(value, ',') == SIZE_MAX) {
		put(o, " ");
		put_string(o, value);
		return;
	}
	put(o, " (");
	for (bool first = true; slice_next(&value, ',', &word);) {
		word = slice_trim(word);
		if (!word.len)
			continue;
		put(o, first ? "" : " ");
		put_string(o, word);
		first = false;
	}
	put(o, ")");
}

static void put_end(struct out *o, const struct mime_part *part)
{
	put_disposition(o, part->fields);
	put_language(o, part->fields);
	put(o, " ");
	put_nstring(o, value_of(o, part->fields, "Content-Location"));
}

/* The mechanism alone: what is behind it, comments, counts for nothing. */
static struct slice encoding_of(struct out *o, const struct mime_part *part)
{
	struct slice value = value_of(o, part->fields, "Content-Transfer-Encoding");
	size_t n = 0;
	while (n < value.len && value.ptr[n] > ' ' && value.ptr[n] != ';' && value.ptr[n] != '(')
		n++;
	return n ? slice_upto(value, n) : SLICE_LIT("7BIT");
}

static void put_basic(struct out *o, const struct mime_part *part, const struct mime_value *type)
{
	put(o, "(");
	put_string(o, type->type);
	put(o, " ");
	put_string(o, type->subtype);
	put(o, " ");
	put_params(o, type);
	put(o, " ");
	put_nstring(o, value_of(o, part->fields, "Content-ID"));
	put(o, " ");
	put_nstring(o, value_of(o, part->fields, "Content-Description"));
	put(o, " ");
	put_string(o, encoding_of(o, part));
	put(o, " ");
	put_number(o, part->body_bytes);
}

static void enter(struct out *o, const struct mime_tree *tree, const struct mime_part *part)
{
	if (part->kind == MIME_MULTIPART) {
		put(o, "(");
		return;
	}
	struct mime_value type = type_of(o, part);
	put_basic(o, part, &type);
	if (part->kind == MIME_MESSAGE) {
		put(o, " ");
		envelope(o, part->child == MIME_NO_PART ? slice_of("", 0) : tree->parts[part->child].fields);
		put(o, " ");
	} else if (slice_eq_nocase(type.type, SLICE_LIT("text"))) {
		put(o, " ");
		put_number(o, part->lines);
	}
}

static void leave(struct out *o, const struct mime_part *part)
{
	if (part->kind == MIME_MULTIPART) {
		struct mime_value type = type_of(o, part);
		put(o, " ");
		put_string(o, type.subtype);
		if (o->extended) {
			put(o, " ");
			put_params(o, &type);
		}
	} else {
		if (part->kind == MIME_MESSAGE) {
			put(o, " ");
			put_number(o, part->lines);
		}
		if (o->extended) {
			put(o, " ");
			put_nstring(o, value_of(o, part->fields, "Content-MD5"));
		}
	}
	if (o->extended)
		put_end(o, part);
	put(o, ")");
}

enum err imap_put_structure(struct buf *out, struct arena *scratch, const struct mime_tree *tree, bool extended, bool utf8)
{
	struct out o = { .b = out, .scratch = scratch, .utf8 = utf8, .extended = extended, .e = OK };
	uint32_t at = 0;
	while (o.e == OK) {
		const struct mime_part *part = &tree->parts[at];
		arena_reset(scratch); /* what a part's fields took; limits hold for each alone */
		enter(&o, tree, part);
		if (part->child != MIME_NO_PART) {
			at = part->child;
			continue;
		}
		leave(&o, part);
		while (part->next == MIME_NO_PART && part->parent != MIME_NO_PART) {
			part = &tree->parts[part->parent];
			leave(&o, part);
		}
		if (part->next == MIME_NO_PART)
			break;
		at = part->next;
	}
	return o.e;
}

/* ---- numbers ---- */

static const struct mime_part *nth_child(const struct mime_tree *tree, const struct mime_part *part, uint32_t n)
{
	uint16_t at = part->child;
	while (at != MIME_NO_PART && --n)
		at = tree->parts[at].next;
	return at == MIME_NO_PART ? NULL : &tree->parts[at];
}

const struct mime_part *imap_find_part(const struct mime_tree *tree, const uint32_t *numbers, size_t count)
{
	const struct mime_part *part = NULL, *in = &tree->parts[0];
	for (size_t i = 0; i < count; i++) {
		if (part && part->kind == MIME_LEAF)
			return NULL;
		if (part) /* into a multipart, or into the message inside */
			in = part->kind == MIME_MULTIPART ? part : part->child == MIME_NO_PART ? NULL : &tree->parts[part->child];
		if (!in || !numbers[i])
			return NULL;
		part = in->kind == MIME_MULTIPART ? nth_child(tree, in, numbers[i]) : numbers[i] == 1 ? in : NULL;
		if (!part)
			return NULL;
	}
	return part;
}
