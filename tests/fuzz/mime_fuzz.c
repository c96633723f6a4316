/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mime_fuzz.c - any bytes have a structure, the same however they are cut; and every reader of fields takes what was kept.
 *
 * The first byte is the size of the pieces.
 */
#include "core/base/limits.h"
#include "storage/mime.h"
#include "storage/structure_private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct mime_tree *parse(struct slice bytes, size_t step)
{
	struct mime_parser *m = mime_open();

	for (size_t i = 0; i < bytes.len; i += step)
		mime_feed(m, slice_upto(slice_from(bytes, i), step));
	return mime_close(m);
}

static void read_fields(struct slice fields)
{
	struct slice name, value, charset, rest = fields;
	struct arena arena;
	struct mime_value v, joined;
	struct mime_date date;
	const struct mime_address *list;
	size_t count;
	bool reply;
	struct buf text;

	arena_init(&arena, MIB(16));
	while (mime_field_next(&rest, &name, &value)) {
		(void)mime_addresses(&arena, value, &list, &count);
		(void)mime_date(value, &date);
		(void)mime_unfold(&arena, value);
		buf_init(&text, MIB(16));
		(void)mime_words_decode(&text, value);
		buf_release(&text);
		(void)mime_base_subject(&arena, value, &charset, &reply);
		while (mime_id_next(&arena, &value, &charset))
			;
	}
	if (mime_content_type(&arena, fields, &v) == OK && mime_params_join(&arena, &v, &joined) == OK)
		ASSERT(joined.param_count <= v.param_count);
	if (mime_content_type(&arena, fields, &v) == OK)
		(void)mime_param(&arena, &v, SLICE_LIT("name"), &value, &charset);
	if (mime_disposition(&arena, fields, &v) == OK)
		(void)mime_param(&arena, &v, SLICE_LIT("filename"), &value, &charset);
	arena_release(&arena);
}

static void check_part(const struct mime_tree *t, uint32_t i, uint64_t size)
{
	const struct mime_part *p = &t->parts[i];

	ASSERT(p->header_offset <= p->body_offset && p->body_offset + p->body_bytes <= size);
	ASSERT((i == 0) == (p->parent == MIME_NO_PART));
	if (i) {
		const struct mime_part *up = &t->parts[p->parent];

		ASSERT(p->parent < i && up->kind != MIME_LEAF && p->header_offset >= up->body_offset);
		ASSERT(p->body_offset + p->body_bytes <= up->body_offset + up->body_bytes);
	}
	ASSERT((p->kind == MIME_LEAF) == (p->child == MIME_NO_PART));
	read_fields(p->fields);
}

static void decode(struct slice in, enum mime_encoding encoding, size_t step, struct buf *out)
{
	struct mime_decoder d;

	mime_decode_init(&d, encoding);
	for (size_t i = 0; i < in.len; i += step) {
		struct slice piece = slice_upto(slice_from(in, i), step);

		out->len += mime_decode(&d, piece, buf_room(out, piece.len + sizeof(d.hold)));
	}
	out->len += mime_decode_end(&d, buf_room(out, sizeof(d.hold)));
}

/* As a body is, whose lines end in CRLF (storage/body.h). */
static bool canonical(struct slice s)
{
	for (size_t i = 0; i < s.len; i++)
		if (s.ptr[i] == '\n' && (i == 0 || s.ptr[i - 1] != '\r'))
			return false;
	return true;
}

/* What a part decodes to is as long as it says: BINARY tells the length first. */
static void check_decoded(const struct mime_part *p, struct slice bytes)
{
	struct buf out;

	if (p->kind != MIME_LEAF || p->decoded_bytes == MIME_DECODED_UNKNOWN)
		return;
	buf_init(&out, MIB(64));
	decode(slice_upto(slice_from(bytes, (size_t)p->body_offset), (size_t)p->body_bytes), (enum mime_encoding)p->encoding, 4096, &out);
	ASSERT(out.len == p->decoded_bytes);
	buf_release(&out);
}

/* A structure that was written reads as it was; a record of any bytes reads as something, or as none. */
static void check_structure(struct slice bytes)
{
	const struct structure *made = structure_of_bytes(bytes);
	struct structure_stored stored;
	struct body_record record = { .fixed = { .bytes = bytes.len } };

	ASSERT(made->preview.len <= 4 * STRUCTURE_PREVIEW_CHARS_MAX);
	if (structure_encode(made, STRUCTURE_BYTES_MAX, &stored)) {
		struct structure *read;
		struct structure_stored again;

		structure_to_record(&stored, &record);
		read = structure_decode(&record);
		ASSERT(read && structure_encode(read, STRUCTURE_BYTES_MAX, &again));
		ASSERT(slice_eq(stored.structure, again.structure) && slice_eq(stored.keys, again.keys) && slice_eq(stored.preview, again.preview));
		ASSERT(memcmp(stored.parts, again.parts, stored.part_count * sizeof(struct part_disk)) == 0);
		structure_close(read);
		structure_stored_release(&again);
		record.structure = bytes;
		structure_close(structure_decode(&record));
		record.structure = stored.structure;
		record.keys = bytes;
		structure_close(structure_decode(&record));
		structure_stored_release(&stored);
	}
	structure_close(made);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice bytes = slice_of(data, size);
	size_t step = size ? 1u + data[0] : 1;
	struct mime_tree *a, *b;
	bool lines_end;

	bytes = slice_from(bytes, 1);
	lines_end = canonical(bytes);
	a = parse(bytes, bytes.len + 1);
	b = parse(bytes, step);
	ASSERT(a->part_count == b->part_count && a->truncated == b->truncated);
	for (uint32_t i = 0; i < a->part_count; i++) {
		struct mime_part p = a->parts[i], q = b->parts[i];

		check_part(a, i, bytes.len);
		if (lines_end)
			check_decoded(&a->parts[i], bytes);
		ASSERT(slice_eq(p.fields, q.fields) && p.body_offset == q.body_offset && p.body_bytes == q.body_bytes);
		ASSERT(p.header_offset == q.header_offset && p.lines == q.lines && p.decoded_bytes == q.decoded_bytes);
		ASSERT(p.kind == q.kind && p.encoding == q.encoding && p.parent == q.parent && p.next == q.next);
	}
	mime_tree_free(a);
	mime_tree_free(b);
	check_structure(bytes);
	for (int encoding = MIME_QP; encoding <= MIME_BASE64; encoding++) {
		struct buf x, y;

		buf_init(&x, MIB(64));
		buf_init(&y, MIB(64));
		decode(bytes, (enum mime_encoding)encoding, bytes.len + 1, &x);
		decode(bytes, (enum mime_encoding)encoding, step, &y);
		ASSERT(slice_eq(buf_slice(&x), buf_slice(&y)));
		buf_release(&x);
		buf_release(&y);
	}
	return 0;
}
