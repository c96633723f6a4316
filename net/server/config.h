/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config.h - the configuration file as a checked, frozen struct.
 *
 * For serve and the tools.  deploy/penfold.yaml documents every key; the schema in config.c is the truth for names and
 * types.  config_load either fills everything (defaults included) or says in one line what is wrong and where, and
 * returns ERR_CONFIG.  All memory belongs to the struct and goes with config_release.
 */
#ifndef PENFOLD_NET_SERVER_CONFIG_H
#define PENFOLD_NET_SERVER_CONFIG_H

#include "core/base/addr.h"
#include "core/base/cidr.h"
#include "core/base/err.h"
#include "core/base/log.h"
#include "net/sasl.h"
#include "tenancy/directory.h"
#include "net/tls.h"

enum config_protocol { CONFIG_POP3, CONFIG_LMTP, CONFIG_IMAP };
enum config_tls { CONFIG_TLS_NONE, CONFIG_TLS_STARTTLS, CONFIG_TLS_IMPLICIT };

enum config_proxy { CONFIG_PROXY_NONE, CONFIG_PROXY_TRUSTED, CONFIG_PROXY_REQUIRED };

struct config_listener {
	enum config_protocol protocol;
	char *address, *where; /* where: "penfold.yaml:3: listeners[1].address", for messages */
	enum config_tls tls;
	bool tls13_only, plaintext;
	enum config_proxy proxy;
	struct cidr *trusted; /* proxies */
	unsigned trusted_count;
	int client_certificate, client_name; /* enum tls_client_wish, enum client_name */
	char *client_ca;                     /* NULL: none */
};

struct config {
	char *path;
	char *data;
	unsigned shards; /* 0 = one per core */
	char *default_domain, *hostname, *user, *admin_socket;
	char *where_data, *where_user, *where_admin_socket; /* "penfold.yaml:1: data" */
	char *http_address, *where_http; /* NULL: no HTTP */
	uint32_t http_loop_s; /* a shard that has not turned for so long is not alive */
	struct {
		uint32_t mode, group;
		bool group_set;
	} admin;
	struct config_listener *listeners;
	unsigned listeners_count;
	enum log_level log_level;
	enum log_form log_form;
	uint32_t slow_ms; /* 0: nothing is slow */
	/* the fleet */
	char *node; /* this node's name */
	bool node_given, placement_any;
	struct {
		char *address;                /* NULL: none */
		char *certificate, *key, *ca; /* all or none */
		char *secret;                 /* the fleet's key; NULL: none */
		char *where;
	} peer;
	struct config_node {
		char *name, *address;
	} *nodes; /* placement home: all of them */
	unsigned nodes_count;
	struct {
		char **addresses; /* of the server; of a cluster several. NULL and 0: no Redis */
		unsigned addresses_count;
		char *user, *password, *password_file; /* password: also what the file had at the start */
		uint32_t database;
		bool cluster, tls;
		char *tls_ca, *tls_name, *tls_certificate, *tls_key; /* NULL: the system's; as the address says; none */
		char *where_tls_ca, *where_tls_certificate;
		struct {
			char *master, *user, *password; /* master NULL: no Sentinel */
			char **addresses;
			unsigned addresses_count;
		} sentinel;
		uint32_t ttl_ms, renew_ms, margin_ms, idle_ms, take_wait_ms, connect_ms_max, answer_ms_max;
	} redis;
	struct {
		char *backend;
		bool pin;
		uint64_t splice_min_bytes;
		unsigned offload_threads, offload_queue_max;
	} io;
	struct {
		uint64_t warm_bytes_max, seal_bytes, memory_body_bytes, file_body_bytes, message_bytes_max, reserve_bytes;
		uint32_t flags_sync_ms, commit_ms_max, scrub_days, log_fds_max;
	} store;
	struct {
		uint64_t cache_bytes_max;
		uint32_t poll_ms, ask_ms_max;
	} directory;
	struct directory_source *directories; /* in their order; none: SQLite alone */
	unsigned directories_count;
	struct {
		uint64_t cache_bytes_max;
		uint32_t cache_ttl_s, hash_queue_max, hash_wait_ms_max;
		char master_separator; /* 0: none */
		int challenge; /* enum sasl_challenge */
	} auth;
	struct {
		char *keys, *issuer, *audience, *username_claim; /* keys NULL: no bearer tokens */
		char *where_keys;
		uint32_t leeway_s;
	} oauth;
	struct {
		char *keytab, *realm, *domain; /* keytab NULL: no GSSAPI */
		char *where_keytab;
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
		char *junk_name, *junk_value; /* of the header field that marks junk; NULL: none does */
	} lmtp;
	struct {
		struct addr address; /* len 0: none */
		bool smtp;           /* else LMTP */
		uint64_t message_bytes_max;
		uint32_t recipients_max, recipients_per_hour_max, connect_ms_max, answer_ms_max, data_ms_max;
	} xmit;
	struct {
		char *certificate, *key, *certificates, *ticket_keys; /* NULL: none */
		char *where_certificate, *where_certificates, *where_ticket_keys;
		uint64_t cache_bytes_max;
		uint32_t expiry_warn_days;
	} tls;
	struct {
		uint32_t connections_max, stall_s, stop_grace_ms;
	} net;
	struct {
		struct cidr *exempt;
		unsigned exempt_count;
		/* 0: none; unauthenticated_max 0: half of all connections */
		uint32_t connections_per_address, connections_per_net24, connections_per_net64, connections_per_net48, unauthenticated_max,
			unauthenticated_per_address, sessions_per_account, sessions_per_tenant;
		uint32_t failures_free, login_failures_free, delay_first_ms, delay_ms_max, forget_s;
		uint64_t cache_bytes_max;
	} limits;
};

/* Reads and checks a file. On ERR_CONFIG, error_out (bytes large, NUL-terminated) holds one line for the operator. Blocking. */
enum err config_load(const char *path, struct config **config_out, char *error_out, size_t error_bytes);
void config_release(struct config *config);
/* Names each setting that differs and that a running server cannot take over. Now. */
void config_restart_names(const struct config *running, const struct config *fresh, void (*name)(void *arg, const char *name), void *arg);

/* "64 MiB", "4096", "1GiB" to bytes; false if it is none. */
bool config_parse_bytes(struct slice text, uint64_t *bytes_out);

#endif
