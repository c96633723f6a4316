/* SPDX-License-Identifier: Apache-2.0 */
/*
 * imap_words.c - tagged answers, the one table from outcomes to words and response codes (RFC 9051 section 7.1, RFC 5530), and strings.
 */
#include "net/imap/imap_private.h"

static const char *const statuses[] = { [IMAP_S_OK] = "OK", [IMAP_S_NO] = "NO", [IMAP_S_BAD] = "BAD" };

/* By enum err: what the client is told. */
static const struct outcome {
	const char *code, *text;
} outcomes[] = {
	[OK] = { NULL, "done" },
	[ERR_AGAIN] = { "SERVERBUG", "internal error" },
	[ERR_CLOSED] = { "UNAVAILABLE", "the connection is closing" },
	[ERR_TIMEOUT] = { "UNAVAILABLE", "the server is busy, please wait and try again" },
	[ERR_LIMIT] = { "LIMIT", "a limit is reached" },
	[ERR_SYNTAX] = { "CANNOT", "that cannot be done" },
	[ERR_AUTH] = { "AUTHENTICATIONFAILED", "wrong name or password" },
	[ERR_DENIED] = { "NOPERM", "not allowed" },
	[ERR_NOT_FOUND] = { "NONEXISTENT", "no such mailbox" },
	[ERR_EXISTS] = { "ALREADYEXISTS", "it is already there" },
	[ERR_QUOTA] = { "OVERQUOTA", "over quota" },
	[ERR_FULL] = { "UNAVAILABLE", "the server's disk is full, please try again later" },
	[ERR_IN_USE] = { "INUSE", "in use" },
	[ERR_BUSY] = { "UNAVAILABLE", "the server is busy, please wait and try again" },
	[ERR_IO] = { "UNAVAILABLE", "the server's storage failed, please try again later" },
	[ERR_CORRUPT] = { "CORRUPTION", "stored data is damaged" },
	[ERR_FENCED] = { "UNAVAILABLE", "the account has moved, please connect again" },
	[ERR_READONLY] = { "UNAVAILABLE", "the account can only be read at the moment" },
	[ERR_TEMP] = { "UNAVAILABLE", "please wait and try again" },
	[ERR_CONFIG] = { "SERVERBUG", "internal error" },
};
static_assert_c(ARRAY_LEN(outcomes) == ERR_COUNT, "every outcome has words");

enum step imap_end_with(struct imap_session *p, enum imap_status status, const char *code, const char *text)
{
	struct imap_command *c = p->cmd;
	if (status != IMAP_S_BAD)
		p->bad_in_row = 0;
	c->last = arena_printf(&c->arena, "%.*s %s %s%s%s%s\r\n", SLICE_ARG(c->tag), statuses[status], code ? "[" : "", code ? code : "",
			       code ? "] " : "", text);
	if (!c->last.ptr)
		return STEP_ABORT;
	return imap_update_and_end(p);
}

enum step imap_bad(struct imap_session *p, const char *text)
{
	if (++p->bad_in_row < imap_settings.bad_commands_max)
		return imap_end_with(p, IMAP_S_BAD, NULL, text);
	REPLY_LIT(&p->s.reply, "* BYE too many bad commands\r\n");
	return STEP_CLOSE;
}

enum step imap_bad_args(struct imap_session *p)
{
	return p->cmd->args.bad_name ? imap_no(p, "CANNOT", p->cmd->args.why) : imap_bad(p, p->cmd->args.why);
}

enum step imap_fail(struct imap_session *p, enum err e)
{
	const struct outcome *o = &outcomes[e];
	if (e == ERR_FENCED) { /* another owner has the account: nothing more can be told or changed here (DESIGN section 5) */
		REPLY_LIT(&p->s.reply, "* BYE [UNAVAILABLE] the account has moved, please connect again\r\n");
		return STEP_CLOSE;
	}
	return imap_no(p, o->code, o->text);
}

/* ---- strings ---- */

static bool quotable(const struct imap_session *p, struct slice s)
{
	if (s.len > IMAP_QUOTED_BYTES_MAX)
		return false;
	bool eight = false;
	for (size_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.ptr[i];
		if (c == 0 || c == '\r' || c == '\n')
			return false;
		eight |= c > 126;
	}
	return !eight || (imap_utf8_names(p) && imap_utf8_good(s));
}

void imap_put_string(struct imap_session *p, struct slice s)
{
	struct reply *r = &p->s.reply;
	if (!s.ptr) {
		REPLY_LIT(r, "NIL");
		return;
	}
	if (!quotable(p, s)) {
		reply_printf(r, "{%zu}\r\n", s.len);
		reply_put(r, s);
		return;
	}
	REPLY_LIT(r, "\"");
	size_t begin = 0;
	for (size_t i = 0; i < s.len; i++)
		if (s.ptr[i] == '"' || s.ptr[i] == '\\') {
			reply_put(r, slice_of(s.ptr + begin, i - begin));
			REPLY_LIT(r, "\\");
			begin = i;
		}
	reply_put(r, slice_from(s, begin));
	REPLY_LIT(r, "\"");
}

void imap_put_mailbox(struct imap_session *p, struct slice name)
{
	struct slice wire = name;
	if (!imap_utf8_names(p) && !imap_mutf7_encode(&p->cmd->arena, name, &wire))
		wire = SLICE_LIT("?"); /* cannot be: names are UTF-8 */
	bool plain = wire.len > 0;
	for (size_t i = 0; i < wire.len && plain; i++) {
		char c = wire.ptr[i];
		plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '/' || c == '-' || c == '_' || c == '.';
	}
	if (plain && !slice_eq_nocase(wire, SLICE_LIT("NIL")))
		reply_put(&p->s.reply, wire);
	else
		imap_put_string(p, wire);
}

/* The sequence set of ascending numbers, in the reply. */
void imap_put_uids(struct imap_session *p, const uint32_t *uids, size_t count)
{
	for (size_t i = 0; i < count;) {
		size_t last = i;
		while (last + 1 < count && uids[last + 1] == uids[last] + 1)
			last++;
		if (i)
			REPLY_LIT(&p->s.reply, ",");
		reply_u64(&p->s.reply, uids[i]);
		if (last > i) {
			REPLY_LIT(&p->s.reply, ":");
			reply_u64(&p->s.reply, uids[last]);
		}
		i = last + 1;
	}
}
