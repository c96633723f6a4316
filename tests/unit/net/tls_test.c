/* SPDX-License-Identifier: Apache-2.0 */
/* tls.c, certificates.c and ticket.c against a client in memory: every cut, records, names, swaps, tickets, bad bytes, memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/support/tls_client.h"

#include "core/base/log.h"
#include "core/run/shard.h"
#include "net/certificate.h"
#include "net/ticket.h"

#include <ftw.h>
#include <time.h>
#include <unistd.h>
#ifdef PENFOLD_JEMALLOC
#include <jemalloc/jemalloc.h>
#endif

static char folder[] = "/tmp/penfold-tls-XXXXXX";
static char chain_path[128], key_path[128], secrets_path[128], names_path[128];
static const struct tls_rules pop3_rules = { .alpn = "pop3" }, no_rules = { 0 }, new_rules = { .tls13_only = true, .alpn = "pop3" };

/* A path, good until eight more have been made. */
static const char *path_of(const char *a, const char *b)
{
	static char paths[8][512];
	static unsigned next;
	char *out = paths[next++ % 8];
	size_t n = strlen(a);
	ASSERT(n + strlen(b) + 2 <= sizeof paths[0]);
	memcpy(out, a, n);
	out[n] = '/';
	strcpy(out + n + 1, b);
	return out;
}

static void open_process(bool names, bool secrets)
{
	const struct tls_config config = { .certificate = chain_path, .key = key_path, .folder = names ? names_path : NULL,
					   .ticket_keys = secrets ? secrets_path : NULL };
	assert_int_equal(tls_open_process(&config), OK);
}

static void write_secrets(const char *lines)
{
	FILE *f = fopen(secrets_path, "w");
	assert_non_null(f);
	fputs(lines, f);
	fclose(f);
}

static int setup_all(void **state)
{
	(void)state;
	log_set_level(LOG_ALARM);
	if (!mkdtemp(folder))
		return -1;
	snprintf(chain_path, sizeof chain_path, "%s/cert.pem", folder);
	snprintf(key_path, sizeof key_path, "%s/key.pem", folder);
	snprintf(secrets_path, sizeof secrets_path, "%s/secrets", folder);
	snprintf(names_path, sizeof names_path, "%s/names", folder);
	mkdir(names_path, 0700);
	peer_make_pair(chain_path, key_path, "default.example", false, false);
	return 0;
}
static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type, (void)ftw;
	return remove(path);
}
static int teardown_all(void **state)
{
	(void)state;
	SSL_CTX_free(peer_ctx);
	return nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}
static int setup(void **state)
{
	(void)state;
	open_process(false, false);
	return 0;
}
static int teardown(void **state)
{
	(void)state;
	tls_close_process();
	return 0;
}

/* ---- handshakes ---- */

static void shake_cut(int version, size_t piece)
{
	struct peer c;
	struct tls *t = tls_new(&pop3_rules);
	peer_open(&c, version, "mail.example", "\4pop3", NULL);
	assert_true(peer_shake(&c, t, piece));
	assert_true(peer_talk(&c, t));
	assert_string_equal(peer_saw(&c), "default.example");
	assert_string_equal(tls_facts(t).version, version == TLS1_3_VERSION ? "TLSv1.3" : "TLSv1.2");
	peer_close(&c);
	tls_free(t);
}

/* A ClientHello has some hundred bytes: all cuts of it, and all else in pieces of the same size. */
static void every_cut(void **state)
{
	(void)state;
	for (size_t piece = 1; piece < 700; piece += piece < 64 ? 1 : 7) {
		shake_cut(TLS1_3_VERSION, piece);
		shake_cut(TLS1_2_VERSION, piece);
	}
}

static void old_versions(void **state)
{
	(void)state;
	struct peer c;
	struct tls *t = tls_new(&new_rules);
	peer_open(&c, TLS1_2_VERSION, NULL, NULL, NULL);
	assert_false(peer_shake(&c, t, 0)); /* tls13_only */
	assert_int_equal(tls_state(t), TLS_FAILED);
	peer_close(&c);
	tls_free(t);
	t = tls_new(&pop3_rules);
	peer_open(&c, TLS1_1_VERSION, NULL, NULL, NULL);
	assert_false(peer_shake(&c, t, 0));
	peer_close(&c);
	tls_free(t);
}

