/* SPDX-License-Identifier: Apache-2.0 */
/*
 * setting.h - what may be set for a tenant or an account: one table of names, kinds, defaults and words of help.
 *
 * For this room and the tools.  A setting's name is its column in the tables "tenants" and "accounts"; NULL there means
 * "as by default" (an account: as its tenant).  Text comes in as an operator types it and leaves in the same form.
 */
#ifndef PENFOLD_TENANCY_SETTING_H
#define PENFOLD_TENANCY_SETTING_H

#include "core/base/bytes.h"
#include "core/base/err.h"

enum setting_kind {
	SETTING_BOOL,      /* yes no */
	SETTING_BYTES,     /* 10M, 2G; none = 0 */
	SETTING_COUNT,     /* 10000; none = 0 */
	SETTING_SECONDS,   /* 60; none = 0 */
	SETTING_DAYS,      /* 30; never = -1 */
	SETTING_SEPARATOR, /* one character; none = 0 */
	SETTING_OVER_QUOTA,/* temporary permanent */
	SETTING_SCHEMES,   /* names of password schemes, blanks or commas between them; all */
	SETTING_SCHEME,    /* one of them */
	SETTING_XTND,      /* off xlst xmit all */
	SETTING_MASTER,    /* none tenant server */
	SETTING_NETWORKS,  /* 192.0.2.0/24, blanks or commas between them; none */
	SETTING_DELETION   /* expunge trash */
};

enum setting_id {
	SET_SUSPENDED, SET_POP3, SET_IMAP, SET_LMTP, SET_QUOTA_BYTES, SET_QUOTA_MESSAGES, SET_OVER_QUOTA, SET_LOGIN_DELAY_S, SET_EXPIRE_DAYS,
	SET_SUBADDRESS_SEPARATOR, SET_PLAIN_PASSWORDS, SET_SCHEMES, SET_PASSWORD_SCHEME, SET_XTND, SET_MASTER,
	SET_SESSIONS_MAX, SET_ACCOUNT_SESSIONS_MAX, SET_GUESS_DELAY_MAX_S, SET_TRUSTED_NETWORKS,
	SET_PLAINTEXT_LOGIN, SET_DELETION, SET_END_ON_PASSWORD_CHANGE, SET_JUNK, SET_COUNT
};

struct setting {
	const char *name;    /* and column */
	enum setting_kind kind;
	bool of_account;     /* an account may have its own */
	bool account_only;   /* a tenant has none */
	int64_t number;      /* default; of text kinds: the text below */
	const char *text;
	const char *help;
};
const struct setting *setting_get(enum setting_id id);

/* By name; '-' is as good as '_'. */
bool setting_find(struct slice name, enum setting_id *id_out);

#define SETTING_TEXT_BYTES 256
struct setting_value {
	bool is_default; /* NULL in the table */
	bool is_text;
	int64_t number;
	char text[SETTING_TEXT_BYTES];
};
/* ERR_SYNTAX: not a value of this kind. "default" and "" mean the default. */
enum err setting_parse(enum setting_id id, struct slice text, struct setting_value *value_out);
/* As an operator would type it. The default's own text when is_default. */
void setting_format(enum setting_id id, const struct setting_value *value, char out[SETTING_TEXT_BYTES]);
/* What may be given, for messages: "yes or no". */
const char *setting_expected(enum setting_kind kind);

/* Does the list of a tenant (as stored, NULL-safe: empty = all but PLAIN) allow this scheme? */
bool setting_scheme_allowed(struct slice schemes, bool plain_passwords, const char *scheme);

#endif
