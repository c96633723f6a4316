/* SPDX-License-Identifier: Apache-2.0 */
/* proxy_test.c - PROXY headers of both versions: whole, byte by byte, broken in every way, and written. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/base/limits.h"
#include "net/proxy.h"

#include <stdlib.h>

#define SIG "\r\n\r\n\0\r\nQUIT\n"
#define TCP4 "\x21\x11\x00\x0c\xc0\x00\x02\x01\xc6\x33\x64\x07\xc8\x22\x00\x6e" /* 192.0.2.1:51234 to 198.51.100.7:110 */

static const char *text_of(const struct addr *a)
{
	static char text[2][ADDR_TEXT_BYTES];
	static unsigned turn;
	addr_format(a, text[turn ^= 1]);
	return text[turn];
}

/* A copy of exactly these bytes, so that reading behind them is caught. */
static enum proxy_found parse(struct slice bytes, size_t len, struct proxy_header *h, size_t *used_out)
{
	static char *mem;
	free(mem);
	mem = malloc(len ? len : 1);
	memcpy(mem, bytes.ptr, len);
	return proxy_parse(slice_of(mem, len), h, used_out);
}

/* Every shorter prefix wants more; what follows is the client's. */
static void good(struct slice header, const char *source, const char *destination)
{
	struct proxy_header h;
	size_t used;
	for (size_t len = 0; len < header.len; len++)
		assert_int_equal(parse(header, len, &h, &used), PROXY_MORE);
	char more[600];
	memcpy(more, header.ptr, header.len);
	memcpy(more + header.len, "CAPA\r\nPROXY ", 12);
	for (size_t extra = 0; extra <= 12; extra++) {
		assert_int_equal(parse(slice_of(more, sizeof(more)), header.len + extra, &h, &used), PROXY_DONE);
		assert_int_equal(used, header.len);
		assert_int_equal(h.local, source == NULL);
		assert_string_equal(text_of(&h.source), source ? source : "-");
		assert_string_equal(text_of(&h.destination), destination ? destination : "-");
	}
}

static void good_headers(void **state)
{
	(void)state;
	good(SLICE_LIT("PROXY TCP4 192.0.2.1 198.51.100.7 51234 110\r\n"), "192.0.2.1:51234", "198.51.100.7:110");
	good(SLICE_LIT("PROXY TCP4 255.255.255.255 0.0.0.0 65535 0\r\n"), "255.255.255.255:65535", "0.0.0.0:0");
	good(SLICE_LIT("PROXY TCP6 2001:db8::1 ::1 1 2\r\n"), "[2001:db8::1]:1", "[::1]:2");
	good(SLICE_LIT("PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n"),
	     "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535", "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535");
	good(SLICE_LIT("PROXY UNKNOWN\r\n"), NULL, NULL);
	good(SLICE_LIT("PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n"), NULL, NULL);
	good(SLICE_LIT(SIG TCP4), "192.0.2.1:51234", "198.51.100.7:110");
	good(SLICE_LIT(SIG "\x20\x00\x00\x00"), NULL, NULL);
	good(SLICE_LIT(SIG "\x20\x11\x00\x05xxxxx"), NULL, NULL); /* LOCAL: what it holds is skipped */
	good(SLICE_LIT(SIG "\x21\x00\x00\x00"), NULL, NULL);
}

