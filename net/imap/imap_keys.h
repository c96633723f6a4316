/* SPDX-License-Identifier: Apache-2.0 */
/*
 * imap_keys.h - the messages that SORT and THREAD compare, by the keys in their structures (storage/structure.h), and the memory they may take for it.
 *
 * Calls that open a message may wait.
 */
#ifndef PENFOLD_NET_IMAP_IMAP_KEYS_H
#define PENFOLD_NET_IMAP_IMAP_KEYS_H

#include "net/imap/imap_search.h"

/* Looks at a message, with its structure or without. ERR_NOT_FOUND: it cannot be read, which is logged and noted in the program. */
enum err keys_open(struct imap_session *p, struct search_program *s, uint32_t index, bool structure, struct imap_source **source_out);
/* The sent date in UTC, or where there is none the INTERNALDATE. The structure must be there. Now. */
int64_t keys_sent(const struct imap_source *source);

/* A shard's budget: all SORTs and THREADs of a shard together have IMAP_SORT_SHARD_BYTES_MAX. */
struct keys_budget {
	size_t taken;
};
/* This one has so many bytes now. ERR_LIMIT: the shard's budget is spent. */
enum err keys_budget_take(struct keys_budget *b, size_t bytes);
void keys_budget_release(struct keys_budget *b);

#endif
