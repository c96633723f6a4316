/* SPDX-License-Identifier: Apache-2.0 */
/*
 * imap_search_text.c - strings in messages, as a reader sees them: encoded words, transfer encodings and charsets undone.
 *
 * A header is gone through once for all keys; a field that no key asks for is not decoded.  Fields that a structure keeps are looked at there.  Of a body the text parts (text/...) and the
 * headers of messages inside are searched, for TEXT every part's header too; other parts are not text.  A part of any size streams
 * through
 *
 *     octets -> transfer encoding -> charset -> UTF-8 -> folded -> window
 *
 * and of the window stays, from one look to the next, what the longest needle could have begun in.
 */
#include "net/imap/imap_search.h"

#include "core/run/fiber.h"

#include <stdlib.h>

bool search_contains(struct slice text, struct slice needle)
{
	return !needle.len || (text.len >= needle.len && memmem(text.ptr, text.len, needle.ptr, needle.len));
}

/* ---- fields ---- */

static bool open_key(const struct search_program *s, size_t i) { return s->values[i] == SEARCH_UNKNOWN; }

/* In a message inside (`inner`) BODY and TEXT look at whole fields; at the top TEXT does, and keys that name the field at its value. */
struct field_scan {
	bool inner, body;
	bool dated;
	bool kept; /* these are the fields of a structure: TEXT waits for all of them */
};

static bool asks(const struct search_program *s, const struct field_scan *f, size_t i, struct slice name)
{
	const struct search_key *k = &s->keys[i];
	if (!open_key(s, i))
		return false;
	if (k->op == SEARCH_TEXT)
		return !f->kept;
	return f->inner ? f->body && k->op == SEARCH_BODY : k->op == SEARCH_HEADER && slice_eq_nocase(k->name, name);
}

/* A message without a Date that can be read was sent on no day. */
static void sent_on(struct search_program *s, const struct mime_date *date)
{
	for (size_t i = 0; i < s->count; i++) {
		const struct search_key *k = &s->keys[i];
		if (k->op == SEARCH_SENT_BEFORE)
			s->values[i] = date && date->local_day < k->day;
		else if (k->op == SEARCH_SENT_ON)
			s->values[i] = date && date->local_day == k->day;
		else if (k->op == SEARCH_SENT_SINCE)
			s->values[i] = date && date->local_day >= k->day;
	}
}

static void sent_date(struct search_program *s, struct field_scan *f, struct slice value)
{
	struct mime_date date;
	arena_reset(&s->scratch);
	struct slice plain = mime_unfold(&s->scratch, value);
	f->dated = true; /* the first Date counts */
	sent_on(s, plain.ptr && mime_date(plain, &date) ? &date : NULL);
}

/* "NAME: VALUE", folded, in s->folded; where the value begins. What does not fit is cut off. */
static size_t fold_field(struct search_program *s, struct slice name, struct slice value)
{
	arena_reset(&s->scratch);
	buf_clear(&s->decoded);
	buf_clear(&s->folded);
	struct slice plain = mime_unfold(&s->scratch, value);
	(void)(plain.ptr && mime_words_decode(&s->decoded, plain));
	(void)(mime_casemap(&s->folded, name) && buf_put(&s->folded, ": ", 2));
	size_t begin = s->folded.len;
	(void)mime_casemap(&s->folded, buf_slice(&s->decoded));
	return begin;
}

static void scan_field(struct search_program *s, const struct field_scan *f, struct slice name, struct slice value)
{
	size_t begin = SIZE_MAX;
	for (size_t i = 0; i < s->count; i++) {
		const struct search_key *k = &s->keys[i];
		if (!asks(s, f, i, name))
			continue;
		if (begin == SIZE_MAX)
			begin = fold_field(s, name, value);
		struct slice text = k->op == SEARCH_HEADER ? slice_from(buf_slice(&s->folded), begin) : buf_slice(&s->folded);
		if (search_contains(text, k->needle))
			s->values[i] = SEARCH_TRUE;
	}
}

static void scan_fields(struct search_program *s, struct field_scan *f, struct slice header)
{
	struct slice name, value;
	while (mime_field_next(&header, &name, &value)) {
		if (!f->inner && !f->kept && !f->dated && slice_eq_nocase(name, SLICE_LIT("Date")))
			sent_date(s, f, value);
		scan_field(s, f, name, value);
	}
}

enum err search_kept(struct search_program *s, struct imap_source *source)
{
	struct field_scan f = { .kept = true };
	enum err e = imap_source_structure(source);
	if (e != OK || source->structure->tree->truncated) /* not all that there is was kept: the header has it */
		return e;
	sent_on(s, source->structure->keys.dated ? &source->structure->keys.date : NULL);
	scan_fields(s, &f, source->structure->tree->parts[0].fields);
	for (size_t i = 0; i < s->count; i++)
		if (open_key(s, i) && s->keys[i].kept)
			s->values[i] = SEARCH_FALSE;
	return OK;
}

enum err search_header(struct search_program *s, struct imap_source *source)
{
	struct field_scan f = { .inner = false };
	enum err e = imap_source_header(source);
	if (e != OK)
		return e;
	scan_fields(s, &f, slice_of(source->header, source->header_bytes));
	for (size_t i = 0; i < s->count; i++) /* what was not found is not there */
		if (open_key(s, i) && s->keys[i].op >= SEARCH_SENT_BEFORE && s->keys[i].op <= SEARCH_HEADER)
			s->values[i] = SEARCH_FALSE;
	return OK;
}