/* ALPACA: who names other protocols only is no client of ours. */
static void alpn(void **state)
{
	(void)state;
	static const struct { const char *offer; const struct tls_rules *rules; bool good; } cases[] = {
		{ NULL, &pop3_rules, true },	    { "\4pop3", &pop3_rules, true },	     { "\2h2\4pop3", &pop3_rules, true },
		{ "\2h2", &pop3_rules, false },	    { "\10http/1.1\2h2", &pop3_rules, false }, { "\4POP3", &pop3_rules, false },
		{ "\5pop3s", &pop3_rules, false },  { "\3pop", &pop3_rules, false },	     { NULL, &no_rules, true },
		{ "\2h2", &no_rules, false },
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		for (int v = TLS1_2_VERSION; v <= TLS1_3_VERSION; v++) {
			struct peer c;
			struct tls *t = tls_new(cases[i].rules);
			peer_open(&c, v, NULL, cases[i].offer, NULL);
			assert_int_equal(peer_shake(&c, t, 0), cases[i].good);
			if (!cases[i].good) {
				assert_int_equal(tls_state(t), TLS_FAILED);
				assert_non_null(strstr(tls_failure(t), "NO_APPLICATION_PROTOCOL"));
			}
			peer_close(&c);
			tls_free(t);
		}
	}
}

/* ---- records ---- */

struct pair {
	struct peer c;
	struct tls *t;
};
static struct pair connected(int version)
{
	struct pair p = { .t = tls_new(&pop3_rules) };
	peer_open(&p.c, version, NULL, NULL, NULL);
	SSL_set_app_data(p.c.ssl, NULL);
	SSL_CTX_sess_set_new_cb(peer_ctx, NULL);
	assert_true(peer_shake(&p.c, p.t, 0));
	SSL_CTX_sess_set_new_cb(peer_ctx, peer_new_ticket);
	return p;
}
static void disconnect(struct pair *p)
{
	peer_close(&p->c);
	tls_free(p->t);
}

/* Sealed from the end of a buffer to its beginning, any size and record size, with answers to key updates between. */
static void sealed_in_place(void **state)
{
	(void)state;
	static const size_t sizes[] = { 1, 2, 1349, 1350, 1351, 4096, 16383, 16384, 16385, 50000, 65536 };
	char *plain = xmalloc(65536), *heard = xmalloc(65536);
	for (size_t i = 0; i < 65536; i++)
		plain[i] = (char)(i * 2654435761u >> 13);
	for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
		struct pair p = connected(version);
		for (unsigned round = 0; round < 2 * ARRAY_LEN(sizes); round++) {
			size_t bytes = sizes[round / 2], record = round % 2 ? TLS_RECORD_FIRST_BYTES : TLS_RECORD_BYTES_MAX;
			if (version == TLS1_3_VERSION && round % 3 == 0) {
				assert_int_equal(SSL_key_update(p.c.ssl, SSL_KEY_UPDATE_REQUESTED), 1);
				assert_int_equal(SSL_write(p.c.ssl, "x", 1), 1);
				peer_feed(p.t, peer_take(&p.c), 1000, NULL);
				assert_int_equal(tls_state(p.t), TLS_OPEN);
			}
			size_t room = tls_sealed_bytes_max(bytes);
			char *buf = xmalloc(room); /* exact: a sanitizer sees the byte behind */
			memcpy(buf + room - bytes, plain, bytes);
			size_t n = tls_seal(p.t, slice_of(buf + room - bytes, bytes), record, buf, room);
			assert_in_range(n, bytes + 22, room);
			assert_int_equal(BIO_write(p.c.in, buf, (int)n), (int)n);
			size_t got = 0;
			for (int r; got < bytes && (r = SSL_read(p.c.ssl, heard + got, (int)(bytes - got))) > 0;)
				got += (size_t)r;
			assert_int_equal(got, bytes);
			assert_memory_equal(heard, plain, bytes);
			free(buf);
		}
		disconnect(&p);
	}
	free(plain);
	free(heard);
}

static void plain_at_every_cut(void **state)
{
	(void)state;
	struct pair p = connected(TLS1_3_VERSION);
	for (size_t piece = 1; piece < 60; piece++) {
		struct buf got;
		buf_init(&got, 65536);
		assert_int_equal(SSL_write(p.c.ssl, "USER ann\r\n", 10), 10);
		assert_int_equal(SSL_write(p.c.ssl, "PASS secret\r\n", 13), 13);
		peer_feed(p.t, peer_take(&p.c), piece, &got);
		assert_true(slice_eq(buf_slice(&got), SLICE_LIT("USER ann\r\nPASS secret\r\n")));
		buf_release(&got);
	}
	disconnect(&p);
}

