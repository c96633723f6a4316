/* SPDX-License-Identifier: Apache-2.0 */
/* floor: the program; see floor.h. Stops on SIGTERM or SIGINT, exit 0. */
#include <err.h>
#include <getopt.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "bench/floor/floor.h"

static const char help[] =
	"usage: floor [--pop3 PORT] [--lmtp PORT] [--threads N] [--cpu N]\n"
	"             [--messages M (100)] [--size BYTES (20480)]   what STAT, UIDL and RETR say\n"
    "             [--distinct N (1)]                           messages sent in turn by RETR\n"
	"             [--log FOLDER] [--logs N (1)] [--lmtp-max BYTES (65536)]\n"
	"\n"
	"Listens on 127.0.0.1. With --log an LMTP delivery is written and synced before its 250;\n"
	"--logs N spreads deliveries over N files (as many as mailboxes: a log per account).\n"
	"--cpu N pins thread i to core N + i.\n";

struct thread {
	pthread_t id;
	unsigned index;
	const struct floor_options *o;
	const struct canned *canned;
};

static double number(const char *name, const char *text, double min, double max)
{
	char *end;
	double value = strtod(text, &end);

	if (end == text || *end || !(value >= min && value <= max))
		errx(2, "--%s: expected a number from %.0f to %.0f, not \"%s\"", name, min, max, text);
	return value;
}

static void parse(struct floor_options *o, int argc, char **argv)
{
	static const struct option names[] = {
		{"pop3", 1, NULL, 'p'}, {"lmtp", 1, NULL, 'l'}, {"threads", 1, NULL, 't'}, {"cpu", 1, NULL, 'c'},
		{"messages", 1, NULL, 'm'}, {"size", 1, NULL, 's'}, {"log", 1, NULL, 'g'}, {"logs", 1, NULL, 'n'},
		{"lmtp-max", 1, NULL, 'x'}, {"distinct", 1, NULL, 'd'}, {"help", 0, NULL, 'h'}, {NULL, 0, NULL, 0},
	};
	int id;

	*o = (struct floor_options){.threads = 1, .messages = 100, .message_bytes = 20480, .lmtp_bytes_max = 65536,
								.logs = 1, .distinct = 1, .cpu = -1};
	while ((id = getopt_long(argc, argv, "", names, NULL)) != -1) {
		switch (id) {
		case 'p': o->pop3_port = (uint16_t)number("pop3", optarg, 1, 65535); break;
		case 'l': o->lmtp_port = (uint16_t)number("lmtp", optarg, 1, 65535); break;
		case 't': o->threads = (unsigned)number("threads", optarg, 1, THREADS_MAX); break;
		case 'c': o->cpu = (int)number("cpu", optarg, 0, 1023); break;
		case 'm': o->messages = (unsigned)number("messages", optarg, 0, 1e7); break;
		case 's': o->message_bytes = (size_t)number("size", optarg, 1, 256e6); break;
		case 'd': o->distinct = (unsigned)number("distinct", optarg, 1, 1e6); break;
		case 'g': o->log_folder = optarg; break;
		case 'n': o->logs = (unsigned)number("logs", optarg, 1, LOGS_MAX); break;
		case 'x': o->lmtp_bytes_max = (size_t)number("lmtp-max", optarg, 1024, 256e6); break;
		case 'h': fputs(help, stdout); exit(0);
		default: exit(2);
		}
	}
	if (optind < argc || (!o->pop3_port && !o->lmtp_port))
		errx(2, "nothing to serve; --help");
}

static void *thread_main(void *arg)
{
	const struct thread *t = arg;
	cpu_set_t set;

	if (t->o->cpu >= 0) {
		CPU_ZERO(&set);
		CPU_SET((size_t)t->o->cpu + t->index, &set);
		if (sched_setaffinity(0, sizeof(set), &set) < 0)
			err(2, "--cpu");
	}
	ring_serve(t->o, t->canned, t->index);
	return NULL;
}

int main(int argc, char **argv)
{
	static struct floor_options o;
	static struct canned canned;
	static struct thread threads[THREADS_MAX];
	sigset_t set;
	int got;

	parse(&o, argc, argv);
	canned_init(&canned, &o);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	for (unsigned i = 0; i < o.threads; i++) {
		threads[i] = (struct thread){.index = i, .o = &o, .canned = &canned};
		if (pthread_create(&threads[i].id, NULL, thread_main, &threads[i]) != 0)
			err(2, "thread");
	}
	sigwait(&set, &got);
	_exit(0); /* nothing of it is worth tidying up */
}
