/* SPDX-License-Identifier: Apache-2.0 */
/* The exchanges against the real directory, with a client made of the same sums: right, tampered, replayed, unbound, downgraded. */
#include "net/sasl.h"

#include "core/base/limits.h"
#include "tenancy/manage.h"
#include "tenancy/password.h"
#include "tenancy/scram.h"
#include "tests/unit/support/fiber_main.h"

#include <nettle/base64.h>
#include <nettle/hmac.h>
#include <nettle/pbkdf2.h>
#include <stdio.h>

#define S(text) slice_str(text)

static struct manage *manage;
static struct arena session, command;
static struct sasl_peer peer = { .protocol = AUTH_POP3, .address = { "192.0.2.1", 9 } };
static struct slice challenge;
static struct subject *subject;
static enum err why;

static void add(const char *name, const char *scheme, const char *password)
{
	char stored[STORED_PASSWORD_BYTES_MAX];
	assert_int_equal(password_make(scheme, S(password), stored), OK);
	assert_int_equal(manage_account_add(manage, S(name), S(""), S(stored)), OK);
}

static void begin(void)
{
	char text[MANAGE_WHY_BYTES];
	const char *data = test_folder();
	struct setting_value yes;
	assert_int_equal(manage_open(data, &manage, text), OK);
	assert_int_equal(manage_tenant_add(manage, S("t")), OK);
	assert_int_equal(manage_domain_add(manage, S("t.example"), S("t"), S("")), OK);
	assert_int_equal(manage_domain_add(manage, S("alias.example"), S("t"), S("t.example")), OK);
	assert_int_equal(setting_parse(SET_PLAIN_PASSWORDS, S("yes"), &yes), OK);
	assert_int_equal(manage_tenant_set(manage, S("t"), SET_PLAIN_PASSWORDS, &yes), OK);
	add("plain@t.example", "PLAIN", "tanstaaftanstaaf");
	add("keys@t.example", "SCRAM-SHA-256", "pencil");
	add("hash@t.example", NULL, "pencil");
	struct directory_config directory = { .data_path = data, .poll_ms = 50 };
	assert_int_equal(directory_open(&directory), OK);
	assert_int_equal(directory_start(), OK);
	assert_int_equal(auth_open(&(struct auth_config){ 0 }), OK);
	arena_init(&session, NET_SESSION_ARENA_BYTES_MAX);
	arena_init(&command, NET_COMMAND_ARENA_BYTES_MAX);
	memset(peer.bindings, 0, sizeof(peer.bindings));
}

static void end(void)
{
	arena_release(&session);
	arena_release(&command);
	auth_close();
	directory_stop();
	directory_close();
	manage_close(manage);
}

static enum sasl_outcome say(struct sasl *x, struct slice message)
{
	char text[4096];
	assert_true(message.len < 3000);
	base64_encode_raw(text, message.len, (const uint8_t *)message.ptr);
	return sasl_step(x, &peer, &command, slice_of(text, BASE64_ENCODE_RAW_LENGTH(message.len)), true, &challenge, &subject, &why);
}

/* The challenge decoded, as text. */
static const char *heard(void)
{
	static char text[4096];
	struct base64_decode_ctx ctx;
	size_t len = sizeof(text) - 1;
	base64_decode_init(&ctx);
	assert_true(base64_decode_update(&ctx, &len, (uint8_t *)text, challenge.len, challenge.ptr) && base64_decode_final(&ctx));
	text[len] = 0;
	return text;
}

static const char *outcome(struct sasl *x, enum sasl_outcome o)
{
	static char text[300];
	if (o == SASL_PASSWORD) { /* as net/attempt.c does */
		struct auth_request request = { .protocol = AUTH_POP3, .login = sasl_login(x), .authzid = sasl_authzid(x), .peer = peer.address };
		why = auth_password(&request, challenge, &subject);
		o = why == OK ? SASL_DONE : SASL_FAILED;
	}
	snprintf(text, sizeof(text), "%s", o == SASL_CONTINUE ? "continue" : err_name(why));
	if (o == SASL_DONE) {
		snprintf(text, sizeof(text), "%.*s", SLICE_ARG(subject->name));
		subject_unref(subject);
	}
	sasl_end(x);
	return text;
}

