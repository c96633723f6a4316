/* SPDX-License-Identifier: Apache-2.0 */
/*
 * imap_cmd_create.c - CREATE (with USE: RFC 6154), DELETE, RENAME, SUBSCRIBE, UNSUBSCRIBE: each one commit, durable before its OK
 * (invariants 1 and 13); RENAME of INBOX makes a folder and moves the messages in one.
 *
 * A name that only stands before others' (its folder was deleted, or never made) is shown by LIST as \NonExistent; it is no folder.
 */
#include "net/imap/imap_private.h"

#include <stdio.h>
#include <stdlib.h>

static bool read_name(struct imap_session *p, struct slice *name_out)
{
	struct imap_args *a = &p->cmd->args;
	return imap_sp(a) && imap_mailbox(a, name_out);
}

/* ---- CREATE ---- */

static uint32_t special_use_of(struct slice word)
{
	static const struct {
		const char *name;
		uint32_t use;
	} uses[] = { { "All", FOLDER_USE_ALL },         { "Archive", FOLDER_USE_ARCHIVE }, { "Drafts", FOLDER_USE_DRAFTS },
		     { "Flagged", FOLDER_USE_FLAGGED }, { "Junk", FOLDER_USE_JUNK },       { "Sent", FOLDER_USE_SENT },
		     { "Trash", FOLDER_USE_TRASH },     { "Important", FOLDER_USE_IMPORTANT } };
	for (size_t i = 0; i < ARRAY_LEN(uses); i++)
		if (slice_eq_nocase(word, slice_str(uses[i].name)))
			return uses[i].use;
	return FOLDER_USE_NONE;
}

/* " (USE (\Sent))"; other parameters are not known. *known_out is false for a use that is not. */
static bool read_use(struct imap_args *a, uint32_t *use_out, bool *known_out)
{
	struct slice word;
	*use_out = FOLDER_USE_NONE;
	*known_out = true;
	if (imap_at_end(a))
		return true;
	if (!imap_sp(a) || !imap_open(a))
		return false;
	if (!imap_word(a, "USE")) {
		a->why = "no such parameter";
		return false;
	}
	if (!imap_sp(a) || !imap_open(a))
		return false;
	for (bool first = true; imap_more(a, &first);) {
		if (!imap_need(a, '\\') || !imap_atom(a, &word))
			return false;
		uint32_t use = special_use_of(word);
		*known_out &= use != FOLDER_USE_NONE && *use_out == FOLDER_USE_NONE; /* a folder has one */
		*use_out = use;
	}
	return imap_need(a, ')') && imap_end(a);
}

enum step imap_cmd_create(struct imap_session *p)
{
	struct slice name;
	uint32_t use, folder;
	bool known;
	struct folder_info info;
	char code[48];
	if (!read_name(p, &name))
		return imap_bad_args(p);
	if (!read_use(&p->cmd->args, &use, &known))
		return imap_bad_args(p);
	if (!known)
		return imap_no(p, "USEATTR", "a mailbox can have one use, of those that LIST shows");
	enum err e = folder_create(p->account, name, use, &folder);
	if (e == ERR_EXISTS)
		return imap_no(p, "ALREADYEXISTS", "there is a mailbox of this name");
	if (e != OK)
		return imap_fail(p, e);
	if (folder_info(p->account, folder, &info) != OK)
		return imap_ok(p, "created");
	snprintf(code, sizeof code, "MAILBOXID (F%u-%u)", info.id, info.uidvalidity);
	return imap_ok_code(p, code, "created");
}

/* ---- DELETE ---- */

static bool has_children(struct imap_session *p, struct slice name)
{
	struct folder_info info;
	uint32_t cursor = 0;
	while (folder_next(p->account, &cursor, &info))
		if (info.name.len > name.len && info.name.ptr[name.len] == '/' && slice_eq(slice_upto(info.name, name.len), name))
			return true;
	return false;
}

enum step imap_cmd_delete(struct imap_session *p)
{
	struct slice name;
	struct folder_info info;
	if (!read_name(p, &name))
		return imap_bad_args(p);
	if (!imap_end(&p->cmd->args))
		return imap_bad_args(p);
	if (folder_find(p->account, name, &info) != OK)
		return has_children(p, name) ? imap_no(p, "HASCHILDREN", "it is only the name before others") : imap_fail(p, ERR_NOT_FOUND);
	if (info.id == FOLDER_INBOX)
		return imap_no(p, "CANNOT", "INBOX stays");
	if (p->state == IMAP_SELECTED && info.id == p->folder) { /* RFC 9051 section 6.3.5 leaves it to the server */
		imap_leave_folder(p);
		if (p->enabled & (IMAP_QRESYNC | IMAP_REV2))
			REPLY_LIT(&p->s.reply, "* OK [CLOSED] the mailbox is deleted\r\n");
	}
	enum err e = folder_delete(p->account, info.id);
	return e == OK ? imap_ok(p, "deleted") : imap_fail(p, e);
}

/* ---- RENAME ---- */

/* RFC 9051 section 6.3.6: INBOX stays and loses its messages to the new folder; its children stay. */
static enum err rename_inbox(struct imap_session *p, struct slice to)
{
	struct view *view;
	uint32_t folder;
	enum err e = view_open(p->account, FOLDER_INBOX, &view);
	if (e != OK)
		return e;
	uint32_t count = view_count(view), *uids = xmalloc(max_size(count, 1) * sizeof *uids);
	for (uint32_t i = 0; i < count; i++) {
		struct message m;
		view_message(view, i, &m);
		uids[i] = m.uid;
	}
	e = account_move_to_new(p->account, FOLDER_INBOX, uids, count, to, &folder);
	view_close(view);
	free(uids);
	return e;
}

enum step imap_cmd_rename(struct imap_session *p)
{
	struct slice from, to;
	struct folder_info info;
	if (!read_name(p, &from) || !read_name(p, &to))
		return imap_bad_args(p);
	if (!imap_end(&p->cmd->args))
		return imap_bad_args(p);
	enum err e = folder_find(p->account, from, &info);
	if (e == OK)
		e = info.id == FOLDER_INBOX ? rename_inbox(p, to) : folder_rename(p->account, info.id, to);
	else if (has_children(p, from))
		e = folder_rename_below(p->account, from, to);
	if (e == ERR_SYNTAX)
		return imap_no(p, "CANNOT", "a mailbox cannot move below itself");
	return e == OK ? imap_ok(p, "renamed") : imap_fail(p, e);
}

/* ---- subscriptions ---- */

static enum step subscribe(struct imap_session *p, bool on)
{
	struct slice name;
	if (!read_name(p, &name))
		return imap_bad_args(p);
	if (!imap_end(&p->cmd->args))
		return imap_bad_args(p);
	enum err e = folder_subscribe(p->account, name, on);
	if (e != OK)
		return imap_fail(p, e);
	return imap_ok(p, on ? "subscribed" : "unsubscribed");
}

enum step imap_cmd_subscribe(struct imap_session *p) { return subscribe(p, true); }
enum step imap_cmd_unsubscribe(struct imap_session *p) { return subscribe(p, false); }
