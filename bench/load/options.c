/* SPDX-License-Identifier: Apache-2.0 */
/* options: see options.h. */
#include "bench/load/options.h"

#include <arpa/inet.h>
#include <err.h>
#include <getopt.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "bench/load/driver.h"

#define WORDS_MAX 64           /* of one stream's line */
#define MIX_BYTES_MAX 65536    /* of a whole mix */

static const char help[] =
	"usage: load --scenario NAME --address HOST:PORT|unix:PATH [options]\n"
	"\n"
	"scenarios:\n"
	"  pop3-login    session: greeting, USER, PASS, STAT, QUIT\n"
	"  pop3-check    the same with UIDL\n"
	"  pop3-fetch    session that fetches every message and deletes it (--keep: does not delete)\n"
	"  pop3-retr     RETR in sessions kept open; every body verified\n"
	"  pop3-idle     sessions opened, logged in and held for --hold seconds\n"
	"  lmtp          delivery of messages that carry a digest of their body\n"
	"  imap-login    session: greeting, LOGIN, SELECT, LOGOUT\n"
	"  imap-check    the same with UID FETCH 1:* (FLAGS)\n"
	"  imap-fetch    session that fetches the newest messages; every body verified\n"
	"  imap-idle     sessions held in IDLE; what arrives is fetched at once and verified: an operation\n"
	"\n"
	"load:    --connections N (16)  --rate R (open loop, Poisson arrivals; default closed loop)\n"
	"         --seconds S (5; 600 with --count)  --count N  --warmup S (0)  --timeout S (30)  --max-errors N (20)\n"
	"         --arrivals FILE (times in seconds, one a line, instead of a rate)\n"
	"         --mix FILE (a line is a stream: options as here; --tag names it)\n"
	"people:  --user PATTERN (user%d@demo.example)  --first N (1)  --last N (64)  --password P (secret; %d allowed)\n"
	"POP3:    --pipeline K (1)  --retr one|all (all)  --keep  --newest K  --no-digest  --expect-messages M\n"
	"IMAP:    --newest K (1)\n"
	"LMTP:    --size BYTES|BYTES:SHARE,... (4096)  --recipients R|R:SHARE,... (1)  --per-connection K (0: whole run)  --dot-lines N (0)  --pipeline K (1)\n"
	"idle:    --hold S (2)\n"
	"TLS 1.3: --tls none|implicit|starttls (none)  --resume (each connection from the last one's ticket)\n"
	"server:  --server-pid PID  --server-tree PID  --server-cgroup FOLDER   (each may be repeated)\n"
	"output:  --json FILE|-  --tag TEXT\n"
	"other:   --cpu N (pin to a core)  --seed N\n";

enum option_id {
	O_SCENARIO = 256, O_ADDRESS, O_CONNECTIONS, O_RATE, O_SECONDS, O_COUNT, O_WARMUP, O_TIMEOUT, O_MAX_ERRORS,
	O_USER, O_FIRST, O_LAST, O_PASSWORD, O_PIPELINE, O_RETR, O_KEEP, O_NO_DIGEST, O_EXPECT, O_SIZE, O_DOT_LINES,
	O_RECIPIENTS, O_PER_CONNECTION, O_HOLD, O_CPU, O_SEED, O_JSON, O_TAG, O_PID, O_TREE, O_CGROUP, O_TLS, O_RESUME, O_NEWEST,
	O_ARRIVALS, O_MIX, O_HELP
};

