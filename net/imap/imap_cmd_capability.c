/* SPDX-License-Identifier: Apache-2.0 */
/* imap_cmd_capability.c - CAPABILITY (RFC 9051 section 6.1.1) and ENABLE (section 6.3.1): what is offered, and what a client switches on. */
#include "net/imap/imap_private.h"
#include "net/sasl.h"

static bool put_mechanisms(struct buf *b, unsigned mask)
{
	bool good = true;
	for (unsigned m = 0; m < SASL_MECHANISM_COUNT; m++)
		if (mask & 1u << m)
			good = good && buf_printf(b, " AUTH=%s", sasl_name((enum sasl_mechanism)m));
	return good;
}

/* What is there only after login is told only there: a client asks again, and the greeting stays short. */
struct slice imap_capabilities(const struct imap_session *p, struct arena *arena)
{
	if (p->state != IMAP_NOT_AUTHENTICATED)
		return arena_printf(arena, "CAPABILITY IMAP4rev1 IMAP4rev2 LITERAL+ ID ENABLE " IMAP_EXTENSIONS "%s APPENDLIMIT=%llu",
				    session_compresses(&p->s) ? "" : " COMPRESS=DEFLATE", (unsigned long long)imap_settings.message_bytes_max);
	struct buf mechanisms;
	buf_init(&mechanisms, IMAP_CODE_BYTES_MAX);
	bool good = put_mechanisms(&mechanisms, imap_mechanisms(p));
	struct slice all = arena_printf(arena, "CAPABILITY IMAP4rev1 IMAP4rev2 SASL-IR LITERAL+ ID ENABLE%s%s%.*s",
					session_tls_offered(&p->s) ? " STARTTLS" : "", session_login_allowed(&p->s) ? "" : " LOGINDISABLED",
					good ? (int)mechanisms.len : 0, mechanisms.ptr ? mechanisms.ptr : "");
	buf_release(&mechanisms);
	return all;
}

enum step imap_cmd_capability(struct imap_session *p)
{
	if (!imap_end(&p->cmd->args))
		return imap_bad_args(p);
	reply_printf(&p->s.reply, "* %.*s\r\n", SLICE_ARG(imap_capabilities(p, &p->cmd->arena)));
	return imap_ok(p, "that is all");
}

/* RFC 7162 section 3.1: the first command that switches CONDSTORE on, in a selected mailbox, is answered with where it stands. */
void imap_condstore_on(struct imap_session *p)
{
	struct folder_info info;
	if (p->enabled & IMAP_CONDSTORE)
		return;
	p->enabled |= IMAP_CONDSTORE;
	if (p->state == IMAP_SELECTED && folder_info(p->account, p->folder, &info) == OK)
		reply_printf(&p->s.reply, "* OK [HIGHESTMODSEQ %llu] it stands here\r\n", (unsigned long long)max_u64(info.modseq, 1));
}

static const struct extension {
	const char *name;
	uint8_t bits;
} extensions[] = {
	{ "CONDSTORE", IMAP_CONDSTORE },
	{ "QRESYNC", IMAP_QRESYNC | IMAP_CONDSTORE },
	{ "IMAP4rev2", IMAP_REV2 },
	{ "UTF8=ACCEPT", IMAP_UTF8 },
	{ "UIDONLY", IMAP_UIDONLY },
};

enum step imap_cmd_enable(struct imap_session *p)
{
	struct imap_args *a = &p->cmd->args;
	struct slice word;
	uint8_t on = 0;
	bool named[ARRAY_LEN(extensions)] = { false };
	do {
		if (!imap_sp(a) || !imap_atom(a, &word))
			return imap_bad_args(p);
		for (size_t i = 0; i < ARRAY_LEN(extensions); i++)
			if (slice_eq_nocase(word, slice_str(extensions[i].name))) {
				named[i] = (p->enabled & extensions[i].bits) != extensions[i].bits;
				on |= extensions[i].bits;
			}
	} while (!imap_at_end(a));
	REPLY_LIT(&p->s.reply, "* ENABLED");
	for (size_t i = 0; i < ARRAY_LEN(extensions); i++)
		if (named[i])
			reply_printf(&p->s.reply, " %s", extensions[i].name);
	REPLY_LIT(&p->s.reply, "\r\n");
	if (on & IMAP_CONDSTORE)
		imap_condstore_on(p);
	p->enabled |= on;
	return imap_ok(p, "enabled");
}
