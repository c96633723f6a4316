/* SPDX-License-Identifier: Apache-2.0 */
/* why.c - see why.h. */
#include "net/server/why.h"

#include "core/base/limits.h"
#include "net/server/cli_args.h"
#include "tenancy/decision.h"

#include <stdlib.h>

static json_t *one(const struct decision *d)
{
	return json_pack("{s:I, s:s, s:s, s:s, s:s, s:o, s:o, s:I, s:I, s:I}", "time_ms", (json_int_t)d->wall_ms, "decision", decision_word(d->kind), "reason",
			 d->reason, "protocol", d->protocol, "address", d->peer, "login", cli_json_string(slice_of(d->login, d->login_bytes)), "account",
			 cli_json_string(slice_of(d->account, d->account_bytes)), "delay_ms", (json_int_t)d->delay_ms, "failures", (json_int_t)d->failures,
			 "session", (json_int_t)d->session);
}

json_t *why_json(struct slice who)
{
	struct decision *found = xcalloc(DECISIONS_SHOWN_MAX, sizeof *found);
	size_t count = decisions_about(who, found, DECISIONS_SHOWN_MAX);
	json_t *list = json_array();
	for (size_t i = 0; i < count; i++)
		json_array_append_new(list, one(&found[i]));
	free(found);
	return json_pack("{s:o, s:o}", "who", cli_json_string(who), "decisions", list);
}