static void bad_headers(void **state)
{
	(void)state;
	static const struct {
		struct slice bytes;
		const char *why;
	} cases[] = {
#define BAD(lit, why) { { "" lit, sizeof(lit) - 1 }, why }
		BAD("CAPA\r\n", "no PROXY header"), BAD("P\r", "no PROXY header"), BAD("PROXx", "no PROXY header"), BAD("\r\nx", "no PROXY header"),
		BAD("\x16\x03\x01", "no PROXY header"), BAD("proxy TCP4 1.2.3.4 1.2.3.4 1 1\r\n", "no PROXY header"),
		BAD("PROXY TCP4 1.2.3.4 1.2.3.4 1 1\rx", "CR without LF"), BAD("PROXY \r\n", "too few words"), BAD("PROXY TCP5 x x 1 1\r\n", "unknown family"),
		BAD("PROXY TCP4\r\n", "too few words"), BAD("PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n", "too few words"),
		BAD("PROXY TCP4 1.2.3.4 1.2.3.4 1 1 \r\n", "too many words"), BAD("PROXY TCP4 1.2.3.4 1.2.3.4 1 1 1\r\n", "too many words"),
		BAD("PROXY TCP4  1.2.3.4 1.2.3.4 1 1\r\n", "too many words"), BAD("PROXY TCP4 1.2.3.4 ::1 1 1\r\n", "not an address"),
		BAD("PROXY TCP6 1.2.3.4 1.2.3.4 1 1\r\n", "not an address"), BAD("PROXY TCP4 1.2.3 1.2.3.4 1 1\r\n", "not an address"),
		BAD("PROXY TCP4 01.2.3.4 1.2.3.4 1 1\r\n", "not an address"), BAD("PROXY TCP4 1.2.3.4\0 1.2.3.4 1 1\r\n", "not an address"),
		BAD("PROXY TCP4 1.2.3.4 1.2.3.4 65536 1\r\n", "not a port"), BAD("PROXY TCP4 1.2.3.4 1.2.3.4 01 1\r\n", "not a port"),
		BAD("PROXY TCP4 1.2.3.4 1.2.3.4 -1 1\r\n", "not a port"), BAD("PROXY TCP4 1.2.3.4 1.2.3.4 1 +1\r\n", "not a port"),
		BAD(SIG "\x31\x11\x00\x0c", "unknown version or command"), BAD(SIG "\x22\x11\x00\x0c", "unknown version or command"),
		BAD(SIG "\x21\x11\xff\xff", "header too long"), BAD(SIG "\x21\x12\x00\x00", "unknown family or transport"),
		BAD(SIG "\x21\x41\x00\x00", "unknown family or transport"), BAD(SIG "\x21\x11\x00\x0b-----------", "addresses cut short"),
		BAD(SIG "\x21\x31\x00\x00", "addresses cut short"), BAD(SIG "\x21\x00\x00\x02\x04\x00", "broken TLV"),
		BAD(SIG "\x21\x00\x00\x04\x04\x00\x02x", "broken TLV"), BAD(SIG "\x21\x00\x00\x07\x20\x00\x04\x01\x00\x00\x00", "broken TLS facts"),
		BAD(SIG "\x21\x00\x00\x0a\x20\x00\x07\x01\x00\x00\x00\x00\x21\x00", "broken TLS facts"),
		BAD(SIG "\x21\x00\x00\x07\x03\x00\x04\x00\x00\x00\x00", "wrong checksum"), BAD(SIG "\x21\x00\x00\x05\x03\x00\x02\x00\x00", "wrong checksum"),
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct proxy_header h;
		size_t used;
		assert_int_equal(parse(cases[i].bytes, cases[i].bytes.len, &h, &used), PROXY_BAD);
		assert_string_equal(h.why, cases[i].why);
	}
}

static void over_long(void **state)
{
	(void)state;
	char line[200] = "PROXY UNKNOWN ";
	struct proxy_header h;
	size_t used;
	memset(line + 14, 'x', sizeof(line) - 14);
	assert_int_equal(parse(slice_of(line, sizeof(line)), 106, &h, &used), PROXY_MORE);
	assert_int_equal(parse(slice_of(line, sizeof(line)), 107, &h, &used), PROXY_BAD);
	memcpy(line + 105, "\r\n", 2); /* 107 bytes: the longest */
	assert_int_equal(parse(slice_of(line, sizeof(line)), 107, &h, &used), PROXY_DONE);
	line[105] = 'x';
	memcpy(line + 106, "\r\n", 2);
	assert_int_equal(parse(slice_of(line, sizeof(line)), 108, &h, &used), PROXY_BAD);
	assert_string_equal(h.why, "line too long");
}

static struct addr address(const char *text)
{
	struct addr a;
	assert_int_equal(addr_parse(slice_str(text), &a), OK);
	return a;
}

static struct proxy_header full(void)
{
	return (struct proxy_header){ .source = address("[2001:db8::7]:4711"), .destination = address("[2001:db8::1]:995"), .tls = true, .has_certificate = true,
				      .verified = true, .tls_version = SLICE_LIT("TLSv1.3"), .tls_cipher = SLICE_LIT("TLS_AES_128_GCM_SHA256"),
				      .tls_cn = SLICE_LIT("ann"), .alpn = SLICE_LIT("pop3"), .authority = SLICE_LIT("mail.example.com"),
				      .unique_id = SLICE_LIT("\x01\x02\xff") };
}

