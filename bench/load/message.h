/* SPDX-License-Identifier: Apache-2.0 */
/*
 * message: mail that proves itself.
 *
 * The generator writes messages whose header carries a digest of the body
 * (X-Digest, XXH3 of 64 bits over the body's octets after dot-unstuffing), so
 * that whoever fetches one later, in another process or from another server,
 * can tell whether a single octet changed, without any state kept beside it.
 * A server may put lines of its own on top (Return-Path, Received): they do not
 * touch the digest, which covers what follows the header's empty line.
 *
 * A pool holds a few bodies of one size, made once, so that sending costs the
 * generator no more than a header. bench/floor uses the same pool for its
 * canned RETR, and is therefore checked like everybody else.
 *
 * `struct body_check` reads a dot-terminated multi-line answer as it arrives,
 * cut anywhere, removes the stuffing, counts octets and verifies the digest; or
 * an IMAP literal, which has its length in front and no stuffing.
 *
 * Memory: a pool owns its bodies until message_pool_release(). Nothing here
 * does I/O; everything completes now; failing to allocate ends the program.
 */
#ifndef BENCH_LOAD_MESSAGE_H
#define BENCH_LOAD_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define XXH_STATIC_LINKING_ONLY /* the streaming state is embedded */
#include <xxhash.h>

#define MESSAGE_VARIANTS 8         /* bodies per pool: enough that no cache or dedup helps */
#define MESSAGE_HEADER_BYTES_MAX 640

struct message_body {
	char *wire;        /* dot-stuffed, ends in CRLF, without the final dot line */
	size_t wire_bytes;
	uint64_t digest;   /* XXH3 of the unstuffed octets */
};

struct message_pool {
	size_t size;       /* octets of a whole message, header included, unstuffed */
	struct message_body body[MESSAGE_VARIANTS];
};

/* `size` is the whole message in octets as the generator sends it (raised to
 * the header plus one empty line if smaller); `dot_lines` of a body's lines
 * begin with a dot. The content depends on `seed` alone. */
void message_pool_init(struct message_pool *pool, size_t size, unsigned dot_lines, uint64_t seed);
void message_pool_release(struct message_pool *pool);

/* The header (with its empty line) for `body`, unique by `serial`. Writes at
 * most MESSAGE_HEADER_BYTES_MAX octets, returns how many: always the same. */
size_t message_header(const struct message_body *body, uint64_t serial, char *out);

struct body_check {
	XXH3_state_t digest;
	uint64_t octets;           /* unstuffed, header included */
	uint64_t announced_digest; /* from X-Digest */
	bool digest_seen;
	bool in_header;
	bool literal;              /* counted, not dotted */
	uint64_t left;             /* of a literal */
	unsigned line_bytes;       /* of the header line being gathered */
	char line[64];
	unsigned char last[2];     /* the two raw octets before the next one */
	enum { BODY_TEXT, BODY_DOT, BODY_DOT_CR, BODY_END, BODY_MALFORMED } state;
};

void body_check_begin(struct body_check *check);

/* The same for an IMAP literal of `octets` (at least 1): ends by count, has no stuffing. */
void body_check_begin_literal(struct body_check *check, uint64_t octets);

/* Takes up to `bytes` octets, returns how many belonged to this answer: fewer
 * only when the final dot line ended (state BODY_END) or when the stuffing is
 * wrong (state BODY_MALFORMED). */
size_t body_check_feed(struct body_check *check, const char *data, size_t bytes);

/* After BODY_END: does the digest in the header match the body? */
bool body_check_verify(const struct body_check *check);

#endif
