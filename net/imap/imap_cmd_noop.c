/* SPDX-License-Identifier: Apache-2.0 */
/* imap_cmd_noop.c - the small ones: NOOP, CHECK, LOGOUT, ID (RFC 2971), NAMESPACE (RFC 2342), STARTTLS, UNAUTHENTICATE (RFC 8437). */
#include "net/imap/imap_private.h"

#include "core/base/log.h"

enum step imap_cmd_noop(struct imap_session *p) { return imap_end(&p->cmd->args) ? imap_ok(p, "done") : imap_bad_args(p); }

enum step imap_cmd_check(struct imap_session *p) { return imap_cmd_noop(p); }

enum step imap_cmd_logout(struct imap_session *p)
{
	if (!imap_end(&p->cmd->args))
		return imap_bad_args(p);
	REPLY_LIT(&p->s.reply, "* BYE good bye\r\n");
	imap_ok(p, "logged out");
	return STEP_CLOSE;
}

/* The client's own words go to the log, bounded. */
enum step imap_cmd_id(struct imap_session *p)
{
	struct imap_args *a = &p->cmd->args;
	struct slice field, value, name = slice_of("", 0), version = slice_of("", 0);
	if (!imap_sp(a))
		return imap_bad_args(p);
	if (!imap_word(a, "NIL")) {
		if (!imap_open(a))
			return imap_bad_args(p);
		unsigned pairs = 0;
		for (bool first = true; imap_more(a, &first); pairs++) {
			if (pairs >= IMAP_ID_PAIRS_MAX || !imap_string(a, &field) || !imap_sp(a) || !imap_nstring(a, &value) || field.len > 30 ||
			    value.len > 1024) /* RFC 2971 section 3.3 */
				return imap_bad_args(p);
			if (slice_eq_nocase(field, SLICE_LIT("name")))
				name = value;
			else if (slice_eq_nocase(field, SLICE_LIT("version")))
				version = value;
		}
	}
	if (!imap_end(a))
		return imap_bad_args(p);
	if (name.len)
		log_event(LOG_INFO, "imap.client", LOG_U64("session", p->s.id), LOG_STR("name", name), LOG_STR("version", version));
	reply_printf(&p->s.reply, "* ID (\"name\" \"%s\" \"version\" \"%s\")\r\n", imap_settings.implementation, imap_settings.version);
	return imap_ok(p, "pleased to meet you");
}

enum step imap_cmd_namespace(struct imap_session *p)
{
	if (!imap_end(&p->cmd->args))
		return imap_bad_args(p);
	REPLY_LIT(&p->s.reply, "* NAMESPACE ((\"\" \"/\")) NIL NIL\r\n");
	return imap_ok(p, "one space, all yours");
}

enum step imap_cmd_starttls(struct imap_session *p)
{
	if (!imap_end(&p->cmd->args))
		return imap_bad_args(p);
	if (!session_tls_offered(&p->s))
		return imap_bad(p, session_tls_version(&p->s) ? "TLS is on already" : "TLS is not offered here");
	imap_ok(p, "begin TLS now");
	return STEP_TLS;
}

/* RFC 4978 section 3. */
enum step imap_cmd_compress(struct imap_session *p)
{
	struct imap_args *a = &p->cmd->args;
	if (!imap_sp(a))
		return imap_bad_args(p);
	if (!imap_word(a, "DEFLATE")) {
		a->why = "DEFLATE is the only one";
		return imap_bad_args(p);
	}
	if (!imap_end(a))
		return imap_bad_args(p);
	enum err e = session_compress(&p->s);
	if (e == ERR_EXISTS)
		return imap_bad(p, "DEFLATE is on already");
	if (e != OK)
		return imap_no(p, "LIMIT", "too many sessions have it, go on without");
	imap_ok(p, "DEFLATE begins");
	return STEP_COMPRESS;
}

enum step imap_cmd_unauthenticate(struct imap_session *p)
{
	if (!imap_end(&p->cmd->args))
		return imap_bad_args(p);
	if (session_compresses(&p->s)) /* RFC 8437 section 4: it would have to end in the midst of the stream */
		return imap_no(p, "CANNOT", "not with COMPRESS");
	imap_leave(p);
	session_set_idle(&p->s, imap_settings.login_idle_ms_max);
	return imap_ok(p, "you are nobody again");
}
