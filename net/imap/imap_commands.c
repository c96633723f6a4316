/* SPDX-License-Identifier: Apache-2.0 */
/*
 * imap_commands.c - the table of commands, and how a whole command finds its line in it.
 *
 * RFC 9051 section 6: some commands are for one state only.  UID is no command here but a word before some of them.
 */
#include "net/imap/imap_private.h"
#include "net/verb.h"

#define ANY (IMAP_NOT_AUTHENTICATED | IMAP_AUTHENTICATED | IMAP_SELECTED)
#define AFTER (IMAP_AUTHENTICATED | IMAP_SELECTED)
#define BEFORE IMAP_NOT_AUTHENTICATED

static const struct imap_verb verbs[] = { /* the frequent ones first */
	{ "FETCH", IMAP_SELECTED, IMAP_TELLS_NO_EXPUNGE, true, imap_cmd_fetch },
	{ "STORE", IMAP_SELECTED, IMAP_TELLS_NO_EXPUNGE, true, imap_cmd_store },
	{ "SEARCH", IMAP_SELECTED, IMAP_TELLS_NO_EXPUNGE, true, imap_cmd_search },
	{ "ESEARCH", AFTER, IMAP_TELLS_NO_EXPUNGE, false, imap_cmd_esearch },
	{ "SORT", IMAP_SELECTED, IMAP_TELLS_NO_EXPUNGE, true, imap_cmd_sort },
	{ "THREAD", IMAP_SELECTED, IMAP_TELLS_NO_EXPUNGE, true, imap_cmd_thread },
	{ "NOOP", ANY, IMAP_TELLS_ALL, false, imap_cmd_noop },
	{ "IDLE", AFTER, IMAP_TELLS_ALL, false, imap_cmd_idle },
	{ "SELECT", AFTER, IMAP_TELLS_NOTHING, false, imap_cmd_select },
	{ "EXAMINE", AFTER, IMAP_TELLS_NOTHING, false, imap_cmd_examine },
	{ "STATUS", AFTER, IMAP_TELLS_ALL, false, imap_cmd_status },
	{ "LIST", AFTER, IMAP_TELLS_ALL, false, imap_cmd_list },
	{ "LSUB", AFTER, IMAP_TELLS_ALL, false, imap_cmd_lsub },
	{ "CAPABILITY", ANY, IMAP_TELLS_ALL, false, imap_cmd_capability },
	{ "LOGIN", BEFORE, IMAP_TELLS_NOTHING, false, imap_cmd_login },
	{ "AUTHENTICATE", BEFORE, IMAP_TELLS_NOTHING, false, imap_cmd_authenticate },
	{ "LOGOUT", ANY, IMAP_TELLS_NOTHING, false, imap_cmd_logout },
	{ "COPY", IMAP_SELECTED, IMAP_TELLS_ALL, true, imap_cmd_copy },
	{ "MOVE", IMAP_SELECTED, IMAP_TELLS_ALL, true, imap_cmd_move },
	{ "APPEND", AFTER, IMAP_TELLS_ALL, false, imap_cmd_append },
	{ "REPLACE", IMAP_SELECTED, IMAP_TELLS_ALL, true, imap_cmd_replace },
	{ "EXPUNGE", IMAP_SELECTED, IMAP_TELLS_ALL, true, imap_cmd_expunge },
	{ "CLOSE", IMAP_SELECTED, IMAP_TELLS_NOTHING, false, imap_cmd_close },
	{ "UNSELECT", IMAP_SELECTED, IMAP_TELLS_NOTHING, false, imap_cmd_unselect },
	{ "CHECK", IMAP_SELECTED, IMAP_TELLS_ALL, false, imap_cmd_check },
	{ "CREATE", AFTER, IMAP_TELLS_ALL, false, imap_cmd_create },
	{ "DELETE", AFTER, IMAP_TELLS_ALL, false, imap_cmd_delete },
	{ "RENAME", AFTER, IMAP_TELLS_ALL, false, imap_cmd_rename },
	{ "SUBSCRIBE", AFTER, IMAP_TELLS_ALL, false, imap_cmd_subscribe },
	{ "UNSUBSCRIBE", AFTER, IMAP_TELLS_ALL, false, imap_cmd_unsubscribe },
	{ "ENABLE", AFTER, IMAP_TELLS_ALL, false, imap_cmd_enable },
	{ "NAMESPACE", AFTER, IMAP_TELLS_ALL, false, imap_cmd_namespace },
	{ "ID", ANY, IMAP_TELLS_ALL, false, imap_cmd_id },
	{ "COMPRESS", AFTER, IMAP_TELLS_NOTHING, false, imap_cmd_compress },
	{ "STARTTLS", BEFORE, IMAP_TELLS_NOTHING, false, imap_cmd_starttls },
	{ "GETQUOTA", AFTER, IMAP_TELLS_ALL, false, imap_cmd_getquota },
	{ "GETQUOTAROOT", AFTER, IMAP_TELLS_ALL, false, imap_cmd_getquotaroot },
	{ "SETQUOTA", AFTER, IMAP_TELLS_ALL, false, imap_cmd_setquota },
	{ "UNAUTHENTICATE", AFTER, IMAP_TELLS_NOTHING, false, imap_cmd_unauthenticate },
};

