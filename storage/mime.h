/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mime.h - what a message is made of: its parts, and the fields that IMAP asks for.  For FETCH, SEARCH, SORT and THREAD.
 *
 * The parser reads a body once, as it streams in, however it is cut, in linear time, without recursion and in bounded memory
 * (MIME_..._MAX of limits.h).  It cannot fail: any bytes have a structure.
 *
 *   - It finds the parts (RFC 2046, 5.1; message/rfc822), where their headers and bodies lie, octets and lines.
 *   - Of each part's header it keeps the fields that ENVELOPE, BODYSTRUCTURE, SORT and THREAD are made of, *as they were sent*
 *     (8-bit bytes, encoded words and folding included).  So the forms of rev1 (kept as sent), rev2 and UTF8=ACCEPT (decoded)
 *     all come from the same bytes, by the calls below.
 *
 * Broken mail: a multipart without a usable boundary, or nested deeper than MIME_DEPTH_MAX, is a leaf, shown as text/plain.
 * A message in base64 is a leaf, shown as application/octet-stream.  A missing close delimiter ends at the end.  A multipart
 * without any part gets one, empty.  Past MIME_PARTS_MAX the last part takes the rest.  Fields that do not fit are cut off or left
 * out, and `truncated` says so.
 *
 * Memory: a tree is one allocation, owned by whoever closed the parser, freed by mime_tree_free; slices point into it and
 * live as long.  What the field readers make is in the arena that they are given; an arena that is full gives ERR_LIMIT.
 * All calls complete now; none touches a file.
 */
#ifndef PENFOLD_STORAGE_MIME_H
#define PENFOLD_STORAGE_MIME_H

#include "core/base/arena.h"
#include "core/base/bytes.h"
#include "core/base/err.h"

/* ---- the tree ---- */

enum mime_kind { MIME_LEAF, MIME_MULTIPART, MIME_MESSAGE };
enum mime_encoding { MIME_7BIT, MIME_8BIT, MIME_BINARY, MIME_QP, MIME_BASE64, MIME_ENCODING_UNKNOWN };
#define MIME_NO_PART UINT16_MAX
#define MIME_DECODED_UNKNOWN UINT64_MAX

struct mime_part {
	uint64_t header_offset; /* octets from the body's start; the header ends where the body begins */
	uint64_t body_offset, body_bytes;
	uint64_t decoded_bytes; /* base64: after decoding; no encoding: body_bytes; else MIME_DECODED_UNKNOWN */
	uint64_t lines;         /* CRLFs in the body */
	uint16_t parent, child, next; /* indices; MIME_NO_PART. `child` is the first; of a message the part inside */
	uint8_t kind, encoding;
	bool digest;            /* a child of multipart/digest: without Content-Type it is message/rfc822 */
	struct slice fields;    /* the kept fields, each "Name: value CRLF", folded as sent, in order */
};
struct mime_tree {
	uint32_t part_count; /* at least 1: part 0 is the message itself; parents come before children */
	bool truncated;
	struct mime_part *parts;
};

/* ---- the parser ---- */

struct mime_parser;
struct mime_parser *mime_open(void);
void mime_feed(struct mime_parser *m, struct slice bytes);
struct mime_tree *mime_close(struct mime_parser *m); /* ends the message; frees the parser */
void mime_abort(struct mime_parser *m);              /* frees it; no tree. NULL is allowed */
void mime_tree_free(struct mime_tree *tree);         /* NULL is allowed */

/* ---- fields ---- */

/* The next field; *rest_io moves behind it. `value_out` keeps its folding, without blanks and CRLF at its ends. Lines that are no field
 * are skipped. */
bool mime_field_next(struct slice *rest_io, struct slice *name_out, struct slice *value_out);
/* The first field of that name (no colon, any case); false if there is none. */
bool mime_field_find(struct slice fields, struct slice name, struct slice *value_out);
/* Without the CRLFs of folding, in the arena or the slice itself if it has none; ptr NULL: ERR_LIMIT. */
struct slice mime_unfold(struct arena *arena, struct slice value);
/* Is a field of that name, in any case, among those that part->fields has: Date, Subject, From, Sender, Reply-To, To, Cc, Bcc,
 * In-Reply-To, References, Message-ID, MIME-Version, Content-*? */
bool mime_field_kept(struct slice name);

/* ---- addresses (RFC 5322, 3.4 and 4.4) ---- */

enum mime_address_kind { MIME_MAILBOX, MIME_GROUP_START, MIME_GROUP_END };
struct mime_address {
	enum mime_address_kind kind;
	/* quotes, escapes and comments taken away, encoded words kept; ptr NULL = NIL. Group start: `mailbox` is its name. */
	struct slice name, route, mailbox, host;
};
/* What cannot be read is passed over up to the next comma. At most MIME_ADDRESSES_MAX. */
enum err mime_addresses(struct arena *arena, struct slice value, const struct mime_address **list_out, size_t *count_out);

