/* SPDX-License-Identifier: Apache-2.0 */
/* attempt.c - see attempt.h. */
#include "net/attempt.h"

#include "tenancy/source.h"

#include <stdlib.h>

struct attempt attempt_password(enum auth_protocol protocol, struct slice name, struct slice authzid, struct slice password, const char *how)
{
	return (struct attempt){ .name = name, .authzid = authzid, .password = password, .how = how, .protocol = protocol };
}

struct attempt attempt_decided(enum auth_protocol protocol, struct slice name, const char *how, enum err outcome, struct subject *subject)
{
	return (struct attempt){ .name = name, .how = how, .protocol = protocol, .decided = true, .outcome = outcome, .subject = subject };
}

static void tell_guard(struct attempt *a) { a->failures = guard_tell(&a->pass, a->outcome); }

static void same_words(struct attempt *a)
{
	if (a->outcome == ERR_SYNTAX || a->outcome == ERR_NOT_FOUND || a->outcome == ERR_LIMIT)
		a->outcome = ERR_AUTH;
}

static void prove(struct attempt *a, const struct session *s)
{
	struct auth_request request = { .protocol = a->protocol,
					.login = a->name,
					.authzid = a->authzid,
					.peer = session_peer_address(s),
					.in_clear = !session_client_tls(s) };
	a->outcome = auth_password(&request, a->password, &a->subject);
	same_words(a);
	tell_guard(a);
}

enum attempt_next attempt_begin(struct attempt *a, struct session *s)
{
	same_words(a);
	enum err e = guard_ask(s->source, a->name, a->password, &a->pass);
	if (e == ERR_BUSY) {
		if (a->subject)
			subject_unref(a->subject);
		a->subject = NULL;
		source_count_refusal(LIMIT_GUESSING);
		return ATTEMPT_SHED;
	}
	if (a->decided)
		tell_guard(a);
	else if (e == OK)
		prove(a, s);
	if (e == OK)
		return ATTEMPT_TOLD;
	session_pause(s, a->pass.delay_ms);
	return ATTEMPT_WAITS;
}

void attempt_go_on(struct attempt *a, struct session *s)
{
	if (!a->decided)
		prove(a, s);
}

static struct slice put(char **at, struct slice text)
{
	struct slice copy = slice_of(*at, text.len);
	if (text.len)
		memcpy(*at, text.ptr, text.len);
	*at += text.len;
	return copy;
}

struct attempt *attempt_keep(const struct attempt *a)
{
	struct attempt *kept = xmalloc(sizeof(*kept) + a->name.len + a->authzid.len + a->password.len);
	char *at = (char *)(kept + 1);
	*kept = *a;
	kept->name = put(&at, a->name);
	kept->authzid = put(&at, a->authzid);
	kept->password = put(&at, a->password);
	return kept;
}

void attempt_free(struct attempt *a)
{
	if (!a)
		return;
	if (a->subject)
		subject_unref(a->subject);
	explicit_bzero(a + 1, a->name.len + a->authzid.len + a->password.len);
	free(a);
}
