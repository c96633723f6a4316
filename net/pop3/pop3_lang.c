/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pop3_lang.c - LANG (RFC 6856 section 3): which language the texts are in.
 *
 * A range is looked up as RFC 4647 section 3.4 says: "de-AT" finds "de" by cutting subtags from the right.  "*" is the
 * operator's choice, which does not depend on the user, so it tells nothing about one.
 */
#include "net/pop3/pop3_private.h"

static const struct {
	const char *tag, *name;
} languages[POP3_LANGUAGE_COUNT] = {
	[POP3_EN] = { "en", "English" },
	[POP3_DE] = { "de", "Deutsch" },
};

static bool look_up(struct slice range, enum pop3_language *language_out)
{
	if (slice_eq(range, SLICE_LIT("*")))
		range = slice_str(pop3_settings.language);
	while (range.len) {
		for (unsigned i = 0; i < POP3_LANGUAGE_COUNT; i++) {
			if (slice_eq_nocase(range, slice_str(languages[i].tag))) {
				*language_out = (enum pop3_language)i;
				return true;
			}
		}
		size_t cut = slice_rfind(range, '-');
		range = slice_upto(range, cut == SIZE_MAX ? 0 : cut);
	}
	return false;
}

static enum step list_languages(struct pop3_session *p)
{
	pop3_word(p, POP3_W_LANGUAGES);
	for (unsigned i = 0; i < POP3_LANGUAGE_COUNT; i++)
		reply_printf(&p->s.reply, "%s %s\r\n", languages[i].tag, languages[i].name);
	REPLY_LIT(&p->s.reply, ".\r\n");
	return STEP_NEXT;
}

enum step pop3_lang(struct pop3_session *p, const struct pop3_line *l)
{
	if (!l->words.len)
		return list_languages(p);
	enum pop3_language language;
	if (!look_up(l->words, &language)) {
		pop3_word(p, POP3_W_NO_LANGUAGE);
		return STEP_NEXT;
	}
	char text[POP3_PHRASE_BYTES_MAX];
	p->language = (uint8_t)language;
	size_t len = pop3_expand(POP3_W_LANGUAGE, language, 0, 0, text);
	reply_printf(&p->s.reply, "+OK %s ", languages[language].tag);
	reply_put(&p->s.reply, slice_of(text, len));
	REPLY_LIT(&p->s.reply, "\r\n");
	return STEP_NEXT;
}
