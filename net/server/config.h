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
#include "core/base/err.h"
#include "core/base/log.h"

enum config_protocol { CONFIG_POP3, CONFIG_LMTP };
enum config_tls { CONFIG_TLS_NONE, CONFIG_TLS_STARTTLS, CONFIG_TLS_IMPLICIT };

struct config_listener {
	enum config_protocol protocol;
	char *address, *where; /* where: "penfold.yaml:3: listeners[1].address", for messages */
	enum config_tls tls;
	bool tls13_only, plaintext;
};

struct config {
	char *path;
	char *data;
	unsigned shards; /* 0 = one per core */
	char *default_domain, *hostname, *user, *admin_socket;
	char *where_data, *where_user, *where_admin_socket; /* "penfold.yaml:1: data" */
	char *node;         /* this node's name in listings */
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
	struct {
		uint64_t cache_bytes_max;
		uint32_t cache_ttl_s, hash_queue_max, hash_wait_ms_max;
	} auth;
	struct {
		uint32_t idle_s, login_idle_s, auth_failures_max;
	} pop3;
	struct {
		uint32_t idle_s, recipients_max;
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
	} tls;
	struct {
		uint32_t connections_max, stall_s, stop_grace_ms;
	} net;
};

/* Reads and checks a file. On ERR_CONFIG, error_out (bytes large, NUL-terminated) holds one line for the operator. Blocking. */
enum err config_load(const char *path, struct config **config_out, char *error_out, size_t error_bytes);
void config_release(struct config *config);

/* "64 MiB", "4096", "1GiB" to bytes; false if it is none. */
bool config_parse_bytes(struct slice text, uint64_t *bytes_out);

#endif
