/* SPDX-License-Identifier: Apache-2.0 */
/*
 * warm.h - accounts that nobody uses: kept while there is room, then sealed, saved and forgotten.
 *
 * For the room only.  The LRU hands over what it has no room for; keepers, a few fibers that exist only while there is work,
 * let go of one account after another.  The calls complete now, but for warm_stop.
 */
#ifndef PENFOLD_STORAGE_WARM_H
#define PENFOLD_STORAGE_WARM_H

#include "storage/account_private.h"

/* The LRUs' evict functions. */
void warm_evict(struct lru_node *n);
void account_live_evict(struct lru_node *n);

/* account.c: frees an account that nobody uses, without a word to the disk. */
void account_drop(struct account *a);
extern struct slice (*const account_key_of)(const struct table_node *n);

/* Seals, saves and drops one that nobody uses. Later. */
void warm_let_go(struct account *a);
/* Lets go of every account that nobody uses, and waits until that is done. Later. */
void warm_stop(void);

#endif
