/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conn_tls.c on a real server with real sockets: everything a connection does in the clear, through TLS; moves with half a
 * record unread, file ranges, slow readers, ends at awkward moments.
 */
#include "tests/unit/net/toy.h"

#include "tests/unit/support/tls_client.h"

#include "core/base/log.h"
#include "core/run/shard.h"

TOY_DEFINE;

static char chain_path[] = "/tmp/penfold-conn-tls-cert-XXXXXX", key_path[] = "/tmp/penfold-conn-tls-key-XXXXXX";
static char *content;
enum { FILE_BYTES = 3 << 20 };

/* ---- a blocking client whose sealed bytes can be cut ---- */

struct tls_client {
	int fd;
	SSL *ssl;
	BIO *in, *out;
};

static void flush_cut(struct tls_client *c, size_t piece, unsigned pause_us)
{
	struct peer p = { .out = c->out };
	struct slice sealed = peer_take(&p);
	while (sealed.len) {
		struct slice part = piece ? slice_upto(sealed, piece) : sealed;
		client_send(c->fd, part);
		sealed = slice_from(sealed, part.len);
		if (sealed.len && pause_us)
			usleep(pause_us);
	}
}

static bool receive_some(struct tls_client *c)
{
	char chunk[16384];
	ssize_t n = recv(c->fd, chunk, sizeof chunk, 0);
	if (n <= 0)
		return false;
	assert_int_equal(BIO_write(c->in, chunk, (int)n), n);
	return true;
}

static struct tls_client shake_on(int fd, int version)
{
	static SSL_CTX *ctx;
	if (!ctx)
		ctx = SSL_CTX_new(TLS_method());
	struct tls_client c = { .fd = fd, .ssl = SSL_new(ctx), .in = BIO_new(BIO_s_mem()), .out = BIO_new(BIO_s_mem()) };
	BIO_set_mem_eof_return(c.in, -1);
	SSL_set_bio(c.ssl, c.in, c.out);
	SSL_set_connect_state(c.ssl);
	SSL_set_max_proto_version(c.ssl, (uint16_t)version);
	int r;
	while ((r = SSL_do_handshake(c.ssl)) != 1) {
		assert_int_equal(SSL_get_error(c.ssl, r), SSL_ERROR_WANT_READ);
		flush_cut(&c, 0, 0);
		assert_true(receive_some(&c));
	}
	flush_cut(&c, 0, 0);
	return c;
}

/* Like client_read_all, but a given number of bytes; fewer at the end of the stream. */
static size_t tls_receive(struct tls_client *c, char *to, size_t bytes)
{
	size_t len = 0;
	while (len < bytes) {
		int r = SSL_read(c->ssl, to + len, (int)min_size(bytes - len, 1 << 20));
		if (r > 0)
			len += (size_t)r;
		else if (SSL_get_error(c->ssl, r) != SSL_ERROR_WANT_READ || !receive_some(c))
			break;
	}
	ERR_clear_error();
	return len;
}

static void tls_expect(struct tls_client *c, const char *wanted)
{
	char got[4096];
	size_t n = tls_receive(c, got, strlen(wanted));
	if (n != strlen(wanted) || memcmp(got, wanted, n) != 0)
		fail_msg("wanted \"%s\", got \"%.*s\"", wanted, (int)n, got);
}
static void tls_say(struct tls_client *c, const char *text, size_t piece, unsigned pause_us)
{
	assert_int_equal(SSL_write(c->ssl, text, (int)strlen(text)), (int)strlen(text));
	flush_cut(c, piece, pause_us);
}
static void tls_hang_up(struct tls_client *c)
{
	SSL_free(c->ssl);
	close(c->fd);
}

static struct toy_server *server(unsigned shards, enum listen_tls how)
{
	toy_tls = how;
	return toy_start(shards);
}
static struct tls_client greeted(struct toy_server *t, int version)
{
	struct tls_client c = shake_on(client_open(t), version);
	tls_expect(&c, "hello\r\n");
	return c;
}

/* ---- tests ---- */

static void every_service(void **state)
{
	(void)state;
	struct toy_server *t = server(2, LISTEN_TLS_IMPLICIT);
	for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
		struct tls_client c = greeted(t, version);
		tls_say(&c, "say a\r\nsay b\r\n", 1, 0);
		tls_expect(&c, "a\r\nb\r\n");
		tls_say(&c, "big 100000\r\nsay behind\r\n", 0, 0);
		char *all = xmalloc(6400000);
		assert_int_equal(tls_receive(&c, all, 6400000), 6400000);
		for (unsigned i = 0; i < 100000; i++)
			assert_int_equal(strtoul(all + (size_t)i * 64, NULL, 10), i);
		free(all);
		tls_expect(&c, "end\r\nbehind\r\n");
		tls_say(&c, "quit\r\n", 0, 0);
		tls_expect(&c, "bye\r\n");
		char byte;
		assert_int_equal(tls_receive(&c, &byte, 1), 0);
		int r = SSL_read(c.ssl, &byte, 1);
		assert_int_equal(SSL_get_error(c.ssl, r), SSL_ERROR_ZERO_RETURN); /* close_notify, not a bare end */
		tls_hang_up(&c);
	}
	toy_stop(t);
}

