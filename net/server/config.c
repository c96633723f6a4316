/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config.c - the schema of penfold.yaml, its defaults, and the checks that need more than a type.
 *
 * The file is read into `struct raw` by settings.h, then number by number through one table (`keys`) that holds default,
 * least and greatest value, so that a key is added in three places only: raw, schema, table; and in deploy/penfold.yaml.
 */
#include "net/server/config_private.h"

#include "core/base/addr.h"
#include "core/base/limits.h"
#include "core/base/settings.h"
#include "net/given.h"

#include <cyaml/cyaml.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct raw_listener {
	int protocol;
	char *address;
	int tls, tls_min;
	bool plaintext;
	int proxy;
	char **trusted;
	unsigned trusted_count;
	char *client_ca;
	int client_certificate, client_name;
};
struct raw_directory {
	int type;
	char *path, *tenant, *domain;
};
struct raw {
	struct raw_fleet fleet; /* its fields stand at the top, too */
	struct raw_redis redis;
	char *data;
	uint32_t shards;
	char *default_domain, *hostname, *user, *admin_socket;
	struct {
		char *mode, *group;
	} admin;
	struct {
		char *address;
		uint32_t loop_s;
	} http;
	struct raw_listener *listeners;
	unsigned listeners_count;
	struct raw_directory *directories;
	unsigned directories_count;
	struct {
		int level, form;
		uint32_t slow_ms;
	} log;
	struct {
		int backend;
		bool pin;
		char *splice_min_bytes;
		uint32_t offload_threads, offload_queue_max;
	} io;
	struct {
		char *warm_bytes_max, *seal_bytes, *memory_body_bytes, *file_body_bytes, *message_bytes_max, *reserve_bytes;
		uint32_t flags_sync_ms, commit_ms_max, scrub_days, log_fds_max;
	} store;
	struct {
		char *cache_bytes_max;
		uint32_t poll_ms, ask_ms_max;
	} directory;
	struct {
		char *cache_bytes_max, *master_separator;
		uint32_t cache_ttl_s, hash_queue_max, hash_wait_ms_max;
		int challenge;
	} auth;
	struct {
		char *keys, *issuer, *audience, *username_claim;
		uint32_t leeway_s;
	} oauth;
	struct {
		char *keytab, *realm, *domain;
	} gssapi;
	struct {
		uint32_t idle_s, login_idle_s, auth_failures_max;
	} pop3;
	struct {
		uint32_t idle_s, login_idle_s, auth_failures_max, progress_ms;
	} imap;
	struct {
		uint32_t day_s, sweep_s;
	} expire;
	struct {
		uint32_t idle_s, recipients_max;
		char *junk_header;
	} lmtp;
	struct {
		char *address, *message_bytes_max;
		int protocol;
		uint32_t recipients_max, recipients_per_hour_max, connect_ms_max, answer_ms_max, data_ms_max;
	} xmit;
	struct {
		char *certificate, *key, *certificates, *ticket_keys, *cache_bytes_max;
		uint32_t expiry_warn_days;
	} tls;
	struct {
		uint32_t connections_max, stall_s, stop_grace_ms;
	} net;
	struct {
		char **exempt;
		unsigned exempt_count;
		uint32_t connections_per_address, connections_per_net24, connections_per_net64, connections_per_net48, unauthenticated_max,
			unauthenticated_per_address, sessions_per_account, sessions_per_tenant;
		uint32_t failures_free, login_failures_free, delay_first_ms, delay_ms_max, forget_s;
		char *cache_bytes_max;
	} limits;
};

/* ---- schema ---- */

static const cyaml_strval_t protocols[] = { { "pop3", CONFIG_POP3 }, { "lmtp", CONFIG_LMTP }, { "imap", CONFIG_IMAP } };
static const cyaml_strval_t tls_modes[] = { { "none", CONFIG_TLS_NONE }, { "starttls", CONFIG_TLS_STARTTLS }, { "implicit", CONFIG_TLS_IMPLICIT } };
static const cyaml_strval_t tls_versions[] = { { "1.2", 12 }, { "1.3", 13 } };
static const cyaml_strval_t client_modes[] = { { "none", TLS_CLIENT_UNASKED }, { "optional", TLS_CLIENT_ASKED }, { "required", TLS_CLIENT_REQUIRED } };
static const cyaml_strval_t client_names[] = { { "email", CLIENT_NAME_EMAIL }, { "cn", CLIENT_NAME_CN } };
static const cyaml_strval_t challenges[] = { { "auto", SASL_CHALLENGE_AUTO }, { "always", SASL_CHALLENGE_ALWAYS }, { "never", SASL_CHALLENGE_NEVER } };
static const cyaml_strval_t levels[] = {
	{ "debug", LOG_DEBUG }, { "info", LOG_INFO }, { "warn", LOG_WARN }, { "error", LOG_ERROR }, { "alarm", LOG_ALARM }
};
static const cyaml_strval_t forms[] = { { "keys", LOG_FORM_KEYS }, { "json", LOG_FORM_JSON } };
enum { XMIT_LMTP, XMIT_SMTP };
static const cyaml_strval_t relays[] = { { "lmtp", XMIT_LMTP }, { "smtp", XMIT_SMTP } };
static const cyaml_strval_t backends[] = { { "auto", 0 }, { "io_uring", 1 }, { "epoll", 2 } };


static const cyaml_strval_t proxies[] = { { "false", CONFIG_PROXY_NONE }, { "no", CONFIG_PROXY_NONE }, { "true", CONFIG_PROXY_TRUSTED },
					  { "yes", CONFIG_PROXY_TRUSTED }, { "required", CONFIG_PROXY_REQUIRED } };
static const cyaml_schema_value_t network_schema = { CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char *, 1, 64) };