static void ends(void **state)
{
	(void)state;
	struct pair p = connected(TLS1_3_VERSION);
	char sealed[512], byte;
	struct buf got;
	buf_init(&got, 100);
	assert_int_equal(SSL_write(p.c.ssl, "QUIT\r\n", 6), 6);
	assert_int_equal(SSL_shutdown(p.c.ssl), 0);
	peer_feed(p.t, peer_take(&p.c), 7, &got);
	assert_true(slice_eq(buf_slice(&got), SLICE_LIT("QUIT\r\n")));
	assert_int_equal(tls_state(p.t), TLS_ENDED); /* it hears us still */
	size_t n = tls_seal(p.t, SLICE_LIT("+OK bye\r\n"), TLS_RECORD_BYTES_MAX, sealed, sizeof sealed);
	assert_true(n > 9);
	assert_true(tls_shut(p.t));
	assert_false(tls_shut(p.t));
	BIO_write(p.c.in, sealed, (int)n);
	peer_hear(&p.c, p.t);
	char heard[64];
	assert_int_equal(SSL_read(p.c.ssl, heard, sizeof heard), 9);
	int r = SSL_read(p.c.ssl, &byte, 1);
	assert_int_equal(SSL_get_error(p.c.ssl, r), SSL_ERROR_ZERO_RETURN);
	buf_release(&got);
	disconnect(&p);
}

/* ---- hostile bytes ---- */

static void other_protocols(void **state)
{
	(void)state;
	static const char *const first[] = { "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "USER ann\r\nPASS secret\r\n", "CONNECT x:995 HTTP/1.0\r\n\r\n", "\x16\x03\x01\xff\xff\xff\xff\xff",
					     "\x80\x2e\x01\x03\x01 and what would follow it in SSL 2.0, long enough" };
	for (size_t i = 0; i < ARRAY_LEN(first); i++) {
		struct tls *t = tls_new(&pop3_rules);
		peer_feed(t, slice_str(first[i]), 1, NULL);
		assert_int_equal(tls_state(t), TLS_FAILED);
		tls_feed(t, SLICE_LIT("more")); /* is not looked at */
		tls_fed(t);
		assert_int_equal(tls_state(t), TLS_FAILED);
		tls_free(t);
	}
}

/* Each byte of a record, changed: an alert, no byte of it is given out. */
static void changed_records(void **state)
{
	(void)state;
	for (size_t at = 0;; at++) {
		struct pair p = connected(TLS1_3_VERSION);
		struct buf got;
		buf_init(&got, 100);
		assert_int_equal(SSL_write(p.c.ssl, "DELE 1\r\n", 8), 8);
		struct slice record = peer_take(&p.c);
		if (at >= record.len) {
			disconnect(&p);
			break;
		}
		((char *)(uintptr_t)record.ptr)[at] ^= 0x40;
		peer_feed(p.t, record, 5, &got);
		assert_int_equal(got.len, 0);
		if (at != 3 && at != 4) /* a longer length: it waits for the rest */
			assert_int_equal(tls_state(p.t), TLS_FAILED);
		buf_release(&got);
		disconnect(&p);
	}
}

/* Records that make us work and say nothing are bounded. */
static void floods(void **state)
{
	(void)state;
	struct tls *t = tls_new(&pop3_rules);
	for (int i = 0; i < 1000 && tls_state(t) != TLS_FAILED; i++)
		peer_feed(t, SLICE_LIT("\x16\x03\x01\x00\x00"), 5, NULL);
	assert_int_equal(tls_state(t), TLS_FAILED);
	tls_free(t);
	struct pair p = connected(TLS1_3_VERSION);
	for (int i = 0; i < 40; i++) {
		assert_int_equal(SSL_key_update(p.c.ssl, SSL_KEY_UPDATE_REQUESTED), 1);
		SSL_write(p.c.ssl, "", 0);
		peer_feed(p.t, peer_take(&p.c), 4096, NULL);
	}
	assert_int_equal(tls_state(p.t), TLS_FAILED);
	print_message("key updates: %s\n", tls_failure(p.t));
	disconnect(&p);
	/* a ClientHello without end */
	t = tls_new(&pop3_rules);
	char record[5 + 16384] = "\x16\x03\x01\x40\x00\x01\x7f\xff\xff";
	size_t fed = 0;
	while (tls_state(t) == TLS_SHAKING && fed < MIB(4)) {
		peer_feed(t, slice_of(record, sizeof record), 4096, NULL);
		fed += sizeof record;
	}
	assert_int_equal(tls_state(t), TLS_FAILED);
	assert_true(fed <= TLS_HANDSHAKE_BYTES_MAX + 2 * sizeof record);
	tls_free(t);
}

