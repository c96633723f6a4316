/* SPDX-License-Identifier: Apache-2.0 */
/*
 * imap_fetch_body.c - the bytes of a section.
 *
 * A message is its prefix (our own header lines, in memory) and its body (a range of a file, or the same bytes in memory); whole messages,
 * headers and texts are ranges of the two, so that a large one leaves without passing through our hands, like RETR.  Selected header
 * fields are gathered in memory, from a header of at most IMAP_HEADER_BYTES_MAX.
 */
#include "net/imap/imap_fetch.h"
#include "net/imap/imap_structure.h"

#include "core/run/fiber.h"

#include <stdlib.h>

void imap_bytes_release(struct imap_bytes *b)
{
	free(b->owned);
	free(b->decoder);
	*b = (struct imap_bytes){ .owned = NULL };
}

/* A piece through the decoder; what was asked for of it goes out. */
static __attribute__((noinline)) enum err flush_decoded(struct imap_session *p, struct imap_fetch *f)
{
	struct imap_bytes *b = &f->bytes;
	char raw[IMAP_DECODE_BYTES], plain[IMAP_DECODE_BYTES + 2 * sizeof b->decoder->hold];
	size_t n = (size_t)min_u64(b->end - b->at, sizeof raw);
	enum err e = imap_source_read(f->source, b->at, raw, n);
	if (e != OK)
		return e;
	b->at += n;
	size_t len = mime_decode(b->decoder, slice_of(raw, n), plain);
	if (b->at == b->end)
		len += mime_decode_end(b->decoder, plain + len);
	size_t skip = (size_t)min_u64(b->skip, len);
	b->skip -= skip;
	struct slice out = slice_upto(slice_of(plain + skip, len - skip), (size_t)min_u64(b->left, len - skip));
	b->left -= out.len;
	if (b->left && b->at == b->end)
		return ERR_CORRUPT; /* less than its structure says: the literal's length is out already */
	if (!b->left)
		b->at = b->end;
	reply_put(&p->s.reply, out);
	return OK;
}

static void flush_plain(struct imap_session *p, struct imap_fetch *f)
{
	struct imap_bytes *b = &f->bytes;
	struct imap_source *s = f->source;
	if (b->memory.len) {
		size_t n = min_size(b->memory.len, IMAP_COPY_BYTES);
		reply_put(&p->s.reply, slice_upto(b->memory, n));
		b->memory = slice_from(b->memory, n);
	} else if (s->m.body) {
		size_t n = (size_t)min_u64(b->end - b->at, IMAP_COPY_BYTES);
		reply_put(&p->s.reply, slice_of(s->m.body + b->at, n));
		b->at += n;
	} else {
		s->references++;
		reply_file(&p->s.reply, s->m.fd, s->m.offset + b->at, b->end - b->at, imap_source_unref, s);
		b->at = b->end;
	}
}

enum err imap_fetch_flush(struct imap_session *p, struct imap_fetch *f)
{
	struct imap_bytes *b = &f->bytes;
	while (b->memory.len || b->at < b->end) {
		enum err e = OK;
		if (reply_full(&p->s.reply))
			return ERR_AGAIN;
		if (b->decoder)
			e = flush_decoded(p, f);
		else
			flush_plain(p, f);
		if (e != OK)
			return e;
		if (session_dying(&p->s))
			return ERR_CLOSED;
		fiber_breathe();
	}
	imap_bytes_release(b);
	return OK;
}

/* ---- fields ---- */

static bool wanted(const struct imap_item *item, struct slice name)
{
	bool named = false;
	for (size_t i = 0; i < item->field_count && !named; i++)
		named = slice_eq_nocase(item->fields[i], name);
	return named == (item->section == SECTION_FIELDS);
}

/* Length of the line at the start, with its end. */
static size_t line_bytes(struct slice s)
{
	size_t lf = slice_find(s, '\n');
	return lf == SIZE_MAX ? s.len : lf + 1;
}

/* The fields as they stand, folded lines with them, in the message's order, then the empty line. */
static struct slice pick_fields(struct slice header, const struct imap_item *item, char *out)
{
	size_t len = 0;
	while (header.len) {
		size_t bytes = line_bytes(header), colon = slice_find(slice_upto(header, bytes), ':');
		if (header.ptr[0] == '\r' && bytes == 2)
			break;
		while (bytes < header.len && (header.ptr[bytes] == ' ' || header.ptr[bytes] == '\t'))
			bytes += line_bytes(slice_from(header, bytes));
		/* what is no field, or goes on from nowhere, belongs to .NOT alone: it is not named by anybody */
		bool named = colon != SIZE_MAX && header.ptr[0] != ' ' && header.ptr[0] != '\t';
		struct slice name = named ? slice_trim(slice_upto(header, colon)) : slice_of("", 0);
		if (wanted(item, name)) {
			memcpy(out + len, header.ptr, bytes);
			len += bytes;
		}
		header = slice_from(header, bytes);
	}
	memcpy(out + len, "\r\n", 2);
	return slice_of(out, len + 2);
}

/* Of the header that lies at [at, at + bytes) of the body, in a message inside. */
static enum err fields_inside(struct imap_fetch *f, const struct imap_item *item, uint64_t at, uint64_t bytes)
{
	size_t len = (size_t)min_u64(bytes, IMAP_HEADER_BYTES_MAX);
	char *header = xmalloc(len + 1);
	enum err e = imap_source_read(f->source, at, header, len);
	if (e == OK) {
		f->bytes.owned = xmalloc(len + 2);
		f->bytes.memory = pick_fields(slice_of(header, len), item, f->bytes.owned);
	}
	free(header);
	return e;
}