/* ---- type, disposition and their parameters (RFC 2045, 2183, 2231) ---- */

struct mime_param {
	struct slice name, value;    /* as sent, quotes taken away: name*0* stays what it is */
};
struct mime_value {
	struct slice type, subtype; /* as sent; subtype only of Content-Type */
	const struct mime_param *params;
	size_t param_count;         /* at most MIME_PARAMS_MAX */
};
/* ERR_NOT_FOUND: no such field, or without a first word. */
enum err mime_content_type(struct arena *arena, struct slice fields, struct mime_value *out);
enum err mime_disposition(struct arena *arena, struct slice fields, struct mime_value *out);
/* What BODYSTRUCTURE shows: with the defaults (RFC 2045 section 5.2; text/plain is us-ascii, RFC 2046 section 4.1.2), and for parts that are not
 * what they say. */
enum err mime_part_type(struct arena *arena, const struct mime_part *part, struct mime_value *out);
/* A parameter's value with RFC 2231 pieces joined in their order; percent-decoded where they say so, with the charset named in the
 * first. ERR_NOT_FOUND. charset_out: empty if none. */
enum err mime_param(struct arena *arena, const struct mime_value *v, struct slice name, struct slice *value_out,
		    struct slice *charset_out);

/* As BODYSTRUCTURE shows parameters (RFC 2231 section 6): a value that was sent in pieces is one, where its first piece was; it stays percent-encoded,
 * as `name*`, when one of them is. Pieces that nothing begins stay as they are. ERR_LIMIT. */
enum err mime_params_join(struct arena *arena, const struct mime_value *v, struct mime_value *out);

/* ---- dates (RFC 5322, 3.3 and 4.3) ---- */

struct mime_date {
	int64_t utc_s;
	int16_t zone_min; /* as written; unknown zones count as 0 */
	int32_t local_day; /* days since 1970-01-01 of the date as written: SENTON and the like disregard time and zone */
};
bool mime_date(struct slice value, struct mime_date *out); /* false: not a date */

/* ---- text as UTF-8 (RFC 2047) ---- */

/* Which charsets there are is a closed list (mime_charset.c). Loads their converters from disk; returns how many this system has. Called once,
 * before there are shards: blocks. Without it the first text in a charset does that (tools, tests). */
unsigned mime_charsets_load(void);

/* A text that streams by. Begin, feed, end; end frees what begin made. */
struct mime_charset {
	void *converter; /* iconv's; NULL: it is UTF-8 */
	char held[16];   /* the beginning of a character that is not whole yet */
	size_t held_bytes;
};
typedef void mime_text_put(void *arg, struct slice utf8); /* takes a piece, whole characters */
bool mime_charset_begin(struct mime_charset *c, struct slice name); /* false: not known; what is fed is then taken for UTF-8 */
void mime_charset_feed(struct mime_charset *c, struct slice bytes, mime_text_put *put, void *arg);
void mime_charset_end(struct mime_charset *c, mime_text_put *put, void *arg); /* put NULL: the rest goes nowhere */

/* Appends bytes of a charset as UTF-8, what is none of it as U+FFFD; an unknown charset is one U+FFFD. False: the buf is full. */
bool mime_to_utf8(struct buf *out, struct slice charset, struct slice bytes);
/* Appends an unfolded value with its encoded words decoded. Raw UTF-8 stays (RFC 6532). False: the buf is full. */
bool mime_words_decode(struct buf *out, struct slice value);

/* Appends UTF-8 folded for comparison: i;unicode-casemap (RFC 5051), title case, then decomposed. What is not UTF-8 becomes U+FFFD.
 * False: the buf is full. */
bool mime_casemap(struct buf *out, struct slice utf8);

/* ---- sort and thread keys (RFC 5256) ---- */

/* The base subject of a decoded Subject, in the arena; *reply_out: something said that it is a reply or forwarded. ERR_LIMIT. */
enum err mime_base_subject(struct arena *arena, struct slice subject, struct slice *base_out, bool *reply_out);
/* The next identifier of Message-ID, References or In-Reply-To, without "<>", quotes, escapes and blanks; what has no '@' is none.
 * False: no more, or the arena is full. */
bool mime_id_next(struct arena *arena, struct slice *rest_io, struct slice *id_out);

/* ---- decoding by streaming (RFC 2045, 6.7 and 6.8) ---- */

struct mime_decoder {
	uint8_t encoding, state;
	uint32_t bits;
	uint32_t held; /* octets in `hold` */
	char hold[80];
	bool done;
};
void mime_decode_init(struct mime_decoder *d, enum mime_encoding encoding);
/* Decodes; out has room for in.len + sizeof hold octets; returns how many were written. Junk in base64 is passed over, '=' ends it. */
size_t mime_decode(struct mime_decoder *d, struct slice in, char *out);
size_t mime_decode_end(struct mime_decoder *d, char *out); /* what was held: at most sizeof hold */

#endif