/* ---- tickets ---- */

/* A handshake with or without a ticket; the ticket it got is kept. */
static bool resumes(SSL_SESSION **ticket_io, int version)
{
	struct peer c;
	struct tls *t = tls_new(&pop3_rules);
	peer_open(&c, version, "mail.example", NULL, *ticket_io);
	assert_true(peer_shake(&c, t, 0));
	assert_true(peer_talk(&c, t));
	bool resumed = tls_facts(t).resumed;
	assert_int_equal(resumed, SSL_session_reused(c.ssl));
	SSL_SESSION_free(*ticket_io);
	*ticket_io = c.ticket ? c.ticket : SSL_get1_session(c.ssl);
	c.ticket = NULL;
	peer_close(&c);
	tls_free(t);
	return resumed;
}

#define SECRET_A "00112233445566778899aabbccddeeff00112233445566778899AABBCCDDEEFF\n"
#define SECRET_B "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\n"

static void tickets(void **state)
{
	(void)state;
	for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
		SSL_SESSION *ticket = NULL;
		write_secrets("# issued by hand\n" SECRET_A);
		open_process(false, true);
		assert_false(resumes(&ticket, version));
		for (int i = 0; i < 20; i++)
			assert_true(resumes(&ticket, version));
		/* another process with the same file, and a restart */
		tls_close_process();
		open_process(false, true);
		assert_true(resumes(&ticket, version));
		/* a new secret in front, then the old one away */
		write_secrets(SECRET_B SECRET_A);
		tls_look(false);
		assert_true(resumes(&ticket, version));
		write_secrets(SECRET_B);
		tls_look(false);
		assert_true(resumes(&ticket, version));
		/* a bad file keeps the old ones */
		write_secrets(SECRET_A "0123\n");
		tls_look(false);
		assert_true(resumes(&ticket, version));
		/* a stranger's ticket is a full handshake */
		tls_close_process();
		open_process(false, false);
		assert_false(resumes(&ticket, version));
		tls_close_process();
		SSL_SESSION_free(ticket);
	}
}

/* ticket.c's clock, and nobody else's here: BoringSSL has gettimeofday. */
static time_t ahead_s;
time_t time(time_t *out)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	now.tv_sec += ahead_s;
	if (out)
		*out = now.tv_sec;
	return now.tv_sec;
}

/* Keys change with the span, and those of the one before (and of a clock that is ahead) are still taken. */
static void rotation(void **state)
{
	(void)state;
	SSL_SESSION *ticket = NULL;
	for (int way = -1; way <= 1; way += 2) {
		write_secrets(way < 0 ? SECRET_A : SECRET_B SECRET_A);
		open_process(false, true);
		for (int spans = 0; spans < 4; spans++) { /* each resumption's new ticket is of its own span */
			assert_int_equal(resumes(&ticket, TLS1_3_VERSION), spans > 0 || way > 0);
			ahead_s += way * TICKET_SPAN_S;
		}
		assert_true(resumes(&ticket, TLS1_3_VERSION));
		ahead_s += way * 2 * TICKET_SPAN_S;
		assert_false(resumes(&ticket, TLS1_3_VERSION));
		assert_true(resumes(&ticket, TLS1_3_VERSION));
		tls_close_process();
	}
	ahead_s = 0;
	SSL_SESSION_free(ticket);
}

static void bad_secrets(void **state)
{
	(void)state;
	static const char *const files[] = { "", "\n#\n", "0011\n", SECRET_A "x", SECRET_A SECRET_A SECRET_A SECRET_A SECRET_A SECRET_A SECRET_A SECRET_A SECRET_A };
	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		write_secrets(files[i]);
		assert_int_equal(ticket_open(secrets_path, "x.yaml:1: tls.ticket_keys"), ERR_CONFIG);
	}
	assert_int_equal(ticket_open("/nonexistent/secrets", NULL), ERR_CONFIG);
}

/* ---- names, in a shard of their own: loading needs offload threads ---- */

struct seen {
	const char *name;
	char saw[256];
	bool open;
	unsigned work;
};

