/* SPDX-License-Identifier: Apache-2.0 */
/* config_fleet.c - of penfold.yaml: node, placement, peer, nodes and redis. */
#include "net/server/config_private.h"

#include "core/base/addr.h"
#include "core/base/limits.h"
#include "net/server/redis_watch.h"

#include <stdio.h>
#include <stdlib.h>

const cyaml_strval_t config_placements[] = { { "home", RAW_HOME }, { "any", RAW_ANY } };
static const cyaml_schema_value_t text_schema = { CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char, 1, 512) };
static const cyaml_schema_field_t node_fields[] = { CYAML_FIELD_STRING_PTR("name", CYAML_FLAG_POINTER, struct raw_node, name, 1, 512),
						    TEXT("address", struct raw_node, address), CYAML_FIELD_END };
const cyaml_schema_value_t config_node_schema = { CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct raw_node, node_fields) };
const cyaml_schema_field_t config_peer_fields[] = { TEXT("address", struct raw_peer, address), TEXT("certificate", struct raw_peer, certificate),
							TEXT("key", struct raw_peer, key), TEXT("ca", struct raw_peer, ca),
							TEXT("key_file", struct raw_peer, key_file), CYAML_FIELD_END };
static const cyaml_schema_field_t sentinel_fields[] = {
	CYAML_FIELD_STRING_PTR("master", CYAML_FLAG_POINTER, struct raw_sentinel, master, 1, 512),
	CYAML_FIELD_SEQUENCE_COUNT("addresses", CYAML_FLAG_POINTER, struct raw_sentinel, addresses, addresses_count, &text_schema, 1, 32),
	TEXT("user", struct raw_sentinel, user),
	TEXT("password", struct raw_sentinel, password),
	CYAML_FIELD_END
};
const cyaml_schema_field_t config_redis_fields[] = {
	TEXT("address", struct raw_redis, address),
	CYAML_FIELD_SEQUENCE_COUNT("addresses", CYAML_FLAG_POINTER | OPT, struct raw_redis, addresses, addresses_count, &text_schema, 1, 32),
	TEXT("user", struct raw_redis, user),
	TEXT("password", struct raw_redis, password),
	TEXT("password_file", struct raw_redis, password_file),
	CYAML_FIELD_UINT("database", OPT, struct raw_redis, database),
	CYAML_FIELD_BOOL("cluster", OPT, struct raw_redis, cluster),
	CYAML_FIELD_BOOL("tls", OPT, struct raw_redis, tls),
	TEXT("tls_ca", struct raw_redis, tls_ca),
	TEXT("tls_name", struct raw_redis, tls_name),
	TEXT("tls_certificate", struct raw_redis, tls_certificate),
	TEXT("tls_key", struct raw_redis, tls_key),
	CYAML_FIELD_MAPPING("sentinel", OPT, struct raw_redis, sentinel, sentinel_fields),
	CYAML_FIELD_UINT("ttl_ms", OPT, struct raw_redis, ttl_ms),
	CYAML_FIELD_UINT("renew_ms", OPT, struct raw_redis, renew_ms),
	CYAML_FIELD_UINT("margin_ms", OPT, struct raw_redis, margin_ms),
	CYAML_FIELD_UINT("idle_ms", OPT, struct raw_redis, idle_ms),
	CYAML_FIELD_UINT("take_wait_ms", OPT, struct raw_redis, take_wait_ms),
	CYAML_FIELD_UINT("connect_ms_max", OPT, struct raw_redis, connect_ms_max),
	CYAML_FIELD_UINT("answer_ms_max", OPT, struct raw_redis, answer_ms_max),
	CYAML_FIELD_END
};

/* Part of keys in Redis, of names of files and of lines of the log. */
static bool node_like(const char *name)
{
	size_t len = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.");
	return len && !name[len] && len <= FLEET_NODE_BYTES_MAX && name[0] != '.';
}

/* One line of a file, without its end; NULL: it cannot be read, or is empty. */
static char *secret_in(const char *path)
{
	char text[1024];
	FILE *f = fopen(path, "r");
	size_t len = f ? fread(text, 1, sizeof(text) - 1, f) : 0;
	if (f)
		fclose(f);
	while (len && (text[len - 1] == '\n' || text[len - 1] == '\r'))
		len--;
	text[len] = 0;
	return len ? xstrdup(text) : NULL;
}

