/* SPDX-License-Identifier: Apache-2.0 */
/* imap_fetch_items.c - what FETCH is asked for (RFC 9051 section 6.4.5, fetch-att), and its modifiers (RFC 7162, RFC 9394). */
#include "net/imap/imap_fetch.h"
#include "net/imap/imap_search.h"

static struct imap_item *add(struct imap_session *p, struct imap_fetch *f, enum imap_item_kind kind)
{
	if (f->item_count == f->item_cap) {
		size_t cap = f->item_cap ? 2 * f->item_cap : 8;
		struct imap_item *more = cap > IMAP_FETCH_ITEMS_MAX ? NULL : arena_zalloc(&p->cmd->arena, cap * sizeof *more);
		if (!more) {
			p->cmd->args.why = "too many items";
			return NULL;
		}
		if (f->item_count)
			memcpy(more, f->items, f->item_count * sizeof *more);
		f->items = more;
		f->item_cap = cap;
	}
	struct imap_item *item = &f->items[f->item_count++];
	*item = (struct imap_item){ .kind = (uint8_t)kind };
	return item;
}

static const struct simple {
	const char *name;
	enum imap_item_kind kind;
} simple[] = {
	{ "FLAGS", ITEM_FLAGS },       { "UID", ITEM_UID },           { "INTERNALDATE", ITEM_INTERNALDATE }, { "RFC822.SIZE", ITEM_SIZE },
	{ "ENVELOPE", ITEM_ENVELOPE }, { "BODYSTRUCTURE", ITEM_BODYSTRUCTURE },
	{ "MODSEQ", ITEM_MODSEQ },     { "SAVEDATE", ITEM_SAVEDATE }, { "EMAILID", ITEM_EMAILID },           { "THREADID", ITEM_THREADID },
};

/* ---- BODY[...] ---- */

static bool read_fields(struct imap_session *p, struct imap_item *item)
{
	struct imap_args *a = &p->cmd->args;
	size_t cap = 0;
	if (!imap_sp(a) || !imap_open(a))
		return false;
	for (bool first = true; imap_more(a, &first);) {
		if (item->field_count == cap) {
			cap = cap ? 2 * cap : 16;
			struct slice *more = cap > IMAP_FETCH_FIELDS_MAX ? NULL : arena_alloc(a->arena, cap * sizeof *more);
			if (!more) {
				a->why = "too many header fields";
				return false;
			}
			if (item->field_count)
				memcpy(more, item->fields, item->field_count * sizeof *more);
			item->fields = more;
		}
		if (!imap_astring(a, &item->fields[item->field_count++]))
			return false;
	}
	if (!item->field_count)
		a->why = "no header field is named";
	return item->field_count > 0;
}

/* "2.1": numbers, and the dot behind them if a name follows. */
static bool read_numbers(struct imap_session *p, struct imap_item *item, bool *dot_out)
{
	struct imap_args *a = &p->cmd->args;
	uint64_t n;
	*dot_out = true;
	while (a->at < a->end && *a->at >= '0' && *a->at <= '9') {
		if (!item->numbers)
			item->numbers = arena_alloc(a->arena, IMAP_PART_DEPTH_MAX * sizeof *item->numbers);
		a->why = "a part nested too deep";
		if (!item->numbers || item->number_count == IMAP_PART_DEPTH_MAX || !imap_number(a, UINT32_MAX, &n))
			return false;
		a->why = "no part has the number 0";
		if (!n)
			return false;
		item->numbers[item->number_count++] = (uint32_t)n;
		*dot_out = imap_skip(a, '.');
	}
	a->why = "no such section";
	return *dot_out != imap_peek(a, ']') || !item->number_count;
}

/* Behind "[": up to "]". */
static bool read_section(struct imap_session *p, struct imap_item *item)
{
	struct imap_args *a = &p->cmd->args;
	bool dot;
	if (!read_numbers(p, item, &dot))
		return false;
	if (imap_peek(a, ']'))
		item->section = SECTION_ALL;
	else if (item->number_count && imap_word(a, "MIME"))
		item->section = SECTION_MIME;
	else if (imap_word(a, "HEADER.FIELDS.NOT"))
		item->section = SECTION_FIELDS_NOT;
	else if (imap_word(a, "HEADER.FIELDS"))
		item->section = SECTION_FIELDS;
	else if (imap_word(a, "HEADER"))
		item->section = SECTION_HEADER;
	else if (imap_word(a, "TEXT"))
		item->section = SECTION_TEXT;
	else {
		a->why = "no such section";
		return false;
	}
	if ((item->section == SECTION_FIELDS || item->section == SECTION_FIELDS_NOT) && !read_fields(p, item))
		return false;
	return imap_need(a, ']');
}

static bool read_partial(struct imap_session *p, struct imap_item *item)
{
	struct imap_args *a = &p->cmd->args;
	if (!imap_skip(a, '<'))
		return true;
	item->partial = true;
	if (!imap_number(a, UINT32_MAX, &item->from) || !imap_need(a, '.') || !imap_number(a, UINT32_MAX, &item->length) || !imap_need(a, '>'))
		return false;
	a->why = "a part of no length";
	return item->length > 0;
}

