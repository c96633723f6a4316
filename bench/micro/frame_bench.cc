/* SPDX-License-Identifier: Apache-2.0 */
/* Line framing: a POP3 session's commands in one segment, byte by byte, and long lines. */
#include "bench/micro/c.h"

extern "C" {
#include "net/frame.h"
}

static const struct frame_rules rules = { 510, true };

static const char session[] = "USER john@demo.example\r\nPASS correct horse battery staple\r\nSTAT\r\nUIDL\r\nRETR 1\r\nDELE 1\r\nQUIT\r\n";

/* All lines out of `unread`, as session.c takes them. */
static unsigned lines(struct frame *f, struct slice unread)
{
	unsigned n = 0;
	for (;;) {
		struct slice line;
		size_t used;
		enum frame_found found = frame_next(f, &rules, unread, &line, &used);
		benchmark::DoNotOptimize(line);
		unread = slice_from(unread, used);
		if (found != FRAME_LINE)
			return n;
		n++;
	}
}

static void frame_session_in_one_segment(benchmark::State &state)
{
	struct frame f;
	frame_init(&f);
	for (auto _ : state)
		BENCH_CHECK(lines(&f, slice_of(session, sizeof(session) - 1)) == 7);
	state.SetItemsProcessed(7 * state.iterations());
	state.SetBytesProcessed((int64_t)(sizeof(session) - 1) * state.iterations());
}
BENCHMARK(frame_session_in_one_segment);

/* The worst a slow client can do: each byte is one more look. */
static void frame_line_byte_by_byte(benchmark::State &state)
{
	std::string line(static_cast<size_t>(state.range(0)), 'x');
	line += "\r\n";
	for (auto _ : state) {
		struct frame f;
		unsigned n = 0;
		frame_init(&f);
		for (size_t i = 1; i <= line.size(); i++)
			n += lines(&f, slice_of(line.data(), i));
		BENCH_CHECK(n == 1);
	}
	state.SetBytesProcessed((int64_t)line.size() * state.iterations());
}
BENCHMARK(frame_line_byte_by_byte)->Arg(16)->Arg(255)->Arg(510);

static void frame_long_line(benchmark::State &state)
{
	std::string line(static_cast<size_t>(state.range(0)), 'x');
	line += "\r\n";
	struct frame f;
	frame_init(&f);
	for (auto _ : state)
		BENCH_CHECK(lines(&f, slice_of_string(line)) == 1);
	state.SetBytesProcessed((int64_t)line.size() * state.iterations());
}
BENCHMARK(frame_long_line)->Arg(16)->Arg(510);
