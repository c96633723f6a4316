/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load: a load generator for mail servers that believes nothing.
 *
 * One process, one thread: to load a server from more cores, start more of
 * them with users of their own. `load --help` lists scenarios and options;
 * bench/README.md says what the figures mean.
 *
 * Reading order: options.h (what can be asked), driver.h (how a protocol is
 * spoken), pop3.c and lmtp.c (two of them), conn.h (sockets and lines),
 * engine.h (places, arrivals, windows), message.h (mail that proves itself).
 *
 * Exit: 0 all good, 1 some operation failed, 2 it could not be run as asked.
 */
#include <err.h>
#include <sched.h>
#include <signal.h>
#include <string.h>

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

int main(int argc, char **argv)
{
	static struct options options;
	static struct result result;

	options_parse(&options, argc, argv);
	usage_check(&options.server);
	if (options.cpu >= 0)
		pin(options.cpu);
	signal(SIGPIPE, SIG_IGN);
	engine_run(&options, &result);
	if (!options.json || strcmp(options.json, "-") != 0)
		report_text(&options, &result);
	if (options.json)
		report_json(&options, &result);
	return result.errors || (!options.scenario->idle && !result.operations) ? 1 : 0;
}
