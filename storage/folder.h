/* SPDX-License-Identifier: Apache-2.0 */
/*
 * folder.h - special uses, and folders in memory.
 *
 * For protocols: the FOLDER_USE_... numbers that folder_create takes and folder_info shows (RFC 6154).  They are stored and
 * never renumbered.  The rest is the room's: finding, making and dropping a `struct folder` and its history of expunged UIDs.
 * These calls change memory only, are called by apply_commit and by loads of state files, and complete now.
 */
#ifndef PENFOLD_STORAGE_FOLDER_H
#define PENFOLD_STORAGE_FOLDER_H

#include "core/base/bytes.h"
#include "core/base/err.h"

enum {
	FOLDER_USE_NONE = 0,
	FOLDER_USE_ALL = 1,
	FOLDER_USE_ARCHIVE = 2,
	FOLDER_USE_DRAFTS = 3,
	FOLDER_USE_FLAGGED = 4,
	FOLDER_USE_JUNK = 5,
	FOLDER_USE_SENT = 6,
	FOLDER_USE_TRASH = 7,
	FOLDER_USE_IMPORTANT = 8 /* RFC 8457 */
};

struct account;
struct folder;
struct vanished;

/* Makes an empty folder; the id must be unused and the folder's array have room (FOLDERS_MAX). NULL: it has none. */
struct folder *folder_add(struct account *a, uint32_t id, struct slice name);
/* Takes it out of the account. Its memory goes when no view shows it any more. */
void folder_drop(struct account *a, struct folder *f);
void folder_free(struct folder *f);                                        /* no view is open */
struct folder *folder_by_name(const struct account *a, struct slice name); /* INBOX in any case */
void folder_set_name(struct folder *f, struct slice name);
/* Names or folders have changed: what was sorted by name is forgotten. */
void folder_names_changed(struct account *a);
/* The folder that follows in order of name (bytewise); NULL: the first. NULL at the end. */
const struct folder *folder_after(struct account *a, const struct folder *last);
/* May a folder of this name be made now? Fills what its record says. ERR_SYNTAX, ERR_EXISTS, ERR_LIMIT. */
struct folder_fixed;
enum err folder_create_judge(const struct account *a, struct slice name, uint32_t special_use, struct folder_fixed *d);
/* Is `name` at or below `top`? */
bool folder_is_below(struct slice name, struct slice top);

void vanished_release(struct vanished *v);
/* Notes that a range of UIDs was expunged at this MODSEQ; said twice, counts once. */
void vanished_add(struct vanished *v, uint32_t first, uint32_t last, uint64_t modseq);
void vanished_raise_floor(struct vanished *v, uint64_t floor);

/* Subscribed names that are no folders. */
bool subscription_has(const struct account *a, struct slice name);
void subscription_set(struct account *a, struct slice name, bool on);

#endif
