/* SPDX-License-Identifier: Apache-2.0 */
/*
 * structure_private.h - how a structure lies in a body record; for the storage room only.
 *
 * Version 1.  Integers are little-endian, without padding.  All of it comes from the body alone: who has the bytes can make it anew.
 *
 *     parts      one struct part_disk each, parents before children, children in order; `parent` of the root is its own index.
 *                kind: enum mime_kind, plus PART_DIGEST
 *     envelope   the kept fields of the root part, as sent (mime.h)
 *     structure  flags 4 (STRUCTURE_TRUNCATED); then of every other part, in order: bytes 4, its kept fields
 *     preview    UTF-8
 *     keys       date's seconds since 1970 8, its day since 1970 4, its zone in minutes 2, flags 2 (KEYS_...); then subject, from, to, cc,
 *                from_name, to_name, message_id, references: bytes 2, text
 *
 * Readers take any bytes: what is not drawn like this counts as not stored.
 */
#ifndef PENFOLD_STORAGE_STRUCTURE_PRIVATE_H
#define PENFOLD_STORAGE_STRUCTURE_PRIVATE_H

#include "storage/format.h"
#include "storage/structure.h"

#define STRUCTURE_VERSION 1u
#define PART_DIGEST 0x80u
#define STRUCTURE_TRUNCATED 1u
#define KEYS_DATED 1u
#define KEYS_REPLY 2u
#define KEYS_FIXED_BYTES 16u
#define KEYS_TEXTS 8u

/* The places of a body record that a structure fills. version STRUCTURE_NONE: none. */
struct structure_stored {
	uint16_t version;
	uint32_t part_count;
	const struct part_disk *parts;
	struct slice envelope, structure, preview, keys;
	char *memory; /* what they point into, if it is theirs */
};

/* Encodes; false, and version STRUCTURE_NONE, when that takes more than `bytes_max`. Memory is the stored one's. Now. */
bool structure_encode(const struct structure *s, size_t bytes_max, struct structure_stored *out);
void structure_stored_release(struct structure_stored *stored);
void structure_to_record(const struct structure_stored *stored, struct body_record *record);
/* Decodes what a record holds into a handle of its own; NULL: there is none of our version, or it is malformed. `body_bytes`: parts lie below it. */
struct structure *structure_decode(const struct body_record *record);
/* A record says that it has a structure of our version, and it is not malformed (fsck). True for those without one. */
bool structure_good(const struct body_record *record);

/* Is it not of our version, so that it may be made anew? */
static inline bool structure_stale(const struct body_record *record) { return record->fixed.structure_version != STRUCTURE_VERSION; }
/* Reads the message and encodes its structure for a record. Later. ERR_IO; ERR_LIMIT: it does not fit, version STRUCTURE_NONE. */
enum err structure_restate(const struct message_source *source, struct structure_stored *out);

/* ---- making one ---- */

/* A handle with one reference and so much memory behind it, aligned to 16; the rest is zero. */
struct structure *structure_new(size_t bytes, char **memory_out);

/* The part whose text makes the preview, or NULL; *bytes_out: how much of its beginning is wanted. */
const struct mime_part *structure_preview_part(const struct mime_tree *tree, uint64_t *bytes_out);
/* Appends the preview of that part, whose first bytes these are; `whole`: they are all of it. */
void structure_preview(struct buf *out, const struct mime_part *part, struct slice bytes, bool whole);
/* The keys of the fields of a root part, in the arena; what does not fit there is left empty. */
void structure_keys_make(struct arena *arena, struct slice fields, struct structure_keys *keys_out);
/* A handle of tree (taken over) and the beginning of the preview's part. */
struct structure *structure_make(struct mime_tree *tree, struct slice text, bool whole);

#endif
