/* SPDX-License-Identifier: Apache-2.0 */
/* log_test.c - what a client sends must not shape the log: a table of bad bytes, both forms, every single byte, all bounds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/base/limits.h"
#include "core/base/log.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static char got[LOG_LINE_BYTES_MAX + 1];
static size_t got_len, got_count;
static enum log_level got_level;

static bool keep(void *arg, enum log_level level, struct slice line)
{
	assert_ptr_equal(arg, got);
	assert_true(line.len <= LOG_LINE_BYTES_MAX);
	memcpy(got, line.ptr, line.len);
	got[line.len] = '\0';
	got_len = line.len;
	got_level = level;
	got_count++;
	return true;
}

static bool refuse(void *arg, enum log_level level, struct slice line)
{
	(void)arg;
	(void)level;
	(void)line;
	return false;
}

static int64_t noon(void) { return 1738324800007; }

static int setup(void **state)
{
	(void)state;
	log_set_clock(NULL);
	log_set_level(LOG_INFO);
	log_set_form(LOG_FORM_KEYS);
	log_set_sink(keep, got);
	got[0] = '\0';
	got_count = 0;
	return 0;
}

static void fields_of_every_kind(void **state)
{
	(void)state;
	struct addr a;
	assert_int_equal(addr_parse(SLICE_LIT("[::1]:110"), &a), OK);
	log_set_clock(noon);
	log_event(LOG_ALARM, "a.b", LOG_Z("z", "word"), LOG_Z("none", NULL), LOG_U64("u", UINT64_MAX), LOG_I64("i", INT64_MIN),
		  LOG_BOOL("t", 7), LOG_BOOL("f", false), LOG_HEX("h", SLICE_LIT("\x00\xfe")), LOG_ERR(ERR_IN_USE),
		  LOG_ERRNO(-ENOENT), LOG_ADDR("peer", &a), LOG_END);
	assert_string_equal(got, "time=2025-01-31T12:00:00.007Z level=alarm event=a.b z=word none=\"\" u=18446744073709551615 "
				 "i=-9223372036854775808 t=true f=false h=00fe err=in-use errno=ENOENT peer=[::1]:110\n");
	assert_int_equal(got_level, LOG_ALARM);
	log_set_form(LOG_FORM_JSON);
	log_event(LOG_ALARM, "a.b", LOG_Z("z", "word"), LOG_Z("none", NULL), LOG_U64("u", UINT64_MAX), LOG_I64("i", INT64_MIN),
		  LOG_BOOL("t", 7), LOG_BOOL("f", false), LOG_HEX("h", SLICE_LIT("\x00\xfe")), LOG_ERR(ERR_IN_USE), LOG_ERRNO(99999),
		  LOG_ADDR("peer", &a));
	assert_string_equal(got, "{\"time\":\"2025-01-31T12:00:00.007Z\",\"level\":\"alarm\",\"event\":\"a.b\",\"z\":\"word\",\"none\":\"\","
				 "\"u\":18446744073709551615,\"i\":-9223372036854775808,\"t\":true,\"f\":false,\"h\":\"00fe\","
				 "\"err\":\"in-use\",\"errno\":99999,\"peer\":\"[::1]:110\"}\n");
}

static void no_fields_no_clock(void **state)
{
	(void)state;
	log_event(LOG_INFO, "start");
	assert_string_equal(got, "level=info event=start\n");
	log_set_form(LOG_FORM_JSON);
	log_event(LOG_WARN, "start", LOG_END);
	assert_string_equal(got, "{\"level\":\"warn\",\"event\":\"start\"}\n");
}

static void what_a_client_sends(void **state)
{
	(void)state;
	static const struct {
		struct slice in;
		const char *keys, *json;
	} cases[] = {
#define CASE(in, keys, json) { { "" in, sizeof(in) - 1 }, keys, json }
		CASE("ann@example.org", "ann@example.org", "\"ann@example.org\""),
		CASE("", "\"\"", "\"\""),
		CASE(" ", "\" \"", "\" \""),
		CASE("a b", "\"a b\"", "\"a b\""),
		CASE("x=1", "\"x=1\"", "\"x=1\""),
		CASE("\r\nlevel=alarm event=forged", "\"\\r\\nlevel=alarm event=forged\"", "\"\\r\\nlevel=alarm event=forged\""),
		CASE("\" event=forged", "\"\\\" event=forged\"", "\"\\\" event=forged\""),
		CASE("\\", "\"\\\\\"", "\"\\\\\""),
		CASE("a\0b", "\"a\\x00b\"", "\"a\\u0000b\""),
		CASE("\x1b[31m", "\"\\x1b[31m\"", "\"\\u001b[31m\""),
		CASE("\t\x7f", "\"\\t\\x7f\"", "\"\\t\\u007f\""),
		CASE("\x9b" "2J", "\"\\x9b2J\"", "\"\\\\x9b2J\""),
		CASE("j\xc3\xb6rg", "\"j\\xc3\\xb6rg\"", "\"j\\u00f6rg\""),
		CASE("\xe2\x80\xa8", "\"\\xe2\\x80\\xa8\"", "\"\\u2028\""),
		CASE("\xf0\x9f\x93\xa7", "\"\\xf0\\x9f\\x93\\xa7\"", "\"\\ud83d\\udce7\""),
		CASE("\xc0\xaf", "\"\\xc0\\xaf\"", "\"\\\\xc0\\\\xaf\""),
		CASE("\xed\xa0\x80", "\"\\xed\\xa0\\x80\"", "\"\\\\xed\\\\xa0\\\\x80\""),
		CASE("\xf4\x90\x80\x80", "\"\\xf4\\x90\\x80\\x80\"", "\"\\\\xf4\\\\x90\\\\x80\\\\x80\""),
		CASE("\xe2\x82", "\"\\xe2\\x82\"", "\"\\\\xe2\\\\x82\""),
		CASE("'`$(id);|&<>", "\"'`$(id);|&<>\"", "\"'`$(id);|&<>\""),
#undef CASE
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char expected[512];
		log_set_form(LOG_FORM_KEYS);
		log_event(LOG_INFO, "x", LOG_STR("v", cases[i].in), LOG_U64("n", i));
		snprintf(expected, sizeof(expected), "level=info event=x v=%s n=%zu\n", cases[i].keys, i);
		assert_string_equal(got, expected);
		log_set_form(LOG_FORM_JSON);
		log_event(LOG_INFO, "x", LOG_STR("v", cases[i].in), LOG_U64("n", i));
		snprintf(expected, sizeof(expected), "{\"level\":\"info\",\"event\":\"x\",\"v\":%s,\"n\":%zu}\n", cases[i].json, i);
		assert_string_equal(got, expected);
	}
}

/* The one thing that must hold for all bytes and pairs of bytes: printable ASCII and exactly one LF, at the end. */
static void only_printable_bytes_leave(void **state)
{
	(void)state;
	for (unsigned form = 0; form < 2; form++) {
		log_set_form((enum log_form)form);
		for (unsigned i = 0; i < 65536; i++) {
			char pair[2] = { (char)(i >> 8), (char)i };
			log_event(LOG_INFO, "x", LOG_STR("v", slice_of(pair, 2)));
			assert_int_equal(got[got_len - 1], '\n');
			for (size_t k = 0; k + 1 < got_len; k++)
				assert_true(got[k] >= 0x20 && got[k] < 0x7f);
		}
	}
}