/* ---- SCRAM's client ---- */

struct client {
	const char *gs2, *name, *password;
	const char *binding; /* what it takes the binding for, 32 bytes; NULL: none */
	bool tamper, other_nonce, other_gs2, cancels;
};

static void xor_proof(enum auth_hash hash, const char *password, struct slice salt_text, uint32_t rounds, struct slice message, uint8_t *proof)
{
	uint8_t salt[64], salted[32], key[32], stored[32], signature[32];
	struct base64_decode_ctx ctx;
	size_t n = scram_key_bytes(hash), salt_len = sizeof(salt);
	base64_decode_init(&ctx);
	assert_true(base64_decode_update(&ctx, &salt_len, salt, salt_text.len, salt_text.ptr));
	if (hash == AUTH_SHA256)
		pbkdf2_hmac_sha256(strlen(password), (const uint8_t *)password, rounds, salt_len, salt, n, salted);
	else
		pbkdf2_hmac_sha1(strlen(password), (const uint8_t *)password, rounds, salt_len, salt, n, salted);
	scram_hmac(hash, slice_of(salted, n), S("Client Key"), key);
	struct scram_keys k = { .rounds = rounds, .salt_len = (uint8_t)salt_len };
	memcpy(k.salt, salt, salt_len);
	scram_derive(hash, S(password), &k);
	memcpy(stored, k.stored, n);
	scram_hmac(hash, slice_of(stored, n), message, signature);
	for (size_t i = 0; i < n; i++)
		proof[i] = key[i] ^ signature[i];
}

static char final[2200];
static const char *last_final(void) { return final; }

static const char *scram(enum sasl_mechanism m, struct client c)
{
	enum auth_hash hash = m == SASL_SCRAM_SHA_1 || m == SASL_SCRAM_SHA_1_PLUS ? AUTH_SHA1 : AUTH_SHA256;
	char first[600], server[1024], without[2048], message[4096], cbind[300], cbind_text[500] = { 0 }, proof_text[100] = { 0 };
	uint8_t proof[32];
	arena_reset(&session);
	struct sasl *x = sasl_begin(&session, m);
	int gs2 = snprintf(first, sizeof(first), "%sn=%s,r=abcdefgh", c.gs2, c.name) - (int)(strlen(c.name) + 13);
	enum sasl_outcome o = say(x, S(first));
	if (o != SASL_CONTINUE)
		return outcome(x, o);
	snprintf(server, sizeof(server), "%s", heard());
	assert_memory_equal(server, "r=abcdefgh", 10);
	struct slice rest = S(server), nonce = rest, salt = rest, rounds = rest;
	assert_true(slice_next(&rest, ',', &nonce) && slice_next(&rest, ',', &salt) && slice_next(&rest, ',', &rounds));
	int cbind_len = snprintf(cbind, sizeof(cbind), "%s", c.other_gs2 ? "y,," : c.gs2);
	if (c.binding) {
		memcpy(cbind + cbind_len, c.binding, 32);
		cbind_len += 32;
	}
	base64_encode_raw(cbind_text, (size_t)cbind_len, (const uint8_t *)cbind);
	snprintf(without, sizeof(without), "c=%s,%.*s%s", cbind_text, SLICE_ARG(nonce), c.other_nonce ? "x" : "");
	snprintf(message, sizeof(message), "%s,%s,%s", first + gs2, server, without);
	uint64_t n;
	assert_true(slice_u64(slice_from(rounds, 2), UINT32_MAX, &n));
	xor_proof(hash, c.password, slice_from(salt, 2), (uint32_t)n, S(message), proof);
	proof[0] ^= c.tamper;
	base64_encode_raw(proof_text, scram_key_bytes(hash), proof);
	snprintf(final, sizeof(final), "%s,p=%s", without, proof_text);
	o = say(x, S(final));
	if (o != SASL_CONTINUE)
		return outcome(x, o);
	assert_memory_equal(heard(), "v=", 2);
	if (c.cancels) /* the subject is ours already: it goes back */
		return outcome(x, sasl_step(x, &peer, &command, S("*"), false, &challenge, &subject, &why));
	return outcome(x, say(x, S("")));
}

