/* SPDX-License-Identifier: Apache-2.0 */
/* handover_test.c - what a node tells another: there and back, byte by byte, cut, forged, too long. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/base/limits.h"
#include "net/peer/handover.h"
#include "tenancy/handed.h"

#define KEY SLICE_LIT("0123456789abcdef0123456789abcdef")

static struct handover sample(void)
{
	struct handover h = {
		.protocol = SLICE_LIT("pop3"), .incarnation = SLICE_LIT("00112233445566778899aabbccddeeff"), .subject = SLICE_LIT("who\0it is"),
		.node = SLICE_LIT("n1"), .at_s = 1700000000,
	};
	assert_int_equal(addr_parse(SLICE_LIT("192.0.2.7:4711"), &h.client.source), OK);
	h.client.tls = true;
	h.client.tls_version = SLICE_LIT("TLSv1.3");
	return h;
}

static void check_same(const struct handover *a, const struct handover *b)
{
	assert_true(slice_eq(a->protocol, b->protocol) && slice_eq(a->incarnation, b->incarnation) && slice_eq(a->subject, b->subject) &&
		    slice_eq(a->node, b->node) && a->at_s == b->at_s);
	assert_true(a->client.source.len ? addr_eq(&a->client.source, &b->client.source) : b->client.local);
	assert_int_equal(a->client.tls, b->client.tls);
}

/* What follows the header is the protocol's, and no byte too few is taken for enough. */
static void test_there_and_back(void **state)
{
	static const char *const sources[] = { "192.0.2.7:4711", "[2001:db8::7]:4711", "unix:/run/x", NULL };
	char bytes[PROXY_HEADER_BYTES_MAX + 4];
	(void)state;
	for (size_t k = 0; k < ARRAY_LEN(sources); k++) {
		struct handover h = sample(), back;
		size_t used = 0;
		h.client.source.len = 0;
		if (sources[k])
			assert_int_equal(addr_parse(slice_str(sources[k]), &h.client.source), OK);
		size_t len = handover_write(&h, KEY, bytes);
		assert_true(len > 0);
		memcpy(bytes + len, "NOOP", 4);
		for (size_t n = 0; n < len; n++)
			assert_int_equal(handover_read(slice_of(bytes, n), KEY, &back, &used), HANDOVER_MORE);
		assert_int_equal(handover_read(slice_of(bytes, len + 4), KEY, &back, &used), HANDOVER_DONE);
		assert_int_equal(used, len);
		if (k == 2)
			h.client.source.len = 0; /* a local socket has no address there */
		check_same(&h, &back);
	}
}

/* No bit of it can be changed, no other key makes it, and no other header carries its token. */
static void test_forged(void **state)
{
	char bytes[PROXY_HEADER_BYTES_MAX], other[PROXY_HEADER_BYTES_MAX];
	struct handover h = sample(), back;
	size_t used, len = handover_write(&h, KEY, bytes);
	(void)state;
	for (size_t i = 0; i < len * 8; i++) {
		bytes[i / 8] = (char)(bytes[i / 8] ^ 1 << i % 8);
		assert_int_not_equal(handover_read(slice_of(bytes, len), KEY, &back, &used), HANDOVER_DONE);
		bytes[i / 8] = (char)(bytes[i / 8] ^ 1 << i % 8);
	}
	assert_int_equal(handover_read(slice_of(bytes, len), SLICE_LIT("0123456789abcdef0123456789abcdeF"), &back, &used), HANDOVER_BAD);
	assert_int_equal(handover_read(slice_of(bytes, len), slice_of(NULL, 0), &back, &used), HANDOVER_BAD);
	assert_string_equal(back.why, "token");
	/* a good checksum, and the other's token: what a stranger can make */
	h.subject = SLICE_LIT("who\0it iz");
	assert_int_equal(handover_write(&h, SLICE_LIT("guessed"), other), len);
	assert_int_equal(handover_read(slice_of(other, len), KEY, &back, &used), HANDOVER_BAD);
	/* a header of a load balancer has none */
	size_t plain = proxy_write_v2(&(struct proxy_header){ .local = true }, NULL, 0, other, sizeof other);
	assert_int_equal(handover_read(slice_of(other, plain), KEY, &back, &used), HANDOVER_BAD);
}

static void test_bounds(void **state)
{
	static char much[PROXY_HEADER_BYTES_MAX];
	char bytes[PROXY_HEADER_BYTES_MAX];
	struct handover h = sample(), back;
	size_t used, len;
	(void)state;
	memset(much, 'x', sizeof much);
	h.subject = slice_of(much, sizeof much);
	assert_int_equal(handover_write(&h, KEY, bytes), 0);
	h = sample();
	h.incarnation = slice_of(much, FLEET_INCARNATION_BYTES + 1);
	len = handover_write(&h, KEY, bytes);
	assert_true(len > 0);
	assert_int_equal(handover_read(slice_of(bytes, len), KEY, &back, &used), HANDOVER_BAD);
	h = sample();
	h.protocol = slice_of(NULL, 0);
	len = handover_write(&h, KEY, bytes);
	assert_int_equal(handover_read(slice_of(bytes, len), KEY, &back, &used), HANDOVER_BAD);
}

static void test_subject(void **state)
{
	struct subject s = { .account_id = 7, .tenant_id = 3, .name = SLICE_LIT("ann@demo.example"), .tenant = SLICE_LIT("demo"), .pop3 = true, .lmtp = true,
			     .quota_bytes = 1ull << 40, .quota_messages = 9, .over_quota = OVER_QUOTA_PERMANENT, .login_delay_s = 5, .expire_days = -1,
			     .subaddress_separator = '+', .sessions_max = 2, .tenant_sessions_max = 4, .xtnd = XTND_XMIT, .credential_version = 11,
			     .sdps = SDPS_MAILDROP, .maildrop = true, .sdps_user = SLICE_LIT("john") }, *back;
	char bytes[512];
	(void)state;
	size_t len = subject_pack(&s, bytes, sizeof bytes);
	assert_true(len > 0);
	assert_int_equal(subject_pack(&s, bytes, len - 1), 0);
	assert_int_equal(subject_unpack(slice_of(bytes, len), &back), OK);
	assert_true(slice_eq(back->name, s.name) && slice_eq(back->tenant, s.tenant) && slice_eq(back->sdps_user, s.sdps_user));
	assert_true(back->account_id == 7 && back->tenant_id == 3 && back->pop3 && !back->imap && back->lmtp && !back->suspended && back->maildrop);
	assert_true(back->quota_bytes == 1ull << 40 && back->quota_messages == 9 && back->over_quota == OVER_QUOTA_PERMANENT && back->login_delay_s == 5);
	assert_true(back->expire_days == -1 && back->subaddress_separator == '+' && back->sessions_max == 2 && back->tenant_sessions_max == 4);
	assert_true(back->xtnd == XTND_XMIT && back->credential_version == 11 && back->sdps == SDPS_MAILDROP && !back->apop);
	subject_unref(back);
	for (size_t n = 0; n < len; n++)
		assert_int_equal(subject_unpack(slice_of(bytes, n), &back), ERR_SYNTAX);
	bytes[len] = 0;
	assert_int_equal(subject_unpack(slice_of(bytes, len + 1), &back), ERR_SYNTAX);
	bytes[0]++; /* another version */
	assert_int_equal(subject_unpack(slice_of(bytes, len), &back), ERR_SYNTAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_there_and_back), cmocka_unit_test(test_forged), cmocka_unit_test(test_bounds),
					    cmocka_unit_test(test_subject) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