static void long_values_and_long_lines(void **state)
{
	(void)state;
	char *big = malloc(100000);
	assert_non_null(big);
	for (unsigned form = 0; form < 2; form++)
		for (unsigned filler = 0; filler < 3; filler++) {
			memset(big, filler == 0 ? 'a' : filler == 1 ? '\n' : 0xff, 100000);
			struct slice s = slice_of(big, 100000);
			log_set_form((enum log_form)form);
			log_event(LOG_INFO, "x", LOG_STR("v", s), LOG_Z("after", "here"));
			assert_non_null(strstr(got, "..."));
			assert_non_null(strstr(got, "here"));
			assert_null(strstr(got, "cut"));
			assert_true(got_len < LOG_VALUE_BYTES_MAX + 100);
			log_event(LOG_INFO, "x", LOG_STR("a", s), LOG_STR("b", s), LOG_STR("c", s), LOG_STR("d", s), LOG_STR("e", s),
				  LOG_U64("last", 1));
			assert_string_equal(got + got_len - (form ? 10 : 7), form ? ",\"cut\":1}\n" : " cut=1\n");
		}
	memset(big, 'h', 1000);
	log_event(LOG_INFO, "x", LOG_HEX("h", slice_of(big, 1000)));
	assert_non_null(strstr(got, "...\"}\n"));
	free(big);
}

/* Lines of every length around the maximum close properly. */
static void every_length_near_the_end(void **state)
{
	(void)state;
	char text[512];
	memset(text, 'v', sizeof(text));
	for (unsigned form = 0; form < 2; form++) {
		log_set_form((enum log_form)form);
		for (size_t i = 0; i < 500; i++) {
			log_event(LOG_INFO, "x", LOG_STR("a", slice_of(text, 500)), LOG_STR("b", slice_of(text, 500)),
				  LOG_STR("c", slice_of(text, 500)), LOG_STR("d", slice_of(text, i)), LOG_U64("e", 123456), LOG_U64("f", 7));
			assert_int_equal(got[got_len - 1], '\n');
			assert_true(form == 0 || got[got_len - 2] == '}');
			bool all = strstr(got, form ? "\"d\":" : " d=") && strstr(got, "123456") && strstr(got, form ? "\"f\":7" : " f=7");
			assert_int_equal(all, strstr(got, form ? ",\"cut\":1}" : " cut=1") == NULL);
		}
	}
}