static const struct option names[] = {
	{"scenario", 1, NULL, O_SCENARIO},       {"address", 1, NULL, O_ADDRESS},
	{"connections", 1, NULL, O_CONNECTIONS}, {"rate", 1, NULL, O_RATE},
	{"seconds", 1, NULL, O_SECONDS},         {"count", 1, NULL, O_COUNT},
	{"warmup", 1, NULL, O_WARMUP},           {"timeout", 1, NULL, O_TIMEOUT},
	{"max-errors", 1, NULL, O_MAX_ERRORS},   {"user", 1, NULL, O_USER},
	{"first", 1, NULL, O_FIRST},             {"last", 1, NULL, O_LAST},
	{"password", 1, NULL, O_PASSWORD},       {"pipeline", 1, NULL, O_PIPELINE},
	{"retr", 1, NULL, O_RETR},               {"keep", 0, NULL, O_KEEP},
	{"no-digest", 0, NULL, O_NO_DIGEST},     {"expect-messages", 1, NULL, O_EXPECT},
	{"size", 1, NULL, O_SIZE},               {"dot-lines", 1, NULL, O_DOT_LINES},
	{"recipients", 1, NULL, O_RECIPIENTS},   {"per-connection", 1, NULL, O_PER_CONNECTION},
	{"hold", 1, NULL, O_HOLD},               {"cpu", 1, NULL, O_CPU},
	{"seed", 1, NULL, O_SEED},               {"json", 1, NULL, O_JSON},
	{"tag", 1, NULL, O_TAG},                 {"server-pid", 1, NULL, O_PID},
	{"server-tree", 1, NULL, O_TREE},        {"server-cgroup", 1, NULL, O_CGROUP},
	{"tls", 1, NULL, O_TLS},                 {"resume", 0, NULL, O_RESUME},
	{"newest", 1, NULL, O_NEWEST},           {"arrivals", 1, NULL, O_ARRIVALS},
	{"mix", 1, NULL, O_MIX},
	{"help", 0, NULL, O_HELP},               {NULL, 0, NULL, 0},
};

static double number(const char *name, const char *text, double min, double max)
{
	char *end;
	double value = strtod(text, &end);

	if (end == text || *end || !(value >= min && value <= max))
		errx(2, "--%s: expected a number from %.17g to %.17g, not \"%s\"", name, min, max, text);
	return value;
}

static void parse_weights(struct weights *w, const char *name, const char *text, double max)
{
	const char *at = text;
	double sum = 0;
	int used;

	for (w->count = 0; *at; w->count++) {
		double value, share = 1;

		if (w->count == WEIGHTS_MAX)
			errx(2, "--%s: at most %d steps", name, WEIGHTS_MAX);
		if (sscanf(at, "%lf%n", &value, &used) != 1 || !(value >= 1 && value <= max))
			errx(2, "--%s: expected 1 to %.0f, not \"%s\"", name, max, at);
		at += used;
		if (*at == ':' && sscanf(at, ":%lf%n", &share, &used) == 1)
			at += used;
		if (!(share > 0) || (*at && *at != ','))
			errx(2, "--%s: expected VALUE:SHARE,..., not \"%s\"", name, text);
		at += *at == ',';
		w->value[w->count] = (uint64_t)value;
		w->share[w->count] = sum += share;
	}
	if (!w->count)
		errx(2, "--%s: nothing in it", name);
}

uint64_t weights_draw(const struct weights *w, double random)
{
	unsigned i = 0;

	while (i + 1 < w->count && random * w->share[w->count - 1] >= w->share[i])
		i++;
	return w->value[i];
}

uint64_t weights_max(const struct weights *w)
{
	uint64_t most = 0;

	for (unsigned i = 0; i < w->count; i++)
		most = w->value[i] > most ? w->value[i] : most;
	return most;
}

static void parse_address(struct options *o, const char *text)
{
	struct sockaddr_un *local = (struct sockaddr_un *)&o->address;
	struct sockaddr_in *inet = (struct sockaddr_in *)&o->address;
	const char *colon = strrchr(text, ':');
	char host[64];

	if (strncmp(text, "unix:", 5) == 0) {
		if (strlen(text + 5) >= sizeof(local->sun_path))
			errx(2, "--address: path too long: %s", text);
		local->sun_family = AF_UNIX;
		strcpy(local->sun_path, text + 5);
		o->address_bytes = sizeof(*local);
		return;
	}
	if (!colon || (size_t)(colon - text) >= sizeof(host))
		errx(2, "--address: expected HOST:PORT or unix:PATH, not \"%s\"", text);
	memcpy(host, text, (size_t)(colon - text));
	host[colon - text] = '\0';
	inet->sin_family = AF_INET;
	inet->sin_port = htons((uint16_t)number("address", colon + 1, 1, 65535));
	if (inet_pton(AF_INET, host, &inet->sin_addr) != 1)
		errx(2, "--address: expected an IPv4 address, not \"%s\"", host);
	o->address_bytes = sizeof(*inet);
}

static enum secure_mode parse_tls(const char *text)
{
	static const char *const modes[] = {"none", "implicit", "starttls"};

	for (unsigned i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		if (strcmp(text, modes[i]) == 0)
			return (enum secure_mode)i;
	}
	errx(2, "--tls: expected none, implicit or starttls, not \"%s\"", text);
}

