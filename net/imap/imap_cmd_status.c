/* SPDX-License-Identifier: Apache-2.0 */
/*
 * imap_cmd_status.c - STATUS (RFC 9051 section 6.3.11), and its line for LIST's RETURN (STATUS (...)) (RFC 5819).
 *
 * Everything but DELETED comes from counters; those are counted by a walk over the flags in memory.
 */
#include "net/imap/imap_private.h"

#include "core/run/fiber.h"
#include "net/imap/imap_status.h"

static const struct item {
	const char *name;
	uint32_t bit;
} items[] = {
	{ "MESSAGES", IMAP_STATUS_MESSAGES },       { "RECENT", IMAP_STATUS_RECENT },   { "UIDNEXT", IMAP_STATUS_UIDNEXT },
	{ "UIDVALIDITY", IMAP_STATUS_UIDVALIDITY }, { "UNSEEN", IMAP_STATUS_UNSEEN },   { "DELETED", IMAP_STATUS_DELETED },
	{ "SIZE", IMAP_STATUS_SIZE },               { "HIGHESTMODSEQ", IMAP_STATUS_HIGHESTMODSEQ }, { "APPENDLIMIT", IMAP_STATUS_APPENDLIMIT },
	{ "MAILBOXID", IMAP_STATUS_MAILBOXID },     { "DELETED-STORAGE", IMAP_STATUS_DELETED_STORAGE },
};

bool imap_status_items(struct imap_session *p, uint32_t *items_out)
{
	struct imap_args *a = &p->cmd->args;
	struct slice word;
	*items_out = 0;
	if (!imap_open(a))
		return false;
	for (bool first = true; imap_more(a, &first);) {
		uint32_t bit = 0;
		if (!imap_atom(a, &word))
			return false;
		for (size_t i = 0; i < ARRAY_LEN(items); i++)
			if (slice_eq_nocase(word, slice_str(items[i].name)))
				bit = items[i].bit;
		a->why = "no such item";
		if (!bit)
			return false;
		*items_out |= bit;
	}
	a->why = "no item is named";
	return *items_out != 0;
}

struct deleted {
	uint64_t messages, bytes;
};

static struct deleted count_deleted(struct imap_session *p, uint32_t folder)
{
	struct deleted d = { 0, 0 };
	struct view *view;
	if (view_open(p->account, folder, &view) != OK)
		return d;
	for (uint32_t i = 0; i < view_count(view); i++) {
		struct message m;
		view_message(view, i, &m);
		d.messages += (m.flags & FLAG_DELETED) != 0;
		d.bytes += m.flags & FLAG_DELETED ? m.size : 0;
		if (i % 4096 == 4095)
			fiber_breathe();
	}
	view_close(view);
	return d;
}

static uint64_t value_of(const struct folder_info *info, const struct deleted *d, uint32_t bit)
{
	switch (bit) {
	case IMAP_STATUS_MESSAGES:
		return info->messages;
	case IMAP_STATUS_UIDNEXT:
		return info->uidnext;
	case IMAP_STATUS_UIDVALIDITY:
		return info->uidvalidity;
	case IMAP_STATUS_UNSEEN:
		return info->unseen;
	case IMAP_STATUS_DELETED:
		return d->messages;
	case IMAP_STATUS_DELETED_STORAGE:
		return d->bytes;
	case IMAP_STATUS_SIZE:
		return info->bytes;
	case IMAP_STATUS_HIGHESTMODSEQ:
		return max_u64(info->modseq, 1);
	case IMAP_STATUS_APPENDLIMIT:
		return imap_settings.message_bytes_max;
	}
	return 0; /* RECENT */
}

void imap_status_put(struct imap_session *p, uint32_t folder, uint32_t wanted)
{
	struct deleted d = { 0, 0 };
	struct folder_info info;
	if (wanted & (IMAP_STATUS_DELETED | IMAP_STATUS_DELETED_STORAGE))
		d = count_deleted(p, folder);
	if (wanted & (IMAP_STATUS_UIDVALIDITY | IMAP_STATUS_MAILBOXID) && account_begun(p->account) != OK)
		return;
	if (folder_info(p->account, folder, &info) != OK)
		return;
	REPLY_LIT(&p->s.reply, "* STATUS ");
	imap_put_mailbox(p, info.name);
	REPLY_LIT(&p->s.reply, " (");
	bool first = true;
	for (size_t i = 0; i < ARRAY_LEN(items); i++) {
		if (!(wanted & items[i].bit))
			continue;
		if (items[i].bit == IMAP_STATUS_MAILBOXID)
			reply_printf(&p->s.reply, "%sMAILBOXID (F%u-%u)", first ? "" : " ", info.id, info.uidvalidity);
		else
			reply_printf(&p->s.reply, "%s%s %llu", first ? "" : " ", items[i].name,
				     (unsigned long long)value_of(&info, &d, items[i].bit));
		first = false;
	}
	REPLY_LIT(&p->s.reply, ")\r\n");
}

enum step imap_cmd_status(struct imap_session *p)
{
	struct imap_args *a = &p->cmd->args;
	struct slice name;
	struct folder_info info;
	uint32_t wanted;
	if (!imap_sp(a) || !imap_mailbox(a, &name))
		return imap_bad_args(p);
	if (!imap_sp(a) || !imap_status_items(p, &wanted) || !imap_end(a))
		return imap_bad_args(p);
	if (folder_find(p->account, name, &info) != OK || info.noselect)
		return imap_fail(p, ERR_NOT_FOUND);
	enum err e = wanted & (IMAP_STATUS_UIDVALIDITY | IMAP_STATUS_MAILBOXID) ? account_begun(p->account) : OK;
	if (e != OK)
		return imap_fail(p, e);
	if (wanted & IMAP_STATUS_HIGHESTMODSEQ)
		imap_condstore_on(p);
	imap_status_put(p, info.id, wanted);
	return imap_ok(p, "that is how it stands");
}