static int evaluated;
static uint64_t evaluate(void)
{
	evaluated++;
	return 1;
}

static void levels(void **state)
{
	(void)state;
	log_event(LOG_DEBUG, "x", LOG_U64("n", evaluate()));
	assert_int_equal(got_count, 0);
	assert_int_equal(evaluated, 0);
	log_set_level(LOG_DEBUG);
	log_event(LOG_DEBUG, "x", LOG_U64("n", evaluate()));
	assert_int_equal(got_count, 1);
	log_set_level(LOG_ALARM);
	log_event(LOG_ERROR, "x");
	assert_int_equal(got_count, 1);
	enum log_level level;
	assert_true(log_level_parse(SLICE_LIT("Warn"), &level) && level == LOG_WARN);
	assert_false(log_level_parse(SLICE_LIT("warning"), &level));
	for (int i = 0; i < LOG_LEVEL_COUNT; i++)
		assert_true(log_level_parse(slice_str(log_level_name((enum log_level)i)), &level) && (int)level == i);
}

static void lost_lines_are_counted(void **state)
{
	(void)state;
	uint64_t was = log_dropped();
	log_set_sink(refuse, NULL);
	log_event(LOG_INFO, "x");
	assert_true(log_dropped() == was + 1);
	log_set_sink(NULL, NULL);
	log_set_fd(-1);
	log_event(LOG_INFO, "x");
	assert_true(log_dropped() == was + 2);
}

static void one_write_to_a_descriptor(void **state)
{
	(void)state;
	int fds[2];
	char text[200];
	assert_int_equal(pipe(fds), 0);
	log_set_sink(NULL, NULL);
	log_set_fd(fds[1]);
	log_event(LOG_INFO, "x", LOG_Z("k", "v"));
	log_set_fd(STDERR_FILENO);
	ssize_t n = read(fds[0], text, sizeof(text));
	assert_true(slice_eq(slice_of(text, (size_t)n), SLICE_LIT("level=info event=x k=v\n")));
	close(fds[0]);
	close(fds[1]);
}

static void times(void **state)
{
	(void)state;
	static const struct {
		int64_t ms;
		const char *text;
	} cases[] = {
		{ 0, "1970-01-01T00:00:00.000Z" },
		{ -1, "1969-12-31T23:59:59.999Z" },
		{ 951782400000, "2000-02-29T00:00:00.000Z" },
		{ 951868799999, "2000-02-29T23:59:59.999Z" },
		{ 1709164800000, "2024-02-29T00:00:00.000Z" },
		{ 1735689599999, "2024-12-31T23:59:59.999Z" },
		{ 4107542400000, "2100-03-01T00:00:00.000Z" },
		{ -62167219200000, "0000-01-01T00:00:00.000Z" },
		{ -62162035200000, "0000-03-01T00:00:00.000Z" },
		{ INT64_MIN, "0000-01-01T00:00:00.000Z" },
		{ INT64_MAX, "9999-12-31T23:59:59.999Z" },
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char text[LOG_TIME_BYTES + 1] = { 0 };
		log_format_time(cases[i].ms, text);
		assert_string_equal(text, cases[i].text);
	}
	for (int64_t day = -700000; day < 2900000; day += 17) { /* against the C library */
		time_t at = day * 86400 + 3723;
		struct tm tm;
		char text[LOG_TIME_BYTES + 1] = { 0 }, expected[64];
		if (!gmtime_r(&at, &tm) || tm.tm_year + 1900 < 0 || tm.tm_year + 1900 > 9999)
			continue;
		snprintf(expected, sizeof(expected), "%04d-%02d-%02dT01:02:03.000Z", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday);
		log_format_time((int64_t)at * 1000, text);
		assert_string_equal(text, expected);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(fields_of_every_kind, setup),
		cmocka_unit_test_setup(no_fields_no_clock, setup),
		cmocka_unit_test_setup(what_a_client_sends, setup),
		cmocka_unit_test_setup(only_printable_bytes_leave, setup),
		cmocka_unit_test_setup(long_values_and_long_lines, setup),
		cmocka_unit_test_setup(every_length_near_the_end, setup),
		cmocka_unit_test_setup(levels, setup),
		cmocka_unit_test_setup(lost_lines_are_counted, setup),
		cmocka_unit_test_setup(one_write_to_a_descriptor, setup),
		cmocka_unit_test_setup(times, setup),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