static void ask_fiber(void *arg)
{
	struct seen *s = arg;
	struct peer c;
	struct tls *t = tls_new(&pop3_rules);
	peer_open(&c, 0, s->name, NULL, NULL);
	s->open = peer_shake(&c, t, 0) && peer_talk(&c, t);
	snprintf(s->saw, sizeof s->saw, "%s", peer_saw(&c));
	peer_close(&c);
	tls_free(t);
}

static const char *served(const char *name)
{
	static struct seen s;
	s = (struct seen){ .name = name };
	assert_int_equal(shard_run_alone(ask_fiber, &s), OK);
	return s.open ? s.saw : "failed";
}

static void make_named(const char *name, const char *subject, const char *chain, const char *key, bool rsa)
{
	const char *at = path_of(names_path, name);
	mkdir(at, 0700);
	peer_make_pair(path_of(at, chain), path_of(at, key), subject, rsa, false);
}

static void names(void **state)
{
	(void)state;
	open_process(true, false);
	make_named("mail.one.example", "one", "fullchain.pem", "privkey.pem", false);
	make_named("mail.two.example", "two", "tls.crt", "tls.key", true);
	make_named("_.two.example", "wild", "tls.crt", "tls.key", false);
	assert_string_equal(served("mail.one.example"), "one");
	assert_string_equal(served("MAIL.One.Example"), "one");
	assert_string_equal(served("mail.one.example."), "one");
	assert_string_equal(served("mail.two.example"), "two"); /* RSA: signed by an offload thread */
	assert_string_equal(served("pop.two.example"), "wild");
	assert_string_equal(served("a.b.two.example"), "default.example"); /* RFC 6125: one label */
	assert_string_equal(served("two.example"), "default.example");
	assert_string_equal(served(NULL), "default.example");
	static const char *const odd[] = { "..", "../names/mail.one.example", "mail.one.example/../mail.two.example", "a..b", ".one.example", "_.two.example", "*.two.example", "x" };
	for (size_t i = 0; i < ARRAY_LEN(odd); i++)
		assert_string_equal(served(odd[i]), "default.example");
	/* a name that was not there a moment ago */
	assert_string_equal(served("new.three.example"), "default.example");
	make_named("new.three.example", "three", "tls.crt", "tls.key", false);
	tls_look(false);
	assert_string_equal(served("new.three.example"), "three");
	/* renewed by a swapped link, as Kubernetes does */
	make_named("k8s.example.net", "before", "tls.crt", "tls.key", false);
	const char *data = path_of(names_path, "k8s.example.net");
	char folder_of[512];
	snprintf(folder_of, sizeof folder_of, "%s", data);
	for (int v = 1; v <= 2; v++) {
		const char *at = path_of(folder_of, v == 1 ? "v1" : "v2");
		mkdir(at, 0700);
		peer_make_pair(path_of(at, "tls.crt"), path_of(at, "tls.key"), v == 1 ? "first" : "second", false, false);
	}
	assert_int_equal(symlink("v1", path_of(folder_of, "..data")), 0);
	unlink(path_of(folder_of, "tls.crt"));
	unlink(path_of(folder_of, "tls.key"));
	assert_int_equal(symlink("..data/tls.crt", path_of(folder_of, "tls.crt")), 0);
	assert_int_equal(symlink("..data/tls.key", path_of(folder_of, "tls.key")), 0);
	assert_string_equal(served("k8s.example.net"), "first");
	assert_int_equal(symlink("v2", path_of(folder_of, "..tmp")), 0);
	assert_int_equal(rename(path_of(folder_of, "..tmp"), path_of(folder_of, "..data")), 0);
	assert_string_equal(served("k8s.example.net"), "first"); /* not yet looked */
	tls_look(false);
	assert_string_equal(served("k8s.example.net"), "second");
	tls_close_process();
}

static void swaps(void **state)
{
	(void)state;
	char subject[32];
	for (int i = 0; i < 100; i++) {
		snprintf(subject, sizeof subject, "swap %d", i);
		peer_make_pair(chain_path, key_path, subject, false, false);
		tls_look(false);
		assert_string_equal(served(NULL), subject);
	}
	peer_make_pair(chain_path, key_path, "bad", false, true);
	tls_look(false);
	assert_string_equal(served(NULL), subject);
	tls_look(false);
	tls_look(true);
	assert_string_equal(served(NULL), subject);
	unlink(key_path);
	tls_look(true);
	assert_string_equal(served(NULL), subject);
	peer_make_pair(chain_path, key_path, "default.example", false, false);
	tls_look(false);
	assert_string_equal(served(NULL), "default.example");
}

