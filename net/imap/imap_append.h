/* SPDX-License-Identifier: Apache-2.0 */
/*
 * imap_append.h - a message on its way in, between APPEND (imap_cmd_append.c), REPLACE (imap_cmd_replace.c) and CATENATE (imap_catenate.c).
 *
 * A `struct appending` lives in its command's arena and is given back by the command's drop.  Whatever is found wrong is noted once
 * (imap_append_refuse, the first reason counts) and told at the end, so that octets that follow are never taken for commands.
 */
#ifndef PENFOLD_NET_IMAP_IMAP_APPEND_H
#define PENFOLD_NET_IMAP_IMAP_APPEND_H

#include "net/imap/imap_private.h"

struct append_item {
	struct body *body;
	struct imap_flags flags;
	int64_t date_s;
	int16_t zone_min;
};
enum append_want { APPEND_WANTS_NOTHING, APPEND_WANTS_MESSAGE, APPEND_WANTS_TEXT, APPEND_WANTS_URL }; /* of the next literal */
struct appending {
	struct slice name;
	uint32_t folder;
	struct append_item *items;
	size_t count, cap;
	struct body_writer *writer;
	bool utf8;             /* "UTF8 (" is open */
	enum imap_status status; /* not OK: how it will end */
	const char *code, *text;
	uint64_t bytes;        /* of all so far, for the quota */
	bool replaces;
	uint32_t replaces_uid; /* in the selected mailbox */
	struct append_item next; /* of the message that is begun next */
	bool catenates;          /* "CATENATE (" is open */
	bool parts;              /* it had one already */
	uint8_t wants;           /* enum append_want */
	bool binary;             /* the literal is a literal8 */
	struct buf url;          /* that comes as a literal */
};

/* How the command will end, if nothing was said before. `code` and `text` are static. */
void imap_append_refuse(struct appending *ap, enum imap_status status, const char *code, const char *text);

/* Octets of the message that is coming. */
void imap_append_put(struct appending *ap, struct slice bytes);
/* The message that is coming is whole. */
void imap_append_whole(struct appending *ap);

/* CATENATE's parts up to ")" or to where a literal begins (ap->wants). False: out of form, the parser has noted why. May wait. */
bool imap_catenate_read(struct imap_session *p, struct appending *ap);
/* Adds what the URL names to the message; what cannot be found is refused with BADURL. May wait. */
void imap_catenate_url(struct imap_session *p, struct appending *ap, struct slice url);

/* REPLACE's first argument, up to the space before the mailbox. False: out of form, the parser has noted why. */
bool imap_replace_read(struct imap_session *p, struct appending *ap);
/* Octets that the message in question gives back. */
uint64_t imap_replaced_bytes(const struct imap_session *p, const struct appending *ap);
/* It is done; the code is APPENDUID's. */
enum step imap_replaced(struct imap_session *p, const char *code);

#endif
