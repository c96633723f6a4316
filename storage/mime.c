/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mime.c - the walker: lines in, parts out.
 *
 * It is always in a header or in a body, of the part `at`.  A line's first bytes (`line`) are held until it ends or is too
 * long to be a delimiter; nothing else is remembered of body lines.  `levels` are the multiparts that are open, innermost
 * last.  A delimiter is looked for from the innermost outwards, so an inner boundary that begins like an outer one is
 * safe (RFC 2046, 5.1.2), and whatever is open inside the multipart that it belongs to ends with it.
 *
 * The CRLF before a delimiter belongs to the delimiter (RFC 2046, 5.1.1).
 *
 * Time is linear: each byte is looked at a constant number of times, a line that begins with "--" once more for each open
 * level, of which there are at most MIME_DEPTH_MAX, and only levels with a boundary as long as the line are compared.
 */
#include "storage/mime.h"

#include "core/base/limits.h"

#include <stdlib.h>

#define LINE_BYTES (MIME_BOUNDARY_BYTES_MAX + 64u) /* "--", the boundary, "--", blanks */

struct level {
	uint16_t part;
	uint16_t boundary_bytes;
	bool closed; /* its close delimiter was seen: an epilogue follows */
	bool digest; /* of multipart/digest */
	char boundary[MIME_BOUNDARY_BYTES_MAX];
};

struct mime_parser {
	uint64_t offset;     /* of the next byte */
	uint64_t line_start;
	uint64_t crlfs;      /* lines ended so far */
	uint64_t b64_chars, b64_chars_before; /* of the part `at`; before this line */
	bool b64_done, b64_done_before;
	bool in_header, truncated;
	bool field_kept;     /* the field that this line goes on belongs to the kept ones */
	bool field_judged;   /* this line's field name has been looked at */
	uint16_t at;
	unsigned depth;      /* of the part `at`, in parents */
	unsigned level_count;
	uint32_t part_count, part_cap;
	size_t line_bytes;   /* in `line`; above LINE_BYTES: the line is longer than we look */
	size_t field_start;  /* in `kept`, of the field that is being read */
	size_t header_start; /* in `kept`, of the header that is being read */
	struct node {
		struct mime_part p;
		uint64_t crlfs_before; /* lines ended when its body began */
		size_t kept_start, kept_bytes;
		uint16_t last_child;
		bool open;
	} *nodes;
	struct buf kept;
	char line[LINE_BYTES];
	struct level levels[MIME_DEPTH_MAX];
};

/* ---- parts ---- */

static uint16_t part_begin(struct mime_parser *m, uint16_t parent, uint64_t offset)
{
	struct node *n;

	if (m->part_count == m->part_cap) {
		m->part_cap = m->part_cap ? m->part_cap * 4 : 4;
		m->nodes = xrealloc(m->nodes, m->part_cap * sizeof(*m->nodes));
	}
	n = &m->nodes[m->part_count];
	memset(n, 0, sizeof(*n));
	n->p.header_offset = n->p.body_offset = offset;
	n->p.parent = parent;
	n->p.child = n->p.next = n->last_child = MIME_NO_PART;
	n->open = true;
	n->kept_start = m->kept.len;
	if (parent != MIME_NO_PART) {
		struct node *up = &m->nodes[parent];

		if (up->last_child == MIME_NO_PART)
			up->p.child = (uint16_t)m->part_count;
		else
			m->nodes[up->last_child].p.next = (uint16_t)m->part_count;
		up->last_child = (uint16_t)m->part_count;
	}
	m->at = (uint16_t)m->part_count++;
	m->in_header = true;
	m->field_kept = false;
	m->field_start = m->header_start = m->kept.len;
	return m->at;
}

static uint64_t base64_octets(uint64_t chars)
{
	static const uint8_t rest[4] = { 0, 0, 1, 2 };

	return chars / 4 * 3 + rest[chars % 4];
}

