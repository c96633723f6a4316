/* SPDX-License-Identifier: Apache-2.0 */
/* reply_test.c - what was put into a chain comes out in order, once, within the bounds, and its memory goes back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "net/pool.h"
#include "net/reply.h"
#include "net/send.h"

#include <stdio.h>
#include <stdlib.h>

struct world {
	struct pool chunks, batches;
	struct reply r;
};

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	pool_init(&w->chunks, REPLY_CHUNK_BYTES, 100);
	pool_init(&w->batches, SEND_BATCH_PIECES * sizeof(struct io_piece), 4);
	reply_init(&w->r, &w->chunks);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;
	reply_release(&w->r);
	pool_release(&w->chunks);
	pool_release(&w->batches);
	free(w);
	return 0;
}

/* Sends all that is queued; text is appended to `out`, a file range as {fd:offset+len}. Returns how many sends that took. */
static unsigned drain(struct world *w, struct buf *out)
{
	unsigned sends = 0;
	while (!reply_empty(&w->r)) {
		struct reply_flight f = reply_gather(&w->r, &w->batches);
		for (size_t i = 0; i < f.count; i++) {
			const struct io_piece *p = &f.pieces[i];
			if (p->fd < 0)
				assert_true(buf_put(out, p->ptr, p->len));
			else
				assert_true(buf_printf(out, "{%d:%llu+%llu}", p->fd, (unsigned long long)p->offset, (unsigned long long)p->len));
		}
		reply_sent(&w->r);
		if (f.batch)
			pool_put(&w->batches, f.batch);
		sends++;
	}
	assert_int_equal(w->r.memory_bytes, 0);
	assert_int_equal(w->r.queued_bytes, 0);
	assert_null(w->r.first);
	return sends;
}

static void short_replies_are_one_piece(void **state)
{
	struct world *w = *state;
	struct buf out;
	buf_init(&out, MIB(1));
	REPLY_LIT(&w->r, "+OK ");
	reply_u64(&w->r, 18446744073709551615u);
	reply_printf(&w->r, " %s %d\r\n", "messages", -1);
	reply_put(&w->r, SLICE_LIT("next\r\n"));
	char *room = reply_room(&w->r, 10);
	memcpy(room, "abc", 3);
	reply_commit(&w->r, 3);
	assert_int_equal(w->r.pieces, 1);
	assert_int_equal(w->r.memory_bytes, REPLY_CHUNK_BYTES);
	assert_int_equal(drain(w, &out), 1);
	assert_true(slice_eq(buf_slice(&out), SLICE_LIT("+OK 18446744073709551615 messages -1\r\nnext\r\nabc")));
	assert_int_equal(w->r.sent_bytes, out.len);
	buf_release(&out);
}

static unsigned released;
static void count_release(void *arg)
{
	(void)arg;
	released++;
}

static void text_and_files_keep_their_order(void **state)
{
	struct world *w = *state;
	struct buf out, wanted;
	buf_init(&out, MIB(1));
	buf_init(&wanted, MIB(1));
	released = 0;
	for (int i = 0; i < 60; i++) {
		reply_printf(&w->r, "+OK %d\r\n", i);
		reply_file(&w->r, 100 + i, (uint64_t)i, 1000, count_release, NULL);
		REPLY_LIT(&w->r, ".\r\n");
		buf_printf(&wanted, "+OK %d\r\n{%d:%d+1000}.\r\n", i, 100 + i, i);
	}
	reply_file(&w->r, 5, 0, 0, count_release, NULL); /* nothing to send: released at once */
	assert_int_equal(released, 1);
	assert_int_equal(w->r.queued_bytes, wanted.len - 60 * strlen("{100:0+1000}") - 50 + 60 * 1000);
	assert_true(drain(w, &out) >= 2);
	assert_true(slice_eq(buf_slice(&out), buf_slice(&wanted)));
	assert_int_equal(released, 61);
	buf_release(&out);
	buf_release(&wanted);
}

/* What the kernel has is not touched: text put while a send is in flight starts a piece of its own. */
static void flying_pieces_do_not_grow(void **state)
{
	struct world *w = *state;
	REPLY_LIT(&w->r, "first");
	struct reply_flight f = reply_gather(&w->r, &w->batches);
	assert_int_equal(f.count, 1);
	REPLY_LIT(&w->r, "second");
	assert_int_equal(f.pieces[0].len, 5);
	assert_int_equal(w->r.pieces, 2);
	reply_sent(&w->r);
	assert_int_equal(w->r.sent_bytes, 5);
	f = reply_gather(&w->r, &w->batches);
	assert_int_equal(f.count, 1);
	assert_memory_equal(f.pieces[0].ptr, "second", 6);
	reply_sent(&w->r);
	assert_int_equal(w->r.memory_bytes, 0);
}

static void long_static_text_is_not_copied(void **state)
{
	struct world *w = *state;
	static char text[2000];
	memset(text, 's', sizeof(text));
	reply_static(&w->r, slice_of(text, sizeof(text)));
	struct reply_flight f = reply_gather(&w->r, &w->batches);
	assert_ptr_equal(f.pieces[0].ptr, text);
	reply_sent(&w->r);
}

