/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_live.c - the verbs that ask a running server: who, kick, lock, drain, undrain, reload, node. */
#include "net/server/admin.h"
#include "net/server/cli.h"
#include "net/server/cli_args.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Asks; NULL after one line, *status_out is what to return. Takes the request. */
static json_t *ask(struct cli *cli, json_t *request, int *status_out)
{
	char *answer = NULL, *line = json_dumps(request, JSON_COMPACT);
	json_decref(request);
	*status_out = CLI_USAGE;
	if (!line || !cli_config(cli)) {
		free(line);
		return NULL;
	}
	const char *path = cli->config->admin_socket;
	enum err e = strlen(line) < ADMIN_LINE_BYTES_MAX ? admin_ask(path, line, &answer) : ERR_LIMIT;
	free(line);
	if (e != OK) {
		*status_out = e == ERR_CLOSED ? cli_fail(CLI_FAILED, "no server answers on %s", path) : cli_fail(CLI_FAILED, "%s: %s", path, err_name(e));
		return NULL;
	}
	json_t *o = json_loads(answer, 0, NULL);
	free(answer);
	const char *error = json_string_value(json_object_get(o, "error")), *code = json_string_value(json_object_get(o, "code"));
	if (o && !error)
		return o;
	int status = code && !strcmp(code, "not_found") ? CLI_NOT_FOUND : CLI_FAILED;
	*status_out = cli_fail(status, "%s", error ? error : "the answer is not JSON");
	json_decref(o);
	return NULL;
}

static void put(json_t *request, const char *key, const char *value)
{
	if (value)
		json_object_set_new(request, key, cli_json_string(slice_str(value)));
}

static const char *text(json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));
	return s ? s : "-";
}

static json_int_t number(json_t *o, const char *key) { return json_integer_value(json_object_get(o, key)); }

/* "2026-01-31 08:15:00" in UTC. */
static const char *moment(json_int_t wall_s, char out[32])
{
	time_t t = (time_t)wall_s;
	struct tm tm;
	gmtime_r(&t, &tm);
	strftime(out, 32, "%Y-%m-%d %H:%M:%S", &tm);
	return out;
}

/* ---- of which nodes ---- */

struct nodes {
	const char *node; /* this one alone */
	bool here;        /* the one that is asked */
};
#define NODES_OPTIONS(n) { "--node", &(n).node, NULL }, { "--here", NULL, &(n).here }

static json_t *request_to(const char *verb, const struct nodes *n)
{
	json_t *r = json_pack("{s:s}", "verb", verb);
	put(r, "node", n->node);
	if (n->here)
		json_object_set_new(r, "here", json_true());
	return r;
}

/* Whose answer is missing; true: somebody's. */
static bool tell_unanswered(json_t *answer)
{
	size_t i;
	json_t *u, *list = json_object_get(answer, "unanswered");
	json_array_foreach(list, i, u)
		fprintf(stderr, "penfold: no answer from node %s: %s\n", text(u, "node"), text(u, "why"));
	return json_array_size(list) > 0;
}

/* Nothing was found: for certain only if all answered. */
static int found_none(json_t *answer, const char *words)
{
	bool missing = tell_unanswered(answer);
	json_decref(answer);
	return missing ? cli_fail(CLI_FAILED, "%s on the nodes that answered", words) : cli_fail(CLI_NOT_FOUND, "%s", words);
}

/* ---- who, kick ---- */

struct which {
	const char *account, *tenant, *protocol, *address;
	struct nodes nodes;
};

static json_t *request_of(const char *verb, const struct which *w)
{
	json_t *r = request_to(verb, &w->nodes);
	put(r, "account", w->account);
	put(r, "tenant", w->tenant);
	put(r, "protocol", w->protocol);
	put(r, "address", w->address);
	return r;
}

