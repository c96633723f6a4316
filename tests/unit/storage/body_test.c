/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies: line ends, cut anywhere; header ends, dots, hashes; memory, spool file and file for good. */
#include "core/base/hash.h"
#include "core/base/limits.h"
#include "core/run/fiber.h"
#include "core/run/file.h"
#include "storage/body.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

/* Checks run on a fiber, where cmocka's jumps must not be used: they are counted and asserted on the test's own stack. */
static int failures;
#define CHECK(cond) ((cond) ? (void)0 : (void)(failures++, fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond)))

static char folder[64];
static int data_fd;
static struct store_config config;

struct job {
	void (*fn)(void);
};

static void on_fiber(void *arg)
{
	struct job *job = arg;
	CHECK(body_start(&config, data_fd) == OK);
	job->fn();
	body_stop();
}

static void run(void (*fn)(void))
{
	struct job job = { fn };
	failures = 0;
	assert_int_equal(shard_run_alone(on_fiber, &job), OK);
	assert_int_equal(failures, 0);
}

/* All bytes of a body. */
static char *bytes_of(const struct body *b)
{
	char *all = xmalloc(b->bytes + 1);
	uint64_t at = 0;
	if (b->spool_fd >= 0)
		at = (uint64_t)file_read(b->spool_fd, all, b->bytes, 0);
	for (uint32_t i = 0; i < b->chunk_count; i++) {
		memcpy(all + at, b->chunks[i].ptr, b->chunks[i].len);
		at += b->chunks[i].len;
	}
	CHECK(at == b->bytes);
	return all;
}

/* Writes `in` in two parts, cut at `cut`. */
static enum err make(enum body_policy policy, struct slice in, size_t cut, struct body **out)
{
	struct body_writer *w;
	CHECK(body_begin(policy, &w) == OK);
	(void)body_write(w, slice_upto(in, cut));
	(void)body_write(w, slice_from(in, cut));
	return body_end(w, out);
}

/* What a body must be: written without cleverness, a byte at a time. */
struct model {
	enum err err;
	char *bytes;
	size_t len, header;
	uint64_t dots[4096];
	uint32_t dot_count;
};

static void model_put(struct model *m, char c)
{
	m->bytes[m->len++] = c;
}

static void model_make(struct model *m, enum body_policy policy, struct slice in)
{
	m->bytes = xmalloc(2 * in.len + 2);
	m->len = m->dot_count = 0;
	m->err = OK;
	for (size_t i = 0; i < in.len; i++) {
		char c = in.ptr[i];
		bool pair = c == '\r' && i + 1 < in.len && in.ptr[i + 1] == '\n';
		if (c == 0 || ((c == '\r' || c == '\n') && !pair && policy == BODY_REFUSE))
			m->err = ERR_SYNTAX;
		if (c == '\r' || c == '\n') {
			model_put(m, '\r');
			model_put(m, '\n');
			i += pair;
		} else
			model_put(m, c);
	}
	if (m->len > 0 && m->bytes[m->len - 1] != '\n') {
		model_put(m, '\r');
		model_put(m, '\n');
	}
	m->header = m->len;
	for (size_t i = m->len; i >= 2; i--)
		if (m->bytes[i - 1] == '\n' && (i == 2 || m->bytes[i - 3] == '\n'))
			m->header = i;
	for (size_t i = 0; i < m->len; i++)
		if (m->bytes[i] == '.' && (i == 0 || m->bytes[i - 1] == '\n'))
			m->dots[m->dot_count++] = i;
}

static void check_against_model(struct body *b, const struct model *m)
{
	CHECK(b->bytes == m->len && b->bytes == body_bytes(b));
	CHECK(b->header_bytes == m->header);
	char *all = bytes_of(b);
	CHECK(b->bytes == m->len && memcmp(all, m->bytes, m->len) == 0);
	CHECK(b->hash == hash64(slice_of(m->bytes, m->len), 0));
	struct slice h = body_header(b);
	CHECK(slice_eq(h, slice_of(m->bytes, min_size(m->header, BODY_HEADER_KEPT_BYTES))));
	if (m->dot_count > BODY_DOTS_MAX)
		CHECK(b->dots_unknown && b->dot_count == 0);
	else {
		CHECK(!b->dots_unknown && b->dot_count == m->dot_count);
		for (uint32_t i = 0; i < b->dot_count && i < m->dot_count; i++)
			CHECK(b->dots[i] == m->dots[i]);
	}
	free(all);
}

static void check_all_cuts(struct slice in)
{
	for (int policy = BODY_REFUSE; policy <= BODY_MEND; policy++) {
		struct model m;
		model_make(&m, (enum body_policy)policy, in);
		for (size_t cut = 0; cut <= in.len; cut++) {
			struct body *b;
			enum err e = make((enum body_policy)policy, in, cut, &b);
			CHECK(e == m.err);
			if (e == OK) {
				check_against_model(b, &m);
				body_unref(b);
			}
		}
		free(m.bytes);
	}
}

