/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load: a load generator for mail servers that believes nothing.
 *
 * One process, one thread: to load a server from more cores, start more of
 * them with users of their own. `load --help` lists scenarios and options;
 * bench/README.md says what the figures mean.
 *
 * Reading order: options.h (what can be asked), driver.h (how a protocol is
 * spoken), pop3.c, lmtp.c and imap.c (three of them), conn.h (sockets and lines),
 * engine.h (places, arrivals, windows), message.h (mail that proves itself).
 *
 * Exit: 0 all good, 1 some operation failed, 2 it could not be run as asked.
 */
#include <err.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>

#include "bench/load/driver.h"
#include "bench/load/engine.h"
#include "bench/load/report.h"

static void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET((size_t)cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set) < 0)
		err(2, "--cpu %d", cpu);
}

/* A crowd of connections needs more descriptors than a shell is given. */
static void take_descriptors(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

int main(int argc, char **argv)
{
	static struct options options;
	static struct options stream[STREAMS_MAX];
	static struct result result[STREAMS_MAX];
	static struct window window;
	unsigned count;
	bool good = true;

	options_parse(&options, argc, argv);
	count = options_streams(&options, stream);
	usage_check(&options.server);
	if (options.cpu >= 0)
		pin(options.cpu);
	take_descriptors();
	signal(SIGPIPE, SIG_IGN);
	engine_run(&options, stream, count, &window, result);
	if (!options.json || strcmp(options.json, "-") != 0)
		report_text(&options, stream, count, &window, result);
	if (options.json)
		report_json(&options, stream, count, &window, result);
	for (unsigned i = 0; i < count; i++)
		good = good && !result[i].errors && (options.mix || stream[i].scenario->idle || result[i].operations);
	return good ? 0 : 1;
}
