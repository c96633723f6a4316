/* SPDX-License-Identifier: Apache-2.0 */
/*
 * imap_fetch.h - FETCH between its files: imap_fetch_items.c reads what is wanted, imap_cmd_fetch.c goes through the messages,
 * imap_fetch_body.c makes the bytes of a section.
 */
#ifndef PENFOLD_NET_IMAP_IMAP_FETCH_H
#define PENFOLD_NET_IMAP_IMAP_FETCH_H

#include "net/imap/imap_private.h"
#include "net/imap/imap_source.h"
#include "storage/mime.h"

enum imap_item_kind {
	ITEM_FLAGS, ITEM_UID, ITEM_INTERNALDATE, ITEM_SIZE, ITEM_MODSEQ, ITEM_SAVEDATE, ITEM_EMAILID, ITEM_THREADID,
	ITEM_ENVELOPE, ITEM_BODY_SHORT, ITEM_BODYSTRUCTURE, ITEM_PREVIEW, ITEM_BINARY, ITEM_BINARY_SIZE,
	ITEM_BODY /* bytes of a section: BODY[...], RFC822... */
};
enum imap_section { SECTION_ALL, SECTION_HEADER, SECTION_TEXT, SECTION_FIELDS, SECTION_FIELDS_NOT, SECTION_MIME };

struct imap_item {
	uint8_t kind;    /* enum imap_item_kind */
	uint8_t section; /* enum imap_section */
	bool peek;       /* \Seen stays as it is */
	bool partial;
	bool lazy;       /* PREVIEW (LAZY) */
	bool kept;       /* header fields, all of which a structure keeps */
	uint64_t from, length;  /* <from.length> */
	struct slice label;     /* "BODY[HEADER.FIELDS (From)]", as it is answered */
	struct slice *fields;
	size_t field_count;
	uint32_t *numbers; /* of the part: BODY[2.1] */
	size_t number_count;
};

/* Bytes on their way out: first from memory, then from the message. */
struct imap_bytes {
	struct slice memory;
	uint64_t at, end; /* of the body */
	char *owned;      /* what `memory` is a part of, to be freed when it has left */
	/* BINARY: the bytes are decoded on their way; of what comes out, so much is left out, and so much told */
	struct mime_decoder *decoder;
	uint64_t skip, left;
};

struct imap_fetch {
	struct imap_set set;
	struct imap_item *items;
	size_t item_count, item_cap;
	bool marks_seen, needs_source, needs_bytes, has_uid, has_flags, has_modseq;
	uint64_t changed_since;
	bool vanished;
	bool partial_from_end;
	uint32_t partial_first, partial_last; /* 0: no PARTIAL */
	struct imap_vanished gone;
	/* where it is */
	bool in_message, first, told_flags;
	uint32_t index;
	struct message message;
	size_t item;
	struct imap_source *source;
	struct imap_bytes bytes;
	/* what \Seen was set on: ascending UIDs, and up to which index that was looked at */
	uint32_t *seen;
	size_t seen_count, seen_cap;
	uint32_t seen_until;
	bool damaged; /* a message could not be read: NO at the end */
	bool unknown_encoding; /* BINARY of a part that nobody can decode: NO at the end */
};

/* "FLAGS", "(UID BODY.PEEK[HEADER])", "ALL", then the modifiers. False: the parser has noted why. */
bool imap_fetch_read_items(struct imap_session *p, struct imap_fetch *f);

/* Makes what the item needs of the message be there: structure or bytes. ERR_IO, ERR_CORRUPT. May wait. */
enum err imap_fetch_prepare(struct imap_source *s, const struct imap_item *item);
/* Prepares f->bytes with the section; the source's bytes must be there. ERR_NOT_FOUND: there is none such; ERR_IO, ERR_LIMIT. May wait. */
enum err imap_fetch_locate(struct imap_fetch *f, const struct imap_item *item);
/* Prepares f->bytes with the section and writes its label and size. ERR_IO, ERR_LIMIT. May wait. */
enum err imap_fetch_section(struct imap_session *p, struct imap_fetch *f, const struct imap_item *item);
/* ENVELOPE, BODY, BODYSTRUCTURE, PREVIEW: into f->bytes. */
enum err imap_fetch_structure(struct imap_session *p, struct imap_fetch *f, const struct imap_item *item);
/* BINARY[...] into f->bytes, BINARY.SIZE[...] as a number. */
enum err imap_fetch_binary(struct imap_session *p, struct imap_fetch *f, const struct imap_item *item);
/* Writes f->bytes as far as there is room. ERR_AGAIN: output is full. ERR_IO. May wait. */
enum err imap_fetch_flush(struct imap_session *p, struct imap_fetch *f);
void imap_bytes_release(struct imap_bytes *b);
void imap_bytes_cut(struct imap_bytes *b, uint64_t from, uint64_t length); /* a partial fetch */

#endif