static void bad_default(void **state)
{
	(void)state;
	struct tls_config config = { .certificate = chain_path, .key = chain_path };
	assert_int_equal(tls_open_process(&config), ERR_CONFIG);
	config.key = "/nonexistent";
	assert_int_equal(tls_open_process(&config), ERR_CONFIG);
	config = (struct tls_config){ .folder = chain_path };
	assert_int_equal(tls_open_process(&config), ERR_CONFIG);
	assert_false(tls_ready());
}

/* ---- memory ---- */

static size_t resident(void)
{
#ifdef PENFOLD_JEMALLOC
	uint64_t epoch = 1;
	size_t len = sizeof epoch, bytes = 0, bytes_len = sizeof bytes;
	mallctl("epoch", &epoch, &len, &epoch, len);
	mallctl("stats.allocated", &bytes, &bytes_len, NULL, 0);
	return bytes;
#else
	return 0;
#endif
}

static void idle_memory(void **state)
{
	(void)state;
	enum { COUNT = 1000 };
	struct tls **all = xcalloc(COUNT, sizeof *all);
	for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
		size_t before = 0;
		for (int i = -10; i < COUNT; i++) {
			struct peer c;
			struct tls *t = tls_new(&pop3_rules);
			if (i == 0)
				before = resident();
			peer_open(&c, version, "mail.tenant.example", NULL, NULL);
			assert_true(peer_shake(&c, t, 0));
			assert_true(peer_talk(&c, t));
			peer_close(&c);
			if (i < 0)
				tls_free(t);
			else
				all[i] = t;
		}
		size_t each = (resident() - before) / COUNT;
		print_message("TLS 1.%d idle: %zu bytes\n", version == TLS1_3_VERSION ? 3 : 2, each);
		assert_true(each <= 3072); /* and an idle POP3 session is under 1 KiB: DESIGN section 9 */
		for (int i = 0; i < COUNT; i++)
			tls_free(all[i]);
	}
	free(all);
}

/* Ten times more names than the cache holds, and as many invented ones. */
static void many_names(void **state)
{
	(void)state;
	enum { NAMES = 3000 };
	char path[64];
	const struct certificates_config config = { .chain_path = chain_path, .key_path = key_path, .folder = names_path, .cache_bytes_max = KIB(1024) };
	make_named("all", "all", "tls.crt", "tls.key", false);
	for (int i = 0; i < NAMES; i++) {
		snprintf(path, sizeof path, "n%d.many.example", i);
		assert_int_equal(symlink("all", path_of(names_path, path)), 0);
	}
	assert_int_equal(certificates_open(&config), OK);
	size_t before = 0;
	for (int round = 0; round < 2; round++) {
		if (round == 1)
			before = resident();
		for (int i = 0; i < NAMES; i++) {
			for (int invented = 0; invented < 2; invented++) {
				struct certificate *c;
				int n = snprintf(path, sizeof path, "%c%d.many.example", invented ? 'x' : 'n', i);
				struct slice name = slice_of(path, (size_t)n);
				if (certificates_find(name, &c) == ERR_AGAIN) {
					certificates_load(name);
					assert_int_equal(certificates_find(name, &c), OK);
				}
				certificate_put(c);
			}
		}
	}
	assert_true(resident() <= before + KIB(512));
	certificates_look(false);
	certificates_close();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(every_cut, setup, teardown),
		cmocka_unit_test_setup_teardown(old_versions, setup, teardown),
		cmocka_unit_test_setup_teardown(alpn, setup, teardown),
		cmocka_unit_test_setup_teardown(sealed_in_place, setup, teardown),
		cmocka_unit_test_setup_teardown(plain_at_every_cut, setup, teardown),
		cmocka_unit_test_setup_teardown(ends, setup, teardown),
		cmocka_unit_test_setup_teardown(other_protocols, setup, teardown),
		cmocka_unit_test_setup_teardown(changed_records, setup, teardown),
		cmocka_unit_test_setup_teardown(floods, setup, teardown),
		cmocka_unit_test(tickets),
		cmocka_unit_test(rotation),
		cmocka_unit_test(bad_secrets),
		cmocka_unit_test(names),
		cmocka_unit_test_setup_teardown(swaps, setup, teardown),
		cmocka_unit_test(bad_default),
		cmocka_unit_test_setup_teardown(idle_memory, setup, teardown),
		cmocka_unit_test(many_names),
	};
	return cmocka_run_group_tests(tests, setup_all, teardown_all);
}
