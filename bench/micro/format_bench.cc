/* SPDX-License-Identifier: Apache-2.0 */
/* Records: encode and decode of a delivery's commit, and the walk over a log's heads that a cold open makes. */
#include "bench/micro/c.h"

extern "C" {
#include "storage/format.h"
}

static const char prefix[] = "Return-Path: <sender@example.net>\r\nDelivered-To: john@demo.example\r\n"
                             "Received: from mta.example.net by mail.example.net with LMTP for <john@demo.example>; "
                             "Mon, 2 Mar 2026 09:00:00 +0000\r\n";

static void put_delivery(struct buf *heads, uint32_t uid)
{
	struct body_record body = {};
	struct message_record message = {};
	memcpy(body.fixed.guid, &uid, sizeof(uid));
	body.fixed.bytes = 4096;
	body.fixed.header_bytes = 400;
	memcpy(message.fixed.guid, &uid, sizeof(uid));
	message.fixed.folder = 1;
	message.fixed.uid = uid;
	message.fixed.bytes = 4096 + sizeof(prefix) - 1;
	message.prefix = slice_of(prefix, sizeof(prefix) - 1);
	message.from = SLICE_LIT("sender@example.net");
	message.rcpt = SLICE_LIT("john@demo.example");
	BENCH_CHECK(body_put(heads, 0, &body) && message_put(heads, 0, &message));
}

static void format_encode_delivery(benchmark::State &state)
{
	struct buf heads;
	buf_init(&heads, MIB(1));
	uint32_t uid = 1;
	for (auto _ : state) {
		buf_clear(&heads);
		put_delivery(&heads, uid++);
		benchmark::DoNotOptimize(heads.ptr);
	}
	state.SetItemsProcessed(state.iterations());
	buf_release(&heads);
}
BENCHMARK(format_encode_delivery);

/* What replay does with each record: find it, check its hash, take it apart. */
static void format_walk_deliveries(benchmark::State &state)
{
	const unsigned count = 1000;
	struct buf heads;
	buf_init(&heads, MIB(4));
	for (uint32_t uid = 1; uid <= count; uid++)
		put_delivery(&heads, uid);
	for (auto _ : state) {
		struct record r;
		size_t offset = 0;
		unsigned messages = 0;
		while (record_next(buf_slice(&heads), &offset, &r) == RECORD_NEXT_OK) {
			struct message_record m;
			struct body_record b;
			if (r.type == RECORD_MESSAGE)
				messages += message_get(&r, &m);
			else
				BENCH_CHECK(body_get(&r, &b));
		}
		BENCH_CHECK(messages == count);
	}
	state.SetItemsProcessed(count * state.iterations());
	state.SetBytesProcessed((int64_t)heads.len * state.iterations());
	buf_release(&heads);
}
BENCHMARK(format_walk_deliveries);

static void format_commit_header(benchmark::State &state)
{
	char out[COMMIT_HEADER_BYTES] __attribute__((aligned(8)));
	char heads[512] = { 0 };
	struct commit_header h = {};
	h.bytes = COMMIT_HEADER_BYTES + sizeof(heads);
	h.heads_bytes = sizeof(heads);
	h.records = 2;
	uint64_t offset = 0;
	for (auto _ : state) {
		struct commit_header got;
		offset += 8;
		commit_header_put(&h, slice_of(heads, sizeof(heads)), 42, 1, offset, out);
		BENCH_CHECK(commit_header_get(out, 42, 1, offset, &got) && commit_heads_good(&got, slice_of(heads, sizeof(heads))));
	}
	state.SetItemsProcessed(state.iterations());
}
BENCHMARK(format_commit_header);

/* Resynchronising behind a damaged range: bytes that are no header. */
static void format_header_search(benchmark::State &state)
{
	std::vector<uint64_t> noise(KIB(64) / 8);
	uint64_t x = 1;
	for (auto &word : noise)
		word = x = x * 6364136223846793005ull + 1442695040888963407ull;
	struct slice bytes = slice_of(noise.data(), noise.size() * 8);
	for (auto _ : state) {
		struct commit_header got;
		BENCH_CHECK(commit_header_find(bytes, 42, 1, 0, &got) == SIZE_MAX);
	}
	state.SetBytesProcessed((int64_t)bytes.len * state.iterations());
}
BENCHMARK(format_header_search);
