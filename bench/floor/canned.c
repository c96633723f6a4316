/* SPDX-License-Identifier: Apache-2.0 */
/* canned: every answer the floor can give; see floor.h. */
#include "bench/floor/floor.h"

#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/load/message.h"

static struct reply fixed(const char *text)
{
	return (struct reply){.text = text, .bytes = strlen(text)};
}

static char *room(size_t bytes)
{
	char *p = malloc(bytes);

	if (!p)
		err(2, "canned replies");
	return p;
}

static struct reply make_stat(const struct floor_options *o, size_t message_bytes)
{
	char *text = room(64);

	snprintf(text, 64, "+OK %u %llu\r\n", o->messages, (unsigned long long)o->messages * message_bytes);
	return fixed(text);
}

/* Lines of 23 octets, as a UID of 16 hexadecimal digits makes them. */
static struct reply make_uidl(const struct floor_options *o)
{
	size_t cap = 64 + (size_t)o->messages * 32;
	char *text = room(cap);
	size_t n = (size_t)snprintf(text, cap, "+OK\r\n");

	for (unsigned i = 1; i <= o->messages; i++)
		n += (size_t)snprintf(text + n, cap - n, "%u %016x\r\n", i, i);
	n += (size_t)snprintf(text + n, cap - n, ".\r\n");
	return (struct reply){.text = text, .bytes = n};
}

static struct reply make_retr(size_t message_bytes, const struct message_body *body, unsigned serial)
{
	char *text = room(64 + MESSAGE_HEADER_BYTES_MAX + body->wire_bytes + 8);
	size_t n = (size_t)sprintf(text, "+OK %zu octets\r\n", message_bytes);

	n += message_header(body, serial, text + n);
	memcpy(text + n, body->wire, body->wire_bytes);
	n += body->wire_bytes;
	memcpy(text + n, ".\r\n", 3);
	return (struct reply){.text = text, .bytes = n + 3};
}

/* Returns the size of a message, which may be raised to what a header needs. */
static size_t make_retrs(struct canned *canned, const struct floor_options *o)
{
	struct message_pool pool;

	message_pool_init(&pool, o->message_bytes, 0, 1);
	canned->distinct = o->distinct;
	canned->retr = (struct reply *)(void *)room(o->distinct * sizeof(struct reply));
	for (unsigned i = 0; i < o->distinct; i++)
		canned->retr[i] = make_retr(pool.size, &pool.body[i % MESSAGE_VARIANTS], i);
	message_pool_release(&pool);
	return pool.size;
}

void canned_init(struct canned *canned, const struct floor_options *o)
{
	size_t message_bytes = make_retrs(canned, o);

	canned->pop3[POP3_GREETING] = fixed("+OK floor ready\r\n");
	canned->pop3[POP3_OK] = fixed("+OK\r\n");
	canned->pop3[POP3_BAD] = fixed("-ERR\r\n");
	canned->pop3[POP3_RETR] = canned->retr[0];
	canned->pop3[POP3_STAT] = make_stat(o, message_bytes);
	canned->pop3[POP3_UIDL] = make_uidl(o);
	canned->pop3[POP3_QUIT] = fixed("+OK bye\r\n");
	canned->pop3[POP3_QUIT].closes = true;

	canned->lmtp[LMTP_GREETING] = fixed("220 floor LMTP ready\r\n");
	canned->lmtp[LMTP_LHLO] = fixed("250-floor\r\n250-PIPELINING\r\n250 ENHANCEDSTATUSCODES\r\n");
	canned->lmtp[LMTP_OK] = fixed("250 2.1.0 OK\r\n");
	canned->lmtp[LMTP_DATA] = fixed("354 go ahead\r\n");
	canned->lmtp[LMTP_DATA].takes_data = true;
	canned->lmtp[LMTP_DONE] = fixed("250 2.0.0 stored\r\n");
	canned->lmtp[LMTP_BAD] = fixed("500 5.5.1 what?\r\n");
	canned->lmtp[LMTP_QUIT] = fixed("221 2.0.0 bye\r\n");
	canned->lmtp[LMTP_QUIT].closes = true;
}

const struct reply *canned_pop3(const struct canned *canned, const char *line, size_t bytes, unsigned *turn_io)
{
	enum pop3_reply which = POP3_BAD;

	if (bytes >= 4) {
		switch (line[0]) {
		case 'U': which = line[1] == 'I' ? POP3_UIDL : POP3_OK; break;
		case 'P': which = POP3_OK; break;
		case 'D': which = POP3_OK; break;
		case 'S': which = POP3_STAT; break;
		case 'R': return &canned->retr[(*turn_io)++ % canned->distinct];
		case 'Q': which = POP3_QUIT; break;
		default: break;
		}
	}
	return &canned->pop3[which];
}

const struct reply *canned_lmtp(const struct canned *canned, const char *line, size_t bytes)
{
	enum lmtp_reply which = LMTP_BAD;

	if (bytes >= 4) {
		switch (line[0]) {
		case 'L': which = LMTP_LHLO; break;
		case 'M':
		case 'R': which = LMTP_OK; break;
		case 'D': which = LMTP_DATA; break;
		case 'Q': which = LMTP_QUIT; break;
		default: break;
		}
	}
	return &canned->lmtp[which];
}