static void add_target(struct options *o, int id, const char *text)
{
	struct usage_target *t = &o->server.target[o->server.count];

	if (o->server.count == USAGE_TARGETS_MAX)
		errx(2, "at most %d servers to measure", USAGE_TARGETS_MAX);
	o->server.count++;
	t->kind = id == O_PID ? USAGE_PID : id == O_TREE ? USAGE_TREE : USAGE_CGROUP;
	t->path = text;
	t->pid = id == O_CGROUP ? 0 : (int)number("server-pid", text, 1, 1 << 30);
}

static bool take_load(struct options *o, int id, const char *arg)
{
	switch (id) {
	case O_CONNECTIONS: o->connections = (unsigned)number("connections", arg, 1, CONNECTIONS_MAX); break;
	case O_RATE: o->rate = number("rate", arg, 0, 1e7); break;
	case O_SECONDS: o->seconds = number("seconds", arg, 0.01, 86400); break;
	case O_COUNT: o->count = (uint64_t)number("count", arg, 1, 1e12); break;
	case O_WARMUP: o->warmup_s = number("warmup", arg, 0, 3600); break;
	case O_TIMEOUT: o->timeout_s = number("timeout", arg, 0.1, 3600); break;
	case O_MAX_ERRORS: o->errors_max = (uint64_t)number("max-errors", arg, 1, 1e9); break;
	case O_USER: o->user = arg; break;
	case O_FIRST: o->user_first = (uint64_t)number("first", arg, 0, 1e12); break;
	case O_LAST: o->user_last = (uint64_t)number("last", arg, 0, 1e12); break;
	case O_PASSWORD: o->password = arg; break;
	case O_HOLD: o->hold_s = number("hold", arg, 0, 86400); break;
	case O_CPU: o->cpu = (int)number("cpu", arg, 0, 1023); break;
	case O_SEED: o->seed = (uint64_t)number("seed", arg, 0, 1e18); break;
	case O_JSON: o->json = arg; break;
	case O_TAG: o->tag = arg; break;
	case O_MIX: o->mix = arg; break;
	case O_ARRIVALS: o->arrivals = arg; break;
	case O_TLS: o->secure = parse_tls(arg); break;
	case O_RESUME: o->resume = true; break;
	default: return false;
	}
	return true;
}

static bool take_mail(struct options *o, int id, const char *arg)
{
	switch (id) {
	case O_PIPELINE: o->pipeline = (unsigned)number("pipeline", arg, 1, PIPELINE_MAX); break;
	case O_RETR:
		if (strcmp(arg, "one") != 0 && strcmp(arg, "all") != 0)
			errx(2, "--retr: expected one or all, not \"%s\"", arg);
		o->retr_all = arg[0] == 'a';
		break;
	case O_KEEP: o->keep = true; break;
	case O_NO_DIGEST: o->need_digest = false; break;
	case O_EXPECT: o->expect_messages = (int64_t)number("expect-messages", arg, 0, 1e9); break;
	case O_NEWEST: o->newest = (uint64_t)number("newest", arg, 0, 1e9); break;
	case O_SIZE: parse_weights(&o->message_bytes, "size", arg, 256.0 * 1024 * 1024); break;
	case O_DOT_LINES: o->dot_lines = (unsigned)number("dot-lines", arg, 0, 1e6); break;
	case O_RECIPIENTS: parse_weights(&o->recipients, "recipients", arg, RECIPIENTS_MAX); break;
	case O_PER_CONNECTION: o->per_connection = (unsigned)number("per-connection", arg, 0, 1e9); break;
	default: return false;
	}
	return true;
}

static void check(const struct options *o)
{
	uint64_t users = o->user_last - o->user_first + 1;

	if (!o->scenario)
		errx(2, "--scenario is missing; --help lists them");
	if (!o->address_bytes)
		errx(2, "--address is missing");
	if (o->user_last < o->user_first)
		errx(2, "--last is below --first");
	if (o->scenario->exclusive && users < o->connections)
		errx(2, "%s: a maildrop is locked by its session: %u connections need as many users, not %llu",
		     o->scenario->name, o->connections, (unsigned long long)users);
	if (o->resume && o->secure == SECURE_NONE)
		errx(2, "--resume: there is nothing to resume without --tls");
	if (o->scenario->idle && (o->rate > 0 || o->arrivals))
		errx(2, "%s: has no arrivals: its operations are begun by the server", o->scenario->name);
	if (o->rate > 0 && o->arrivals)
		errx(2, "--arrivals and --rate exclude each other");
	if (weights_max(&o->recipients) > users)
		errx(2, "--recipients: more than there are users");
}

