/* SPDX-License-Identifier: Apache-2.0 */
/* report: see report.h. */
#include "bench/load/report.h"

#include <err.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "bench/load/driver.h"

static const double percents[] = {50, 90, 95, 99, 99.9};
static const char *const percent_names[] = {"p50_us", "p90_us", "p95_us", "p99_us", "p999_us"};

static double each(uint64_t ns, uint64_t operations)
{
	return operations ? (double)ns / 1e3 / (double)operations : 0.0;
}

static uint64_t server_ns(const struct window *w)
{
	return w->server_end.cpu_ns - w->server_start.cpu_ns;
}

static double per_second(uint64_t n, const struct window *w)
{
	return w->seconds > 0 ? (double)n / w->seconds : 0.0;
}

static void text_held(const struct window *w, const struct result *r)
{
	printf("held     %u sessions, %.0f octets of RSS each (%.0f anonymous); opening cost %.1f us CPU each\n", r->opened,
	       ((double)w->server_end.rss_bytes - (double)w->server_before.rss_bytes) / r->opened,
	       ((double)w->server_end.anon_bytes - (double)w->server_before.anon_bytes) / r->opened,
	       each(w->server_start.cpu_ns - w->server_before.cpu_ns, r->opened));
}

static void text_stream(const struct options *o, const struct window *w, const struct result *r)
{
	const struct histogram *h = &r->latency;
	const char *loop = o->arrivals ? "arrivals of a file" : o->rate > 0 ? "open loop" : o->scenario->idle ? "held" : "closed loop";

	printf("%s, %u connections, %s%s%s\n", o->scenario->name, o->connections, loop, *o->tag ? ": " : "", o->tag);
	printf("done     %" PRIu64 " in %.2f s: %.0f/s; %" PRIu64 " messages (%.0f/s), %.1f MB/s\n", r->operations, w->seconds,
	       per_second(r->operations, w), r->units, per_second(r->units, w), per_second(r->payload_bytes, w) / 1e6);
	printf("latency  ");
	for (unsigned i = 0; i < sizeof(percents) / sizeof(percents[0]); i++)
		printf("p%g %.1f  ", percents[i], (double)histogram_percentile(h, percents[i]) / 1e3);
	printf("max %.1f  mean %.1f us\n", (double)h->max / 1e3, histogram_mean(h) / 1e3);
	if (o->secure != SECURE_NONE)
		printf("TLS 1.3  %" PRIu64 " full handshakes, %" PRIu64 " resumed\n", r->handshakes_full, r->handshakes_resumed);
	if (r->lag.count)
		printf("lag      p99 %.1f  max %.1f us: the generator's own lateness\n", (double)histogram_percentile(&r->lag, 99) / 1e3,
		       (double)r->lag.max / 1e3);
	if (r->errors)
		printf("errors   %" PRIu64, r->errors);
	if (r->unfinished || r->unstarted)
		printf(" (%" PRIu64 " unfinished, %" PRIu64 " arrivals never started)", r->unfinished, r->unstarted);
	printf("%s", r->errors ? "\n" : "");
	for (unsigned i = 0; i < ERRORS_SHOWN && r->error[i][0]; i++)
		printf("         %s\n", r->error[i]);
}

void report_text(const struct options *o, const struct options *streams, unsigned count, const struct window *w, const struct result *r)
{
	double mib = 1024 * 1024;
	uint64_t operations = 0, errors = 0;
	const char *unit = count == 1 ? streams[0].scenario->unit : "operation";

	for (unsigned i = 0; i < count; i++) {
		text_stream(&streams[i], w, &r[i]);
		operations += r[i].operations;
		errors += r[i].errors;
	}
	if (o->server.count)
		printf("server   %.1f us CPU per %s, %.0f %% of one core; %u processes, RSS %.1f MiB (anonymous %.1f)\n",
		       each(server_ns(w), operations), unit, (double)server_ns(w) / 1e7 / w->seconds, w->server_end.processes,
		       (double)w->server_end.rss_bytes / mib, (double)w->server_end.anon_bytes / mib);
	if (count == 1 && o->server.count && streams[0].scenario->idle && r->opened)
		text_held(w, r);
	printf("client   %.1f us CPU per %s, %.0f %% of one core\n", each(w->self_cpu_ns, operations), unit,
	       (double)w->self_cpu_ns / 1e7 / w->seconds);
	printf("errors   %" PRIu64 "\n", errors);
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
	fprintf(f, ", \"%s\": {\"cpu_us\": %.1f, \"rss_bytes\": %" PRIu64 ", \"anon_bytes\": %" PRIu64 ", \"read_bytes\": %" PRIu64
	        ", \"write_bytes\": %" PRIu64 ", \"processes\": %u}", name, (double)u->cpu_ns / 1e3, u->rss_bytes, u->anon_bytes,
	        u->read_bytes, u->write_bytes, u->processes);
}

