/* SPDX-License-Identifier: Apache-2.0 */
/* frame_test.c - lines come out the same however the input was cut, and the odd ends of lines mean what frame.h says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/base/bytes.h"
#include "core/base/limits.h"
#include "net/frame.h"
#include "net/input.h"

#include <stdlib.h>
#include <string.h>

/* What came out, as text: each line in <>, '!' for too long, '#' for endless. */
struct outcome {
	struct buf text;
};

static void run_frame(struct frame *f, const struct frame_rules *rules, struct input *in, struct outcome *o)
{
	for (;;) {
		struct slice line;
		size_t used;
		enum frame_found found = frame_next(f, rules, input_unread(in), &line, &used);
		if (found == FRAME_LINE) {
			assert_true(buf_put(&o->text, "<", 1) && buf_put(&o->text, line.ptr, line.len) && buf_put(&o->text, ">", 1));
		} else if (found == FRAME_TOO_LONG) {
			assert_true(buf_put(&o->text, "!", 1));
		}
		input_use(in, used);
		if (found == FRAME_ENDLESS) {
			assert_true(buf_put(&o->text, "#", 1));
			return;
		}
		if (found == FRAME_MORE)
			return;
	}
}

/* Feeds pieces of `step` bytes, the first of `first`; what is left unread at the end follows in []. */
static struct outcome feed(struct slice bytes, struct frame_rules rules, size_t first, size_t step)
{
	struct outcome o;
	struct input_pools pools;
	struct input in;
	struct frame f;
	buf_init(&o.text, MIB(4));
	input_pools_init(&pools);
	input_init(&in);
	frame_init(&f);
	for (size_t at = 0; at < bytes.len;) {
		size_t n = min_size(at == 0 ? first : step, bytes.len - at);
		/* a copy of exactly these bytes, so that a read past them is seen */
		char *piece = malloc(n ? n : 1);
		memcpy(piece, bytes.ptr + at, n);
		input_add(&in, slice_of(piece, n), &pools);
		free(piece);
		run_frame(&f, &rules, &in, &o);
		input_trim(&in, &pools);
		at += n;
		if (o.text.len && o.text.ptr[o.text.len - 1] == '#')
			break;
	}
	struct slice rest = input_unread(&in);
	assert_true(buf_put(&o.text, "[", 1) && buf_put(&o.text, rest.ptr, rest.len) && buf_put(&o.text, "]", 1));
	input_release(&in, &pools);
	input_pools_release(&pools);
	return o;
}

static void expect(struct slice bytes, size_t max, bool lf, struct slice wanted)
{
	struct frame_rules rules = { max, lf };
	for (size_t first = 1; first <= bytes.len; first++) {
		for (size_t step = 1; step <= bytes.len; step += step < 4 ? 1 : bytes.len) {
			struct outcome o = feed(bytes, rules, first, step);
			if (!slice_eq(buf_slice(&o.text), wanted))
				fail_msg("first %zu step %zu: got %.*s, wanted %.*s", first, step, SLICE_ARG(buf_slice(&o.text)), SLICE_ARG(wanted));
			buf_release(&o.text);
		}
	}
}
#define EXPECT(in, max, lf, out) expect(SLICE_LIT(in), max, lf, SLICE_LIT(out))

static void plain_lines(void **state)
{
	(void)state;
	EXPECT("USER a\r\nPASS b c\r\nSTAT\r\n", 80, false, "<USER a><PASS b c><STAT>[]");
	EXPECT("\r\n\r\nx", 80, false, "<><>[x]");
	EXPECT("half", 80, false, "[half]");
	EXPECT("half\r", 80, false, "[half\r]");
}

static void bare_ends(void **state)
{
	(void)state;
	EXPECT("a\nb\r\nc\n", 80, false, "<a\nb>[c\n]");
	EXPECT("a\nb\r\nc\n", 80, true, "<a><b><c>[]");
	EXPECT("a\rb\r\r\n", 80, false, "<a\rb\r>[]");
	EXPECT("a\rb\r\r\n", 80, true, "<a\rb\r>[]");
	EXPECT("\n\r\n", 80, false, "<\n>[]");
	EXPECT("\n\r\n", 80, true, "<><>[]");
}

static void any_byte_passes(void **state)
{
	(void)state;
	EXPECT("a\0b\377\200\r\n\0\r\n", 80, false, "<a\0b\377\200><\0>[]");
}

static void too_long_is_told_once(void **state)
{
	(void)state;
	EXPECT("1234\r\n12345\r\n1234\r\n", 4, false, "<1234>!<1234>[]");
	EXPECT("123456789\n123\r\n\r\n", 4, false, "!<>[]"); /* the bare LF is part of it */
	EXPECT("123456789\n123\r\n\r\n", 4, true, "!<123><>[]");
	EXPECT("12345\r\r\nok\r\n", 4, false, "!<ok>[]");
	EXPECT("1234\r\r\nok\r\n", 4, false, "!<ok>[]");   /* the first CR is content: five bytes */
	EXPECT("1234\r", 4, false, "[1234\r]");            /* may still end well */
	EXPECT("12345\r", 4, false, "[]");                 /* swallowed, not told: no end yet */
	EXPECT("\0\0\0\0\0\r\nx\r\n", 4, false, "!<x>[]");
}

static void endless(void **state)
{
	(void)state;
	size_t len = LINE_SWALLOW_BYTES_MAX + 3;
	char *p = malloc(len);
	memset(p, 'x', len);
	memcpy(p + len - 2, "\r\n", 2);
	/* one byte over the bound, then exactly the bound: the end of the line decides nothing, its length does */
	static const size_t steps[] = { 1, 777, 65536, SIZE_MAX };
	for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
		struct frame_rules rules = { 100, false };
		struct outcome o = feed(slice_of(p, len), rules, steps[i], steps[i]);
		assert_int_equal(o.text.ptr[0], '#');
		buf_release(&o.text);
		o = feed(slice_of(p + 1, len - 1), rules, steps[i], steps[i]);
		assert_true(slice_eq(buf_slice(&o.text), SLICE_LIT("![]")));
		buf_release(&o.text);
	}
	free(p);
}

/* Searching is linear: 64 KiB of unfinished line, a byte at a time, must not look at 2 * 10^9 bytes. */
static void each_byte_is_searched_once(void **state)
{
	(void)state;
	struct frame f;
	struct frame_rules rules = { KIB(64), false };
	char *p = calloc(1, KIB(64));
	frame_init(&f);
	for (size_t len = 1; len <= KIB(64); len++) {
		struct slice line;
		size_t used;
		assert_int_equal(frame_next(&f, &rules, slice_of(p, len), &line, &used), FRAME_MORE);
		assert_int_equal(used, 0);
		assert_int_equal(f.searched, len);
	}
	free(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain_lines),           cmocka_unit_test(bare_ends), cmocka_unit_test(any_byte_passes),
		cmocka_unit_test(too_long_is_told_once), cmocka_unit_test(endless),   cmocka_unit_test(each_byte_is_searched_once),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