static void print_sessions(json_t *answer)
{
	static const char *const heads[] = { "NODE", "SESSION", "PROTOCOL", "ACCOUNT", "PEER", "TLS", "SINCE", "STATE", "IN", "OUT" };
	struct cli_table t = { .columns = ARRAY_LEN(heads) };
	size_t i;
	json_t *s;
	char since[32];
	for (i = 0; i < ARRAY_LEN(heads); i++)
		cli_table_cell(&t, "%s", heads[i]);
	json_array_foreach(json_object_get(answer, "sessions"), i, s) {
		cli_table_cell(&t, "%s", text(s, "node"));
		cli_table_cell(&t, "%lld", (long long)number(s, "session"));
		cli_table_cell(&t, "%s", text(s, "protocol"));
		cli_table_cell(&t, "%s", text(s, "account"));
		cli_table_cell(&t, "%s", text(s, "peer"));
		cli_table_cell(&t, "%s", text(s, "tls"));
		cli_table_cell(&t, "%s", moment(number(s, "since"), since));
		cli_table_cell(&t, "%s%s", text(s, "state"), json_is_true(json_object_get(s, "working")) ? ", working" : "");
		cli_table_cell(&t, "%lld", (long long)number(s, "bytes_in"));
		cli_table_cell(&t, "%lld", (long long)number(s, "bytes_out"));
	}
	cli_table_print(&t);
	if (json_is_true(json_object_get(answer, "truncated")))
		fprintf(stderr, "penfold: only the first of %lld sessions are shown\n", (long long)number(answer, "matched"));
}

static int cmd_who(struct cli *cli, int argc, char **argv)
{
	struct which w = { 0 };
	const struct cli_option options[] = { { "--account", &w.account, NULL }, { "--tenant", &w.tenant, NULL }, { "--protocol", &w.protocol, NULL },
					      { "--address", &w.address, NULL }, NODES_OPTIONS(w.nodes), { NULL, NULL, NULL } };
	int status;
	if (!cli_take("who", options, &argc, argv, 0, 0))
		return CLI_USAGE;
	json_t *answer = ask(cli, request_of("who", &w), &status);
	if (!answer)
		return status;
	if (cli->json)
		return cli_print_json(answer);
	print_sessions(answer);
	(void)tell_unanswered(answer);
	json_decref(answer);
	return CLI_OK;
}

/* Prints "NUMBER WORDS", or the document; frees it. */
static int print_count(struct cli *cli, json_t *answer, const char *key, const char *words)
{
	if (cli->json)
		return cli_print_json(answer);
	printf("%lld %s\n", (long long)number(answer, key), words);
	(void)tell_unanswered(answer);
	json_decref(answer);
	return CLI_OK;
}

static int cmd_kick(struct cli *cli, int argc, char **argv)
{
	struct which w = { 0 };
	const char *reason = NULL;
	bool now = false;
	const struct cli_option options[] = { { "--account", &w.account, NULL }, { "--tenant", &w.tenant, NULL }, { "--protocol", &w.protocol, NULL },
					      { "--address", &w.address, NULL }, { "--reason", &reason, NULL }, { "--now", NULL, &now },
					      NODES_OPTIONS(w.nodes), { NULL, NULL, NULL } };
	int status;
	if (!cli_take("kick", options, &argc, argv, 0, 1))
		return CLI_USAGE;
	if (!argc && !w.account && !w.tenant && !w.protocol && !w.address)
		return cli_misuse("kick", "expected a SESSION, --account, --tenant, --protocol or --address");
	json_t *request = request_of("kick", &w);
	if (argc) {
		uint64_t session;
		if (!slice_u64(slice_str(argv[0]), INT64_MAX, &session)) {
			json_decref(request);
			return cli_misuse("kick", "\"%s\" is not a session's number", argv[0]);
		}
		json_object_set_new(request, "session", json_integer((json_int_t)session));
	}
	put(request, "reason", reason);
	json_object_set_new(request, "now", json_boolean(now));
	json_t *answer = ask(cli, request, &status);
	if (!answer)
		return status;
	if (!number(answer, "ended"))
		return found_none(answer, "no such session");
	return print_count(cli, answer, "ended", "sessions told to end");
}

/* ---- locks ---- */

