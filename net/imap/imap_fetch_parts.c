/* SPDX-License-Identifier: Apache-2.0 */
/*
 * imap_fetch_parts.c - what FETCH takes from a message's structure: ENVELOPE, BODY, BODYSTRUCTURE, PREVIEW, BINARY.
 *
 * BINARY decodes as it sends: its size, which goes before it, is known for base64 and for parts without encoding; quoted-printable is
 * counted first.
 */
#include "net/imap/imap_fetch.h"
#include "net/imap/imap_structure.h"

#include "core/run/fiber.h"

#include <stdlib.h>

static enum err put_text(struct imap_session *p, struct imap_fetch *f, const struct imap_item *item, struct buf *text)
{
	const struct structure *s = f->source->structure;
	struct arena scratch;
	enum err e;
	bool utf8 = imap_utf8_names(p);
	arena_init(&scratch, IMAP_STRUCTURE_BYTES_MAX);
	if (item->kind == ITEM_PREVIEW)
		e = imap_put_text(text, s->preview, utf8);
	else if (item->kind == ITEM_ENVELOPE)
		e = imap_put_envelope(text, &scratch, s->tree->parts[0].fields, utf8);
	else
		e = imap_put_structure(text, &scratch, s->tree, item->kind == ITEM_BODYSTRUCTURE, utf8);
	arena_release(&scratch);
	return e;
}

static void tell_name(struct imap_session *p, uint8_t kind)
{
	struct reply *r = &p->s.reply;
	if (kind == ITEM_ENVELOPE)
		REPLY_LIT(r, "ENVELOPE ");
	else if (kind == ITEM_PREVIEW)
		REPLY_LIT(r, "PREVIEW ");
	else if (kind == ITEM_BODY_SHORT)
		REPLY_LIT(r, "BODY ");
	else
		REPLY_LIT(r, "BODYSTRUCTURE ");
}

enum err imap_fetch_structure(struct imap_session *p, struct imap_fetch *f, const struct imap_item *item)
{
	struct buf text;
	enum err e = OK;
	if (item->lazy)
		imap_source_known(f->source);
	else
		e = imap_source_structure(f->source);
	if (e != OK)
		return e;
	if (!f->source->structure) { /* RFC 8970 section 4.1: it would have to be made */
		REPLY_LIT(&p->s.reply, "PREVIEW NIL");
		return OK;
	}
	buf_init(&text, IMAP_STRUCTURE_BYTES_MAX);
	(void)buf_room(&text, IMAP_STRUCTURE_BYTES); /* so that it mostly grows no more */
	e = put_text(p, f, item, &text);
	if (e != OK) {
		buf_release(&text);
		return e;
	}
	tell_name(p, item->kind);
	f->bytes = (struct imap_bytes){ .memory = buf_slice(&text), .owned = text.ptr };
	return OK;
}

/* ---- BINARY ---- */

/* An encoding of what holds other parts counts for nothing (RFC 2045 section 6.4). */
static enum mime_encoding encoding_of(const struct mime_part *part)
{
	return part->kind == MIME_LEAF ? (enum mime_encoding)part->encoding : MIME_BINARY;
}

/* How many octets decoding gives: a pass over all of it. */
static enum err count_decoded(const struct imap_source *s, const struct mime_part *part, uint64_t *bytes_out)
{
	struct mime_decoder d;
	char *raw = xmalloc(IMAP_PARSE_BYTES), *plain = xmalloc(IMAP_PARSE_BYTES + 2 * sizeof d.hold);
	enum err e = OK;
	*bytes_out = 0;
	mime_decode_init(&d, encoding_of(part));
	for (uint64_t at = 0; at < part->body_bytes && e == OK;) {
		size_t n = (size_t)min_u64(part->body_bytes - at, IMAP_PARSE_BYTES);
		e = imap_source_read(s, part->body_offset + at, raw, n);
		if (e == OK)
			*bytes_out += mime_decode(&d, slice_of(raw, n), plain);
		at += n;
		fiber_breathe();
	}
	*bytes_out += mime_decode_end(&d, plain);
	free(raw);
	free(plain);
	return e;
}

static enum err tell_size(struct imap_session *p, const struct imap_item *item, uint64_t bytes)
{
	reply_put(&p->s.reply, item->label);
	reply_printf(&p->s.reply, " %llu", (unsigned long long)bytes);
	return OK;
}

static enum err tell_nothing(struct imap_session *p, const struct imap_item *item)
{
	reply_put(&p->s.reply, item->label);
	reply_printf(&p->s.reply, item->kind == ITEM_BINARY ? " NIL" : " 0");
	return OK;
}

static void tell_literal(struct imap_session *p, const struct imap_item *item, uint64_t bytes)
{
	reply_put(&p->s.reply, item->label);
	if (item->partial)
		reply_printf(&p->s.reply, "<%llu>", (unsigned long long)item->from);
	reply_printf(&p->s.reply, " ~{%llu}\r\n", (unsigned long long)bytes);
}

static enum err decode(struct imap_session *p, struct imap_fetch *f, const struct imap_item *item, const struct mime_part *part)
{
	uint64_t bytes = part->decoded_bytes;
	enum err e = bytes == MIME_DECODED_UNKNOWN ? count_decoded(f->source, part, &bytes) : OK;
	if (e != OK)
		return e;
	if (item->kind == ITEM_BINARY_SIZE)
		return tell_size(p, item, bytes);
	uint64_t from = item->partial ? min_u64(item->from, bytes) : 0;
	uint64_t left = item->partial ? min_u64(item->length, bytes - from) : bytes;
	tell_literal(p, item, left);
	if (!left)
		return OK;
	f->bytes = (struct imap_bytes){ .at = part->body_offset, .end = part->body_offset + part->body_bytes, .skip = from, .left = left,
					.decoder = xmalloc(sizeof *f->bytes.decoder) };
	mime_decode_init(f->bytes.decoder, encoding_of(part));
	return OK;
}

/* BINARY[]: all of it, as it is. */
static enum err whole(struct imap_session *p, struct imap_fetch *f, const struct imap_item *item)
{
	const struct message_source *m = &f->source->m;
	uint64_t bytes = m->prefix.len + m->bytes;
	if (item->kind == ITEM_BINARY_SIZE)
		return tell_size(p, item, bytes);
	f->bytes = (struct imap_bytes){ .memory = m->prefix, .end = m->bytes };
	if (item->partial)
		imap_bytes_cut(&f->bytes, item->from, item->length);
	tell_literal(p, item, f->bytes.memory.len + (f->bytes.end - f->bytes.at));
	return OK;
}

enum err imap_fetch_binary(struct imap_session *p, struct imap_fetch *f, const struct imap_item *item)
{
	if (!item->number_count)
		return whole(p, f, item);
	enum err e = imap_source_structure(f->source);
	if (e != OK)
		return e;
	const struct mime_part *part = imap_find_part(f->source->structure->tree, item->numbers, item->number_count);
	if (!part)
		return tell_nothing(p, item);
	if (encoding_of(part) == MIME_ENCODING_UNKNOWN) {
		f->unknown_encoding = true; /* RFC 3516 section 4.3 */
		return tell_nothing(p, item);
	}
	return decode(p, f, item, part);
}