FIBER_TEST(scram_right_and_wrong)
{
	begin();
	for (int i = 0; i < 2; i++) {
		enum sasl_mechanism m = i ? SASL_SCRAM_SHA_1 : SASL_SCRAM_SHA_256;
		struct client c = { "n,,", "plain@t.example", "tanstaaftanstaaf", NULL, false, false, false, false };
		assert_string_equal(scram(m, c), "plain@t.example");
		c.gs2 = "y,,";
		assert_string_equal(scram(m, c), "plain@t.example");
		c.gs2 = "n,a=plain@t.example,";
		assert_string_equal(scram(m, c), "plain@t.example");
		c.gs2 = "n,a=keys@t.example,";
		assert_string_equal(scram(m, c), "auth");
		c.gs2 = "n,,";
		c.tamper = true;
		assert_string_equal(scram(m, c), "auth");
		c.tamper = false;
		c.other_nonce = true;
		assert_string_equal(scram(m, c), "auth");
		c.other_nonce = false;
		c.other_gs2 = true; /* the header changed under way */
		assert_string_equal(scram(m, c), "auth");
		c.other_gs2 = false;
		c.password = "Tanstaaftanstaaf";
		assert_string_equal(scram(m, c), "auth");
		c.name = "nobody@t.example";
		assert_string_equal(scram(m, c), "auth");
		c.name = "hash@t.example"; /* right, but no keys can be had from its hash */
		c.password = "pencil";
		assert_string_equal(scram(m, c), "auth");
		c.name = "keys@t.example"; /* stored keys, of SHA-256 only */
		assert_string_equal(scram(m, c), i ? "auth" : "keys@t.example");
	}
	end();
}

FIBER_TEST(scram_bound_to_the_channel)
{
	static const char mine[33] = "0123456789abcdef0123456789abcdef", other[33] = "0123456789abcdef0123456789abcdeF";
	begin();
	peer.bindings[SASL_TLS_EXPORTER].len = 32;
	memcpy(peer.bindings[SASL_TLS_EXPORTER].bytes, mine, 32);
	struct client c = { "p=tls-exporter,,", "keys@t.example", "pencil", mine, false, false, false, false };
	assert_string_equal(scram(SASL_SCRAM_SHA_256_PLUS, c), "keys@t.example");
	c.binding = other;
	assert_string_equal(scram(SASL_SCRAM_SHA_256_PLUS, c), "auth");
	c.binding = NULL;
	assert_string_equal(scram(SASL_SCRAM_SHA_256_PLUS, c), "auth");
	c.gs2 = "p=tls-unique,,"; /* there is none on this channel */
	assert_string_equal(scram(SASL_SCRAM_SHA_256_PLUS, c), "auth");
	c.gs2 = "p=tls-other,,";
	assert_string_equal(scram(SASL_SCRAM_SHA_256_PLUS, c), "syntax");
	c.binding = mine;
	for (unsigned kind = SASL_TLS_SERVER_END_POINT; kind < SASL_BINDING_COUNT; kind++) { /* each has its own value */
		c.gs2 = kind == SASL_TLS_UNIQUE ? "p=tls-unique,," : "p=tls-server-end-point,,";
		peer.bindings[kind].len = 32;
		memcpy(peer.bindings[kind].bytes, other, 32);
		assert_string_equal(scram(SASL_SCRAM_SHA_256_PLUS, c), "auth");
		memcpy(peer.bindings[kind].bytes, mine, 32);
		assert_string_equal(scram(SASL_SCRAM_SHA_256_PLUS, c), "keys@t.example");
	}
	c.binding = NULL;
	c.gs2 = "n,,";
	assert_string_equal(scram(SASL_SCRAM_SHA_256_PLUS, c), "syntax");
	assert_string_equal(scram(SASL_SCRAM_SHA_256, c), "keys@t.example");
	c.gs2 = "y,,"; /* it could bind, but did not see -PLUS: somebody took it off our list */
	assert_string_equal(scram(SASL_SCRAM_SHA_256, c), "auth");
	end();
}

