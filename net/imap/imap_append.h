/* SPDX-License-Identifier: Apache-2.0 */
/* imap_append.h - a message on its way in, between APPEND (imap_cmd_append.c) and REPLACE (imap_cmd_replace.c). */
#ifndef PENFOLD_NET_IMAP_IMAP_APPEND_H
#define PENFOLD_NET_IMAP_IMAP_APPEND_H

#include "net/imap/imap_private.h"

struct append_item {
	struct body *body;
	struct imap_flags flags;
	int64_t date_s;
	int16_t zone_min;
};
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
};


/* How the command will end, if nothing was said before. `code` and `text` are static. */
void imap_append_refuse(struct appending *ap, enum imap_status status, const char *code, const char *text);

/* REPLACE's first argument, up to the space before the mailbox. False: out of form, the parser has noted why. */
bool imap_replace_read(struct imap_session *p, struct appending *ap);
/* Octets that the message in question gives back. */
uint64_t imap_replaced_bytes(const struct imap_session *p, const struct appending *ap);
/* It is done; the code is APPENDUID's. */
enum step imap_replaced(struct imap_session *p, const char *code);

#endif