/* Ends a part at an offset; `crlfs` lines have ended before it. */
static void part_end(struct mime_parser *m, uint16_t index, uint64_t offset, uint64_t crlfs)
{
	struct node *n = &m->nodes[index];

	if (!n->open)
		return;
	n->open = false;
	if (offset < n->p.body_offset)
		offset = n->p.body_offset;
	if (crlfs < n->crlfs_before)
		crlfs = n->crlfs_before;
	n->p.body_bytes = offset - n->p.body_offset;
	n->p.lines = crlfs - n->crlfs_before;
	n->p.decoded_bytes = MIME_DECODED_UNKNOWN;
	if (n->p.encoding <= MIME_BINARY || n->p.kind != MIME_LEAF)
		n->p.decoded_bytes = n->p.body_bytes;
	else if (n->p.encoding == MIME_BASE64 && index == m->at)
		n->p.decoded_bytes = base64_octets(m->b64_chars);
}

/* ---- from header to body ---- */

static enum mime_encoding encoding_of(struct slice fields)
{
	struct slice v;
	size_t end;

	if (!mime_field_find(fields, SLICE_LIT("Content-Transfer-Encoding"), &v))
		return MIME_7BIT;
	for (end = 0; end < v.len && !strchr(" \t\r\n;(", v.ptr[end]); end++)
		;
	v = slice_upto(v, end);
	if (v.len == 0 || slice_eq_nocase(v, SLICE_LIT("7bit")))
		return MIME_7BIT;
	if (slice_eq_nocase(v, SLICE_LIT("8bit")))
		return MIME_8BIT;
	if (slice_eq_nocase(v, SLICE_LIT("binary")))
		return MIME_BINARY;
	if (slice_eq_nocase(v, SLICE_LIT("quoted-printable")))
		return MIME_QP;
	if (slice_eq_nocase(v, SLICE_LIT("base64")))
		return MIME_BASE64;
	return MIME_ENCODING_UNKNOWN;
}

static bool level_open(struct mime_parser *m, uint16_t part, struct slice boundary)
{
	struct level *l;

	while (boundary.len && (boundary.ptr[boundary.len - 1] == ' ' || boundary.ptr[boundary.len - 1] == '\t'))
		boundary.len--;
	if (boundary.len == 0 || boundary.len > MIME_BOUNDARY_BYTES_MAX || m->level_count == MIME_DEPTH_MAX)
		return false;
	l = &m->levels[m->level_count++];
	l->part = part;
	l->closed = false;
	l->boundary_bytes = (uint16_t)boundary.len;
	memcpy(l->boundary, boundary.ptr, boundary.len);
	return true;
}

static enum mime_kind kind_of(struct mime_parser *m, struct node *n, struct slice fields)
{
	struct arena arena;
	struct mime_value v;
	struct slice boundary, charset;
	enum mime_kind kind = MIME_LEAF;
	enum err e;

	if (m->depth + 1 >= MIME_DEPTH_MAX || m->part_count >= MIME_PARTS_MAX)
		return MIME_LEAF;
	arena_init(&arena, 4 * MIME_FIELD_BYTES_MAX);
	e = mime_content_type(&arena, fields, &v);
	if ((e == ERR_NOT_FOUND && n->p.digest) ||
	    (e == OK && slice_eq_nocase(v.type, SLICE_LIT("message")) &&
	     (slice_eq_nocase(v.subtype, SLICE_LIT("rfc822")) || slice_eq_nocase(v.subtype, SLICE_LIT("global"))))) {
		if (n->p.encoding <= MIME_BINARY)
			kind = MIME_MESSAGE;
	} else if (e == OK && slice_eq_nocase(v.type, SLICE_LIT("multipart"))) {
		if (mime_param(&arena, &v, SLICE_LIT("boundary"), &boundary, &charset) == OK &&
		    level_open(m, m->at, boundary)) {
			kind = MIME_MULTIPART;
			m->levels[m->level_count - 1].digest = slice_eq_nocase(v.subtype, SLICE_LIT("digest"));
		}
	}
	arena_release(&arena);
	return kind;
}