static int show_locks(struct cli *cli, const char *account, json_t *answer)
{
	static const char *const heads[] = { "NODE", "ACCOUNT", "USER", "SESSION", "PEER", "SINCE", "REDIS" };
	struct cli_table t = { .columns = ARRAY_LEN(heads) };
	size_t i;
	json_t *l;
	char since[32], words[600];
	if (account && !json_array_size(json_object_get(answer, "locks"))) {
		snprintf(words, sizeof words, "%s: not locked", account);
		return found_none(answer, words);
	}
	if (cli->json)
		return cli_print_json(answer);
	for (i = 0; i < ARRAY_LEN(heads); i++)
		cli_table_cell(&t, "%s", heads[i]);
	json_array_foreach(json_object_get(answer, "locks"), i, l) {
		cli_table_cell(&t, "%s", text(l, "node"));
		cli_table_cell(&t, "%s", text(l, "account"));
		cli_table_cell(&t, "%s", text(l, "user"));
		cli_table_cell(&t, "%lld", (long long)number(l, "session"));
		cli_table_cell(&t, "%s", text(l, "peer"));
		cli_table_cell(&t, "%s", moment(number(l, "since"), since));
		cli_table_cell(&t, "%s", text(l, "redis"));
	}
	cli_table_print(&t);
	(void)tell_unanswered(answer);
	json_decref(answer);
	return CLI_OK;
}

static int cmd_lock_list(struct cli *cli, int argc, char **argv)
{
	int status;
	struct nodes n = { 0 };
	const struct cli_option options[] = { NODES_OPTIONS(n), { NULL, NULL, NULL } };
	if (!cli_take("lock list", options, &argc, argv, 0, 0))
		return CLI_USAGE;
	json_t *answer = ask(cli, request_to("lock list", &n), &status);
	return answer ? show_locks(cli, NULL, answer) : status;
}

static int cmd_lock_show(struct cli *cli, int argc, char **argv)
{
	int status;
	struct nodes n = { 0 };
	const struct cli_option options[] = { NODES_OPTIONS(n), { NULL, NULL, NULL } };
	if (!cli_take("lock show", options, &argc, argv, 1, 1))
		return CLI_USAGE;
	json_t *request = request_to("lock list", &n);
	put(request, "account", argv[0]);
	json_t *answer = ask(cli, request, &status);
	return answer ? show_locks(cli, argv[0], answer) : status;
}

static int cmd_lock_break(struct cli *cli, int argc, char **argv)
{
	int status;
	const char *reason = NULL;
	struct nodes n = { 0 };
	const struct cli_option options[] = { { "--reason", &reason, NULL }, NODES_OPTIONS(n), { NULL, NULL, NULL } };
	if (!cli_take("lock break", options, &argc, argv, 1, 1))
		return CLI_USAGE;
	if (!reason || !*reason)
		return cli_misuse("lock break", "expected --reason TEXT, for the log");
	json_t *request = request_to("lock break", &n);
	put(request, "account", argv[0]);
	put(request, "reason", reason);
	json_t *answer = ask(cli, request, &status);
	if (!answer)
		return status;
	if (!number(answer, "broken"))
		return found_none(answer, "no session holds a lock on that account");
	return print_count(cli, answer, "broken", "locks broken");
}

/* ---- drain, node ---- */

static int print_node(struct cli *cli, json_t *answer)
{
	if (cli->json)
		return cli_print_json(answer);
	printf("%s: %s, %lld sessions\n", text(answer, "node"), text(answer, "state"), (long long)number(answer, "sessions"));
	json_decref(answer);
	return CLI_OK;
}

/* "30" seconds, at most a day. */
static bool seconds(json_t *request, const char *key, const char *word)
{
	uint64_t s;
	if (word && !slice_u64(slice_str(word), 86400, &s))
		return false;
	if (word)
		json_object_set_new(request, key, json_integer((json_int_t)s * 1000));
	return true;
}

/* Until nobody is left; no limit of its own: who calls (a container's hook, a script) has one. */
static int wait_drained(struct cli *cli)
{
	const struct timespec pause = { .tv_nsec = 250000000 };
	int status;
	for (;;) {
		json_t *answer = ask(cli, json_pack("{s:s}", "verb", "drain status"), &status);
		if (!answer)
			return status;
		if (!strcmp(text(answer, "state"), "drained"))
			return print_node(cli, answer);
		bool serving = !strcmp(text(answer, "state"), "serving");
		json_decref(answer);
		if (serving)
			return cli_fail(CLI_FAILED, "the drain was taken back");
		nanosleep(&pause, NULL);
	}
}