static bool is_loopback(const struct addr *a)
{
	char host[ADDR_TEXT_BYTES];
	struct slice text = slice_of(host, addr_format_host(a, host));
	return addr_is_unix(a) || slice_starts_nocase(text, SLICE_LIT("127.")) || slice_eq(text, SLICE_LIT("::1"));
}

/* Other nodes are believed who they pass on, so they prove to be nodes. */
static enum err take_peer(struct settings *s, const struct raw_peer *raw, struct config *config)
{
	struct addr a;
	config->peer.address = config_text(raw->address);
	config->peer.certificate = config_text(raw->certificate);
	config->peer.key = config_text(raw->key);
	config->peer.ca = config_text(raw->ca);
	config->peer.where = config_place(s, config->path, raw->address ? "peer.address" : "peer");
	if (raw->address && (addr_parse(slice_str(raw->address), &a) != OK || (!addr_is_unix(&a) && !addr_port(&a))))
		return settings_refuse(s, "peer.address", "expected \"HOST:PORT\" with a numeric HOST, \"[IPV6]:PORT\" or \"unix:PATH\"; got \"%s\"", raw->address);
	if (!raw->certificate != !raw->key || !raw->certificate != !raw->ca)
		return settings_refuse(s, "peer", "expected peer.certificate, peer.key and peer.ca, or none of them");
	if (raw->key_file && !(config->peer.secret = secret_in(raw->key_file)))
		return settings_refuse(s, "peer.key_file", "expected a readable file with one line; got \"%s\"", raw->key_file);
	if (config->peer.secret && strlen(config->peer.secret) < 32)
		return settings_refuse(s, "peer.key_file", "expected 32 characters at least in \"%s\"", raw->key_file);
	if ((raw->certificate || raw->key_file) && !raw->address)
		return settings_refuse(s, "peer", "expected peer.address beside it");
	if (raw->key_file && !raw->certificate && !is_loopback(&a))
		return settings_refuse(s, "peer.address", "expected peer.certificate, peer.key and peer.ca: without TLS nodes talk over 127.0.0.0/8, [::1] and unix: only");
	return OK;
}

enum err config_take_node(struct settings *s, const struct raw_fleet *raw, struct config *config)
{
	config->node_given = raw->node != NULL;
	config->node = raw->node ? config_text(raw->node) : config_own_hostname();
	config->placement_any = raw->placement == RAW_ANY;
	if (!raw->node && !node_like(config->node))
		strcpy(config->node, "n");
	if (!node_like(config->node))
		return settings_refuse(s, "node", "expected 1 to %d of letters, digits, \".\", \"-\" and \"_\"; got \"%s\"", FLEET_NODE_BYTES_MAX, config->node);
	enum err e = take_peer(s, &raw->peer, config);
	if (e != OK)
		return e;
	config->nodes = xcalloc(raw->nodes_count + 1, sizeof(*config->nodes));
	bool self = false;
	for (unsigned i = 0; i < raw->nodes_count; i++) {
		config->nodes[i].name = config_text(raw->nodes[i].name);
		config->nodes[i].address = config_text(raw->nodes[i].address);
		config->nodes_count = i + 1;
		if (!node_like(config->nodes[i].name))
			return settings_refuse(s, "nodes", "expected names of letters, digits, \".\", \"-\" and \"_\"; got \"%s\"", config->nodes[i].name);
		self |= strcmp(config->nodes[i].name, config->node) == 0;
	}
	if (raw->nodes_count && config->placement_any)
		return settings_refuse(s, "nodes", "expected with placement home only: with any, nodes find each other in Redis");
	if (raw->nodes_count && !self)
		return settings_refuse(s, "nodes", "expected this node, \"%s\", among them", config->node);
	return OK;
}

static char **take_list(char *const *from, unsigned count, const char *first, unsigned *count_out)
{
	char **list = xcalloc(count + 2, sizeof(*list));
	*count_out = 0;
	if (first)
		list[(*count_out)++] = xstrdup(first);
	for (unsigned i = 0; i < count; i++)
		list[(*count_out)++] = xstrdup(from[i]);
	return list;
}

static void free_list(char **list)
{
	for (char **p = list; p && *p; p++)
		free(*p);
	free(list);
}

