/* SPDX-License-Identifier: Apache-2.0 */
/* The reply chain: a status line, a UIDL of many lines, a RETR, each filled, gathered, let go of. */
#include "bench/micro/c.h"

extern "C" {
#include "net/pool.h"
#include "net/reply.h"
#include "net/send.h"
}

namespace {
struct Chain {
	struct pool chunks, batches;
	struct reply r;
	Chain()
	{
		pool_init(&chunks, REPLY_CHUNK_BYTES, 1024);
		pool_init(&batches, SEND_BATCH_PIECES * sizeof(struct io_piece), 1024);
		reply_init(&r, &chunks);
	}
	~Chain()
	{
		reply_release(&r);
		pool_release(&batches);
		pool_release(&chunks);
	}
	/* As conn.c does when the kernel takes everything. */
	void sent()
	{
		while (!reply_empty(&r)) {
			struct reply_flight flight = reply_gather(&r, &batches);
			benchmark::DoNotOptimize(flight);
			reply_sent(&r);
			if (flight.batch)
				pool_put(&batches, flight.batch);
		}
	}
};
}

static void reply_status_line(benchmark::State &state)
{
	Chain c;
	for (auto _ : state) {
		REPLY_LIT(&c.r, "+OK ");
		reply_u64(&c.r, 100);
		reply_put(&c.r, SLICE_LIT(" "));
		reply_u64(&c.r, 409600);
		REPLY_LIT(&c.r, "\r\n");
		c.sent();
	}
	state.SetItemsProcessed(state.iterations());
}
BENCHMARK(reply_status_line);

/* "n uuuuuuuuvvvvvvvv", in place, until the chain is full; then it is emptied and filled again. */
static void reply_uidl_lines(benchmark::State &state)
{
	Chain c;
	const uint32_t count = static_cast<uint32_t>(state.range(0));
	for (auto _ : state) {
		for (uint32_t n = 1; n <= count; n++) {
			char *at = reply_room(&c.r, 32);
			size_t len = put_u64(at, n);
			at[len++] = ' ';
			put_hex32(at + len, n);
			put_hex32(at + len + 8, 0x65a1b2c3);
			at[len + 16] = '\r';
			at[len + 17] = '\n';
			reply_commit(&c.r, len + 18);
			if (reply_full(&c.r))
				c.sent();
		}
		c.sent();
	}
	state.SetItemsProcessed(count * state.iterations());
}
BENCHMARK(reply_uidl_lines)->Arg(100)->Arg(10000);

/* Status line, prefix, file range, final dot. */
static void reply_retr(benchmark::State &state)
{
	Chain c;
	for (auto _ : state) {
		REPLY_LIT(&c.r, "+OK ");
		reply_u64(&c.r, 20480);
		REPLY_LIT(&c.r, " octets\r\n");
		reply_file(&c.r, 0, 8192, 20480, nullptr, nullptr);
		REPLY_LIT(&c.r, ".\r\n");
		c.sent();
	}
	state.SetItemsProcessed(state.iterations());
}
BENCHMARK(reply_retr);
