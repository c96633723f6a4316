/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tls.h - TLS as a machine without a socket: sealed bytes in, plain bytes out, and the other way round.
 *
 * For conn_tls.c, which stands between a connection and the wire, and for net/server, which opens the process's part.
 * BoringSSL does the work (TLS 1.2 and 1.3, server side); nothing outside this file and the two beside it (certificate.h,
 * ticket.h) knows it.
 *
 *     wire ---- tls_feed ----> [ handshake | records ] ---- tls_read ----> session
 *     wire <--- tls_pending --- handshake, tickets, alerts
 *     wire <--- tls_seal -------------------------------- plain bytes of a reply
 *
 * A `struct tls` belongs to one connection and moves with it between shards; records that have come in part travel inside.
 * Nothing here waits, but for tls_work: where a handshake needs what would stall a shard (a certificate from the disk, a
 * signature with an RSA key) the state is TLS_WORK, and tls_work must be called on a fiber (it uses the offload pool) before
 * anything else.
 *
 * Memory: BoringSSL's state once the handshake is shed, about 2.7 KB, and this struct; buffers exist only while bytes are
 * under way.  Bounds on what a client may send are BoringSSL's: 16 KiB a record, TLS_HANDSHAKE_BYTES_MAX a handshake message, 32 empty
 * records, 32 key updates and 4 warnings in a row, no renegotiation; each ends the connection with an alert.
 *
 * Wire formats: RFC 8446 (1.3), RFC 5246 with RFC 7627 and AEAD suites only (1.2), RFC 7301 (ALPN), RFC 6066 (SNI).
 */
#ifndef PENFOLD_NET_TLS_H
#define PENFOLD_NET_TLS_H

#include "core/base/bytes.h"
#include "core/base/err.h"
#include "core/base/limits.h"
#include "net/client_ca.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- the process ---- */

struct tls_config {
	const char *certificate, *key; /* PEM files: chain and private key; used when no name matches. NULL: none */
	const char *folder;            /* of certificates by name: certificate.h. NULL: none */
	const char *ticket_keys;       /* file of shared secrets: ticket.h. NULL: a random one for this process */
	uint64_t cache_bytes_max;      /* of certificates by name kept in memory */
	/* where the configuration names them, for messages of the start; or NULL */
	const char *where_certificate, *where_folder, *where_ticket_keys;
	uint32_t expiry_warn_days; /* the log tells so long before a certificate expires; 0: never */
};
/* Main thread, before listeners_bind. Blocking. Logs why it failed (ERR_CONFIG). Without it no listener may offer TLS. */
enum err tls_open_process(const struct tls_config *config);
void tls_close_process(void); /* no connection has TLS any more */
bool tls_ready(void);
bool tls_watched(void); /* there is something for tls_look: the above, or certificates among nodes (tls_mutual.h) */
/* Looks whether files have changed and swaps what is good; what is bad is kept out and reported. Blocking: on an offload thread. `loud`
 * reports at once what may be half of a change. */
void tls_look(bool loud);

/* For tls_mutual.c: what connections are made with lives as long as anybody needs it. Main thread. */
void tls_bio_take(void);
void tls_bio_drop(void);

/* ---- a connection ---- */

struct tls_mutual;
struct addr;
enum tls_client_wish { TLS_CLIENT_UNASKED, TLS_CLIENT_ASKED /* and what it shows must be good */, TLS_CLIENT_REQUIRED };
/* What a listener wants of its connections. */
struct tls_rules {
	bool tls13_only;
	const struct tls_mutual *mutual; /* among nodes; NULL: with clients */
	bool dials;       /* we are the client of it */
	const char *alpn; /* the one protocol that a client may name, "pop3"; NULL: none. A client that names others only is refused */
	enum tls_client_wish client;     /* its certificate; such connections have no tickets, so that it is checked each time */
	enum client_name client_name;
	struct client_ca *client_ca; /* unless unasked */
};

enum tls_state {
	TLS_SHAKING, /* wants more from the wire */
	TLS_WORK,    /* wants tls_work */
	TLS_OPEN,
	TLS_ENDED,   /* the peer said close_notify: nothing more comes; we may still send */
	TLS_FAILED   /* what is pending may hold an alert; nothing else goes in or out */
};

struct tls;
/* `rules` must outlive it. */
struct tls *tls_new(const struct tls_rules *rules);
void tls_free(struct tls *t);
enum tls_state tls_state(const struct tls *t);

/* Lends sealed bytes and goes on with the handshake; then tls_read until it gives 0, then tls_fed. */
void tls_feed(struct tls *t, struct slice sealed);
/* Plain bytes into `to`; 0 when there are none now. */
size_t tls_read(struct tls *t, char *to, size_t room);
/* The lent bytes go away: what was not yet used (a handshake that waits for work) is kept. */
void tls_fed(struct tls *t);
/* Later, on a fiber. */
void tls_work(struct tls *t);

/* What TLS itself wants on the wire, before anything sealed later. */
struct slice tls_pending(const struct tls *t);
void tls_pending_sent(struct tls *t);
/* No more from us: puts close_notify into what is pending, once. False if there is nothing to say. */
bool tls_shut(struct tls *t);

/* Bytes that sealing `bytes` takes at most, in records of at least TLS_RECORD_FIRST_BYTES. */
size_t tls_sealed_bytes_max(size_t bytes);
/* Seals plain bytes into records of at most record_bytes. `to` may be the memory before and around `plain`, if plain ends at to + room and
 * room is at least tls_sealed_bytes_max(plain.len): records are written behind what has been read. Returns what was written to
 * `to`; 0: TLS has failed. TLS_OPEN or TLS_ENDED only. */
size_t tls_seal(struct tls *t, struct slice plain, size_t record_bytes, char *to, size_t room);

struct tls_facts {
	const char *version, *cipher; /* "TLSv1.3" */
	bool resumed;
};
/* After the handshake. */
struct tls_facts tls_facts(const struct tls *t);
/* Among nodes, behind the handshake: the certificate names this node, or this address (tls_mutual.h). */
bool tls_peer_named(const struct tls *t, struct slice node, const struct addr *address);
/* RFC 9266, behind the handshake. False with TLS 1.2: there it binds only with extended master secrets on both sides. */
bool tls_exporter(const struct tls *t, uint8_t out[32]);
/* tls-server-end-point (RFC 5929): the length, or 0: there is none. Resumed connections have none, since the client remembers the
 * certificate of the first one, and we may have another by now. */
size_t tls_end_point(const struct tls *t, uint8_t out[TLS_END_POINT_BYTES_MAX]);
/* tls-unique (RFC 5929), TLS 1.2 with extended master secrets (RFC 7627) only; likewise. */
size_t tls_unique(const struct tls *t, uint8_t out[TLS_UNIQUE_BYTES_MAX]);
/* The name in the client's certificate, which is good; empty: none was shown, or it has no such name. */
struct slice tls_client_name(const struct tls *t);
/* What the client called us; empty: nothing. */
struct slice tls_server_name(const struct tls *t);
/* Why it failed: for the log, valid until the next call. */
const char *tls_failure(const struct tls *t);

#ifdef __cplusplus
}
#endif
#endif
