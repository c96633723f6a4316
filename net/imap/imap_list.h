/* SPDX-License-Identifier: Apache-2.0 */
/*
 * imap_list.h - names of an account in the order of their tree, for LIST and whoever must go through many mailboxes: folders, subscribed names
 * that are none, and names that only stand before others.
 */
#ifndef PENFOLD_NET_IMAP_IMAP_LIST_H
#define PENFOLD_NET_IMAP_IMAP_LIST_H

#include "net/imap/imap_private.h"

#define IMAP_NO_ENTRY UINT32_MAX
struct imap_entry {
	struct slice name; /* in the command's arena */
	uint32_t folder;   /* 0: none */
	uint32_t parent;   /* index, or IMAP_NO_ENTRY */
	uint8_t use;
	bool exists, subscribed;
	bool child_exists, child_subscribed; /* somewhere below */
};
struct imap_list {
	struct imap_entry *entries; /* xmalloc */
	size_t count, cap, at;
	struct slice patterns[IMAP_PATTERNS_MAX];
	size_t pattern_count;
	uint32_t status; /* IMAP_STATUS_... of RETURN (STATUS (...)) */
	bool lsub, extended, root, select_subscribed, select_use, recursive, return_subscribed;
};
/* Takes all names. The caller frees entries. Now. */
enum err imap_list_collect(struct imap_session *p, struct imap_list *l);
bool imap_list_match(struct slice pattern, struct slice name);

#endif