/* A secret in a file of its own, without the line's end. */
static enum err take_password(struct settings *s, const struct raw_redis *raw, struct config *config)
{
	char text[REDIS_PASSWORD_BYTES_MAX];
	config->redis.password = config_text(raw->password);
	if (!raw->password_file)
		return OK;
	if (!redis_password_read(raw->password_file, text, sizeof text) || raw->password)
		return settings_refuse(s, "redis.password_file", "expected a readable file with one line, and no redis.password beside it");
	config->redis.password = xstrdup(text);
	config->redis.password_file = xstrdup(raw->password_file);
	return OK;
}

static enum err check_lease(struct settings *s, const struct config *config)
{
	if ((uint64_t)config->redis.renew_ms * 2 + config->redis.margin_ms > config->redis.ttl_ms)
		return settings_refuse(s, settings_line(s, "redis.ttl_ms") ? "redis.ttl_ms" : "redis.renew_ms",
				       "expected redis.ttl_ms to be at least redis.margin_ms and two of redis.renew_ms: one renewal may be lost");
	return OK;
}

enum err config_take_redis(struct settings *s, const struct raw_redis *raw, struct config *config)
{
	if (settings_line(s, "redis.address") && raw->addresses_count)
		return settings_refuse(s, "redis.addresses", "expected either redis.address or redis.addresses");
	config->redis.addresses = take_list(raw->addresses, raw->addresses_count, raw->address, &config->redis.addresses_count);
	config->redis.user = config_text(raw->user);
	config->redis.cluster = raw->cluster;
	config->redis.tls = raw->tls;
	config->redis.tls_ca = config_text(raw->tls_ca);
	config->redis.tls_name = config_text(raw->tls_name);
	config->redis.tls_certificate = config_text(raw->tls_certificate);
	config->redis.tls_key = config_text(raw->tls_key);
	config->redis.where_tls_ca = config_place(s, config->path, "redis.tls_ca");
	config->redis.where_tls_certificate = config_place(s, config->path, "redis.tls_certificate");
	config->redis.sentinel.master = config_text(raw->sentinel.master);
	config->redis.sentinel.user = config_text(raw->sentinel.user);
	config->redis.sentinel.password = config_text(raw->sentinel.password);
	config->redis.sentinel.addresses = take_list(raw->sentinel.addresses, raw->sentinel.addresses_count, NULL, &config->redis.sentinel.addresses_count);
	if (config->redis.sentinel.master && (raw->cluster || config->redis.addresses_count))
		return settings_refuse(s, "redis.sentinel", "expected neither redis.address nor redis.cluster beside it");
	if (raw->cluster && config->redis.database)
		return settings_refuse(s, "redis.database", "expected 0: a cluster has no other");
	if (!raw->cluster && config->redis.addresses_count > 1)
		return settings_refuse(s, "redis.addresses", "expected one, unless redis.cluster is true");
	if (!config->redis.tls_certificate != !config->redis.tls_key)
		return settings_refuse(s, "redis.tls_certificate", "expected redis.tls_certificate and redis.tls_key, or neither");
	if (config->placement_any && !config->redis.addresses_count && !config->redis.sentinel.master)
		return settings_refuse(s, "placement", "expected redis.address: with placement any, nodes agree in Redis");
	enum err e = take_password(s, raw, config);
	return e == OK ? check_lease(s, config) : e;
}

void config_release_fleet(struct config *config)
{
	for (unsigned i = 0; i < config->nodes_count; i++) {
		free(config->nodes[i].name);
		free(config->nodes[i].address);
	}
	free(config->nodes);
	free(config->node);
	free(config->peer.address);
	free(config->peer.certificate);
	free(config->peer.key);
	free(config->peer.ca);
	free(config->peer.secret);
	free(config->peer.where);
	free_list(config->redis.addresses);
	free_list(config->redis.sentinel.addresses);
	free(config->redis.user);
	free(config->redis.password);
	free(config->redis.password_file);
	free(config->redis.tls_ca);
	free(config->redis.tls_name);
	free(config->redis.tls_certificate);
	free(config->redis.tls_key);
	free(config->redis.where_tls_ca);
	free(config->redis.where_tls_certificate);
	free(config->redis.sentinel.master);
	free(config->redis.sentinel.user);
	free(config->redis.sentinel.password);
}
