/* SPDX-License-Identifier: Apache-2.0 */
/*
 * imap_keys.h - what SORT and THREAD compare of a message (RFC 5256 section 2, RFC 5957), and the memory they may take for it.
 *
 * Strings that come out lie in the program's buffers until the next call.  Calls that open a message may wait.
 */
#ifndef PENFOLD_NET_IMAP_IMAP_KEYS_H
#define PENFOLD_NET_IMAP_IMAP_KEYS_H

#include "net/imap/imap_search.h"

/* Opens a message with its header. ERR_NOT_FOUND: it cannot be read, which is logged and noted in the program. */
enum err keys_open(struct imap_session *p, struct search_program *s, uint32_t index, struct imap_source **source_out);
/* The sent date in UTC, or where there is none the INTERNALDATE. */
int64_t keys_sent(struct search_program *s, const struct imap_source *source);
/* The base subject, folded. ERR_LIMIT. */
enum err keys_subject(struct search_program *s, const struct imap_source *source, struct slice *subject_out, bool *reply_out);
/* The first address of a field: its mailbox, or (`display`, RFC 5957) its name, or mailbox@host where it has none; folded. */
enum err keys_address(struct search_program *s, const struct imap_source *source, const char *field, bool display, struct slice *out);

/* A shard's budget: all SORTs and THREADs of a shard together have IMAP_SORT_SHARD_BYTES_MAX. */
struct keys_budget {
	size_t taken;
};
/* This one has so many bytes now. ERR_LIMIT: the shard's budget is spent. */
enum err keys_budget_take(struct keys_budget *b, size_t bytes);
void keys_budget_release(struct keys_budget *b);

#endif
