/* SPDX-License-Identifier: Apache-2.0 */
/*
 * source.h - where stored bytes are: descriptors of logs and body files, and records read alone.
 *
 * For the room only (message_open is in store.h).  Descriptors for reading are kept per shard, least recently used first to
 * go, at most log_fds_max in all shards together but for those in use: a send or a compaction pins its own, which then
 * outlives its place in the cache, a stub taking the name, and even the account.
 *
 * A descriptor is believed to be a log's only if it is the very file that the account was read from (its inode): a name
 * that leads to a stub, or to a number made anew by one who slept, is ERR_FENCED unless the row has moved meanwhile.
 *
 * All calls are for fibers of the account's shard.
 */
#ifndef PENFOLD_STORAGE_SOURCE_H
#define PENFOLD_STORAGE_SOURCE_H

#include "storage/account_private.h"

struct source_file; /* a pinned descriptor */

/* Later. OK, ERR_AGAIN (a stub of our own by now: look the row up again), ERR_FENCED (not the file that we knew), ERR_BUSY (no descriptors
 * left), ERR_IO. */
enum err source_pin_log(struct account *a, uint32_t log, struct source_file **file_out);
/* B.<guid>. ERR_CORRUPT: it is missing. */
enum err source_pin_body(struct account *a, const uint8_t guid[GUID_BYTES], struct source_file **file_out);
void source_unpin(struct source_file *file); /* now */
/* A log is about to become a stub: forgets its descriptor. False: somebody still reads from it. Now. */
bool source_forget_log(const struct account *a, uint32_t log);
int source_fd(const struct source_file *file);
uint64_t source_serial(const struct source_file *file); /* no other of this shard ever has it */

/* Quarantine: the body whose bytes lie there was found damaged (SOURCE_CONDEMNED_MAX a shard, until the process ends). Now. */
void source_condemn(uint64_t account_id, uint32_t log, uint64_t offset);
bool source_condemned(const struct account *a, uint32_t log, uint64_t offset);

/* A piece of a file in memory that grows as records turn out longer. Zero at birth. */
struct window {
	char *ptr;        /* aligned for record_get */
	uint64_t offset;  /* in the file, a multiple of 8 */
	size_t len;
};
/* Makes the record at `offset` lie whole in the window; `guess` bytes are read at first. Pointers into the window may move. Later. ERR_CORRUPT. */
enum err window_need(struct window *w, int fd, uint64_t offset, uint64_t guess);
/* The record there; it must have been needed. False: its hash is wrong. */
bool window_record(const struct window *w, uint64_t offset, struct record *record_out);
void window_release(struct window *w);

/* The message record of a row, checked against it. Slices in *record_out point into the window. Later. ERR_CORRUPT and as source_pin_log. */
enum err source_message(struct account *a, uint32_t folder, const struct row *row, struct window *window, struct message_record *record_out);

#endif
