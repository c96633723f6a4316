/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ticket.c - see ticket.h.
 *
 * Secrets are few and change hardly ever: they, and the keys derived from them for the spans about now, are replaced whole under a lock
 * which is held for a look and a copy.
 */
#include "net/ticket.h"

#include "core/base/bytes.h"
#include "core/base/limits.h"
#include "core/base/log.h"

#include <errno.h>
#include <openssl/cipher.h>
#include <openssl/digest.h>
#include <openssl/hmac.h>
#include <openssl/mem.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>

#define SECRET_BYTES 32

#define SPANS 3 /* before, now, after */

struct key {
	uint8_t name[16], aes[32], mac[32];
};

struct keys {
	bool good;
	uint64_t span; /* now's, when they were derived */
	struct key key[TICKET_SECRETS_MAX][SPANS];
};

struct secrets {
	unsigned count;
	uint8_t secret[TICKET_SECRETS_MAX][SECRET_BYTES];
};

static struct {
	pthread_mutex_t lock;
	struct secrets secrets;
	struct keys keys; /* of them */
	char *path;
	struct stat seen; /* the file that they are from, or that was refused */
} tickets = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* ---- the file ---- */

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static bool parse_secret(struct slice line, uint8_t out[SECRET_BYTES])
{
	if (line.len != 2 * SECRET_BYTES)
		return false;
	for (size_t i = 0; i < SECRET_BYTES; i++) {
		int high = hex_value(line.ptr[2 * i]), low = hex_value(line.ptr[2 * i + 1]);
		if (high < 0 || low < 0)
			return false;
		out[i] = (uint8_t)(high << 4 | low);
	}
	return true;
}

static const char *parse(struct slice text, struct secrets *out)
{
	struct slice line;
	out->count = 0;
	while (slice_next(&text, '\n', &line)) {
		if (line.len && line.ptr[line.len - 1] == '\r')
			line.len--;
		line = slice_trim(line);
		if (!line.len || line.ptr[0] == '#')
			continue;
		if (out->count == TICKET_SECRETS_MAX)
			return "too many secrets";
		if (!parse_secret(line, out->secret[out->count]))
			return "expected lines of 64 hexadecimal digits";
		out->count++;
	}
	return out->count ? NULL : "no secret in it";
}

/* NULL, or why not. */
static const char *read_file(const char *path, struct secrets *out, struct stat *seen)
{
	char text[TICKET_SECRETS_MAX * 128 + 2048];
	FILE *f = fopen(path, "re");
	if (!f)
		return "cannot be opened";
	size_t len = fread(text, 1, sizeof text, f);
	bool bad = ferror(f) || !feof(f) || fstat(fileno(f), seen) != 0;
	fclose(f);
	const char *why = bad ? "cannot be read, or too long" : parse(slice_of(text, len), out);
	OPENSSL_cleanse(text, sizeof text);
	return why;
}

static void refused(const char *path, const char *why)
{
	log_event(LOG_ERROR, "tls.ticket_keys_refused", LOG_Z("file", path), LOG_Z("reason", why), LOG_BOOL("old_kept", true));
}

enum err ticket_open(const char *path, const char *where)
{
	struct secrets fresh = { .count = 1 };
	ASSERT(!tickets.path);
	if (!path) {
		RAND_bytes(fresh.secret[0], SECRET_BYTES);
	} else {
		const char *why = read_file(path, &fresh, &tickets.seen);
		if (why) {
			log_event(LOG_ERROR, "tls.ticket_keys_unusable", LOG_Z("where", where), LOG_Z("file", path), LOG_Z("reason", why));
			return ERR_CONFIG;
		}
		tickets.path = xstrdup(path);
	}
	tickets.secrets = fresh;
	tickets.keys.good = false;
	OPENSSL_cleanse(&fresh, sizeof fresh);
	return OK;
}

void ticket_close(void)
{
	free(tickets.path);
	tickets.path = NULL;
	OPENSSL_cleanse(&tickets.secrets, sizeof tickets.secrets);
	OPENSSL_cleanse(&tickets.keys, sizeof tickets.keys);
	tickets.secrets.count = 0;
}

static bool same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
	       a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