FIBER_TEST(scram_replayed_and_senseless)
{
	static const char *const bad[] = { "", "n", "n,,", "n,,n=", "n,,n=,r=x", "n,,n=a", "n,,n=a,r=", "n,,n=a=2,r=x", "n,,n=a=41,r=x", "n,,m=1,n=a,r=x",
					   "x,,n=a,r=x", "n,b=x,n=a,r=x", "n,,r=x,n=a", "n,,n=a,r=x y", "p=tls-exporter,,n=a,r=x" };
	begin();
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		arena_reset(&session);
		struct sasl *x = sasl_begin(&session, SASL_SCRAM_SHA_256);
		assert_string_equal(outcome(x, say(x, S(bad[i]))), "syntax");
	}
	struct client c = { "n,,", "keys@t.example", "pencil", NULL, false, false, false, false };
	assert_string_equal(scram(SASL_SCRAM_SHA_256, c), "keys@t.example");
	c.cancels = true;
	assert_string_equal(scram(SASL_SCRAM_SHA_256, c), "closed");
	arena_reset(&session);
	struct sasl *x = sasl_begin(&session, SASL_SCRAM_SHA_256);
	assert_int_equal(say(x, S("n,,n=keys@t.example,r=abcdefgh")), SASL_CONTINUE);
	assert_string_equal(outcome(x, say(x, S(last_final()))), "auth");
	end();
}

/* Invariant 11: a name that nobody has answers with the same salt each time, and another name with another. */
FIBER_TEST(salts_of_nobody)
{
	char salts[6][300];
	static const char *const names[] = { "nobody@t.example", "nobody@t.example", "NoBody@T.Example", "nobody%t.example", "nobody@alias.example", "someone@t.example" };
	begin();
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		char first[100];
		arena_reset(&session);
		struct sasl *x = sasl_begin(&session, SASL_SCRAM_SHA_256);
		snprintf(first, sizeof(first), "n,,n=%s,r=x", names[i]);
		assert_int_equal(say(x, S(first)), SASL_CONTINUE);
		snprintf(salts[i], sizeof(salts[i]), "%s", strchr(heard(), ','));
		sasl_end(x);
	}
	for (size_t i = 1; i < 5; i++)
		assert_string_equal(salts[0], salts[i]); /* spellings of a name that has keys have one salt, too */
	assert_string_not_equal(salts[0], salts[5]);
	assert_non_null(strstr(salts[0], ",i=4096"));
	end();
}

/* A neighbour whose keys were imported with another salt length and rounds: unknown names look as it does. */
FIBER_TEST(salts_of_nobody_are_as_long_as_a_neighbours)
{
	static const char *const names[] = { "imported@alone.example", "nobody@alone.example", "someone@alone.example" };
	struct scram_keys k = { .rounds = 5000, .salt_len = 40 };
	char stored[STORED_PASSWORD_BYTES_MAX], parts[3][100] = { 0 }, heard_salt[3][200];
	begin();
	memset(k.salt, 's', k.salt_len);
	scram_derive(AUTH_SHA256, S("pencil"), &k);
	base64_encode_raw(parts[0], k.salt_len, k.salt);
	base64_encode_raw(parts[1], 32, k.stored);
	base64_encode_raw(parts[2], 32, k.server);
	snprintf(stored, sizeof(stored), "{SCRAM-SHA-256}5000,%s,%s,%s", parts[0], parts[1], parts[2]);
	assert_int_equal(manage_domain_add(manage, S("alone.example"), S("t"), S("")), OK);
	assert_int_equal(manage_account_add(manage, S(names[0]), S(""), S(stored)), OK);
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		char first[100];
		arena_reset(&session);
		struct sasl *x = sasl_begin(&session, SASL_SCRAM_SHA_256);
		snprintf(first, sizeof(first), "n,,n=%s,r=x", names[i]);
		assert_int_equal(say(x, S(first)), SASL_CONTINUE);
		snprintf(heard_salt[i], sizeof(heard_salt[i]), "%s", strchr(heard(), ','));
		assert_non_null(strstr(heard_salt[i], ",i=5000"));
		assert_int_equal(strlen(heard_salt[i]), strlen(heard_salt[0]));
		sasl_end(x);
	}
	assert_string_not_equal(heard_salt[1], heard_salt[2]);
	end();
}

