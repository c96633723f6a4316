/* SPDX-License-Identifier: Apache-2.0 */
/* report: see report.h. */
#include "bench/load/report.h"

#include <err.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "bench/load/driver.h"

static const double percents[] = {50, 90, 99, 99.9};
static const char *const percent_names[] = {"p50_us", "p90_us", "p99_us", "p999_us"};

static double each(uint64_t ns, uint64_t operations)
{
	return operations ? (double)ns / 1e3 / (double)operations : 0.0;
}

static uint64_t server_ns(const struct result *r)
{
	return r->server_end.cpu_ns - r->server_start.cpu_ns;
}

static double per_second(uint64_t n, const struct result *r)
{
	return r->window_s > 0 ? (double)n / r->window_s : 0.0;
}

static void text_server(const struct options *o, const struct result *r)
{
	double mib = 1024 * 1024;

	if (!o->server.count)
		return;
	printf("server   %.1f us CPU per %s, %.0f %% of one core; %u processes, RSS %.1f MiB (anonymous %.1f)\n",
	       each(server_ns(r), r->operations), o->scenario->unit, (double)server_ns(r) / 1e7 / r->window_s,
	       r->server_end.processes, (double)r->server_end.rss_bytes / mib, (double)r->server_end.anon_bytes / mib);
	if (o->scenario->idle && r->opened)
		printf("held     %u sessions, %.0f octets of RSS each (%.0f anonymous); opening cost %.1f us CPU each\n", r->opened,
		       ((double)r->server_end.rss_bytes - (double)r->server_before.rss_bytes) / r->opened,
		       ((double)r->server_end.anon_bytes - (double)r->server_before.anon_bytes) / r->opened,
		       each(r->server_start.cpu_ns - r->server_before.cpu_ns, r->opened));
}

void report_text(const struct options *o, const struct result *r)
{
	const struct histogram *h = &r->latency;

	printf("%s, %u connections, %s%s%s\n", o->scenario->name, o->connections, o->rate > 0 ? "open loop" : "closed loop",
	       *o->tag ? ": " : "", o->tag);
	printf("done     %" PRIu64 " in %.2f s: %.0f/s; %" PRIu64 " messages (%.0f/s), %.1f MB/s\n", r->operations, r->window_s,
	       per_second(r->operations, r), r->units, per_second(r->units, r), per_second(r->payload_bytes, r) / 1e6);
	printf("latency  ");
	for (unsigned i = 0; i < 4; i++)
		printf("p%g %.1f  ", percents[i], (double)histogram_percentile(h, percents[i]) / 1e3);
	printf("max %.1f  mean %.1f us\n", (double)h->max / 1e3, histogram_mean(h) / 1e3);
	if (o->secure != SECURE_NONE)
		printf("TLS 1.3  %" PRIu64 " full handshakes, %" PRIu64 " resumed\n", r->handshakes_full, r->handshakes_resumed);
	text_server(o, r);
	printf("client   %.1f us CPU per %s, %.0f %% of one core\n", each(r->self_cpu_ns, r->operations), o->scenario->unit,
	       (double)r->self_cpu_ns / 1e7 / r->window_s);
	printf("errors   %" PRIu64, r->errors);
	if (r->unfinished || r->unstarted)
		printf(" (%" PRIu64 " unfinished, %" PRIu64 " arrivals never started)", r->unfinished, r->unstarted);
	printf("\n");
	for (unsigned i = 0; i < ERRORS_SHOWN && r->error[i][0]; i++)
		printf("         %s\n", r->error[i]);
}

static void json_string(FILE *f, const char *text)
{
	fputc('"', f);
	for (; *text; text++) {
		unsigned char octet = (unsigned char)*text;
		if (octet == '"' || octet == '\\')
			fprintf(f, "\\%c", octet);
		else if (octet < 0x20 || octet > 0x7e)
			fprintf(f, "\\u%04x", octet);
		else
			fputc(octet, f);
	}
	fputc('"', f);
}

static void json_usage(FILE *f, const char *name, const struct usage *u)
{
	fprintf(f, ", \"%s\": {\"cpu_us\": %.1f, \"rss_bytes\": %" PRIu64 ", \"anon_bytes\": %" PRIu64 ", \"processes\": %u}", name,
	        (double)u->cpu_ns / 1e3, u->rss_bytes, u->anon_bytes, u->processes);
}

static void json_latency(FILE *f, const struct histogram *h)
{
	fprintf(f, ", \"latency\": {\"count\": %" PRIu64 ", \"mean_us\": %.2f", h->count, histogram_mean(h) / 1e3);
	for (unsigned i = 0; i < 4; i++)
		fprintf(f, ", \"%s\": %.2f", percent_names[i], (double)histogram_percentile(h, percents[i]) / 1e3);
	fprintf(f, ", \"max_us\": %.2f}", (double)h->max / 1e3);
}

void report_json(const struct options *o, const struct result *r)
{
	FILE *f = strcmp(o->json, "-") == 0 ? stdout : fopen(o->json, "we");

	if (!f)
		err(2, "%s", o->json);
	fprintf(f, "{\"scenario\": \"%s\", \"unit\": \"%s\", \"tag\": ", o->scenario->name, o->scenario->unit);
	json_string(f, o->tag);
	fprintf(f, ", \"connections\": %u, \"pipeline\": %u, \"offered_per_s\": %.2f, \"window_s\": %.6f", o->connections,
	        o->pipeline, o->rate, r->window_s);
	fprintf(f, ", \"operations\": %" PRIu64 ", \"per_s\": %.2f, \"messages\": %" PRIu64 ", \"messages_per_s\": %.2f",
	        r->operations, per_second(r->operations, r), r->units, per_second(r->units, r));
	fprintf(f, ", \"payload_bytes\": %" PRIu64 ", \"server_us\": %.3f, \"client_us\": %.3f", r->payload_bytes,
	        each(server_ns(r), r->operations), each(r->self_cpu_ns, r->operations));
	fprintf(f, ", \"tls_full\": %" PRIu64 ", \"tls_resumed\": %" PRIu64, r->handshakes_full, r->handshakes_resumed);
	fprintf(f, ", \"opened\": %u, \"open_s\": %.3f", r->opened, r->open_s);
	json_latency(f, &r->latency);
	json_usage(f, "server_before", &r->server_before);
	json_usage(f, "server_start", &r->server_start);
	json_usage(f, "server_end", &r->server_end);
	fprintf(f, ", \"errors\": %" PRIu64 ", \"unfinished\": %" PRIu64 ", \"unstarted\": %" PRIu64 ", \"error_text\": [", r->errors,
	        r->unfinished, r->unstarted);
	for (unsigned i = 0; i < ERRORS_SHOWN && r->error[i][0]; i++) {
		fputs(i ? ", " : "", f);
		json_string(f, r->error[i]);
	}
	fprintf(f, "]}\n");
	if (f != stdout && fclose(f) != 0)
		err(2, "%s", o->json);
}
