/* SPDX-License-Identifier: Apache-2.0 */
/* message: see message.h. */
#include "bench/load/message.h"

#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINE_BYTES 78 /* 76 characters and CRLF, as base64 mail has it */

static uint64_t next_random(uint64_t *state)
{
	uint64_t x = *state += 0x9e3779b97f4a7c15ull;

	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
	return x ^ (x >> 31);
}

/* One line of `bytes` octets, CRLF included. */
static void fill_line(char *out, size_t bytes, uint64_t *random)
{
	static const char alphabet[65] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	uint64_t bits = 0;

	for (size_t i = 0; i + 2 < bytes; i++) {
		if (i % 10 == 0)
			bits = next_random(random);
		out[i] = alphabet[bits & 63];
		bits >>= 6;
	}
	out[bytes - 2] = '\r';
	out[bytes - 1] = '\n';
}

static void body_init(struct message_body *body, size_t bytes, unsigned dot_lines, uint64_t *random)
{
	char *plain = malloc(bytes);
	char *wire = malloc(bytes + dot_lines);
	size_t lines = bytes / LINE_BYTES + 1;
	size_t every = dot_lines ? (lines / dot_lines ? lines / dot_lines : 1) : 0;
	size_t at = 0;
	size_t sent = 0;

	if (!plain || !wire)
		err(2, "message body of %zu octets", bytes);
	for (size_t n = 0; at < bytes; n++) {
		size_t left = bytes - at;
		size_t line = left < LINE_BYTES ? left : LINE_BYTES;

		if (left - line == 1) /* a last line of one octet has no room for CRLF */
			line--;
		fill_line(plain + at, line, random);
		if (every && n % every == 0 && dot_lines && line > 2) {
			plain[at] = '.';
			wire[sent++] = '.';
			dot_lines--;
		}
		memcpy(wire + sent, plain + at, line);
		sent += line;
		at += line;
	}
	body->wire = wire;
	body->wire_bytes = sent;
	body->digest = XXH3_64bits(plain, bytes);
	free(plain);
}

void message_pool_init(struct message_pool *pool, size_t size, unsigned dot_lines, uint64_t seed)
{
	struct message_body none = {0};
	char scratch[MESSAGE_HEADER_BYTES_MAX];
	size_t header = message_header(&none, 0, scratch);

	if (size < header + 2)
		size = header + 2;
	pool->size = size;
	for (unsigned i = 0; i < MESSAGE_VARIANTS; i++)
		body_init(&pool->body[i], size - header, dot_lines, &seed);
}

void message_pool_release(struct message_pool *pool)
{
	for (unsigned i = 0; i < MESSAGE_VARIANTS; i++)
		free(pool->body[i].wire);
}

size_t message_header(const struct message_body *body, uint64_t serial, char *out)
{
	int n = snprintf(out, MESSAGE_HEADER_BYTES_MAX,
	                 "Date: Mon, 02 Mar 2026 09:00:00 +0000\r\n"
	                 "From: Load Generator <load@bench.example>\r\n"
	                 "To: Mail Reader <reader@bench.example>\r\n"
	                 "Subject: message %016llx\r\n"
	                 "Message-ID: <%016llx.%016llx@bench.example>\r\n"
	                 "MIME-Version: 1.0\r\n"
	                 "Content-Type: text/plain; charset=us-ascii\r\n"
	                 "X-Digest: %016llx\r\n"
	                 "\r\n",
	                 (unsigned long long)serial, (unsigned long long)serial,
	                 (unsigned long long)body->digest, (unsigned long long)body->digest);

	return (size_t)n;
}

void body_check_begin(struct body_check *check)
{
	XXH3_64bits_reset(&check->digest);
	check->octets = 0;
	check->digest_seen = false;
	check->in_header = true;
	check->literal = false;
	check->line_bytes = 0;
	check->last[0] = '\r';
	check->last[1] = '\n';
	check->state = BODY_TEXT;
}

void body_check_begin_literal(struct body_check *check, uint64_t octets)
{
	body_check_begin(check);
	check->literal = true;
	check->left = octets;
}