static const char *const forms[] = {
	"", ".", "\r\n", ".\r\n", "\r\n.\r\n", "a", "a\r\n", "Subject: x\r\n\r\nbody\r\n", "Subject: x\r\n\r\n", "Subject: x\r\n", "Subject: x",
	"a: b\r\n\r\n..two\r\n.\r\nx.y\r\n.", "a: b\r\n\r\n\r\n\r\n", ".a: b\r\n\r\n", "\r\n\r\n",
	/* every place of a bare CR or LF: alone, before and after a line end, doubled, at an end */
	"\r", "\n", "a\rb", "a\nb", "a\r\r\nb", "a\n\nb", "a\r\n\nb", "a\r\n\rb", "a\n\rb", "a\r", "a\n", "a\r\n\r", "a\r\n\n", "\n.\r\n", "x\n.\n",
	"x\r.\r", "x\r\n.\n", "x\r\n.\r", "x\n.\r\n", "a\n\r\nb",
};

static void forms_at_every_cut(void)
{
	for (size_t i = 0; i < ARRAY_LEN(forms); i++)
		check_all_cuts(slice_str(forms[i]));
	check_all_cuts(SLICE_LIT("a\0b\r\n"));
	check_all_cuts(SLICE_LIT("a\r\n\0"));
	check_all_cuts(SLICE_LIT("a\r\0\n"));
}

/* Everything of up to seven bytes over the alphabet that matters. */
static void all_short_strings(void)
{
	static const char alphabet[] = { '\r', '\n', '.', 'a' };
	for (size_t len = 0; len <= 7; len++)
		for (size_t n = 0; n < (size_t)1 << (2 * len); n++) {
			char in[8];
			for (size_t i = 0; i < len; i++)
				in[i] = alphabet[(n >> (2 * i)) & 3];
			for (int policy = BODY_REFUSE; policy <= BODY_MEND; policy++) {
				struct model m;
				struct body *b;
				model_make(&m, (enum body_policy)policy, slice_of(in, len));
				enum err e = make((enum body_policy)policy, slice_of(in, len), len / 2, &b);
				CHECK(e == m.err);
				if (e == OK) {
					check_against_model(b, &m);
					body_unref(b);
				}
				free(m.bytes);
			}
		}
}

static struct slice long_message(size_t bytes, size_t line)
{
	char *p = xmalloc(bytes);
	for (size_t i = 0; i < bytes; i++)
		p[i] = (char)('a' + i % 23);
	for (size_t i = line; i + 2 < bytes; i += line)
		memcpy(p + i, i == 3 * line ? "\r\n\r\n." : "\r\n.", i == 3 * line ? 5 : 3);
	memcpy(p + bytes - 2, "\r\n", 2);
	return slice_of(p, bytes);
}

static void check_long(size_t bytes, size_t line, size_t step, bool spool, bool external)
{
	struct slice in = long_message(bytes, line);
	struct body_writer *w;
	struct body *b;
	struct model *m = xmalloc(sizeof(*m));
	CHECK(body_begin(BODY_REFUSE, &w) == OK);
	for (size_t at = 0; at < in.len; at += step)
		CHECK(body_write(w, slice_upto(slice_from(in, at), step)) == OK);
	CHECK(body_end(w, &b) == OK);
	model_make(m, BODY_REFUSE, in);
	check_against_model(b, m);
	CHECK((b->spool_fd >= 0) == spool);
	CHECK(b->external == external);
	body_unref(b);
	free(m->bytes);
	free(m);
	free((void *)(uintptr_t)in.ptr);
}

static void sizes(void)
{
	check_long(KIB(256), 100, 1000, false, false);   /* 2,000 dot lines and more: scan */
	check_long(KIB(256) + 2, 100, 5000, true, false);
	check_long(MIB(1), 1000, 65536, true, false);
	check_long(MIB(1) + 2, 1000, 777, true, true);
	check_long(MIB(5), MIB(6), MIB(5), true, true);  /* one line */
	check_long(MIB(2), KIB(50), 333333, true, true); /* a header of 150 KiB: kept in part */
	check_long(KIB(100), KIB(30), 1000, false, false);
}

static void dots_at_the_bound(void)
{
	for (size_t n = BODY_DOTS_MAX - 1; n <= BODY_DOTS_MAX + 1; n++) {
		char *p = xmalloc(3 * n);
		for (size_t i = 0; i < n; i++)
			memcpy(p + 3 * i, ".\r\n", 3);
		struct model *m = xmalloc(sizeof(*m));
		struct body *b;
		model_make(m, BODY_REFUSE, slice_of(p, 3 * n));
		CHECK(make(BODY_REFUSE, slice_of(p, 3 * n), n, &b) == OK);
		check_against_model(b, m);
		CHECK(b->dots_unknown == (n > BODY_DOTS_MAX));
		body_unref(b);
		free(m->bytes);
		free(m);
		free(p);
	}
}