static bool draining(struct cli *cli)
{
	int status;
	json_t *answer = ask(cli, json_pack("{s:s}", "verb", "drain status"), &status);
	bool yes = answer && strcmp(text(answer, "state"), "serving") != 0;
	json_decref(answer);
	return yes;
}

static int cmd_drain(struct cli *cli, int argc, char **argv)
{
	int status;
	const char *grace = NULL, *over = NULL, *reason = NULL;
	bool look = false, wait = false;
	const struct cli_option options[] = { { "--grace", &grace, NULL }, { "--over", &over, NULL }, { "--reason", &reason, NULL },
					      { "--status", NULL, &look }, { "--wait", NULL, &wait }, { NULL, NULL, NULL } };
	if (!cli_take("drain", options, &argc, argv, 0, 0))
		return CLI_USAGE;
	json_t *request = json_pack("{s:s}", "verb", look ? "drain status" : "drain");
	if (!seconds(request, "grace_ms", grace) || !seconds(request, "spread_ms", over)) {
		json_decref(request);
		return cli_misuse("drain", "--grace and --over are seconds, 0 to 86400");
	}
	put(request, "reason", reason);
	if (wait && draining(cli)) { /* somebody else began it */
		json_decref(request);
		return wait_drained(cli);
	}
	json_t *answer = ask(cli, request, &status);
	if (!answer || !wait)
		return answer ? print_node(cli, answer) : status;
	json_decref(answer);
	return wait_drained(cli);
}

static int cmd_undrain(struct cli *cli, int argc, char **argv)
{
	int status;
	const struct cli_option none[] = { { NULL, NULL, NULL } };
	if (!cli_take("undrain", none, &argc, argv, 0, 0))
		return CLI_USAGE;
	json_t *answer = ask(cli, json_pack("{s:s}", "verb", "undrain"), &status);
	return answer ? print_node(cli, answer) : status;
}

static int cmd_reload(struct cli *cli, int argc, char **argv)
{
	int status;
	size_t i;
	json_t *name;
	const struct cli_option none[] = { { NULL, NULL, NULL } };
	if (!cli_take("reload", none, &argc, argv, 0, 0))
		return CLI_USAGE;
	json_t *answer = ask(cli, json_pack("{s:s}", "verb", "reload"), &status);
	if (!answer)
		return status;
	if (cli->json)
		return cli_print_json(answer);
	printf("reloaded: log, certificates, limits\n");
	json_array_foreach(json_object_get(answer, "restart"), i, name)
		printf("needs a restart: %s\n", json_string_value(name));
	json_decref(answer);
	return 0;
}

/* Until the new process answers here, or the old one says that it goes on. */
static int follow_upgrade(struct cli *cli, json_int_t pid)
{
	const struct timespec pause = { .tv_nsec = 100000000L };
	int status;
	for (unsigned waited_ms = 0; waited_ms < UPGRADE_START_MS_MAX + ADMIN_ANSWER_MS_MAX; waited_ms += 100) {
		json_t *answer = ask(cli, json_pack("{s:s}", "verb", "upgrade status"), &status);
		if (!answer)
			return status;
		if (number(answer, "pid") == pid) {
			if (cli->json)
				return cli_print_json(answer);
			printf("process %lld serves; the one before it ends when its sessions have\n", (long long)pid);
			json_decref(answer);
			return CLI_OK;
		}
		if (!strcmp(text(answer, "state"), "serving")) {
			status = cli_fail(CLI_FAILED, "%s; the old process serves on", text(answer, "last"));
			json_decref(answer);
			return status;
		}
		json_decref(answer);
		nanosleep(&pause, NULL);
	}
	return cli_fail(CLI_FAILED, "the new process has not answered; see the log");
}