/* All that is asked for is among what the structure keeps, so that the message is not read. */
static bool in_structure(struct imap_source *s, const struct imap_item *item)
{
	if (item->kept)
		imap_source_known(s);
	return item->kept && s->structure && !s->structure->tree->truncated;
}

static enum err fields(struct imap_fetch *f, const struct imap_item *item)
{
	struct imap_source *s = f->source;
	struct slice header;
	enum err e = OK;
	if (in_structure(s, item)) {
		header = s->structure->tree->parts[0].fields;
	} else {
		e = imap_source_header(s);
		if (e != OK)
			return e;
		header = slice_of(s->header, s->header_bytes);
	}
	f->bytes.owned = xmalloc(header.len + 2);
	f->bytes.memory = pick_fields(header, item, f->bytes.owned);
	return OK;
}

/* ---- sections ---- */

void imap_bytes_cut(struct imap_bytes *b, uint64_t from, uint64_t length)
{
	uint64_t skip = min_u64(from, b->memory.len);
	b->memory = slice_from(b->memory, (size_t)skip);
	b->at += min_u64(from - skip, b->end - b->at);
	b->memory = slice_upto(b->memory, (size_t)min_u64(length, b->memory.len));
	b->end = b->at + min_u64(length - b->memory.len, b->end - b->at);
}

static struct imap_bytes range_of(uint64_t at, uint64_t bytes) { return (struct imap_bytes){ .at = at, .end = at + bytes }; }

/* A section of the whole message. */
static enum err whole_section(struct imap_fetch *f, const struct imap_item *item)
{
	const struct message_source *m = &f->source->m;
	uint64_t header = min_u64(m->header_bytes, m->bytes);
	switch ((enum imap_section)item->section) {
	case SECTION_ALL:
		f->bytes = (struct imap_bytes){ .memory = m->prefix, .end = m->bytes };
		return OK;
	case SECTION_HEADER:
		f->bytes = (struct imap_bytes){ .memory = m->prefix, .end = header };
		return OK;
	case SECTION_TEXT:
		f->bytes = range_of(header, m->bytes - header);
		return OK;
	case SECTION_FIELDS:
	case SECTION_FIELDS_NOT:
		return fields(f, item);
	case SECTION_MIME:
		break;
	}
	return ERR_NOT_FOUND;
}

/* A section of a part. ERR_NOT_FOUND: there is none such; HEADER and TEXT are of messages inside (RFC 9051 section 6.4.5.1). */
static enum err part_section(struct imap_fetch *f, const struct imap_item *item)
{
	enum err e = imap_source_structure(f->source);
	if (e != OK)
		return e;
	const struct mime_tree *tree = f->source->structure->tree;
	const struct mime_part *part = imap_find_part(tree, item->numbers, item->number_count);
	if (!part)
		return ERR_NOT_FOUND;
	if (item->section == SECTION_ALL || item->section == SECTION_MIME) {
		f->bytes = item->section == SECTION_ALL ? range_of(part->body_offset, part->body_bytes)
							: range_of(part->header_offset, part->body_offset - part->header_offset);
		return OK;
	}
	if (part->kind != MIME_MESSAGE || part->child == MIME_NO_PART)
		return ERR_NOT_FOUND;
	const struct mime_part *inside = &tree->parts[part->child];
	uint64_t header = inside->body_offset - inside->header_offset;
	if (item->section == SECTION_HEADER)
		f->bytes = range_of(inside->header_offset, header);
	else if (item->section == SECTION_TEXT)
		f->bytes = range_of(inside->body_offset, inside->body_bytes);
	else
		return fields_inside(f, item, inside->header_offset, header);
	return OK;
}

static enum err prepare_size(struct imap_source *s, const struct imap_item *item)
{
	enum err e = item->number_count ? imap_source_structure(s) : OK;
	const struct mime_part *part = e == OK && item->number_count ? imap_find_part(s->structure->tree, item->numbers, item->number_count) : NULL;
	return part && part->decoded_bytes == MIME_DECODED_UNKNOWN ? imap_source_bytes(s) : e;
}

enum err imap_fetch_prepare(struct imap_source *s, const struct imap_item *item)
{
	switch ((enum imap_item_kind)item->kind) {
	case ITEM_ENVELOPE:
	case ITEM_BODY_SHORT:
	case ITEM_BODYSTRUCTURE:
	case ITEM_PREVIEW:
		return item->lazy ? OK : imap_source_structure(s);
	case ITEM_BINARY:
		return imap_source_bytes(s);
	case ITEM_BINARY_SIZE:
		return prepare_size(s, item);
	case ITEM_BODY:
		return in_structure(s, item) ? OK : imap_source_bytes(s);
	default:
		return OK;
	}
}

enum err imap_fetch_locate(struct imap_fetch *f, const struct imap_item *item)
{
	f->bytes = (struct imap_bytes){ .owned = NULL };
	enum err e = item->number_count ? part_section(f, item) : whole_section(f, item);
	if (e == OK && item->partial)
		imap_bytes_cut(&f->bytes, item->from, item->length);
	return e;
}

enum err imap_fetch_section(struct imap_session *p, struct imap_fetch *f, const struct imap_item *item)
{
	struct imap_bytes *b = &f->bytes;
	enum err e = imap_fetch_locate(f, item);
	if (e != OK && e != ERR_NOT_FOUND)
		return e;
	reply_put(&p->s.reply, item->label);
	if (item->partial)
		reply_printf(&p->s.reply, "<%llu>", (unsigned long long)item->from);
	if (e == ERR_NOT_FOUND)
		REPLY_LIT(&p->s.reply, " NIL");
	else
		reply_printf(&p->s.reply, " {%llu}\r\n", (unsigned long long)(b->memory.len + (b->end - b->at)));
	return OK;
}
