/* SPDX-License-Identifier: Apache-2.0 */
/*
 * imap_fetch_body.c - the bytes of a section.
 *
 * A message is its prefix (our own header lines, in memory) and its body (a range of a file, or the same bytes in memory); whole messages,
 * headers and texts are ranges of the two, so that a large one leaves without passing through our hands, like RETR.  Selected header
 * fields are gathered in memory, from a header of at most IMAP_HEADER_BYTES_MAX.
 */
#include "net/imap/imap_fetch.h"

#include "core/run/file.h"

#include <stdlib.h>

void imap_source_unref(void *arg)
{
	struct imap_source *s = arg;
	ASSERT(s->references > 0);
	if (--s->references)
		return;
	message_close(&s->m);
	free(s->header);
	free(s);
}

void imap_bytes_release(struct imap_bytes *b)
{
	free(b->owned);
	*b = (struct imap_bytes){ .owned = NULL };
}

bool imap_fetch_flush(struct imap_session *p, struct imap_fetch *f)
{
	struct imap_bytes *b = &f->bytes;
	struct imap_source *s = f->source;
	while (b->memory.len || b->at < b->end) {
		if (reply_full(&p->s.reply))
			return false;
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
	imap_bytes_release(b);
	return true;
}

/* ---- fields ---- */

/* Prefix and header, in one piece. */
static enum err load_header(struct imap_source *s)
{
	uint64_t bytes = min_u64(s->m.header_bytes, s->m.bytes);
	if (s->header)
		return OK;
	bytes = min_u64(bytes, IMAP_HEADER_BYTES_MAX);
	s->header = xmalloc(s->m.prefix.len + (size_t)bytes + 1);
	if (s->m.prefix.len)
		memcpy(s->header, s->m.prefix.ptr, s->m.prefix.len);
	if (s->m.body)
		memcpy(s->header + s->m.prefix.len, s->m.body, (size_t)bytes);
	else if (bytes && file_read(s->m.fd, s->header + s->m.prefix.len, (size_t)bytes, s->m.offset) != (int64_t)bytes)
		return ERR_IO;
	s->header_bytes = s->m.prefix.len + (size_t)bytes;
	return OK;
}

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
		/* what is no field belongs to .NOT alone: it is not named by anybody */
		struct slice name = colon == SIZE_MAX ? slice_of("", 0) : slice_trim(slice_upto(header, colon));
		if (wanted(item, name)) {
			memcpy(out + len, header.ptr, bytes);
			len += bytes;
		}
		header = slice_from(header, bytes);
	}
	memcpy(out + len, "\r\n", 2);
	return slice_of(out, len + 2);
}

static enum err fields(struct imap_fetch *f, const struct imap_item *item)
{
	struct imap_source *s = f->source;
	enum err e = load_header(s);
	if (e != OK)
		return e;
	f->bytes.owned = xmalloc(s->header_bytes + 2);
	f->bytes.memory = pick_fields(slice_of(s->header, s->header_bytes), item, f->bytes.owned);
	return OK;
}

/* ---- sections ---- */

static void cut(struct imap_bytes *b, uint64_t from, uint64_t length)
{
	uint64_t skip = min_u64(from, b->memory.len);
	b->memory = slice_from(b->memory, (size_t)skip);
	b->at += min_u64(from - skip, b->end - b->at);
	b->memory = slice_upto(b->memory, (size_t)min_u64(length, b->memory.len));
	b->end = b->at + min_u64(length - b->memory.len, b->end - b->at);
}

enum err imap_fetch_section(struct imap_session *p, struct imap_fetch *f, const struct imap_item *item)
{
	const struct message_source *m = &f->source->m;
	uint64_t header = min_u64(m->header_bytes, m->bytes);
	struct imap_bytes *b = &f->bytes;
	enum err e = OK;
	*b = (struct imap_bytes){ .owned = NULL };
	switch ((enum imap_section)item->section) {
	case SECTION_ALL:
		*b = (struct imap_bytes){ .memory = m->prefix, .end = m->bytes };
		break;
	case SECTION_HEADER:
		*b = (struct imap_bytes){ .memory = m->prefix, .end = header };
		break;
	case SECTION_TEXT:
		*b = (struct imap_bytes){ .at = header, .end = m->bytes };
		break;
	case SECTION_FIELDS:
	case SECTION_FIELDS_NOT:
		e = fields(f, item);
		break;
	case SECTION_MIME:
		break;
	}
	if (e != OK)
		return e;
	if (item->partial)
		cut(b, item->from, item->length);
	reply_put(&p->s.reply, item->label);
	if (item->partial)
		reply_printf(&p->s.reply, "<%llu>", (unsigned long long)item->from);
	reply_printf(&p->s.reply, " {%llu}\r\n", (unsigned long long)(b->memory.len + (b->end - b->at)));
	return OK;
}