static int cmd_upgrade(struct cli *cli, int argc, char **argv)
{
	int status;
	const char *over = NULL, *reason = NULL;
	const struct cli_option options[] = { { "--over", &over, NULL }, { "--reason", &reason, NULL }, { NULL, NULL, NULL } };
	if (!cli_take("upgrade", options, &argc, argv, 0, 0))
		return CLI_USAGE;
	json_t *request = json_pack("{s:s}", "verb", "upgrade");
	if (!seconds(request, "over_ms", over)) {
		json_decref(request);
		return cli_misuse("upgrade", "--over is seconds, 0 to 86400");
	}
	put(request, "reason", reason);
	json_t *answer = ask(cli, request, &status);
	if (!answer)
		return status;
	json_int_t pid = number(answer, "pid");
	json_decref(answer);
	return follow_upgrade(cli, pid);
}

static int cmd_node_list(struct cli *cli, int argc, char **argv)
{
	int status;
	size_t i;
	json_t *node;
	struct nodes n = { 0 };
	const struct cli_option options[] = { NODES_OPTIONS(n), { NULL, NULL, NULL } };
	if (!cli_take("node list", options, &argc, argv, 0, 0))
		return CLI_USAGE;
	json_t *answer = ask(cli, request_to("node list", &n), &status);
	if (!answer)
		return status;
	if (cli->json)
		return cli_print_json(answer);
	json_array_foreach(json_object_get(answer, "nodes"), i, node)
		printf("%s: %s, %lld sessions\n", text(node, "node"), text(node, "state"), (long long)number(node, "sessions"));
	json_array_foreach(json_object_get(answer, "unanswered"), i, node)
		printf("%s: does not answer: %s\n", text(node, "node"), text(node, "why"));
	json_decref(answer);
	return CLI_OK;
}

#define WHICH "[--account ADDRESS] [--tenant T] [--protocol P] [--address IP]"
#define NODES "[--node NODE | --here]"
#define ALL "All nodes of the fleet are asked; --node asks that one, --here the one whose configuration this is. Who does not answer is named."
const struct verb live_verbs[] = {
	{ "who", WHICH " " NODES, "list the sessions of the running servers", "At most 10,000 are listed. Times are UTC.\n" ALL, cmd_who },
	{ "kick", "SESSION | " WHICH " [--reason TEXT] [--now] " NODES, "end sessions of the running servers",
	  "A SESSION's number is its node's: with --node that one's, else this one's.\n" ALL "\n"
	  "A session is ended between two commands, in its protocol's words; POP3 without deleting anything.\n"
	  "--now cuts it off at once. The reason is kept in the log.",
	  cmd_kick },
	{ "lock list", NODES, "list the maildrops that POP3 sessions hold",
	  ALL "\nREDIS: whether Redis names the same session (agrees, differs, unknown: it did not say; -: there is none).", cmd_lock_list },
	{ "lock show", "ADDRESS " NODES, "who holds a maildrop", ALL, cmd_lock_show },
	{ "lock break", "ADDRESS --reason TEXT " NODES, "take a maildrop from the session that holds it",
	  "The session is cut off without deleting anything. The reason is kept in the log.\n" ALL, cmd_lock_break },
	{ "drain", "[--grace SECONDS] [--over SECONDS] [--reason TEXT] [--wait] | --status", "let the running server run empty",
	  "Readiness goes off at once; after the grace (5 s) no connection is taken any more, and the sessions end one after\n"
	  "another over the time given (30 s). --status tells how far it is: serving, grace, ending, drained.\n"
	  "--wait returns when nobody is left.",
	  cmd_drain },
	{ "undrain", "", "serve again after a drain", NULL, cmd_undrain },
	{ "reload", "", "read the configuration again; says what needs a restart", NULL, cmd_reload },
	{ "upgrade", "[--over SECONDS] [--reason TEXT]", "let a new process of this program, with the configuration as it is now, take over",
	  "The program's file may have been replaced. Nobody is refused: the new process gets the listening sockets. The old one\n"
	  "serves its sessions on: those at rest end soon, the others are told to end after --over (30 s). If the new one\n"
	  "does not get ready, the old one serves on and nothing has happened. SIGUSR2 does the same.",
	  cmd_upgrade },
	{ "node list", NODES, "the nodes and what they do", ALL, cmd_node_list },
	{ NULL, NULL, NULL, NULL, NULL }
};
