/* SPDX-License-Identifier: Apache-2.0 */
/* The dot table and the rest of what a message goes through while it streams in: line ends, header end, dots, hash. */
#include "bench/micro/c.h"

extern "C" {
#include "core/run/fiber.h"
#include "core/run/shard.h"
#include "storage/body.h"
}

#include <fcntl.h>
#include <unistd.h>

namespace {
struct Case {
	benchmark::State *state;
	int data_fd; /* for spool files; messages of these sizes make none */
	std::string mail;
	size_t piece; /* bytes per write, as receives cut them */
};
}

static std::string make_mail(size_t bytes, unsigned dot_every)
{
	std::string mail = "From: a@example.net\r\nTo: b@example.net\r\nSubject: benchmark\r\n\r\n";
	for (unsigned n = 1; mail.size() < bytes; n++) {
		std::string line(76, 'x');
		if (dot_every && n % dot_every == 0)
			line[0] = '.';
		mail += line + "\r\n";
	}
	return mail;
}

static void on_fiber(void *arg)
{
	Case *c = static_cast<Case *>(arg);
	struct store_config config = {};
	config.memory_body_bytes = KIB(256);
	config.file_body_bytes = MIB(1);
	config.message_bytes_max = MIB(150);
	BENCH_CHECK(body_start(&config, c->data_fd) == OK);
	for (auto _ : *c->state) {
		struct body_writer *w;
		struct body *b;
		BENCH_CHECK(body_begin(BODY_REFUSE, &w) == OK);
		struct slice rest = slice_of_string(c->mail);
		while (rest.len) {
			BENCH_CHECK(body_write(w, slice_upto(rest, c->piece)) == OK);
			rest = slice_from(rest, c->piece);
		}
		BENCH_CHECK(body_end(w, &b) == OK && body_bytes(b) == c->mail.size());
		body_unref(b);
	}
	body_stop();
	c->state->SetBytesProcessed((int64_t)c->mail.size() * c->state->iterations());
}

/* Octets of the message; every how many lines begins with a dot (0: none). */
static void body_stream_in(benchmark::State &state)
{
	char folder[] = "/tmp/penfold-micro-XXXXXX";
	BENCH_CHECK(mkdtemp(folder));
	Case c = { &state, open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC),
		   make_mail(static_cast<size_t>(state.range(0)), static_cast<unsigned>(state.range(1))), KIB(16) };
	BENCH_CHECK(c.data_fd >= 0 && shard_run_alone(on_fiber, &c) == OK);
	unlinkat(c.data_fd, "spool", AT_REMOVEDIR);
	close(c.data_fd);
	rmdir(folder);
}
BENCHMARK(body_stream_in)->Args({ 4096, 0 })->Args({ 20480, 0 })->Args({ 200000, 0 })->Args({ 200000, 100 })->Args({ 200000, 3 });