static void file_ranges(void **state)
{
	(void)state;
	struct toy_server *t = server(2, LISTEN_TLS_IMPLICIT);
	struct tls_client c = greeted(t, TLS1_3_VERSION);
	char *got = xmalloc(FILE_BYTES);
	uint32_t seed = 1;
	static const uint32_t sizes[] = { 1, 1350, 4095, 4096, 4097, 16384, 65535, 65536, 65537, 131072, FILE_BYTES };
	for (unsigned i = 0; i < 60; i++) {
		seed = seed * 1664525 + 1013904223;
		uint32_t bytes = i < ARRAY_LEN(sizes) ? sizes[i] : seed >> 8 & 0x3ffff, from = (seed >> 3) % (FILE_BYTES - bytes + 1);
		bytes += !bytes;
		char line[128];
		snprintf(line, sizeof line, "file %u %u\r\nsay between\r\nfile 0 10\r\n", from, bytes);
		tls_say(&c, line, 0, 0);
		snprintf(line, sizeof line, "file %u\r\n", bytes);
		tls_expect(&c, line);
		assert_int_equal(tls_receive(&c, got, bytes), bytes);
		assert_memory_equal(got, content + from, bytes);
		tls_expect(&c, "\r\nbetween\r\nfile 10\r\n");
		assert_int_equal(tls_receive(&c, got, 10), 10);
		tls_expect(&c, "\r\n");
	}
	EVENTUALLY(TOY_GET(released) == 120);
	/* beyond the file's end: the reply cannot be made whole, and its length is known to the client */
	tls_say(&c, "file 3145720 1000\r\n", 0, 0);
	assert_true(tls_receive(&c, got, FILE_BYTES) < 1000);
	tls_hang_up(&c);
	EVENTUALLY(TOY_GET(how[END_IO]) == 1);
	free(got);
	toy_stop(t);
}

static void bulk_input(void **state)
{
	(void)state;
	struct toy_server *t = server(1, LISTEN_TLS_IMPLICIT);
	struct tls_client c = greeted(t, TLS1_3_VERSION);
	uint64_t sum = 0;
	char line[64];
	tls_say(&c, "slowdata 3000000\r\n", 0, 0);
	for (size_t at = 0; at < 3000000;) {
		size_t n = min_size(3000000 - at, 100000);
		for (size_t i = 0; i < n; i++)
			sum = sum * 31 + (uint8_t)content[at + i];
		assert_int_equal(SSL_write(c.ssl, content + at, (int)n), (int)n);
		flush_cut(&c, at % 300000 ? 0 : 7001, 100);
		at += n;
	}
	snprintf(line, sizeof line, "sum %llu of 3000000\r\n", (unsigned long long)sum);
	tls_expect(&c, line);
	tls_hang_up(&c);
	EVENTUALLY(TOY_GET(closed) == 1);
	toy_stop(t);
}

/* From shard to shard with the TLS object, with whole lines and with half a record unread. */
static void moves(void **state)
{
	(void)state;
	struct toy_server *t = server(4, LISTEN_TLS_IMPLICIT);
	struct tls_client c = greeted(t, TLS1_3_VERSION);
	for (unsigned i = 0; i < 200; i++) {
		char line[64], said[64], got[64];
		snprintf(line, sizeof line, "move %u\r\nsay %u\r\n", i % 4, i);
		assert_int_equal(SSL_write(c.ssl, line, (int)strlen(line)), (int)strlen(line));
		assert_int_equal(SSL_write(c.ssl, "say rest\r\n", 10), 10);
		flush_cut(&c, strlen(line) + 22 + i % 31, i % 3 ? 0 : 500); /* the second record is cut */
		size_t n = 0; /* "moved K from J", J is where it was */
		while (n < sizeof got - 1 && tls_receive(&c, got + n, 1) == 1 && got[n++] != '\n')
			;
		snprintf(said, sizeof said, "moved %u from", i % 4);
		assert_memory_equal(got, said, strlen(said));
		snprintf(said, sizeof said, "%u\r\nrest\r\n", i);
		tls_expect(&c, said);
	}
	tls_hang_up(&c);
	EVENTUALLY(TOY_GET(closed) == 1);
	toy_stop(t);
}