/* RFC 5802 wants clients to send SASLprep's form: a plain secret in another form serves. */
FIBER_TEST(scram_with_another_form)
{
	begin();
	add("cafe@t.example", "PLAIN", "cafe\xcc\x81");
	add("keys2@t.example", "SCRAM-SHA-256", "cafe\xcc\x81");
	struct client c = { "n,,", "cafe@t.example", "caf\xc3\xa9", NULL, false, false, false, false };
	assert_string_equal(scram(SASL_SCRAM_SHA_256, c), "cafe@t.example");
	c.name = "keys2@t.example";
	assert_string_equal(scram(SASL_SCRAM_SHA_256, c), "keys2@t.example");
	end();
}

static const char *cram(const char *name, const char *password, bool replay)
{
	static char answer[200];
	uint8_t sum[16];
	arena_reset(&session);
	struct sasl *x = sasl_begin(&session, SASL_CRAM_MD5);
	assert_int_equal(sasl_first(x, &command, &challenge), OK);
	if (!replay) {
		struct hmac_md5_ctx ctx;
		hmac_md5_set_key(&ctx, strlen(password), (const uint8_t *)password);
		hmac_md5_update(&ctx, strlen(heard()), (const uint8_t *)heard());
		hmac_md5_digest(&ctx, sizeof(sum), sum);
		int len = snprintf(answer, sizeof(answer), "%s ", name);
		for (size_t i = 0; i < sizeof(sum); i++)
			len += snprintf(answer + len, sizeof(answer) - (size_t)len, "%02x", sum[i]);
	}
	return outcome(x, say(x, S(answer)));
}

FIBER_TEST(cram_md5)
{
	begin();
	assert_string_equal(cram("plain@t.example", "tanstaaftanstaaf", false), "plain@t.example");
	assert_string_equal(cram("plain@t.example", "tanstaaftanstaaf", true), "auth"); /* of another challenge */
	assert_string_equal(cram("plain@t.example", "x", false), "auth");
	assert_string_equal(cram("nobody@t.example", "tanstaaftanstaaf", false), "auth");
	assert_string_equal(cram("hash@t.example", "pencil", false), "auth");
	/* the example of RFC 2195 section 2 */
	struct auth_request r = { .protocol = AUTH_POP3, .login = S("plain@t.example") };
	assert_int_equal(auth_cram_md5(&r, S("<1896.697170952@postoffice.reston.mci.net>"), S("b913a602c7eda7a495b4e6e7334d3890"), &subject), OK);
	subject_unref(subject);
	arena_reset(&session);
	struct sasl *x = sasl_begin(&session, SASL_CRAM_MD5); /* the server speaks first: no initial response */
	assert_string_equal(outcome(x, say(x, S("plain@t.example b913a602c7eda7a495b4e6e7334d3890"))), "syntax");
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(scram_right_and_wrong), cmocka_unit_test(scram_bound_to_the_channel),
					    cmocka_unit_test(scram_replayed_and_senseless), cmocka_unit_test(salts_of_nobody),
					    cmocka_unit_test(salts_of_nobody_are_as_long_as_a_neighbours), cmocka_unit_test(scram_with_another_form), cmocka_unit_test(cram_md5) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