/* ---- a part's text ---- */

struct text_stream {
	struct search_program *s;
	struct mime_decoder decoder;
	struct mime_charset charset;
	struct buf window;
	size_t keep;
	char raw[IMAP_PARSE_BYTES];
	char plain[IMAP_PARSE_BYTES + 2 * sizeof(((struct mime_decoder *)0)->hold)];
};

static size_t longest_needle(const struct search_program *s)
{
	size_t longest = 1;
	for (size_t i = 0; i < s->count; i++)
		if (s->keys[i].op == SEARCH_BODY || s->keys[i].op == SEARCH_TEXT)
			longest = max_size(longest, s->keys[i].needle.len);
	return longest;
}

static bool any_open(const struct search_program *s)
{
	for (size_t i = 0; i < s->count; i++)
		if (open_key(s, i) && (s->keys[i].op == SEARCH_BODY || s->keys[i].op == SEARCH_TEXT))
			return true;
	return false;
}

static void look(struct text_stream *t)
{
	struct search_program *s = t->s;
	for (size_t i = 0; i < s->count; i++)
		if (open_key(s, i) && (s->keys[i].op == SEARCH_BODY || s->keys[i].op == SEARCH_TEXT) &&
		    search_contains(buf_slice(&t->window), s->keys[i].needle))
			s->values[i] = SEARCH_TRUE;
	if (t->window.len > t->keep) {
		memmove(t->window.ptr, t->window.ptr + t->window.len - t->keep, t->keep);
		t->window.len = t->keep;
	}
}

static void take_utf8(void *arg, struct slice text)
{
	struct text_stream *t = arg;
	if (!mime_casemap(&t->window, text) || t->window.len > t->keep + IMAP_SEARCH_WINDOW_BYTES)
		look(t);
}

static void take_decoded(struct text_stream *t, size_t len) { mime_charset_feed(&t->charset, slice_of(t->plain, len), take_utf8, t); }

/* Is it text? And its charset, opened. */
static bool begin_text(struct text_stream *t, const struct mime_part *part)
{
	struct mime_value type;
	struct slice charset = slice_of(NULL, 0), language;
	struct arena *scratch = &t->s->scratch;
	arena_reset(scratch);
	if (part->kind != MIME_LEAF || part->encoding == MIME_ENCODING_UNKNOWN || mime_part_type(scratch, part, &type) != OK ||
	    !slice_eq_nocase(type.type, SLICE_LIT("text")))
		return false;
	if (mime_param(scratch, &type, SLICE_LIT("charset"), &charset, &language) != OK)
		charset.len = 0;
	(void)mime_charset_begin(&t->charset, charset); /* of an unknown one the ASCII can still be found */
	mime_decode_init(&t->decoder, (enum mime_encoding)part->encoding);
	buf_clear(&t->window);
	return true;
}

static enum err search_part(struct text_stream *t, struct imap_source *source, const struct mime_part *part)
{
	enum err e = OK;
	if (!begin_text(t, part))
		return OK;
	for (uint64_t at = 0; at < part->body_bytes && e == OK && any_open(t->s);) {
		size_t n = (size_t)min_u64(part->body_bytes - at, sizeof t->raw);
		e = imap_source_read(source, part->body_offset + at, t->raw, n);
		if (e != OK)
			break;
		take_decoded(t, mime_decode(&t->decoder, slice_of(t->raw, n), t->plain));
		at += n;
		fiber_breathe();
	}
	if (e == OK)
		take_decoded(t, mime_decode_end(&t->decoder, t->plain));
	mime_charset_end(&t->charset, take_utf8, t);
	look(t);
	return e;
}

/* The header of a part inside. */
static enum err search_inner(struct text_stream *t, struct imap_source *source, const struct mime_tree *tree, size_t number)
{
	const struct mime_part *part = &tree->parts[number];
	struct field_scan f = { .inner = true, .body = part->parent != MIME_NO_PART && tree->parts[part->parent].kind == MIME_MESSAGE };
	uint64_t bytes = min_u64(part->body_offset - part->header_offset, IMAP_HEADER_BYTES_MAX);
	if (!number || !bytes || (!f.body && !t->s->has_text))
		return OK;
	char *header = xmalloc((size_t)bytes);
	enum err e = imap_source_read(source, part->header_offset, header, (size_t)bytes);
	if (e == OK)
		scan_fields(t->s, &f, slice_of(header, (size_t)bytes));
	free(header);
	return e;
}

enum err search_body(struct search_program *s, struct imap_source *source)
{
	enum err e = imap_source_bytes(source);
	if (e == OK)
		e = imap_source_structure(source);
	if (e != OK)
		return e;
	struct text_stream *t = xmalloc(sizeof *t);
	t->s = s;
	t->keep = longest_needle(s) - 1;
	buf_init(&t->window, IMAP_SEARCH_SCRATCH_BYTES_MAX);
	const struct mime_tree *tree = source->structure->tree;
	for (size_t i = 0; i < tree->part_count && e == OK && any_open(s); i++) {
		e = search_inner(t, source, tree, i);
		if (e == OK)
			e = search_part(t, source, &tree->parts[i]);
	}
	buf_release(&t->window);
	free(t);
	for (size_t i = 0; i < s->count; i++)
		if (open_key(s, i) && s->keys[i].op > SEARCH_NOT)
			s->values[i] = s->keys[i].needle.len ? SEARCH_FALSE : SEARCH_TRUE; /* an empty string is in everything */
	return e;
}