bool mime_field_kept(struct slice name)
{
	static const char *const wanted[] = { "Date", "Subject", "From", "Sender", "Reply-To", "To", "Cc", "Bcc",
					      "In-Reply-To", "References", "Message-ID", "MIME-Version" };

	if (slice_starts_nocase(name, SLICE_LIT("Content-")))
		return true;
	for (size_t i = 0; i < sizeof(wanted) / sizeof(*wanted); i++) {
		if (slice_eq_nocase(name, slice_str(wanted[i])))
			return true;
	}
	return false;
}

/* The header of the part `at` is complete; its body begins at `offset`. */
static void body_begin(struct mime_parser *m, uint64_t offset)
{
	struct node *n = &m->nodes[m->at];
	struct slice fields = slice_of(m->kept.ptr + m->header_start, m->kept.len - m->header_start);

	n->kept_bytes = fields.len;
	n->p.body_offset = offset;
	n->crlfs_before = m->crlfs;
	n->p.encoding = (uint8_t)encoding_of(fields);
	n->p.kind = (uint8_t)kind_of(m, n, fields);
	m->in_header = false;
	m->b64_chars = m->b64_chars_before = 0;
	m->b64_done = m->b64_done_before = n->p.encoding != MIME_BASE64;
	if (n->p.kind == MIME_MESSAGE) {
		m->depth++;
		part_begin(m, m->at, offset);
	}
}

/* ---- delimiters ---- */

enum delimiter { DELIMITER_NONE, DELIMITER_NEXT, DELIMITER_CLOSE };

/* The level that the line delimits; the line is without its CRLF. */
static enum delimiter delimiter_find(const struct mime_parser *m, struct slice line, unsigned *level_out)
{
	while (line.len && (line.ptr[line.len - 1] == ' ' || line.ptr[line.len - 1] == '\t'))
		line.len--;
	if (line.len < 3 || line.ptr[0] != '-' || line.ptr[1] != '-')
		return DELIMITER_NONE;
	line = slice_from(line, 2);
	for (unsigned i = m->level_count; i-- > 0;) {
		const struct level *l = &m->levels[i];
		size_t len = l->boundary_bytes;

		if (l->closed || line.len < len || (line.len != len && line.len != len + 2) ||
		    memcmp(line.ptr, l->boundary, len) != 0)
			continue;
		*level_out = i;
		if (line.len == len)
			return DELIMITER_NEXT;
		if (line.ptr[len] == '-' && line.ptr[len + 1] == '-')
			return DELIMITER_CLOSE;
	}
	return DELIMITER_NONE;
}

/* A multipart ends without a part: it gets one, empty, since RFC 2046 and BODYSTRUCTURE want one. */
static void part_empty(struct mime_parser *m, uint16_t multipart, uint64_t offset, uint64_t crlfs)
{
	uint16_t at;

	if (m->nodes[multipart].p.kind != MIME_MULTIPART || m->nodes[multipart].p.child != MIME_NO_PART)
		return;
	if (offset < m->nodes[multipart].p.body_offset)
		offset = m->nodes[multipart].p.body_offset;
	at = part_begin(m, multipart, offset);
	m->nodes[at].crlfs_before = crlfs;
	part_end(m, at, offset, crlfs);
}

/* Ends the part `at` and its parents up to, not with, `stop`. */
static void parts_end(struct mime_parser *m, uint16_t stop, uint64_t offset, uint64_t crlfs)
{
	uint16_t index = m->at;

	while (index != stop) {
		uint16_t parent = m->nodes[index].p.parent;

		part_end(m, index, offset, crlfs);
		part_empty(m, index, offset, crlfs);
		index = parent;
	}
}