/* A name as the client knows it: an atom, or quoted. */
static bool put_field(struct buf *b, struct slice name)
{
	bool atom = name.len > 0, good;
	for (size_t k = 0; k < name.len; k++)
		atom &= name.ptr[k] > ' ' && name.ptr[k] < 0x7f && !strchr("(){%*\"\\]", name.ptr[k]);
	good = atom || buf_put(b, "\"", 1);
	for (size_t k = 0; k < name.len && good; k++)
		good = ((name.ptr[k] != '"' && name.ptr[k] != '\\') || buf_put(b, "\\", 1)) && buf_put(b, &name.ptr[k], 1);
	return good && (atom || buf_put(b, "\"", 1));
}

/* "BODY[HEADER.FIELDS (From To)]", as the client said it, so that it knows its answer again. Literals become plain text. */
static bool make_label(struct imap_session *p, struct imap_item *item, const char *name)
{
	static const char *const names[] = { "", "HEADER", "TEXT", "HEADER.FIELDS (", "HEADER.FIELDS.NOT (", "MIME" };
	struct buf b;
	buf_init(&b, IMAP_COMMAND_BYTES_MAX);
	bool good = buf_printf(&b, "%s[", name);
	for (size_t i = 0; i < item->number_count && good; i++)
		good = buf_printf(&b, "%s%u", i ? "." : "", item->numbers[i]);
	good = good && buf_printf(&b, "%s%s", item->number_count && item->section != SECTION_ALL ? "." : "", names[item->section]);
	for (size_t i = 0; i < item->field_count && good; i++) {
		good = (i == 0 || buf_put(&b, " ", 1)) && put_field(&b, item->fields[i]);
	}
	good = good && (!item->field_count || buf_put(&b, ")", 1)) && buf_put(&b, "]", 1);
	item->label = good ? arena_slice(&p->cmd->arena, buf_slice(&b)) : slice_of(NULL, 0);
	buf_release(&b);
	return item->label.ptr != NULL;
}

static bool read_body(struct imap_session *p, struct imap_fetch *f, bool peek)
{
	struct imap_item *item = add(p, f, ITEM_BODY);
	if (!item)
		return false;
	item->peek = peek;
	f->marks_seen |= !peek;
	f->needs_source = true;
	if (!read_section(p, item) || !read_partial(p, item) || !make_label(p, item, "BODY"))
		return false;
	item->kept = !item->number_count && item->section == SECTION_FIELDS;
	for (size_t i = 0; i < item->field_count && item->kept; i++)
		item->kept = mime_field_kept(item->fields[i]);
	f->needs_bytes |= !item->kept;
	return true;
}

/* RFC 3516, RFC 9051: BINARY[2] decoded; BINARY.SIZE[2] tells how much that is. */
static bool read_binary(struct imap_session *p, struct imap_fetch *f, bool size, bool peek)
{
	struct imap_item *item = add(p, f, size ? ITEM_BINARY_SIZE : ITEM_BINARY);
	bool dot;
	if (!item)
		return false;
	f->marks_seen |= !peek && !size;
	f->needs_source = true;
	f->needs_bytes |= !size; /* how large it is decoded may be known */
	return imap_need(&p->cmd->args, '[') && read_numbers(p, item, &dot) && imap_need(&p->cmd->args, ']') && (size || read_partial(p, item)) &&
	       make_label(p, item, size ? "BINARY.SIZE" : "BINARY");
}

/* PREVIEW, PREVIEW (LAZY): RFC 8970. What else stands in parentheses are FETCH's own modifiers. */
static bool read_preview(struct imap_session *p, struct imap_fetch *f)
{
	struct imap_args *a = &p->cmd->args, ahead = *a;
	struct imap_item *item = add(p, f, ITEM_PREVIEW);
	if (!item)
		return false;
	f->needs_source = true;
	if (!imap_skip(&ahead, ' ') || !imap_skip(&ahead, '(') || !imap_word(&ahead, "LAZY"))
		return true;
	while (imap_skip(&ahead, ' '))
		if (!imap_word(&ahead, "LAZY"))
			break;
	item->lazy = true;
	a->at = ahead.at;
	return imap_need(a, ')');
}

/* RFC 3501's old names for sections. */
static bool old_name(struct imap_session *p, struct imap_fetch *f, enum imap_section section, bool peek, const char *label)
{
	struct imap_item *item = add(p, f, ITEM_BODY);
	if (!item)
		return false;
	item->section = (uint8_t)section;
	item->peek = peek;
	item->label = slice_str(label);
	f->marks_seen |= !peek;
	f->needs_source = f->needs_bytes = true;
	return true;
}

/* ---- all ---- */

