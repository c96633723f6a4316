/* SPDX-License-Identifier: Apache-2.0 */
/* config_private.h - what config.c and config_fleet.c share: the fleet's part of the raw file, and small helpers. */
#ifndef PENFOLD_NET_SERVER_CONFIG_PRIVATE_H
#define PENFOLD_NET_SERVER_CONFIG_PRIVATE_H

#include "core/base/settings.h"
#include "net/server/config.h"

#include <cyaml/cyaml.h>

#define OPT CYAML_FLAG_OPTIONAL
#define TEXT(key, type, member) CYAML_FIELD_STRING_PTR(key, CYAML_FLAG_POINTER | OPT, type, member, 1, 4096)

/* ---- the raw file ---- */

struct raw_node {
	char *name, *address;
};
struct raw_peer {
	char *address, *certificate, *key, *ca, *key_file;
};
struct raw_sentinel {
	char *master, *user, *password;
	char **addresses;
	unsigned addresses_count;
};
struct raw_redis {
	char *address;
	char **addresses;
	unsigned addresses_count;
	char *user, *password, *password_file, *tls_ca, *tls_name, *tls_certificate, *tls_key;
	uint32_t database, ttl_ms, renew_ms, margin_ms, idle_ms, take_wait_ms, connect_ms_max, answer_ms_max;
	bool cluster, tls;
	struct raw_sentinel sentinel;
};
enum { RAW_HOME = 1, RAW_ANY, RAW_PLACEMENTS = 2 };
struct raw_fleet {
	char *node;
	int placement;
	struct raw_peer peer;
	struct raw_node *nodes;
	unsigned nodes_count;
};

extern const cyaml_strval_t config_placements[RAW_PLACEMENTS];
extern const cyaml_schema_value_t config_node_schema;
extern const cyaml_schema_field_t config_peer_fields[], config_redis_fields[];
/* Fields of the top whose place is in `member`, a struct raw_fleet. */
#define FLEET_FIELDS(type, member)                                                                                                        \
	TEXT("node", type, member.node),                                                                                                  \
		CYAML_FIELD_ENUM("placement", CYAML_FLAG_STRICT | OPT, type, member.placement, config_placements, RAW_PLACEMENTS),         \
		CYAML_FIELD_MAPPING("peer", OPT, type, member.peer, config_peer_fields),                                                  \
		CYAML_FIELD_SEQUENCE_COUNT("nodes", CYAML_FLAG_POINTER | OPT, type, member.nodes, member.nodes_count, &config_node_schema, 1, \
					   FLEET_NODES_MAX)

enum err config_take_node(struct settings *s, const struct raw_fleet *raw, struct config *config);
enum err config_take_redis(struct settings *s, const struct raw_redis *raw, struct config *config);
void config_release_fleet(struct config *config);

/* The part of config_restart_names that walks the numbers (config.c). */
void config_restart_numbers(const struct config *a, const struct config *b, void (*name)(void *arg, const char *name), void *arg);

/* ---- helpers (config.c) ---- */

char *config_text(const char *text); /* a copy; NULL stays NULL */
char *config_own_hostname(void);
/* Where a key stands, for messages about what only a start can tell. */
char *config_place(const struct settings *s, const char *path, const char *key);

#endif