static const cyaml_schema_field_t listener_fields[] = {
	CYAML_FIELD_ENUM("protocol", CYAML_FLAG_STRICT, struct raw_listener, protocol, protocols, CYAML_ARRAY_LEN(protocols)),
	CYAML_FIELD_STRING_PTR("address", CYAML_FLAG_POINTER, struct raw_listener, address, 1, 512),
	CYAML_FIELD_ENUM("tls", CYAML_FLAG_STRICT | OPT, struct raw_listener, tls, tls_modes, CYAML_ARRAY_LEN(tls_modes)),
	CYAML_FIELD_ENUM("tls_min", CYAML_FLAG_STRICT | OPT, struct raw_listener, tls_min, tls_versions, CYAML_ARRAY_LEN(tls_versions)),
	CYAML_FIELD_BOOL("plaintext", OPT, struct raw_listener, plaintext),
	CYAML_FIELD_ENUM("proxy_protocol", CYAML_FLAG_STRICT | OPT, struct raw_listener, proxy, proxies, CYAML_ARRAY_LEN(proxies)),
	CYAML_FIELD_SEQUENCE_COUNT("trusted", CYAML_FLAG_POINTER | OPT, struct raw_listener, trusted, trusted_count, &network_schema, 1,
				   PROXY_TRUSTED_MAX),
	TEXT("client_ca", struct raw_listener, client_ca),
	CYAML_FIELD_ENUM("client_certificate", CYAML_FLAG_STRICT | OPT, struct raw_listener, client_certificate, client_modes,
			 CYAML_ARRAY_LEN(client_modes)),
	CYAML_FIELD_ENUM("client_name", CYAML_FLAG_STRICT | OPT, struct raw_listener, client_name, client_names, CYAML_ARRAY_LEN(client_names)),
	CYAML_FIELD_END
};
static const cyaml_schema_value_t listener_schema = {
	CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct raw_listener, listener_fields)
};

static const cyaml_strval_t directory_types[] = { { "sqlite", DIRECTORY_SQLITE }, { "passwd-file", DIRECTORY_PASSWD_FILE },
							  { "redis", DIRECTORY_REDIS } };
static const cyaml_schema_field_t one_directory_fields[] = {
	CYAML_FIELD_ENUM("type", CYAML_FLAG_STRICT, struct raw_directory, type, directory_types, CYAML_ARRAY_LEN(directory_types)),
	TEXT("path", struct raw_directory, path), TEXT("tenant", struct raw_directory, tenant), TEXT("domain", struct raw_directory, domain),
	CYAML_FIELD_END
};
static const cyaml_schema_value_t directory_schema = {
	CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct raw_directory, one_directory_fields)
};

/* Mappings inside `raw` are anonymous structs: a field's place is its offset in raw less that of the mapping. */
#define SUB_AT(room, member) .data_offset = (uint32_t)(offsetof(struct raw, room.member) - offsetof(struct raw, room))
#define SUB_INT(name_, room, member)                                                                                      \
	{ .key = name_, .value = { .type = CYAML_UINT, .flags = OPT, .data_size = sizeof(((struct raw *)0)->room.member) }, \
	  SUB_AT(room, member) }
#define SUB_BOOL(name_, room, member) \
	{ .key = name_, .value = { .type = CYAML_BOOL, .flags = OPT, .data_size = sizeof(bool) }, SUB_AT(room, member) }
#define SUB_ENUM(name_, room, member, values)                                                                            \
	{ .key = name_,                                                                                                  \
	  .value = { .type = CYAML_ENUM, .flags = (enum cyaml_flag)(OPT | CYAML_FLAG_STRICT), .data_size = sizeof(int),  \
		     .enumeration = { .strings = values, .count = CYAML_ARRAY_LEN(values) } },                           \
	  SUB_AT(room, member) }
#define SUB_TEXT(name_, room, member)                                                                                    \
	{ .key = name_,                                                                                                  \
	  .value = { .type = CYAML_STRING, .flags = (enum cyaml_flag)(OPT | CYAML_FLAG_POINTER), .data_size = 1,         \
		     .string = { .min = 1, .max = 128 } },                                                                \
	  SUB_AT(room, member) }
#define SUB_PATH(name_, room, member)                                                                                    \
	{ .key = name_,                                                                                                  \
	  .value = { .type = CYAML_STRING, .flags = (enum cyaml_flag)(OPT | CYAML_FLAG_POINTER), .data_size = 1,         \
		     .string = { .min = 1, .max = 3072 } },                                                              \
	  SUB_AT(room, member) }
#define ROOM(room, list_)                                                                                                \
	{ .key = #room,                                                                                                  \
	  .value = { .type = CYAML_MAPPING, .flags = OPT, .data_size = sizeof(((struct raw *)0)->room),                  \
		     .mapping = { .fields = list_ } },                                                                   \
	  .data_offset = offsetof(struct raw, room) }

static const cyaml_schema_field_t log_fields[] = { SUB_ENUM("level", log, level, levels), SUB_ENUM("form", log, form, forms), SUB_INT("slow_ms", log, slow_ms),
						   CYAML_FIELD_END };
static const cyaml_schema_field_t io_fields[] = {
	SUB_ENUM("backend", io, backend, backends), SUB_BOOL("pin", io, pin), SUB_TEXT("splice_min_bytes", io, splice_min_bytes),
	SUB_INT("offload_threads", io, offload_threads), SUB_INT("offload_queue_max", io, offload_queue_max), CYAML_FIELD_END
};
static const cyaml_schema_field_t store_fields[] = {
	SUB_TEXT("warm_bytes_max", store, warm_bytes_max),
	SUB_TEXT("seal_bytes", store, seal_bytes),
	SUB_TEXT("memory_body_bytes", store, memory_body_bytes),
	SUB_TEXT("file_body_bytes", store, file_body_bytes),
	SUB_TEXT("message_bytes_max", store, message_bytes_max),
	SUB_TEXT("reserve_bytes", store, reserve_bytes),
	SUB_INT("flags_sync_ms", store, flags_sync_ms),
	SUB_INT("commit_ms_max", store, commit_ms_max),
	SUB_INT("scrub_days", store, scrub_days),
	SUB_INT("log_fds_max", store, log_fds_max),
	CYAML_FIELD_END
};
static const cyaml_schema_field_t directory_fields[] = { SUB_TEXT("cache_bytes_max", directory, cache_bytes_max),
							 SUB_INT("poll_ms", directory, poll_ms),
							 SUB_INT("ask_ms_max", directory, ask_ms_max), CYAML_FIELD_END };