static void written_and_read(void **state)
{
	(void)state;
	struct proxy_header h = full(), back;
	const struct proxy_tlv more[] = { { PROXY_CUSTOM_MIN, SLICE_LIT("incarnation") }, { PROXY_NOOP, SLICE_LIT("") } };
	char bytes[1024];
	size_t used, len = proxy_write_v2(&h, more, 2, bytes, sizeof(bytes));
	struct slice value;
	assert_true(len > 0);
	for (size_t n = 0; n < len; n++)
		assert_int_equal(parse(slice_of(bytes, len), n, &back, &used), PROXY_MORE);
	assert_int_equal(proxy_parse(slice_of(bytes, len), &back, &used), PROXY_DONE);
	assert_int_equal(used, len);
	assert_true(addr_eq(&h.source, &back.source) && addr_eq(&h.destination, &back.destination));
	assert_true(back.tls && back.has_certificate && back.verified && !back.local);
	assert_true(slice_eq(back.tls_version, h.tls_version) && slice_eq(back.tls_cipher, h.tls_cipher) && slice_eq(back.tls_cn, h.tls_cn));
	assert_true(slice_eq(back.alpn, h.alpn) && slice_eq(back.authority, h.authority) && slice_eq(back.unique_id, h.unique_id));
	assert_true(proxy_find_tlv(slice_of(bytes, len), PROXY_CUSTOM_MIN, &value) && slice_eq(value, SLICE_LIT("incarnation")));
	assert_false(proxy_find_tlv(slice_of(bytes, len), PROXY_CUSTOM_MAX, &value));
	/* any bit that turns is noticed: by the form or by the checksum */
	for (size_t bit = 0; bit < len * 8; bit++) {
		bytes[bit / 8] = (char)(bytes[bit / 8] ^ 1 << bit % 8);
		enum proxy_found found = parse(slice_of(bytes, len), len, &back, &used);
		if (found == PROXY_DONE) /* but LOCAL, in which nothing counts, and a type of TLV that is not the checksum's any more */
			assert_true(back.local || (bit / 8 >= len - 7 && bit / 8 < len - 4));
		bytes[bit / 8] = (char)(bytes[bit / 8] ^ 1 << bit % 8);
	}
	for (size_t room = 0; room < len; room++)
		assert_int_equal(proxy_write_v2(&h, more, 2, bytes, room), 0);
}

static void written_variants(void **state)
{
	(void)state;
	struct proxy_header h = { .source = address("192.0.2.1:51234"), .destination = address("198.51.100.7:110") }, back;
	char bytes[PROXY_HEADER_BYTES_MAX + 1], long_value[PROXY_HEADER_BYTES_MAX];
	size_t used, len = proxy_write_v2(&h, NULL, 0, bytes, sizeof(bytes));
	assert_memory_equal(bytes, SIG "\x21\x11\x00\x13", 16);
	assert_memory_equal(bytes + 16, TCP4 + 4, 12);
	assert_int_equal(proxy_parse(slice_of(bytes, len), &back, &used), PROXY_DONE);
	assert_false(back.tls || back.has_certificate || back.verified);

	h = (struct proxy_header){ .local = true };
	len = proxy_write_v2(&h, NULL, 0, bytes, sizeof(bytes));
	assert_int_equal(proxy_parse(slice_of(bytes, len), &back, &used), PROXY_DONE);
	assert_true(back.local);

	h = full();
	h.verified = false; /* a certificate that the proxy did not find good */
	len = proxy_write_v2(&h, NULL, 0, bytes, sizeof(bytes));
	assert_int_equal(proxy_parse(slice_of(bytes, len), &back, &used), PROXY_DONE);
	assert_true(back.has_certificate && !back.verified);

	memset(long_value, 'x', sizeof(long_value));
	const struct proxy_tlv more = { PROXY_CUSTOM_MIN, slice_of(long_value, sizeof(long_value)) };
	assert_int_equal(proxy_write_v2(&h, &more, 1, bytes, sizeof(bytes)), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good_headers), cmocka_unit_test(bad_headers), cmocka_unit_test(over_long), cmocka_unit_test(written_and_read),
		cmocka_unit_test(written_variants),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
