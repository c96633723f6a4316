/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tls_fuzz.c - any bytes, cut anywhere, to the server side of net/tls.c: as a first flight, and behind a real handshake.
 *
 * The first byte chooses: raw bytes from the start, or a handshake with a client in memory and then a script, one byte of
 * operation and one of size each:
 *
 *     0 the client says `size` bytes       3 the client updates its keys         6 raw bytes of the input go to the server
 *     1 the server seals a reply           4 the client ends its side            7 the server ends its side
 *     2 a reply sealed in place, large     5 one byte of the next record is changed
 *
 * Checked: nothing crashes, leaks or trips an assertion; what comes out is a prefix of what the client said, whole where
 * nothing was changed; what the server sealed is what the client reads; a failed connection stays failed and gives
 * nothing out.
 */
#include "tests/unit/support/tls_client.h"

#include "core/base/log.h"

#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct tls_rules rules = { .alpn = "pop3" };

static void begin(void)
{
	static bool begun;
	if (begun)
		return;
	char folder[] = "/tmp/penfold-tls-fuzz-XXXXXX", chain[64], key[64];
	ASSERT(mkdtemp(folder));
	snprintf(chain, sizeof chain, "%s/cert", folder);
	snprintf(key, sizeof key, "%s/key", folder);
	peer_make_pair(chain, key, "fuzz.example", false, false);
	log_set_level(LOG_ALARM);
	const struct tls_config config = { .certificate = chain, .key = key };
	ASSERT(tls_open_process(&config) == OK);
	unlink(chain);
	unlink(key);
	rmdir(folder);
	begun = true;
}

static void raw_flight(struct slice in, size_t piece)
{
	struct tls *t = tls_new(&rules);
	struct buf got;
	buf_init(&got, MIB(1));
	peer_feed(t, in, piece, &got);
	ASSERT(got.len == 0 && tls_state(t) != TLS_OPEN && tls_state(t) != TLS_ENDED); /* nobody guesses a handshake */
	buf_release(&got);
	tls_free(t);
}

struct run {
	struct peer c;
	struct tls *t;
	struct buf said, got; /* by the client; by the server from it */
	bool changed, client_ended, shut;
	size_t piece;
};

static bool may_seal(const struct run *r) { return (tls_state(r->t) == TLS_OPEN || tls_state(r->t) == TLS_ENDED) && !r->shut; }

/* Everything the client has ready goes over. */
static void carry(struct run *r, bool change, uint8_t where)
{
	struct slice sealed = peer_take(&r->c);
	if (change && sealed.len) {
		((char *)(uintptr_t)sealed.ptr)[where % sealed.len] ^= (char)(1 + where % 255);
		r->changed = true;
	}
	peer_feed(r->t, sealed, r->piece, &r->got);
	peer_hear(&r->c, r->t);
}

static void client_says(struct run *r, size_t n)
{
	char text[256];
	if (r->client_ended)
		return;
	for (size_t i = 0; i < n; i++)
		text[i] = (char)(r->said.len + i);
	if (n && SSL_write(r->c.ssl, text, (int)n) == (int)n)
		ASSERT(buf_put(&r->said, text, n));
	ERR_clear_error();
}

static void server_seals(struct run *r, size_t bytes)
{
	if (!may_seal(r))
		return;
	size_t room = tls_sealed_bytes_max(bytes), heard = 0;
	char *buf = xmalloc(room), *back = xmalloc(bytes + 1);
	memset(buf + room - bytes, (int)(bytes & 0xff), bytes);
	size_t n = tls_seal(r->t, slice_of(buf + room - bytes, bytes), bytes & 1 ? TLS_RECORD_FIRST_BYTES : TLS_RECORD_BYTES_MAX, buf, room);
	ASSERT(n > bytes);
	BIO_write(r->c.in, buf, (int)n);
	for (int k; heard < bytes && (k = SSL_read(r->c.ssl, back + heard, (int)(bytes - heard))) > 0;)
		heard += (size_t)k;
	ASSERT(heard == bytes || r->client_ended || r->changed);
	for (size_t i = 0; i < heard; i++)
		ASSERT(back[i] == (char)(bytes & 0xff));
	ERR_clear_error();
	free(buf);
	free(back);
}

static void step(struct run *r, uint8_t what, uint8_t how, struct slice *raw_io)
{
	switch (what % 8) {
	case 0:
		client_says(r, how);
		carry(r, false, 0);
		break;
	case 1:
		server_seals(r, 1u + how);
		break;
	case 2:
		server_seals(r, 257u * (1u + how));
		break;
	case 3:
		if (!r->client_ended)
			SSL_key_update(r->c.ssl, how & 1 ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED);
		ERR_clear_error();
		break;
	case 4:
		SSL_shutdown(r->c.ssl);
		ERR_clear_error();
		r->client_ended = true;
		carry(r, false, 0);
		break;
	case 5:
		client_says(r, 1u + how % 64);
		carry(r, true, how);
		break;
	case 6: {
		struct slice raw = slice_upto(*raw_io, how);
		*raw_io = slice_from(*raw_io, raw.len);
		r->changed |= raw.len > 0;
		peer_feed(r->t, raw, r->piece, &r->got);
		break;
	}
	case 7:
		r->shut |= tls_shut(r->t);
		peer_hear(&r->c, r->t);
		break;
	}
}

static void behind_a_handshake(uint8_t how, struct slice in)
{
	struct run r = { .t = tls_new(&rules), .piece = 1u + how % 37u };
	buf_init(&r.said, MIB(1));
	buf_init(&r.got, MIB(1));
	peer_open(&r.c, how & 64 ? TLS1_2_VERSION : TLS1_3_VERSION, "fuzz.example", "\4pop3", NULL);
	SSL_set_app_data(r.c.ssl, NULL);
	ASSERT(peer_shake(&r.c, r.t, r.piece));
	for (unsigned steps = 0; in.len >= 2 && steps < 64; steps++) {
		uint8_t what = (uint8_t)in.ptr[0], size = (uint8_t)in.ptr[1];
		in = slice_from(in, 2);
		step(&r, what, size, &in);
		ASSERT(r.got.len <= r.said.len && (!r.got.len || memcmp(r.got.ptr, r.said.ptr, r.got.len) == 0));
	}
	if (!r.changed && tls_state(r.t) != TLS_FAILED) /* else: too many key updates */
		ASSERT(r.got.len == r.said.len);
	buf_release(&r.said);
	buf_release(&r.got);
	peer_close(&r.c);
	tls_free(r.t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	begin();
	if (size < 2)
		return 0;
	struct slice in = slice_of(data + 1, size - 1);
	if (data[0] & 128)
		raw_flight(in, 1u + data[0] % 97u);
	else
		behind_a_handshake(data[0], in);
	return 0;
}