static bool read_item(struct imap_session *p, struct imap_fetch *f)
{
	struct imap_args *a = &p->cmd->args;
	for (size_t i = 0; i < ARRAY_LEN(simple); i++) {
		if (!imap_word(a, simple[i].name))
			continue;
		enum imap_item_kind kind = simple[i].kind;
		f->has_uid |= kind == ITEM_UID;
		f->has_flags |= kind == ITEM_FLAGS;
		f->has_modseq |= kind == ITEM_MODSEQ;
		f->needs_source |= kind == ITEM_INTERNALDATE || kind == ITEM_SAVEDATE || kind == ITEM_EMAILID ||
				   kind == ITEM_ENVELOPE || kind == ITEM_BODYSTRUCTURE;
		return add(p, f, kind) != NULL;
	}
	if (imap_word(a, "PREVIEW"))
		return read_preview(p, f);
	if (imap_word(a, "BINARY.SIZE"))
		return read_binary(p, f, true, true);
	if (imap_word(a, "BINARY.PEEK"))
		return read_binary(p, f, false, true);
	if (imap_word(a, "BINARY"))
		return read_binary(p, f, false, false);
	if (imap_word(a, "BODY.PEEK"))
		return imap_need(a, '[') && read_body(p, f, true);
	if (a->end - a->at > 5 && slice_eq_nocase(slice_of(a->at, 5), SLICE_LIT("BODY["))) {
		a->at += 5;
		return read_body(p, f, false);
	}
	if (imap_word(a, "BODY")) {
		f->needs_source = true;
		return add(p, f, ITEM_BODY_SHORT) != NULL;
	}
	if (imap_word(a, "RFC822.HEADER"))
		return old_name(p, f, SECTION_HEADER, true, "RFC822.HEADER");
	if (imap_word(a, "RFC822.TEXT"))
		return old_name(p, f, SECTION_TEXT, false, "RFC822.TEXT");
	if (imap_word(a, "RFC822"))
		return old_name(p, f, SECTION_ALL, false, "RFC822");
	a->why = "no such item";
	return false;
}

/* FAST, ALL, FULL: the first three, four or five of these. */
static bool read_macro(struct imap_session *p, struct imap_fetch *f, unsigned count)
{
	static const enum imap_item_kind items[] = { ITEM_FLAGS, ITEM_INTERNALDATE, ITEM_SIZE, ITEM_ENVELOPE, ITEM_BODY_SHORT };
	f->has_flags = f->needs_source = true;
	for (unsigned i = 0; i < count; i++)
		if (!add(p, f, items[i]))
			return false;
	return true;
}

static bool read_one(struct imap_session *p, struct imap_fetch *f)
{
	struct imap_args *a = &p->cmd->args;
	unsigned count = imap_word(a, "FAST") ? 3 : imap_word(a, "ALL") ? 4 : imap_word(a, "FULL") ? 5 : 0;
	return count ? read_macro(p, f, count) : read_item(p, f);
}

static bool read_modifiers(struct imap_session *p, struct imap_fetch *f)
{
	struct imap_args *a = &p->cmd->args;
	bool changed = false;
	if (imap_at_end(a))
		return true;
	if (!imap_sp(a) || !imap_open(a))
		return false;
	for (bool first = true; imap_more(a, &first);) {
		if (imap_word(a, "CHANGEDSINCE")) {
			if (!imap_sp(a) || !imap_number(a, INT64_MAX, &f->changed_since))
				return false;
			changed = true;
		} else if (imap_word(a, "VANISHED")) {
			f->vanished = true;
		} else if (p->cmd->uid && !f->partial_first && imap_word(a, "PARTIAL")) { /* RFC 9394 section 3.3: of UID FETCH alone */
			if (!imap_sp(a) || !imap_partial_range(a, &f->partial_first, &f->partial_last, &f->partial_from_end))
				return false;
		} else {
			a->why = "no such modifier";
			return false;
		}
	}
	if (changed)
		imap_condstore_on(p);
	if (changed && !f->has_modseq) {
		f->has_modseq = true;
		if (!add(p, f, ITEM_MODSEQ))
			return false;
	}
	if (f->vanished && (!changed || !p->cmd->uid || !(p->enabled & IMAP_QRESYNC))) {
		a->why = "VANISHED wants UID FETCH, CHANGEDSINCE and ENABLE QRESYNC"; /* RFC 7162 section 3.2.6 */
		return false;
	}
	return imap_end(a);
}

bool imap_fetch_read_items(struct imap_session *p, struct imap_fetch *f)
{
	struct imap_args *a = &p->cmd->args;
	if (imap_skip(a, '(')) {
		for (bool first = true; imap_more(a, &first);)
			if (!read_item(p, f))
				return false;
		if (!f->item_count) {
			a->why = "no item is named";
			return false;
		}
	} else if (!read_one(p, f)) {
		return false;
	}
	if (f->has_modseq)
		imap_condstore_on(p);
	if (p->cmd->uid && !f->has_uid && !(p->enabled & IMAP_UIDONLY) && !add(p, f, ITEM_UID))
		return false;
	return read_modifiers(p, f);
}