static void header_line(struct body_check *check)
{
	static const char name[] = "X-Digest: ";
	char hex[17];

	if (check->line_bytes == 2) {
		check->in_header = false;
		return;
	}
	if (check->line_bytes < sizeof(name) - 1 + 16 || memcmp(check->line, name, sizeof(name) - 1) != 0)
		return;
	memcpy(hex, check->line + sizeof(name) - 1, 16);
	hex[16] = '\0';
	check->announced_digest = strtoull(hex, NULL, 16);
	check->digest_seen = true;
}

/* Unstuffed octets: the header line by line, the rest into the digest. */
static void take(struct body_check *check, const char *data, size_t bytes)
{
	check->octets += bytes;
	while (check->in_header && bytes) {
		const char *end = memchr(data, '\n', bytes);
		size_t n = end ? (size_t)(end - data) + 1 : bytes;
		size_t room = sizeof(check->line) - check->line_bytes;
		size_t keep = n < room ? n : room;

		memcpy(check->line + check->line_bytes, data, keep);
		check->line_bytes += (unsigned)keep;
		data += n;
		bytes -= n;
		if (end) {
			header_line(check);
			check->line_bytes = 0;
		}
	}
	if (bytes)
		XXH3_64bits_update(&check->digest, data, bytes);
}

/* The next dot that begins a line, or NULL. The octets before `data` are in
 * check->last: an answer may be cut anywhere. */
static const char *line_dot(const struct body_check *check, const char *data, size_t bytes)
{
	const char *end = data + bytes;

	for (const char *at = data; at < end; at++) {
		at = memchr(at, '.', (size_t)(end - at));
		if (!at)
			return NULL;
		char before1 = at > data ? at[-1] : (char)check->last[1];
		char before2 = at > data + 1 ? at[-2] : (char)check->last[at > data ? 1 : 0];
		if (before1 == '\n' && before2 == '\r')
			return at;
	}
	return NULL;
}

static void remember(struct body_check *check, const char *data, size_t bytes)
{
	if (bytes >= 2) {
		check->last[0] = (unsigned char)data[bytes - 2];
		check->last[1] = (unsigned char)data[bytes - 1];
	} else if (bytes == 1) {
		check->last[0] = check->last[1];
		check->last[1] = (unsigned char)data[0];
	}
}

static void after_dot(struct body_check *check, char octet)
{
	if (check->state == BODY_DOT_CR) {
		check->state = octet == '\n' ? BODY_END : BODY_MALFORMED;
	} else if (octet == '\r') {
		check->state = BODY_DOT_CR;
	} else if (octet == '.') { /* the stuffed dot: itself content */
		take(check, ".", 1);
		remember(check, "..", 2);
		check->state = BODY_TEXT;
	} else {
		check->state = BODY_MALFORMED;
	}
}

static size_t feed_literal(struct body_check *check, const char *data, size_t bytes)
{
	size_t n = bytes < check->left ? bytes : (size_t)check->left;

	take(check, data, n);
	check->left -= n;
	if (!check->left)
		check->state = BODY_END;
	return n;
}

size_t body_check_feed(struct body_check *check, const char *data, size_t bytes)
{
	const char *at = data;
	const char *end = data + bytes;

	if (check->literal)
		return feed_literal(check, data, bytes);
	while (at < end && check->state != BODY_END && check->state != BODY_MALFORMED) {
		if (check->state != BODY_TEXT) {
			after_dot(check, *at++);
			continue;
		}
		const char *dot = line_dot(check, at, (size_t)(end - at));
		size_t text = (size_t)((dot ? dot : end) - at);

		take(check, at, text);
		remember(check, at, text);
		at += text;
		if (dot) {
			check->state = BODY_DOT;
			at++;
		}
	}
	return (size_t)(at - data);
}

bool body_check_verify(const struct body_check *check)
{
	return check->digest_seen && XXH3_64bits_digest(&check->digest) == check->announced_digest;
}