/* With the buckets that hold something, as [largest value in ns, count]: whoever reads them can make every percentile again. */
static void json_histogram(FILE *f, const char *name, const struct histogram *h, bool buckets)
{
	const char *comma = "";

	fprintf(f, ", \"%s\": {\"count\": %" PRIu64 ", \"mean_us\": %.2f", name, h->count, histogram_mean(h) / 1e3);
	for (unsigned i = 0; i < sizeof(percents) / sizeof(percents[0]); i++)
		fprintf(f, ", \"%s\": %.2f", percent_names[i], (double)histogram_percentile(h, percents[i]) / 1e3);
	fprintf(f, ", \"max_us\": %.2f", (double)h->max / 1e3);
	if (buckets) {
		fprintf(f, ", \"sum_ns\": %" PRIu64 ", \"max_ns\": %" PRIu64 ", \"buckets\": [", h->sum, h->max);
		for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
			if (!h->bucket[i])
				continue;
			fprintf(f, "%s[%" PRIu64 ", %" PRIu64 "]", comma, histogram_bucket_top(i), h->bucket[i]);
			comma = ", ";
		}
		fputc(']', f);
	}
	fputc('}', f);
}

static void json_stream(FILE *f, const struct options *o, const struct window *w, const struct result *r, bool buckets)
{
	fprintf(f, "\"scenario\": \"%s\", \"unit\": \"%s\", \"tag\": ", o->scenario->name, o->scenario->unit);
	json_string(f, o->tag);
	fprintf(f, ", \"connections\": %u, \"pipeline\": %u, \"offered_per_s\": %.6f", o->connections, o->pipeline, o->rate);
	fprintf(f, ", \"offered\": %" PRIu64 ", \"present_s\": %.6f, \"present_start\": %" PRIu64 ", \"present_end\": %" PRIu64,
	        r->offered, r->present_s, r->present_start, r->present_end);
	fprintf(f, ", \"operations\": %" PRIu64 ", \"per_s\": %.2f, \"messages\": %" PRIu64 ", \"messages_per_s\": %.2f",
	        r->operations, per_second(r->operations, w), r->units, per_second(r->units, w));
	fprintf(f, ", \"payload_bytes\": %" PRIu64 ", \"in_bytes\": %" PRIu64 ", \"out_bytes\": %" PRIu64, r->payload_bytes, r->bytes_in,
	        r->bytes_out);
	fprintf(f, ", \"tls_full\": %" PRIu64 ", \"tls_resumed\": %" PRIu64, r->handshakes_full, r->handshakes_resumed);
	fprintf(f, ", \"opened\": %u, \"open_s\": %.3f", r->opened, r->open_s);
	json_histogram(f, "latency", &r->latency, buckets);
	json_histogram(f, "lag", &r->lag, buckets);
	fprintf(f, ", \"errors\": %" PRIu64 ", \"unfinished\": %" PRIu64 ", \"unstarted\": %" PRIu64 ", \"error_text\": [", r->errors,
	        r->unfinished, r->unstarted);
	for (unsigned i = 0; i < ERRORS_SHOWN && r->error[i][0]; i++) {
		fputs(i ? ", " : "", f);
		json_string(f, r->error[i]);
	}
	fputc(']', f);
}

void report_json(const struct options *o, const struct options *streams, unsigned count, const struct window *w, const struct result *r)
{
	FILE *f = strcmp(o->json, "-") == 0 ? stdout : fopen(o->json, "we");

	if (!f)
		err(2, "%s", o->json);
	fprintf(f, "{\"window_s\": %.6f, \"self_cpu_us\": %.1f", w->seconds, (double)w->self_cpu_ns / 1e3);
	json_usage(f, "server_before", &w->server_before);
	json_usage(f, "server_start", &w->server_start);
	json_usage(f, "server_end", &w->server_end);
	if (!o->mix) {
		fprintf(f, ", \"server_us\": %.3f, \"client_us\": %.3f, ", each(server_ns(w), r->operations), each(w->self_cpu_ns, r->operations));
		json_stream(f, o, w, r, false);
	} else {
		fputs(", \"streams\": [", f);
		for (unsigned i = 0; i < count; i++) {
			fputs(i ? ",\n{" : "\n{", f);
			json_stream(f, &streams[i], w, &r[i], true);
			fputc('}', f);
		}
		fputs("\n]", f);
	}
	fputs("}\n", f);
	if (f != stdout && fclose(f) != 0)
		err(2, "%s", o->json);
}