static void limits(void)
{
	struct body_writer *w;
	struct body *b;
	char line[1000];
	memset(line, 'x', sizeof(line));
	enum err e = OK;
	uint64_t sent = 0;
	CHECK(body_begin(BODY_REFUSE, &w) == OK);
	while (!e && sent < 2 * config.message_bytes_max) {
		e = body_write(w, slice_of(line, sizeof(line)));
		sent += sizeof(line);
	}
	CHECK(e == ERR_LIMIT && sent > config.message_bytes_max && sent <= config.message_bytes_max + sizeof(line));
	CHECK(body_write(w, SLICE_LIT("x")) == ERR_LIMIT); /* stays in error */
	CHECK(body_end(w, &b) == ERR_LIMIT && b == NULL);
	CHECK(body_begin(BODY_REFUSE, &w) == OK);
	CHECK(body_write(w, SLICE_LIT("a\nb")) == ERR_SYNTAX);
	body_abort(w);
}

static size_t names_in(const char *sub)
{
	char command[128], count[32] = "";
	snprintf(command, sizeof(command), "ls %s/%s | wc -l", folder, sub);
	FILE *f = popen(command, "r");
	CHECK(fgets(count, sizeof(count), f) != NULL);
	pclose(f);
	return strtoul(count, NULL, 10);
}

static void linked_and_dropped(void)
{
	struct slice in = long_message(MIB(2), 70);
	struct body *b;
	CHECK(make(BODY_REFUSE, in, 12345, &b) == OK);
	CHECK(names_in("spool") == 1);
	CHECK(file_mkdir(data_fd, "acc", 0700) == 0);
	int fd = file_open(data_fd, "acc", O_RDONLY | O_DIRECTORY, 0);
	CHECK(body_link(b, fd) == OK && body_link(b, fd) == OK);
	char name[BODY_FILE_NAME_BYTES];
	uint8_t guid[GUID_BYTES];
	body_file_name(b->guid, name);
	CHECK(body_file_guid(name, guid) && memcmp(guid, b->guid, GUID_BYTES) == 0);
	CHECK(!body_file_guid("B.00", guid) && !body_file_guid("B.0000000000000000000000000000000g", guid));
	struct body *second = body_ref(b);
	body_unref(b);
	fiber_sleep(5);
	CHECK(names_in("spool") == 1);
	body_unref(second);
	for (int i = 0; i < 1000 && names_in("spool") > 0; i++)
		fiber_sleep(1);
	CHECK(names_in("spool") == 0);
	int file = file_open(fd, name, O_RDONLY, 0);
	char *back = xmalloc(in.len);
	CHECK(file_read(file, back, in.len, 0) == (int64_t)in.len && memcmp(back, in.ptr, in.len) == 0);
	file_close(file);
	CHECK(file_unlink(fd, name) == 0);
	file_close(fd);
	free(back);
	free((void *)(uintptr_t)in.ptr);
}

static void left_over(void)
{
	struct body_writer *w;
	struct slice in = long_message(MIB(1), 70);
	CHECK(body_begin(BODY_REFUSE, &w) == OK);
	CHECK(body_write(w, in) == OK && names_in("spool") == 1);
	free((void *)(uintptr_t)in.ptr);
	body_abort(w);
}

static void swept_at_start(void)
{
	CHECK(names_in("spool") == 1); /* "note", which is not ours */
}

static void test_forms(void **state) { (void)state; run(forms_at_every_cut); }
static void test_short_strings(void **state) { (void)state; run(all_short_strings); }
static void test_sizes(void **state) { (void)state; run(sizes); }
static void test_dots(void **state) { (void)state; run(dots_at_the_bound); }
static void test_limits(void **state) { (void)state; run(limits); }
static void test_link(void **state) { (void)state; run(linked_and_dropped); }
static void test_sweep(void **state)
{
	(void)state;
	run(left_over);
	char command[512];
	snprintf(command, sizeof(command), "touch %s/spool/0-00112233445566778899aabbccddeeff %s/spool/7-0 %s/spool/note", folder, folder, folder);
	assert_int_equal(system(command), 0);
	run(swept_at_start);
}

int main(void)
{
	strcpy(folder, "/tmp/penfold-body-XXXXXX");
	if (!mkdtemp(folder))
		return 1;
	data_fd = open(folder, O_RDONLY | O_DIRECTORY);
	config.memory_body_bytes = KIB(256);
	config.file_body_bytes = MIB(1);
	config.message_bytes_max = MIB(6);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_forms), cmocka_unit_test(test_short_strings), cmocka_unit_test(test_sizes), cmocka_unit_test(test_dots),
		cmocka_unit_test(test_limits), cmocka_unit_test(test_link), cmocka_unit_test(test_sweep),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	char command[128];
	snprintf(command, sizeof(command), "rm -rf %s", folder);
	return system(command) != 0 || failed;
}