static void delimiter_take(struct mime_parser *m, enum delimiter kind, unsigned level)
{
	struct level *l = &m->levels[level];
	uint64_t start = m->line_start, crlfs = m->crlfs;
	uint16_t multipart = l->part;

	if (kind == DELIMITER_NEXT && m->part_count >= MIME_PARTS_MAX) {
		m->truncated = true;
		return;
	}
	m->b64_chars = m->b64_chars_before;
	if (m->in_header) { /* no empty line: the header ends here, and there is no body */
		struct node *n = &m->nodes[m->at];

		n->kept_bytes = m->kept.len - m->header_start;
		n->p.body_offset = start;
		n->crlfs_before = crlfs;
		n->p.encoding = (uint8_t)encoding_of(slice_of(m->kept.ptr + m->header_start, n->kept_bytes));
		m->b64_chars = 0;
		m->in_header = false;
	} else if (start >= m->nodes[m->at].p.body_offset + 2) { /* else that CRLF ends a header, which keeps it */
		start -= 2;
		crlfs--;
	}
	parts_end(m, multipart, start, crlfs);
	m->level_count = level + 1;
	m->at = multipart;
	m->depth = 0;
	for (uint16_t i = multipart; m->nodes[i].p.parent != MIME_NO_PART; i = m->nodes[i].p.parent)
		m->depth++;
	if (kind == DELIMITER_CLOSE) {
		l->closed = true;
		part_empty(m, multipart, start, crlfs);
		m->at = multipart;
		m->in_header = false;
		m->b64_done = m->b64_done_before = true;
	}
}

/* ---- lines ---- */