static const cyaml_schema_field_t auth_fields[] = { SUB_TEXT("cache_bytes_max", auth, cache_bytes_max),
						    SUB_TEXT("master_separator", auth, master_separator),
						    SUB_INT("cache_ttl_s", auth, cache_ttl_s),
						    SUB_INT("hash_queue_max", auth, hash_queue_max),
						    SUB_INT("hash_wait_ms_max", auth, hash_wait_ms_max),
						    SUB_ENUM("challenge", auth, challenge, challenges), CYAML_FIELD_END };
static const cyaml_schema_field_t oauth_fields[] = { SUB_PATH("keys", oauth, keys), SUB_PATH("issuer", oauth, issuer), SUB_PATH("audience", oauth, audience),
						     SUB_TEXT("username_claim", oauth, username_claim), SUB_INT("leeway_s", oauth, leeway_s),
						     CYAML_FIELD_END };
static const cyaml_schema_field_t gssapi_fields[] = { SUB_PATH("keytab", gssapi, keytab), SUB_TEXT("realm", gssapi, realm),
						      SUB_TEXT("domain", gssapi, domain), CYAML_FIELD_END };
static const cyaml_schema_field_t expire_fields[] = { SUB_INT("day_s", expire, day_s), SUB_INT("sweep_s", expire, sweep_s), CYAML_FIELD_END };
static const cyaml_schema_field_t pop3_fields[] = { SUB_INT("idle_s", pop3, idle_s), SUB_INT("login_idle_s", pop3, login_idle_s),
						    SUB_INT("auth_failures_max", pop3, auth_failures_max), CYAML_FIELD_END };
static const cyaml_schema_field_t imap_fields[] = { SUB_INT("idle_s", imap, idle_s), SUB_INT("login_idle_s", imap, login_idle_s),
						    SUB_INT("auth_failures_max", imap, auth_failures_max), SUB_INT("progress_ms", imap, progress_ms),
						    CYAML_FIELD_END };
static const cyaml_schema_field_t lmtp_fields[] = { SUB_INT("idle_s", lmtp, idle_s), SUB_INT("recipients_max", lmtp, recipients_max),
						    SUB_TEXT("junk_header", lmtp, junk_header), CYAML_FIELD_END };
static const cyaml_schema_field_t xmit_fields[] = {
	SUB_TEXT("address", xmit, address),
	SUB_ENUM("protocol", xmit, protocol, relays),
	SUB_TEXT("message_bytes_max", xmit, message_bytes_max),
	SUB_INT("recipients_max", xmit, recipients_max),
	SUB_INT("recipients_per_hour_max", xmit, recipients_per_hour_max),
	SUB_INT("connect_ms_max", xmit, connect_ms_max),
	SUB_INT("answer_ms_max", xmit, answer_ms_max),
	SUB_INT("data_ms_max", xmit, data_ms_max),
	CYAML_FIELD_END
};
static const cyaml_schema_field_t tls_fields[] = { SUB_PATH("certificate", tls, certificate), SUB_PATH("key", tls, key),
						   SUB_PATH("certificates", tls, certificates), SUB_PATH("ticket_keys", tls, ticket_keys),
						   SUB_TEXT("cache_bytes_max", tls, cache_bytes_max), SUB_INT("expiry_warn_days", tls, expiry_warn_days),
						   CYAML_FIELD_END };
static const cyaml_schema_field_t net_fields[] = { SUB_INT("connections_max", net, connections_max), SUB_INT("stall_s", net, stall_s),
						   SUB_INT("stop_grace_ms", net, stop_grace_ms), CYAML_FIELD_END };
static const cyaml_schema_field_t limits_fields[] = {
	{ .key = "exempt",
	  .value = { .type = CYAML_SEQUENCE, .flags = (enum cyaml_flag)(OPT | CYAML_FLAG_POINTER), .data_size = sizeof(char *),
		     .sequence = { .entry = &network_schema, .min = 0, .max = LIMIT_EXEMPT_MAX } },
	  SUB_AT(limits, exempt),
	  .count_offset = (uint32_t)(offsetof(struct raw, limits.exempt_count) - offsetof(struct raw, limits)),
	  .count_size = sizeof(unsigned) },
	SUB_INT("connections_per_address", limits, connections_per_address),
	SUB_INT("connections_per_net24", limits, connections_per_net24),
	SUB_INT("connections_per_net64", limits, connections_per_net64),
	SUB_INT("connections_per_net48", limits, connections_per_net48),
	SUB_INT("unauthenticated_max", limits, unauthenticated_max),
	SUB_INT("unauthenticated_per_address", limits, unauthenticated_per_address),
	SUB_INT("sessions_per_account", limits, sessions_per_account),
	SUB_INT("sessions_per_tenant", limits, sessions_per_tenant),
	SUB_INT("failures_free", limits, failures_free),
	SUB_INT("login_failures_free", limits, login_failures_free),
	SUB_INT("delay_first_ms", limits, delay_first_ms),
	SUB_INT("delay_ms_max", limits, delay_ms_max),
	SUB_INT("forget_s", limits, forget_s),
	SUB_TEXT("cache_bytes_max", limits, cache_bytes_max),
	CYAML_FIELD_END
};

static const cyaml_schema_field_t admin_fields[] = { SUB_TEXT("mode", admin, mode), SUB_TEXT("group", admin, group), CYAML_FIELD_END };
static const cyaml_schema_field_t http_fields[] = { SUB_TEXT("address", http, address), SUB_INT("loop_s", http, loop_s), CYAML_FIELD_END };