/* "tls" behind and before other bytes: what came along is forgotten, what was to be said leaves in the clear. */
static void begun_by_command(void **state)
{
	(void)state;
	static const char text[] = "say a\r\ntls\r\nsay injected\r\nquit\r\n";
	struct toy_server *t = server(1, LISTEN_TLS_STARTTLS);
	for (size_t cut = 1; cut < sizeof text; cut++) {
		int fd = client_open(t);
		EXPECT(fd, "hello\r\n");
		client_send(fd, slice_of(text, cut));
		if (cut < 12) {
			usleep(500);
			client_send(fd, slice_from(slice_of(text, sizeof text - 1), cut));
		}
		EXPECT(fd, "a\r\ngo\r\n");
		struct tls_client c = shake_on(fd, TLS1_3_VERSION);
		tls_say(&c, "say b\r\nquit\r\n", 0, 0);
		tls_expect(&c, "b\r\nbye\r\n");
		tls_hang_up(&c);
	}
	/* garbage instead of a handshake */
	int fd = client_open(t);
	SEND(fd, "tls\r\n");
	EXPECT(fd, "hello\r\ngo\r\n");
	SEND(fd, "say in the clear\r\n");
	struct buf all;
	buf_init(&all, 1000);
	client_read_all(fd, &all);
	assert_true(all.len < 10); /* an alert at most */
	buf_release(&all);
	close(fd);
	EVENTUALLY(toy_stats(t).open == 0);
	toy_stop(t);
}

/* Readers that stop in a large reply keep one buffer each, and a quick one is served meanwhile; then they go away. */
static void slow_readers(void **state)
{
	(void)state;
	enum { SLOW = 60 };
	struct toy_server *t = server(1, LISTEN_TLS_IMPLICIT);
	struct tls_client slow[SLOW];
	for (int i = 0; i < SLOW; i++) {
		slow[i] = shake_on(client_open_small(t, 4096), TLS1_3_VERSION);
		tls_expect(&slow[i], "hello\r\n");
		tls_say(&slow[i], i % 2 ? "file 0 3000000\r\nfile 0 3000000\r\n" : "big 1000000\r\n", 0, 0);
	}
	struct tls_client quick = greeted(t, TLS1_3_VERSION);
	char *got = xmalloc(FILE_BYTES);
	for (int i = 0; i < 5; i++) {
		tls_say(&quick, "file 5 3000000\r\n", 0, 0);
		tls_expect(&quick, "file 3000000\r\n");
		assert_int_equal(tls_receive(&quick, got, 3000000), 3000000);
		assert_memory_equal(got, content + 5, 3000000);
		tls_expect(&quick, "\r\n");
	}
	free(got);
	for (int i = 0; i < SLOW; i++) {
		if (i % 3 == 0)
			client_reset(slow[i].fd);
		else
			close(slow[i].fd);
		SSL_free(slow[i].ssl);
	}
	EVENTUALLY(TOY_GET(closed) == SLOW);
	EVENTUALLY(TOY_GET(released) == SLOW / 2 * 2 + 5); /* a session is told its end before its output is let go */
	tls_hang_up(&quick);
	toy_stop(t);
}

/* A stop ends handshakes at once, open sessions with their words, and a reader that does not read after the grace. */
static void stop_at_awkward_moments(void **state)
{
	(void)state;
	struct toy_server *t = server(2, LISTEN_TLS_IMPLICIT);
	int silent = client_open(t), half = client_open(t);
	client_send(half, slice_of("\x16\x03\x01\x02\x00\x01\x00", 7));
	struct tls_client open = greeted(t, TLS1_3_VERSION), stuck = shake_on(client_open_small(t, 4096), TLS1_3_VERSION);
	tls_say(&stuck, "file 0 3000000\r\n", 0, 0);
	usleep(100000);
	uint64_t began = now_ms();
	t->asked_to_stop = true;
	toy_ask_stop();
	tls_expect(&open, "stopping\r\n");
	client_expect_end(silent);
	toy_stop(t);
	assert_true(now_ms() - began < 5000);
	close(silent);
	close(half);
	tls_hang_up(&open);
	tls_hang_up(&stuck);
}

static int setup_all(void **state)
{
	(void)state;
	char path[] = "/tmp/penfold-conn-tls-XXXXXX";
	log_set_level(LOG_ALARM);
	close(mkstemp(chain_path));
	close(mkstemp(key_path));
	peer_make_pair(chain_path, key_path, "toy.example", false, false);
	const struct tls_config config = { .certificate = chain_path, .key = key_path };
	if (tls_open_process(&config) != OK)
		return -1;
	content = xmalloc(FILE_BYTES);
	for (size_t i = 0; i < FILE_BYTES; i++)
		content[i] = (char)(i * 2654435761u >> 11);
	toy_file = mkstemp(path);
	unlink(path);
	return pwrite(toy_file, content, FILE_BYTES, 0) == FILE_BYTES ? 0 : -1;
}
static int teardown_all(void **state)
{
	(void)state;
	tls_close_process();
	unlink(chain_path);
	unlink(key_path);
	free(content);
	return close(toy_file);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_service),  cmocka_unit_test(file_ranges),	     cmocka_unit_test(bulk_input), cmocka_unit_test(moves),
		cmocka_unit_test(begun_by_command), cmocka_unit_test(slow_readers), cmocka_unit_test(stop_at_awkward_moments),
	};
	return cmocka_run_group_tests(tests, setup_all, teardown_all);
}