static void base64_count(struct mime_parser *m, struct slice bytes)
{
	for (size_t i = 0; i < bytes.len && !m->b64_done; i++) {
		char c = bytes.ptr[i];

		if ((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' || c == '/')
			m->b64_chars++;
		else if (c == '=')
			m->b64_done = true;
	}
}

static void keep(struct mime_parser *m, struct slice bytes)
{
	size_t room = MIME_FIELD_BYTES_MAX - (m->kept.len - m->field_start);

	if (bytes.len > room || bytes.len > m->kept.max - m->kept.len) {
		bytes.len = room < m->kept.max - m->kept.len ? room : m->kept.max - m->kept.len;
		m->truncated = true;
	}
	(void)buf_put(&m->kept, bytes.ptr, bytes.len);
}

/* Bytes of a header line, as they come. What a line goes on is decided by its first bytes, once there are enough. */
static void header_bytes(struct mime_parser *m, struct slice bytes, bool ends)
{
	struct slice line = slice_of(m->line, m->line_bytes < LINE_BYTES ? m->line_bytes : LINE_BYTES);
	size_t colon;

	if (m->field_judged) {
		if (m->field_kept)
			keep(m, bytes);
		return;
	}
	colon = slice_find(line, ':');
	if (colon == SIZE_MAX && line.len && line.ptr[0] != ' ' && line.ptr[0] != '\t' && !ends && m->line_bytes <= LINE_BYTES)
		return; /* its name is not whole yet */
	m->field_judged = true;
	if (line.len && line.ptr[0] != ' ' && line.ptr[0] != '\t') {
		m->field_kept = colon != SIZE_MAX && mime_field_kept(slice_trim(slice_upto(line, colon)));
		m->field_start = m->kept.len;
	}
	if (!m->field_kept)
		return;
	if (m->line_bytes <= LINE_BYTES) { /* all of the line so far is held */
		keep(m, line);
		return;
	}
	keep(m, slice_upto(line, m->line_bytes - bytes.len));
	keep(m, bytes);
}

static void line_end(struct mime_parser *m)
{
	bool held = m->line_bytes <= LINE_BYTES;
	struct slice line = slice_of(m->line, held ? m->line_bytes : LINE_BYTES);
	enum delimiter kind = DELIMITER_NONE;
	unsigned level = 0;

	while (line.len && (line.ptr[line.len - 1] == '\n' || line.ptr[line.len - 1] == '\r'))
		line.len--;
	if (held && m->level_count)
		kind = delimiter_find(m, line, &level);
	if (kind != DELIMITER_NONE) {
		if (m->in_header && m->field_judged && m->field_kept && line.len)
			m->kept.len = m->field_start;
		delimiter_take(m, kind, level);
		m->crlfs++;
		if (kind == DELIMITER_NEXT && m->part_count < MIME_PARTS_MAX) {
			uint16_t multipart = m->levels[level].part;
			bool digest = m->levels[level].digest;
			uint16_t at = part_begin(m, multipart, m->offset); /* moves the nodes */

			m->nodes[at].p.digest = digest;
			m->depth++;
		}
	} else {
		m->crlfs++;
		if (m->in_header && held && line.len == 0)
			body_begin(m, m->offset);
	}
	m->line_bytes = 0;
	m->line_start = m->offset;
	m->field_judged = false;
	m->b64_chars_before = m->b64_chars;
	m->b64_done_before = m->b64_done;
}

void mime_feed(struct mime_parser *m, struct slice bytes)
{
	while (bytes.len) {
		const char *nl = memchr(bytes.ptr, '\n', bytes.len);
		struct slice piece = slice_upto(bytes, nl ? (size_t)(nl - bytes.ptr) + 1 : bytes.len);

		if (m->line_bytes < LINE_BYTES) {
			size_t room = LINE_BYTES - m->line_bytes;

			memcpy(m->line + m->line_bytes, piece.ptr, piece.len < room ? piece.len : room);
		}
		m->line_bytes += piece.len;
		m->offset += piece.len;
		if (m->in_header)
			header_bytes(m, piece, nl != NULL);
		else if (!m->b64_done)
			base64_count(m, piece);
		if (nl)
			line_end(m);
		bytes = slice_from(bytes, piece.len);
	}
}

/* ---- begin and end ---- */

struct mime_parser *mime_open(void)
{
	struct mime_parser *m = xmalloc(sizeof(*m));

	memset(m, 0, offsetof(struct mime_parser, line));
	buf_init(&m->kept, MIME_FIELDS_BYTES_MAX);
	(void)buf_room(&m->kept, 512); /* so that it has an address, and mostly grows no more */
	m->b64_done = true;
	part_begin(m, MIME_NO_PART, 0);
	return m;
}

void mime_abort(struct mime_parser *m)
{
	if (!m)
		return;
	buf_release(&m->kept);
	free(m->nodes);
	free(m);
}

static struct mime_tree *tree_make(const struct mime_parser *m)
{
	size_t parts_bytes = m->part_count * sizeof(struct mime_part);
	struct mime_tree *t = xmalloc(sizeof(*t) + parts_bytes + m->kept.len);
	char *kept;

	t->part_count = m->part_count;
	t->truncated = m->truncated;
	t->parts = (struct mime_part *)(t + 1);
	kept = (char *)(t + 1) + parts_bytes;
	if (m->kept.len)
		memcpy(kept, m->kept.ptr, m->kept.len);
	for (uint32_t i = 0; i < m->part_count; i++) {
		t->parts[i] = m->nodes[i].p;
		t->parts[i].fields = slice_of(kept + m->nodes[i].kept_start, m->nodes[i].kept_bytes);
	}
	return t;
}

struct mime_tree *mime_close(struct mime_parser *m)
{
	struct mime_tree *t;
	uint64_t end = m->offset;

	if (m->line_bytes) /* a last line without its end: it may be a delimiter all the same */
		line_end(m), m->crlfs--;
	if (m->in_header) {
		body_begin(m, end);
		if (m->in_header) /* a message inside that has nothing */
			body_begin(m, end);
	}
	parts_end(m, MIME_NO_PART, end, m->crlfs);
	t = tree_make(m);
	mime_abort(m);
	return t;
}

void mime_tree_free(struct mime_tree *tree) { free(tree); }
