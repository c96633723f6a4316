/* SPDX-License-Identifier: Apache-2.0 */
/*
 * body.h - a message on its way in, as the rest of the room sees it (store.h has the calls that make one).
 *
 * A body is canonical from its first byte: lines end in CRLF and so does the whole, no NUL, no bare CR or LF.  It is found
 * out while it streams in where the header ends, which lines begin with a dot, and what it hashes to; so the records that
 * describe it can be written before its bytes, and one hash serves all recipients.  The same goes for its structure (structure.h).
 *
 * Where its bytes are, by size:
 *   memory     up to memory_body_bytes; in chunks, so that growing copies nothing
 *   spool      above that: DATA/spool/<shard>-<guid>, not synced: a log gets a copy of it
 *   external   above file_body_bytes: the spool file is the body for good; it is synced when the body is complete, and each
 *              account links it into its directory as B.<guid> and syncs that before a record names it
 *
 * Once made, a body never changes (invariant 3) and may be read on any shard.  The last body_unref frees it; a spool file is
 * removed on the shard that made it.  Spool files of a process that died are swept at its next start.
 */
#ifndef PENFOLD_STORAGE_BODY_H
#define PENFOLD_STORAGE_BODY_H

#include "core/base/rc.h"
#include "core/run/shard.h"
#include "storage/format.h"
#include "storage/store.h"
#include "storage/structure_private.h"

#include <sys/uio.h>

#define BODY_FILE_NAME_BYTES (2 + 2 * GUID_BYTES + 1) /* "B.<32 lower-case hex digits>", NUL included */

struct body_chunk {
	char *ptr;
	uint32_t len, cap;
};

struct body {
	struct rc refs;
	unsigned home; /* the shard that made it */
	uint8_t guid[GUID_BYTES];
	uint64_t hash; /* hash64(all bytes, seed 0): the same for whoever stores it */
	uint64_t bytes;
	uint64_t header_bytes; /* up to and including the empty line; all bytes when there is none */
	const uint64_t *dots;  /* offsets of lines that begin with a dot, ascending */
	uint32_t dot_count;
	bool dots_unknown; /* more than BODY_DOTS_MAX: then no offset is kept */
	bool external;     /* belongs under B.<guid>, by body_link */
	int spool_fd;      /* -1: in memory */
	struct body_chunk *chunks; /* in memory: the bytes, in order; none is empty */
	uint32_t chunk_count;
	struct structure_stored structure; /* made while it streamed in; none if it is too large */
	struct slice header;       /* see body_header */
	char *header_own;          /* its memory, unless it lies in the first chunk */
	struct post drop;
};

/* On each shard, on a fiber, before it serves: opens (makes) DATA/spool and removes what a dead process left there. Later. */
enum err body_start(const struct store_config *config, int data_dir_fd);
void body_stop(void);

/* Names an external body in an account's directory and syncs the directory, so that a record may name it. There already:
 * a try before this one did it, OK. Later. ERR_IO, ERR_FULL. */
enum err body_link(const struct body *body, int account_dir_fd);
void body_file_name(const uint8_t guid[GUID_BYTES], char name_out[BODY_FILE_NAME_BYTES]);
/* The GUID in a name of that form, or false. */
bool body_file_guid(const char *name, uint8_t guid_out[GUID_BYTES]);

#endif