/* What the times are told by; a login that arrived at its shard, or was held back by the guard, is none of the table. */
#define VERB_ENTER ARRAY_LEN(verbs)
#define VERB_HELD (ARRAY_LEN(verbs) + 1)
static const char *verb_name(unsigned index) { return index == VERB_ENTER ? "enter" : index == VERB_HELD ? "held" : verbs[index].name; }
VERBS_DEFINE(imap_times, "imap", ARRAY_LEN(verbs) + 2, verb_name);

void imap_verb_enter(void) { verb_is(&imap_times, VERB_ENTER); }
void imap_verb_held(void) { verb_is(&imap_times, VERB_HELD); }

static const struct imap_verb *find(struct slice name)
{
	for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
		if (slice_eq_nocase(name, slice_str(verbs[i].name)))
			return &verbs[i];
	return NULL;
}

bool imap_read_verb(struct imap_command *c)
{
	struct imap_args *a = &c->args;
	struct slice name;
	imap_args_init(a, buf_slice(&c->text), &c->arena, a->utf8);
	if (!imap_tag(a, &c->tag) || !imap_skip(a, ' ')) {
		c->tag = SLICE_LIT("*");
		return false;
	}
	c->uid = false;
	if (!imap_atom(a, &name))
		return true;
	if (slice_eq_nocase(name, SLICE_LIT("UID"))) {
		c->uid = true;
		if (!imap_sp(a) || !imap_atom(a, &name))
			return true;
	}
	c->verb = find(name);
	if (c->verb && c->uid && !c->verb->with_uid)
		c->verb = NULL;
	return true;
}

static const char *wrong_state(const struct imap_session *p, const struct imap_verb *v)
{
	if (p->state == IMAP_NOT_AUTHENTICATED)
		return "log in first";
	return v->states == IMAP_SELECTED ? "select a mailbox first" : "you are logged in already";
}

enum step imap_dispatch(struct imap_session *p)
{
	struct imap_command *c = p->cmd;
	c->args.utf8 = imap_utf8_names(p);
	if (!imap_read_verb(c))
		return imap_bad(p, "expected a tag, a space and a command");
	const struct imap_verb *v = c->verb;
	if (!v)
		return imap_bad(p, "unknown command");
	if (!(v->states & p->state))
		return imap_bad(p, wrong_state(p, v));
	if (p->enabled & IMAP_UIDONLY && v->with_uid && !c->uid && v->run != imap_cmd_expunge)
		return imap_end_with(p, IMAP_S_BAD, "UIDREQUIRED", "message numbers were given up by UIDONLY");
	if (!imap_may_show(p))
		return STEP_CLOSE;
	verb_is(&imap_times, (unsigned)(v - verbs));
	return v->run(p);
}