void ticket_look(bool loud)
{
	struct stat now = { 0 }, read = { 0 };
	struct secrets fresh;
	if (!tickets.path)
		return;
	if (stat(tickets.path, &now) != 0)
		memset(&now, 0, sizeof now);
	if (!loud && same_file(&now, &tickets.seen))
		return;
	const char *why = read_file(tickets.path, &fresh, &read);
	tickets.seen = why ? now : read;
	if (why) {
		refused(tickets.path, why);
		return;
	}
	pthread_mutex_lock(&tickets.lock);
	tickets.secrets = fresh;
	tickets.keys.good = false;
	pthread_mutex_unlock(&tickets.lock);
	OPENSSL_cleanse(&fresh, sizeof fresh);
	log_event(LOG_INFO, "tls.ticket_keys_read", LOG_Z("file", tickets.path));
}

/* ---- keys ---- */

static void expand(const uint8_t secret[SECRET_BYTES], const char *what, uint64_t span, uint8_t out[32])
{
	uint8_t text[32] = { 0 };
	unsigned len;
	memcpy(text, what, min_size(strlen(what), 24));
	put_le64(text + 24, span);
	HMAC(EVP_sha256(), secret, SECRET_BYTES, text, sizeof text, out, &len);
}

static void derive(const uint8_t secret[SECRET_BYTES], uint64_t span, struct key *k)
{
	uint8_t name[32];
	expand(secret, "ticket key name", span, name);
	memcpy(k->name, name, sizeof k->name);
	expand(secret, "ticket encryption", span, k->aes);
	expand(secret, "ticket authentication", span, k->mac);
}

/* The keys of this moment, under the lock. Derived once a span, not in each handshake: a resumed one looks for its key and makes one. */
static const struct keys *keys_now(void)
{
	uint64_t span = (uint64_t)time(NULL) / TICKET_SPAN_S;
	struct keys *keys = &tickets.keys;
	if (keys->good && keys->span == span)
		return keys;
	for (unsigned i = 0; i < tickets.secrets.count; i++)
		for (unsigned j = 0; j < SPANS; j++)
			derive(tickets.secrets.secret[i], span + j - 1, &keys->key[i][j]);
	keys->span = span;
	keys->good = true;
	return keys;
}

static void issuing_key(struct key *k)
{
	pthread_mutex_lock(&tickets.lock);
	*k = keys_now()->key[0][1];
	pthread_mutex_unlock(&tickets.lock);
}

/* The key with this name among those that may be in use. */
static bool find(const uint8_t name[16], struct key *k)
{
	bool found = false;
	pthread_mutex_lock(&tickets.lock);
	const struct keys *keys = keys_now();
	for (unsigned i = 0; i < tickets.secrets.count && !found; i++)
		for (unsigned j = 0; j < SPANS && !found; j++) {
			found = memcmp(keys->key[i][j].name, name, sizeof k->name) == 0;
			if (found)
				*k = keys->key[i][j];
		}
	pthread_mutex_unlock(&tickets.lock);
	return found;
}

static int use(const struct key *k, const uint8_t *iv, EVP_CIPHER_CTX *cipher, HMAC_CTX *mac, int encrypt)
{
	return HMAC_Init_ex(mac, k->mac, sizeof k->mac, EVP_sha256(), NULL) &&
	       EVP_CipherInit_ex(cipher, EVP_aes_256_cbc(), NULL, k->aes, iv, encrypt);
}

static int key_callback(SSL *ssl, uint8_t *name, uint8_t *iv, EVP_CIPHER_CTX *cipher, HMAC_CTX *mac, int encrypt)
{
	struct key k;
	int result = -1;
	(void)ssl;
	if (encrypt) {
		issuing_key(&k);
		memcpy(name, k.name, sizeof k.name);
		RAND_bytes(iv, 16);
		result = use(&k, iv, cipher, mac, 1) ? 1 : -1;
	} else if (find(name, &k)) {
		result = use(&k, iv, cipher, mac, 0) ? 2 : -1; /* 2: TLS 1.2 clients get a fresh one too */
	} else {
		result = 0; /* a full handshake */
	}
	OPENSSL_cleanse(&k, sizeof k);
	return result;
}

void ticket_serve(SSL_CTX *ctx)
{
	SSL_CTX_set_tlsext_ticket_key_cb(ctx, key_callback);
	SSL_CTX_set_timeout(ctx, TICKET_SPAN_S);
	SSL_CTX_set_session_psk_dhe_timeout(ctx, TICKET_SPAN_S);
}