static void full_and_half_drained(void **state)
{
	struct world *w = *state;
	unsigned lines = 0;
	while (!reply_full(&w->r)) {
		reply_printf(&w->r, "%u %060u\r\n", lines, lines);
		lines++;
	}
	assert_in_range(w->r.memory_bytes, REPLY_BYTES_MAX, REPLY_BYTES_MAX + REPLY_CHUNK_BYTES);
	assert_true(lines * 66 > REPLY_BYTES_MAX / 2);
	assert_false(reply_half_drained(&w->r));
	struct reply_flight f = reply_gather(&w->r, &w->batches);
	reply_sent(&w->r);
	pool_put(&w->batches, f.batch);
	assert_true(reply_half_drained(&w->r)); /* one send is half: the other half leaves while more is made */
	assert_false(reply_empty(&w->r));
	/* a few more lines always find room */
	while (!reply_full(&w->r))
		reply_printf(&w->r, "%060u\r\n", lines++);
	for (unsigned i = 0; i < REPLY_SLACK_BYTES / 256; i++)
		reply_printf(&w->r, "%0100u\r\n", i);
	assert_false(w->r.overrun);
}

static void pieces_are_bounded_too(void **state)
{
	struct world *w = *state;
	unsigned n = 0;
	released = 0;
	while (!reply_full(&w->r)) {
		reply_file(&w->r, 3, n++, 10, count_release, NULL);
	}
	assert_int_equal(n, REPLY_PIECES_MAX);
	reply_release(&w->r);
	assert_int_equal(released, n);
	assert_int_equal(w->r.memory_bytes, 0);
}

/* Who never asks is stopped, and nothing is written where it should not be. */
static void overrun_is_noticed(void **state)
{
	struct world *w = *state;
	released = 0;
	for (unsigned i = 0; i < 200000; i++)
		REPLY_LIT(&w->r, "a line that nobody asked about\r\n");
	assert_true(w->r.overrun);
	assert_true(w->r.memory_bytes <= REPLY_BYTES_MAX + REPLY_SLACK_BYTES + 2 * REPLY_CHUNK_BYTES);
	for (unsigned i = 0; i < 1000; i++) {
		memset(reply_room(&w->r, REPLY_ROOM_BYTES), 'x', REPLY_ROOM_BYTES);
		reply_commit(&w->r, REPLY_ROOM_BYTES);
	}
	reply_file(&w->r, 3, 0, 10, count_release, NULL);
	assert_int_equal(released, 1);
	reply_u64(&w->r, 1);
	reply_printf(&w->r, "%s", "x");
	assert_true(w->r.memory_bytes <= REPLY_BYTES_MAX + REPLY_SLACK_BYTES + 2 * REPLY_CHUNK_BYTES);
}

static void printf_of_any_length(void **state)
{
	struct world *w = *state;
	struct buf out;
	buf_init(&out, MIB(1));
	static char big[9000];
	memset(big, 'b', sizeof(big) - 1);
	reply_put(&w->r, SLICE_LIT("x"));
	reply_printf(&w->r, "<%s>", big);
	reply_printf(&w->r, "%s", "");
	assert_int_equal(drain(w, &out), 1);
	assert_int_equal(out.len, 1 + 2 + 8999);
	assert_int_equal(out.ptr[1], '<');
	assert_int_equal(out.ptr[out.len - 1], '>');
	buf_release(&out);
}

/* Random puts against a plain buffer. */
static void like_a_plain_buffer(void **state)
{
	struct world *w = *state;
	uint64_t seed = 12345;
	struct buf wanted, out;
	buf_init(&wanted, MIB(4));
	buf_init(&out, MIB(4));
	static char text[3000];
	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = (char)('a' + i % 26);
	for (unsigned round = 0; round < 3000; round++) {
		seed = seed * 6364136223846793005u + 1442695040888963407u;
		unsigned kind = (unsigned)(seed >> 33) % 6;
		size_t n = (size_t)(seed >> 40) % (kind == 0 ? 3000 : 300);
		struct slice s = slice_of(text, n);
		if (kind < 2) {
			reply_put(&w->r, s);
		} else if (kind == 2) {
			reply_static(&w->r, s);
		} else if (kind == 3) {
			char *room = reply_room(&w->r, n + 20);
			memcpy(room, text, n);
			reply_commit(&w->r, n);
		} else {
			reply_printf(&w->r, "%.*s", SLICE_ARG(s));
		}
		buf_put(&wanted, text, n);
		if (reply_full(&w->r) || kind == 5)
			drain(w, &out);
	}
	drain(w, &out);
	assert_false(w->r.overrun);
	assert_true(slice_eq(buf_slice(&out), buf_slice(&wanted)));
	buf_release(&out);
	buf_release(&wanted);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(short_replies_are_one_piece), TEST(text_and_files_keep_their_order), TEST(flying_pieces_do_not_grow),
		TEST(long_static_text_is_not_copied), TEST(full_and_half_drained), TEST(pieces_are_bounded_too),
		TEST(overrun_is_noticed), TEST(printf_of_any_length), TEST(like_a_plain_buffer),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