static const cyaml_schema_field_t top_fields[] = {
	CYAML_FIELD_STRING_PTR("data", CYAML_FLAG_POINTER, struct raw, data, 1, 1024),
	CYAML_FIELD_UINT("shards", OPT, struct raw, shards),
	TEXT("default_domain", struct raw, default_domain),
	TEXT("hostname", struct raw, hostname),
	TEXT("user", struct raw, user),
	TEXT("admin_socket", struct raw, admin_socket),
	ROOM(admin, admin_fields), ROOM(http, http_fields),
	FLEET_FIELDS(struct raw, fleet),
	CYAML_FIELD_MAPPING("redis", OPT, struct raw, redis, config_redis_fields),
	CYAML_FIELD_SEQUENCE_COUNT("listeners", CYAML_FLAG_POINTER | OPT, struct raw, listeners, listeners_count, &listener_schema, 1,
				   LISTENERS_MAX),
	CYAML_FIELD_SEQUENCE_COUNT("directories", CYAML_FLAG_POINTER | OPT, struct raw, directories, directories_count, &directory_schema, 1,
				   DIRECTORIES_MAX),
	ROOM(log, log_fields), ROOM(io, io_fields), ROOM(store, store_fields), ROOM(directory, directory_fields),
	ROOM(auth, auth_fields), ROOM(oauth, oauth_fields), ROOM(gssapi, gssapi_fields), ROOM(pop3, pop3_fields), ROOM(imap, imap_fields), ROOM(expire, expire_fields), ROOM(lmtp, lmtp_fields), ROOM(xmit, xmit_fields), ROOM(tls, tls_fields), ROOM(net, net_fields), ROOM(limits, limits_fields),
	CYAML_FIELD_END
};
static const cyaml_schema_value_t top_schema = { CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, struct raw, top_fields) };

/* ---- numbers: default, least, greatest ---- */

