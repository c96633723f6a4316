/* SPDX-License-Identifier: Apache-2.0 */
/*
 * imap_source.h - one message that a command looks into, for FETCH, SEARCH, SORT and THREAD.
 *
 * It is opened as little as it can be: what its records say (dates, ids, the structure that was stored with it: storage/structure.h) costs
 * one read; its bytes are fetched when somebody asks for them first.  So a walk over many messages that asks only for ENVELOPE, sent dates or sort keys
 * never reads a message.
 *
 * Memory: counted references; the last imap_source_unref frees all.  Ranges in the output hold one each.  A source whose bytes are not
 * there yet belongs to a running command: its view must be open.
 */
#ifndef PENFOLD_NET_IMAP_IMAP_SOURCE_H
#define PENFOLD_NET_IMAP_IMAP_SOURCE_H

#include "storage/structure.h"

struct imap_source {
	struct message_source m;
	struct view *view; /* where its bytes are found */
	uint32_t index;
	uint32_t references;
	const struct structure *structure; /* when it was asked for, or NULL */
	char *header; /* prefix and header in one piece, when that was asked for */
	size_t header_bytes;
};

/* With its bytes, or without them as yet. One reference. As message_open. May wait. */
enum err imap_source_open(struct view *view, uint32_t index, bool bytes, struct imap_source **source_out);
void imap_source_unref(void *source);

/* What of the message is read or made when it is first asked for. ERR_IO, ERR_CORRUPT. May wait. */
enum err imap_source_bytes(struct imap_source *s);     /* s->m can be read */
enum err imap_source_structure(struct imap_source *s); /* s->structure */
enum err imap_source_header(struct imap_source *s);    /* s->header */
/* s->structure if it was stored or is remembered, without reading the message; else it stays NULL. Now. */
void imap_source_known(struct imap_source *s);
/* `bytes` of the body from `at` on into `out`; its bytes must be there. ERR_IO. May wait. */
enum err imap_source_read(const struct imap_source *s, uint64_t at, char *out, size_t bytes);

#endif
