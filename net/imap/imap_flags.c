/* SPDX-License-Identifier: Apache-2.0 */
/*
 * imap_flags.c - flags and keywords, read and written.
 *
 * $Forwarded is a flag of the store; every other keyword is a name of the account's table.  \Recent is nobody's to set and is shown to
 * nobody (RFC 9051 has taken it away; see README, Limits).
 */
#include "net/imap/imap_private.h"

static const struct flag {
	const char *name;
	uint32_t bit;
} flags[] = {
	{ "\\Answered", FLAG_ANSWERED }, { "\\Flagged", FLAG_FLAGGED }, { "\\Deleted", FLAG_DELETED },
	{ "\\Seen", FLAG_SEEN },         { "\\Draft", FLAG_DRAFT },     { "$Forwarded", FLAG_FORWARDED },
};

static bool one_flag(struct imap_session *p, struct imap_flags *out)
{
	struct imap_args *a = &p->cmd->args;
	struct slice word;
	const char *begin = a->at;
	bool system = imap_skip(a, '\\');
	if (!imap_atom(a, &word)) {
		a->why = "expected a flag";
		return false;
	}
	word = slice_of(begin, (size_t)(a->at - begin));
	for (size_t i = 0; i < ARRAY_LEN(flags); i++)
		if (slice_eq_nocase(word, slice_str(flags[i].name))) {
			out->flags |= flags[i].bit;
			return true;
		}
	if (system) {
		a->why = "no such flag";
		return slice_eq_nocase(word, SLICE_LIT("\\Recent")); /* taken and forgotten: old clients store what they were shown */
	}
	if (!keyword_good(word) || out->keyword_count == IMAP_KEYWORDS_MAX) {
		a->why = keyword_good(word) ? "too many keywords" : "no keyword can have this name";
		return false;
	}
	if (!out->keywords)
		out->keywords = arena_alloc(a->arena, IMAP_KEYWORDS_MAX * sizeof *out->keywords);
	if (!out->keywords)
		return false;
	out->keywords[out->keyword_count++] = word;
	return true;
}

bool imap_flag_list(struct imap_session *p, bool bare, struct imap_flags *out)
{
	struct imap_args *a = &p->cmd->args;
	*out = (struct imap_flags){ 0, NULL, 0 };
	if (imap_skip(a, '(')) {
		for (bool first = true; imap_more(a, &first);)
			if (!one_flag(p, out))
				return false;
		return true;
	}
	if (!bare) {
		a->why = "expected a list of flags";
		return false;
	}
	do {
		if (!one_flag(p, out))
			return false;
	} while (imap_skip(a, ' '));
	return true;
}

static void put_word(struct imap_session *p, struct slice word, bool *first_io)
{
	if (!*first_io)
		REPLY_LIT(&p->s.reply, " ");
	*first_io = false;
	reply_put(&p->s.reply, word);
}

void imap_put_flags(struct imap_session *p, const struct message *m)
{
	bool first = true;
	uint32_t cursor = 0;
	struct slice name;
	REPLY_LIT(&p->s.reply, "(");
	for (size_t i = 0; i < ARRAY_LEN(flags); i++)
		if (m->flags & flags[i].bit)
			put_word(p, slice_str(flags[i].name), &first);
	while (m->keywords && account_keyword_next(p->account, m->keywords, &cursor, &name))
		put_word(p, name, &first);
	REPLY_LIT(&p->s.reply, ")");
}

void imap_put_known_flags(struct imap_session *p, bool permanent)
{
	bool first = true;
	uint32_t cursor = 0;
	struct slice name;
	REPLY_LIT(&p->s.reply, "(");
	for (size_t i = 0; i < ARRAY_LEN(flags); i++)
		put_word(p, slice_str(flags[i].name), &first);
	while (account_keyword_known(p->account, &cursor, &name))
		put_word(p, name, &first);
	if (permanent)
		put_word(p, SLICE_LIT("\\*"), &first);
	REPLY_LIT(&p->s.reply, ")");
}