enum key_kind { KEY_U32, KEY_BYTES };
struct key {
	const char *name;
	enum key_kind kind;
	size_t raw, out;
	uint64_t preset, least, most;
};
#define N(room, member, preset, least, most) \
	{ #room "." #member, KEY_U32, offsetof(struct raw, room.member), offsetof(struct config, room.member), preset, least, most }
#define B(room, member, preset, least, most) \
	{ #room "." #member, KEY_BYTES, offsetof(struct raw, room.member), offsetof(struct config, room.member), preset, least, most }

static const struct key keys[] = {
	{ "shards", KEY_U32, offsetof(struct raw, shards), offsetof(struct config, shards), 0, 1, SHARDS_MAX },
	{ "http.loop_s", KEY_U32, offsetof(struct raw, http.loop_s), offsetof(struct config, http_loop_s), 5, 1, 600 },
	{ "log.slow_ms", KEY_U32, offsetof(struct raw, log.slow_ms), offsetof(struct config, slow_ms), SLOW_MS, 0, 3600000 },
	B(io, splice_min_bytes, 0, 0, MIB(1024)),
	N(io, offload_threads, 0, 1, 64),
	N(io, offload_queue_max, 1024, 16, 1 << 20),
	B(store, warm_bytes_max, MIB(256), MIB(1), MIB(1 << 20)),
	B(store, seal_bytes, MIB(64), MIB(1), MIB(2048)),
	B(store, memory_body_bytes, KIB(256), KIB(4), MIB(16)),
	B(store, file_body_bytes, MIB(1), KIB(64), MIB(64)),
	B(store, message_bytes_max, MIB(150), KIB(64), MIB(4096)),
	B(store, reserve_bytes, MIB(64), 0, MIB(1 << 20)),
	N(store, flags_sync_ms, 1000, 0, 60000),
	N(store, commit_ms_max, 20000, 100, 600000),
	N(store, scrub_days, 14, 0, 3650),
	N(store, log_fds_max, 4096, 16, 1 << 20),
	B(directory, cache_bytes_max, MIB(64), KIB(64), MIB(1 << 16)),
	N(directory, poll_ms, 250, 10, 60000),
	N(directory, ask_ms_max, 5000, 10, 60000),
	B(auth, cache_bytes_max, MIB(32), 0, MIB(1 << 16)),
	N(auth, cache_ttl_s, 600, 1, 900),
	N(auth, hash_queue_max, 512, 1, 1 << 20),
	N(auth, hash_wait_ms_max, 10000, 10, 60000),
	N(oauth, leeway_s, 60, 0, 3600),
	N(expire, day_s, EXPIRE_DAY_S, 1, EXPIRE_DAY_S),
	N(expire, sweep_s, EXPIRE_SWEEP_S, 1, 7 * 86400),
	N(pop3, idle_s, 600, 1, 86400),
	N(pop3, login_idle_s, 60, 1, 86400),
	N(pop3, auth_failures_max, 3, 1, 1000),
	N(imap, idle_s, 1860, 60, 86400),
	N(imap, login_idle_s, 60, 1, 86400),
	N(imap, auth_failures_max, 5, 1, 1000),
	N(imap, progress_ms, IMAP_PROGRESS_MS, 1, 600000),
	N(lmtp, idle_s, 300, 1, 86400),
	N(lmtp, recipients_max, 1000, 100, 100000),
	B(xmit, message_bytes_max, POP3_XMIT_BYTES_MAX, KIB(1), MIB(64)),
	N(xmit, recipients_max, POP3_XMIT_RCPTS_MAX, 1, 10000),
	N(xmit, recipients_per_hour_max, POP3_XMIT_RCPTS_PER_HOUR_MAX, 1, 1 << 30),
	N(xmit, connect_ms_max, RELAY_CONNECT_MS_MAX, 10, 60000),
	N(xmit, answer_ms_max, RELAY_ANSWER_MS_MAX, 10, 600000),
	N(xmit, data_ms_max, RELAY_DATA_MS_MAX, 10, 600000),
	B(tls, cache_bytes_max, TLS_CERTIFICATES_BYTES_MAX, KIB(64), MIB(1 << 16)),
	N(tls, expiry_warn_days, TLS_EXPIRY_WARN_DAYS, 0, 3650),
	N(redis, database, 0, 0, 1 << 20),
	N(redis, ttl_ms, FLEET_TTL_MS, 200, 600000),
	N(redis, renew_ms, FLEET_RENEW_MS, 10, 300000),
	N(redis, margin_ms, FLEET_MARGIN_MS, 10, 300000),
	N(redis, idle_ms, FLEET_IDLE_MS, 0, 86400000),
	N(redis, take_wait_ms, FLEET_TAKE_WAIT_MS, 1, 60000),
	N(redis, connect_ms_max, REDIS_CONNECT_MS_MAX, 10, 60000),
	N(redis, answer_ms_max, REDIS_ANSWER_MS_MAX, 10, 60000),
	N(net, connections_max, 0, 0, 1 << 24),
	N(net, stall_s, 60, 1, 86400),
	N(net, stop_grace_ms, 5000, 0, 600000),
	N(limits, connections_per_address, LIMIT_PER_ADDRESS, 0, 1 << 24),
	N(limits, connections_per_net24, LIMIT_PER_NET24, 0, 1 << 24),
	N(limits, connections_per_net64, LIMIT_PER_NET64, 0, 1 << 24),
	N(limits, connections_per_net48, LIMIT_PER_NET48, 0, 1 << 24),
	N(limits, unauthenticated_max, 0, 0, 1 << 24),
	N(limits, unauthenticated_per_address, LIMIT_WAITING_PER_ADDRESS, 0, 1 << 24),
	N(limits, sessions_per_account, LIMIT_PER_ACCOUNT, 0, 1 << 24),
	N(limits, sessions_per_tenant, 0, 0, 1 << 24),
	N(limits, failures_free, GUARD_FAILURES_FREE, 0, 1000),
	N(limits, login_failures_free, GUARD_NAME_FAILURES_FREE, 0, 1000),
	N(limits, delay_first_ms, GUARD_DELAY_FIRST_MS, 0, 60000),
	N(limits, delay_ms_max, GUARD_DELAY_MS_MAX, 0, 60000),
	N(limits, forget_s, GUARD_FORGET_S, 1, 7 * 86400),
	B(limits, cache_bytes_max, TALLY_CACHE_BYTES_MAX, KIB(64), MIB(4096)),
};

bool config_parse_bytes(struct slice text, uint64_t *bytes_out)
{
	static const struct {
		const char *unit;
		unsigned shift;
	} units[] = { { "KiB", 10 }, { "MiB", 20 }, { "GiB", 30 }, { "", 0 } };
	text = slice_trim(text);
	for (size_t i = 0; i < ARRAY_LEN(units); i++) {
		struct slice unit = slice_str(units[i].unit);
		if (text.len < unit.len || !slice_eq_nocase(slice_from(text, text.len - unit.len), unit))
			continue;
		uint64_t n;
		if (!slice_u64(slice_trim(slice_upto(text, text.len - unit.len)), UINT64_MAX >> units[i].shift, &n))
			return false;
		*bytes_out = n << units[i].shift;
		return true;
	}
	return false;
}

static enum err take_key(struct settings *s, const struct key *key, const struct raw *raw, struct config *config)
{
	uint64_t value = key->preset;
	bool given = settings_line(s, key->name) != 0;
	const void *from = (const char *)raw + key->raw;
	void *to = (char *)config + key->out;
	if (given && key->kind == KEY_U32) {
		value = *(const uint32_t *)from;
	} else if (given) {
		const char *text = *(char *const *)from;
		if (!config_parse_bytes(slice_str(text), &value))
			return settings_refuse(s, key->name, "expected a size such as 65536, 64 KiB or 10 MiB; got \"%s\"", text);
	}
	if (given && (value < key->least || value > key->most))
		return settings_refuse(s, key->name, "expected a value from %llu to %llu; got %llu", (unsigned long long)key->least,
				       (unsigned long long)key->most, (unsigned long long)value);
	if (key->kind == KEY_U32)
		*(uint32_t *)to = (uint32_t)value;
	else
		*(uint64_t *)to = value;
	return OK;
}

/* ---- the rest: names, addresses, relations ---- */

char *config_text(const char *text)
{
	return text ? xstrdup(text) : NULL;
}

char *config_own_hostname(void)
{
	char name[256];
	if (gethostname(name, sizeof name) != 0)
		return xstrdup("localhost");
	name[sizeof name - 1] = 0;
	return xstrdup(name[0] ? name : "localhost");
}

/* Where a key stands, for messages about what only a start can tell. */
char *config_place(const struct settings *s, const char *path, const char *key)
{
	char *where = NULL;
	unsigned line = settings_line(s, key);
	int len = line ? asprintf(&where, "%s:%u: %s", path, line, key) : asprintf(&where, "%s: %s", path, key);
	ASSERT(len >= 0);
	return where;
}

static bool has_certificate(const struct config *config) { return config->tls.certificate || config->tls.certificates; }

static enum err take_tls(struct settings *s, const struct raw *raw, struct config *config)
{
	config->tls.certificate = config_text(raw->tls.certificate);
	config->tls.key = config_text(raw->tls.key);
	config->tls.certificates = config_text(raw->tls.certificates);
	config->tls.ticket_keys = config_text(raw->tls.ticket_keys);
	config->tls.where_certificate = config_place(s, config->path, "tls.certificate");
	config->tls.where_certificates = config_place(s, config->path, "tls.certificates");
	config->tls.where_ticket_keys = config_place(s, config->path, "tls.ticket_keys");
	if (config->tls.certificate && !config->tls.key)
		return settings_refuse(s, "tls.certificate", "expected tls.key beside it, the file of its private key");
	if (config->tls.key && !config->tls.certificate)
		return settings_refuse(s, "tls.key", "expected tls.certificate beside it");
	return OK;
}

static enum err take_oauth(struct settings *s, const struct raw *raw, struct config *config)
{
	config->oauth.keys = config_text(raw->oauth.keys);
	config->oauth.issuer = config_text(raw->oauth.issuer);
	config->oauth.audience = config_text(raw->oauth.audience);
	config->oauth.username_claim = config_text(raw->oauth.username_claim ? raw->oauth.username_claim : "email");
	config->oauth.where_keys = config_place(s, config->path, "oauth.keys");
	if (config->oauth.keys && (!config->oauth.issuer || !config->oauth.audience))
		return settings_refuse(s, "oauth.keys", "expected oauth.issuer and oauth.audience beside it: tokens of others must not do");
	if (!config->oauth.keys && (config->oauth.issuer || config->oauth.audience || raw->oauth.username_claim))
		return settings_refuse(s, config->oauth.issuer ? "oauth.issuer" : config->oauth.audience ? "oauth.audience" : "oauth.username_claim",
				       "expected oauth.keys beside it, the file of the issuer's public keys");
	return OK;
}

static enum err take_gssapi(struct settings *s, const struct raw *raw, struct config *config)
{
	config->gssapi.keytab = config_text(raw->gssapi.keytab);
	config->gssapi.realm = config_text(raw->gssapi.realm);
	config->gssapi.domain = config_text(raw->gssapi.domain);
	config->gssapi.where_keytab = config_place(s, config->path, "gssapi.keytab");
	if (config->gssapi.domain && !config->gssapi.realm)
		return settings_refuse(s, "gssapi.domain", "expected gssapi.realm beside it: users of which realm are those of the domain");
	if (config->gssapi.realm && !config->gssapi.keytab)
		return settings_refuse(s, "gssapi.realm", "expected gssapi.keytab beside it");
	return OK;
}

/* What a listener does about TLS: as it says, else STARTTLS where there is a certificate and the way there can be overheard. */
static enum err take_listener_tls(struct settings *s, const struct raw_listener *raw, unsigned number, const struct config *config,
				  const struct addr *addr, struct config_listener *out)
{
	char key[64];
	snprintf(key, sizeof key, "listeners[%u].tls", number);
	bool given = settings_line(s, key) != 0;
	if (given)
		out->tls = (enum config_tls)raw->tls;
	else
		out->tls = has_certificate(config) && !addr_is_unix(addr) ? CONFIG_TLS_STARTTLS : CONFIG_TLS_NONE;
	if (out->tls != CONFIG_TLS_NONE && !has_certificate(config))
		return settings_refuse(s, key, "expected tls.certificate and tls.key, or tls.certificates, in this file too");
	out->tls13_only = raw->tls_min == 13;
	out->plaintext = raw->plaintext;
	return OK;
}

static enum err take_networks(struct settings *s, const char *list_key, char *const *texts, unsigned count, struct cidr **out, unsigned *count_out)
{
	*out = xcalloc(count + 1, sizeof **out);
	for (unsigned i = 0; i < count; i++) {
		char key[96];
		snprintf(key, sizeof key, "%s[%u]", list_key, i + 1);
		if (cidr_parse(slice_str(texts[i]), &(*out)[i]) != OK)
			return settings_refuse(s, key, "expected a network (\"192.0.2.0/24\", \"2001:db8::/32\") or an address; got \"%s\"", texts[i]);
		*count_out = i + 1;
	}
	return OK;
}

/* Who may speak for others: by default only this machine. */
static enum err take_listener_proxy(struct settings *s, const struct raw_listener *raw, unsigned number, struct config_listener *out)
{
	static char v4[] = "127.0.0.0/8", v6[] = "::1";
	static char *const here[] = { v4, v6 };
	char key[64];
	snprintf(key, sizeof key, "listeners[%u].trusted", number);
	out->proxy = (enum config_proxy)raw->proxy;
	if (raw->trusted_count && out->proxy == CONFIG_PROXY_NONE)
		return settings_refuse(s, key, "expected proxy_protocol: true or required beside it");
	return take_networks(s, key, raw->trusted_count ? raw->trusted : here, raw->trusted_count ? raw->trusted_count : ARRAY_LEN(here), &out->trusted,
			     &out->trusted_count);
}

/* Certificates of clients: asked for where there is an authority to check them by. */
static enum err take_listener_client(struct settings *s, const struct raw_listener *raw, unsigned number, struct config_listener *out)
{
	char key[64];
	snprintf(key, sizeof key, "listeners[%u].client_certificate", number);
	bool given = settings_line(s, key) != 0;
	out->client_ca = config_text(raw->client_ca);
	out->client_certificate = given ? raw->client_certificate : raw->client_ca ? TLS_CLIENT_ASKED : TLS_CLIENT_UNASKED;
	out->client_name = raw->client_name;
	if (out->client_certificate != TLS_CLIENT_UNASKED && !out->client_ca)
		return settings_refuse(s, key, "expected client_ca beside it, a PEM file of authorities");
	snprintf(key, sizeof key, "listeners[%u].client_ca", number);
	if (out->client_ca && out->tls == CONFIG_TLS_NONE)
		return settings_refuse(s, key, "expected a listener with TLS");
	return OK;
}

/* "systemd:NAME"; a name as systemd takes it for FileDescriptorName=. */
static bool names_given_socket(const char *address)
{
	struct slice name = slice_str(address), prefix = SLICE_LIT(GIVEN_ADDRESS);
	if (!slice_eq(slice_upto(name, prefix.len), prefix))
		return false;
	name = slice_from(name, prefix.len);
	for (size_t i = 0; i < name.len; i++)
		if (name.ptr[i] <= ' ' || name.ptr[i] > '~' || name.ptr[i] == ':')
			return false;
	return name.len > 0 && name.len <= 255;
}

static enum err take_listeners(struct settings *s, const struct raw *raw, struct config *config)
{
	config->listeners = xcalloc(raw->listeners_count ? raw->listeners_count : 1, sizeof *config->listeners);
	for (unsigned i = 0; i < raw->listeners_count; i++) {
		char key[64];
		struct addr addr;
		snprintf(key, sizeof key, "listeners[%u].address", i + 1);
		if (addr_parse(slice_str(raw->listeners[i].address), &addr) != OK && !names_given_socket(raw->listeners[i].address))
			return settings_refuse(s, key, "expected \"HOST:PORT\" with a numeric HOST, \"[IPV6]:PORT\", \"unix:PATH\" or \"systemd:NAME\"; got \"%s\"",
					       raw->listeners[i].address);
		config->listeners[i].protocol = (enum config_protocol)raw->listeners[i].protocol;
		config->listeners[i].address = xstrdup(raw->listeners[i].address);
		config->listeners[i].where = config_place(s, config->path, key);
		config->listeners_count = i + 1;
		enum err e = take_listener_tls(s, &raw->listeners[i], i + 1, config, &addr, &config->listeners[i]);
		if (e == OK)
			e = take_listener_proxy(s, &raw->listeners[i], i + 1, &config->listeners[i]);
		if (e == OK)
			e = take_listener_client(s, &raw->listeners[i], i + 1, &config->listeners[i]);
		if (e != OK)
			return e;
	}
	return OK;
}

static enum err take_directory(struct settings *s, const struct raw_directory *raw, unsigned number, struct directory_source *out)
{
	char key[64];
	snprintf(key, sizeof key, "directories[%u].type", number);
	*out = (struct directory_source){ (enum directory_kind)raw->type, config_text(raw->path), config_text(raw->tenant), config_text(raw->domain) };
	if (out->kind == DIRECTORY_SQLITE && (out->path || out->tenant || out->domain))
		return settings_refuse(s, key, "expected nothing beside sqlite: it lies in the data folder and knows its tenants");
	if (out->kind == DIRECTORY_PASSWD_FILE && (!out->path || !out->tenant))
		return settings_refuse(s, key, "expected path, and tenant (whose accounts they are), beside passwd-file");
	if (out->kind == DIRECTORY_REDIS && (!out->tenant || out->path || out->domain))
		return settings_refuse(s, key, "expected tenant (whose accounts they are), and nothing else, beside redis");
	if (out->kind == DIRECTORY_REDIS && !settings_line(s, "redis.address") && !settings_line(s, "redis.sentinel.master"))
		return settings_refuse(s, key, "expected redis.address or redis.sentinel in this file too: the server to ask");
	return OK;
}

static enum err take_directories(struct settings *s, const struct raw *raw, struct config *config)
{
	config->directories = xcalloc(raw->directories_count ? raw->directories_count : 1, sizeof *config->directories);
	for (unsigned i = 0; i < raw->directories_count; i++) {
		config->directories_count = i + 1;
		enum err e = take_directory(s, &raw->directories[i], i + 1, &config->directories[i]);
		if (e != OK)
			return e;
		for (unsigned k = 0; k < i; k++)
			if (raw->directories[i].type != DIRECTORY_PASSWD_FILE && raw->directories[k].type == raw->directories[i].type) {
				char key[64];
				snprintf(key, sizeof key, "directories[%u].type", i + 1);
				return settings_refuse(s, key, "expected %s once", raw->directories[i].type == DIRECTORY_REDIS ? "redis" : "sqlite");
			}
	}
	return OK;
}

/* Not a byte that the other forms of a login are read by. */
static enum err take_auth(struct settings *s, const struct raw *raw, struct config *config)
{
	const char *given = raw->auth.master_separator;
	config->auth.master_separator = given ? given[0] : 0;
	if (!given || (strlen(given) == 1 && strchr("*#~!/|=^$&;", given[0])))
		return OK;
	return settings_refuse(s, "auth.master_separator", "expected one of * # ~ ! / | = ^ $ & ;  got \"%s\"", given);
}

/* "Name: value" or "Name". */
static enum err take_lmtp(struct settings *s, const struct raw *raw, struct config *config)
{
	struct slice text = slice_str(raw->lmtp.junk_header ? raw->lmtp.junk_header : ""), name, value;
	size_t colon = slice_find(text, ':');
	if (!raw->lmtp.junk_header)
		return OK;
	name = slice_upto(text, colon);
	value = colon == SIZE_MAX ? slice_of("", 0) : slice_trim(slice_from(text, colon + 1));
	for (size_t i = 0; i < name.len; i++)
		if (name.ptr[i] <= ' ' || name.ptr[i] > '~') /* RFC 5322 section 3.6.8 */
			name.len = 0;
	if (!name.len)
		return settings_refuse(s, "lmtp.junk_header", "expected a header field, \"X-Spam: Yes\"; got \"%s\"", raw->lmtp.junk_header);
	config->lmtp.junk_name = slice_dup(name);
	config->lmtp.junk_value = slice_dup(value);
	return OK;
}

static enum err take_xmit(struct settings *s, const struct raw *raw, struct config *config)
{
	config->xmit.smtp = raw->xmit.protocol == XMIT_SMTP;
	if (!raw->xmit.address || (addr_parse(slice_str(raw->xmit.address), &config->xmit.address) == OK &&
				   (addr_is_unix(&config->xmit.address) || addr_port(&config->xmit.address) != 0)))
		return OK;
	return settings_refuse(s, "xmit.address", "expected \"HOST:PORT\" with a numeric HOST, \"[IPV6]:PORT\" or \"unix:PATH\"; got \"%s\"", raw->xmit.address);
}

/* The admin socket's file: who may connect at all. */
static enum err take_admin(struct settings *s, const struct raw *raw, struct config *config)
{
	config->admin.mode = 0600;
	if (raw->admin.mode) {
		char *end;
		unsigned long mode = strtoul(raw->admin.mode, &end, 8);
		if (*end || mode > 0666 || (mode & 0111) || (mode & 0600) != 0600)
			return settings_refuse(s, "admin.mode", "expected an octal file mode from \"0600\" to \"0666\"; got \"%s\"", raw->admin.mode);
		config->admin.mode = (uint32_t)mode;
	}
	if (!raw->admin.group)
		return OK;
	const struct group *group = getgrnam(raw->admin.group);
	if (!group)
		return settings_refuse(s, "admin.group", "expected a group of this system; got \"%s\"", raw->admin.group);
	config->admin.group = group->gr_gid;
	config->admin.group_set = true;
	return OK;
}

static enum err take_http(struct settings *s, const struct raw *raw, struct config *config)
{
	struct addr a;
	if (!raw->http.address)
		return OK;
	if (addr_parse(slice_str(raw->http.address), &a) != OK || addr_is_unix(&a))
		return settings_refuse(s, "http.address", "expected \"HOST:PORT\" with a numeric HOST, or \"[IPV6]:PORT\"; got \"%s\"", raw->http.address);
	config->http_address = xstrdup(raw->http.address);
	config->where_http = config_place(s, config->path, "http.address");
	return OK;
}

/* Host names and domains end up in protocol lines. */
static bool host_like(const char *name)
{
	for (const char *p = name; *p; p++)
		if (!((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9') || *p == '.' || *p == '-' ||
		      *p == '_' || *p == '[' || *p == ']' || *p == ':' || (unsigned char)*p >= 0x80))
			return false;
	return *name != 0 && strlen(name) <= 255;
}

static enum err check_names(struct settings *s, const struct config *config)
{
	if (!host_like(config->hostname))
		return settings_refuse(s, "hostname", "expected a host name; got \"%s\"", config->hostname);
	if (config->default_domain && !host_like(config->default_domain))
		return settings_refuse(s, "default_domain", "expected a domain; got \"%s\"", config->default_domain);
	if (config->store.file_body_bytes < config->store.memory_body_bytes)
		return settings_refuse(s, "store.file_body_bytes", "expected at least store.memory_body_bytes");
	if (config->store.message_bytes_max < config->store.file_body_bytes)
		return settings_refuse(s, "store.message_bytes_max", "expected at least store.file_body_bytes");
	return OK;
}

static enum err take_all(struct settings *s, const struct raw *raw, struct config *config)
{
	config->data = config_text(raw->data);
	config->default_domain = config_text(raw->default_domain);
	config->hostname = raw->hostname ? config_text(raw->hostname) : config_own_hostname();
	config->user = config_text(raw->user);
	enum err e = config_take_node(s, &raw->fleet, config);
	if (e != OK)
		return e;
	if (raw->admin_socket) {
		config->admin_socket = config_text(raw->admin_socket);
	} else { /* where several nodes share a folder, each has its own */
		config->admin_socket = xmalloc(strlen(config->data) + strlen(config->node) + 24);
		sprintf(config->admin_socket, "%s/penfold%s%s.sock", config->data, config->placement_any ? "-" : "", config->placement_any ? config->node : "");
	}
	config->where_data = config_place(s, config->path, "data");
	config->where_user = config_place(s, config->path, "user");
	config->where_admin_socket = config_place(s, config->path, "admin_socket");
	config->log_level = settings_line(s, "log.level") ? (enum log_level)raw->log.level : LOG_INFO;
	config->log_form = settings_line(s, "log.form") ? (enum log_form)raw->log.form : LOG_FORM_KEYS;
	config->io.backend = xstrdup(backends[raw->io.backend].str);
	config->io.pin = settings_line(s, "io.pin") ? raw->io.pin : true;
	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		e = take_key(s, &keys[i], raw, config);
		if (e != OK)
			return e;
	}
	e = take_tls(s, raw, config);
	if (e == OK)
		e = config_take_redis(s, &raw->redis, config);
	if (e == OK)
		e = take_listeners(s, raw, config);
	if (e == OK)
		e = take_lmtp(s, raw, config);
	if (e == OK)
		e = take_xmit(s, raw, config);
	if (e == OK)
		e = take_auth(s, raw, config);
	if (e == OK)
		e = take_directories(s, raw, config);
	if (e == OK)
		e = take_admin(s, raw, config);
	if (e == OK)
		e = take_http(s, raw, config);
	if (e == OK)
		e = take_networks(s, "limits.exempt", raw->limits.exempt, raw->limits.exempt_count, &config->limits.exempt, &config->limits.exempt_count);
	if (e == OK)
		e = take_oauth(s, raw, config);
	if (e == OK)
		e = take_gssapi(s, raw, config);
	return e != OK ? e : check_names(s, config);
}

enum err config_load(const char *path, struct config **config_out, char *error_out, size_t error_bytes)
{
	struct settings s;
	void *value = NULL;
	struct config *config = xcalloc(1, sizeof *config);
	settings_init(&s);
	enum err e = settings_load(&s, path, &top_schema, &value);
	if (e == OK) {
		struct raw *raw = value;
		config->path = xstrdup(path);
		e = take_all(&s, raw, config);
		settings_free_value(&top_schema, value);
	}
	if (e != OK) {
		snprintf(error_out, error_bytes, "%s", s.message);
		config_release(config);
		config = NULL;
	}
	settings_release(&s);
	*config_out = config;
	return e == OK ? OK : ERR_CONFIG;
}

/* Those that may change in place: bounds and the log. */
static bool is_live(const char *name)
{
	bool limits = strncmp(name, "limits.", 7) == 0 && strcmp(name, "limits.cache_bytes_max") != 0;
	return limits || strcmp(name, "log.slow_ms") == 0;
}

void config_restart_numbers(const struct config *a, const struct config *b, void (*name)(void *arg, const char *name), void *arg)
{
	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		size_t bytes = keys[i].kind == KEY_U32 ? sizeof(uint32_t) : sizeof(uint64_t);
		if (!is_live(keys[i].name) && memcmp((const char *)a + keys[i].out, (const char *)b + keys[i].out, bytes) != 0)
			name(arg, keys[i].name);
	}
}

void config_release(struct config *config)
{
	if (!config)
		return;
	for (unsigned i = 0; i < config->listeners_count; i++) {
		free(config->listeners[i].address);
		free(config->listeners[i].where);
		free(config->listeners[i].trusted);
		free(config->listeners[i].client_ca);
	}
	for (unsigned i = 0; i < config->directories_count; i++) {
		free((void *)(uintptr_t)config->directories[i].path);
		free((void *)(uintptr_t)config->directories[i].tenant);
		free((void *)(uintptr_t)config->directories[i].domain);
	}
	free(config->directories);
	config_release_fleet(config);
	free(config->where_data);
	free(config->where_user);
	free(config->where_admin_socket);
	free(config->listeners);
	free(config->path);
	free(config->data);
	free(config->default_domain);
	free(config->hostname);
	free(config->user);
	free(config->admin_socket);
	free(config->http_address);
	free(config->where_http);
	free(config->io.backend);
	free(config->limits.exempt);
	free(config->gssapi.keytab);
	free(config->gssapi.realm);
	free(config->gssapi.domain);
	free(config->gssapi.where_keytab);
	free(config->oauth.keys);
	free(config->oauth.issuer);
	free(config->oauth.audience);
	free(config->oauth.username_claim);
	free(config->oauth.where_keys);
	free(config->lmtp.junk_name);
	free(config->lmtp.junk_value);
	free(config->tls.certificate);
	free(config->tls.key);
	free(config->tls.certificates);
	free(config->tls.ticket_keys);
	free(config->tls.where_certificate);
	free(config->tls.where_certificates);
	free(config->tls.where_ticket_keys);
	free(config);
}