static void take_words(struct options *o, int argc, char **argv)
{
	int id;

	optind = 0; /* glibc: from the beginning again */
	while ((id = getopt_long(argc, argv, "", names, NULL)) != -1) {
		if (id == O_SCENARIO) {
			o->scenario = driver_find(optarg);
			if (!o->scenario)
				errx(2, "--scenario: unknown \"%s\"; --help lists them", optarg);
		} else if (id == O_ADDRESS) {
			parse_address(o, optarg);
		} else if (id == O_PID || id == O_TREE || id == O_CGROUP) {
			add_target(o, id, optarg);
		} else if (id == O_HELP) {
			fputs(help, stdout);
			exit(0);
		} else if (!take_load(o, id, optarg) && !take_mail(o, id, optarg)) {
			exit(2); /* getopt has said why */
		}
	}
	if (optind < argc)
		errx(2, "unexpected argument \"%s\"", argv[optind]);
}

void options_parse(struct options *o, int argc, char **argv)
{
	*o = (struct options){
		.connections = 16, .timeout_s = 30, .errors_max = 20, .user = "user%d@demo.example",
		.user_first = 1, .user_last = 64, .password = "secret", .pipeline = 1, .retr_all = true,
		.need_digest = true, .expect_messages = -1, .hold_s = 2, .cpu = -1, .seed = 1, .tag = "",
		.message_bytes = {.count = 1, .value = {4096}, .share = {1}}, .recipients = {.count = 1, .value = {1}, .share = {1}},
	};
	take_words(o, argc, argv);
	if (o->seconds <= 0)
		o->seconds = o->count ? 600 : 5;
	if (!o->mix)
		check(o);
}

/* The words of one line, in place. */
static int split(char *line, char **words)
{
	char *save = NULL;
	int n = 1;

	words[0] = (char *)(uintptr_t)"load";
	line[strcspn(line, "#\r\n")] = '\0';
	for (char *word = strtok_r(line, " \t", &save); word; word = strtok_r(NULL, " \t", &save)) {
		if (n == WORDS_MAX - 1)
			errx(2, "--mix: more than %d words in a line", WORDS_MAX);
		words[n++] = word;
	}
	words[n] = NULL;
	return n;
}

unsigned options_streams(const struct options *o, struct options out[STREAMS_MAX])
{
	static char text[MIX_BYTES_MAX]; /* options point into it */
	char *words[WORDS_MAX];
	size_t used = 0;
	unsigned count = 0;
	FILE *f;

	if (!o->mix) {
		out[0] = *o;
		return 1;
	}
	f = fopen(o->mix, "re");
	if (!f)
		err(2, "--mix %s", o->mix);
	while (used < sizeof(text) && fgets(text + used, (int)(sizeof(text) - used), f)) {
		char *line = text + used;
		size_t length = strlen(line) + 1;
		int n = split(line, words);

		used += length;
		if (n == 1)
			continue;
		if (count == STREAMS_MAX)
			errx(2, "--mix: more than %d streams", STREAMS_MAX);
		out[count] = *o;
		out[count].mix = NULL;
		take_words(&out[count], n, words);
		if (out[count].mix || out[count].count || out[count].seconds != o->seconds || out[count].warmup_s != o->warmup_s ||
		    out[count].server.count != o->server.count || out[count].json != o->json)
			errx(2, "--mix: the window, the servers and the output are the whole run's, not a stream's");
		check(&out[count++]);
	}
	fclose(f);
	if (!count)
		errx(2, "--mix %s: no stream in it", o->mix);
	return count;
}

size_t options_format(char *out, size_t cap, const char *pattern, uint64_t number_)
{
	const char *at = strstr(pattern, "%d");
	int n = at ? snprintf(out, cap, "%.*s%llu%s", (int)(at - pattern), pattern, (unsigned long long)number_, at + 2)
			   : snprintf(out, cap, "%s", pattern);

	return (size_t)n < cap ? (size_t)n : cap - 1;
}
