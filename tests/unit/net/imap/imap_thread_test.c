/* SPDX-License-Identifier: Apache-2.0 */
/* Threads: RFC 5256's rules by small forests, and what would be too deep or closed in a circle. */
#include "net/imap/imap_thread.h"

#include "core/base/base.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

/* A message: id, references "a b", subject ("*": of a reply), date. */
struct given {
	const char *id, *references, *subject;
	int64_t date;
};

static void check(enum thread_how how, const struct given *g, size_t count, const char *expected)
{
	struct threads t;
	struct thread_walk w;
	struct buf out;
	char piece[32];
	size_t len;
	threads_init(&t, how, 7, NULL);
	buf_init(&out, MIB(1));
	for (size_t i = 0; i < count; i++) {
		struct slice rest = slice_str(g[i].references), id;
		while (slice_next(&rest, ' ', &id))
			assert_int_equal(threads_reference(&t, id), OK);
		bool reply = g[i].subject[0] == '*';
		assert_int_equal(threads_add(&t, &(struct thread_message){ .number = (uint32_t)i + 1, .sent_s = g[i].date, .arrived_s = (int64_t)i,
									   .subject = slice_str(g[i].subject + reply), .reply = reply,
									   .id = slice_str(g[i].id) }), OK);
	}
	threads_make(&t);
	for (thread_walk_begin(&t, &w); thread_walk_next(&t, &w, piece, &len);)
		assert_true(buf_put(&out, piece, len));
	assert_true(buf_put(&out, "", 1));
	assert_string_equal(out.ptr, expected);
	buf_release(&out);
	threads_release(&t);
}
#define CHECK(how, expected, ...) check(how, (struct given[]){ __VA_ARGS__ }, ARRAY_LEN(((struct given[]){ __VA_ARGS__ })), expected)

static void references(void **state)
{
	(void)state;
	CHECK(THREAD_REFERENCES, "(1 2 (3)(4))", { "a", "", "s", 1 }, { "b", "a", "*s", 2 }, { "c", "a b", "*s", 3 }, { "d", "a b", "*s", 4 });
	/* a child before its parent, and out of order by date */
	CHECK(THREAD_REFERENCES, "(2 1)", { "b", "a", "*s", 1 }, { "a", "", "s", 9 });
	/* siblings whose parent is not there */
	CHECK(THREAD_REFERENCES, "((2)(1))", { "b", "x", "s", 5 }, { "c", "x", "t", 2 });
	/* the only child of one that is not there takes its place */
	CHECK(THREAD_REFERENCES, "(1)(2)", { "b", "x y", "s", 1 }, { "c", "z", "t", 2 });
	/* one between that is not there */
	CHECK(THREAD_REFERENCES, "(1 2)", { "a", "", "s", 1 }, { "c", "a gone", "*s", 2 });
	/* two of one Message-ID, and circles */
	CHECK(THREAD_REFERENCES, "(1)(2)", { "a", "", "s", 1 }, { "a", "", "t", 2 });
	CHECK(THREAD_REFERENCES, "(2 1)", { "a", "b", "s", 1 }, { "b", "a", "t", 2 });
	CHECK(THREAD_REFERENCES, "(1)", { "a", "a", "s", 1 });
}

static void subjects(void **state)
{
	(void)state;
	/* step 5: a reply goes below what it answers, equals below one that is not there, no subject is no subject */
	CHECK(THREAD_REFERENCES, "(1 2)", { "a", "", "s", 1 }, { "b", "", "*s", 2 });
	CHECK(THREAD_REFERENCES, "(2 1)", { "a", "", "*s", 1 }, { "b", "", "s", 2 });
	CHECK(THREAD_REFERENCES, "((1)(2))", { "a", "", "s", 1 }, { "b", "", "s", 2 });
	CHECK(THREAD_REFERENCES, "((1)(2)(3))", { "a", "", "s", 1 }, { "b", "", "s", 2 }, { "c", "", "s", 3 });
	CHECK(THREAD_REFERENCES, "(1)(2)", { "a", "", "", 1 }, { "b", "", "", 2 });
	CHECK(THREAD_REFS, "(1)(2)", { "a", "", "s", 1 }, { "b", "", "*s", 2 });
	/* REFS: in order of the newest arrival of each thread */
	CHECK(THREAD_REFS, "(2)(1 3)", { "a", "", "s", 1 }, { "b", "", "t", 2 }, { "c", "a", "*s", 3 });
	CHECK(THREAD_ORDEREDSUBJECT, "(2 (1)(4))(3)", { "a", "", "s", 5 }, { "b", "", "s", 1 }, { "c", "", "t", 2 }, { "d", "", "s", 9 });
	CHECK(THREAD_ORDEREDSUBJECT, "(1 2)", { "a", "", "s", 1 }, { "a", "", "*s", 2 });
	check(THREAD_REFERENCES, NULL, 0, "");
}

/* A row of 20,000 answers: no stack grows with it. */
static void deep(void **state)
{
	(void)state;
	struct threads t;
	struct thread_walk w;
	char id[16], piece[32];
	size_t len, closing = 0, pieces = 0;
	threads_init(&t, THREAD_REFS, 1, NULL);
	for (uint32_t i = 1; i <= 20000; i++) {
		char name[16];
		size_t n = put_u64(id, i), before = put_u64(name, i - 1);
		if (i > 1)
			assert_int_equal(threads_reference(&t, slice_of(name, before)), OK);
		assert_int_equal(threads_add(&t, &(struct thread_message){ .number = i, .sent_s = i, .id = slice_of(id, n) }), OK);
	}
	threads_make(&t);
	for (thread_walk_begin(&t, &w); thread_walk_next(&t, &w, piece, &len); pieces++)
		closing += len && piece[0] == ')';
	assert_int_equal(closing, 1);
	assert_true(pieces > 20000);
	threads_release(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(references), cmocka_unit_test(subjects), cmocka_unit_test(deep) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
