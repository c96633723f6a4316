/* SPDX-License-Identifier: Apache-2.0 */
/*
 * state.h - the state file "S": what a replay of an account's logs would make of them, so that most of them need not be read.
 *
 * A cache (invariant 2).  It is written without a sync, as "S.new", and renamed; it may be lost, old, torn, of another
 * account or of another version, and is then ignored and written again.  It counts only if its hash is right and the commit
 * it covers up to is in the log, whole, and below the cut: what it says was then taken from that very history.
 *
 *     S        [ header 96 ][ body ]
 *     body     numbers as varints (7 bits a byte, lowest first, the high bit = more follow) unless drawn otherwise:
 *              account  next_folder, last_uidvalidity, sequence, bytes, messages
 *              logs     count, each: number, live_bytes, damaged, set_aside_end
 *              keywords count of names, each: length, bytes; count of sets, each: words, that many u64
 *              subscriptions  length, bytes (each name ended by NUL)
 *              folders  count, each: id, uidvalidity, uidnext, special_use, uidl_formula, subscribed + 2 * noselect, modseq,
 *                       name length, name; vanished: floor, count, each: modseq - the one before, first, last - first;
 *                       rows: count, each as below
 *     row      what of it differs from the row before: UID, size, flags, keyword set, MODSEQ, the message record's log and
 *              offset, the body record's distance, the recipient's hash (3 bytes); with a literal UIDL: length, bytes.
 *              About 14 bytes, so a million messages are opened by reading 14 MB in a row.
 */
#ifndef PENFOLD_STORAGE_STATE_H
#define PENFOLD_STORAGE_STATE_H

#include "storage/account_private.h"

#define STATE_NAME "S"
#define STATE_NEW_NAME "S.new"
#define STATE_MAGIC 0x31534650u /* "PFS1" */
#define STATE_VERSION 1u

struct state_header {
	uint32_t magic, version;
	uint64_t account_id, salt;
	uint64_t log, offset, end, header_hash, sequence; /* the last commit it covers */
	uint64_t body_bytes;
	uint64_t body_hash;   /* hash64 of the body, seed 0 */
	uint64_t zero;
	uint64_t header_hash_own; /* hash64 of the 88 bytes above, seed 0 */
};
static_assert_c(sizeof(struct state_header) == 96, "drawn");

/* state_save and state_load are in account_private.h. These are their halves, for tests: a body of what is in memory, and back.
 * Encode may yield: false if the account changed meanwhile, or it is too large. Decode: false if malformed; the account is then half filled. */
bool state_encode(const struct account *a, struct buf *out);
bool state_decode(struct account *a, struct slice body);

#endif
